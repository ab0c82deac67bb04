//! The destination of a fetched frame: memory, or a file that is renamed to its path once it is complete.

use std::{
    io::{self, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use avp_core::{OwnedHead, verify_compressed};
use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::task::{JoinHandle, spawn_blocking};

use super::ClientError;
use crate::files::{folder_of, sync_folder};

/// The number of bytes to receive before allocating memory for the frame length in the head.
const TRUST: u64 = 8 << 20;

/// The number of bytes written to a file at a time.
const BATCH: usize = 1 << 20;

/// Receives a frame from its first byte.
pub(super) trait Sink: Send {
    /// The complete frame.
    type Output;

    /// Appends bytes. `frame_len` is the length in the frame's head, once that is known.
    fn write(
        &mut self,
        bytes: Bytes,
        frame_len: Option<u64>,
    ) -> impl Future<Output = Result<(), ClientError>> + Send;

    /// Discards all bytes.
    fn clear(&mut self) -> impl Future<Output = Result<(), ClientError>> + Send;

    /// Verifies a compressed body, which decompresses to at most `limit` bytes, and returns the frame.
    fn finish(
        self,
        head: &OwnedHead,
        limit: usize,
    ) -> impl Future<Output = Result<Self::Output, ClientError>> + Send;
}

/// Receives a frame into memory.
#[derive(Default)]
pub(super) struct MemorySink(Vec<u8>);

impl Sink for MemorySink {
    type Output = Bytes;

    async fn write(&mut self, bytes: Bytes, frame_len: Option<u64>) -> Result<(), ClientError> {
        let received = (self.0.len() + bytes.len()) as u64;
        let wanted = match frame_len {
            Some(len) if len <= TRUST || received >= TRUST => len,
            _ => received,
        };
        if wanted > self.0.capacity() as u64 {
            let more = usize::try_from(wanted).ok().map(|wanted| wanted - self.0.len());
            let reserved = more.map(|more| self.0.try_reserve_exact(more));
            if !matches!(reserved, Some(Ok(()))) {
                return Err(ClientError::Memory { needed: wanted });
            }
        }
        self.0.extend_from_slice(&bytes);
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), ClientError> {
        self.0.clear();
        Ok(())
    }

    async fn finish(self, head: &OwnedHead, limit: usize) -> Result<Bytes, ClientError> {
        let frame = Bytes::from(self.0);
        if head.header().flags().is_compressed() {
            let (head, frame) = (head.clone(), frame.clone());
            blocking(move || verify(&head, &frame[head.bytes().len()..], limit)).await?;
        }
        Ok(frame)
    }
}

/// Receives a frame into a temporary file in the target's folder, which is renamed once it is complete and removed if it is
/// dropped before.
pub(super) struct FileSink {
    target: PathBuf,
    /// `None` during a write.
    file: Option<NamedTempFile>,
    writing: Option<JoinHandle<Result<NamedTempFile, ClientError>>>,
    batch: Vec<Bytes>,
    batch_len: usize,
}

const WRITE_FAILED: fn(io::Error) -> ClientError =
    |source| ClientError::Io { action: "write the frame", source };

impl FileSink {
    pub(super) async fn create(target: &Path) -> Result<Self, ClientError> {
        let folder = folder_of(target).to_owned();
        let file = blocking(move || NamedTempFile::new_in(folder).map_err(WRITE_FAILED)).await?;
        let target = target.to_owned();
        Ok(Self { target, file: Some(file), writing: None, batch: Vec::new(), batch_len: 0 })
    }

    /// The file, after the current write.
    async fn take_file(&mut self) -> Result<NamedTempFile, ClientError> {
        if let Some(writing) = self.writing.take() {
            return writing.await.map_err(io::Error::from).map_err(WRITE_FAILED)?;
        }
        self.file.take().ok_or_else(|| WRITE_FAILED(io::Error::other("an earlier write failed")))
    }

    /// Starts to write the batch, while the next one is received.
    async fn flush(&mut self) -> Result<(), ClientError> {
        let mut file = self.take_file().await?;
        let batch = std::mem::take(&mut self.batch);
        self.batch_len = 0;
        self.writing = Some(spawn_blocking(move || {
            batch.iter().try_for_each(|bytes| file.write_all(bytes)).map_err(WRITE_FAILED)?;
            Ok(file)
        }));
        Ok(())
    }
}

impl Sink for FileSink {
    type Output = ();

    async fn write(&mut self, bytes: Bytes, _: Option<u64>) -> Result<(), ClientError> {
        self.batch_len += bytes.len();
        self.batch.push(bytes);
        if self.batch_len < BATCH { Ok(()) } else { self.flush().await }
    }

    async fn clear(&mut self) -> Result<(), ClientError> {
        (self.batch, self.batch_len) = (Vec::new(), 0);
        let mut file = self.take_file().await?;
        let emptied = blocking(move || {
            file.as_file().set_len(0).and_then(|()| file.rewind()).map_err(WRITE_FAILED)?;
            Ok(file)
        });
        self.file = Some(emptied.await?);
        Ok(())
    }

    async fn finish(mut self, head: &OwnedHead, limit: usize) -> Result<(), ClientError> {
        self.flush().await?;
        let mut file = self.take_file().await?;
        let (head, target) = (head.clone(), self.target);
        blocking(move || {
            if head.header().flags().is_compressed() {
                file.seek(SeekFrom::Start(head.bytes().len() as u64)).map_err(WRITE_FAILED)?;
                verify(&head, BufReader::new(file.as_file_mut()), limit)?;
            }
            file.as_file().sync_all().map_err(WRITE_FAILED)?;
            file.persist(&target).map_err(|error| WRITE_FAILED(error.error))?;
            sync_folder(folder_of(&target)).map_err(WRITE_FAILED)
        })
        .await
    }
}

fn verify(head: &OwnedHead, mut body: impl io::Read, limit: usize) -> Result<(), ClientError> {
    verify_compressed(&head.head(), limit, |piece| body.read(piece).map_err(WRITE_FAILED))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    spawn_blocking(work).await.map_err(io::Error::from).map_err(WRITE_FAILED)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_grows_with_received_bytes_until_the_head_is_trusted() {
        let mut sink = MemorySink::default();
        let claim = Some(1 << 40);
        sink.write(Bytes::from_static(b"AV"), claim).await.unwrap();
        assert!(sink.0.capacity() < 1 << 10);
        let mut sink = MemorySink::default();
        sink.write(Bytes::from_static(b"AV"), Some(TRUST)).await.unwrap();
        assert!(sink.0.capacity() as u64 >= TRUST);
    }

    #[tokio::test]
    async fn memory_that_cannot_be_allocated_is_an_error() {
        let mut sink = MemorySink::default();
        let enough = Bytes::from(vec![0; TRUST as usize]);
        let error = sink.write(enough, Some(u64::MAX)).await.unwrap_err();
        assert_eq!(error.kind(), "memory");
    }

    #[tokio::test]
    async fn an_incomplete_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = FileSink::create(&folder.path().join("frame.avp")).await.unwrap();
        sink.write(Bytes::from(vec![1; 2 * BATCH]), None).await.unwrap();
        sink.clear().await.unwrap();
        drop(sink);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
