//! Frame metadata: a protobuf message, read in place.
//!
//! [`Metadata`] borrows the frame. Reading it walks the message once, checks every field, and remembers where things
//! are; nothing is copied and nothing allocated. The schema is `proto/avp.proto`.

use crate::{
    DType, DecodeError, Dialect, Mode, PayloadType,
    protobuf::{Field, Reader, Uint32s},
};

/// Field numbers of the `Metadata` message.
pub(crate) mod field {
    pub(crate) const SESSION_ID: u32 = 1;
    pub(crate) const SOURCE_AGENT_ID: u32 = 2;
    pub(crate) const TARGET_AGENT_ID: u32 = 3;
    pub(crate) const MODEL_ID: u32 = 4;
    pub(crate) const HIDDEN_DIM: u32 = 5;
    pub(crate) const NUM_LAYERS: u32 = 6;
    pub(crate) const PAYLOAD_TYPE: u32 = 7;
    pub(crate) const DTYPE: u32 = 8;
    pub(crate) const TENSOR_SHAPE: u32 = 9;
    pub(crate) const MODE: u32 = 10;
    pub(crate) const COMPRESSION: u32 = 11;
    pub(crate) const CONFIDENCE_SCORE: u32 = 12;
    pub(crate) const AVP_MAP_ID: u32 = 13;
    pub(crate) const EXTRA: u32 = 14;
    pub(crate) const PAYLOAD_CHECKSUM: u32 = 15;
    pub(crate) const EMBEDDING_DIM: u32 = 100;
    pub(crate) const DATA_TYPE: u32 = 101;
    pub(crate) const AGENT_ID: u32 = 102;
    pub(crate) const TASK_ID: u32 = 103;
}

/// A frame's metadata, borrowed from the frame.
///
/// # Examples
///
/// ```
/// # use avp_core::{Frame, FrameEncoder, MetadataFields};
/// # let fields = MetadataFields { model_id: "Qwen/Qwen2.5-0.5B", extra: &[("num_steps", "8")], ..Default::default() };
/// # let mut buffer = [0; 128];
/// # let len = FrameEncoder::new(fields).encode_into(b"", &mut buffer).unwrap();
/// # let bytes = &buffer[..len];
/// let frame = Frame::decode(bytes).unwrap();
/// assert_eq!(frame.metadata().model_id(), "Qwen/Qwen2.5-0.5B");
/// assert_eq!(frame.metadata().extra_value("num_steps"), Some("8"));
/// ```
///
/// Absent text is `""` and absent numbers are 0: the protocol does not tell the two apart, except where a getter here
/// returns an `Option`.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a> {
    raw: RawMetadata<'a>,
    payload_type: PayloadType,
    dtype: DType,
    mode: Mode,
    dialect: Option<Dialect>,
}

