//! Padding that aligns the first tensor byte of a frame.

use super::{Body, FrameEncoder, Head};
use crate::{
    EncodeError, Header, Hybrid, KvHeader, Mode, PayloadType, metadata::field, protobuf::map_entry_len,
};

pub(super) use crate::metadata::Padding;

/// The key of the `extra` entry that pads a frame: see [`FrameEncoder::align`].
pub const PADDING_KEY: &str = "_pad";

/// A page.
const MAX_ALIGNMENT: usize = 4096;

/// Bytes of a padding entry without its spaces, at most: key and length of entry, key and value.
pub(super) const MAX_PADDING_ENTRY: usize = 16;

impl FrameEncoder<'_> {
    /// The padding that aligns the tensors of `body` behind `head`, which has none yet.
    pub(super) fn padding(&self, head: &Head<'_>, body: &Body) -> Result<Padding, EncodeError> {
        if !self.alignment.is_power_of_two() || self.alignment > MAX_ALIGNMENT {
            return Err(EncodeError::Alignment { got: self.alignment });
        }
        if self.alignment == 1 {
            return Ok(Padding::Given);
        }
        let none = Padding::Spaces(None);
        let Some(tensor_offset) = body.tensor_offset else { return Ok(none) };
        let unpadded = Head { decided: crate::metadata::Decided { padding: none, ..head.decided }, ..*head };
        let offset = (Header::LEN + unpadded.metadata_len()).wrapping_add(tensor_offset);
        if offset.is_multiple_of(self.alignment) {
            return Ok(none);
        }
        // Each extra space adds one byte, unless a varint length grows too and skips one remainder.
        let spaces = (0..2 * self.alignment).find(|&spaces| {
            let entry = map_entry_len(field::EXTRA, PADDING_KEY.len(), spaces);
            offset.wrapping_add(entry).is_multiple_of(self.alignment)
        });
        Ok(Padding::Spaces(spaces))
    }

    /// Offset of the first tensor byte in the payload.
    pub(super) fn tensor_offset(&self, parts: &[&[u8]]) -> usize {
        let header = if self.metadata.payload_type == PayloadType::KvCache { KvHeader::LEN } else { 0 };
        let chunk = match (self.metadata.mode, parts) {
            (Mode::Hybrid, [payload]) if self.alignment > 1 => latent_offset(payload),
            _ => 0,
        };
        header + chunk
    }
}

/// Offset of a hybrid payload's latent chunk; 0 if it has none.
fn latent_offset(payload: &[u8]) -> usize {
    let latent = Hybrid::decode(payload).ok().and_then(|hybrid| hybrid.latent());
    latent
        .filter(|latent| !latent.is_empty())
        .map_or(0, |latent| latent.as_ptr().addr() - payload.as_ptr().addr())
}
