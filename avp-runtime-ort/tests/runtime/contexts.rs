//! Contexts as frames and files: copies, fingerprints, errors.

use std::{
    fs,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use avp_core::{
    Compression, DType, DecodeError, Dialect, Frame, FrameEncoder, KvDType, KvError, KvHeader, Metadata,
    PayloadType, Rule,
};
use avp_runtime_ort::{
    Context, ContextError, FrameOptions, FrameReadOptions, GenerateOptions, Generation, Model, Prompt,
    RunError, ThinkOptions,
};
use bytes::Bytes;

use crate::common::{load, runtime, think};

const TEXT: &str = "Rosa lives in Lisbon. Rosa has a parrot.";
const SCAN: FrameReadOptions =
    FrameReadOptions { verify_checksum: true, scan: true, payload_limit: usize::MAX };

fn qwen() -> Model {
    load("test-vectors/parity/tiny-qwen2")
}

fn answer(model: &Model, context: &Context) -> Generation {
    let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
    model.generate("Where does Rosa live?", Some(context), &options).unwrap()
}

fn frame(context: &Context) -> Vec<u8> {
    context.to_frame(&FrameOptions::default()).unwrap()
}

/// A frame with all fields, as `save` writes it.
fn full(context: &Context) -> Vec<u8> {
    context.to_frame(&everything()).unwrap()
}

fn read(frame: Vec<u8>) -> Result<Context, ContextError> {
    Context::from_bytes(runtime(), frame, &FrameReadOptions::default())
}

/// The frame with another body or other `extra` entries, and a valid checksum.
fn rewrite(frame: &[u8], extra: &[(&str, &str)], body: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let frame = Frame::decode(frame).unwrap();
    let metadata = frame.metadata();
    let mut payload = frame.payload().unwrap().to_vec();
    body(&mut payload);
    let kept = metadata.extra.iter().filter(|(key, _)| extra.iter().all(|(other, _)| key != other));
    let entries: Vec<_> = kept.chain(extra.iter().copied()).collect();
    let fields = Metadata {
        model_id: metadata.model_id,
        hidden_dim: metadata.hidden_dim,
        num_layers: u32::from_le_bytes(payload[..4].try_into().unwrap()),
        payload_type: PayloadType::KvCache,
        extra: entries.as_slice().into(),
        ..Metadata::default()
    };
    FrameEncoder::new(fields).encode(&payload).unwrap()
}

/// Memory that reports its release.
struct Watched(Vec<u128>, Range<usize>, Arc<AtomicBool>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[self.1.clone()]
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.2.store(true, SeqCst);
    }
}

/// `bytes` at a multiple of 16 bytes, plus `offset`.
fn watched(bytes: &[u8], offset: usize) -> (Bytes, Arc<AtomicBool>) {
    let mut memory = vec![0_u128; (bytes.len() + offset).div_ceil(16)];
    let place = offset..offset + bytes.len();
    bytemuck::cast_slice_mut(&mut memory)[place.clone()].copy_from_slice(bytes);
    let gone = Arc::new(AtomicBool::new(false));
    (Bytes::from_owner(Watched(memory, place, gone.clone())), gone)
}

#[test]
fn only_an_unaligned_frame_is_copied() {
    let model = qwen();
    let context = think(&model, TEXT, 3, None);
    let expected = answer(&model, &context);
    for (offset, copied) in [(0, false), (4, false), (2, true)] {
        let (bytes, gone) = watched(&full(&context), offset);
        let received = Context::from_bytes(runtime(), bytes, &FrameReadOptions::default()).unwrap();
        assert_eq!(gone.load(SeqCst), copied, "{offset}");
        assert_eq!(answer(&model, &received).tokens, expected.tokens);
        // Two runs at once read the same memory, and neither changes it.
        assert_eq!(full(&received), full(&context));
        drop(received);
        assert!(gone.load(SeqCst));
    }
}

