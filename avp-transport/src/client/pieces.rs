//! Where the bytes of a frame come from, a piece at a time.

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

/// The most bytes that go to the connection at a time. Progress is seen a piece at a time, and the last one counts as sent
/// when it is handed over: small enough for slow links, large enough to cost nothing on fast ones.
pub(super) const PIECE: usize = 256 << 10;

/// A stream that the caller gave.
pub(super) type BoxStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Bytes in pieces of any size.
pub(super) enum Pieces {
    Memory(VecDeque<Bytes>),
    Reader(ReaderPieces),
    Stream(BoxStream),
    /// From a buffer that the caller lends: see [`Feeder`].
    Lent(mpsc::Receiver<Bytes>),
    /// Whatever lies in the slot, from the first time it is asked for.
    Once(OnceSlot),
}

impl Pieces {
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match self {
            Self::Memory(parts) => Poll::Ready(parts.pop_front().map(Ok)),
            Self::Reader(reader) => reader.poll_next(context),
            Self::Stream(stream) => stream.as_mut().poll_next(context),
            Self::Lent(pieces) => pieces.poll_recv(context).map(|piece| piece.map(Ok)),
            Self::Once(slot) => match slot.take() {
                Some((first, pieces)) => {
                    *self = pieces;
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

/// Pieces that can be read only once, until the attempt that reads them has begun.
#[derive(Clone)]
pub(super) struct OnceSlot(Arc<Mutex<Option<Once>>>);

/// What came with the head, and what is still to come.
type Once = (Bytes, Box<Pieces>);

impl OnceSlot {
    pub(super) fn new(first: Bytes, pieces: Pieces) -> Self {
        Self(Arc::new(Mutex::new(Some((first, Box::new(pieces))))))
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take(&self) -> Option<(Bytes, Pieces)> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(|(first, pieces)| (first, *pieces))
    }
}

/// A reader, read on threads that may block: one piece ahead, so that reading and sending overlap.
pub(super) struct ReaderPieces {
    reading: Option<JoinHandle<(BoxReader, io::Result<Bytes>)>>,
}

type BoxReader = Box<dyn Read + Send>;

impl ReaderPieces {
    pub(super) fn new(reader: BoxReader) -> Self {
        Self { reading: Some(read_piece(reader)) }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Some(reading) = self.reading.as_mut() else { return Poll::Ready(None) };
        let finished = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(match finished {
            Ok((_, Ok(piece))) if piece.is_empty() => None,
            Ok((reader, Ok(piece))) => {
                self.reading = Some(read_piece(reader));
                Some(Ok(piece))
            }
            Ok((_, Err(error))) => Some(Err(error)),
            Err(error) => Some(Err(error.into())),
        })
    }
}

fn read_piece(mut reader: BoxReader) -> JoinHandle<(BoxReader, io::Result<Bytes>)> {
    tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; PIECE];
        let read = loop {
            match reader.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let read = read.map(|read| {
            piece.truncate(read);
            Bytes::from(piece)
        });
        (reader, read)
    })
}

/// A file from a place on; several may read one file, each at a place of its own.
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

/// Feeds a borrowed buffer to attempts at sending it, which own what they send: a few pieces are copied at a time, never the
/// whole.
pub(super) struct Feeder<'a> {
    body: &'a [u8],
    attempts: mpsc::UnboundedReceiver<mpsc::Sender<Bytes>>,
}

/// Asks a [`Feeder`] to begin anew.
pub(super) type FeederHandle = mpsc::UnboundedSender<mpsc::Sender<Bytes>>;

impl<'a> Feeder<'a> {
    pub(super) fn new(body: &'a [u8]) -> (Self, FeederHandle) {
        let (handle, attempts) = mpsc::unbounded_channel();
        (Self { body, attempts }, handle)
    }

    /// The pieces of a new attempt, from the first byte on.
    pub(super) fn begin(handle: &FeederHandle) -> Pieces {
        let (sender, pieces) = mpsc::channel(2);
        // Without a feeder nobody sends, and the attempt finds its body cut short.
        let _ = handle.send(sender);
        Pieces::Lent(pieces)
    }

    /// Feeds one attempt after the other until there can be no more.
    pub(super) async fn run(mut self) {
        let mut next = self.attempts.recv().await;
        while let Some(sender) = next {
            next = None;
            for piece in self.body.chunks(PIECE) {
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
                        Ok(permit) => permit.send(Bytes::copy_from_slice(piece)),
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

    async fn all(mut pieces: Pieces) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().await {
            all.extend_from_slice(&piece.unwrap());
        }
        all
    }

    #[tokio::test]
    async fn a_reader_gives_all_its_bytes_in_order() {
        let bytes: Vec<u8> = (0..PIECE as u32).flat_map(u32::to_le_bytes).collect();
        let reader = ReaderPieces::new(Box::new(io::Cursor::new(bytes.clone())));
        assert!(all(Pieces::Reader(reader)).await == bytes);
    }

    #[tokio::test]
    async fn a_lent_buffer_begins_anew_for_each_attempt() {
        let bytes: Vec<u8> = (0..PIECE as u32).flat_map(u32::to_le_bytes).collect();
        let (feeder, handle) = Feeder::new(&bytes);
        let attempts = async {
            let handle = handle;
            let mut first = Feeder::begin(&handle);
            assert!(first.next().await.unwrap().unwrap() == bytes[..PIECE]);
            drop(first);
            assert!(all(Feeder::begin(&handle)).await == bytes);
            let abandoned = Feeder::begin(&handle);
            assert!(all(Feeder::begin(&handle)).await == bytes);
            drop(abandoned);
        };
        tokio::join!(feeder.run(), attempts);
    }

    #[tokio::test]
    async fn a_file_is_read_from_the_same_place_by_each_attempt() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"head and body").unwrap();
        let file = Arc::new(Mutex::new(file));
        for _ in 0..2 {
            let from = FileFrom { file: file.clone(), place: 5 };
            assert_eq!(all(Pieces::Reader(ReaderPieces::new(Box::new(from)))).await, b"and body");
        }
    }
}
