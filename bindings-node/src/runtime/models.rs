//! Models: loading, latent steps and generation.

use std::{sync::Arc, time::Duration};

use avp_js_operations::identity::Identity;
use avp_runtime_ort::{Context, Finish, Generation, Model, Prompt, RunError, Thought};
use napi::{
    Either, Env,
    bindgen_prelude::{External, Float32Array, Object},
    threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode},
};
use napi_derive::napi;
use serde::Serialize;

use super::{
    call::{Stop, on_a_thread, parsed, promised, written},
    contexts::held,
    library,
    options::{Ask, Generate, Load, Think},
};
use crate::failure::{Answer, Failure, answered};

/// Loads a model folder.
#[napi]
pub fn model_load<'env>(
    env: &'env Env,
    folder: String,
    options: String,
    library: String,
) -> napi::Result<Object<'env>> {
    promised(env, move || {
        let options = parsed::<Load>(&options, "options")?;
        let runtime = library::runtime(&parsed(&library, "options")?)?;
        Ok(External::new(Model::load(&runtime, folder, &options.try_into()?)?))
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModelInfo {
    identity: Identity,
    window: usize,
}

/// The properties of a model, as JSON.
#[napi]
pub fn model_info(model: &External<Model>) -> Answer<String> {
    answered(|| written(&ModelInfo { identity: Identity(model.identity().clone()), window: model.window() }))
}

/// The handshake rule by which the context fits the model.
#[napi]
pub fn model_accepts(model: &External<Model>, context: &External<Context>) -> Answer<String> {
    answered(|| Ok(model.accepts(context)?.as_str().to_owned()))
}

/// The result of latent steps.
#[napi(object, object_from_js = false)]
pub struct Thinking {
    /// The context after the call.
    pub context: External<Context>,
    /// The hidden state of the last position.
    pub last_hidden_state: Float32Array,
    /// The rest, as JSON.
    pub about: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThoughtInfo<'t> {
    prompt_tokens: usize,
    reused_tokens: usize,
    context_tokens: usize,
    num_steps: usize,
    hidden_norms: &'t [f32],
    prompt_time: f64,
    total_time: f64,
}

/// Reads a prompt and takes latent steps.
#[napi]
pub fn model_think<'env>(
    env: &'env Env,
    model: &External<Model>,
    prompt: String,
    options: String,
    context: Option<&External<Context>>,
    stop: &External<Arc<Stop>>,
) -> napi::Result<Object<'env>> {
    let (model, context, stop) =
        (Model::clone(model), context.map(|one| Context::clone(one)), Arc::clone(stop));
    promised(env, move || {
        let (prompt, options) =
            (Prompt::from(parsed::<Ask>(&prompt, "prompt")?), parsed::<Think>(&options, "options")?);
        let thought = stop.wait(model.start_think(prompt, context.as_ref(), &options.on(&model)?))?;
        thinking(thought)
    })
}

fn thinking(thought: Thought) -> Result<Thinking, Failure> {
    if !thought.last_hidden_state.iter().all(|value| value.is_finite()) {
        return Err(RunError::NotFinite { step: thought.num_steps }.into());
    }
    let diagnostics = thought.metrics.diagnostics.as_ref();
    let about = written(&ThoughtInfo {
        prompt_tokens: thought.prompt_tokens,
        reused_tokens: thought.reused_tokens,
        context_tokens: thought.context_tokens,
        num_steps: thought.num_steps,
        hidden_norms: diagnostics.and_then(|found| found.norm_trajectory.as_deref()).unwrap_or_default(),
        prompt_time: millis(thought.prompt_time),
        total_time: millis(thought.total_time),
    })?;
    let last_hidden_state = Float32Array::with_data_copied(&thought.last_hidden_state);
    let context = thought.into_context()?;
    Ok(Thinking { context: held(context), last_hidden_state, about })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationInfo<'g> {
    text: &'g str,
    tokens: &'g [u32],
    finish: Finish,
    prompt_tokens: usize,
    reused_tokens: usize,
    context_tokens: usize,
    first_token_time: f64,
    total_time: f64,
    tokens_per_second: Option<f64>,
}

/// A piece of an answer, or its end: the whole answer or an error.
#[napi(object, object_from_js = false)]
pub struct Event {
    /// Text of whole characters.
    pub piece: Option<String>,
    /// The answer, as JSON.
    pub generation: Option<String>,
    /// The error.
    pub failure: Option<Failure>,
}

impl Event {
    fn piece(text: String) -> Self {
        Self { piece: Some(text), generation: None, failure: None }
    }

    fn end(answer: Answer<String>) -> Self {
        match answer {
            Either::A(json) => Self { piece: None, generation: Some(json), failure: None },
            Either::B(failure) => Self { piece: None, generation: None, failure: Some(failure) },
        }
    }
}

/// Receives the events of one answer in order.
pub type Listener = ThreadsafeFunction<Event, (), Event, napi::Status, false>;

/// Reads a prompt and generates. The result arrives as events.
#[napi]
pub fn model_generate(
    model: &External<Model>,
    prompt: String,
    options: String,
    context: Option<&External<Context>>,
    stop: &External<Arc<Stop>>,
    listener: Listener,
) -> napi::Result<()> {
    let (model, context, stop) =
        (Model::clone(model), context.map(|one| Context::clone(one)), Arc::clone(stop));
    on_a_thread(move || {
        // An unbounded queue is never full; a closing one means that Node is exiting.
        let tell = |event| _ = listener.call(event, ThreadsafeFunctionCallMode::NonBlocking);
        let answer = answered(|| {
            let (prompt, options) =
                (Prompt::from(parsed::<Ask>(&prompt, "prompt")?), parsed::<Generate>(&options, "options")?);
            let mut stream = model.start_generate(prompt, context.as_ref(), &options.into())?;
            stop.watch(stream.canceller());
            for piece in &mut stream {
                match piece {
                    Ok(text) => tell(Event::piece(text)),
                    // The answer is what was generated until then.
                    Err(RunError::Cancelled) if stop.is_stopped() => break,
                    Err(error) => return Err(error.into()),
                }
            }
            generation(&stream.into_generation())
        });
        tell(Event::end(answer));
    })
}

fn generation(generation: &Generation) -> Result<String, Failure> {
    written(&GenerationInfo {
        text: &generation.text,
        tokens: &generation.tokens,
        finish: generation.finish,
        prompt_tokens: generation.prompt_tokens,
        reused_tokens: generation.reused_tokens,
        context_tokens: generation.context_tokens,
        first_token_time: millis(generation.first_token_time),
        total_time: millis(generation.total_time),
        tokens_per_second: generation.tokens_per_second(),
    })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
