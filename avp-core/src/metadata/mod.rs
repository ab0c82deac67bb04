//! Frame metadata: one struct for reading and writing. The schema is `proto/avp.proto`.
//!
//! [`Metadata`] borrows from the decoded frame or from the writer. Decoding walks the protobuf message once, checks every
//! field and copies nothing; the two lists are iterated on the wire.

mod extra;
mod shape;

pub use {
    extra::{Extra, ExtraIter},
    shape::{TensorShape, TensorShapeIter},
};

pub(crate) use extra::Padding;

use crate::{
    DType, DecodeError, Dialect, Mode, PayloadType,
    protobuf::{Reader, Writer},
};

/// A frame's metadata.
///
/// # Examples
///
/// ```
/// use avp_core::{Metadata, PayloadType};
///
/// let metadata = Metadata { session_id: "s1", payload_type: PayloadType::KvCache, ..Metadata::default() };
/// let answer = Metadata { source_agent_id: "b", target_agent_id: "a", ..metadata };
/// assert_eq!(answer.session_id, "s1");
/// ```
///
/// Absent text is `""` and absent numbers are 0: the protocol does not tell the two apart, except where a field is an
/// `Option`. The metadata of a decoded frame can be written again, unchanged or with some fields replaced; the names of
/// dialect 0.1 are only read.
///
/// With `serde`, it serializes under the names of the schema. Deserializing borrows text and refuses
/// [`tensor_shape`](Self::tensor_shape) and [`extra`](Self::extra), which need a slice to borrow from: take them out
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Metadata<'a> {
    /// The session of the frame.
    pub session_id: &'a str,
    /// The sender.
    pub source_agent_id: &'a str,
    /// The receiver.
    pub target_agent_id: &'a str,
    /// The model that computed the tensors.
    pub model_id: &'a str,
    /// Width of the model's hidden states.
    pub hidden_dim: u32,
    /// Number of the model's layers.
    pub num_layers: u32,
    /// Kind of tensor in the body.
    pub payload_type: PayloadType,
    /// Number format of the tensor. For a KV-cache the body's own header is authoritative: avp 0.2 writes `float32` here
    /// for every cache.
    pub dtype: DType,
    /// Shape of the tensor, outermost axis first.
    #[cfg_attr(feature = "serde", serde(skip_deserializing))]
    pub tensor_shape: TensorShape<'a>,
    /// Communication mode; [`Mode::Hybrid`] needs dialect 0.2.
    pub mode: Mode,
    /// Id of the projection map that the tensors went through; `""` for none.
    pub avp_map_id: &'a str,
    /// Free key/value pairs.
    #[cfg_attr(feature = "serde", serde(skip_deserializing))]
    pub extra: Extra<'a>,
    /// Confidence of a 0.2 frame, 0 to 1. `None` in dialect 0.3, which reserves the field, and in frames that fit both
    /// dialects and carry none.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize_exactly"))]
    pub confidence_score: Option<f32>,
    /// CRC-32 of the uncompressed body, if the frame carries one. Not taken when writing: an encoder computes its own.
    pub payload_checksum: Option<u32>,
    /// Dialect 0.1's name for the hidden width (field 100). Read only.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_zero"))]
    pub embedding_dim: u32,
    /// Dialect 0.1's name for the number format (field 101), as text. Read only.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "str::is_empty"))]
    pub data_type: &'a str,
    /// Dialect 0.1's name for the sender (field 102). Read only.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub agent_id: Option<&'a str>,
    /// Dialect 0.1's task id (field 103). Read only.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub task_id: Option<&'a str>,
}

/// Calls the macro `$with` with each field of [`Metadata`] and its kind, in the order of the struct. The JavaScript packages
/// pass a frame's fields by it.
#[doc(hidden)]
#[macro_export]
macro_rules! metadata_fields {
    ($with:ident) => {
        $with! {
            session_id: text,
            source_agent_id: text,
            target_agent_id: text,
            model_id: text,
            hidden_dim: number,
            num_layers: number,
            payload_type: name,
            dtype: name,
            tensor_shape: shape,
            mode: name,
            avp_map_id: text,
            extra: extra,
            confidence_score: score,
            payload_checksum: optional_number,
            embedding_dim: number,
            data_type: text,
            agent_id: optional_text,
            task_id: optional_text,
        }
    };
}

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

