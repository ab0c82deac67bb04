//! A frame as it is, beside the JSON that refers to it: `multipart/related` (RFC 2387) with `cid:` addresses (RFC 2392).
//!
//! The specification of AVP names this form for A2A. The frame is neither encoded nor copied on the way in or out.

mod content_id;
mod delimiters;
mod read;

pub use content_id::ContentId;
pub use read::{Related, RelatedPart};

use avp_core::OwnedFrame;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::Value;

use crate::{id::random_id, wire};

/// A body that is ready to be sent, in three pieces of which the middle one is the frame.
///
/// ```
/// # use avp_core::{FrameEncoder, Metadata, OwnedFrame};
/// # use avp_transport::carriers::{Limits, a2a, multipart::{ContentId, Related, RelatedBody}};
/// # let bytes = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
/// # let frame = OwnedFrame::decode(bytes.into()).unwrap();
/// let id = ContentId::new("frame@a.example")?;
/// let message = serde_json::json!({ "messageId": "1", "role": "ROLE_USER", "parts": [a2a::attached_part(&id)] });
/// let body = RelatedBody::new(&message, &id, &frame);
///
/// let received = body.pieces().concat().into();
/// let related = Related::read(body.content_type().to_str()?, received, &Limits::default())?;
/// assert_eq!(related.root_json()?, message);
/// assert_eq!(related.frame(&id)?, frame);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct RelatedBody {
    content_type: HeaderValue,
    pieces: [Bytes; 3],
}

impl RelatedBody {
    /// A body with `root` first, which refers to the frame as [`ContentId::url`], and the frame behind it.
    #[must_use]
    pub fn new(root: &Value, content_id: &ContentId, frame: &OwnedFrame) -> Self {
        // 128 random bits: nobody can have written them into the frame.
        let boundary = random_id();
        let head = format!(
            "--{boundary}\r\n\
             Content-Type: {}\r\n\
             \r\n\
             {root}\r\n\
             --{boundary}\r\n\
             Content-Type: {}\r\n\
             Content-ID: {}\r\n\
             Content-Transfer-Encoding: binary\r\n\
             \r\n",
            wire::JSON,
            wire::FRAME,
            content_id.header(),
        );
        let content_type = format!("multipart/related; boundary={boundary}; type=\"{}\"", wire::JSON);
        Self {
            content_type: content_type.try_into().expect("visible ASCII"),
            pieces: [head.into(), frame.bytes().clone(), format!("\r\n--{boundary}--\r\n").into()],
        }
    }

    /// The `Content-Type` that the body is sent with.
    #[must_use]
    pub const fn content_type(&self) -> &HeaderValue {
        &self.content_type
    }

    /// The `Content-Length` that the body is sent with, in bytes.
    #[must_use]
    pub fn content_length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// The body, to be sent one piece after the other.
    #[must_use]
    pub const fn pieces(&self) -> &[Bytes; 3] {
        &self.pieces
    }

    /// The pieces, for good.
    #[must_use]
    pub fn into_pieces(self) -> [Bytes; 3] {
        self.pieces
    }
}
