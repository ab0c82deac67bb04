//! One kept context.

use std::{
    io::{self, SeekFrom},
    ops::Range,
    path::PathBuf,
};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::{reader::Head, server::Answer};

/// Bytes read from a file at a time.
const PIECE: usize = 256 << 10;

/// Bytes of memory sent at a time.
const SHARED_PIECE: usize = 1 << 20;

/// A frame that has arrived whole and sound.
#[derive(Debug)]
pub struct Kept {
    id: String,
    head: Head,
    /// That of the body as it lies here.
    crc32: u32,
    etag: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Bytes),
    File(PathBuf),
}

impl Kept {
    pub(super) fn in_memory(id: String, head: Head, bytes: Bytes, crc32: u32) -> Self {
        let etag = etag(&head, crc32);
        Self { id, head, crc32, etag, place: Place::Memory(bytes) }
    }

    pub(super) fn in_file(id: String, head: Head, path: PathBuf, crc32: u32) -> Self {
        let etag = etag(&head, crc32);
        Self { id, head, crc32, etag, place: Place::File(path) }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Header and metadata.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Length of the frame, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame has a header")]
    pub const fn len(&self) -> u64 {
        self.head.frame_len()
    }

    /// The entity tag, with its quotes: made of the checksums of head and body, and of the length.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// The CRC-32 of the body as it was on the wire.
    pub(crate) const fn crc32(&self) -> u32 {
        self.crc32
    }

    /// The whole frame. In memory it is shared, from a file it is read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn bytes(&self) -> io::Result<Bytes> {
        match &self.place {
            Place::Memory(bytes) => Ok(bytes.clone()),
            Place::File(path) => Ok(tokio::fs::read(path).await?.into()),
        }
    }

    /// The part `range` of the frame, as an answer's body. `range` lies within the frame.
    pub(crate) async fn body(&self, range: Range<u64>) -> io::Result<Answer> {
        let path = match &self.place {
            // Both ends are at most the length of these bytes.
            Place::Memory(bytes) => {
                return Ok(in_pieces(bytes.slice(range.start as usize..range.end as usize)));
            }
            Place::File(path) => path,
        };
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(SeekFrom::Start(range.start)).await?;
        let pieces = stream::try_unfold((file, range.end - range.start), |(mut file, missing)| async move {
            let mut piece = BytesMut::with_capacity(PIECE.min(missing as usize));
            if missing == 0 {
                return Ok(None);
            }
            let read = (&mut file).take(missing).read_buf(&mut piece).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Some((Frame::data(piece.freeze()), (file, missing - read as u64))))
        });
        Ok(StreamBody::new(pieces).boxed_unsync())
    }

    /// Removes the file, where there is one.
    pub(super) fn discard(&self) {
        if let Place::File(path) = &self.place
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(kind = %error.kind(), "a context's file cannot be removed");
        }
    }
}

/// Bytes as a body of many pieces, none of them copied: between two of them a server sees whether the client still reads.
fn in_pieces(bytes: Bytes) -> Answer {
    let pieces = stream::unfold(bytes, |mut rest| async move {
        let piece = rest.split_to(rest.len().min(SHARED_PIECE));
        (!piece.is_empty()).then_some((Ok(Frame::data(piece)), rest))
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn etag(head: &Head, crc32: u32) -> String {
    format!("\"{:08x}-{crc32:08x}-{:x}\"", avp_core::crc32(head.bytes()), head.frame_len())
}
