//! Frames out of a stream of bytes that arrives in pieces.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::{DecodeError, FrameHead, Header};

/// Cuts a stream of bytes into frames.
///
/// It takes bytes and gives frames; reading a socket is the caller's part. Memory follows what has arrived, never what
/// a header announces.
///
/// # Examples
///
/// ```
/// # use avp_core::{FrameEncoder, MetadataFields, StreamDecoder};
/// # let frame = FrameEncoder::new(MetadataFields { target_agent_id: "b", ..Default::default() }).encode(b"body").unwrap();
/// let mut stream = StreamDecoder::new(1 << 20);
/// stream.feed(&frame[..frame.len() - 1]);
/// assert_eq!(stream.head()?.unwrap().metadata().target_agent_id(), "b"); // The body is not there yet.
/// assert_eq!(stream.next_frame()?, None);
/// stream.feed(&frame[frame.len() - 1..]);
/// assert_eq!(stream.next_frame()?.unwrap(), frame);
/// # Ok::<(), avp_core::DecodeError>(())
/// ```
///
/// "More bytes are needed" is `Ok(None)`, "these bytes are wrong" is an error. After an error there is no telling where
/// the next frame starts, so the same error comes again, whatever is fed.
#[derive(Debug)]
pub struct StreamDecoder {
    buffer: BytesMut,
    frame_limit: usize,
    /// Bytes that the buffer must have before looking at it again can tell anything new.
    needed: usize,
}

impl StreamDecoder {
    /// A decoder for frames of at most `frame_limit` bytes, header included.
    #[must_use]
    pub fn new(frame_limit: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_limit, needed: 0 }
    }

    /// Appends bytes that have arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Header and metadata of the frame that is arriving, as soon as they are there.
    ///
    /// # Errors
    ///
    /// Those of [`FrameHead::decode`] less [`DecodeError::Truncated`], and [`DecodeError::FrameTooLarge`].
    pub fn head(&self) -> Result<Option<FrameHead<'_>>, DecodeError> {
        read_head(&self.buffer, self.frame_limit).map(Result::ok)
    }

    /// The next frame, once all of it has arrived.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head).
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, DecodeError> {
        if self.buffer.len() < self.needed {
            return Ok(None);
        }
        let needed = match read_head(&self.buffer, self.frame_limit)? {
            Ok(head) => head.frame_len()?,
            Err(needed) => needed,
        };
        // A head that is still incomplete needs more than there is, so this is a whole frame.
        if needed <= self.buffer.len() {
            self.needed = 0;
            return Ok(Some(self.buffer.split_to(needed).freeze()));
        }
        self.needed = needed;
        Ok(None)
    }

    /// How many more bytes, at least, [`next_frame`](Self::next_frame) waits for; 0 before it was asked.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.needed.saturating_sub(self.buffer.len())
    }

    /// Bytes that have arrived and belong to no frame given out yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.remaining()
    }

    /// Ends the stream.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] where it ends within a frame, [`DecodeError::TrailingBytes`] where a whole frame was
    /// not taken out.
    pub fn finish(self) -> Result<(), DecodeError> {
        let offset = self.buffer.len();
        if offset == 0 {
            return Ok(());
        }
        let needed = match read_head(&self.buffer, self.frame_limit)? {
            Ok(head) => head.frame_len()?,
            Err(needed) => needed,
        };
        match needed > offset {
            true => Err(DecodeError::Truncated { what: "last frame of the stream", offset, needed }),
            false => Err(DecodeError::TrailingBytes { what: "last frame taken", offset: 0, extra: offset }),
        }
    }
}

/// The head at the start of `buffer`, or how many bytes it needs.
fn read_head(buffer: &[u8], frame_limit: usize) -> Result<Result<FrameHead<'_>, usize>, DecodeError> {
    let too_large = |header: &Header| {
        (header.frame_len() > frame_limit as u64)
            .then_some(DecodeError::FrameTooLarge { limit: frame_limit, frame_len: header.frame_len() })
    };
    // The limit comes before the metadata, which may be all that makes the frame too large.
    match Header::decode(buffer) {
        Ok(header) => too_large(&header).map_or(Ok(()), Err)?,
        Err(DecodeError::Truncated { needed, .. }) => return Ok(Err(needed)),
        Err(error) => return Err(error),
    }
    match FrameHead::decode(buffer) {
        Ok(head) => Ok(Ok(head)),
        Err(DecodeError::Truncated { needed, .. }) => Ok(Err(needed)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrameEncoder, MetadataFields};
    use alloc::{vec, vec::Vec};

    fn frames() -> [Vec<u8>; 3] {
        let frame = |session_id, body: &[u8]| {
            FrameEncoder::new(MetadataFields { session_id, ..Default::default() }).encode(body).unwrap()
        };
        [frame("first", b"body"), frame("", b""), frame("third", &[7; 300])]
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let frames = frames();
        let stream = frames.concat();
        for piece in 1..=stream.len() {
            let mut decoder = StreamDecoder::new(1 << 10);
            let mut found = vec![];
            for bytes in stream.chunks(piece) {
                decoder.feed(bytes);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames, "pieces of {piece}");
            assert_eq!(decoder.buffered(), 0);
            decoder.finish().unwrap();
        }
    }

    #[test]
    fn what_is_missing_is_told_and_is_enough() {
        let [frame, ..] = frames();
        let mut decoder = StreamDecoder::new(1 << 10);
        let mut fed = 0;
        let found = loop {
            if let Some(found) = decoder.next_frame().unwrap() {
                break found;
            }
            let missing = decoder.missing();
            assert!(missing > 0);
            decoder.feed(&frame[fed..fed + missing]);
            fed += missing;
        };
        assert_eq!((found.as_ref(), fed), (&frame[..], frame.len()));
    }

    #[test]
    fn an_announced_length_over_the_limit_is_refused_by_the_header_alone() {
        let mut decoder = StreamDecoder::new(1000);
        decoder.feed(b"AV\x01\0\xff\xff\xff\xff\0\0\0\x80");
        let expected = DecodeError::FrameTooLarge { limit: 1000, frame_len: 12 + u64::from(u32::MAX) };
        assert_eq!(decoder.next_frame(), Err(expected));
        decoder.feed(b"more");
        assert_eq!(decoder.next_frame(), Err(expected));
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_truncated() {
        let [frame, ..] = frames();
        let mut decoder = StreamDecoder::new(1000);
        decoder.feed(&frame[..frame.len() - 1]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(
            decoder.finish().unwrap_err(),
            DecodeError::Truncated {
                what: "last frame of the stream",
                offset: frame.len() - 1,
                needed: frame.len()
            }
        );
    }
}
