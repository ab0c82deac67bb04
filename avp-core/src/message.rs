//! Frames that own what they hold: metadata as the schema's types, the payload as shared [`Bytes`].

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use bytes::Bytes;
use prost::Message as _;

use crate::{
    Checksum, ContextFields, DEFAULT_PAYLOAD_LIMIT, DType, DecodeError, Dialect, Frame, FrameHead, Header,
    Hybrid, KvView, MetadataFields, Mode, PayloadType, frame, proto,
};

/// A decoded frame that owns its metadata and shares its payload.
///
/// # Examples
///
/// ```
/// # use avp_core::{DecodeOptions, FrameEncoder, Message, MetadataFields};
/// # let frame = FrameEncoder::new(MetadataFields { session_id: "s1", ..Default::default() }).encode(b"tensor").unwrap();
/// let message = Message::decode(frame.into(), &DecodeOptions::default()).unwrap();
/// assert_eq!(message.metadata().session_id(), "s1");
/// assert_eq!(message.payload(), &b"tensor"[..]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    header: Header,
    metadata: OwnedMetadata,
    payload: Bytes,
}

/// How much [`Message::decode`] accepts, and what it checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// The most bytes that the payload may have, unpacked: [`DEFAULT_PAYLOAD_LIMIT`] unless said otherwise.
    pub payload_limit: usize,
    /// Whether a wrong checksum is an error; `true` unless said otherwise. A router that never reads the payload may
    /// leave it to [`Message::verify_checksum`] further on.
    pub verify_checksum: bool,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { payload_limit: DEFAULT_PAYLOAD_LIMIT, verify_checksum: true }
    }
}

impl Message {
    /// Reads `bytes` as exactly one frame. The payload shares `bytes` unless it was compressed.
    ///
    /// # Errors
    ///
    /// Those of [`Frame::decode`] and of unpacking and verifying the payload; [`DecodeError::Compressed`] for a
    /// compressed frame where neither `zstd` nor `zstd-native` is enabled.
    pub fn decode(bytes: Bytes, options: &DecodeOptions) -> Result<Self, DecodeError> {
        let frame = Frame::decode(&bytes)?;
        let unpacked = unpack(&frame, options.payload_limit)?;
        if options.verify_checksum {
            frame.verify_checksum(unpacked.as_deref().unwrap_or(frame.body()))?;
        }
        let (header, metadata) = (frame.header(), OwnedMetadata::from_head(frame.head())?);
        let body = frame.body_offset()..;
        let payload = unpacked.map_or_else(|| bytes.slice(body), Bytes::from);
        Ok(Self { header, metadata, payload })
    }

    /// The header as it came.
    #[must_use]
    pub const fn header(&self) -> Header {
        self.header
    }

    /// The metadata.
    #[must_use]
    pub const fn metadata(&self) -> &OwnedMetadata {
        &self.metadata
    }

    /// The dialect this frame came in, or `None` where both read it the same.
    #[must_use]
    pub const fn dialect(&self) -> Option<Dialect> {
        self.metadata.dialect
    }

    /// The uncompressed body.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The metadata's checksum beside the payload's; `None` where the frame carries none.
    #[must_use]
    pub fn checksum(&self) -> Option<Checksum> {
        let expected = self.metadata.payload_checksum()?;
        Some(Checksum { expected, actual: crate::crc32(&self.payload) })
    }

    /// Checks the payload against the checksum; `Ok` where the frame carries none.
    ///
    /// # Errors
    ///
    /// [`DecodeError::ChecksumMismatch`].
    pub fn verify_checksum(&self) -> Result<(), DecodeError> {
        let offset = Header::LEN + self.header.metadata_len() as usize;
        self.checksum().map_or(Ok(()), |checksum| checksum.check(offset))
    }

