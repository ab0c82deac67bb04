//! The source of a frame to send: memory, a file, a reader or a stream.

use std::{
    collections::VecDeque,
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use avp_core::{DecodeError, FrameLimits, HeadReader, Header, OwnedHead};
use bytes::Bytes;
use futures_util::Stream;

use super::{
    ClientError,
    chunks::{BoxStream, CHUNK_SIZE, Chunks, Feeder, OnceSlot, ReaderChunks},
    outgoing_frame::{Body, OutgoingFrame},
    upload::Reporter,
};

/// A frame to send. The client reads its head before it connects, so invalid frames are not sent.
///
/// ```
/// use avp_core::{FrameEncoder, Metadata};
/// use avp_transport::client::FrameBody;
///
/// let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor")?;
/// let body = FrameBody::bytes(frame).on_progress(|sent, total| println!("{sent} of {total} bytes"));
/// # Ok::<(), avp_core::EncodeError>(())
/// ```
#[derive(Debug)]
pub struct FrameBody<'a> {
    source: Source<'a>,
    reporter: Reporter,
}

enum Source<'a> {
    Parts(VecDeque<Bytes>),
    Slice(&'a [u8]),
    File(PathBuf),
    Reader(Box<dyn Read + Send>),
    Stream(BoxStream),
}

impl FrameBody<'static> {
    /// A frame in memory, sent without a copy. For a memory-mapped file, use [`Bytes::from_owner`].
    pub fn bytes(frame: impl Into<Bytes>) -> Self {
        Self::parts([frame.into()])
    }

    /// A frame in several buffers, such as its head and its tensors, sent without a copy.
    pub fn parts(parts: impl IntoIterator<Item = Bytes>) -> Self {
        Self::from_source(Source::Parts(parts.into_iter().collect()))
    }

    /// A frame in a file, which is read while it is sent and must not change meanwhile.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::from_source(Source::File(path.as_ref().to_owned()))
    }

    /// A frame from a blocking reader, such as a pipe. It can be read only once: if the connection breaks after its first byte,
    /// the frame is not sent again.
    pub fn reader(reader: impl Read + Send + 'static) -> Self {
        Self::from_source(Source::Reader(Box::new(reader)))
    }

    /// A frame from a stream. It can be read only once: if the connection breaks after its first byte, the frame is not sent
    /// again.
    pub fn stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self::from_source(Source::Stream(Box::pin(stream)))
    }
}

impl<'a> FrameBody<'a> {
    /// A frame in a borrowed buffer. It is copied while it is sent, at most 1 MiB at a time; [`bytes`](FrameBody::bytes) needs no
    /// copy.
    #[must_use]
    pub fn slice(frame: &'a [u8]) -> Self {
        Self::from_source(Source::Slice(frame))
    }

    /// Calls `progress` with the number of bytes passed to the connection and the frame's length, about every 256 KiB and at the
    /// end. The number never decreases, even if the frame is sent again.
    #[must_use]
    pub fn on_progress(self, progress: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self { reporter: Reporter::new(Arc::new(progress)), ..self }
    }

    /// Reads the head. A borrowed frame has a feeder, which must run while the frame is sent.
    pub(super) async fn open(
        self,
        limits: FrameLimits,
    ) -> Result<(OutgoingFrame, Option<Feeder<'a>>), ClientError> {
        let mut reader = HeadReader::new(limits);
        let mut feeder = None;
        let (head, body) = match self.source {
            Source::Parts(mut parts) => {
                let len = parts.iter().map(|part| part.len() as u64).sum();
                let (head, rest) = loop {
                    let Some(part) = parts.pop_front() else { return Err(no_head(&reader)) };
                    if let Some(found) = reader.feed(part)? {
                        break found;
                    }
                };
                check_len(&head, len)?;
                parts.push_front(rest);
                (head, Body::Parts(parts))
            }
            Source::Slice(frame) => {
                // The maximum length of a head; the rest of a large frame is not copied.
                let longest = Header::LEN.saturating_add(limits.metadata).min(frame.len());
                let found = reader.feed(Bytes::copy_from_slice(&frame[..longest]))?;
                let (head, _) = found.ok_or_else(|| no_head(&reader))?;
                check_len(&head, frame.len() as u64)?;
                let (lent, handle) = Feeder::new(&frame[head.bytes().len()..]);
                feeder = Some(lent);
                (head, Body::Borrowed(handle))
            }
            Source::File(path) => {
                let opening = tokio::task::spawn_blocking(move || open_file(&path, reader));
                let (head, file) = opening.await.map_err(io::Error::from).map_err(OPEN_FAILED)??;
                (head, Body::File(Arc::new(Mutex::new(file))))
            }
            Source::Reader(source) => read_head(reader, Chunks::Reader(ReaderChunks::new(source))).await?,
            Source::Stream(stream) => read_head(reader, Chunks::Stream(stream)).await?,
        };
        Ok((OutgoingFrame::new(head, body, self.reporter), feeder))
    }

