//! The bytes of a frame in chunks, from any source.

use std::{
    collections::VecDeque,
    fs::File,
    future::poll_fn,
    io::{self, Read, Seek as _, SeekFrom},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::{sync::mpsc, task::JoinHandle};

/// The maximum number of bytes passed to the connection at a time. Progress is reported per chunk, which is small enough
/// for slow links and large enough for fast ones.
pub(super) const CHUNK_SIZE: usize = 256 << 10;

/// A stream from the caller.
pub(super) type BoxStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Bytes in chunks of any size.
pub(super) enum Chunks {
    Memory(VecDeque<Bytes>),
    Reader(ReaderChunks),
    Stream(BoxStream),
    /// From a borrowed buffer: see [`Feeder`].
    Borrowed(mpsc::Receiver<Bytes>),
    /// The contents of the slot, taken at the first poll.
    Once(OnceSlot),
}

impl Chunks {
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match self {
            Self::Memory(parts) => Poll::Ready(parts.pop_front().map(Ok)),
            Self::Reader(reader) => reader.poll_next(context),
            Self::Stream(stream) => stream.as_mut().poll_next(context),
            Self::Borrowed(chunks) => chunks.poll_recv(context).map(|chunk| chunk.map(Ok)),
            Self::Once(slot) => match slot.take() {
                Some((first, chunks)) => {
                    *self = chunks;
                    Poll::Ready(Some(Ok(first)))
                }
                None => Poll::Ready(None),
            },
        }
    }

    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        poll_fn(|context| self.poll_next(context)).await
    }
}

/// Chunks that can be read only once, by the first attempt that polls them.
#[derive(Clone)]
pub(super) struct OnceSlot(Arc<Mutex<Option<Once>>>);

/// The bytes that came with the head, and the rest.
type Once = (Bytes, Box<Chunks>);

impl OnceSlot {
    pub(super) fn new(first: Bytes, chunks: Chunks) -> Self {
        Self(Arc::new(Mutex::new(Some((first, Box::new(chunks))))))
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take(&self) -> Option<(Bytes, Chunks)> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(|(first, chunks)| (first, *chunks))
    }
}

/// A blocking reader, read one chunk ahead so that reading and sending overlap.
pub(super) struct ReaderChunks {
    reading: Option<JoinHandle<(BoxReader, io::Result<Bytes>)>>,
}

type BoxReader = Box<dyn Read + Send>;

impl ReaderChunks {
    pub(super) fn new(reader: BoxReader) -> Self {
        Self { reading: Some(read_chunk(reader)) }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Some(reading) = self.reading.as_mut() else { return Poll::Ready(None) };
        let finished = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(match finished {
            Ok((_, Ok(chunk))) if chunk.is_empty() => None,
            Ok((reader, Ok(chunk))) => {
                self.reading = Some(read_chunk(reader));
                Some(Ok(chunk))
            }
            Ok((_, Err(error))) => Some(Err(error)),
            Err(error) => Some(Err(error.into())),
        })
    }
}

fn read_chunk(mut reader: BoxReader) -> JoinHandle<(BoxReader, io::Result<Bytes>)> {
    tokio::task::spawn_blocking(move || {
        let mut chunk = vec![0; CHUNK_SIZE];
        let read = loop {
            match reader.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let read = read.map(|read| {
            chunk.truncate(read);
            Bytes::from(chunk)
        });
        (reader, read)
    })
}

/// A file from an offset on. Several readers can share one file.
pub(super) struct FileFrom {
    pub(super) file: Arc<Mutex<File>>,
    pub(super) place: u64,
}

impl Read for FileFrom {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.place))?;
        let read = file.read(buffer)?;
        self.place += read as u64;
        Ok(read)
    }
}

/// Copies a borrowed buffer, a few chunks at a time, for attempts at sending it, which need owned bytes.
pub(super) struct Feeder<'a> {
    body: &'a [u8],
    attempts: mpsc::UnboundedReceiver<mpsc::Sender<Bytes>>,
}

/// Starts a [`Feeder`] from the beginning of its buffer.
pub(super) type FeederHandle = mpsc::UnboundedSender<mpsc::Sender<Bytes>>;

impl<'a> Feeder<'a> {
    pub(super) fn new(body: &'a [u8]) -> (Self, FeederHandle) {
        let (handle, attempts) = mpsc::unbounded_channel();
        (Self { body, attempts }, handle)
    }

    /// The chunks of a new attempt.
    pub(super) fn begin(handle: &FeederHandle) -> Chunks {
        let (sender, chunks) = mpsc::channel(2);
        // Without a feeder the channel closes, and the attempt fails with a truncated body.
        let _ = handle.send(sender);
        Chunks::Borrowed(chunks)
    }

    /// Feeds one attempt after another until all handles are dropped.
    pub(super) async fn run(mut self) {
        let mut next = self.attempts.recv().await;
        while let Some(sender) = next {
            next = None;
            for chunk in self.body.chunks(CHUNK_SIZE) {
                tokio::select! {
                    biased;
                    newer = self.attempts.recv() => match newer {
                        Some(newer) => {
                            next = Some(newer);
                            break;
                        }
                        None => return,
                    },
                    permit = sender.reserve() => match permit {
                        Ok(permit) => permit.send(Bytes::copy_from_slice(chunk)),
                        Err(_) => break,
                    },
                }
            }
            drop(sender);
            if next.is_none() {
                next = self.attempts.recv().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut chunks: Chunks) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(chunk) = chunks.next().await {
            all.extend_from_slice(&chunk.unwrap());
        }
        all
    }

    #[tokio::test]
    async fn a_reader_yields_all_bytes_in_order() {
        let bytes: Vec<u8> = (0..CHUNK_SIZE as u32).flat_map(u32::to_le_bytes).collect();
        let reader = ReaderChunks::new(Box::new(io::Cursor::new(bytes.clone())));
        assert!(all(Chunks::Reader(reader)).await == bytes);
    }

    #[tokio::test]
    async fn a_borrowed_buffer_restarts_for_each_attempt() {
        let bytes: Vec<u8> = (0..CHUNK_SIZE as u32).flat_map(u32::to_le_bytes).collect();
        let (feeder, handle) = Feeder::new(&bytes);
        let attempts = async {
            let handle = handle;
            let mut first = Feeder::begin(&handle);
            assert!(first.next().await.unwrap().unwrap() == bytes[..CHUNK_SIZE]);
            drop(first);
            assert!(all(Feeder::begin(&handle)).await == bytes);
            let abandoned = Feeder::begin(&handle);
            assert!(all(Feeder::begin(&handle)).await == bytes);
            drop(abandoned);
        };
        tokio::join!(feeder.run(), attempts);
    }

    #[tokio::test]
    async fn each_attempt_reads_a_file_from_the_same_offset() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"head and body").unwrap();
        let file = Arc::new(Mutex::new(file));
        for _ in 0..2 {
            let from = FileFrom { file: file.clone(), place: 5 };
            assert_eq!(all(Chunks::Reader(ReaderChunks::new(Box::new(from)))).await, b"and body");
        }
    }
}