    /// The payload as a KV-cache; a hybrid frame's cache is its latent chunk.
    ///
    /// # Errors
    ///
    /// Those of [`Frame::kv_cache`].
    pub fn kv_cache(&self) -> Result<KvView<'_>, DecodeError> {
        frame::kv_cache(self.metadata.payload_type, self.metadata.mode, &self.payload)
    }

    /// The payload as latent and text chunks.
    ///
    /// # Errors
    ///
    /// Those of [`Frame::hybrid`].
    pub fn hybrid(&self) -> Result<Hybrid<'_>, DecodeError> {
        frame::hybrid(self.metadata.mode, &self.payload)
    }

    /// The tensor bytes, shared: the payload, or a hybrid frame's latent chunk.
    ///
    /// # Errors
    ///
    /// Those of [`Hybrid::decode`].
    pub fn tensor(&self) -> Result<Bytes, DecodeError> {
        match self.metadata.mode {
            Mode::Hybrid => {
                Ok(self.hybrid()?.latent().map_or_else(Bytes::new, |data| self.payload.slice_ref(data)))
            }
            Mode::Latent | Mode::Json => Ok(self.payload.clone()),
        }
    }
}

/// A frame's metadata with text of its own; the getters are those of [`Metadata`](crate::Metadata).
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedMetadata {
    wire: proto::Metadata,
    payload_type: PayloadType,
    dtype: DType,
    mode: Mode,
    confidence_score: Option<f32>,
    dialect: Option<Dialect>,
}

impl OwnedMetadata {
    /// What `head` says, with text of its own: for a receiver that keeps it while the body is still on its way.
    ///
    /// # Errors
    ///
    /// None for a head that was read; the type says so because two readers stand behind it.
    pub fn from_head(head: &FrameHead<'_>) -> Result<Self, DecodeError> {
        let view = head.metadata();
        Ok(Self {
            wire: owned_wire(view.wire())?,
            payload_type: view.payload_type(),
            dtype: view.dtype(),
            mode: view.mode(),
            confidence_score: view.confidence_score(),
            dialect: head.dialect(),
        })
    }

    /// The dialect the frame came in, or `None` where both read it the same.
    #[must_use]
    pub const fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// The session this frame belongs to.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.wire.session_id
    }

    /// The agent that sent the frame.
    #[must_use]
    pub fn source_agent_id(&self) -> &str {
        &self.wire.source_agent_id
    }

    /// The agent that the frame is for.
    #[must_use]
    pub fn target_agent_id(&self) -> &str {
        &self.wire.target_agent_id
    }

    /// The model that computed the tensors.
    #[must_use]
    pub fn model_id(&self) -> &str {
        &self.wire.model_id
    }

    /// Width of the model's hidden states.
    #[must_use]
    pub const fn hidden_dim(&self) -> u32 {
        self.wire.hidden_dim
    }

    /// Number of the model's layers.
    #[must_use]
    pub const fn num_layers(&self) -> u32 {
        self.wire.num_layers
    }

    /// What the tensor bytes are.
    #[must_use]
    pub const fn payload_type(&self) -> PayloadType {
        self.payload_type
    }

    /// Number format of the tensor bytes.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Shape of the tensor, outermost axis first.
    #[must_use]
    pub fn tensor_shape(&self) -> &[u32] {
        &self.wire.tensor_shape
    }

    /// How the agents talk.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Confidence of a 0.2 frame, 0 to 1.
    #[must_use]
    pub const fn confidence_score(&self) -> Option<f32> {
        self.confidence_score
    }

    /// Id of the projection map that the tensors went through; `""` for none.
    #[must_use]
    pub fn avp_map_id(&self) -> &str {
        &self.wire.avp_map_id
    }

    /// The `extra` entries by key.
    #[must_use]
    pub const fn extra(&self) -> &BTreeMap<String, String> {
        &self.wire.extra
    }

    /// CRC-32 of the uncompressed body, where the sender gave one.
    #[must_use]
    pub const fn payload_checksum(&self) -> Option<u32> {
        self.wire.payload_checksum
    }

    /// What `extra` says about the context: see [`ContextFields`].
    #[must_use]
    pub fn context(&self) -> ContextFields<'_> {
        ContextFields::from_lookup(|key| self.extra().get(key).map(String::as_str))
    }

    /// Calls `use_fields` with the fields to write a frame with this metadata, checksum apart: to route it on, to
    /// translate it to the other dialect, to answer it.
    pub fn with_fields<R>(&self, use_fields: impl FnOnce(MetadataFields<'_>) -> R) -> R {
        let extra: Vec<(&str, &str)> = self.extra().iter().map(|(key, value)| (&**key, &**value)).collect();
        use_fields(MetadataFields {
            session_id: self.session_id(),
            source_agent_id: self.source_agent_id(),
            target_agent_id: self.target_agent_id(),
            model_id: self.model_id(),
            hidden_dim: self.hidden_dim(),
            num_layers: self.num_layers(),
            payload_type: self.payload_type,
            dtype: self.dtype,
            tensor_shape: self.tensor_shape(),
            mode: self.mode,
            confidence_score: self.confidence_score,
            avp_map_id: self.avp_map_id(),
            extra: &extra,
        })
    }
}

