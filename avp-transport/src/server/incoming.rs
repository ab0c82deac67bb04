//! A frame that a client is sending: its head has arrived, its body is received on demand.

use std::{
    fmt,
    io::{self, BufRead as _, Seek as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use avp_core::{
    BodyReader, DecodeError, FrameLimits, OwnedHead, decompression_memory,
    sign::{SignatureError, SignatureVerifier},
    verify_compressed,
};
use bytes::Bytes;
use tempfile::NamedTempFile;

use super::{
    Caller, ErrorResponse, Metrics, NoRoom, Share,
    admission::{Admission, BodyPermit, Room},
    buffer::FrameBuffer,
    request_body::RequestBody,
};
use crate::{
    files::kind_of,
    store::{ContextStore, DISK_PIECE, Digest, Owner, StoredContext, Transmission, Vault, part::PartWriter},
};

/// Why a body was not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The bytes do not match the frame's head.
    #[error(transparent)]
    Frame(#[from] DecodeError),
    /// The signature is not of these bytes.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// No byte arrived within the idle timeout.
    #[error("received no byte of the body for {} s", after.as_secs_f32())]
    Stalled {
        /// The timeout.
        after: Duration,
    },
    /// The body arrived more slowly than the minimum rate.
    #[error("received the body at {got} bytes per second, expected at least {least}")]
    TooSlow {
        /// The minimum rate, in bytes per second.
        least: u64,
        /// The actual rate, in bytes per second.
        got: u64,
    },
    /// The connection was closed.
    #[error("the connection was closed within the body")]
    Broken,
    /// The caller has reached its part of the server's memory.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The caller has reached its part of the disk for frames that are being received.
    #[error("no disk for the frame: {0}")]
    NoDisk(NoRoom),
    /// The system has no memory for the frame.
    #[error("the system has no memory for a frame of {len} bytes")]
    OutOfMemory {
        /// Length of the frame, in bytes.
        len: u64,
    },
    /// The frame could not be stored.
    #[error("the frame could not be stored: {0}")]
    Storage(io::ErrorKind),
}

impl BodyError {
    /// A stable name for programs to match on, such as `"stalled"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Frame(error) => error.kind(),
            Self::Signature(error) => error.kind(),
            Self::Stalled { .. } => "stalled",
            Self::TooSlow { .. } => "too_slow",
            Self::Broken => "broken",
            Self::NoRoom(_) | Self::NoDisk(_) => "no_room",
            Self::OutOfMemory { .. } => "out_of_memory",
            Self::Storage(_) => "storage",
        }
    }
}

impl From<io::Error> for BodyError {
    fn from(error: io::Error) -> Self {
        Self::Storage(kind_of(&error))
    }
}

/// A frame of which the [`head`](Self::head) has arrived. Read the body, or drop the frame to refuse it.
///
/// [`into_bytes`](Self::into_bytes), [`into_file`](Self::into_file) and [`store`](Self::store) verify length and checksum,
/// and return the whole frame or an error.
pub struct IncomingFrame {
    head: OwnedHead,
    /// Bytes of the body that arrived together with the head.
    first: Bytes,
    body: RequestBody,
    reader: BodyReader,
    /// Compares the body with the frame's signature, where one is required.
    verifier: Option<SignatureVerifier>,
    /// That of the body on the wire; valid after its end.
    crc32: u32,
    reception: Reception,
}

/// What the server allows for a frame.
pub(super) struct Reception {
    pub(super) limits: FrameLimits,
    pub(super) caller: Caller,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Metrics,
    pub(super) _permit: BodyPermit,
}

impl IncomingFrame {
    pub(super) fn new(head: OwnedHead, first: Bytes, body: RequestBody, reception: Reception) -> Self {
        let reader = BodyReader::new(&head.head());
        Self { head, first, body, reader, verifier: None, crc32: 0, reception }
    }

    /// Header and metadata.
    #[must_use]
    pub const fn head(&self) -> &OwnedHead {
        &self.head
    }

