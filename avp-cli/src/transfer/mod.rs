//! `avp send`, `avp fetch` and `avp ping`: the other end of `avp serve`, or of any server that speaks AVP.

mod fetch;
mod ping;
mod progress;
mod remote;
mod send;

pub(crate) use {fetch::Fetch, ping::Ping, send::Send};
