//! Payloads in parts: their length, their checksum, and the copy into a frame.

use super::{Body, FrameEncoder};
use crate::{EncodeError, checksum};

impl FrameEncoder<'_> {
    /// The body that `parts` make as they are.
    pub(super) fn body(&self, parts: &[&[u8]]) -> Result<Body, EncodeError> {
        Ok(Body {
            crc32: self.crc32_of(parts),
            len: total_len(parts)?,
            tensor_offset: Some(self.tensor_offset(parts)),
            is_compressed: false,
        })
    }

    /// The body that `parts` make compressed to `len` bytes.
    #[cfg(feature = "zstd")]
    pub(super) fn compressed_body(&self, parts: &[&[u8]], len: usize) -> Body {
        Body { crc32: self.crc32_of(parts), len, tensor_offset: None, is_compressed: true }
    }

    fn crc32_of(&self, parts: &[&[u8]]) -> u32 {
        if self.writes_checksum() { checksum::crc32_parts(parts) } else { 0 }
    }

    /// Writes a frame whose body is `parts` joined, as `body` describes it.
    pub(super) fn write_frame(
        &self,
        body: &Body,
        parts: &[&[u8]],
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let head = self.head(body)?;
        let (needed, got) = (head.len() + body.len, out.len());
        let frame = out.get_mut(..needed).ok_or(EncodeError::BufferTooSmall { needed, got })?;
        let (head_out, mut rest) = frame.split_at_mut(head.len());
        head.write(head_out);
        for part in parts {
            let (target, after) = rest.split_at_mut(part.len());
            target.copy_from_slice(part);
            rest = after;
        }
        Ok(needed)
    }

    /// Writes a frame in one pass over its payload, to an `out` of [`encoded_len`](Self::encoded_len) bytes or more.
    ///
    /// The head comes first and holds the checksum of the payload as a varint, whose length is known once all is copied.
    /// Of 16 checksums 15 have the length assumed here; the payload behind another is moved.
    pub(super) fn write_in_one_pass(
        &self,
        piece: usize,
        parts: &[&[u8]],
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let (len, tensor_offset) = (total_len(parts)?, Some(self.tensor_offset(parts)));
        let mut body = Body { crc32: u32::MAX, len, tensor_offset, is_compressed: false };
        let assumed = self.head(&body)?.len();
        let target = &mut out[assumed..assumed + len];
        if self.writes_checksum() {
            body.crc32 = checksum::copy_parts_summed(self.threads, piece, parts, target);
        } else {
            checksum::copy_parts(self.threads, piece, parts, target);
        }
        let head = self.head(&body)?;
        if head.len() != assumed {
            out.copy_within(assumed..assumed + len, head.len());
        }
        head.write(&mut out[..head.len()]);
        Ok(head.len() + len)
    }
}

pub(super) fn total_len(parts: &[&[u8]]) -> Result<usize, EncodeError> {
    // Parts may overlap in memory, so their sum may pass the length of any slice.
    parts
        .iter()
        .try_fold(0_usize, |sum, part| sum.checked_add(part.len()))
        .ok_or(EncodeError::TooLarge { what: "payload", len: usize::MAX })
}
