//! Reads the [`RequestInfo`] from a request's headers.

use std::net::SocketAddr;

use avp_core::Dialect;
use http::{HeaderMap, HeaderName, Request};

use super::{RequestInfo, Tokens, audit::AuditNotes};
use crate::{id::random_id, wire};

/// The longest id that is read from a header, in bytes.
const MAX_LEN: usize = 128;

/// The remote address of a connection, which the listener adds to every request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address(pub(super) SocketAddr);

pub(super) fn of<B>(request: &Request<B>, tokens: &Tokens) -> RequestInfo {
    let headers = request.headers();
    let version = text(headers, &wire::VERSION_HEADER);
    RequestInfo {
        principal: tokens.principal(headers).cloned(),
        agent_id: text(headers, &wire::AGENT_HEADER).unwrap_or_default().to_owned(),
        dialect: version.and_then(Dialect::from_avp_version),
        address: request.extensions().get::<Address>().map(|address| address.0),
        request_id: text(headers, &wire::REQUEST_ID_HEADER).map_or_else(random_id, str::to_owned),
        idempotency_key: text(headers, &wire::IDEMPOTENCY_HEADER).map(str::to_owned),
        audit_notes: AuditNotes::default(),
    }
}

/// A header's value, unless it is too long or has control characters, which would break log lines.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= MAX_LEN && !value.contains(char::is_control)).then_some(value)
}
