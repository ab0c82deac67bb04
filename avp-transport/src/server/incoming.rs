//! A frame that a client is sending: its head is here, its body comes when it is asked for.

use std::{
    fmt,
    io::{self, Seek as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use avp_core::DecodeError;
use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use super::{
    Metrics,
    admission::{Admission, BodyPlace},
    source::Source,
};
use crate::{
    reader::{BodyReader, FrameError, FrameLimits, Head, verify_packed},
    store::part,
};

/// Why a body did not arrive whole and sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The bytes are not the frame that its head announces.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No byte came for this long.
    #[error("no byte of the body came for {} s", after.as_secs_f32())]
    Stalled {
        /// How long was waited.
        after: Duration,
    },
    /// The body comes more slowly than the server waits for.
    #[error("the body came at {got} bytes per second, the server takes no fewer than {least}")]
    TooSlow {
        /// The fewest bytes per second that are waited for.
        least: u64,
        /// Bytes per second that came.
        got: u64,
    },
    /// The connection broke.
    #[error("the connection broke within the body")]
    Broken,
    /// The server holds as many bytes as it may.
    #[error("{needed} bytes do not fit beside what the server is receiving now")]
    NoRoom {
        /// Bytes that this frame needs.
        needed: u64,
    },
    /// What was received could not be kept.
    #[error("what was received could not be kept: {0}")]
    Storage(io::ErrorKind),
}

impl BodyError {
    /// A stable name for programs to match on, such as `"stalled"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Frame(error) => error.kind(),
            Self::Stalled { .. } => "stalled",
            Self::TooSlow { .. } => "too_slow",
            Self::Broken => "broken",
            Self::NoRoom { .. } => "no_room",
            Self::Storage(_) => "storage",
        }
    }
}

impl From<DecodeError> for BodyError {
    fn from(error: DecodeError) -> Self {
        Self::Frame(error.into())
    }
}

impl From<io::Error> for BodyError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.kind())
    }
}

/// A frame on its way in. Look at its [`head`](Self::head), then take its body or leave it: a frame that is dropped is
/// refused, and costs what has arrived of it.
///
/// Whoever takes the whole frame by [`into_bytes`](Self::into_bytes) or [`into_file`](Self::into_file) gets one that is
/// as long as its head says and whose checksum is right, or an error and nothing.
pub struct IncomingFrame {
    head: Head,
    /// What came together with the head.
    first: Bytes,
    source: Source,
    reader: BodyReader,
    /// That of the body on the wire; right once the body has ended.
    crc32: u32,
    limits: FrameLimits,
    admission: Arc<Admission>,
    metrics: Metrics,
    _place: BodyPlace,
}

impl IncomingFrame {
    pub(super) fn new(
        head: Head,
        first: Bytes,
        source: Source,
        limits: FrameLimits,
        admission: Arc<Admission>,
        metrics: Metrics,
        place: BodyPlace,
    ) -> Self {
        let reader = BodyReader::new(&head);
        Self { head, first, source, reader, crc32: 0, limits, admission, metrics, _place: place }
    }

    /// Header and metadata.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The next bytes of the body as they are on the wire, or `None` behind the last. Then, and no sooner, the body is
    /// known to be as long as the head says and to have the checksum that the metadata names; a compressed body's checksum
    /// is for who unpacks it.
    ///
    /// # Errors
    /// [`BodyError`]; the frame is then of no more use.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        let bytes = match std::mem::take(&mut self.first) {
            first if first.is_empty() => self.source.chunk().await?,
            first => Some(first),
        };
        match &bytes {
            Some(bytes) => {
                self.metrics.received(bytes.len() as u64);
                self.reader.feed(bytes)?;
            }
            None => self.crc32 = self.reader.clone().finish()?,
        }
        Ok(bytes)
    }

    /// Reads the body to its end and throws it away: the CRC-32 that it had on the wire.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk).
    pub(super) async fn into_crc32(mut self) -> Result<u32, BodyError> {
        while self.chunk().await?.is_some() {}
        Ok(self.crc32)
    }

    /// The whole frame in one piece of memory of exactly its size, checked; and the CRC-32 of its body on the wire.
    ///
    /// # Errors
    /// [`BodyError`]. [`BodyError::NoRoom`] before anything is read, where the server is receiving too much already.
    pub async fn into_bytes(mut self) -> Result<(Bytes, u32), BodyError> {
        let len = self.head.frame_len();
        let no_room = BodyError::NoRoom { needed: len };
        let _room = self.admission.reserve(len).ok_or(no_room)?;
        // Reserved, and touched only as bytes arrive; the announced length has a limit, and all of them together have one.
        let mut frame = self.admission.spare().reserve(len).ok_or(no_room)?;
        let mut fits = frame.extend(self.head.bytes());
        while let Some(bytes) = self.chunk().await? {
            fits &= frame.extend(&bytes);
        }
        if !fits {
            return Err(no_room);
        }
        let frame = frame.into_bytes();
        if self.head.is_compressed() {
            let (body, limit) = (frame.slice(self.head.bytes().len()..), self.limits.unpacked);
            let head = self.head;
            blocking(move || Ok(verify_packed(&head, &body[..], limit)?)).await?;
        }
        Ok((frame, self.crc32))
    }

    /// The whole frame in a new file of `folder`, checked and on the disk, with the CRC-32 of its body on the wire. The file
    /// goes away with its handle unless it is given a name. Memory holds a window of the body, not the body.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn into_file(mut self, folder: &Path) -> Result<(NamedTempFile, u32), BodyError> {
        let folder = folder.to_owned();
        let file = blocking(move || Ok(part::create(&folder)?)).await?;
        let mut writer = tokio::fs::File::from_std(file.as_file().try_clone()?);
        writer.write_all(self.head.bytes()).await?;
        while let Some(bytes) = self.chunk().await? {
            writer.write_all(&bytes).await?;
        }
        writer.flush().await?;
        writer.sync_data().await?;
        if self.head.is_compressed() {
            let (head, limit, mut body) =
                (self.head, self.limits.unpacked, io::BufReader::new(file.reopen()?));
            blocking(move || {
                body.seek(io::SeekFrom::Start(head.bytes().len() as u64))?;
                Ok(verify_packed(&head, body, limit)?)
            })
            .await?;
        }
        Ok((file, self.crc32))
    }
}

impl fmt::Debug for IncomingFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingFrame")
            .field("head", &self.head)
            .field("missing", &self.reader.missing())
            .finish_non_exhaustive()
    }
}

/// Runs what would block on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BodyError> + Send + 'static,
) -> Result<T, BodyError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BodyError::Storage(io::ErrorKind::Other)))
}
