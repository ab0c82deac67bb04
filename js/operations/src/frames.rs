//! Frames, hybrid bodies and KV-cache headers.

use avp_core::{
    Chunk, ChunkKind, Compression, DType, DecodeError, Dialect, EncodeError, FrameEncoder, FrameHead, Header,
    Hybrid, KvDType, KvHeader, MetadataFields, Mode, PayloadType, hybrid,
};

use crate::{
    border::{Answer, Request},
    fault::Outcome,
};

/// Header and metadata at the start of `bytes`. `frame_len` is the length of all the bytes that the host has, which must
/// be one whole frame; `None` asks for the head alone.
pub(crate) fn decode_head(bytes: &[u8], frame_len: Option<u64>, answer: &mut Answer) -> Outcome<()> {
    let head = FrameHead::decode(bytes).map_err(|error| seen_whole(error, frame_len))?;
    let (header, needed) = (head.header(), head.header().frame_len());
    // The body stays with the host, so the core cannot compare its length.
    if let Some(got) = frame_len {
        let (offset, expected) = (to_usize(got), to_usize(needed));
        if got < needed {
            return Err(DecodeError::Truncated { what: "body", offset, needed: expected }.into());
        }
        if got > needed {
            let extra = to_usize(got - needed);
            return Err(DecodeError::TrailingBytes { what: "frame", offset: expected, extra }.into());
        }
    }
    answer.object(|answer| {
        answer.key("dialect").optional_text(head.dialect().map(Dialect::as_str));
        answer.key("version").whole(Header::VERSION).key("flags").whole(header.flags().bits());
        answer.key("flagNames").texts(header.flags().names(head.dialect().unwrap_or_default()));
        answer.key("payloadLength").whole(header.payload_len());
        answer.key("metadataLength").whole(header.metadata_len());
        answer.key("payloadOffset").whole(head.body_offset() as u64);
        answer.key("frameLength").whole(needed);
        answer.key("compressed").flag(header.flags().is_compressed());
        answer.key("metadata").object(|answer| write_metadata(head.metadata(), answer));
    });
    Ok(())
}

fn write_metadata(metadata: &avp_core::Metadata<'_>, answer: &mut Answer) {
    let number = |answer: &mut Answer, number: Option<f64>| match number {
        Some(number) => _ = answer.number(number),
        None => _ = answer.null(),
    };
    answer.key("sessionId").text(metadata.session_id());
    answer.key("sourceAgentId").text(metadata.source_agent_id());
    answer.key("targetAgentId").text(metadata.target_agent_id());
    answer.key("modelId").text(metadata.model_id());
    answer.key("hiddenDim").whole(metadata.hidden_dim()).key("numLayers").whole(metadata.num_layers());
    answer.key("payloadType").text(metadata.payload_type().as_str());
    answer.key("dtype").text(metadata.dtype().as_str());
    answer.key("tensorShape").array(|answer| metadata.tensor_shape().for_each(|axis| _ = answer.whole(axis)));
    answer.key("mode").text(metadata.mode().as_str()).key("avpMapId").text(metadata.avp_map_id());
    // Of entries with one key, the last counts, here as in `JSON.parse`.
    answer
        .key("extra")
        .object(|answer| metadata.extra().for_each(|(key, value)| _ = answer.key(key).text(value)));
    number(answer.key("confidenceScore"), metadata.confidence_score().map(f64::from));
    number(answer.key("payloadChecksum"), metadata.payload_checksum().map(f64::from));
    answer.key("embeddingDim").whole(metadata.embedding_dim()).key("dataType").text(metadata.data_type());
    answer.key("agentId").optional_text(metadata.agent_id()).key("taskId").optional_text(metadata.task_id());
}

/// The host hands over no more than header and metadata, so where the input ends is for it to say.
fn seen_whole(error: DecodeError, frame_len: Option<u64>) -> DecodeError {
    match (error, frame_len) {
        (DecodeError::Truncated { what, needed, .. }, Some(got)) => {
            DecodeError::Truncated { what, needed, offset: to_usize(got) }
        }
        (error, _) => error,
    }
}

/// A frame's head. The host has checked every name and filled in every default.
pub(crate) fn encode_head(mut request: Request<'_>) -> Outcome<Vec<u8>> {
    let request = &mut request;
    let [session_id, source_agent_id, target_agent_id, model_id, avp_map_id] =
        [request.text()?, request.text()?, request.text()?, request.text()?, request.text()?];
    let (hidden_dim, num_layers) = (request.u32()?, request.u32()?);
    let payload_type = PayloadType::from_name(request.text()?).unwrap_or_default();
    let dtype = DType::from_name(request.text()?).unwrap_or_default();
    let mode = Mode::from_name(request.text()?).unwrap_or_default();
    let tensor_shape = request.list(Request::u32)?;
    let extra = request.pairs()?;
    let confidence_score = request.option(Request::number)?.map(|score| score as f32);
    let fields = MetadataFields {
        session_id,
        source_agent_id,
        target_agent_id,
        model_id,
        hidden_dim,
        num_layers,
        payload_type,
        dtype,
        tensor_shape: &tensor_shape,
        mode,
        confidence_score,
        avp_map_id,
        extra: &extra,
    };
    let mut encoder = FrameEncoder::new(fields)
        .dialect(Dialect::from_avp_version(request.text()?).unwrap_or_default())
        .align(request.u32()? as usize);
    if request.flag()? {
        encoder = encoder.compression(Compression::Fast);
    }
    if let Some(checksum) = request.option(Request::flag)? {
        encoder = encoder.checksum(checksum);
    }
    // A float becomes the nearest integer that there is: what is too long stays too long.
    Ok(encoder.encode_head_for(request.number()? as usize, request.u32()?)?)
}

