//! Tests with ONNX Runtime: the results of a sequence do not depend on its storage.

use std::{fs, path::Path, sync::OnceLock};

use ort::memory::Allocator;
use serde::Deserialize;

use super::*;
use crate::{
    LoadOptions, Model, Prompt, ThinkOptions, context::Before, conventions::prepared as names,
    prepare_report, step_form::StepInputs,
};

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::find().unwrap())
}

fn vectors(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors").join(path)
}

/// The model of `engine/shared-buffers`, whose vocabulary is that of `parity/tiny-qwen2`.
fn shared_buffers() -> Model {
    let folder = tempfile::tempdir().unwrap();
    for source in [vectors("engine/shared-buffers"), vectors("parity/tiny-qwen2")] {
        for file in fs::read_dir(source).unwrap().map(Result::unwrap) {
            let target = folder.path().join(file.file_name());
            if file.file_type().unwrap().is_file() && !target.exists() {
                fs::copy(file.path(), target).unwrap();
            }
        }
    }
    Model::load(runtime(), folder.path(), &LoadOptions::default()).unwrap()
}

fn growing() -> Model {
    Model::load(runtime(), vectors("parity/tiny-qwen2"), &LoadOptions::default()).unwrap()
}

#[derive(Deserialize)]
struct Record {
    pieces: Vec<Piece>,
}

#[derive(Deserialize)]
struct Piece {
    ids: Vec<u32>,
    logits: Vec<f32>,
}

fn record() -> Record {
    serde_json::from_slice(&fs::read(vectors("engine/shared-buffers/record.json")).unwrap()).unwrap()
}

fn assert_close(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let difference = actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= 1e-5, "{what}: differs by {difference}");
}

/// The bytes of the cache after all pieces; checks the logits after each piece.
fn read_pieces(decoder: &mut Decoder, record: &Record, past: Past, expected: usize) -> Vec<u8> {
    let mut sequence = decoder.begin(past, expected).unwrap();
    for piece in &record.pieces {
        let outputs = decoder.run(&mut sequence, Input::Tokens(&piece.ids), Want::LOGITS).unwrap();
        assert_close(&format!("{:?}", piece.ids), &outputs.logits().unwrap(), &piece.logits);
    }
    decoder.end(sequence).unwrap().planes().flat_map(|plane| plane.unwrap().to_vec()).collect()
}

#[test]
fn a_shared_buffer_gives_the_same_results_as_growing_caches() {
    let model = shared_buffers();
    let past = model.facts().past(Before::default(), 1, 0).unwrap();
    let (grown, shared) = model
        .with_decoder(move |decoder| {
            let record = record();
            let exact = record.pieces.iter().map(|piece| piece.ids.len()).sum();
            assert!(decoder.shares_buffers);
            // Exactly enough room, more than needed, and far too little, so that it has to be found on the way.
            let shared =
                [exact, 1000, 0].map(|expected| read_pieces(decoder, &record, past.clone(), expected));
            decoder.shares_buffers = false;
            Ok((read_pieces(decoder, &record, past, exact), shared))
        })
        .unwrap();
    for shared in shared {
        assert!(shared == grown);
    }
}

#[test]
fn genai_exports_share_buffers_with_the_same_results() {
    let mut sharing = Vec::new();
    let not_sharing = ["llama-fp16", "qwen2-fp16"];
    let expected = [
        "gemma-int4",
        "llama-fp16-cuda",
        "llama-fp32",
        "llama-int4",
        "qwen2-fp16-cuda",
        "qwen2-fp32",
        "qwen2-int4",
    ];
    for name in not_sharing.into_iter().chain(expected) {
        let folder = vectors(&format!("models/genai-{name}"));
        let promised = prepare_report(&folder, &LoadOptions::default()).unwrap().shared_buffers;
        let model = Model::load(runtime(), folder, &LoadOptions::default()).unwrap();
        let past = model.facts().past(Before::default(), 1, 0).unwrap();
        let shared = model.with_decoder(move |decoder| {
            let shares = decoder.shares_buffers;
            let [shared, grown] = [(); 2].map(|()| {
                let mut sequence = decoder.begin(past.clone(), 12).unwrap();
                let mut all_logits = Vec::new();
                for ids in [&[5, 9, 17][..], &[8], &[20, 21], &[7]] {
                    let mut reading = Reading::tokens(ids.to_vec());
                    let mut outputs = None;
                    while outputs.is_none() {
                        outputs = decoder.read(&mut sequence, &mut reading, Want::LOGITS).unwrap();
                    }
                    all_logits.extend_from_slice(&outputs.unwrap().logits().unwrap());
                }
                decoder.shares_buffers = false;
                all_logits
            });
            assert_close("logits", &shared, &grown);
            Ok(shares)
        });
        assert_eq!(shared, Ok(promised), "{name}");
        if shared.unwrap() {
            sharing.push(name);
        }
    }
    assert_eq!(sharing, expected);
}

