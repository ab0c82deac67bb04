//! Who asks, read from a request's head.

use std::net::{IpAddr, SocketAddr};

use avp_core::Dialect;
use http::{HeaderMap, HeaderName, Request};

use super::Caller;
use crate::{id::random_id, wire};

/// The longest name that is taken from a header, in bytes.
const LONGEST_NAME: usize = 128;

/// By what the rate limiter knows an agent.
pub(super) type Name = (Option<IpAddr>, String);

/// The other end of a connection, as the listener leaves it with every request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address(pub(super) SocketAddr);

pub(super) fn of<B>(request: &Request<B>) -> Caller {
    let headers = request.headers();
    let version = text(headers, &wire::VERSION_HEADER);
    Caller {
        agent_id: text(headers, &wire::AGENT_HEADER).unwrap_or_default().to_owned(),
        dialect: version.and_then(Dialect::from_avp_version),
        address: request.extensions().get::<Address>().map(|address| address.0),
        request_id: text(headers, &wire::REQUEST_ID_HEADER).map_or_else(random_id, str::to_owned),
        idempotency_key: text(headers, &wire::IDEMPOTENCY_HEADER).map(str::to_owned),
    }
}

pub(super) fn name(caller: &Caller) -> Name {
    (caller.address.map(|address| address.ip()), caller.agent_id.clone())
}

/// A header's value, where it is short and all of it can be seen: what goes into logs and names must not end a line.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= LONGEST_NAME && !value.contains(char::is_control)).then_some(value)
}
