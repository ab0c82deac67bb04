//! Frames, and references to stored contexts, in the messages of other protocols: A2A, MCP and `multipart/related`.
//!
//! ```
//! use avp_transport::carriers::{Content, ContextRef, Limits, a2a};
//!
//! let url = "https://a.example/avp/v2/contexts/c1".parse()?;
//! let part = a2a::context_part(&ContextRef::new(url)?);
//! let Some(Content::Context(context)) = a2a::read_part(&part, &Limits::default())? else { panic!() };
//! assert_eq!(context.id, "c1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A small frame is part of the message, in base64. A large one stays at its sender, and the message has a [`ContextRef`]
//! with which the receiver fetches it over HTTP. `multipart/related` has a frame of any size, in binary, after the JSON
//! that refers to it.
//!
//! This module opens no connections. JSON is a [`serde_json::Value`], which any A2A or MCP library accepts. `docs/carriers.md`
//! shows each form on the wire.
//!
//! # Hostile input
//!
//! Every reader takes [`Limits`]. The length of a frame is computed from its base64 text and checked before memory is
//! allocated. An [`OwnedFrame`] is one whole frame; its checksum is verified when its body is read. URLs are untrusted: a
//! [`ContextRef`] has an `http` or `https` URL, and the program must decide which hosts it fetches from.

pub mod a2a;
mod context_ref;
mod error;
mod json;
pub mod mcp;
pub mod multipart;

pub use context_ref::ContextRef;
pub use error::CarrierError;

use avp_core::{FrameLimits, OwnedFrame};

/// A frame or a reference in a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A frame in the message itself.
    Frame(OwnedFrame),
    /// A reference to a context that the sender has stored.
    Context(Box<ContextRef>),
    /// A frame in another part of the same `multipart/related` body; [`multipart::Related::frame`] returns it.
    Attached(multipart::ContentId),
}

/// Limits of the readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Limits of a frame.
    pub frame: FrameLimits,
    /// Maximum length of a string, such as a URL or an id, in bytes. Default: 8 KiB.
    pub text: usize,
    /// Maximum length of the JSON in a `multipart/related` body, in bytes. Default: 1 MiB.
    pub json: usize,
    /// Maximum number of entries of a list, such as the parts of a message. Default: 64.
    pub parts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame: FrameLimits::default(), text: 8 << 10, json: 1 << 20, parts: 64 }
    }
}
