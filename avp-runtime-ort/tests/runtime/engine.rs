//! A model with several callers: threads, async callers and timeouts; and unavailable devices.

use std::{
    future::IntoFuture,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use avp_runtime_ort::{
    Context, Device, FrameOptions, GenerateOptions, LoadOptions, Model, ModelError, Prompt, RunError, Soft,
    StepForm, ThinkOptions,
};

use crate::common::{load, repository, runtime, think};

fn model() -> Model {
    load("test-vectors/parity/tiny-qwen2")
}

fn bytes(context: &Context) -> Vec<u8> {
    context.to_frame(&FrameOptions::default()).unwrap()
}

#[test]
fn concurrent_calls_give_the_same_results_as_single_calls() {
    fn is_shared<T: Send + Sync + Clone>() {}
    is_shared::<Model>();
    let model = model();
    let prompts = ["Rosa lives in Lisbon.", "Tom has a parrot.", "Where?", "Who?"];
    let alone: Vec<_> = prompts.iter().map(|&prompt| bytes(&think(&model, prompt, 12, None))).collect();
    let answers: Vec<_> = prompts
        .iter()
        .map(|&prompt| model.generate(prompt, None, &GenerateOptions::default()).unwrap().text)
        .collect();
    thread::scope(|scope| {
        for ((prompt, alone), answer) in prompts.into_iter().zip(&alone).zip(&answers) {
            let (one, two) = (model.clone(), model.clone());
            scope.spawn(move || assert!(bytes(&think(&one, prompt, 12, None)) == *alone));
            scope.spawn(move || {
                let generation = two.generate(prompt, None, &GenerateOptions::default()).unwrap();
                assert_eq!(generation.text, *answer);
            });
        }
    });
}

#[test]
fn started_calls_are_waited_for_in_any_order_and_outlive_their_model() {
    let model = model();
    let expected = bytes(&think(&model, "Who?", 3, None));
    let long = model.start_think("Who?", None, &ThinkOptions::steps(60));
    let short = model.start_think("Who?", None, &ThinkOptions::steps(3));
    // Waits for what was accepted.
    drop(model);
    assert!(short.is_ready() && long.is_ready());
    assert!(bytes(&short.wait().unwrap().context.unwrap()) == expected);
    assert_eq!(long.wait().unwrap().context.unwrap().num_steps(), 60);
}

/// A minimal async runtime.
fn block_on<F: IntoFuture>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future.into_future());
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn answers_are_awaited_in_any_async_runtime() {
    let model = model();
    let expected = bytes(&think(&model, "Who?", 5, None));
    let thought = block_on(async {
        let first = model.start_think("Who?", None, &ThinkOptions::steps(2)).await?;
        model.start_think("Where?", first.context.as_ref(), &ThinkOptions::steps(4)).await?;
        model.start_think("Who?", None, &ThinkOptions::steps(5)).await
    });
    assert!(bytes(&thought.unwrap().context.unwrap()) == expected);
    let refused = block_on(model.start_think(Prompt::Raw(String::new()), None, &ThinkOptions::default()));
    assert_eq!(refused.unwrap_err(), RunError::EmptyPrompt);
}

#[test]
fn an_expired_call_times_out_and_the_model_continues() {
    let model = model();
    let after = Duration::ZERO;
    let options = ThinkOptions { timeout: Some(after), ..ThinkOptions::steps(300) };
    assert_eq!(model.think("Who?", None, &options).unwrap_err(), RunError::TimedOut { after });
    assert_eq!(model.start_think("Who?", None, &options).wait().unwrap_err(), RunError::TimedOut { after });
    let enough = ThinkOptions { timeout: Some(Duration::MAX), ..ThinkOptions::steps(2) };
    assert_eq!(model.think("Who?", None, &enough).unwrap().num_steps, 2);
}

#[test]
fn a_cancelled_call_ends_and_leaves_its_context_usable() {
    let model = model();
    let context = think(&model, "Rosa lives in Lisbon.", 2, None);
    let before = bytes(&context);
    let pending = model.start_think("Who?", Some(&context), &ThinkOptions::steps(400));
    pending.canceller().cancel();
    assert_eq!(pending.wait().unwrap_err(), RunError::Cancelled);
    assert!(bytes(&context) == before);
    assert!(model.think("Who?", Some(&context), &ThinkOptions::steps(2)).is_ok());
}

