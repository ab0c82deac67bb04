//! As much of the protobuf wire format as this protocol uses, borrowed and without allocation.
//!
//! Reading follows the reference implementations: unknown fields are skipped, groups are skipped whole, the last value
//! of a field that is not repeated wins, integers are truncated to their field's width. A known field with a foreign
//! wire type is refused, as `prost` does.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

use crate::{DecodeError, EncodeError, error::ProtobufFault};

/// Groups may nest this deep; protobuf's own default.
const MAX_DEPTH: u32 = 100;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

/// A cursor over one message.
///
/// Invariant: `pos <= bytes.len()`. `base` is where `bytes` starts in what the caller decodes, so that errors can say
/// where they are; it never takes part in a bounds check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
    base: usize,
    depth: u32,
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
    /// Where the value starts; for a length-delimited field, its first byte after the length.
    pub(crate) offset: usize,
}

/// A field's value, as far as the wire format knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// A 64-bit value or a group: this protocol has no field of either kind.
    Skipped,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which start at `base`.
    pub(crate) const fn new(bytes: &'a [u8], base: usize) -> Self {
        Self { bytes, pos: 0, base, depth: MAX_DEPTH }
    }

    /// Reads a message inside a message: one level less of groups may follow.
    const fn nested(bytes: &'a [u8], base: usize) -> Self {
        Self { bytes, pos: 0, base, depth: MAX_DEPTH - 1 }
    }

    /// The next field, or `None` at the end of the message.
    // Inlined by hand, here and below: it halves the time for a frame's metadata, which is what routing costs.
    #[inline(always)]
    pub(crate) fn field(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.pos == self.bytes.len() {
            return Ok(None);
        }
        let (number, wire_type) = self.key()?;
        let start = self.offset();
        let (value, offset) = match wire_type {
            VARINT => (Value::Varint(self.varint()?), start),
            FIXED32 => {
                let bytes = self.take(4)?;
                (Value::Fixed32(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])), start)
            }
            LENGTH => {
                let bytes = self.length_delimited()?;
                (Value::Bytes(bytes), self.offset() - bytes.len())
            }
            _ => {
                self.skip(number, wire_type, self.depth)?;
                (Value::Skipped, start)
            }
        };
        Ok(Some(Field { number, value, offset }))
    }

    /// Like [`Self::field`] for a message that was already read to its end once: a fault cannot occur, so it ends the
    /// iteration instead.
    pub(crate) fn field_again(&mut self) -> Option<Field<'a>> {
        self.field().ok().flatten()
    }

    /// What has not been read.
    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.pos..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pos == self.bytes.len()
    }

    /// A base-128 integer of at most 64 bits.
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        // Nearly all keys and lengths take one byte.
        match self.bytes.get(self.pos) {
            Some(&byte) if byte < 0x80 => {
                self.pos += 1;
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.offset();
        let mut value = 0;
        for (index, &byte) in self.bytes[self.pos..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte holds bit 63 alone.
                if index == 9 && byte > 1 {
                    break;
                }
                self.pos += index + 1;
                return Ok(value);
            }
        }
        Err(fault(ProtobufFault::Varint, start))
    }

    fn offset(&self) -> usize {
        self.base.saturating_add(self.pos)
    }

    #[inline(always)]
    fn key(&mut self) -> Result<(u32, u8), DecodeError> {
        let start = self.offset();
        let key = u32::try_from(self.varint()?).map_err(|_| fault(ProtobufFault::Key, start))?;
        let (number, wire_type) = (key >> 3, (key & 7) as u8);
        if wire_type > FIXED32 {
            return Err(fault(ProtobufFault::WireType, start));
        }
        if number == 0 {
            return Err(fault(ProtobufFault::Key, start));
        }
        Ok((number, wire_type))
    }

    #[inline(always)]
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.pos..];
        let Some(taken) = rest.get(..len) else {
            return Err(fault(ProtobufFault::Length, self.offset()));
        };
        self.pos += len;
        Ok(taken)
    }

    #[inline(always)]
    fn length_delimited(&mut self) -> Result<&'a [u8], DecodeError> {
        // A length beyond this machine's memory is beyond the message too, and told of at the same place everywhere.
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        self.take(len)
    }

    #[inline(never)]
    fn skip(&mut self, number: u32, wire_type: u8, depth: u32) -> Result<(), DecodeError> {
        if depth == 0 {
            return Err(fault(ProtobufFault::Depth, self.offset()));
        }
        match wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            LENGTH => self.length_delimited().map(drop),
            FIXED32 => self.take(4).map(drop),
            START_GROUP => loop {
                let start = self.offset();
                match self.key()? {
                    (inner, END_GROUP) if inner == number => return Ok(()),
                    (_, END_GROUP) => return Err(fault(ProtobufFault::Group, start)),
                    (inner, wire_type) => self.skip(inner, wire_type, depth - 1)?,
                }
            },
            _ => Err(fault(ProtobufFault::Group, self.offset())),
        }
    }
}