/// Where the chunks of a hybrid body lie, and what kind each is by number.
pub(crate) fn decode_hybrid(body: &[u8], answer: &mut Answer) -> Outcome<()> {
    let start = body.as_ptr().addr();
    let hybrid = Hybrid::decode(body)?;
    answer.array(|answer| {
        for chunk in hybrid.chunks() {
            let kind = match chunk.kind {
                ChunkKind::Text => 0,
                ChunkKind::Latent => 1,
                ChunkKind::Other(kind) => kind,
            };
            // Absent data lies nowhere.
            let offset = if chunk.data.is_empty() { 0 } else { chunk.data.as_ptr().addr() - start };
            answer.object(|answer| {
                answer.key("kind").number(kind.into());
                answer.key("offset").whole(offset as u64).key("length").whole(chunk.data.len() as u64);
                answer.key("confidence").number(chunk.confidence.into());
            });
        }
    });
    Ok(())
}

/// A hybrid body. The request lists kind, length and confidence of each chunk; the data of all follows.
pub(crate) fn encode_hybrid(mut request: Request<'_>) -> Outcome<Vec<u8>> {
    let places = request.list(|request| Ok((request.number()?, request.number()?, request.number()?)))?;
    let mut rest = request.rest();
    let mut chunks = Vec::with_capacity(places.len());
    for (kind, length, confidence) in places {
        let (data, after) =
            rest.split_at_checked(length as usize).ok_or_else(crate::fault::Fault::bad_request)?;
        rest = after;
        let kind = match kind as i32 {
            0 => ChunkKind::Text,
            1 => ChunkKind::Latent,
            other => ChunkKind::Other(other),
        };
        chunks.push(Chunk { kind, data, confidence: confidence as f32 });
    }
    Ok(hybrid::encode(&chunks))
}

/// Layers that a cache without tokens may say it has: the core's own bound.
const MAX_EMPTY_LAYERS: u32 = 65_536;

/// Reads the header of a KV-cache of `body_len` bytes.
pub(crate) fn decode_kv(header: &[u8], body_len: u64, answer: &mut Answer) -> Outcome<()> {
    let header = KvHeader::decode(header)?;
    let (expected, got) = (header.body_len(), to_usize(body_len));
    match header.tensor_len() {
        Some(0) if header.num_layers > MAX_EMPTY_LAYERS => {
            Err(DecodeError::KvShape { expected: None, got }.into())
        }
        Some(tensor_len) if expected.map(|len| len as u64) == Some(body_len) => {
            answer.object(|answer| {
                answer.key("numLayers").whole(header.num_layers).key("numKvHeads").whole(header.num_kv_heads);
                answer.key("headDim").whole(header.head_dim).key("seqLen").whole(header.seq_len);
                answer.key("dtype").text(header.dtype.as_str()).key("tensorLength").whole(tensor_len as u64);
            });
            Ok(())
        }
        _ => Err(DecodeError::KvShape { expected, got }.into()),
    }
}

/// The header of a KV-cache whose tensors have the lengths given.
pub(crate) fn encode_kv(mut request: Request<'_>) -> Outcome<Vec<u8>> {
    let [num_layers, num_kv_heads, head_dim, seq_len] =
        [request.u32()?, request.u32()?, request.u32()?, request.u32()?];
    let name = request.text()?;
    let dtypes = [KvDType::Float32, KvDType::Float16, KvDType::BFloat16];
    let dtype = dtypes.into_iter().find(|dtype| dtype.as_str() == name).unwrap_or(KvDType::Float32);
    let tensors = request.list(Request::number)?;
    let header = KvHeader { num_layers, num_kv_heads, head_dim, seq_len, dtype };
    let expected =
        header.tensor_len().filter(|_| header.body_len().is_some()).ok_or(EncodeError::KvOverflow)?;
    let (layers, got) = (num_layers as usize, tensors.len() / 2);
    if layers != got {
        return Err(EncodeError::KvLayers { expected: layers, got }.into());
    }
    for (index, length) in tensors.iter().enumerate() {
        let (layer, tensor, got) = (index / 2, ["key", "value"][index % 2], *length as usize);
        if got != expected {
            return Err(EncodeError::KvTensor { layer, tensor, expected, got }.into());
        }
    }
    Ok(header.encode().into())
}

/// A length as the core's errors hold it. Only a frame that ends at 4 GiB or more is told of as ending there.
fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