#[test]
fn a_wait_that_timed_out_can_be_repeated() {
    let model = model();
    let mut pending = model.start_think("Who?", None, &ThinkOptions::steps(100));
    let thought = loop {
        match pending.wait_timeout(Duration::from_micros(50)) {
            Ok(answer) => break answer.unwrap(),
            Err(not_yet) => pending = not_yet,
        }
    };
    assert_eq!(thought.num_steps, 100);
}

#[test]
fn the_hidden_state_is_the_same_with_and_without_the_context() {
    let model = model();
    let whole = model.think("Who?", None, &ThinkOptions::steps(3)).unwrap();
    let options = ThinkOptions { keep_context: false, ..ThinkOptions::steps(3) };
    let alone = model.think("Who?", None, &options).unwrap();
    assert!(alone.context.is_none());
    assert_eq!(alone.last_hidden_state, whole.last_hidden_state);
    assert_eq!(whole.context.unwrap().last_hidden_state(), Some(&*alone.last_hidden_state));
}

#[test]
fn the_form_changes_latent_steps_and_nothing_else() {
    for model in [model(), load("test-vectors/parity/tiny-llama")] {
        let think = |form: &str, steps| {
            let options = ThinkOptions { form: form.parse().unwrap(), ..ThinkOptions::steps(steps) };
            model.think("Who?", None, &options).unwrap().last_hidden_state
        };
        assert_eq!(
            think("peer", 3),
            model.think("Who?", None, &ThinkOptions::steps(3)).unwrap().last_hidden_state
        );
        let forms = ["soft:temperature=0.2", "soft:rescale", "token", "mixed:hidden=0.5"];
        for form in forms {
            assert_ne!(think(form, 3), think("peer", 3), "{form}");
            assert_eq!(think(form, 0), think("peer", 0), "{form}");
        }
    }
}

#[test]
fn a_form_with_a_number_out_of_range_is_refused() {
    let options = ThinkOptions {
        form: StepForm::Soft(Soft { temperature: 0.0, ..Soft::default() }),
        ..ThinkOptions::steps(1)
    };
    let refused = model().think("Who?", None, &options).unwrap_err();
    assert_eq!(refused.to_string(), "temperature must be above 0, got 0");
}

#[test]
fn diagnostics_give_the_norm_behind_the_prompt_and_each_step() {
    let model = model();
    let plain = model.think("Who?", None, &ThinkOptions::steps(4)).unwrap();
    assert_eq!(plain.metrics.diagnostics, None);
    let options = ThinkOptions { diagnostics: true, ..ThinkOptions::steps(4) };
    let thought = model.think("Who?", None, &options).unwrap();
    assert_eq!(thought.last_hidden_state, plain.last_hidden_state);
    let norm_after = |steps| {
        let hidden = think(&model, "Who?", steps, None);
        hidden.last_hidden_state().unwrap().iter().map(|value| value * value).sum::<f32>().sqrt()
    };
    let norms = thought.metrics.diagnostics.unwrap().norm_trajectory.unwrap();
    assert_eq!(norms.len(), 5);
    for (steps, norm) in norms.into_iter().enumerate() {
        assert!((norm - norm_after(steps)).abs() < 1e-4, "{steps} steps: {norm}");
    }
}