    fn from_source(source: Source<'a>) -> Self {
        Self { source, reporter: Reporter::default() }
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parts(parts) => write!(f, "Parts({})", parts.len()),
            Self::Slice(frame) => write!(f, "Slice({} bytes)", frame.len()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Reader(_) => f.write_str("Reader(..)"),
            Self::Stream(_) => f.write_str("Stream(..)"),
        }
    }
}

const OPEN_FAILED: fn(io::Error) -> ClientError =
    |source| ClientError::Io { action: "open the frame", source };

fn open_file(path: &Path, mut reader: HeadReader) -> Result<(OwnedHead, File), ClientError> {
    let mut file = File::open(path).map_err(OPEN_FAILED)?;
    let len = file.metadata().map_err(OPEN_FAILED)?.len();
    let mut chunk = vec![0; CHUNK_SIZE];
    let head = loop {
        let read = match file.read(&mut chunk) {
            Ok(0) => return Err(no_head(&reader)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(OPEN_FAILED(error)),
        };
        if let Some((head, _)) = reader.feed(Bytes::copy_from_slice(&chunk[..read]))? {
            break head;
        }
    };
    check_len(&head, len)?;
    Ok((head, file))
}

async fn read_head(mut reader: HeadReader, mut chunks: Chunks) -> Result<(OwnedHead, Body), ClientError> {
    loop {
        let chunk = chunks.next().await.transpose().map_err(ClientError::io("read the frame"))?;
        let Some(chunk) = chunk else { return Err(no_head(&reader)) };
        if let Some((head, rest)) = reader.feed(chunk)? {
            return Ok((head, Body::Once(OnceSlot::new(rest, chunks))));
        }
    }
}

fn no_head(reader: &HeadReader) -> ClientError {
    ClientError::Frame(reader.finish())
}

/// Checks that the frame has the length in its head.
fn check_len(head: &OwnedHead, len: u64) -> Result<(), DecodeError> {
    let needed = head.header().frame_len();
    let place = |len: u64| usize::try_from(len).unwrap_or(usize::MAX);
    Err(match len.cmp(&needed) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => {
            DecodeError::Truncated { what: "body", offset: place(len), needed: place(needed) }
        }
        std::cmp::Ordering::Greater => {
            let extra = place(len - needed);
            DecodeError::TrailingBytes { what: "frame", offset: place(needed), extra }
        }
    })
}

#[cfg(test)]
mod tests {
    use avp_core::{FrameEncoder, Metadata};

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        FrameEncoder::new(Metadata { session_id: "s1", ..Default::default() }).encode(body).unwrap()
    }

    async fn kind_of(body: FrameBody<'_>) -> Result<u64, &'static str> {
        match body.open(FrameLimits::default()).await {
            Ok((outgoing, _)) => Ok(outgoing.head().header().frame_len()),
            Err(error) => Err(error.kind()),
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused_wherever_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frame.avp");
        let sound = frame(b"tensor");
        let long = [&sound[..], b"!"].concat();
        for (bytes, expected) in [
            (&sound[..], Ok(sound.len() as u64)),
            (b"", Err("truncated")),
            (b"AV\x01", Err("truncated")),
            (b"GET / HTTP/1.1\r\n\r\n", Err("bad_magic")),
            (&sound[..sound.len() - 1], Err("truncated")),
            (&long, Err("trailing_bytes")),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(kind_of(FrameBody::file(&path)).await, expected);
            assert_eq!(kind_of(FrameBody::slice(bytes)).await, expected);
            let (start, end) = bytes.split_at(bytes.len() / 2);
            let parts = [start, end].map(Bytes::copy_from_slice);
            assert_eq!(kind_of(FrameBody::parts(parts)).await, expected);
            // How long a reader's body is shows only as it goes out.
            let of_reader = kind_of(FrameBody::reader(io::Cursor::new(bytes.to_vec()))).await;
            match bytes.starts_with(b"AV\x01\0") {
                true => assert_eq!(of_reader, Ok(sound.len() as u64)),
                false => assert_eq!(of_reader, expected),
            }
        }
        assert_eq!(kind_of(FrameBody::file(folder.path().join("none"))).await, Err("io"));
    }

    #[tokio::test]
    async fn debugging_shows_no_payload() {
        let frame = frame(b"somebody's conversation");
        for body in [FrameBody::bytes(frame.clone()), FrameBody::slice(&frame)] {
            let shown = format!("{body:?}");
            assert!(!shown.contains("115, 111") && !shown.contains("conversation"), "{shown}");
        }
    }
}
