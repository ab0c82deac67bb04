//! Frames, and references to kept contexts, inside the messages of other protocols: A2A, MCP and `multipart/related`.
//!
//! ```
//! use avp_transport::carriers::{Carried, ContextRef, Limits, a2a};
//!
//! let url = "https://a.example/avp/v2/contexts/c1".parse()?;
//! let part = a2a::context_part(&ContextRef::new(url)?);
//! let Some(Carried::Context(context)) = a2a::read_part(&part, &Limits::default())? else { panic!() };
//! assert_eq!(context.id, "c1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A small frame travels inside the message, in base64; a large one is kept by its sender, and the message carries a
//! [`ContextRef`] by which the receiver fetches it over HTTP. `multipart/related` carries a frame of any size as it is,
//! beside the JSON that refers to it.
//!
//! Nothing here opens a connection. JSON goes in and out as [`serde_json::Value`], so that it fits into the messages of
//! whatever library the caller has. What each form looks like on the wire is in `docs/carriers.md`.
//!
//! # Hostile input
//!
//! Every reader takes [`Limits`]. The length of a frame is known from its base64 text, and compared, before memory is
//! taken for it. Bytes become [`OwnedFrame`] only where they are one whole frame; a checksum is verified by whoever reads
//! the body. An address comes from a stranger: a [`ContextRef`] holds `http` and `https` alone, and where a program may
//! fetch from remains for the program to say.

pub mod a2a;
mod context_ref;
mod error;
mod json;
pub mod mcp;
pub mod multipart;

pub use context_ref::ContextRef;
pub use error::CarrierError;

use avp_core::{FrameLimits, OwnedFrame};

/// What a message was found to carry.
#[derive(Debug, Clone, PartialEq)]
pub enum Carried {
    /// A frame, inside the message.
    Frame(OwnedFrame),
    /// A reference to a context that the sender keeps.
    Context(Box<ContextRef>),
    /// A frame in another part of the same `multipart/related` body: [`multipart::Related::frame`] has it.
    Attached(multipart::ContentId),
}

/// How much the readers accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How large a frame may be.
    pub frame: FrameLimits,
    /// The most bytes of one text, such as an address or an id: 8 KiB unless said otherwise.
    pub text: usize,
    /// The most bytes of JSON in a `multipart/related` body: 1 MiB unless said otherwise.
    pub json: usize,
    /// The most entries of a list, such as the parts of a message: 64 unless said otherwise.
    pub parts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame: FrameLimits::default(), text: 8 << 10, json: 1 << 20, parts: 64 }
    }
}
