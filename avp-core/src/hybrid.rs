//! Hybrid bodies (dialect 0.2): latent and text chunks, each with a confidence.
//!
//! The body is a protobuf message: `chunks` (field 1, repeated), each with `chunk_type` (1), `data` (2) and
//! `confidence` (3).

use crate::{
    DecodeError, EncodeError,
    protobuf::{Reader, Writer, delimited_len},
};

const CHUNKS: u32 = 1;
const CHUNK_TYPE: u32 = 1;
const DATA: u32 = 2;
const CONFIDENCE: u32 = 3;

/// A hybrid body, borrowed.
///
/// # Examples
///
/// ```
/// use avp_core::{Chunk, Hybrid, hybrid::encode_into};
///
/// let mut buffer = [0; 64];
/// let len = encode_into(&[Chunk::latent(b"tensor", 1.0), Chunk::text("a summary", 0.5)], &mut buffer)?;
/// let hybrid = Hybrid::decode(&buffer[..len])?;
/// assert_eq!((hybrid.latent(), hybrid.text()), (Some(&b"tensor"[..]), Some("a summary")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Hybrid<'a> {
    wire: &'a [u8],
    latent: Option<&'a [u8]>,
    text: Option<&'a str>,
}

impl<'a> Hybrid<'a> {
    /// Reads a hybrid body. Chunks of an unknown kind are kept.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Protobuf`], or [`DecodeError::BadUtf8`] for a text chunk that is not UTF-8.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut hybrid = Self { wire: body, latent: None, text: None };
        let mut reader = Reader::new(body, 0);
        while let Some(field) = reader.field()? {
            if field.number != CHUNKS {
                continue;
            }
            let (chunk, offset) = read_chunk(field.message()?)?;
            // The last chunk of a kind counts, as in the Python package.
            match chunk.kind {
                ChunkKind::Latent => hybrid.latent = Some(chunk.data),
                ChunkKind::Text => hybrid.text = Some(text(chunk.data, offset)?),
                ChunkKind::Other(_) => {}
            }
        }
        Ok(hybrid)
    }

    /// The tensor bytes: the last latent chunk.
    #[must_use]
    pub const fn latent(&self) -> Option<&'a [u8]> {
        self.latent
    }

    /// The text: the last text chunk.
    #[must_use]
    pub const fn text(&self) -> Option<&'a str> {
        self.text
    }

    /// Every chunk, in wire order.
    #[must_use]
    pub fn chunks(&self) -> Chunks<'a> {
        Chunks { fields: Reader::new(self.wire, 0) }
    }
}

/// One chunk of a hybrid body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chunk<'a> {
    /// The kind of data.
    pub kind: ChunkKind,
    /// Tensor bytes, or UTF-8 text.
    pub data: &'a [u8],
    /// The sender's confidence, 0 to 1; 0 if it gave none.
    pub confidence: f32,
}

impl<'a> Chunk<'a> {
    /// A chunk of tensor bytes.
    #[must_use]
    pub const fn latent(data: &'a [u8], confidence: f32) -> Self {
        Self { kind: ChunkKind::Latent, data, confidence }
    }

    /// A chunk of text.
    #[must_use]
    pub const fn text(text: &'a str, confidence: f32) -> Self {
        Self { kind: ChunkKind::Text, data: text.as_bytes(), confidence }
    }
}

/// The kind of a [`Chunk`]'s data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    /// UTF-8 text, wire value 0.
    Text,
    /// Tensor bytes, wire value 1.
    Latent,
    /// A kind unknown to this crate, kept unchanged.
    Other(i32),
}

impl ChunkKind {
    const fn from_wire(value: i32) -> Self {
        match value {
            0 => Self::Text,
            1 => Self::Latent,
            other => Self::Other(other),
        }
    }

    const fn to_wire(self) -> i32 {
        match self {
            Self::Text => 0,
            Self::Latent => 1,
            Self::Other(other) => other,
        }
    }
}

/// Iterator over [`Hybrid::chunks`].
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    fields: Reader<'a>,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        loop {
            let field = self.fields.field_again()?;
            if field.number == CHUNKS {
                return read_chunk(field.message().ok()?).ok().map(|(chunk, _)| chunk);
            }
        }
    }
}

