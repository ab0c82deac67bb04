//! Conversion between contexts and frames, with at most one copy on each side.

use std::{
    io::{self, IoSlice, Write},
    sync::Arc,
};

use avp_core::{
    Compression, ContextFields, DEFAULT_PAYLOAD_LIMIT, DType, Dialect, Frame, FrameEncoder, KvHeader,
    Metadata, OwnedModelIdentity, PayloadType,
};
use bytes::Bytes;

use super::{Context, Fingerprint, Positions, field, fingerprint::key};
use crate::{
    CacheLayout, ContextError, Runtime,
    kv::{HostBuffer, KvCache},
};

/// Options for writing a context as a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameOptions {
    /// The session of the frame.
    pub session_id: String,
    /// The sending agent.
    pub source_agent_id: String,
    /// The receiving agent.
    pub target_agent_id: String,
    /// A model hash to write in place of our own. The Python package hashes a config with fields of its own and accepts
    /// contexts only with this hash; a handshake with a structural match contains it.
    pub model_hash: Option<String>,
    /// The dialect to write. Default: 0.3. Choose 0.2 if the peer's handshake requires it.
    pub dialect: Dialect,
    /// Alignment in bytes of the first tensor byte in the frame, a power of two up to 4096. Default: 64, as in files. A receiver
    /// that reads the frame into aligned memory can then use it without a copy.
    pub alignment: usize,
    /// Compression of the body. Default: none, because caches in float32 shrink by a tenth at best.
    pub compression: Compression,
    /// Whether to write a checksum. Default: if the dialect has one.
    pub checksum: Option<bool>,
    /// Whether to write the fingerprint of weights and rotary settings, so that no other model accepts the context. Default:
    /// no, because exports of the same model in other number formats would refuse it.
    pub fingerprint: bool,
    /// Whether to write the token ids, so that the receiver can reuse a prefix. Default: no, because they reveal the text.
    pub token_ids: bool,
}

impl Default for FrameOptions {
    fn default() -> Self {
        Self {
            session_id: String::new(),
            source_agent_id: String::new(),
            target_agent_id: String::new(),
            model_hash: None,
            dialect: Dialect::V0_3,
            alignment: ALIGNMENT,
            compression: Compression::None,
            checksum: None,
            fingerprint: false,
            token_ids: false,
        }
    }
}

/// Options for reading a context from a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameReadOptions {
    /// Whether to verify the checksum, if there is one. Default: yes.
    pub verify_checksum: bool,
    /// Whether to scan every number and refuse NaN and infinities. Default: no; a trusted sender has checked its hidden state.
    pub scan: bool,
    /// Maximum size of a decompressed body in bytes. Default: 1 GiB.
    pub payload_limit: usize,
}

impl Default for FrameReadOptions {
    fn default() -> Self {
        Self { verify_checksum: true, scan: false, payload_limit: DEFAULT_PAYLOAD_LIMIT }
    }
}

/// Alignment of a frame's tensors in bytes, for SIMD and for copies to a GPU.
pub(super) const ALIGNMENT: usize = 64;

/// The limit of transports for metadata, 64 KiB, less room for everything but the token ids.
const MAX_TOKEN_TEXT: usize = 60 * 1024;

mod extra {
    pub(super) const TOKEN_IDS: &str = "token_ids";
    pub(super) const POSITION_OFFSET: &str = "position_offset";
    pub(super) const PREFIX_HASH: &str = "prefix_hash";
}

impl Context {
    /// Writes the context as a frame that `AVPContext.from_bytes` of the Python package reads. The cache is copied once into the
    /// frame, and a cache on a device twice; [`to_bytes`](Self::to_bytes) copies it once.
    ///
    /// # Errors
    /// When the cache exceeds 4 GiB, the limit of a frame, its token ids exceed 60 KiB as text, or the dialect does not support
    /// the options.
    pub fn to_frame(&self, options: &FrameOptions) -> Result<Vec<u8>, ContextError> {
        self.check_token_ids(options)?;
        let cache = self.cache.on_host()?;
        self.encode(options, |encoder, header| Ok(encoder.encode_parts(&parts(header, &cache)?)?))
    }