impl<'a> Metadata<'a> {
    /// The message's own bytes.
    #[cfg(feature = "alloc")]
    pub(crate) const fn wire(&self) -> &'a [u8] {
        self.raw.wire
    }

    /// The session this frame belongs to.
    #[must_use]
    pub const fn session_id(&self) -> &'a str {
        self.raw.session_id
    }

    /// The agent that sent the frame.
    #[must_use]
    pub const fn source_agent_id(&self) -> &'a str {
        self.raw.source_agent_id
    }

    /// The agent that the frame is for.
    #[must_use]
    pub const fn target_agent_id(&self) -> &'a str {
        self.raw.target_agent_id
    }

    /// The model that computed the tensors.
    #[must_use]
    pub const fn model_id(&self) -> &'a str {
        self.raw.model_id
    }

    /// Width of the model's hidden states.
    #[must_use]
    pub const fn hidden_dim(&self) -> u32 {
        self.raw.hidden_dim
    }

    /// Number of the model's layers.
    #[must_use]
    pub const fn num_layers(&self) -> u32 {
        self.raw.num_layers
    }

    /// What the tensor bytes are.
    #[must_use]
    pub const fn payload_type(&self) -> PayloadType {
        self.payload_type
    }

    /// Number format of the tensor bytes. For a KV-cache the body's own header is authoritative: avp 0.2 says
    /// `float32` here whatever the cache holds.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// How the agents talk.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Shape of the tensor, outermost axis first.
    #[must_use]
    pub fn tensor_shape(&self) -> TensorShape<'a> {
        TensorShape { fields: Reader::new(self.raw.repeated, 0), current: Uint32s::One(None) }
    }

    /// Id of the projection map that the tensors went through; `""` for none.
    #[must_use]
    pub const fn avp_map_id(&self) -> &'a str {
        self.raw.avp_map_id
    }

    /// Confidence of a 0.2 frame, 0 to 1. `None` in dialect 0.3, which reserves the field, and where both dialects fit
    /// and none is given.
    #[must_use]
    pub const fn confidence_score(&self) -> Option<f32> {
        match (self.dialect, self.raw.confidence_score) {
            (Some(Dialect::V0_3), _) | (None, None) => None,
            (Some(Dialect::V0_2), None) => Some(0.0),
            (_, given) => given,
        }
    }

    /// CRC-32 of the uncompressed body, where the sender gave one.
    #[must_use]
    pub const fn payload_checksum(&self) -> Option<u32> {
        self.raw.payload_checksum
    }

    /// The `extra` entries in the order of the wire. Should a key occur twice, the last one counts: see
    /// [`extra_value`](Self::extra_value).
    #[must_use]
    pub fn extra(&self) -> Extra<'a> {
        Extra { fields: Reader::new(self.raw.repeated, 0) }
    }

    /// The value of the `extra` entry called `key`.
    #[must_use]
    pub fn extra_value(&self, key: &str) -> Option<&'a str> {
        self.extra().filter(|(name, _)| *name == key).last().map(|(_, value)| value)
    }

    /// Dialect 0.1's name for the hidden width (field 100).
    #[must_use]
    pub fn embedding_dim(&self) -> u32 {
        self.raw.last(field::EMBEDDING_DIM).and_then(|field| field.uint32().ok()).unwrap_or_default()
    }

    /// Dialect 0.1's name for the number format (field 101), as text.
    #[must_use]
    pub fn data_type(&self) -> &'a str {
        self.raw.last_text(field::DATA_TYPE).unwrap_or_default()
    }

    /// Dialect 0.1's name for the sender (field 102).
    #[must_use]
    pub fn agent_id(&self) -> Option<&'a str> {
        self.raw.last_text(field::AGENT_ID)
    }

    /// Dialect 0.1's task id (field 103).
    #[must_use]
    pub fn task_id(&self) -> Option<&'a str> {
        self.raw.last_text(field::TASK_ID)
    }
}

/// Iterator over [`Metadata::tensor_shape`].
#[derive(Debug, Clone)]
pub struct TensorShape<'a> {
    fields: Reader<'a>,
    current: Uint32s<'a>,
}

impl Iterator for TensorShape<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        // Protobuf may spread one list over several fields.
        loop {
            if let Some(Ok(value)) = self.current.next() {
                return Some(value);
            }
            let field = self.fields.field_again()?;
            if field.number == field::TENSOR_SHAPE {
                self.current = field.repeated_uint32().ok()?;
            }
        }
    }
}

/// Iterator over [`Metadata::extra`]: pairs of key and value.
#[derive(Debug, Clone)]
pub struct Extra<'a> {
    fields: Reader<'a>,
}

impl<'a> Iterator for Extra<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let field = self.fields.field_again()?;
            if field.number == field::EXTRA {
                return map_entry(field.message().ok()?).ok();
            }
        }
    }
}

/// The message as protobuf sees it, before a dialect gives its enum numbers a meaning.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawMetadata<'a> {
    #[cfg(feature = "alloc")]
    pub(crate) wire: &'a [u8],
    /// From the first field on that is read again when it is asked for, tensor shape or extra: most frames have few
    /// others behind it.
    pub(crate) repeated: &'a [u8],
    /// Likewise, from the first field of dialect 0.1 on: hardly a frame has one.
    pub(crate) legacy: &'a [u8],
    pub(crate) session_id: &'a str,
    pub(crate) source_agent_id: &'a str,
    pub(crate) target_agent_id: &'a str,
    pub(crate) model_id: &'a str,
    pub(crate) hidden_dim: u32,
    pub(crate) num_layers: u32,
    pub(crate) payload_type: EnumNumber,
    pub(crate) dtype: EnumNumber,
    pub(crate) mode: EnumNumber,
    pub(crate) compression: Option<Located<'a>>,
    pub(crate) confidence_score: Option<f32>,
    pub(crate) avp_map_id: &'a str,
    pub(crate) payload_checksum: Option<u32>,
}

/// An enum's number and where it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EnumNumber {
    pub(crate) value: i32,
    pub(crate) offset: usize,
}

/// A text and where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located<'a> {
    pub(crate) text: &'a str,
    pub(crate) offset: usize,
}