impl<'a> Field<'a> {
    /// The value of a `uint32` field.
    pub(crate) fn uint32(&self) -> Result<u32, DecodeError> {
        // Protobuf truncates: the upper half of a longer varint is not an error.
        self.varint().map(|value| value as u32)
    }

    /// The number of an enum field.
    pub(crate) fn enumeration(&self) -> Result<i32, DecodeError> {
        self.varint().map(|value| value as i32)
    }

    /// The value of a `float` field.
    pub(crate) fn float(&self) -> Result<f32, DecodeError> {
        match self.value {
            Value::Fixed32(bits) => Ok(f32::from_bits(bits)),
            _ => Err(fault(ProtobufFault::WireType, self.offset)),
        }
    }

    /// The value of a `bytes` field.
    pub(crate) fn bytes(&self) -> Result<&'a [u8], DecodeError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(fault(ProtobufFault::WireType, self.offset)),
        }
    }

    /// The value of a `string` field called `name`.
    pub(crate) fn string(&self, name: &'static str) -> Result<&'a str, DecodeError> {
        core::str::from_utf8(self.bytes()?).map_err(|error| DecodeError::BadUtf8 {
            field: name,
            offset: self.offset.saturating_add(error.valid_up_to()),
        })
    }

    /// The value of a message field.
    pub(crate) fn message(&self) -> Result<Reader<'a>, DecodeError> {
        Ok(Reader::nested(self.bytes()?, self.offset))
    }

    /// The elements of a `repeated uint32` field, packed or not.
    pub(crate) fn repeated_uint32(&self) -> Result<Uint32s<'a>, DecodeError> {
        match self.value {
            Value::Varint(value) => Ok(Uint32s::One(Some(value as u32))),
            Value::Bytes(bytes) => Ok(Uint32s::Packed(Reader::new(bytes, self.offset))),
            _ => Err(fault(ProtobufFault::WireType, self.offset)),
        }
    }

    fn varint(&self) -> Result<u64, DecodeError> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(fault(ProtobufFault::WireType, self.offset)),
        }
    }
}

/// The elements in one occurrence of a `repeated uint32` field.
#[derive(Debug, Clone)]
pub(crate) enum Uint32s<'a> {
    One(Option<u32>),
    Packed(Reader<'a>),
}

impl Iterator for Uint32s<'_> {
    type Item = Result<u32, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(value) => value.take().map(Ok),
            Self::Packed(reader) if reader.is_empty() => None,
            Self::Packed(reader) => Some(reader.varint().map(|value| value as u32)),
        }
    }
}

const fn fault(fault: ProtobufFault, offset: usize) -> DecodeError {
    DecodeError::Protobuf { fault, offset }
}

/// Where written bytes go: a buffer, or nowhere when only their number is wanted.
///
/// One encoder serves both, so a computed length cannot differ from what is written.
pub(crate) struct Writer<'b> {
    out: Option<&'b mut [u8]>,
    len: usize,
}

impl<'b> Writer<'b> {
    /// Writes into `out`.
    pub(crate) const fn new(out: &'b mut [u8]) -> Self {
        Self { out: Some(out), len: 0 }
    }