    /// As [`to_frame`](Self::to_frame), as bytes that are cheap to clone. The cache is copied once, from host or device memory
    /// into the frame.
    ///
    /// # Errors
    /// As [`to_frame`](Self::to_frame).
    pub fn to_bytes(&self, options: &FrameOptions) -> Result<Bytes, ContextError> {
        if self.cache.is_on_host() || options.compression != Compression::None {
            return self.to_frame(options).map(Bytes::from);
        }
        self.check_token_ids(options)?;
        self.encode_behind_room(options)
    }

    /// Writes the frame of [`to_frame`](Self::to_frame) to `out` without building it in memory, unless it is compressed. Returns
    /// the frame's length in bytes.
    ///
    /// # Errors
    /// As [`to_frame`](Self::to_frame), and when `out` fails.
    pub fn write_to(&self, out: &mut impl Write, options: &FrameOptions) -> Result<u64, ContextError> {
        self.check_token_ids(options)?;
        self.write_frame(out, options)
    }

    /// [`write_to`](Self::write_to) without the limit of transports on the metadata.
    pub(super) fn write_frame(
        &self,
        out: &mut impl Write,
        options: &FrameOptions,
    ) -> Result<u64, ContextError> {
        let cache = self.cache.on_host()?;
        self.encode(options, |encoder, header| {
            let parts = parts(header, &cache)?;
            let is_plain = options.compression == Compression::None;
            let head = if is_plain { encoder.encode_head(&parts)? } else { encoder.encode_parts(&parts)? };
            let body = if is_plain { &parts[..] } else { &[] };
            let written = write_all(out, std::iter::once(&*head).chain(body.iter().copied()));
            written.map_err(|error| ContextError::Io { message: error.to_string() })
        })
    }

    /// The frame. The body is written first; the head, whose length depends on the checksum, into the reserved space before it.
    fn encode_behind_room(&self, options: &FrameOptions) -> Result<Bytes, ContextError> {
        self.encode(options, |encoder, header| {
            let body_len = self.header()?.body_len().ok_or(avp_core::KvError::Overflow)?;
            let room = encoder.encoded_len(body_len)? - body_len;
            // The tensors are aligned in memory for any length of the head.
            let tensors = (room + KvHeader::LEN).next_multiple_of(HostBuffer::ALIGNMENT);
            let body = tensors - KvHeader::LEN;
            let mut frame = HostBuffer::new(body + body_len);
            let bytes = frame.bytes_mut();
            bytes[body..tensors].copy_from_slice(header);
            self.cache.copy_to(&mut bytes[tensors..])?;
            let head = encoder.encode_head(&[&bytes[body..]])?;
            let start = body - head.len();
            bytes[start..body].copy_from_slice(&head);
            Ok(frame.into_bytes().slice(start..))
        })
    }

    fn check_token_ids(&self, options: &FrameOptions) -> Result<(), ContextError> {
        let text = self.positions.as_ref().filter(|_| options.token_ids).map(Positions::encode);
        match text.map_or(0, |text| text.len()) {
            value if value > MAX_TOKEN_TEXT => Err(ContextError::TooLarge { field: "token_ids", value }),
            _ => Ok(()),
        }
    }