impl<'a> RawMetadata<'a> {
    /// Reads the whole message `wire`, which starts at `base` in the frame.
    ///
    /// After this, reading the same bytes again cannot fail: [`TensorShape`] and [`Extra`] rely on it.
    #[inline]
    pub(crate) fn decode(wire: &'a [u8], base: usize) -> Result<Self, DecodeError> {
        let mut raw = Self {
            #[cfg(feature = "alloc")]
            wire,
            ..Self::default()
        };
        let mut reader = Reader::new(wire, base);
        loop {
            let rest = reader.rest();
            let Some(field) = reader.field()? else { return Ok(raw) };
            let number = || field.enumeration().map(|value| EnumNumber { value, offset: field.offset });
            match field.number {
                field::SESSION_ID => raw.session_id = field.string("session_id")?,
                field::SOURCE_AGENT_ID => raw.source_agent_id = field.string("source_agent_id")?,
                field::TARGET_AGENT_ID => raw.target_agent_id = field.string("target_agent_id")?,
                field::MODEL_ID => raw.model_id = field.string("model_id")?,
                field::HIDDEN_DIM => raw.hidden_dim = field.uint32()?,
                field::NUM_LAYERS => raw.num_layers = field.uint32()?,
                field::PAYLOAD_TYPE => raw.payload_type = number()?,
                field::DTYPE => raw.dtype = number()?,
                field::TENSOR_SHAPE => {
                    field.repeated_uint32()?.try_for_each(|value| value.map(drop))?;
                    note(&mut raw.repeated, rest);
                }
                field::MODE => raw.mode = number()?,
                field::COMPRESSION => {
                    raw.compression =
                        Some(Located { text: field.string("compression")?, offset: field.offset });
                }
                field::CONFIDENCE_SCORE => raw.confidence_score = Some(field.float()?),
                field::AVP_MAP_ID => raw.avp_map_id = field.string("avp_map_id")?,
                field::EXTRA => {
                    map_entry(field.message()?)?;
                    note(&mut raw.repeated, rest);
                }
                field::PAYLOAD_CHECKSUM => raw.payload_checksum = Some(field.uint32()?),
                field::EMBEDDING_DIM..=field::TASK_ID => {
                    match field.number {
                        field::EMBEDDING_DIM => field.uint32().map(drop)?,
                        field::DATA_TYPE => field.string("data_type").map(drop)?,
                        field::AGENT_ID => field.string("agent_id").map(drop)?,
                        _ => field.string("task_id").map(drop)?,
                    }
                    note(&mut raw.legacy, rest);
                }
                _ => {}
            }
        }
    }

    /// The last field of this number: the one that counts.
    fn last(&self, number: u32) -> Option<Field<'a>> {
        let mut reader = Reader::new(self.legacy, 0);
        core::iter::from_fn(|| reader.field_again()).filter(|field| field.number == number).last()
    }

    fn last_text(&self, number: u32) -> Option<&'a str> {
        self.last(number)?.string("").ok()
    }

    /// Gives the numbers their meaning in `dialect`; `None` where both dialects read them alike.
    #[inline]
    pub(crate) fn resolve(self, dialect: Option<Dialect>) -> Result<Metadata<'a>, DecodeError> {
        let unknown = |field, EnumNumber { value, offset }| DecodeError::UnknownEnum { field, value, offset };
        let payload_type = PayloadType::from_wire(self.payload_type.value)
            .filter(|&payload_type| payload_type != PayloadType::Auto || dialect != Some(Dialect::V0_2))
            .ok_or_else(|| unknown("payload_type", self.payload_type))?;
        let dtype = DType::from_wire(self.dtype.value).ok_or_else(|| unknown("dtype", self.dtype))?;
        let mode = dialect
            .unwrap_or(Dialect::V0_3)
            .mode_from_wire(self.mode.value)
            .ok_or_else(|| unknown("mode", self.mode))?;
        Ok(Metadata { raw: self, payload_type, dtype, mode, dialect })
    }
}

/// Remembers where the first of several fields starts.
fn note<'a>(first: &mut &'a [u8], rest: &'a [u8]) {
    if first.is_empty() {
        *first = rest;
    }
}

/// Key and value of one `map<string, string>` entry; what is missing is empty.
fn map_entry<'a>(mut entry: Reader<'a>) -> Result<(&'a str, &'a str), DecodeError> {
    let (mut key, mut value) = ("", "");
    while let Some(field) = entry.field()? {
        match field.number {
            1 => key = field.string("extra key")?,
            2 => value = field.string("extra value")?,
            _ => {}
        }
    }
    Ok((key, value))
}