#[test]
fn a_context_is_copied_before_it_is_written_behind() {
    let model = shared_buffers();
    let bytes =
        |cache: &KvCache| -> Vec<u8> { cache.planes().flat_map(|plane| plane.unwrap().to_vec()).collect() };
    let context = model
        .think(Prompt::Raw("Rosa".into()), None, &ThinkOptions::steps(2))
        .unwrap()
        .into_context()
        .unwrap();
    let cache = model.facts().past(Before::all(Some(&context)), 1, 0).unwrap();
    let before = bytes(cache.cache());
    let one = model
        .think(Prompt::Raw("lives".into()), Some(&context), &ThinkOptions::steps(3))
        .unwrap()
        .into_context()
        .unwrap();
    let two = model
        .think(Prompt::Raw("lives".into()), Some(&context), &ThinkOptions::steps(3))
        .unwrap()
        .into_context()
        .unwrap();
    assert!(bytes(cache.cache()) == before);
    let cache_of = |context| bytes(model.facts().past(Before::all(Some(context)), 1, 0).unwrap().cache());
    assert!(cache_of(&one) == cache_of(&two));
}

#[test]
fn vectors_from_the_host_are_read_as_the_devices_own() {
    let model = growing();
    let ids = model.tokenize(&Prompt::Raw("Rosa lives".into())).unwrap();
    let past = model.facts().past(Before::default(), ids.len(), 3).unwrap();
    model
        .with_decoder(move |decoder| {
            let next = Want { next_latent: Some(StepInputs::HIDDEN), ..Want::default() };
            let hidden = Want { hidden: true, ..Want::default() };
            let mut sequence = decoder.begin(past.clone(), ids.len() + 2)?;
            let latent = decoder.run(&mut sequence, Input::Tokens(&ids), next)?.take_next_latent()?;
            let first = to_host(&latent);
            let latent = decoder.run(&mut sequence, Input::Latent(&latent), next)?.take_next_latent()?;
            let second = to_host(&latent);
            let expected = decoder.run(&mut sequence, Input::Latent(&latent), hidden)?.last_hidden()?;

            let mut sequence = decoder.begin(past, ids.len() + 2)?;
            decoder.run(&mut sequence, Input::Tokens(&ids), Want::default())?;
            let both = decoder.latents(&[first, second].concat())?;
            let outputs = decoder.run(&mut sequence, Input::Latent(&both), hidden)?;
            assert_close("both at once", &outputs.last_hidden()?, &expected);
            Ok(())
        })
        .unwrap();
}

fn to_host(latent: &DynTensor) -> Vec<f32> {
    latent.try_extract_tensor::<f32>().unwrap().1.to_vec()
}

