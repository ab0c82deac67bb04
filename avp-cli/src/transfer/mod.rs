//! `avp send`, `avp fetch`, `avp share` and `avp ping`: clients of `avp serve` and of any other AVP server.

mod fetch;
mod ping;
mod progress;
mod remote;
mod send;
mod share;

pub(crate) use {fetch::Fetch, ping::Ping, send::Send, share::Share};
