//! Whole frames from a stream of bytes.

use bytes::BytesMut;

use crate::{DecodeError, FrameHead, FrameLimits, OwnedFrame};

/// Collects whole frames from a stream of bytes.
///
/// # Examples
///
/// ```
/// use avp_core::{FrameEncoder, FrameLimits, FrameReader, Metadata};
///
/// let frame = FrameEncoder::new(Metadata { target_agent_id: "b", ..Metadata::default() }).encode(b"body")?;
/// let mut reader = FrameReader::new(FrameLimits::default());
/// reader.feed(&frame[..frame.len() - 1]);
/// assert_eq!(reader.head()?.expect("a whole head").metadata().target_agent_id, "b");
/// assert!(reader.next_frame()?.is_none());
/// reader.feed(&frame[frame.len() - 1..]);
/// assert_eq!(reader.next_frame()?.expect("a whole frame").bytes(), &frame);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// "More bytes are needed" is `Ok(None)`, "these bytes are wrong" is an error. The start of the next frame is unknown
/// after an error, so the same error returns on every later call. Memory follows the bytes that have arrived, never the
/// length in a header. Checksums are left to [`OwnedFrame::payload`].
///
/// Only available when `alloc` is enabled.
#[derive(Debug)]
pub struct FrameReader {
    limits: FrameLimits,
    buffer: BytesMut,
    /// Bytes that the buffer must hold before another look can find anything new.
    needed: usize,
}

impl FrameReader {
    /// A reader at the start of a frame.
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, buffer: BytesMut::new(), needed: 0 }
    }

    /// Appends bytes that have arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The head of the frame that is arriving, once it is whole.
    ///
    /// # Errors
    ///
    /// Those of [`FrameHead::decode_within`] less [`DecodeError::Truncated`].
    pub fn head(&self) -> Result<Option<FrameHead<'_>>, DecodeError> {
        match FrameHead::decode_within(&self.buffer, &self.limits) {
            Ok(head) => Ok(Some(head)),
            Err(DecodeError::Truncated { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next frame, once all of it has arrived.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head).
    pub fn next_frame(&mut self) -> Result<Option<OwnedFrame>, DecodeError> {
        if self.buffer.len() < self.needed {
            return Ok(None);
        }
        let needed = self.look()?;
        // A head that is still incomplete needs more bytes than there are, so this is a whole frame.
        if needed <= self.buffer.len() {
            self.needed = 0;
            return OwnedFrame::decode(self.buffer.split_to(needed).freeze()).map(Some);
        }
        self.needed = needed;
        Ok(None)
    }

    /// How many more bytes, at least, [`next_frame`](Self::next_frame) waits for; 0 before its first call.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.needed.saturating_sub(self.buffer.len())
    }

    /// Bytes that have arrived and belong to no frame returned yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Ends the stream.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] if it ends within a frame, [`DecodeError::TrailingBytes`] if a whole frame was not
    /// taken out.
    pub fn finish(self) -> Result<(), DecodeError> {
        let offset = self.buffer.len();
        if offset == 0 {
            return Ok(());
        }
        let needed = self.look()?;
        if needed > offset {
            return Err(DecodeError::Truncated { what: "last frame of the stream", offset, needed });
        }
        Err(DecodeError::TrailingBytes { what: "last frame taken", offset: 0, extra: offset })
    }

    /// How many bytes the next part of the frame needs: its header, its metadata, or all of it.
    fn look(&self) -> Result<usize, DecodeError> {
        match FrameHead::decode_within(&self.buffer, &self.limits) {
            Ok(head) => head.frame_len(),
            Err(DecodeError::Truncated { needed, .. }) => Ok(needed),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrameEncoder, Metadata};
    use alloc::{vec, vec::Vec};

    const LIMITS: FrameLimits = FrameLimits { frame: 1000, ..FrameLimits::NONE };

    fn frames() -> [Vec<u8>; 3] {
        let frame = |session_id, body: &[u8]| {
            FrameEncoder::new(Metadata { session_id, ..Default::default() }).encode(body).unwrap()
        };
        [frame("first", b"body"), frame("", b""), frame("third", &[7; 300])]
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let frames = frames();
        let stream = frames.concat();
        for piece in 1..=stream.len() {
            let mut reader = FrameReader::new(LIMITS);
            let mut found = vec![];
            for bytes in stream.chunks(piece) {
                reader.feed(bytes);
                while let Some(frame) = reader.next_frame().unwrap() {
                    found.push(frame.into_bytes());
                }
            }
            assert_eq!(found, frames, "pieces of {piece}");
            assert_eq!(reader.buffered(), 0);
            reader.finish().unwrap();
        }
    }

    #[test]
    fn the_missing_bytes_are_told_and_are_enough() {
        let [frame, ..] = frames();
        let mut reader = FrameReader::new(LIMITS);
        let mut fed = 0;
        let found = loop {
            if let Some(found) = reader.next_frame().unwrap() {
                break found;
            }
            let missing = reader.missing();
            assert!(missing > 0);
            reader.feed(&frame[fed..fed + missing]);
            fed += missing;
        };
        assert_eq!((&found.bytes()[..], fed), (&frame[..], frame.len()));
    }

    #[test]
    fn an_announced_length_over_the_limit_is_refused_by_the_header_alone() {
        let mut reader = FrameReader::new(LIMITS);
        reader.feed(b"AV\x01\0\xff\xff\xff\xff\0\0\0\x80");
        let expected = DecodeError::FrameTooLarge { limit: 1000, got: 12 + u64::from(u32::MAX) };
        assert_eq!(reader.next_frame(), Err(expected));
        reader.feed(b"more");
        assert_eq!(reader.next_frame(), Err(expected));
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_truncated() {
        let [frame, ..] = frames();
        let mut reader = FrameReader::new(LIMITS);
        reader.feed(&frame[..frame.len() - 1]);
        assert_eq!(reader.next_frame(), Ok(None));
        assert_eq!(
            reader.finish().unwrap_err(),
            DecodeError::Truncated {
                what: "last frame of the stream",
                offset: frame.len() - 1,
                needed: frame.len()
            }
        );
    }
}