#[test]
fn a_run_that_is_ended_leaves_its_sequence_and_the_session_as_they_were() {
    for model in [growing(), shared_buffers()] {
        let past = model.facts().past(Before::default(), 3, 0).unwrap();
        model
            .with_decoder(move |decoder| {
                let mut sequence = decoder.begin(past, 8)?;
                decoder.run(&mut sequence, Input::Tokens(&[5, 6, 7]), Want::LOGITS)?;
                let usual = decoder.run_options.clone();
                let ended = Arc::new(RunOptions::new()?);
                ended.terminate()?;
                decoder.set_run_options(Some(ended));
                assert!(decoder.run(&mut sequence, Input::Tokens(&[8, 9]), Want::LOGITS).is_err());
                assert_eq!(sequence.seq_len(), 3);
                decoder.set_run_options(usual);
                let after = decoder.run(&mut sequence, Input::Tokens(&[8, 9]), Want::LOGITS)?;
                assert_eq!(sequence.seq_len(), 5);

                let empty = Arc::new(KvCache::empty(decoder.layout)?);
                let mut at_once = decoder.begin(empty, 8)?;
                let expected = decoder.run(&mut at_once, Input::Tokens(&[5, 6, 7, 8, 9]), Want::LOGITS)?;
                assert_close("after an ended run", &after.logits()?, &expected.logits()?);
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn however_much_is_read_only_its_last_row_leaves_the_device() {
    let model = growing();
    let past = model.facts().past(Before::default(), 1, 0).unwrap();
    model
        .with_decoder(move |decoder| {
            let rows = |output: &ort::value::Outlet| output.dtype().tensor_shape().map(|shape| shape[1]);
            let outputs = decoder.session.outputs().iter();
            let outputs = outputs.filter(|output| !output.name().starts_with("present."));
            let found: Vec<_> = outputs.map(|output| (output.name(), rows(output))).collect();
            let one_row = ["logits", names::LAST_HIDDEN, names::NEXT_LATENT].map(|name| (name, Some(1)));
            assert_eq!(found, one_row);

            let want = Want { hidden: true, ..Want::default() };
            let mut at_once = decoder.begin(past.clone(), 3)?;
            let last = decoder.run(&mut at_once, Input::Tokens(&[5, 6, 7]), want)?.last_hidden()?;
            assert_eq!(last.len(), decoder.hidden_size);
            let mut in_pieces = decoder.begin(past, 3)?;
            decoder.run(&mut in_pieces, Input::Tokens(&[5, 6]), want)?;
            let expected = decoder.run(&mut in_pieces, Input::Tokens(&[7]), want)?.last_hidden()?;
            assert_close("last hidden state", &last, &expected);
            Ok(())
        })
        .unwrap();
}

#[test]
fn an_output_that_was_not_requested_is_an_error_and_leaves_no_bindings() {
    let model = growing();
    let past = model.facts().past(Before::default(), 1, 0).unwrap();
    model
        .with_decoder(move |decoder| {
            let mut sequence = decoder.begin(past, 4)?;
            let mut outputs = decoder.run(&mut sequence, Input::Tokens(&[5]), Want::LOGITS)?;
            assert!(outputs.last_hidden().is_err() && outputs.take_next_latent().is_err());
            // The next run requests another output.
            let outputs =
                decoder.run(&mut sequence, Input::Tokens(&[6]), Want { hidden: true, ..Want::default() })?;
            assert!(outputs.logits().is_err() && outputs.last_hidden().is_ok());
            Ok(())
        })
        .unwrap();
}

#[test]
fn out_of_memory_is_distinguished_from_other_errors() {
    // ONNX Runtime is loaded before its allocator is asked.
    let _loaded = runtime();
    let float = ort::value::TensorElementType::Float32;
    let error = DynTensor::new(&Allocator::default(), float, [1_i64 << 45]).unwrap_err();
    assert!(matches!(RunError::from(error), RunError::OutOfMemory { .. }));
    let error = RunError::from(ort::Error::new("another"));
    assert_eq!(error, RunError::Runtime { message: "another".into() });
}

#[test]
fn a_prompt_read_token_by_token_gives_the_same_result() {
    let model = growing();
    let past = model.facts().past(Before::default(), 1, 0).unwrap();
    model
        .with_decoder(move |decoder| {
            let want = Want { logits: true, hidden: true, next_latent: None };
            let vectors: Vec<f32> =
                (0..3 * decoder.hidden_size).map(|index| (index as f32).sin() / 10.0).collect();
            let tokens = || Reading::tokens(vec![8, 9, 10]);
            let vectors = || Reading::vectors(vectors.clone(), 3);
            for new in [&tokens as &dyn Fn() -> Reading, &vectors] {
                let mut both = Vec::new();
                for one_by_one in [false, true] {
                    decoder.one_token_behind_cache = one_by_one;
                    let mut sequence = decoder.begin(past.clone(), 5)?;
                    let mut reading = new();
                    // What is behind nothing is read at once, whatever the graph.
                    assert!(decoder.read(&mut sequence, &mut tokens(), want)?.is_some());
                    let (mut runs, mut outputs) = (0, None);
                    while outputs.is_none() {
                        runs += 1;
                        outputs = decoder.read(&mut sequence, &mut reading, want)?;
                    }
                    assert_eq!((runs, sequence.seq_len()), (if one_by_one { 3 } else { 1 }, 6));
                    let outputs = outputs.unwrap();
                    both.push((outputs.logits()?.to_vec(), outputs.last_hidden()?));
                }
                assert_close("logits", &both[1].0, &both[0].0);
                assert_close("last hidden state", &both[1].1, &both[0].1);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_cache_prefix_is_cut_on_the_device_and_equals_a_cache_of_its_tokens() {
    for model in [growing(), shared_buffers()] {
        let context = model
            .think(Prompt::Raw("Rosa lives in Lisbon".into()), None, &ThinkOptions::steps(3))
            .unwrap()
            .into_context()
            .unwrap();
        let all = model.facts().past(Before::all(Some(&context)), 1, 0).unwrap();
        let ids: Vec<u32> = context.tokens().unwrap().map_while(|id| id).take(3).collect();
        let before = context.cache_layout();
        let nothing = model.facts().past(Before::default(), 1, 0).unwrap();
        model
            .with_decoder(move |decoder| {
                let past = Past::new(all.cache().clone(), ids.len());
                let mut sequence = decoder.begin(nothing, 8)?;
                decoder.run(&mut sequence, Input::Tokens(&ids), Want::default())?;
                let expected = decoder.run(&mut sequence, Input::Tokens(&[8, 9]), Want::LOGITS)?;
                for expected_tokens in [0, 2, 1000] {
                    let mut sequence = decoder.begin(past.clone(), expected_tokens)?;
                    assert_eq!(sequence.seq_len(), ids.len());
                    let outputs = decoder.run(&mut sequence, Input::Tokens(&[8, 9]), Want::LOGITS)?;
                    assert_close("behind a beginning", &outputs.logits()?, &expected.logits()?);
                    assert_eq!(decoder.end(sequence)?.seq_len(), ids.len() + 2);
                }

                let begun = decoder.begin(past.clone(), 0)?;
                let on_device = decoder.end(begun)?;
                let on_host = past.cache().first_on_host(ids.len())?;
                assert_eq!((on_device.seq_len(), on_device.layout()), (ids.len(), before));
                for (one, other) in on_device.planes().zip(on_host.planes()) {
                    assert!(one? == other?);
                }
                assert!(past.cache().first_on_host(all.seq_len() + 1).is_err());
                Ok(())
            })
            .unwrap();
    }
}
