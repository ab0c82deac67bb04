//! Round trips, and invalid files.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::MapFolder;

fn model(name: &str, hidden_dim: u32) -> MapModel {
    let hash = |salt: &str| {
        name.bytes().chain(salt.bytes()).cycle().take(32).map(|byte| format!("{byte:02x}")).collect()
    };
    MapModel {
        model_id: name.to_owned(),
        model_hash: hash("model"),
        tokenizer_hash: hash("tokens"),
        hidden_dim,
    }
}

fn map(body: Body) -> AvpMap {
    AvpMap {
        source: model("source", 3),
        target: model("target", 2),
        target_norm: 0.1,
        anchor_count: 7,
        validation_score: -0.25,
        body,
    }
}

/// One map of each method, and each number format of a table.
fn maps() -> Vec<AvpMap> {
    let table = |value: f32| Table::new(2, (0..240u8).map(|at| f32::from(at % 3) * value).collect()).unwrap();
    let ids = Overlap { source_ids: (0..120).collect(), target_ids: (7..127).collect() };
    let matrix = vec![0.1; 6];
    vec![
        map(Body::Mediated(table(0.1))),
        map(Body::Mediated(table(0.5))),
        map(Body::Mediated(table(2f32.powi(100)))),
        map(Body::Overlap { table: table(0.1), ids }),
        map(Body::Linear { method: Method::Ridge, matrix: matrix.clone(), bias: None }),
        map(Body::Linear { method: Method::Procrustes, matrix, bias: Some(vec![1., -2.]) }),
    ]
}

/// Header and data of a file, to be changed and reassembled.
struct Parts {
    header: Value,
    data: Vec<u8>,
}

impl Parts {
    fn of(map: &AvpMap) -> Self {
        let bytes = map.to_bytes().unwrap();
        let size = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        Self {
            header: serde_json::from_slice(&bytes[8..8 + size]).unwrap(),
            data: bytes[8 + size..].to_vec(),
        }
    }

    fn read(&self) -> Result<AvpMap, MapError> {
        let header = self.header.to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&self.data);
        AvpMap::from_bytes(&bytes)
    }

    fn with(map: &AvpMap, path: &str, value: Value) -> Result<AvpMap, MapError> {
        let mut parts = Self::of(map);
        *parts.header.pointer_mut(path).unwrap() = value;
        parts.read()
    }
}

#[test]
fn a_map_round_trips() {
    for map in maps() {
        assert_eq!(AvpMap::from_bytes(&map.to_bytes().unwrap()).unwrap(), map);
    }
}

#[test]
fn every_field_is_needed_and_checked() {
    let map = &maps()[0];
    let fields = Parts::of(map).header["__metadata__"].as_object().unwrap().clone();
    assert_eq!(fields.len(), 14);
    for field in fields.keys() {
        let mut parts = Parts::of(map);
        parts.header["__metadata__"].as_object_mut().unwrap().remove(field);
        assert!(matches!(parts.read(), Err(MapError::MissingField { field: named }) if named == field));
    }
    for (field, values) in [
        ("format", &["avp-kv", ""][..]),
        ("version", &["2", "1.0"]),
        ("method", &["magic", "VOCAB_MEDIATED"]),
        ("source_hash", &["", "abc", "../../../../../../etc/passwd", "zzzzzzzzzzzzzzzz"]),
        ("target_tokenizer_hash", &["abc"]),
        ("source_dim", &["0", "-1", "4294967296", "3.0"]),
        ("target_norm", &["0", "-1", "NaN", "inf", "1e39"]),
        ("anchor_count", &["-1", "many"]),
        ("validation_score", &["NaN", ""]),
    ] {
        for value in values {
            let refused = Parts::with(map, &format!("/__metadata__/{field}"), json!(value));
            assert!(
                matches!(refused, Err(MapError::Field { field: named, .. }) if named == field),
                "{value}"
            );
        }
    }
    // Text where a table of texts should be, and no table at all.
    assert!(matches!(Parts::with(map, "/__metadata__", json!("x")), Err(MapError::Malformed { .. })));
    assert!(matches!(Parts::with(map, "/__metadata__", json!({})), Err(MapError::MissingField { .. })));
}

#[test]
fn tensors_of_another_type_shape_or_name_are_refused() {
    let [mediated, _, _, overlap, ridge, _] = &maps()[..] else { panic!() };
    let with = |map, path: &str, value| Parts::with(map, path, value).unwrap_err();
    assert!(matches!(with(mediated, "/w_map/dtype", json!("I32")), MapError::DType { tensor: W_MAP, .. }));
    assert!(matches!(with(overlap, "/src_indices/dtype", json!("F32")), MapError::DType { .. }));
    assert!(matches!(with(ridge, "/w_map/dtype", json!("U32")), MapError::DType { .. }));
    for wrong in [json!([240]), json!([80, 3]), json!([240, 1]), json!([1, 120, 2])] {
        assert!(matches!(with(mediated, "/w_map/shape", wrong), MapError::Shape { tensor: W_MAP, .. }));
    }
    assert!(matches!(with(ridge, "/w_map/shape", json!([2, 3])), MapError::Shape { .. }));
    assert!(matches!(with(ridge, "/__metadata__/source_dim", json!("4294967295")), MapError::Shape { .. }));
    // A shape larger than its bytes, or that overflows, is not valid safetensors.
    for wrong in [json!([240, 2]), json!([u64::MAX, 2]), json!([0, 2])] {
        assert!(matches!(with(mediated, "/w_map/shape", wrong), MapError::Malformed { .. }));
    }
    assert!(matches!(
        with(mediated, "/__metadata__/method", json!("vocab_overlap")),
        MapError::MissingTensor { tensor: SRC_INDICES }
    ));
    assert!(matches!(
        with(overlap, "/__metadata__/method", json!("vocab_mediated")),
        MapError::UnknownTensor { .. }
    ));
}