#[test]
fn writing_to_a_stream_gives_the_same_frame() {
    let context = think(&qwen(), TEXT, 3, None);
    for dialect in [Dialect::V0_2, Dialect::V0_3] {
        for compression in [Compression::None, Compression::Fast] {
            for alignment in [1, 64, 4096] {
                let options = FrameOptions {
                    session_id: "s".into(),
                    dialect,
                    compression,
                    alignment,
                    ..FrameOptions::default()
                };
                let frame = context.to_frame(&options).unwrap();
                let mut written = Vec::new();
                assert_eq!(context.write_to(&mut written, &options).unwrap(), frame.len() as u64);
                assert_eq!(written, frame, "{options:?}");
                let decoded = Frame::decode(&frame).unwrap();
                assert_eq!(decoded.is_compressed(), compression != Compression::None);
                if compression == Compression::None {
                    assert_eq!((decoded.body_offset() + KvHeader::LEN) % alignment, 0, "{options:?}");
                }
                assert_eq!(read(frame).unwrap().seq_len(), context.seq_len());
            }
        }
    }
}

#[test]
fn a_checksum_is_written_and_verified_as_asked() {
    let context = think(&qwen(), TEXT, 0, None);
    let without = FrameOptions { checksum: Some(false), ..FrameOptions::default() };
    let without = context.to_frame(&without).unwrap();
    assert!(Frame::decode(&without).unwrap().metadata().payload_checksum.is_none());
    let in_0_2 = FrameOptions { checksum: Some(true), dialect: Dialect::V0_2, ..FrameOptions::default() };
    assert!(matches!(context.to_frame(&in_0_2), Err(ContextError::Encode(_))));
    let mut wrong = frame(&context);
    *wrong.last_mut().unwrap() ^= 1;
    assert!(matches!(read(wrong.clone()), Err(ContextError::Decode(DecodeError::ChecksumMismatch { .. }))));
    let unverified = FrameReadOptions { verify_checksum: false, ..FrameReadOptions::default() };
    assert!(Context::from_bytes(runtime(), wrong, &unverified).is_ok());
}

#[test]
fn a_frame_tells_tokens_and_weights_only_when_asked_to() {
    let context = think(&qwen(), TEXT, 3, None);
    let plain = read(frame(&context)).unwrap();
    assert!(plain.tokens().is_none() && plain.fingerprint().is_none());
    let keys = |frame: &[u8]| {
        let frame = Frame::decode(frame).unwrap();
        frame.metadata().extra.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&frame(&context)), ["_pad", "model_family", "model_hash", "num_steps"]);
    let told = read(full(&context)).unwrap();
    assert!(told.tokens().unwrap().eq(context.tokens().unwrap()));
    assert_eq!(told.fingerprint(), context.fingerprint());
}

#[test]
fn token_ids_too_many_for_a_transport_are_refused_in_frames_and_kept_in_files() {
    let header =
        KvHeader { num_layers: 1, num_kv_heads: 1, head_dim: 1, seq_len: 46_083, dtype: KvDType::Float16 };
    let mut body = header.encode().to_vec();
    body.resize(header.body_len().unwrap(), 0);
    // Four characters of base64 for three latent steps.
    let token_ids = "AAAA".repeat(46_083 / 3);
    let entries = [("token_ids", &token_ids[..])];
    let fields =
        Metadata { payload_type: PayloadType::KvCache, extra: (&entries).into(), ..Metadata::default() };
    let context = read(FrameEncoder::new(fields).encode(&body).unwrap()).unwrap();
    assert!(context.tokens().unwrap().all(|token| token.is_none()));
    let options = FrameOptions { token_ids: true, ..FrameOptions::default() };
    let refused = Err(ContextError::TooLarge { field: "token_ids", value: token_ids.len() });
    assert_eq!(context.to_frame(&options), refused);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("context.avp");
    context.save(&path).unwrap();
    let loaded = Context::load(runtime(), &path, &SCAN).unwrap();
    assert_eq!(loaded.tokens().unwrap().len(), 46_083);
}