/// Metadata as it was read, before a dialect gives its enum numbers a meaning.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Undecided<'a> {
    /// Everything but the enums, which are at their defaults.
    pub(crate) metadata: Metadata<'a>,
    pub(crate) payload_type: EnumNumber,
    pub(crate) dtype: EnumNumber,
    pub(crate) mode: EnumNumber,
    pub(crate) compression: Option<Located<'a>>,
}

/// An enum's number and its offset.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EnumNumber {
    pub(crate) value: i32,
    pub(crate) offset: usize,
}

/// A text and its offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located<'a> {
    pub(crate) text: &'a str,
    pub(crate) offset: usize,
}

impl<'a> Undecided<'a> {
    /// Reads the whole message `wire`, which starts at `base` in the frame.
    ///
    /// Reading the same bytes again cannot fail afterwards: [`TensorShape`] and [`Extra`] rely on it.
    #[inline]
    pub(crate) fn decode(wire: &'a [u8], base: usize) -> Result<Self, DecodeError> {
        let mut read = Self::default();
        let metadata = &mut read.metadata;
        // From the first field of a list on: most frames have few other fields behind it.
        let mut lists: &[u8] = &[];
        let mut reader = Reader::new(wire, base);
        loop {
            let rest = reader.rest();
            let Some(field) = reader.field()? else { break };
            let number = || field.enumeration().map(|value| EnumNumber { value, offset: field.offset });
            match field.number {
                field::SESSION_ID => metadata.session_id = field.string("session_id")?,
                field::SOURCE_AGENT_ID => metadata.source_agent_id = field.string("source_agent_id")?,
                field::TARGET_AGENT_ID => metadata.target_agent_id = field.string("target_agent_id")?,
                field::MODEL_ID => metadata.model_id = field.string("model_id")?,
                field::HIDDEN_DIM => metadata.hidden_dim = field.uint32()?,
                field::NUM_LAYERS => metadata.num_layers = field.uint32()?,
                field::PAYLOAD_TYPE => read.payload_type = number()?,
                field::DTYPE => read.dtype = number()?,
                field::TENSOR_SHAPE => {
                    field.repeated_uint32()?.try_for_each(|value| value.map(drop))?;
                    lists = if lists.is_empty() { rest } else { lists };
                }
                field::MODE => read.mode = number()?,
                field::COMPRESSION => {
                    read.compression =
                        Some(Located { text: field.string("compression")?, offset: field.offset });
                }
                field::CONFIDENCE_SCORE => metadata.confidence_score = Some(field.float()?),
                field::AVP_MAP_ID => metadata.avp_map_id = field.string("avp_map_id")?,
                field::EXTRA => {
                    extra::entry(field.message()?)?;
                    lists = if lists.is_empty() { rest } else { lists };
                }
                field::PAYLOAD_CHECKSUM => metadata.payload_checksum = Some(field.uint32()?),
                field::EMBEDDING_DIM => metadata.embedding_dim = field.uint32()?,
                field::DATA_TYPE => metadata.data_type = field.string("data_type")?,
                field::AGENT_ID => metadata.agent_id = Some(field.string("agent_id")?),
                field::TASK_ID => metadata.task_id = Some(field.string("task_id")?),
                _ => {}
            }
        }
        metadata.tensor_shape = TensorShape::of_checked(lists);
        metadata.extra = Extra::of_checked(lists);
        Ok(read)
    }

    /// Gives the numbers their meaning in `dialect`; `None` where both dialects read them alike.
    #[inline]
    pub(crate) fn resolve(self, dialect: Option<Dialect>) -> Result<Metadata<'a>, DecodeError> {
        let unknown = |field, EnumNumber { value, offset }| DecodeError::UnknownEnum { field, value, offset };
        let mut metadata = self.metadata;
        metadata.payload_type = PayloadType::from_wire(self.payload_type.value)
            .filter(|&payload_type| payload_type != PayloadType::Auto || dialect != Some(Dialect::V0_2))
            .ok_or_else(|| unknown("payload_type", self.payload_type))?;
        metadata.dtype = DType::from_wire(self.dtype.value).ok_or_else(|| unknown("dtype", self.dtype))?;
        metadata.mode = dialect
            .unwrap_or(Dialect::V0_3)
            .mode_from_wire(self.mode.value)
            .ok_or_else(|| unknown("mode", self.mode))?;
        metadata.confidence_score = match dialect {
            Some(Dialect::V0_3) => None,
            Some(Dialect::V0_2) => Some(metadata.confidence_score.unwrap_or_default()),
            None => metadata.confidence_score,
        };
        Ok(metadata)
    }
}

