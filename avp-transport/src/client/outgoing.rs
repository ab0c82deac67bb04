//! Frames to be sent: from memory, a file, a reader, a stream.

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
    parcel::{Body, Parcel},
    pieces::{BoxStream, Feeder, OnceSlot, PIECE, Pieces, ReaderPieces},
    upload::Reporter,
};

/// A frame to be sent. Its head is read before a connection is made, so that what is no frame costs the server nothing.
///
/// ```
/// # use avp_core::{FrameEncoder, Metadata};
/// # use avp_transport::client::Outgoing;
/// # let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
/// let outgoing = Outgoing::bytes(frame).on_progress(|sent, total| println!("{sent} of {total} bytes"));
/// ```
#[derive(Debug)]
pub struct Outgoing<'a> {
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

impl Outgoing<'static> {
    /// A frame in memory. Nothing of it is copied on the way to the connection; a mapped file comes as
    /// [`Bytes::from_owner`].
    pub fn bytes(frame: impl Into<Bytes>) -> Self {
        Self::parts([frame.into()])
    }

    /// A frame in memory, in several parts that need not lie together: its head and its tensors. Nothing of it is copied.
    pub fn parts(parts: impl IntoIterator<Item = Bytes>) -> Self {
        Self::from_source(Source::Parts(parts.into_iter().collect()))
    }

    /// A frame in a file, which is read as it goes out. It must stay as it is meanwhile.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::from_source(Source::File(path.as_ref().to_owned()))
    }

    /// A frame that a reader gives, such as a pipe, read on threads that may block. It can be read only once: when the
    /// connection breaks after its first byte has gone out, it is not tried again.
    pub fn reader(reader: impl Read + Send + 'static) -> Self {
        Self::from_source(Source::Reader(Box::new(reader)))
    }

    /// A frame that arrives from elsewhere. It comes only once: when the connection breaks after its first byte has gone
    /// out, it is not tried again.
    pub fn stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self::from_source(Source::Stream(Box::pin(stream)))
    }
}

impl<'a> Outgoing<'a> {
    /// A frame in memory that is only lent. A connection cannot borrow, so its bytes are copied on the way out, at most 1 MiB
    /// at a time; [`bytes`](Outgoing::bytes) does without.
    #[must_use]
    pub fn slice(frame: &'a [u8]) -> Self {
        Self::from_source(Source::Slice(frame))
    }

    /// Calls `progress` with the bytes that have been handed to the connection and the frame's length, about every 256 KiB
    /// and at the end. What is sent again after a failure is not told again, so the number only grows.
    #[must_use]
    pub fn on_progress(self, progress: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self { reporter: Reporter::new(Arc::new(progress)), ..self }
    }

    /// Reads the head. Whoever sends the parcel of a borrowed frame runs its feeder meanwhile.
    pub(super) async fn open(self, limits: FrameLimits) -> Result<(Parcel, Option<Feeder<'a>>), ClientError> {
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
                // No head is longer than this, so no more of a large frame is copied.
                let longest = Header::LEN.saturating_add(limits.metadata).min(frame.len());
                let found = reader.feed(Bytes::copy_from_slice(&frame[..longest]))?;
                let (head, _) = found.ok_or_else(|| no_head(&reader))?;
                check_len(&head, frame.len() as u64)?;
                let (lent, handle) = Feeder::new(&frame[head.bytes().len()..]);
                feeder = Some(lent);
                (head, Body::Lent(handle))
            }
            Source::File(path) => {
                let opening = tokio::task::spawn_blocking(move || open_file(&path, reader));
                let (head, file) = opening.await.map_err(io::Error::from).map_err(OPEN_FAILED)??;
                (head, Body::File(Arc::new(Mutex::new(file))))
            }
            Source::Reader(source) => read_head(reader, Pieces::Reader(ReaderPieces::new(source))).await?,
            Source::Stream(stream) => read_head(reader, Pieces::Stream(stream)).await?,
        };
        Ok((Parcel::new(head, body, self.reporter), feeder))
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
    let mut piece = vec![0; PIECE];
    let head = loop {
        let read = match file.read(&mut piece) {
            Ok(0) => return Err(no_head(&reader)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(OPEN_FAILED(error)),
        };
        if let Some((head, _)) = reader.feed(Bytes::copy_from_slice(&piece[..read]))? {
            break head;
        }
    };
    check_len(&head, len)?;
    Ok((head, file))
}

async fn read_head(mut reader: HeadReader, mut pieces: Pieces) -> Result<(OwnedHead, Body), ClientError> {
    loop {
        let piece = pieces.next().await.transpose().map_err(ClientError::io("read the frame"))?;
        let Some(piece) = piece else { return Err(no_head(&reader)) };
        if let Some((head, rest)) = reader.feed(piece)? {
            return Ok((head, Body::Once(OnceSlot::new(rest, pieces))));
        }
    }
}

fn no_head(reader: &HeadReader) -> ClientError {
    ClientError::Frame(reader.finish())
}

/// That there are as many bytes as the head announces.
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

    async fn kind_of(outgoing: Outgoing<'_>) -> Result<u64, &'static str> {
        match outgoing.open(FrameLimits::default()).await {
            Ok((parcel, _)) => Ok(parcel.head().header().frame_len()),
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
            assert_eq!(kind_of(Outgoing::file(&path)).await, expected);
            assert_eq!(kind_of(Outgoing::slice(bytes)).await, expected);
            let (start, end) = bytes.split_at(bytes.len() / 2);
            let parts = [start, end].map(Bytes::copy_from_slice);
            assert_eq!(kind_of(Outgoing::parts(parts)).await, expected);
            // How long a reader's body is shows only as it goes out.
            let of_reader = kind_of(Outgoing::reader(io::Cursor::new(bytes.to_vec()))).await;
            match bytes.starts_with(b"AV\x01\0") {
                true => assert_eq!(of_reader, Ok(sound.len() as u64)),
                false => assert_eq!(of_reader, expected),
            }
        }
        assert_eq!(kind_of(Outgoing::file(folder.path().join("none"))).await, Err("io"));
    }

    #[tokio::test]
    async fn debugging_shows_no_payload() {
        let frame = frame(b"somebody's conversation");
        for outgoing in [Outgoing::bytes(frame.clone()), Outgoing::slice(&frame)] {
            let shown = format!("{outgoing:?}");
            assert!(!shown.contains("115, 111") && !shown.contains("conversation"), "{shown}");
        }
    }
}
