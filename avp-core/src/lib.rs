//! The Agent Vector Protocol: agents exchange the state of their language models, a KV-cache or hidden states, instead of
//! text.
//!
//! ```
//! use avp_core::{Frame, FrameEncoder, Metadata};
//!
//! let mut buffer = [0; 64];
//! let encoder = FrameEncoder::new(Metadata { target_agent_id: "b", ..Metadata::default() });
//! let len = encoder.encode_into(b"tensor", &mut buffer)?;
//! let frame = Frame::decode(&buffer[..len])?;
//! assert_eq!((frame.metadata().target_agent_id, frame.payload()?), ("b", &b"tensor"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! | to | use | wire format in |
//! |---|---|---|
//! | read a frame | [`Frame`], [`FrameHead`], [`Metadata`] | [`Header`], `proto/avp.proto` |
//! | keep a frame | `OwnedFrame`, `OwnedHead` | |
//! | read a frame in pieces | `HeadReader`, [`BodyReader`], `FrameReader` | |
//! | write a frame | [`FrameEncoder`], [`Metadata`] | |
//! | read or write a KV-cache | [`KvView`], [`KvWriter`] | [`kv`] |
//! | read or write latent and text chunks | [`Hybrid`], [`Chunk`] | [`hybrid`] |
//! | negotiate with an agent | [`ModelIdentity`], [`resolve`], `messages` | |
//! | hash a model or a tokenizer | `hash` | `json` |
//! | sign or verify a frame | `sign` | `sign` |
//! | handle errors | [`DecodeError`], [`EncodeError`] | |
//!
//! The wire format has two dialects; [`Dialect`] lists the differences. Reading detects the dialect, writing takes one.
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
//! - `alloc`: owned results, such as [`FrameEncoder::encode`](FrameEncoder); hashes and JSON messages.
//! - `std` (implies `alloc`): checksums and number conversion detect SIMD at run time; large copies on
//!   as many threads as the caller asks for ([`FrameEncoder::threads`]).
//! - `serde`: value types can be serialized.
//! - `sign`: Ed25519 signatures of frames; verifying them needs no allocator.
//! - `zstd` (implies `alloc`): compressed bodies, in pure Rust, with or without std.
//! - `zstd-native` (implies `std` and `zstd`): the same through the C library, with all its levels.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![warn(clippy::must_use_candidate, clippy::return_self_not_must_use)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod checksum;
#[cfg(feature = "zstd")]
mod compression;
mod context;
mod dialect;
mod encode;
mod error;
mod frame;
mod handshake;
#[cfg(feature = "alloc")]
pub mod hash;
mod header;
#[cfg(any(feature = "alloc", feature = "sign"))]
mod hex;
pub mod hybrid;
mod identity;
#[cfg(feature = "alloc")]
pub mod json;
pub mod kv;
#[cfg(feature = "alloc")]
pub mod messages;
mod metadata;
#[cfg(feature = "alloc")]
mod owned;
mod parallel;
mod protobuf;
mod read;
#[cfg(feature = "sign")]
pub mod sign;
mod types;

pub use {
    checksum::{Checksum, crc32, crc32_parts},
    context::{ContextExtra, ContextFields},
    dialect::Dialect,
    encode::{FrameEncoder, PADDING_KEY},
    error::{DecodeError, EncodeError, ProtobufFault},
    frame::{Frame, FrameHead},
    handshake::{Evidence, MIN_SHARED_TOKENS, MapId, Resolution, Rule, resolve, stored_map_id},
    header::{Flags, Header},
    hybrid::{Chunk, ChunkKind, Hybrid},
    identity::{Difference, FieldValue, ModelIdentity},
    kv::{KvDType, KvError, KvHeader, KvLayer, KvSelection, KvView, KvWriter},
    metadata::{Extra, ExtraIter, Metadata, TensorShape, TensorShapeIter},
    read::{BodyReader, DEFAULT_FRAME_LIMIT, DEFAULT_METADATA_LIMIT, FrameLimits},
    types::{Compression, DType, Mode, PayloadType},
};
#[cfg(feature = "alloc")]
pub use {
    identity::OwnedModelIdentity,
    owned::{OwnedFrame, OwnedHead},
    read::{FrameReader, HeadReader},
};

#[cfg(feature = "std")]
pub use parallel::copy_threads;

#[cfg(feature = "zstd")]
pub use compression::{
    compress_body, compress_stream, content_size, decompress_body, decompress_stream, decompression_memory,
    verify_compressed,
};

/// The default limit for a decompressed body, in bytes: 1 GiB.
pub const DEFAULT_PAYLOAD_LIMIT: usize = 1 << 30;
