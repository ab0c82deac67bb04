//! The Agent Vector Protocol: agents that run language models hand each other computed state, a KV-cache or a hidden
//! state, instead of text.
//!
//! ```
//! # use avp_core::{Frame, FrameEncoder, MetadataFields};
//! # let mut buffer = [0; 64];
//! # let len = FrameEncoder::new(MetadataFields::default()).encode_into(b"tensor", &mut buffer).unwrap();
//! # let bytes = &buffer[..len];
//! let frame = Frame::decode(bytes).unwrap();
//! assert_eq!(frame.payload().unwrap(), b"tensor");
//! ```
//!
//! # Where things are
//!
//! | to | use | wire format in |
//! |---|---|---|
//! | read a frame | [`Frame`], [`FrameHead`], [`Metadata`] | [`Header`], `proto/avp.proto` |
//! | keep a frame, or cut frames from a stream | `Message`, `StreamDecoder` | |
//! | write a frame | [`FrameEncoder`], [`MetadataFields`] | |
//! | read or write a KV-cache | [`KvView`], [`KvWriter`] | [`kv`] |
//! | read or write latent and text chunks | [`Hybrid`], [`Chunk`] | [`hybrid`] |
//! | agree with a peer | [`ModelIdentity`], [`resolve`], `messages` | |
//! | remember sessions and contexts | `session`, `context_store` | |
//! | hash a model or a tokenizer | `hash` | `json` |
//! | know what went wrong | [`DecodeError`], [`EncodeError`] | |
//!
//! Two generations of peers write frames that look alike; [`Dialect`] tells how they differ. Reading finds the dialect
//! by itself, writing takes one.
//!
//! # Hostile input
//!
//! No input makes this crate panic, read past a slice, or allocate more than a limit that the caller sets. Lengths from
//! the wire go through checked arithmetic only.
//!
//! # Crate features
//!
//! Without features the crate needs no allocator; that includes everything in the table above that is linked.
//!
//! - `alloc`: results of their own, such as [`FrameEncoder::encode`](FrameEncoder); hashes and JSON messages.
//! - `std` (implies `alloc`): checksums and number conversion find SIMD at run time; a `SessionManager` for threads.
//!   Copies of 8 MiB and more, into a frame or between a KV-cache and its paged blocks, are shared among up to four
//!   threads that end before the call returns.
//! - `serde`: value types can be serialized.
//! - `zstd` (implies `alloc`): compressed bodies, in pure Rust, with or without std.
//! - `zstd-native` (implies `std` and `zstd`): the same through the C library, with all its levels.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod checksum;
#[cfg(feature = "zstd")]
mod compression;
mod context;
#[cfg(feature = "alloc")]
pub mod context_store;
mod dialect;
#[cfg(any(feature = "_fuzz", all(feature = "alloc", test)))]
#[doc(hidden)]
pub mod differential;
mod encode;
mod error;
mod frame;
mod handshake;
#[cfg(feature = "alloc")]
pub mod hash;
mod header;
pub mod hybrid;
mod identity;
#[cfg(feature = "alloc")]
pub mod json;
pub mod kv;
#[cfg(feature = "alloc")]
mod message;
#[cfg(feature = "alloc")]
pub mod messages;
mod metadata;
mod parallel;
mod protobuf;
#[cfg(feature = "alloc")]
pub mod session;
#[cfg(feature = "alloc")]
mod stream;
mod types;

/// The schema's messages as they are on the wire, generated from `proto/avp.proto`.
///
/// Enum numbers have no dialect here: [`Metadata`] and [`OwnedMetadata`] give them their meaning.
///
/// Only available when `alloc` is enabled.
#[cfg(feature = "alloc")]
#[expect(missing_docs, reason = "the schema leaves some fields to speak for themselves")]
pub mod proto {
    include!("generated/avp.rs");
}

pub use {
    checksum::{Checksum, crc32, crc32_parts},
    context::{ContextExtra, ContextFields},
    dialect::Dialect,
    encode::{FrameEncoder, MetadataFields, PADDING_KEY},
    error::{DecodeError, EncodeError, ProtobufFault},
    frame::{Frame, FrameHead},
    handshake::{Evidence, MIN_SHARED_TOKENS, MapId, Resolution, Rule, resolve, stored_map_id},
    header::{Flags, Header},
    hybrid::{Chunk, ChunkKind, Hybrid},
    identity::{Difference, FieldValue, ModelIdentity},
    kv::{KvDType, KvError, KvHeader, KvLayer, KvSelection, KvView, KvWriter},
    metadata::{Extra, Metadata, TensorShape},
    types::{Compression, DType, Mode, PayloadType},
};
#[cfg(feature = "alloc")]
pub use {
    identity::OwnedModelIdentity,
    message::{DecodeOptions, Message, OwnedMetadata},
    stream::StreamDecoder,
};

#[cfg(feature = "zstd")]
pub use compression::{compress_body, decompress_body};

/// The most bytes a body may unpack to where a caller has no limit of its own: 1 GiB.
pub const DEFAULT_PAYLOAD_LIMIT: usize = 1 << 30;