    /// Counts only.
    pub(crate) const fn counting() -> Self {
        Self { out: None, len: 0 }
    }

    /// How many bytes were written, or would have been.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Appends `bytes`. What does not fit is only counted; [`Self::finish`] reports it.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(target) = self.out.as_deref_mut().and_then(|out| out.get_mut(self.len..end)) {
            target.copy_from_slice(bytes);
        }
        self.len = end;
    }

    /// The number of bytes written.
    ///
    /// # Errors
    ///
    /// [`EncodeError::BufferTooSmall`] where they did not all fit.
    pub(crate) fn finish(self) -> Result<usize, EncodeError> {
        match self.out {
            Some(out) if out.len() < self.len => {
                Err(EncodeError::BufferTooSmall { needed: self.len, got: out.len() })
            }
            _ => Ok(self.len),
        }
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.raw(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.raw(&[value as u8]);
    }

    fn key(&mut self, number: u32, wire_type: u8) {
        self.varint((u64::from(number) << 3) | u64::from(wire_type));
    }

    /// A `uint32` field without presence: zero is left out.
    pub(crate) fn uint32(&mut self, number: u32, value: u32) {
        self.optional_uint32(number, Some(value).filter(|&value| value != 0));
    }

    /// A `uint32` field with presence: zero is written too.
    pub(crate) fn optional_uint32(&mut self, number: u32, value: Option<u32>) {
        if let Some(value) = value {
            self.key(number, VARINT);
            self.varint(u64::from(value));
        }
    }

    /// An enum field: zero is left out, negative numbers take ten bytes.
    pub(crate) fn enumeration(&mut self, number: u32, value: i32) {
        if value != 0 {
            self.key(number, VARINT);
            self.varint(i64::from(value) as u64);
        }
    }

    /// A `float` field without presence: positive zero is left out.
    pub(crate) fn float(&mut self, number: u32, value: f32) {
        if value.to_bits() != 0 {
            self.key(number, FIXED32);
            self.raw(&value.to_le_bytes());
        }
    }

    /// A `bytes` or `string` field without presence: empty is left out.
    pub(crate) fn bytes(&mut self, number: u32, value: &[u8]) {
        if !value.is_empty() {
            self.delimited(number, value.len());
            self.raw(value);
        }
    }

    /// The key and length of a field whose `len` bytes follow.
    pub(crate) fn delimited(&mut self, number: u32, len: usize) {
        self.key(number, LENGTH);
        self.varint(len as u64);
    }

    /// A `repeated uint32` field, packed: no elements are left out entirely.
    pub(crate) fn packed_uint32(&mut self, number: u32, values: impl Iterator<Item = u32> + Clone) {
        let len: usize = values.clone().map(|value| varint_len(u64::from(value))).sum();
        if len > 0 {
            self.delimited(number, len);
            values.for_each(|value| self.varint(u64::from(value)));
        }
    }

    /// One entry of a `map<string, string>` field. Both halves are written even when empty, as the peers do.
    pub(crate) fn map_entry(&mut self, number: u32, key: &str, value: &str) {
        self.map_entry_head(number, key, value.len());
        self.raw(value.as_bytes());
    }

    /// One entry of a `map<string, string>` field whose value is so many spaces.
    pub(crate) fn map_entry_of_spaces(&mut self, number: u32, key: &str, spaces: usize) {
        self.map_entry_head(number, key, spaces);
        let some = [b' '; 64];
        for start in (0..spaces).step_by(some.len()) {
            self.raw(&some[..some.len().min(spaces - start)]);
        }
    }

    fn map_entry_head(&mut self, number: u32, key: &str, value_len: usize) {
        self.delimited(number, delimited_len(1, key.len()) + delimited_len(2, value_len));
        self.delimited(1, key.len());
        self.raw(key.as_bytes());
        self.delimited(2, value_len);
    }
}

/// Bytes of a length-delimited field of `len` bytes, key and length included.
pub(crate) const fn delimited_len(number: u32, len: usize) -> usize {
    varint_len((number as u64) << 3) + varint_len(len as u64) + len
}