/// The unpacked payload of a compressed frame.
#[cfg(feature = "zstd")]
fn unpack(frame: &Frame<'_>, limit: usize) -> Result<Option<Vec<u8>>, DecodeError> {
    use alloc::borrow::Cow;

    match frame.decompress_unverified(limit)? {
        Cow::Owned(payload) => Ok(Some(payload)),
        Cow::Borrowed(_) => Ok(None),
    }
}

/// The unpacked payload of a compressed frame.
#[cfg(not(feature = "zstd"))]
fn unpack(frame: &Frame<'_>, limit: usize) -> Result<Option<Vec<u8>>, DecodeError> {
    let offset = frame.body_offset();
    match frame.is_compressed() {
        true => Err(DecodeError::Compressed { offset }),
        false if frame.body().len() > limit => Err(DecodeError::DecompressedTooLarge { limit, offset }),
        false => Ok(None),
    }
}

/// `wire`, which the borrowed reader took, as the generated type.
fn owned_wire(wire: &[u8]) -> Result<proto::Metadata, DecodeError> {
    // The two readers agree on all bytes; a test holds them to it. Should one ever refuse what the other took, that is
    // an error in this crate, and still no panic.
    proto::Metadata::decode(wire)
        .map_err(|_| DecodeError::Protobuf { fault: crate::ProtobufFault::WireType, offset: Header::LEN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Chunk, FrameEncoder, hybrid};

    #[test]
    fn the_payload_shares_the_frame() {
        let frame: Bytes = FrameEncoder::new(MetadataFields::default()).encode(b"tensor").unwrap().into();
        let message = Message::decode(frame.clone(), &DecodeOptions::default()).unwrap();
        assert_eq!(message.payload().as_ptr(), frame[frame.len() - 6..].as_ptr());
    }

    #[test]
    fn a_message_written_again_from_its_fields_is_the_same_frame() {
        let body = hybrid::encode(&[Chunk::latent(b"latent", 0.25), Chunk::text("text", 1.0)]);
        let fields = MetadataFields {
            session_id: "s",
            mode: Mode::Hybrid,
            confidence_score: Some(0.5),
            tensor_shape: &[1, 2],
            avp_map_id: "vocab:0123",
            extra: &[("b", "2"), ("a", "1")],
            ..Default::default()
        };
        let frame = FrameEncoder::new(fields).dialect(Dialect::V0_2).encode(&body).unwrap();
        let message = Message::decode(frame.clone().into(), &DecodeOptions::default()).unwrap();
        assert_eq!(message.dialect(), Some(Dialect::V0_2));
        assert_eq!(message.tensor().unwrap(), &b"latent"[..]);
        let again = message
            .metadata()
            .with_fields(|fields| FrameEncoder::new(fields).dialect(Dialect::V0_2).encode(message.payload()));
        assert_eq!(again.unwrap(), frame);
    }

    #[test]
    fn verifying_can_wait() {
        let mut frame = FrameEncoder::new(MetadataFields::default()).encode(b"tensor").unwrap();
        *frame.last_mut().unwrap() ^= 1;
        let strict = DecodeOptions::default();
        let lenient = DecodeOptions { verify_checksum: false, ..strict };
        assert_eq!(Message::decode(frame.clone().into(), &strict).unwrap_err().kind(), "checksum_mismatch");
        let message = Message::decode(frame.into(), &lenient).unwrap();
        assert_eq!(message.verify_checksum().unwrap_err().kind(), "checksum_mismatch");
    }

    #[test]
    fn a_payload_over_the_limit_is_refused() {
        let frame = FrameEncoder::new(MetadataFields::default()).encode(b"tensor").unwrap();
        let tight = DecodeOptions { payload_limit: 5, ..Default::default() };
        assert_eq!(Message::decode(frame.into(), &tight).unwrap_err().kind(), "decompressed_too_large");
    }
}
