//! `avp send`, `avp fetch` and `avp ping`: clients of `avp serve` and of any other AVP server.

mod fetch;
mod ping;
mod progress;
mod remote;
mod send;

pub(crate) use {fetch::Fetch, ping::Ping, send::Send};