#[test]
fn a_saved_context_is_loaded_with_all_it_knew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("context.avp");
    for name in ["test-vectors/parity/tiny-qwen2", "test-vectors/parity/tiny-llama"] {
        let model = load(name);
        let context = think(&model, TEXT, 5, None);
        context.save(&path).unwrap();
        let loaded = Context::load(runtime(), &path, &SCAN).unwrap();
        // The name can be written again while the old file is loaded.
        think(&model, "Another text.", 0, None).save(&path).unwrap();
        assert_eq!(model.accepts(&loaded), Ok(Rule::HashMatch));
        assert_eq!(full(&loaded), full(&context));
        assert_eq!(answer(&model, &loaded).tokens, answer(&model, &context).tokens);
        let prompt = model.tokenize(&Prompt::from(TEXT)).unwrap();
        let tokens: Vec<_> = loaded.tokens().unwrap().collect();
        assert_eq!(tokens[..prompt.len()], prompt.iter().copied().map(Some).collect::<Vec<_>>());
        assert_eq!(tokens[prompt.len()..], [None; 5]);
        // Nothing but the file, whatever went on beside it.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn an_ordinary_tool_reads_a_saved_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("context.avp");
    let context = think(&qwen(), TEXT, 5, None);
    let options = FrameOptions { session_id: "s-1".into(), ..FrameOptions::default() };
    context.save_with(&path, &options).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes, context.to_frame(&FrameOptions { session_id: "s-1".into(), ..everything() }).unwrap());
    let frame = Frame::decode(&bytes).unwrap();
    assert_eq!(frame.metadata().session_id, "s-1");
    assert_eq!((frame.body_offset() + KvHeader::LEN) % 64, 0);
    assert!(frame.kv_cache(frame.payload().unwrap()).is_ok());
}

fn everything() -> FrameOptions {
    FrameOptions { fingerprint: true, token_ids: true, ..FrameOptions::default() }
}

#[test]
fn a_saved_context_of_another_model_is_refused_with_the_field() {
    let model = qwen();
    let saved = full(&think(&model, TEXT, 2, None));
    let refused = |frame: Vec<u8>| {
        let context = read(frame).unwrap();
        let error = model.accepts(&context).unwrap_err();
        // Wherever it is used, nothing runs.
        let generated = model.generate("x", Some(&context), &GenerateOptions::default());
        assert_eq!(generated.unwrap_err(), RunError::Context(error.clone()));
        match error {
            ContextError::OtherModel { field, .. } => field,
            ContextError::Position { expected: 0, got: 7 } => "position_offset",
            other => panic!("{other}"),
        }
    };
    for (key, value, field) in [
        ("weights_hash", "0f", "weights_hash"),
        ("rope_theta", "10000", "rope_theta"),
        ("rope_scaling", r#"{"factor":2.0,"rope_type":"linear"}"#, "rope_scaling"),
        ("position_offset", "7", "position_offset"),
    ] {
        assert_eq!(refused(rewrite(&saved, &[(key, value)], |_| ())), field);
    }
    // Tokens that are no longer as many as the record says would be refused first.
    let without_ids = rewrite(&saved, &[("token_ids", "")], |_| ());
    assert!(matches!(read(without_ids), Err(ContextError::Extra { field: "token_ids" })));
    // Shapes of as many bytes, so that only the model can tell: one axis twice as long, another half.
    let even = think(&model, TEXT, 2, None).truncate(20).unwrap();
    let even = even.to_frame(&FrameOptions { token_ids: false, ..everything() }).unwrap();
    let reshaped = |doubled: usize, halved: usize| {
        rewrite(&even, &[], |body| {
            let word = |at: usize| u32::from_le_bytes(body[4 * at..4 * at + 4].try_into().unwrap());
            let (long, short) = (2 * word(doubled), word(halved) / 2);
            body[4 * doubled..4 * doubled + 4].copy_from_slice(&long.to_le_bytes());
            body[4 * halved..4 * halved + 4].copy_from_slice(&short.to_le_bytes());
        })
    };
    const SEQ_LEN: usize = 3;
    for (index, field) in ["num_layers", "num_kv_heads", "head_dim"].into_iter().enumerate() {
        assert_eq!(refused(reshaped(index, SEQ_LEN)), field);
    }
    let bfloat16 = |body: &mut Vec<u8>| {
        body[16] = 2;
        let seq_len = u32::from_le_bytes(body[12..16].try_into().unwrap());
        body[12..16].copy_from_slice(&(2 * seq_len).to_le_bytes());
    };
    assert_eq!(refused(rewrite(&even, &[], bfloat16)), "dtype");
}

#[test]
fn a_truncated_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("context.avp");
    think(&qwen(), "x", 0, None).save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for len in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..len]).unwrap();
        match Context::load(runtime(), &path, &SCAN).unwrap_err() {
            ContextError::File { path: named, message } if len == 0 => {
                assert_eq!((&*named, &*message), (&*path, "the file is empty"));
            }
            ContextError::Decode(DecodeError::Truncated { needed, .. }) => assert!(needed > len),
            other => panic!("{len}: {other:?}"),
        }
    }
    fs::write(&path, [&*whole, b"x"].concat()).unwrap();
    assert!(matches!(
        Context::load(runtime(), &path, &SCAN),
        Err(ContextError::Decode(DecodeError::TrailingBytes { extra: 1, .. }))
    ));
}

