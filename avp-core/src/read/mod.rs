//! Frames that arrive in pieces, without a socket or a clock: bytes in, heads, checked bodies and whole frames out.
//!
//! [`FrameHead::decode_within`](crate::FrameHead::decode_within) and [`HeadReader`] read a head within [`FrameLimits`],
//! [`BodyReader`] checks a body as it passes, [`FrameReader`] collects whole frames.

mod body;
mod head;

pub use {
    body::BodyReader,
    head::{DEFAULT_FRAME_LIMIT, DEFAULT_METADATA_LIMIT, FrameLimits},
};
#[cfg(feature = "alloc")]
pub use {frames::FrameReader, head::HeadReader};

#[cfg(feature = "alloc")]
mod frames;
