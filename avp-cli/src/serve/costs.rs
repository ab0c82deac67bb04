//! What a request to the model costs in memory, in bytes.

use avp_core::{Frame, KvHeader, decompression_memory};
use avp_runtime_ort::{CacheLayout, ContextError, Model};

/// For rendering a chat template, for each byte of the request: published templates indent tools by more than half of it.
const RENDERING: u64 = 64;

/// The longest text of a chat template.
const MAX_RENDERED: u64 = 64 << 20;

/// For reading a text's tokens, for each byte of text: a megabyte of blanks is a single word, all of whose characters wait to be merged.
const TOKENIZING: u64 = 1200;

/// For an event that the client has not read: a token's text and its place in a queue.
const EVENT: u64 = 128;

/// Rendering the prompt of a request, which has `prompt_len` bytes there.
pub(super) fn rendering(prompt_len: usize) -> u64 {
    (prompt_len as u64).saturating_mul(RENDERING).min(MAX_RENDERED)
}

/// Reading the tokens of a rendered prompt.
pub(super) fn tokenizing(text_len: usize) -> u64 {
    (text_len as u64).saturating_mul(TOKENIZING)
}

/// Events that wait for their client.
pub(super) fn events(count: usize) -> u64 {
    (count as u64).saturating_mul(EVENT)
}

/// A run over so many tokens: the cache that a step reads, and the one that it writes.
pub(super) fn run(model: &Model, tokens: usize) -> u64 {
    let per_token = model.cache_layout().bytes_per_token() as u64;
    (tokens.min(model.window()) as u64).saturating_mul(2).saturating_mul(per_token)
}

/// What a context costs until it can be continued from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContextCost {
    /// The frame, the unpacked cache, and copies for another number format.
    pub(super) memory: u64,
    /// The most that the body may unpack to.
    pub(super) payload_limit: usize,
}

/// The cost of the context in `frame`. A compressed body is unpacked as far as its header.
///
/// # Errors
/// When the frame is not one of a KV-cache, or the cache has another shape than the model's.
pub(super) fn context(
    model: &Model,
    frame: &[u8],
    payload_limit: usize,
) -> Result<ContextCost, ContextError> {
    let read = Frame::decode(frame)?;
    let window = match read.is_compressed() {
        true => decompression_memory(read.body(), payload_limit) as u64,
        false => 0,
    };
    let (payload_limit, copies) = match read.kv_header(payload_limit)? {
        Some(header) => {
            let layout = model.cache_layout();
            layout.check_shape(&CacheLayout::from(&header))?;
            let body_len = body_len(&header);
            let unpacked = if read.is_compressed() { body_len } else { 0 };
            // A conversion copies the cache first.
            let converted = match header.dtype == layout.dtype {
                true => 0,
                false => body_len.saturating_add(self::body_len(&KvHeader { dtype: layout.dtype, ..header })),
            };
            let limit = usize::try_from(body_len).unwrap_or(usize::MAX).min(payload_limit);
            (limit, unpacked.min(payload_limit as u64).saturating_add(converted))
        }
        // A compressed hybrid body: the payload, a copy of its cache, and a converted one of up to twice its size.
        None => (payload_limit, (payload_limit as u64).saturating_mul(4)),
    };
    let memory = (frame.len() as u64).saturating_add(window).saturating_add(copies);
    Ok(ContextCost { memory, payload_limit })
}

fn body_len(header: &KvHeader) -> u64 {
    header.body_len().map_or(u64::MAX, |len| len as u64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use avp_core::{Compression, FrameEncoder, KvDType, Metadata, PayloadType};
    use avp_runtime_ort::{LoadOptions, Runtime};

    use super::*;

    const LIMIT: usize = 1 << 30;

    fn model() -> Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/facts");
        Model::load(&Runtime::find().unwrap(), folder, &LoadOptions::default()).unwrap()
    }

    /// The header of a cache of the model's shape.
    fn header(model: &Model, seq_len: u32, dtype: KvDType) -> KvHeader {
        let layout = model.cache_layout();
        KvHeader {
            num_layers: layout.num_layers as u32,
            num_kv_heads: layout.num_kv_heads as u32,
            head_dim: layout.head_dim as u32,
            seq_len,
            dtype,
        }
    }

    fn frame(body: &[u8], compression: Compression) -> Vec<u8> {
        let metadata = Metadata { payload_type: PayloadType::KvCache, ..Metadata::default() };
        FrameEncoder::new(metadata).compression(compression).encode(body).unwrap()
    }

    #[test]
    fn a_context_costs_its_frame_what_it_unpacks_to_and_what_it_is_converted_to() {
        let model = model();
        for dtype in [KvDType::Float32, KvDType::Float16] {
            let header = header(&model, 3, dtype);
            let body = [&header.encode()[..], &vec![0; header.tensors_len().unwrap()]].concat();
            let as_model = KvHeader { dtype: model.cache_layout().dtype, ..header };
            let converted = if as_model == header { 0 } else { body.len() + as_model.body_len().unwrap() };
            for compression in [Compression::None, Compression::Fast] {
                let frame = frame(&body, compression);
                let unpacked = match compression {
                    Compression::None => 0,
                    _ => body.len() + decompression_memory(Frame::decode(&frame).unwrap().body(), LIMIT),
                };
                let memory = (frame.len() + unpacked + converted) as u64;
                let expected = ContextCost { memory, payload_limit: body.len() };
                assert_eq!(context(&model, &frame, LIMIT), Ok(expected), "{dtype:?}, {compression:?}");
            }
        }
    }

    #[test]
    fn a_compressed_context_of_another_shape_is_refused_by_its_header() {
        let model = model();
        let header = header(&model, u32::MAX, KvDType::Float32);
        let other = KvHeader { num_layers: header.num_layers + 1, ..header };
        // A header, and nothing of the terabytes behind it.
        let bomb = frame(&[&other.encode()[..], &[0; 1000]].concat(), Compression::Fast);
        let refused = context(&model, &bomb, LIMIT).unwrap_err();
        assert!(matches!(refused, ContextError::OtherModel { field: "num_layers", .. }), "{refused}");
    }

    #[test]
    fn the_documented_cost_of_a_prompt_is_what_is_taken() {
        assert_eq!((rendering(1000), tokenizing(1000), events(10)), (64_000, 1_200_000, 1280));
        assert!(include_str!("../../../SECURITY.md").contains("1,200 bytes for each byte of the prompt"));
    }
}