#[test]
fn a_changed_byte_is_refused_or_has_no_effect_on_results() {
    let model = qwen();
    let whole = full(&think(&model, "x", 0, None));
    let cache = |bytes: &[u8]| Frame::decode(bytes).unwrap().payload().unwrap().to_vec();
    let expected = cache(&whole);
    let mut taken = 0;
    for at in (0..whole.len()).step_by(3) {
        for bit in [0, 3, 7] {
            let mut wrong = whole.clone();
            wrong[at] ^= 1 << bit;
            if let Ok(context) = read(wrong) {
                // What names sender and model is not summed: there a wrong byte shows, or is a name.
                taken += 1;
                assert_eq!(cache(&frame(&context)), expected, "byte {at}");
            }
        }
    }
    assert!(taken < whole.len() / 4);
}

#[test]
fn lengths_that_lie_are_refused_without_making_room_for_them() {
    let honest = frame(&think(&qwen(), "x", 0, None));
    for (at, value) in [(0, u32::MAX), (4, 1 << 31), (8, u32::MAX), (12, u32::MAX), (12, 0), (0, 0)] {
        let lying = rewrite(&honest, &[], |body| {
            body[at..at + 4].copy_from_slice(&value.to_le_bytes());
        });
        assert!(matches!(read(lying), Err(ContextError::Decode(_))), "{at} {value}");
    }
    for (key, value) in [
        ("num_steps", "many"),
        ("position_offset", "-1"),
        ("position_offset", "99999999999999999999"),
        ("token_ids", "????"),
        ("token_ids", "AAAA"),
    ] {
        let lying = rewrite(&honest, &[(key, value)], |_| ());
        assert_eq!(read(lying).unwrap_err(), ContextError::Extra { field: key }, "{key} {value}");
    }
    // A body that unpacks to more than the reader will hold.
    let options = FrameOptions { compression: Compression::Fast, ..FrameOptions::default() };
    let packed = think(&qwen(), "x", 0, None).to_frame(&options).unwrap();
    let limit = FrameReadOptions { payload_limit: 100, ..FrameReadOptions::default() };
    assert!(matches!(
        Context::from_bytes(runtime(), packed, &limit),
        Err(ContextError::Decode(DecodeError::DecompressedTooLarge { limit: 100, .. }))
    ));
}

#[test]
fn invalid_context_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let load = |path: &Path| Context::load(runtime(), path, &SCAN).unwrap_err();
    assert!(matches!(load(&folder.path().join("none")), ContextError::File { .. }));
    assert!(matches!(load(folder.path()), ContextError::File { .. }));
    let path = folder.path().join("frame.avp");
    fs::write(&path, FrameEncoder::new(Metadata::default()).encode(&[0; 16]).unwrap()).unwrap();
    assert_eq!(load(&path), ContextError::NotAKvCache { got: "hidden_state" });
    fs::write(&path, b"text, and long enough to be a frame").unwrap();
    assert!(matches!(load(&path), ContextError::Decode(DecodeError::BadMagic { .. })));
}