/// Bytes of one entry of a `map<string, string>` field, key and length included.
pub(crate) const fn map_entry_len(number: u32, key_len: usize, value_len: usize) -> usize {
    delimited_len(number, delimited_len(1, key_len) + delimited_len(2, value_len))
}

/// Bytes that `value` takes as a varint, 1 to 10.
pub(crate) const fn varint_len(value: u64) -> usize {
    // One byte for every 7 bits begun; zero still takes one.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> Result<usize, DecodeError> {
        let mut reader = Reader::new(bytes, 0);
        let mut fields = 0;
        while reader.field()?.is_some() {
            fields += 1;
        }
        Ok(fields)
    }

    fn fault_of(bytes: &[u8]) -> ProtobufFault {
        match read_all(bytes) {
            Err(DecodeError::Protobuf { fault, .. }) => fault,
            other => panic!("expected a protobuf fault, got {other:?}"),
        }
    }

    #[test]
    fn varints_round_trip_at_every_length() {
        for shift in 0..64 {
            for value in [1 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut buffer = [0; 10];
                let mut writer = Writer::new(&mut buffer);
                writer.varint(value);
                let len = writer.finish().unwrap();
                assert_eq!(len, varint_len(value), "{value}");
                assert_eq!(Reader::new(&buffer[..len], 0).varint(), Ok(value));
            }
        }
    }

    #[test]
    fn varints_past_64_bits_or_past_the_end_are_refused() {
        assert_eq!(fault_of(&[0x08, 0x80]), ProtobufFault::Varint);
        assert_eq!(fault_of(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), ProtobufFault::Varint);
        assert_eq!(fault_of(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), ProtobufFault::Varint);
        assert_eq!(read_all(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Ok(1));
    }

    #[test]
    fn keys_of_zero_or_past_32_bits_are_refused() {
        assert_eq!(fault_of(&[0x00, 0x00]), ProtobufFault::Key);
        assert_eq!(fault_of(b"\x80\x80\x80\x80\x10\x00"), ProtobufFault::Key);
        assert_eq!(fault_of(&[0x0e]), ProtobufFault::WireType);
        assert_eq!(fault_of(&[0x0f]), ProtobufFault::WireType);
    }

    #[test]
    fn lengths_past_the_end_are_refused_where_they_stand() {
        assert_eq!(
            read_all(&[0x08, 0x01, 0x12, 0x05, 0x61]),
            Err(DecodeError::Protobuf { fault: ProtobufFault::Length, offset: 4 })
        );
        assert_eq!(fault_of(&[0x0d, 1, 2, 3]), ProtobufFault::Length);
        assert_eq!(fault_of(&[0x09, 1, 2, 3, 4, 5, 6, 7]), ProtobufFault::Length);
    }

    #[test]
    fn unknown_groups_are_skipped_whole() {
        // Group 20 holds field 1 and group 21, which is empty.
        assert_eq!(read_all(b"\xa3\x01\x08\x01\xab\x01\xac\x01\xa4\x01\x08\x01"), Ok(2));
        assert_eq!(fault_of(b"\xa3\x01\xac\x01"), ProtobufFault::Group);
        assert_eq!(fault_of(b"\xa4\x01"), ProtobufFault::Group);
        assert_eq!(fault_of(b"\xa3\x01"), ProtobufFault::Varint);
    }

    #[test]
    fn groups_nest_a_hundred_deep_and_no_deeper() {
        for (depth, fits) in [(100, true), (101, false)] {
            let mut bytes = [0x0b; 202];
            bytes[depth..2 * depth].fill(0x0c);
            assert_eq!(read_all(&bytes[..2 * depth]).is_ok(), fits, "{depth}");
        }
    }

    #[test]
    fn a_full_buffer_reports_what_was_needed() {
        let mut buffer = [0; 3];
        let mut writer = Writer::new(&mut buffer);
        writer.bytes(1, b"four");
        assert_eq!(writer.finish(), Err(EncodeError::BufferTooSmall { needed: 6, got: 3 }));
    }
}
