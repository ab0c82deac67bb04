//! Frames, hybrid bodies and KV-cache headers.

use avp_core::{
    Chunk, ChunkKind, Compression, DType, DecodeError, Dialect, EncodeError, Flags, FrameEncoder, FrameHead,
    Hybrid, KvDType, KvHeader, Metadata, Mode, PayloadType, hybrid,
};

use crate::{
    border::{Answer, Numbers, Request},
    fault::Outcome,
};

/// Header and metadata at the start of `bytes`. `frame_len` is the length of all the bytes that the host has, which must
/// be one whole frame; `None` asks for the head alone.
pub(crate) fn decode_head(bytes: &[u8], frame_len: Option<u64>) -> Outcome<Vec<u8>> {
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
    let mut answer = Numbers::about(bytes);
    answer.number(head.dialect().map_or(0, |dialect| 1 + dialect as u8)).number(header.flags().bits());
    answer.number(header.payload_len()).number(header.metadata_len());
    write_metadata(&head.metadata(), &mut answer);
    Ok(answer.into_bytes())
}

/// The names of the set flags. `number` is the flags, and above them 0 for no dialect, 1 for 0.2, or 2 for 0.3.
pub(crate) fn flag_names(number: u16, answer: &mut Answer) {
    let [flags, dialect] = number.to_le_bytes();
    let dialect = if dialect == 1 { Dialect::V0_2 } else { Dialect::V0_3 };
    answer.texts(Flags::from_bits(flags).names(dialect));
}

fn write_metadata(metadata: &Metadata<'_>, answer: &mut Numbers<'_>) {
    answer.text(metadata.session_id).text(metadata.source_agent_id).text(metadata.target_agent_id);
    answer.text(metadata.model_id).number(metadata.hidden_dim).number(metadata.num_layers);
    answer.number(metadata.payload_type as u8).number(metadata.dtype as u8).number(metadata.mode as u8);
    answer.text(metadata.avp_map_id).number(metadata.embedding_dim).text(metadata.data_type);
    answer.option(metadata.agent_id, Numbers::text).option(metadata.task_id, Numbers::text);
    answer.option(metadata.confidence_score, Numbers::number);
    answer.option(metadata.payload_checksum, Numbers::number);
    answer.list(metadata.tensor_shape.iter(), Numbers::number);
    answer.list(metadata.extra.iter(), |answer, (key, value)| answer.text(key).text(value));
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
    let fields = Metadata {
        session_id,
        source_agent_id,
        target_agent_id,
        model_id,
        hidden_dim,
        num_layers,
        payload_type,
        dtype,
        tensor_shape: tensor_shape.as_slice().into(),
        mode,
        confidence_score,
        avp_map_id,
        extra: extra.as_slice().into(),
        ..Metadata::default()
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

/// The chunks of a hybrid body: what kind each is by number, where it lies, how much it is to be trusted.
pub(crate) fn decode_hybrid(body: &[u8]) -> Outcome<Vec<u8>> {
    let hybrid = Hybrid::decode(body)?;
    let mut answer = Numbers::about(body);
    answer.list(hybrid.chunks(), |answer, chunk| {
        let kind = match chunk.kind {
            ChunkKind::Text => 0,
            ChunkKind::Latent => 1,
            ChunkKind::Other(kind) => kind,
        };
        answer.number(kind).bytes(chunk.data).number(chunk.confidence)
    });
    Ok(answer.into_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_lists_names_in_the_order_of_their_numbers() {
        let host = include_str!("../../src/frames.ts");
        let types =
            [PayloadType::HiddenState, PayloadType::KvCache, PayloadType::Embedding, PayloadType::Auto];
        let dtypes = [DType::Float32, DType::Float16, DType::BFloat16, DType::Int8];
        let lists = [
            ("DIALECTS", [Dialect::V0_2, Dialect::V0_3].map(|one| (one as u8, one.as_str())).to_vec()),
            ("PAYLOAD_TYPES", types.map(|one| (one as u8, one.as_str())).to_vec()),
            ("DTYPES", dtypes.map(|one| (one as u8, one.as_str())).to_vec()),
            ("MODES", [Mode::Latent, Mode::Hybrid, Mode::Json].map(|one| (one as u8, one.as_str())).to_vec()),
        ];
        for (name, values) in lists {
            let (numbers, names): (Vec<u8>, Vec<&str>) = values.into_iter().unzip();
            assert!(numbers.iter().copied().eq(0..names.len() as u8), "{name}");
            let list = format!("const {name} = [\"{}\"] as const;", names.join("\", \""));
            assert!(host.contains(&list), "{list}");
        }
    }
}