#[test]
fn a_failed_save_keeps_the_existing_file() {
    let folder = tempfile::tempdir().unwrap();
    let context = think(&qwen(), "x", 0, None);
    let missing = folder.path().join("none/context.avp");
    assert!(matches!(context.save(&missing), Err(ContextError::File { path, .. }) if path == missing));
    // The name is taken by something that a file cannot replace.
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("kept"), b"").unwrap();
    assert!(matches!(context.save(&taken), Err(ContextError::File { .. })));
    assert!(taken.join("kept").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_a_saved_context() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("context.avp");
    think(&qwen(), "x", 0, None).save(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_stream_that_fails_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let context = think(&qwen(), "x", 0, None);
    assert!(matches!(
        context.write_to(&mut Full, &FrameOptions::default()),
        Err(ContextError::Io { message }) if message.contains("storage")
    ));
}

#[test]
fn a_scan_finds_the_position_of_the_first_non_finite_value() {
    let model = qwen();
    let context = think(&model, TEXT, 2, None);
    assert_eq!(context.check_finite(), Ok(()));
    let seq_len = context.seq_len();
    let layout = context.cache_layout();
    let bad = |layer: usize, part: usize, head: usize, token: usize, value: f32| {
        rewrite(&frame(&context), &[], |body| {
            let plane = 2 * layer + part;
            let row = (plane * layout.num_kv_heads + head) * seq_len + token;
            let at = KvHeader::LEN + 4 * (row * layout.head_dim + 3);
            body[at..at + 4].copy_from_slice(&value.to_le_bytes());
        })
    };
    for (layer, part, name, head, token, value) in
        [(0, 0, "key", 0, 0, f32::NAN), (1, 1, "value", 1, seq_len - 1, f32::INFINITY)]
    {
        let frame = bad(layer, part, head, token, value);
        // Nobody looks unless asked to.
        assert!(read(frame.clone()).is_ok());
        let expected = ContextError::NotFinite { layer, part: name, head, token };
        assert_eq!(Context::from_bytes(runtime(), frame, &SCAN).unwrap_err(), expected);
    }
    assert!(Context::from_bytes(runtime(), frame(&context), &SCAN).is_ok());
}

/// The largest absolute difference of two caches.
fn difference(one: &Context, other: &Context) -> f32 {
    let values = |context: &Context| {
        let frame = frame(context);
        let frame = Frame::decode(&frame).unwrap();
        let view = frame.kv_cache(frame.payload().unwrap()).unwrap();
        let floats =
            |layer: avp_core::KvLayer<'_>| layer.key_values().chain(layer.value_values()).collect::<Vec<_>>();
        view.layers().flat_map(floats).collect::<Vec<f32>>()
    };
    let (one, other) = (values(one), values(other));
    assert_eq!(one.len(), other.len());
    one.iter().zip(&other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

#[test]
fn a_truncated_context_equals_a_context_of_the_prefix() {
    for name in ["test-vectors/parity/tiny-qwen2", "test-vectors/parity/tiny-llama"] {
        let model = load(name);
        let whole = think(&model, Prompt::Raw(TEXT.into()), 3, None);
        let tokens = model.tokenize(&Prompt::Raw(TEXT.into())).unwrap();
        let short = whole.truncate(tokens.len()).unwrap();
        let read = think(&model, Prompt::Raw(TEXT.into()), 0, None);
        assert!(difference(&short, &read) < 1e-5);
        assert_eq!((short.num_steps(), whole.truncate(tokens.len() + 1).unwrap().num_steps()), (0, 1));
        assert!(short.tokens().unwrap().eq(tokens.iter().copied().map(Some)));
        assert!(short.last_hidden_state().is_none());
        assert_eq!(answer(&model, &short).tokens, answer(&model, &read).tokens);
        // The whole is still whole.
        assert_eq!(whole.seq_len(), tokens.len() + 3);
        assert_eq!(
            whole.truncate(0).unwrap_err(),
            ContextError::Empty { num_layers: model.cache_layout().num_layers, seq_len: 0 }
        );
        let len = whole.seq_len();
        assert_eq!(
            whole.truncate(len + 1).unwrap_err(),
            ContextError::Convert(KvError::Range { axis: "tokens", start: 0, end: len + 1, len })
        );
    }
}

#[test]
fn a_tail_is_appended_only_to_its_own_prefix() {
    let model = qwen();
    let first = think(&model, TEXT, 2, None);
    let whole = think(&model, "More.", 3, Some(&first));
    let tail = whole.tail(first.seq_len()).unwrap();
    assert_eq!((tail.position_offset(), tail.num_steps()), (first.seq_len(), 3));
    // As it would be sent: only what is new.
    let sent = read(full(&tail)).unwrap();
    let joined = first.append(&sent).unwrap();
    assert_eq!(full(&joined), full(&whole));
    assert_eq!(answer(&model, &joined).tokens, answer(&model, &whole).tokens);

    let position = |expected, got| ContextError::Position { expected, got };
    let len = first.seq_len();
    assert_eq!(model.accepts(&sent).unwrap_err(), position(0, len));
    assert_eq!(first.append(&first).unwrap_err(), position(len, 0));
    assert_eq!(first.truncate(len - 1).unwrap().append(&sent).unwrap_err(), position(len - 1, len));
    let text = "Tomas is a baker in a small town, far away from any sea, and he has no parrot at all.";
    let other = think(&model, text, 0, None).truncate(len).unwrap();
    assert_eq!(other.append(&sent).unwrap_err(), ContextError::OtherPrefix { seq_len: len });
    assert!(matches!(
        think(&load("test-vectors/parity/tiny-llama"), TEXT, 2, None).append(&sent),
        Err(ContextError::OtherModel { field: "num_layers", .. })
    ));
    assert!(matches!(whole.tail(whole.seq_len()), Err(ContextError::Empty { seq_len: 0, .. })));
}

#[test]
fn layers_are_dropped_for_a_model_that_has_fewer() {
    let model = qwen();
    let context = think(&model, TEXT, 1, None);
    let first = context.layers(0..1).unwrap();
    assert_eq!((first.cache_layout().num_layers, first.identity().num_layers), (1, 1));
    assert!(first.fingerprint().is_none());
    assert!(matches!(model.accepts(&first), Err(ContextError::OtherModel { field: "num_layers", .. })));
    let shape = |context: &Context| Frame::decode(&frame(context)).unwrap().payload().unwrap().len();
    assert_eq!(shape(&first) - KvHeader::LEN, (shape(&context) - KvHeader::LEN) / 2);
    assert!(context.layers(0..3).is_err() && context.layers(1..1).is_err());
}

#[test]
fn a_model_with_fewer_layers_continues_from_a_context_cut_to_them() {
    let whole = load("test-vectors/models/genai-qwen2-fp32");
    let short = load("test-vectors/engine/one-layer");
    // Of text alone: latent steps come from the last layer, and the models have different ones.
    let context = think(&whole, TEXT, 0, None);
    assert!(matches!(short.accepts(&context), Err(ContextError::OtherModel { field: "num_layers", .. })));
    let first = context.layers(0..1).unwrap();
    assert_eq!(short.accepts(&first), Ok(Rule::StructuralMatch));
    let own = think(&short, TEXT, 0, None);
    let expected = answer(&short, &own).tokens;
    assert_eq!(answer(&short, &first).tokens, expected);
    // As a frame, too; and it is the first layer that does it.
    assert_eq!(answer(&short, &read(frame(&first)).unwrap()).tokens, expected);
    let keys = |context: &Context| {
        let frame = Frame::decode(&frame(context)).unwrap().payload().unwrap()[KvHeader::LEN..].to_vec();
        frame.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect::<Vec<f32>>()
    };
    let far = |one: &Context, other: &Context| {
        keys(one).iter().zip(keys(other)).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
    };
    assert!(far(&first, &own) <= 1e-5);
    assert!(far(&context.layers(1..2).unwrap(), &own) > 0.1);
}

#[test]
fn a_longer_prompt_reuses_its_prefix_and_always_reads_its_last_token() {
    let model = qwen();
    let text = |text: &str| Prompt::Raw(text.into());
    let context = think(&model, text(TEXT), 2, None);
    let ids = |prompt: &str| model.tokenize(&text(prompt)).unwrap();
    let (short, longer) = (ids(TEXT), ids(&format!("{TEXT} And a cat.")));
    assert_eq!(longer[..short.len()], short);
    // The latent steps are not part of the longer text.
    assert_eq!(context.common_prefix(&longer), short.len());
    let reused = context.reusable(&longer).unwrap().unwrap();
    assert_eq!(reused.seq_len(), short.len());
    let rest = think(&model, text(" And a cat."), 0, Some(&reused));
    let whole = think(&model, text(&format!("{TEXT} And a cat.")), 0, None);
    assert!(rest.tokens().unwrap().eq(whole.tokens().unwrap()));
    assert!(difference(&rest, &whole) < 1e-5);
    // The very prompt, a shorter one, another one, none.
    assert_eq!(context.reusable(&short).unwrap().unwrap().seq_len(), short.len() - 1);
    assert_eq!(context.reusable(&short[..5]).unwrap().unwrap().seq_len(), 4);
    for prompt in [&ids("Tomas")[..], &short[..1], &[]] {
        assert!(context.reusable(prompt).unwrap().is_none());
    }
    // Whose tokens are not known, or stand elsewhere.
    assert_eq!(read(frame(&context)).unwrap().common_prefix(&short), 0);
    let tail = context.tail(1).unwrap();
    assert_eq!(tail.common_prefix(&short[1..]), 0);
}

#[test]
fn thinking_on_a_longer_prompt_reuses_its_prefix_with_the_same_result() {
    let model = qwen();
    let context = think(&model, Prompt::Raw(TEXT.into()), 4, None);
    let longer = Prompt::Raw(format!("{TEXT} And a cat, named Ida."));
    let known = model.tokenize(&Prompt::Raw(TEXT.into())).unwrap().len();
    let all = model.tokenize(&longer).unwrap().len();
    let options = ThinkOptions { reuse_prefix: true, ..ThinkOptions::steps(2) };
    let reusing = model.think(longer.clone(), Some(&context), &options).unwrap();
    let fresh = model.think(longer.clone(), None, &options).unwrap();
    assert_eq!((reusing.prompt_tokens, reusing.reused_tokens, reusing.context_tokens), (all, known, known));
    assert_eq!((fresh.prompt_tokens, fresh.reused_tokens, fresh.context_tokens), (all, 0, 0));
    let (reusing, fresh) = (reusing.context.unwrap(), fresh.context.unwrap());
    // The latent steps of the context are no part of the longer text.
    assert_eq!((reusing.seq_len(), reusing.num_steps()), (all + 2, 2));
    assert!(difference(&reusing, &fresh) < 1e-5);
    assert!(reusing.tokens().unwrap().eq(fresh.tokens().unwrap()));
    // The same prompt again: its last token is evaluated, for what comes of it.
    let again = model.think(Prompt::Raw(TEXT.into()), Some(&context), &options).unwrap();
    assert_eq!((again.prompt_tokens, again.reused_tokens), (known, known - 1));
    // Nothing in common, or nothing known: all of it is read, and the context is left out.
    let unknown = read(frame(&context)).unwrap();
    for context in [&think(&model, "Tomas.", 0, None).tail(0).unwrap(), &unknown] {
        let thought = model.think(Prompt::Raw("Ida?".into()), Some(context), &options).unwrap();
        assert_eq!((thought.reused_tokens, thought.context_tokens), (0, 0));
    }
    let other = think(&load("test-vectors/parity/tiny-llama"), "x", 0, None);
    assert!(matches!(model.think(longer, Some(&other), &options), Err(RunError::Context(_))));
}

#[test]
fn generating_from_a_longer_prompt_gives_the_answer_of_all_of_it() {
    let model = qwen();
    let context = think(&model, Prompt::Raw(TEXT.into()), 4, None);
    let longer = Prompt::Raw(format!("{TEXT} And a cat, named"));
    let known = model.tokenize(&Prompt::Raw(TEXT.into())).unwrap().len();
    let options = GenerateOptions {
        max_tokens: 8,
        // Looks at the prompt, reused or not.
        repetition_penalty: 1.3,
        reuse_prefix: true,
        ..GenerateOptions::default()
    };
    let reusing = model.generate(longer.clone(), Some(&context), &options).unwrap();
    let fresh = model.generate(longer, None, &options).unwrap();
    assert_eq!(reusing.tokens, fresh.tokens);
    assert_eq!(reusing.prompt_tokens, fresh.prompt_tokens);
    assert_eq!((reusing.reused_tokens, fresh.reused_tokens), (known, 0));
    assert_eq!((reusing.context_tokens, fresh.context_tokens), (known, 0));
}

#[test]
fn a_fork_leaves_its_origin_as_it_was() {
    let model = qwen();
    let origin = think(&model, TEXT, 1, None);
    let before = full(&origin);
    let forks = [origin.clone(), origin.clone()].map(|fork| think(&model, "And then?", 2, Some(&fork)));
    assert_eq!(full(&forks[0]), full(&forks[1]));
    assert_eq!(full(&origin), before);
}

#[test]
fn a_context_in_half_precision_stays_so_and_is_taken_by_a_model_in_another() {
    let model = qwen();
    let context = think(&model, TEXT, 0, None);
    let half = {
        let bytes = frame(&context);
        let decoded = Frame::decode(&bytes).unwrap();
        let view = decoded.kv_cache(decoded.payload().unwrap()).unwrap();
        let body = view.select().dtype(KvDType::Float16).to_vec().unwrap();
        let metadata = decoded.metadata();
        let fields = Metadata {
            hidden_dim: metadata.hidden_dim,
            payload_type: PayloadType::KvCache,
            dtype: DType::Float16,
            extra: metadata.extra,
            ..Metadata::default()
        };
        read(FrameEncoder::new(fields).encode(&body).unwrap()).unwrap()
    };
    assert_eq!(half.cache_layout().dtype, KvDType::Float16);
    assert_eq!(read(frame(&half)).unwrap().cache_layout().dtype, KvDType::Float16);
    assert_eq!(answer(&model, &half).context_tokens, context.seq_len());
}
