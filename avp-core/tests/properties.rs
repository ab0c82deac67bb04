//! Rules that hold for all values and all bytes, tried on random ones and on every vector.
#![cfg(all(feature = "std", feature = "zstd"))]

use std::{fs, path::Path};

use avp_core::{
    Chunk, ChunkKind, Compression, DType, Dialect, Frame, FrameEncoder, FrameHead, Hybrid, KvDType, KvHeader,
    KvView, Metadata, Mode, PayloadType, hybrid,
    json::Json,
    kv::{self, BlockShape, BlockTable},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// Room enough for every vector, and little enough that a bomb would be noticed.
const LIMIT: usize = 1 << 20;

/// Metadata that owns its text, as proptest makes it.
#[derive(Debug, Clone)]
struct Fields {
    texts: [String; 5],
    numbers: [u32; 2],
    payload_type: PayloadType,
    dtype: DType,
    tensor_shape: Vec<u32>,
    mode: Mode,
    confidence_score: Option<f32>,
    extra: Vec<(String, String)>,
}

fn fields(dialect: Dialect) -> impl Strategy<Value = Fields> {
    let payload_types = match dialect {
        Dialect::V0_2 => vec![PayloadType::HiddenState, PayloadType::KvCache, PayloadType::Embedding],
        Dialect::V0_3 => vec![PayloadType::HiddenState, PayloadType::KvCache, PayloadType::Auto],
    };
    let (modes, confidence) = match dialect {
        Dialect::V0_2 => (vec![Mode::Latent, Mode::Hybrid, Mode::Json], option::of(any::<f32>()).boxed()),
        Dialect::V0_3 => (vec![Mode::Latent, Mode::Json], Just(None).boxed()),
    };
    (
        any::<[String; 5]>(),
        any::<[u32; 2]>(),
        select(payload_types),
        select(vec![DType::Float32, DType::Float16, DType::BFloat16, DType::Int8]),
        vec(any::<u32>(), 0..5),
        select(modes),
        confidence,
        vec(any::<(String, String)>(), 0..4),
    )
        .prop_map(
            |(texts, numbers, payload_type, dtype, tensor_shape, mode, confidence_score, extra)| Fields {
                texts,
                numbers,
                payload_type,
                dtype,
                tensor_shape,
                mode,
                confidence_score,
                extra,
            },
        )
}

fn dialect_and_fields() -> impl Strategy<Value = (Dialect, Fields)> {
    select(vec![Dialect::V0_2, Dialect::V0_3])
        .prop_flat_map(|dialect| fields(dialect).prop_map(move |fields| (dialect, fields)))
}

impl Fields {
    fn encode(&self, dialect: Dialect, compression: Compression, payload: &[u8]) -> Vec<u8> {
        let extra: Vec<(&str, &str)> = self.extra.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let encoder = FrameEncoder::new(Metadata {
            session_id: &self.texts[0],
            source_agent_id: &self.texts[1],
            target_agent_id: &self.texts[2],
            model_id: &self.texts[3],
            hidden_dim: self.numbers[0],
            num_layers: self.numbers[1],
            payload_type: self.payload_type,
            dtype: self.dtype,
            tensor_shape: self.tensor_shape.as_slice().into(),
            mode: self.mode,
            confidence_score: self.confidence_score,
            avp_map_id: &self.texts[4],
            extra: extra.as_slice().into(),
            ..Metadata::default()
        });
        encoder
            .dialect(dialect)
            .compression(compression)
            .encode(payload)
            .expect("the dialect has every field")
    }
}

proptest! {
    /// With `compact`, another library reads them.
    #[test]
    fn floats_in_json_are_those_of_the_standard_library(
        text in prop_oneof![
            any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
            "-?[1-9][0-9]{0,30}(\\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?",
            "-?[0-9]\\.[0-9]{1,900}",
        ]
    ) {
        let ours = Json::parse(&text).ok().and_then(|json| json.as_f64());
        prop_assert_eq!(ours.map(f64::to_bits), text.parse().ok().map(f64::to_bits));
    }

    #[test]
    fn frames_read_back_as_written(
        (dialect, fields) in dialect_and_fields(),
        compression in select(vec![Compression::None, Compression::Fast]),
        payload in vec(any::<u8>(), 0..300),
    ) {
        let bytes = fields.encode(dialect, compression, &payload);
        let frame = Frame::decode(&bytes).unwrap();
        prop_assert!(frame.dialect().is_none_or(|found| found == dialect));
        prop_assert_eq!(&*frame.decompress(LIMIT).unwrap(), &payload[..]);

        let metadata = frame.metadata();
        prop_assert_eq!(metadata.session_id, &fields.texts[0]);
        prop_assert_eq!(metadata.source_agent_id, &fields.texts[1]);
        prop_assert_eq!(metadata.target_agent_id, &fields.texts[2]);
        prop_assert_eq!(metadata.model_id, &fields.texts[3]);
        prop_assert_eq!([metadata.hidden_dim, metadata.num_layers], fields.numbers);
        prop_assert_eq!(metadata.payload_type, fields.payload_type);
        prop_assert_eq!(metadata.dtype, fields.dtype);
        prop_assert!(metadata.tensor_shape.iter().eq(fields.tensor_shape.iter().copied()));
        prop_assert_eq!(metadata.mode, fields.mode);
        prop_assert_eq!(metadata.avp_map_id, &fields.texts[4]);
        prop_assert_eq!(metadata.payload_checksum.is_some(), dialect.has_checksum());
        let bits = |score: Option<f32>| score.unwrap_or_default().to_bits();
        prop_assert_eq!(bits(metadata.confidence_score), bits(fields.confidence_score));
        let extra: std::collections::BTreeMap<_, _> = fields.extra.iter().cloned().collect();
        prop_assert!(metadata.extra.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).eq(extra));
    }

    #[test]
    fn any_bytes_after_a_header_give_a_frame_or_an_error(
        flags in 0_u8..16,
        metadata in vec(any::<u8>(), 0..64),
        body in vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = b"AV\x01".to_vec();
        bytes.push(flags);
        bytes.extend(u32::try_from(metadata.len() + body.len()).unwrap().to_le_bytes());
        bytes.extend(u32::try_from(metadata.len()).unwrap().to_le_bytes());
        bytes.extend([metadata, body].concat());
        read_everything(&bytes);
    }

    #[test]
    fn hybrid_bodies_read_back_as_written(
        chunks in vec((any::<i32>(), vec(any::<u8>(), 0..20), "\\PC*", any::<f32>()), 0..5),
    ) {
        let chunks: Vec<Chunk<'_>> = chunks
            .iter()
            .map(|(kind, data, text, confidence)| match kind {
                i32::MIN..-1_000_000_000 => Chunk::text(text, *confidence),
                -1_000_000_000..0 => Chunk::latent(data, *confidence),
                0..=1 => Chunk::latent(data, 0.0),
                &kind => Chunk { kind: ChunkKind::Other(kind), data, confidence: *confidence },
            })
            .collect();
        let body = hybrid::encode(&chunks);
        let found: Vec<Chunk<'_>> = Hybrid::decode(&body).unwrap().chunks().collect();
        prop_assert_eq!(found.len(), chunks.len());
        for (found, written) in found.iter().zip(&chunks) {
            prop_assert_eq!((found.kind, found.data), (written.kind, written.data));
            prop_assert_eq!(found.confidence.to_bits(), written.confidence.to_bits());
        }
    }

    #[test]
    fn kv_caches_read_back_as_written(
        [num_layers, num_kv_heads, head_dim, seq_len] in [1_u32..4, 1_u32..4, 1_u32..9, 0_u32..9],
        dtype in select(vec![KvDType::Float32, KvDType::Float16, KvDType::BFloat16]),
        seed in any::<u8>(),
    ) {
        let header = KvHeader { num_layers, num_kv_heads, head_dim, seq_len, dtype };
        let len = header.tensor_len().unwrap();
        let layers: Vec<(Vec<u8>, Vec<u8>)> = (0..num_layers)
            .map(|layer| (vec![layer as u8 ^ seed; len], vec![layer as u8 ^ !seed; len]))
            .collect();
        let body = kv::encode(header, layers.iter().map(|(k, v)| (k, v))).unwrap();
        let view = KvView::decode(&body).unwrap();
        prop_assert_eq!(*view.header(), header);
        prop_assert!(view.layers().map(|l| (l.key().to_vec(), l.value().to_vec())).eq(layers));
    }
}