/// The fields of the message that are the encoder's to decide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decided {
    /// The mode's number in the dialect that is written.
    pub(crate) mode: i32,
    pub(crate) is_compressed: bool,
    pub(crate) padding: Padding,
    pub(crate) checksum: Option<u32>,
}

impl Metadata<'_> {
    /// A field or value that `dialect` lacks, by its name in the schema.
    pub(crate) fn lacking_in(&self, dialect: Dialect) -> Option<&'static str> {
        match dialect {
            Dialect::V0_2 if self.payload_type == PayloadType::Auto => Some("payload_type auto"),
            Dialect::V0_3 if self.confidence_score.is_some() => Some("confidence_score"),
            _ => None,
        }
    }

    /// Writes the message: fields in the order of their numbers, defaults left out. That is proto3's canonical form,
    /// which the peers write.
    pub(crate) fn write(&self, decided: Decided, writer: &mut Writer<'_>) {
        writer.bytes(field::SESSION_ID, self.session_id.as_bytes());
        writer.bytes(field::SOURCE_AGENT_ID, self.source_agent_id.as_bytes());
        writer.bytes(field::TARGET_AGENT_ID, self.target_agent_id.as_bytes());
        writer.bytes(field::MODEL_ID, self.model_id.as_bytes());
        writer.uint32(field::HIDDEN_DIM, self.hidden_dim);
        writer.uint32(field::NUM_LAYERS, self.num_layers);
        writer.enumeration(field::PAYLOAD_TYPE, self.payload_type.to_wire());
        writer.enumeration(field::DTYPE, self.dtype.to_wire());
        writer.packed_uint32(field::TENSOR_SHAPE, self.tensor_shape.iter());
        writer.enumeration(field::MODE, decided.mode);
        if decided.is_compressed {
            writer.bytes(field::COMPRESSION, b"zstd");
        }
        writer.float(field::CONFIDENCE_SCORE, self.confidence_score.unwrap_or_default());
        writer.bytes(field::AVP_MAP_ID, self.avp_map_id.as_bytes());
        self.extra.write(decided.padding, writer);
        writer.optional_uint32(field::PAYLOAD_CHECKSUM, decided.checksum);
    }
}

/// Widened, so that other languages read the exact value of the frame.
#[cfg(feature = "serde")]
fn serialize_exactly<S: serde::Serializer>(score: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&score.map(f64::from), serializer)
}

#[cfg(feature = "serde")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(all(test, feature = "alloc", feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn serialized_metadata_reads_back_but_for_its_lists() {
        let metadata = Metadata {
            session_id: "s",
            mode: Mode::Hybrid,
            confidence_score: Some(0.1),
            payload_checksum: Some(7),
            task_id: Some(""),
            ..Metadata::default()
        };
        let given = Metadata {
            tensor_shape: (&[1, 2]).into(),
            extra: (&[("b", "2"), ("a", "1"), ("b", "3")]).into(),
            ..metadata
        };
        let mut json = serde_json::to_value(given).unwrap();
        assert_eq!(json["extra"], serde_json::json!({"a": "1", "b": "3"}));
        assert_eq!(json["tensor_shape"], serde_json::json!([1, 2]));
        assert_eq!(json["confidence_score"], 0.100_000_001_490_116_12);
        assert!(json.get("agent_id").is_none());
        let object = json.as_object_mut().unwrap();
        assert!(object.remove("extra").is_some() && object.remove("tensor_shape").is_some());
        assert_eq!(<Metadata<'_> as serde::Deserialize>::deserialize(&json).unwrap(), metadata);
    }
}