#[test]
fn non_finite_values_and_repeated_tokens_are_refused() {
    let [mediated, half, _, overlap, ridge, with_bias] = &maps()[..] else { panic!() };
    let with = |map: &AvpMap, at: usize, bytes: &[u8]| {
        let mut parts = Parts::of(map);
        parts.data[at..at + bytes.len()].copy_from_slice(bytes);
        parts.read()
    };
    for value in [f32::NAN, f32::INFINITY] {
        for map in [mediated, ridge] {
            let refused = with(map, 4, &value.to_le_bytes());
            assert_eq!(refused, Err(MapError::NotFinite { tensor: W_MAP }));
        }
    }
    assert_eq!(with(half, 2, &f16::NAN.to_le_bytes()), Err(MapError::NotFinite { tensor: W_MAP }));
    let place = |map: &AvpMap, tensor: &str| {
        Parts::of(map).header[tensor]["data_offsets"][0].as_u64().unwrap() as usize
    };
    let at = place(with_bias, BIAS);
    assert_eq!(with(with_bias, at, &f32::NAN.to_le_bytes()), Err(MapError::NotFinite { tensor: BIAS }));
    let at = place(overlap, TGT_INDICES);
    let refused = with(overlap, at, &9u32.to_le_bytes());
    assert_eq!(refused, Err(MapError::RepeatedToken { tensor: TGT_INDICES, id: 9 }));
}

#[test]
fn fewer_than_a_hundred_shared_tokens_are_refused() {
    let table = Table::new(2, vec![0.5; 198]).unwrap();
    let ids = Overlap { source_ids: (0..99).collect(), target_ids: (0..99).collect() };
    let bytes = map(Body::Overlap { table, ids }).to_bytes().unwrap();
    assert!(matches!(AvpMap::from_bytes(&bytes), Err(MapError::Shape { tensor: SRC_INDICES, .. })));
}

#[test]
fn long_headers_are_refused_before_parsing() {
    for size in [MAX_HEADER + 1, u64::MAX] {
        let mut bytes = size.to_le_bytes().to_vec();
        bytes.extend([b' '; 64]);
        assert!(matches!(AvpMap::from_bytes(&bytes), Err(MapError::Malformed { .. })));
    }
}

#[test]
fn a_folder_finds_only_the_pair_with_both_hashes() {
    let root = tempfile::tempdir().unwrap();
    let folder = MapFolder::at(root.path().join("new").join("maps"));
    let map = &maps()[4];
    let (source, target) = (&map.source.model_hash, &map.target.model_hash);
    assert_eq!(folder.load(source, target), Ok(None));
    let path = folder.save(map).unwrap();
    assert_eq!(
        path.file_name().unwrap().to_str().unwrap(),
        format!("{}_{}.avp-map", &source[..16], &target[..16])
    );
    assert_eq!(folder.load(source, target).unwrap().as_ref(), Some(map));
    assert_eq!(folder.load(target, source), Ok(None));
    // Hashes with the same prefix share a file name.
    let other = format!("{}{}", &source[..16], "0".repeat(48));
    assert!(matches!(folder.load(&other, target), Err(MapError::OtherPair { field: "source_hash", .. })));
    for no_hash in ["", "short", "../../../../secret", "/etc/passwd/aaaaaaaaaa"] {
        assert_eq!(folder.load(no_hash, target), Ok(None));
    }
}

#[test]
fn a_failed_write_keeps_the_existing_file() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.avp-map");
    let map = &maps()[4];
    map.save(&path).unwrap();
    map.save(&path).unwrap();
    assert_eq!(AvpMap::load(&path).as_ref(), Ok(map));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    let inside_a_file = path.join("b.avp-map");
    assert!(matches!(map.save(&inside_a_file), Err(MapError::Unwritable { .. })));
    assert!(matches!(AvpMap::load(&root.path().join("none")), Err(MapError::Unreadable { .. })));
    assert_eq!(AvpMap::load(&path).as_ref(), Ok(map));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(AvpMap::from_bytes(&bytes).is_err());
    }

    #[test]
    fn a_changed_file_is_refused_or_gives_a_valid_map(
        which in 0usize..6,
        cut in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let whole = maps()[which].to_bytes().unwrap();
        let mut bytes = whole.clone();
        for (at, byte) in changes {
            bytes[at.index(whole.len())] = byte;
        }
        if let Ok(map) = AvpMap::from_bytes(&bytes) {
            // A map that is read can be written, read again and used.
            prop_assert_eq!(&AvpMap::from_bytes(&map.to_bytes().unwrap()).unwrap(), &map);
            let head = Table::new(3, vec![0.5; 900]).unwrap();
            let used = map.project(&[1., 2., 3.], &head, &Default::default());
            prop_assert!(used.is_err() || used.unwrap().vector.len() == map.target.hidden_dim as usize);
        }
        let cut = cut.index(whole.len());
        prop_assert!(AvpMap::from_bytes(&whole[..cut]).is_err());
    }
}
