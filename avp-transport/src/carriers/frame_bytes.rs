//! Bytes that are one whole frame.

use avp_core::Frame;
use bytes::Bytes;

use super::{CarrierError, Limits};
use crate::reader::FrameError;

/// The bytes of exactly one frame, shared.
///
/// ```
/// # use avp_core::{FrameEncoder, MetadataFields};
/// # let bytes = FrameEncoder::new(MetadataFields { model_id: "m", ..Default::default() }).encode(b"tensor").unwrap();
/// use avp_transport::carriers::{FrameBytes, Limits};
///
/// let frame = FrameBytes::decode(bytes.into(), &Limits::default())?;
/// assert_eq!(frame.frame().metadata().model_id(), "m");
/// # Ok::<(), avp_transport::carriers::CarrierError>(())
/// ```
///
/// Header, metadata and length were checked. The checksum was not: [`Frame::payload`] and
/// [`avp_core::Message::decode`] do that when they hand out the body.
#[derive(Clone, PartialEq, Eq)]
pub struct FrameBytes(Bytes);

impl FrameBytes {
    /// Takes `bytes` where they are one frame and nothing else.
    ///
    /// # Errors
    /// [`CarrierError::Frame`].
    pub fn decode(bytes: Bytes, limits: &Limits) -> Result<Self, CarrierError> {
        Self::decode_field("frame", bytes, limits)
    }

    /// As [`Self::decode`], for bytes that came in `field`.
    pub(super) fn decode_field(
        field: &'static str,
        bytes: Bytes,
        limits: &Limits,
    ) -> Result<Self, CarrierError> {
        match check(&bytes, limits) {
            Ok(()) => Ok(Self(bytes)),
            Err(error) => Err(CarrierError::Frame { field, error }),
        }
    }

    /// The frame, read in place.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        Frame::decode(&self.0).expect("bytes that were a frame when they were taken")
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, for good.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

// A derived one would print the payload.
impl std::fmt::Debug for FrameBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrameBytes({} bytes)", self.0.len())
    }
}

/// Refuses a frame of `got` bytes where that is more than the limit.
pub(super) const fn check_len(got: u64, limits: &Limits) -> Result<(), FrameError> {
    if got > limits.frame.frame {
        return Err(FrameError::FrameTooLarge { limit: limits.frame.frame, got });
    }
    Ok(())
}

fn check(bytes: &[u8], limits: &Limits) -> Result<(), FrameError> {
    check_len(bytes.len() as u64, limits)?;
    let header = avp_core::Header::decode(bytes)?;
    let (limit, got) = (limits.frame.metadata, header.metadata_len());
    if u64::from(got) > limit as u64 {
        return Err(FrameError::MetadataTooLarge { limit, got });
    }
    Frame::decode(bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use avp_core::{FrameEncoder, MetadataFields};

    use super::*;

    #[test]
    fn what_is_more_or_less_than_a_frame_is_refused() {
        let frame = FrameEncoder::new(MetadataFields::default()).encode(b"tensor").unwrap();
        let read = |bytes: &[u8]| FrameBytes::decode(Bytes::copy_from_slice(bytes), &Limits::default());
        assert_eq!(read(&frame).unwrap().frame().payload(), Ok(&b"tensor"[..]));
        for len in 0..frame.len() {
            assert_eq!(read(&frame[..len]).unwrap_err().kind(), "truncated", "{len} bytes");
        }
        assert_eq!(read(&[&frame[..], b"!"].concat()).unwrap_err().kind(), "trailing_bytes");
        assert_eq!(read(b"a text of some length").unwrap_err().kind(), "bad_magic");
    }

    #[test]
    fn limits_on_frame_and_metadata_hold_to_the_byte() {
        let fields = MetadataFields { session_id: "a session", ..Default::default() };
        let frame = Bytes::from(FrameEncoder::new(fields).encode(b"tensor").unwrap());
        let metadata = avp_core::Header::decode(&frame).unwrap().metadata_len() as usize;
        let mut limits = Limits::default();
        limits.frame.frame = frame.len() as u64;
        limits.frame.metadata = metadata;
        assert!(FrameBytes::decode(frame.clone(), &limits).is_ok());
        limits.frame.metadata = metadata - 1;
        assert_eq!(FrameBytes::decode(frame.clone(), &limits).unwrap_err().kind(), "metadata_too_large");
        limits.frame.frame -= 1;
        assert_eq!(FrameBytes::decode(frame, &limits).unwrap_err().kind(), "frame_too_large");
    }

    #[test]
    fn debugging_shows_no_payload() {
        let frame = FrameEncoder::new(MetadataFields::default()).encode(b"tensor").unwrap();
        let text = format!("{:?}", FrameBytes::decode(frame.into(), &Limits::default()).unwrap());
        assert!(text.ends_with(" bytes)") && !text.contains("tensor"), "{text}");
    }
}
