//! JSON and the binary frame that it refers to: `multipart/related` (RFC 2387) with `cid:` URLs (RFC 2392).
//!
//! The specification of AVP names this form for A2A. The frame is neither encoded nor copied.

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

/// A body to send, in three chunks; the second is the frame.
///
/// ```
/// use avp_core::{FrameEncoder, Metadata, OwnedFrame};
/// use avp_transport::carriers::{Limits, a2a, multipart::{ContentId, Related, RelatedBody}};
///
/// let frame = OwnedFrame::decode(FrameEncoder::new(Metadata::default()).encode(b"tensor")?.into())?;
/// let id = ContentId::new("frame@a.example")?;
/// let message = serde_json::json!({ "messageId": "1", "role": "ROLE_USER", "parts": [a2a::attached_part(&id)] });
/// let body = RelatedBody::new(&message, &id, &frame);
///
/// let received = body.chunks().concat().into();
/// let related = Related::read(body.content_type().to_str()?, received, &Limits::default())?;
/// assert_eq!(related.root_json()?, message);
/// assert_eq!(related.frame(&id)?, frame);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct RelatedBody {
    content_type: HeaderValue,
    chunks: [Bytes; 3],
}

impl RelatedBody {
    /// A body of `root`, which refers to the frame by [`ContentId::url`], and the frame.
    #[must_use]
    pub fn new(root: &Value, content_id: &ContentId, frame: &OwnedFrame) -> Self {
        // 128 random bits, which no frame contains by chance or by intent.
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
            chunks: [head.into(), frame.bytes().clone(), format!("\r\n--{boundary}--\r\n").into()],
        }
    }

    /// The `Content-Type` of the body.
    #[must_use]
    pub const fn content_type(&self) -> &HeaderValue {
        &self.content_type
    }

    /// The `Content-Length` of the body, in bytes.
    #[must_use]
    pub fn content_length(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }

    /// The chunks of the body, in order.
    #[must_use]
    pub const fn chunks(&self) -> &[Bytes; 3] {
        &self.chunks
    }

    /// Converts the body into its chunks.
    #[must_use]
    pub fn into_chunks(self) -> [Bytes; 3] {
        self.chunks
    }
}
