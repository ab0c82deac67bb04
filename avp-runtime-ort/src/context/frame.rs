//! Contexts to frames and back, with one copy on each side at most.

use std::{
    io::{self, IoSlice, Write},
    sync::Arc,
};

use avp_core::{
    Compression, ContextFields, DEFAULT_PAYLOAD_LIMIT, DType, Dialect, Frame, FrameEncoder, KvHeader,
    MetadataFields, OwnedModelIdentity, PayloadType,
};
use bytes::Bytes;

use super::{Context, Fingerprint, Positions, field, fingerprint::key};
use crate::{
    CacheLayout, ContextError, Runtime,
    kv::{HostBuffer, KvCache},
};

/// What a frame says beside the context, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameOptions {
    /// The session it belongs to.
    pub session_id: String,
    /// The agent that sends it.
    pub source_agent_id: String,
    /// The agent it is for.
    pub target_agent_id: String,
    /// The model hash to write instead of ours. The Python package hashes a config of its own making and takes no context
    /// with another hash; a handshake that ended in a structural match has told us its hash.
    pub model_hash: Option<String>,
    /// The dialect to write; 0.3 unless the peer's handshake says 0.2.
    pub dialect: Dialect,
    /// The first tensor byte lies at a multiple of this many bytes in the frame, a power of two up to 4096; 64 by default, as
    /// in files. A receiver that reads the frame into aligned memory need not copy it again then.
    pub alignment: usize,
    /// No compression by default: caches in float32 shrink by a tenth at best.
    pub compression: Compression,
    /// Whether a checksum is written; by default where the dialect has one.
    pub checksum: Option<bool>,
    /// Whether the frame says which weights and rotary settings made the context, so that it fits no other model. Not by
    /// default: an export of the same model in another number format could not take it.
    pub fingerprint: bool,
    /// Whether the frame says which tokens the context was computed from, so that the receiver can reuse the beginning. Not
    /// by default: whoever has them can read the text.
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

/// What is looked at when a context is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameReadOptions {
    /// Whether the checksum is verified where there is one; it is by default.
    pub verify_checksum: bool,
    /// Whether every number is looked at, so that NaN and infinities are refused. Not by default: a sender that one trusts
    /// has looked at its hidden state.
    pub scan: bool,
    /// The most bytes that a compressed body may unpack to; 1 GiB by default.
    pub payload_limit: usize,
}

impl Default for FrameReadOptions {
    fn default() -> Self {
        Self { verify_checksum: true, scan: false, payload_limit: DEFAULT_PAYLOAD_LIMIT }
    }
}

/// Where a frame's tensors start: a multiple of this many bytes, for SIMD and for copies to a GPU.
pub(super) const ALIGNMENT: usize = 64;

/// What transports take as metadata, 64 KiB, less what everything but the token ids needs.
const MAX_TOKEN_TEXT: usize = 60 * 1024;

mod extra {
    pub(super) const TOKEN_IDS: &str = "token_ids";
    pub(super) const POSITION_OFFSET: &str = "position_offset";
    pub(super) const PREFIX_HASH: &str = "prefix_hash";
}

impl Context {
    /// Writes the context as a frame that `avp`'s `AVPContext.from_bytes` reads. The cache is copied once, into the frame; one
    /// that lies on a device once more, which [`to_bytes`](Self::to_bytes) saves.
    ///
    /// # Errors
    /// When the cache is longer than a frame can hold, 4 GiB, its token ids are asked for and more than 60 KiB as text, or
    /// the dialect has not what the options ask for.
    pub fn to_frame(&self, options: &FrameOptions) -> Result<Vec<u8>, ContextError> {
        self.check_token_ids(options)?;
        let cache = self.cache.on_host()?;
        self.encode(options, |encoder, header| Ok(encoder.encode_parts(&parts(header, &cache)?)?))
    }

    /// The frame that [`to_frame`](Self::to_frame) gives, as bytes that are cheap to clone and to send. The cache is copied
    /// once, from wherever it lies into the frame.
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

    /// Writes the frame that [`to_frame`](Self::to_frame) gives, without making it in memory first unless it is to be
    /// compressed: the cache goes from where it lies to `out`. Gives the frame's length in bytes.
    ///
    /// # Errors
    /// As [`to_frame`](Self::to_frame), and when `out` fails.
    pub fn write_to(&self, out: &mut impl Write, options: &FrameOptions) -> Result<u64, ContextError> {
        self.check_token_ids(options)?;
        self.write_frame(out, options)
    }

    /// [`write_to`](Self::write_to) without a limit on the metadata, which only transports have.
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

