//! A frame as `avp inspect --json` prints it.

use avp_core::{
    DecodeError, Dialect, Frame, KvDType, KvHeader, KvView, Metadata, Mode, PayloadType,
    messages::JsonMessage,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// One frame. The keys are a contract: `docs/cli.md` lists them.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    pub(super) file: &'a str,
    /// `null` if the frame is valid in both, with the same meaning.
    pub(super) dialect: Option<&'static str>,
    pub(super) version: u8,
    pub(super) flags: u8,
    pub(super) payload_length: u32,
    pub(super) metadata_length: u32,
    pub(super) compressed: bool,
    #[serde(flatten)]
    pub(super) metadata: Metadata<'a>,
    pub(super) text: Option<String>,
    pub(super) checksum: Option<ChecksumState>,
    pub(super) payload_bytes: usize,
    pub(super) payload_sha256: String,
    pub(super) kv_cache: Option<KvShape>,
    /// Why the payload is not the KV-cache that the metadata declares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kv_cache_error: Option<Failure>,
    /// The meaning in English of an AACP packet in the text chunk or in the content of a JSON message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aacp: Option<String>,
    #[serde(skip)]
    pub(super) flag_names: Vec<&'static str>,
    #[serde(skip)]
    pub(super) bytes_per_token: Option<usize>,
}

/// The CRC-32 in the metadata and that of the payload.
#[derive(Serialize)]
pub(super) struct ChecksumState {
    pub(super) expected: u32,
    pub(super) actual: u32,
    pub(super) ok: bool,
}

/// Shape and type of a KV-cache.
#[derive(Serialize)]
pub(super) struct KvShape {
    pub(super) num_layers: u32,
    pub(super) num_kv_heads: u32,
    pub(super) head_dim: u32,
    pub(super) seq_len: u32,
    pub(super) dtype: KvDType,
}

/// The error of a file or of its payload.
#[derive(Serialize)]
pub(super) struct Failure {
    pub(super) kind: &'static str,
    pub(super) message: String,
    /// Byte in the file; `null` if the file itself could not be read.
    pub(super) offset: Option<usize>,
}

impl<'a> Record<'a> {
    /// `payload` is the decompressed body of the frame.
    ///
    /// # Errors
    /// When a hybrid body does not decode.
    pub(super) fn new(file: &'a str, frame: &Frame<'a>, payload: &[u8]) -> Result<Self, DecodeError> {
        let (header, metadata) = (frame.header(), frame.metadata());
        let tensors = frame.tensor(payload)?;
        let text = match metadata.mode {
            Mode::Hybrid => frame.hybrid(payload)?.text().map(str::to_owned),
            _ => None,
        };
        let cache = match metadata.payload_type {
            PayloadType::KvCache => Some(KvView::decode(tensors).map(|view| *view.header())),
            _ => None,
        };
        let (cache, cache_error) = match cache {
            Some(Ok(header)) => (Some(header), None),
            Some(Err(error)) => (None, Some(Failure::decode(error))),
            None => (None, None),
        };
        let aacp = match metadata.mode {
            Mode::Json => std::str::from_utf8(payload).ok().and_then(|json| {
                let message = JsonMessage::parse(json).ok()?;
                explain(message.content.as_str())
            }),
            _ => text.as_deref().and_then(explain),
        };
        Ok(Self {
            aacp,
            file,
            dialect: frame.dialect().map(Dialect::as_str),
            version: avp_core::Header::VERSION,
            flags: header.flags().bits(),
            payload_length: header.payload_len(),
            metadata_length: header.metadata_len(),
            compressed: frame.is_compressed(),
            metadata,
            text,
            checksum: frame.checksum(payload).map(|sum| ChecksumState {
                expected: sum.expected,
                actual: sum.actual,
                ok: sum.is_ok(),
            }),
            payload_bytes: tensors.len(),
            payload_sha256: Sha256::digest(tensors).iter().map(|byte| format!("{byte:02x}")).collect(),
            kv_cache: cache.map(KvShape::from),
            kv_cache_error: cache_error,
            flag_names: header.flags().names(frame.dialect().unwrap_or(Dialect::V0_3)).collect(),
            bytes_per_token: cache.and_then(|header| header.bytes_per_token()),
        })
    }

    /// Whether the checksum, if there is one, matches the payload.
    pub(super) fn has_valid_checksum(&self) -> bool {
        self.checksum.as_ref().is_none_or(|sum| sum.ok)
    }
}

/// The meaning of `text` in English if it is a packet; the first word of prose is not a task.
fn explain(text: &str) -> Option<String> {
    let packet = aacp::Validator::lenient().parse(text).ok()?;
    Some(aacp::Explanation::of(&packet).to_string())
}

impl From<KvHeader> for KvShape {
    fn from(header: KvHeader) -> Self {
        let KvHeader { num_layers, num_kv_heads, head_dim, seq_len, dtype } = header;
        Self { num_layers, num_kv_heads, head_dim, seq_len, dtype }
    }
}

impl Failure {
    pub(super) fn io(error: &anyhow::Error) -> Self {
        Self { kind: "io", message: format!("{error:#}"), offset: None }
    }

    pub(super) fn decode(error: DecodeError) -> Self {
        Self { kind: error.kind(), message: error.to_string(), offset: Some(error.offset()) }
    }
}
