//! What each fuzz target does with its input. It may refuse the input; it must not panic, and where it accepts, what it
//! read must hold together.
//!
//! The targets are plain functions, so that a finding also replays as an ordinary test: `avp-core/tests/regressions.rs`
//! includes this file.

use avp_core::{
    DecodeError, Frame, FrameEncoder, FrameHead, FrameLimits, FrameReader, Hybrid, KvDType, KvView, Metadata,
    OwnedFrame, hash, hybrid,
    json::Json,
    kv,
    messages::{FallbackRequest, Hello, JsonMessage},
};

/// Little enough that unpacking a bomb stops soon.
const LIMIT: usize = 1 << 20;

/// A frame: every view of it, borrowed and owned; its metadata written again.
pub fn frame(data: &[u8]) {
    let _ = FrameHead::decode(data);
    let frame = match Frame::decode(data) {
        Ok(frame) => frame,
        Err(error) => {
            assert!(error.offset() <= data.len().max(8), "{error:?} is not in {} bytes", data.len());
            assert_eq!(error.missing().is_some(), matches!(error, DecodeError::Truncated { .. }));
            return;
        }
    };
    let metadata = frame.metadata();
    let _ = (metadata.context(), frame.payload().map(<[u8]>::len));

    let owned = OwnedFrame::decode(data.to_vec().into()).expect("a frame");
    assert_eq!(owned.frame(), frame);
    assert_eq!(owned.head().head(), *frame.head());
    let Ok(payload) = frame.decompress_unverified(LIMIT) else { return };
    let verified = owned.payload(LIMIT).map(|payload| payload.len());
    assert_eq!(verified, frame.verify_checksum(&payload).map(|()| payload.len()));
    let _ = frame.kv_cache(&payload).map(|cache| cache.layers().count());
    let _ = frame.tensor(&payload).map(<[u8]>::len);

    // Metadata that was read can be written in its dialect, and reads back the same.
    let Some(dialect) = frame.dialect() else { return };
    let again =
        FrameEncoder::new(metadata).dialect(dialect).encode(&payload).expect("the dialect has what it gave");
    let again = Frame::decode(&again).expect("a written frame reads back");
    assert_eq!(again.payload().expect("uncompressed"), &payload[..]);
    let rewritten = again.metadata();
    assert!(metadata.extra.iter().all(|(key, _)| rewritten.extra.get(key) == metadata.extra.get(key)));
    let bits = |score: Option<f32>| score.map(f32::to_bits);
    assert_eq!(bits(rewritten.confidence_score), bits(metadata.confidence_score));
    // The names of dialect 0.1 are read only.
    let rest = |metadata| Metadata {
        extra: Default::default(),
        confidence_score: None,
        payload_checksum: None,
        embedding_dim: 0,
        data_type: "",
        agent_id: None,
        task_id: None,
        ..metadata
    };
    assert_eq!(rest(rewritten), rest(metadata));
}

/// A stream in pieces whose lengths the first byte decides; must give the frames that reading it whole gives.
pub fn stream(data: &[u8]) {
    let Some((&piece, mut rest)) = data.split_first() else { return };
    let limits = FrameLimits { frame: LIMIT as u64, ..FrameLimits::NONE };
    let mut reader = FrameReader::new(limits);
    let mut in_pieces = Vec::new();
    let mut failed = false;
    for bytes in rest.chunks(usize::from(piece).max(1)) {
        reader.feed(bytes);
        let _ = reader.head().map(|head| head.map(|head| head.metadata().extra.iter().count()));
        while !failed {
            match reader.next_frame() {
                Ok(Some(frame)) => in_pieces.push(frame.into_bytes()),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.missing().is_none());
                    failed = true;
                }
            }
        }
    }
    let mut whole = Vec::new();
    while let Ok((frame, after)) = Frame::decode_first(rest) {
        if frame.header().frame_len() > LIMIT as u64 {
            break;
        }
        whole.push(&rest[..rest.len() - after.len()]);
        rest = after;
    }
    assert_eq!(in_pieces, whole);
}

/// A hybrid body: chunks read, written and read again.
pub fn hybrid(data: &[u8]) {
    let Ok(hybrid) = Hybrid::decode(data) else { return };
    let chunks: Vec<_> = hybrid.chunks().collect();
    let body = hybrid::encode(&chunks);
    let again = Hybrid::decode(&body).expect("what is written reads back");
    assert_eq!((again.text(), again.latent()), (hybrid.text(), hybrid.latent()));
    assert_eq!(again.chunks().count(), chunks.len());
}

/// A KV-cache: views, cuts whose ranges the last bytes decide, joins, conversions.
pub fn kv(data: &[u8]) {
    let (body, [a, b, format]) = match data.split_last_chunk::<3>() {
        Some((body, last)) => (body, *last),
        None => return,
    };
    let Ok(cache) = KvView::decode(body) else { return };
    let tokens = cache.header().seq_len as usize;
    let (a, b) = (usize::from(a) % (tokens + 2), usize::from(b) % (tokens + 2));
    let _ = cache.layers().map(|layer| layer.key_values().len()).sum::<usize>();
    if body.len() > LIMIT {
        return;
    }
    let dtype = [KvDType::Float32, KvDType::Float16, KvDType::BFloat16][usize::from(format) % 3];
    let Ok(cut) = cache.select().tokens(a..b) else { return };
    let cut = cut.dtype(dtype).to_vec().expect("a cut is smaller than the whole, or four times at most");
    assert_eq!(KvView::decode(&cut).expect("a cache").header().seq_len as usize, b - a);
    let parts = [cache.select().tokens(0..b.min(tokens)), cache.select().tokens(b.min(tokens)..tokens)];
    let parts = parts.map(|part| part.expect("within the cache"));
    assert_eq!(kv::concat(&parts).as_deref(), Ok(body));
}

/// JSON: a value whose canonical form is its own canonical form, hashes, messages.
pub fn json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Json::parse(text) {
        Ok(value) => {
            let canonical = value.to_canonical();
            let again = Json::parse(&canonical).expect("canonical JSON is JSON");
            assert_eq!(again.to_canonical(), canonical);
            assert!(canonical.is_ascii());
            assert_eq!(hash::model_hash(text), hash::model_hash(&canonical));
            assert!(Json::parse(&value.to_string()).is_ok());
        }
        Err(error) => assert!(error.offset() <= text.len() && text.is_char_boundary(error.offset())),
    }
    let _ = hash::tokenizer_hash(text);
    let _ = avp_core::OwnedModelIdentity::from_config(text);
    if let Ok(hello) = Hello::parse(text) {
        // NaN is not equal to itself, so it is the texts that are compared.
        assert_eq!(Hello::parse(&hello.to_string()).expect("a hello").to_string(), hello.to_string());
    }
    if let Ok(message) = JsonMessage::parse(text) {
        let again = JsonMessage::parse(&message.to_string()).expect("a message");
        assert_eq!(again.to_string(), message.to_string());
    }
    let _ = FallbackRequest::parse(text).map(|request| request.to_string());
}