    /// The frame, its body written first and its head, whose length depends on the checksum, into the room before it.
    fn encode_behind_room(&self, options: &FrameOptions) -> Result<Bytes, ContextError> {
        self.encode(options, |encoder, header| {
            let body_len = self.header()?.body_len().ok_or(avp_core::KvError::Overflow)?;
            let room = encoder.encoded_len(body_len)? - body_len;
            // Whatever the length of the head, the tensors are aligned in memory.
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
        let fields = MetadataFields {
            session_id: &options.session_id,
            source_agent_id: &options.source_agent_id,
            target_agent_id: &options.target_agent_id,
            model_id: &self.identity.model_id,
            hidden_dim: self.identity.hidden_dim,
            num_layers: header.num_layers,
            payload_type: PayloadType::KvCache,
            dtype: DType::from(header.dtype),
            extra: &entries,
            ..MetadataFields::default()
        };
        let mut encoder = FrameEncoder::new(fields)
            .dialect(options.dialect)
            .align(options.alignment)
            .compression(options.compression);
        if let Some(checksum) = options.checksum {
            encoder = encoder.checksum(checksum);
        }
        write(&encoder, &header.encode())
    }

    /// Reads a context from a frame of either dialect, compressed or not, and verifies its checksum.
    ///
    /// The cache is held by ONNX Runtime, so a runtime must be loaded; it may be before any model is.
    /// Whether it fits a model is decided where it is used: [`Model::accepts`](crate::Model::accepts).
    ///
    /// # Errors
    /// When the bytes are no whole frame, its checksum is wrong, it holds something other than a KV-cache, or its metadata
    /// contradicts the cache. Nothing of a refused frame is kept.
    pub fn from_frame(runtime: &Runtime, bytes: &[u8]) -> Result<Self, ContextError> {
        // Copied to where its tensors are aligned, so that they need not be copied again.
        let start =
            tensor_offset(bytes).map_or(0, |offset| offset.next_multiple_of(HostBuffer::ALIGNMENT) - offset);
        let mut copy = HostBuffer::new(start + bytes.len());
        copy.bytes_mut()[start..].copy_from_slice(bytes);
        Self::from_bytes(runtime, copy.into_bytes().slice(start..), &FrameReadOptions::default())
    }

    /// Reads a context from a frame and keeps the frame: where the tensors in it are aligned for their type in memory they
    /// are used where they lie, otherwise copied once. [`FrameOptions::alignment`], as it is by default, and a buffer
    /// from the allocator make them so.
    ///
    /// # Errors
    /// As [`from_frame`](Self::from_frame); and when the options ask for a scan and a number is NaN or infinite.
    pub fn from_bytes(
        _runtime: &Runtime,
        bytes: impl Into<Bytes>,
        options: &FrameReadOptions,
    ) -> Result<Self, ContextError> {
        let bytes = bytes.into();
        let frame = Frame::decode(&bytes)?;
        let metadata = frame.metadata();
        if metadata.payload_type() != PayloadType::KvCache {
            return Err(ContextError::NotAKvCache { got: metadata.payload_type().as_str() });
        }
        // The limit guards against what unpacks; bytes that are here already cost nothing more.
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
        if metadata.num_layers() != 0 && metadata.num_layers() != header.num_layers {
            return Err(ContextError::Contradiction {
                field: "num_layers",
                metadata: metadata.num_layers().into(),
                body: header.num_layers.into(),
            });
        }
        let layout = CacheLayout {
            num_layers: header.num_layers as usize,
            num_kv_heads: header.num_kv_heads as usize,
            head_dim: header.head_dim as usize,
            dtype: header.dtype,
        };
        let seq_len = header.seq_len as usize;
        let made_by = metadata.context();
        let identity = OwnedModelIdentity {
            model_family: made_by.model_family.to_owned(),
            model_id: metadata.model_id().to_owned(),
            model_hash: made_by.model_hash.to_owned(),
            hidden_dim: metadata.hidden_dim(),
            num_layers: header.num_layers,
            num_kv_heads: header.num_kv_heads,
            head_dim: header.head_dim,
            tokenizer_hash: String::new(),
        };
        let read = |field: &'static str| metadata.extra_value(field);
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
            fingerprint: Fingerprint::from_extra(|key| metadata.extra_value(key)).map(Arc::new),
            position_offset: position_offset as usize,
            prefix_hash: read(extra::PREFIX_HASH).map(Into::into),
        };
        if options.scan {
            context.check_finite()?;
        }
        Ok(context)
    }
}

/// The pieces of a KV-cache body: its header and its tensors where they lie.
fn parts<'p>(header: &'p [u8], cache: &'p KvCache) -> ort::Result<Vec<&'p [u8]>> {
    std::iter::once(Ok(header)).chain(cache.planes()).collect()
}

/// Where the first tensor byte of an uncompressed frame lies, if `bytes` start like one.
fn tensor_offset(bytes: &[u8]) -> Option<usize> {
    Some(avp_core::FrameHead::decode(bytes).ok()?.body_offset() + KvHeader::LEN)
}

/// Writes `parts` one after the other, many in one call where the system can, and gives their length.
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

    /// Takes at most so many bytes at once, as a socket may.
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
            // Checksums of one length and another, and so heads.
            let mut body = header.encode().to_vec();
            body.extend((0..192).map(|index| index ^ seed));
            let fields = MetadataFields { payload_type: PayloadType::KvCache, ..MetadataFields::default() };
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