/// Length in bytes of a hybrid body with these chunks.
#[must_use]
pub fn encoded_len(chunks: &[Chunk<'_>]) -> usize {
    let mut counter = Writer::counting();
    write(chunks, &mut counter);
    counter.len()
}

/// Writes a hybrid body to the start of `out` and returns its length in bytes.
///
/// # Errors
///
/// [`EncodeError::BufferTooSmall`].
pub fn encode_into(chunks: &[Chunk<'_>], out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = Writer::new(out);
    write(chunks, &mut writer);
    writer.finish()
}

/// A hybrid body with these chunks.
///
/// Only available when `alloc` is enabled.
#[cfg(feature = "alloc")]
#[must_use]
pub fn encode(chunks: &[Chunk<'_>]) -> alloc::vec::Vec<u8> {
    let mut body = alloc::vec![0; encoded_len(chunks)];
    write(chunks, &mut Writer::new(&mut body));
    body
}

fn write(chunks: &[Chunk<'_>], writer: &mut Writer<'_>) {
    for chunk in chunks {
        let mut counter = Writer::counting();
        // The data is long, and its length is known without walking it.
        write_chunk(&Chunk { data: &[], ..*chunk }, &mut counter);
        let data_len = match chunk.data.len() {
            0 => 0,
            len => delimited_len(DATA, len),
        };
        writer.delimited(CHUNKS, counter.len() + data_len);
        write_chunk(chunk, writer);
    }
}

fn write_chunk(chunk: &Chunk<'_>, writer: &mut Writer<'_>) {
    writer.enumeration(CHUNK_TYPE, chunk.kind.to_wire());
    writer.bytes(DATA, chunk.data);
    writer.float(CONFIDENCE, chunk.confidence);
}

/// The chunk and the offset of its data.
fn read_chunk(mut reader: Reader<'_>) -> Result<(Chunk<'_>, usize), DecodeError> {
    let mut chunk = Chunk { kind: ChunkKind::Text, data: &[], confidence: 0.0 };
    let mut data_offset = 0;
    while let Some(field) = reader.field()? {
        match field.number {
            CHUNK_TYPE => chunk.kind = ChunkKind::from_wire(field.enumeration()?),
            DATA => (chunk.data, data_offset) = (field.bytes()?, field.offset),
            CONFIDENCE => chunk.confidence = field.float()?,
            _ => {}
        }
    }
    Ok((chunk, data_offset))
}

fn text(data: &[u8], offset: usize) -> Result<&str, DecodeError> {
    core::str::from_utf8(data)
        .map_err(|error| DecodeError::BadUtf8 { field: "text chunk", offset: offset + error.valid_up_to() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_round_trip_in_order_unknown_kinds_included() {
        let chunks = [
            Chunk::latent(b"\x01\x02\x03", 0.75),
            Chunk { kind: ChunkKind::Other(7), data: b"?", confidence: -0.0 },
            Chunk::text("", 0.0),
            Chunk::text("résumé", 1.0),
            Chunk { kind: ChunkKind::Other(-1), data: b"", confidence: 0.0 },
        ];
        let mut buffer = [0; 128];
        let len = encode_into(&chunks, &mut buffer).unwrap();
        assert_eq!(len, encoded_len(&chunks));
        let hybrid = Hybrid::decode(&buffer[..len]).unwrap();
        assert!(hybrid.chunks().eq(chunks));
        assert_eq!((hybrid.latent(), hybrid.text()), (Some(&[1, 2, 3][..]), Some("résumé")));
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_where_it_starts_to_be_bad() {
        assert_eq!(
            Hybrid::decode(b"\x0a\x05\x12\x03ab\xff").unwrap_err(),
            DecodeError::BadUtf8 { field: "text chunk", offset: 6 }
        );
        // The same bytes as a latent chunk are only bytes.
        assert!(Hybrid::decode(b"\x0a\x07\x08\x01\x12\x03ab\xff").is_ok());
    }

    #[test]
    fn an_empty_body_has_no_chunks() {
        let hybrid = Hybrid::decode(b"").unwrap();
        assert_eq!((hybrid.latent(), hybrid.text(), hybrid.chunks().count()), (None, None, 0));
    }
}