    fn encode<T>(
        &self,
        options: &FrameOptions,
        write: impl FnOnce(&FrameEncoder<'_>, &[u8]) -> Result<T, ContextError>,
    ) -> Result<T, ContextError> {
        let header = self.header()?;
        let made_by = ContextFields {
            model_hash: options.model_hash.as_deref().unwrap_or(&self.identity.model_hash),
            model_family: &self.identity.model_family,
            num_steps: Some(field("num_steps", self.num_steps)?),
        };
        let made_by = made_by.to_extra();
        let mut entries = made_by.entries().to_vec();
        let offset = self.position_offset.to_string();
        if self.position_offset != 0 {
            entries.push((extra::POSITION_OFFSET, &offset));
            entries.extend(self.prefix_hash.as_deref().map(|hash| (extra::PREFIX_HASH, hash)));
        }
        let token_ids = self.positions.as_ref().filter(|_| options.token_ids).map(Positions::encode);
        entries.extend(token_ids.as_deref().map(|text| (extra::TOKEN_IDS, text)));
        if let Some(fingerprint) = self.fingerprint.as_ref().filter(|_| options.fingerprint) {
            entries.push((key::WEIGHTS_HASH, &fingerprint.weights_hash));
            entries.push((key::ROPE_THETA, &fingerprint.rope_theta));
            entries.push((key::ROPE_SCALING, &fingerprint.rope_scaling));
        }
        let fields = Metadata {
            session_id: &options.session_id,
            source_agent_id: &options.source_agent_id,
            target_agent_id: &options.target_agent_id,
            model_id: &self.identity.model_id,
            hidden_dim: self.identity.hidden_dim,
            num_layers: header.num_layers,
            payload_type: PayloadType::KvCache,
            dtype: DType::from(header.dtype),
            extra: (&entries[..]).into(),
            ..Metadata::default()
        };
        let mut encoder = FrameEncoder::new(fields)
            .dialect(options.dialect)
            .align(options.alignment)
            .threads(avp_core::copy_threads(header.body_len().unwrap_or_default()))
            .compression(options.compression);
        if let Some(checksum) = options.checksum {
            encoder = encoder.checksum(checksum);
        }
        write(&encoder, &header.encode())
    }

    /// Reads a context from a frame of either dialect, compressed or not, and verifies its checksum.
    ///
    /// The cache is in memory of ONNX Runtime, so a runtime must be loaded, but no model. The model is checked on use; see
    /// [`Model::accepts`](crate::Model::accepts).
    ///
    /// # Errors
    /// When the bytes are not a whole frame, the checksum is wrong, the body is not a KV-cache, or the metadata contradicts the
    /// cache. Nothing of a refused frame is kept.
    pub fn from_frame(runtime: &Runtime, bytes: &[u8]) -> Result<Self, ContextError> {
        // Copied to an aligned address, so that the tensors need no further copy.
        let start =
            tensor_offset(bytes).map_or(0, |offset| offset.next_multiple_of(HostBuffer::ALIGNMENT) - offset);
        let mut copy = HostBuffer::new(start + bytes.len());
        copy.bytes_mut()[start..].copy_from_slice(bytes);
        Self::from_bytes(runtime, copy.into_bytes().slice(start..), &FrameReadOptions::default())
    }

    /// Reads a context from a frame and keeps the frame. Tensors that are aligned for their type in memory are used in place;
    /// others are copied once. They are aligned with the default [`FrameOptions::alignment`] and a buffer from the allocator.
    ///
    /// # Errors
    /// As [`from_frame`](Self::from_frame), and when the scan finds NaN or an infinity.
    pub fn from_bytes(
        _runtime: &Runtime,
        bytes: impl Into<Bytes>,
        options: &FrameReadOptions,
    ) -> Result<Self, ContextError> {
        let bytes = bytes.into();
        let frame = Frame::decode(&bytes)?;
        let metadata = frame.metadata();
        if metadata.payload_type != PayloadType::KvCache {
            return Err(ContextError::NotAKvCache { got: metadata.payload_type.as_str() });
        }
        // The limit is for decompression; uncompressed bytes are already in memory.
        let payload = if frame.is_compressed() {
            Bytes::from(frame.decompress_unverified(options.payload_limit)?.into_owned())
        } else {
            bytes.slice_ref(frame.body())
        };
        if options.verify_checksum {
            frame.verify_checksum(&payload)?;
        }
        let view = frame.kv_cache(&payload)?;
        let header = *view.header();
        if view.tensors().is_empty() {
            let (num_layers, seq_len) = (header.num_layers as usize, header.seq_len as usize);
            return Err(ContextError::Empty { num_layers, seq_len });
        }
        if metadata.num_layers != 0 && metadata.num_layers != header.num_layers {
            return Err(ContextError::Contradiction {
                field: "num_layers",
                metadata: metadata.num_layers.into(),
                body: header.num_layers.into(),
            });
        }
        let layout = CacheLayout::from(&header);
        let seq_len = header.seq_len as usize;
        let made_by = metadata.context();
        let identity = OwnedModelIdentity {
            model_family: made_by.model_family.to_owned(),
            model_id: metadata.model_id.to_owned(),
            model_hash: made_by.model_hash.to_owned(),
            hidden_dim: metadata.hidden_dim,
            num_layers: header.num_layers,
            num_kv_heads: header.num_kv_heads,
            head_dim: header.head_dim,
            tokenizer_hash: String::new(),
        };
        let read = |field: &'static str| metadata.extra.get(field);
        let num_steps = match (made_by.num_steps, read("num_steps")) {
            (Some(steps), _) => steps as usize,
            (None, None) => 0,
            (None, Some(_)) => return Err(ContextError::Extra { field: "num_steps" }),
        };
        let position_offset = read(extra::POSITION_OFFSET).map_or(Ok(0), |digits| {
            digits.parse::<u32>().map_err(|_| ContextError::Extra { field: extra::POSITION_OFFSET })
        })?;
        let positions = read(extra::TOKEN_IDS).map(|text| {
            Positions::decode(text, seq_len).ok_or(ContextError::Extra { field: extra::TOKEN_IDS })
        });
        let context = Self {
            cache: Arc::new(KvCache::lend(layout, seq_len, payload.slice_ref(view.tensors()))?),
            identity: Arc::new(identity),
            num_steps,
            last_hidden_state: None,
            positions: positions.transpose()?,
            fingerprint: Fingerprint::from_extra(|key| metadata.extra.get(key)).map(Arc::new),
            position_offset: position_offset as usize,
            prefix_hash: read(extra::PREFIX_HASH).map(Into::into),
        };
        if options.scan {
            context.check_finite()?;
        }
        Ok(context)
    }
}

/// The parts of a KV-cache body: its header and its tensors in place.
fn parts<'p>(header: &'p [u8], cache: &'p KvCache) -> ort::Result<Vec<&'p [u8]>> {
    std::iter::once(Ok(header)).chain(cache.planes()).collect()
}

/// Offset of the first tensor byte, if `bytes` start like an uncompressed frame.
fn tensor_offset(bytes: &[u8]) -> Option<usize> {
    Some(avp_core::FrameHead::decode(bytes).ok()?.body_offset() + KvHeader::LEN)
}

/// Writes `parts` in sequence, with vectored writes if possible, and returns their length.
fn write_all<'p>(out: &mut impl Write, parts: impl Iterator<Item = &'p [u8]>) -> io::Result<u64> {
    let mut slices: Vec<IoSlice<'_>> = parts.map(IoSlice::new).collect();
    let len = slices.iter().map(|slice| slice.len() as u64).sum();
    let mut rest = &mut slices[..];
    while rest.iter().any(|slice| !slice.is_empty()) {
        match out.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts at most this number of bytes at once, like a socket.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_frame_written_behind_room_is_the_frame() {
        let runtime = Runtime::find().unwrap();
        let header = KvHeader {
            num_layers: 2,
            num_kv_heads: 1,
            head_dim: 4,
            seq_len: 3,
            dtype: avp_core::KvDType::Float32,
        };
        for seed in 0..40_u8 {
            // Checksums, and so heads, of different lengths.
            let mut body = header.encode().to_vec();
            body.extend((0..192).map(|index| index ^ seed));
            let fields = Metadata { payload_type: PayloadType::KvCache, ..Metadata::default() };
            let frame = FrameEncoder::new(fields).encode(&body).unwrap();
            let context = Context::from_frame(&runtime, &frame).unwrap();
            for alignment in [1, 64] {
                let options = FrameOptions { alignment, session_id: "s".into(), ..FrameOptions::default() };
                let written = context.encode_behind_room(&options).unwrap();
                assert_eq!(written, context.to_frame(&options).unwrap());
                assert_eq!(written, context.to_bytes(&options).unwrap());
                let tensors = tensor_offset(&written).unwrap();
                assert!(written[tensors..].as_ptr().addr().is_multiple_of(HostBuffer::ALIGNMENT));
            }
        }
    }

    #[test]
    fn short_writes_are_continued_where_they_ended() {
        let parts: [&[u8]; 5] = [b"", b"abc", b"", b"defgh", b"i"];
        for width in 1..12 {
            let mut out = Narrow(Vec::new(), width);
            assert_eq!(write_all(&mut out, parts.into_iter()).unwrap(), 9);
            assert_eq!(out.0, b"abcdefghi");
        }
        let full = write_all(&mut Narrow(Vec::new(), 0), parts.into_iter());
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
