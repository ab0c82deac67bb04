//! An agent in a process of its own, which answers requests on its standard streams.
//!
//! Every message is one line of JSON, followed by `frame_bytes` bytes of an AVP frame.
//!
//! ```text
//! demo ── {"op":"think","prompt":…,"steps":8} ──▶ agent A
//! demo ◀── {"answer":"thought","tokens":118,"frame_bytes":120534} + frame ── agent A
//! demo ── {"op":"generate","prompt":…,"frame_bytes":120534} + frame ──▶ agent B
//! demo ◀── {"answer":"generated","text":"Answer: Rosa lives in Lisbon.",…} ── agent B
//! ```

mod client;
mod protocol;
mod serve;

pub(crate) use client::Agent;
pub use serve::serve;