#[test]
fn every_vector_cut_at_every_byte_asks_for_more() {
    for frame in peer_frames() {
        for len in 0..frame.len() {
            let error = Frame::decode(&frame[..len]).unwrap_err();
            assert_eq!((error.kind(), error.offset()), ("truncated", len));
        }
    }
}

#[test]
fn every_vector_with_any_bit_flipped_gives_a_frame_or_an_error() {
    for mut frame in peer_frames().into_iter().filter(|frame| frame.len() < 300) {
        for bit in 0..8 * frame.len() {
            frame[bit / 8] ^= 1 << (bit % 8);
            read_everything(&frame);
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn every_vector_with_any_lying_length_gives_a_frame_or_an_error() {
    for mut frame in peer_frames() {
        let honest = frame[4..12].to_vec();
        for lie in [0, 1, 11, 12, 13, 127, 128, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            for field in [4, 8] {
                frame[field..field + 4].copy_from_slice(&lie.to_le_bytes());
                read_everything(&frame);
                frame[4..12].copy_from_slice(&honest);
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "megabytes take Miri hours")]
fn bodies_large_enough_to_be_shared_among_threads_are_written_whole() {
    let shape = BlockShape {
        num_blocks: 80,
        num_kv_heads: 2,
        block_size: 16,
        head_dim: 128,
        dtype: KvDType::Float32,
    };
    let layer_len = shape.layer_len().expect("a small pool");
    let pools: Vec<Vec<u8>> =
        (0..4_usize).map(|layer| (0..layer_len).map(|index| (index % 251 + layer) as u8).collect()).collect();
    let layers: Vec<&[u8]> = pools.iter().map(Vec::as_slice).collect();
    let blocks: Vec<u32> = (0..80).map(|index| index * 37 % 80).collect();
    let table = BlockTable::new(&blocks, shape).expect("a sound table");
    let body = table.gather(&layers, 80 * 16).expect("a cache");
    assert!(body.len() > 8 << 20);
    // Token 17 of key head 1 is token 1 of the second block, 37.
    let cache = KvView::decode(&body).expect("a cache");
    let (row, head) = (128 * 4, 16 * 128 * 4);
    let in_block = &pools[3][37 * 4 * head + head + row..][..row];
    assert_eq!(&cache.layer(3).key()[(80 * 16 + 17) * row..][..row], in_block);
    let mut scattered = vec![vec![0; layer_len]; 4];
    let mut targets: Vec<&mut [u8]> = scattered.iter_mut().map(Vec::as_mut_slice).collect();
    table.scatter(&cache, &mut targets).expect("room");
    assert!(scattered == pools);

    let encoder = FrameEncoder::new(Metadata { session_id: "s", ..Default::default() });
    let frame = encoder.encode(&body).expect("a frame");
    let head = encoder.encode_head(&[&body]).expect("a head");
    assert!(frame[..head.len()] == head && frame[head.len()..] == body);
    // One buffer has room to spare, the other has not.
    for spare in [64, 0] {
        let mut out = vec![0xee; frame.len() + spare];
        assert_eq!(encoder.encode_into(&body, &mut out), Ok(frame.len()));
        assert!(out[..frame.len()] == frame);
    }
}

/// Every accessor of every reader; what they give is not looked at, only that they give it.
fn read_everything(bytes: &[u8]) {
    let _ = FrameHead::decode(bytes);
    let Ok(frame) = Frame::decode(bytes) else { return };
    let metadata = frame.metadata();
    let _ = (metadata.tensor_shape.iter().count(), metadata.extra.iter().count());
    let _ = (frame.payload(), frame.decompress(LIMIT));
    if let Ok(payload) = frame.decompress_unverified(LIMIT) {
        let _ = Hybrid::decode(&payload).map(|hybrid| hybrid.chunks().count());
        let _ = KvView::decode(&payload).map(|view| view.layers().count());
    }
}

fn peer_frames() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/avp");
    let mut frames = Vec::new();
    for version in ["0.2.1", "0.3.2", "0.4.0", "0.4.2", "0.5.1", "0.6.2"] {
        let text =
            fs::read_to_string(folder.join(format!("frames-{version}.json"))).expect("a file of cases");
        let cases: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        frames.extend(cases["cases"].as_array().expect("cases").iter().map(|case| {
            let hex = case["input"]["hex"].as_str().expect("hex");
            (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
                .collect()
        }));
    }
    assert_eq!(frames.len(), 144);
    frames
}