    /// Verifies the signature with the body, before its end is told.
    pub(super) fn verify_with(&mut self, verifier: SignatureVerifier) {
        self.verifier = Some(verifier);
    }

    /// The next bytes of the body as on the wire, or `None` at the end. Only at the end have length and checksum been
    /// verified. The checksum of a compressed body must be verified after decompression.
    ///
    /// # Errors
    /// [`BodyError`], after which the frame cannot be read further.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        let bytes = match std::mem::take(&mut self.first) {
            first if first.is_empty() => self.body.chunk().await?,
            first => Some(first),
        };
        match &bytes {
            Some(bytes) => {
                self.reception.metrics.received(bytes.len() as u64);
                self.reader.feed(bytes)?;
                if let Some(verifier) = &mut self.verifier {
                    verifier.feed(bytes);
                }
            }
            None => {
                self.crc32 = self.reader.clone().finish()?;
                if let Some(verifier) = self.verifier.take() {
                    verifier.finish()?;
                }
            }
        }
        Ok(bytes)
    }

    /// Reads the body and compares it with that of a stored context with the same head.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk), and where the context cannot be read.
    pub(super) async fn matches(mut self, context: &StoredContext) -> Result<bool, BodyError> {
        // The context may be removed while it is compared.
        let _held = context.reader(&self.reception.caller, self.reception.admission.shares())?;
        let _memory = self.room(context.reader_memory())?;
        let mut stored = context.read(self.head.bytes().len() as u64..context.len()).await?;
        let mut expected = Bytes::new();
        while let Some(mut bytes) = self.chunk().await? {
            while !bytes.is_empty() {
                if expected.is_empty() {
                    // The reader has refused a body that is longer than the head says.
                    expected = stored.chunk().await?.ok_or(BodyError::Broken)?;
                }
                let len = bytes.len().min(expected.len());
                if bytes.split_to(len) != expected.split_to(len) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Receives and verifies the whole frame into one buffer of its size, and returns it with the CRC-32 of its body on the
    /// wire.
    ///
    /// # Errors
    /// [`BodyError`]. Memory is taken as bytes arrive, so [`BodyError::NoRoom`] may come in the middle.
    pub async fn into_bytes(mut self) -> Result<(Bytes, u32), BodyError> {
        self.receive_bytes().await
    }

    async fn receive_bytes(&mut self) -> Result<(Bytes, u32), BodyError> {
        let len = self.head.header().frame_len();
        let mut room = self.room(0)?;
        // A frame that does not fit now is refused before it is sent.
        room.could_cover(len)?;
        // Address space is reserved, pages only as bytes arrive.
        let mut frame =
            self.reception.admission.buffers().reserve(len).ok_or(BodyError::OutOfMemory { len })?;
        let head = self.head.bytes().clone();
        append(&mut frame, &mut room, &head)?;
        while let Some(bytes) = self.chunk().await? {
            append(&mut frame, &mut room, &bytes)?;
        }
        let frame = frame.into_bytes();
        if self.head.header().flags().is_compressed() {
            let body = frame.slice(self.head.bytes().len()..);
            self.verify_body(&body.clone(), io::Cursor::new(body)).await?;
        }
        Ok((frame, self.crc32))
    }

    /// Memory for this frame's caller, of this many bytes.
    fn room(&self, bytes: u64) -> Result<Room, BodyError> {
        Ok(self.reception.admission.memory(&self.reception.caller, bytes)?)
    }

    /// Checks that the compressed body, which begins with `start`, unpacks within the limit and to the checksum of the metadata.
    async fn verify_body(
        &mut self,
        start: &[u8],
        mut body: impl io::Read + Send + 'static,
    ) -> Result<(), BodyError> {
        let (head, limit) = (self.head.clone(), self.reception.limits.unpacked);
        let room = self.room(decompression_memory(start, limit) as u64)?;
        // The memory belongs to the work, which goes on when its caller has gone.
        blocking(move || {
            let _room = room;
            verify_compressed(&head.head(), limit, |piece| Ok(body.read(piece)?))
        })
        .await
    }

    /// Receives and verifies the whole frame into a new, synced file in `folder`, and returns it with the CRC-32 of its
    /// body on the wire. The file is deleted with its handle unless it is persisted. The body is never in memory whole.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn into_file(mut self, folder: &Path) -> Result<(NamedTempFile, u32), BodyError> {
        self.receive_file(folder, &Vault::default(), "", None).await
    }

    /// As [`into_file`](Self::into_file), for a file of `owner` in the folder of `vault`, with the disk for it.
    async fn receive_file(
        &mut self,
        folder: &Path,
        vault: &Vault,
        owner: &str,
        mut disk: Option<Share>,
    ) -> Result<(NamedTempFile, u32), BodyError> {
        let _room = self.room(vault.memory())?;
        let mut part = PartWriter::create(folder, vault.sealer(owner)?).await?;
        let head = self.head.bytes().clone();
        part.write(&head).await?;
        let mut received = head.len() as u64;
        while let Some(bytes) = self.chunk().await? {
            received += bytes.len() as u64;
            if let Some(disk) = &mut disk {
                let len = vault.file_len(received).next_multiple_of(DISK_PIECE);
                disk.grow_to(len).map_err(BodyError::NoDisk)?;
            }
            part.write(&bytes).await?;
        }
        let file = part.finish().await?;
        if self.head.header().flags().is_compressed() {
            let mut body = io::BufReader::new(vault.read(file.reopen()?, owner)?);
            let start_at = io::SeekFrom::Start(self.head.bytes().len() as u64);
            let (start, body) = blocking(move || {
                body.seek(start_at)?;
                Ok((body.fill_buf()?.to_vec(), body))
            })
            .await?;
            self.verify_body(&start, body).await?;
        }
        Ok((file, self.crc32))
    }

    /// Receives and verifies the frame, and stores it for `owner`.
    ///
    /// # Errors
    /// Where it exceeds the quota, before the body is read; where the body is not received; where it is not stored.
    pub async fn store(
        self,
        contexts: &ContextStore,
        owner: Owner<'_>,
    ) -> Result<Arc<StoredContext>, ErrorResponse> {
        self.store_once(contexts, owner, None).await
    }

    /// As [`store`](Self::store), `once` for an idempotency key: the SHA-256 of the key and that of the frame's head.
    pub(super) async fn store_once(
        mut self,
        contexts: &ContextStore,
        owner: Owner<'_>,
        once: Option<(Digest, Digest)>,
    ) -> Result<Arc<StoredContext>, ErrorResponse> {
        contexts.check_len(&self.head, owner)?;
        let transmission = once.map(|(key, head)| Transmission { key, head });
        Ok(match contexts.folder() {
            None => {
                let (bytes, crc32) = self.receive_bytes().await?;
                contexts.insert_bytes(owner, self.head, bytes, crc32, transmission)?
            }
            Some(folder) => {
                let disk = folder.disk().take(&self.reception.caller, 0).map_err(BodyError::NoDisk)?;
                disk.could_grow_to(self.head.header().frame_len()).map_err(BodyError::NoDisk)?;
                let (file, crc32) =
                    self.receive_file(folder.path(), folder.vault(), owner.name, Some(disk)).await?;
                contexts.insert_file(owner, self.head, file, crc32, transmission).await?
            }
        })
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

/// Appends bytes to a frame, whose memory grows with it.
fn append(frame: &mut FrameBuffer, room: &mut Room, bytes: &[u8]) -> Result<(), BodyError> {
    room.cover(frame.occupied_with(bytes.len()))?;
    // The reader has compared the length with the head's.
    if frame.extend(bytes) { Ok(()) } else { Err(BodyError::Broken) }
}

/// Runs blocking work on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BodyError> + Send + 'static,
) -> Result<T, BodyError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BodyError::Storage(io::ErrorKind::Other)))
}