#[test]
fn vectors_replace_tokens_in_a_prompt() {
    let model = model();
    let hidden_dim = model.identity().hidden_dim as usize;
    let vectors: Vec<f32> = (0..3 * hidden_dim).map(|index| (index as f32).sin() / 10.0).collect();
    let context = think(&model, "Who?", 0, None);
    let at_once =
        model.think(Prompt::Vectors(vectors.to_vec()), Some(&context), &ThinkOptions::steps(0)).unwrap();
    assert_eq!((at_once.prompt_tokens, at_once.context_tokens), (3, context.seq_len()));
    let mut one_by_one = context;
    for vector in vectors.chunks(hidden_dim) {
        let thought = model
            .think(Prompt::Vectors(vector.to_vec()), Some(&one_by_one), &ThinkOptions::steps(0))
            .unwrap();
        one_by_one = thought.context.unwrap();
    }
    let expected = one_by_one.last_hidden_state().unwrap();
    for (actual, expected) in at_once.last_hidden_state.iter().zip(expected) {
        assert!((actual - expected).abs() <= 1e-5, "{actual} and {expected}");
    }

    let refused = |vectors: &[f32]| {
        model.think(Prompt::Vectors(vectors.to_vec()), None, &ThinkOptions::steps(0)).unwrap_err()
    };
    assert_eq!(refused(&vectors[1..]), RunError::Vectors { hidden_dim, got: 3 * hidden_dim - 1 });
    assert_eq!(refused(&vec![f32::NAN; hidden_dim]), RunError::NotFinite { step: 0 });
    assert_eq!(refused(&[]), RunError::EmptyPrompt);
}

#[test]
fn an_inspector_refuses_input_that_the_model_cannot_read() {
    let model = model();
    let (inspect, window) = (model.inspect(), model.window());
    let hidden_dim = model.identity().hidden_dim as usize;
    let (vector, long) = (vec![0.1; hidden_dim], vec![5; window + 1]);
    let too_long = RunError::PromptTooLong { tokens: window + 1, window };
    for (tokens, expected) in [(&[][..], RunError::EmptyPrompt), (&long, too_long)] {
        assert_eq!(inspect.last_hidden_state(tokens), Err(expected.clone()));
        assert_eq!(inspect.hidden_states(tokens), Err(expected.clone()));
        assert_eq!(inspect.logits_behind(&vector, tokens), Err(expected));
    }
    for got in [0, hidden_dim - 1, 2 * hidden_dim] {
        let (vector, expected) = (vec![0.1; got], RunError::Vectors { hidden_dim, got });
        assert_eq!(inspect.logits_behind(&vector, &[5]), Err(expected.clone()));
        assert_eq!(inspect.context_of(&vector, 0).unwrap_err(), expected);
    }
    assert_eq!(inspect.logits_behind(&vector, &[5, 9]).unwrap().len(), 2);
}

/// The library under test supports only the CPU.
#[test]
fn an_unavailable_device_is_an_error_with_the_missing_part() {
    let options =
        LoadOptions { device: Device::Cuda { id: 0, memory_limit: None }, ..LoadOptions::default() };
    let error = Model::load(runtime(), repository("test-vectors/parity/tiny-qwen2"), &options).unwrap_err();
    let ModelError::Device { device, message } = error else { panic!("{error}") };
    assert_eq!(device, "CUDA device 0");
    let missing = if cfg!(feature = "cuda") { "onnxruntime_providers_cuda" } else { "`cuda` feature" };
    assert!(message.contains(missing), "{message}");
}

#[test]
fn a_profile_names_the_operators_that_ran_and_a_place_it_cannot_go_is_refused() {
    let folder = repository("test-vectors/parity/tiny-qwen2");
    let load = |profile: PathBuf| {
        let options = LoadOptions { profile: Some(profile), ..LoadOptions::default() };
        Model::load(runtime(), &folder, &options)
    };
    let scratch = tempfile::tempdir().unwrap();
    let model = load(scratch.path().join("steps")).unwrap();
    think(&model, Prompt::Raw("abc".into()), 2, None);
    drop(model);
    let mut files = std::fs::read_dir(scratch.path()).unwrap();
    let file = files.next().unwrap().unwrap();
    assert!(file.file_name().to_str().unwrap().starts_with("steps") && files.next().is_none());
    let events: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    let heads = events.iter().filter(|event| event["name"] == "/lm_head/MatMul_kernel_time");
    assert_eq!(heads.count(), 3, "the prompt and two steps");

    let error = load(scratch.path().join("nowhere/steps")).unwrap_err();
    assert!(matches!(error, ModelError::Profile { .. }), "{error}");
}
