//! Thinking: a prompt is read, latent steps are taken, and the result is a context.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use avp_core::OwnedModelIdentity;
use ort::value::DynTensor;

use crate::{
    Context, RunError,
    context::{Before, Origin},
    decoder::{Decoder, Input, Outputs, Reading, Sequence, Want},
    engine::{Progress, Task},
    facts::Facts,
    kv::Past,
    metrics::{ThinkMetrics, TransferDiagnostics},
    step_form::{StepForm, StepInputs},
    step_watch::{Departure, StepLimits, StepState, StepWatch},
};

/// Options of [`Model::think`](crate::Model::think).
///
/// ```
/// use avp_runtime_ort::ThinkOptions;
///
/// let only_read = ThinkOptions::default();
/// assert_eq!(only_read.steps, 0);
/// let options = ThinkOptions { form: "hidden".parse()?, ..ThinkOptions::steps(8) };
/// # Ok::<(), avp_runtime_ort::UnknownStepForm>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThinkOptions {
    /// Number of latent steps after the prompt. 0, the default, only reads the prompt: steps in the peer's form destroy the
    /// context of the real models that were tried. `avp` takes 20.
    pub steps: usize,
    /// The form of the steps; the peer's by default.
    pub form: StepForm,
    /// Limits that the state must keep for the next step to be taken; `None`, the default, takes every step, as `avp` does. With them,
    /// the logits of each step are copied from the device. [`Thought::departure`] says why steps ended early.
    pub limits: Option<StepLimits>,
    /// Keep the KV-cache as a [`Context`]; true by default. Without it the cache is freed and only
    /// [`Thought::last_hidden_state`] is left, which is all that another model can use.
    pub keep_context: bool,
    /// Time limit, counted from the call; `None` waits without limit.
    pub timeout: Option<Duration>,
    /// Measure the hidden state behind the prompt and behind each step, which copies it from the device: its norm, and whether
    /// it holds NaN or infinities. [`ThinkMetrics::diagnostics`] then reports them in place of an error, as in the peer: the first
    /// NaN ends the thinking, and its context is of no use.
    pub diagnostics: bool,
    /// Start the prompt at the context's first token, not behind the context: the common prefix is taken from the context, and
    /// only the rest is computed. Without token ids in the context, nothing is reused.
    pub reuse_prefix: bool,
}

impl Default for ThinkOptions {
    fn default() -> Self {
        Self {
            steps: 0,
            form: StepForm::Peer,
            limits: None,
            keep_context: true,
            timeout: None,
            diagnostics: false,
            reuse_prefix: false,
        }
    }
}

impl ThinkOptions {
    /// The default with this number of latent steps.
    pub fn steps(steps: usize) -> Self {
        Self { steps, ..Self::default() }
    }
}

/// The result of [`Model::think`](crate::Model::think).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Thought {
    /// The prompt and the latent steps as a KV-cache; `None` where [`ThinkOptions::keep_context`] was false.
    pub context: Option<Context>,
    /// The hidden state of the last position after the final norm, `[hidden_dim]`.
    pub last_hidden_state: Arc<[f32]>,
    /// Tokens of the prompt, or vectors in their place.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were taken from the context.
    pub reused_tokens: usize,
    /// Tokens and latent steps of the context, including reused ones.
    pub context_tokens: usize,
    /// Latent steps taken.
    pub num_steps: usize,
    /// Why fewer steps were taken than asked for, where [`ThinkOptions::limits`] ended them.
    pub departure: Option<Departure>,
    /// From the first run to the end of the prompt.
    pub prompt_time: Duration,
    /// From the first run to the end.
    pub total_time: Duration,
    /// Time of the latent steps, from the end of the prompt to the end of the last.
    pub steps_time: StepsTime,
    /// The state behind the prompt and behind each step, where [`ThinkOptions::diagnostics`] or [`ThinkOptions::limits`] ask for it;
    /// else empty.
    pub states: Vec<StepState>,
    /// The call as `avp` 0.6 reports it.
    pub metrics: ThinkMetrics,
}

impl Thought {
    /// The context.
    ///
    /// # Errors
    /// [`RunError::NoContext`] where [`ThinkOptions::keep_context`] was false.
    pub fn into_context(self) -> Result<Context, RunError> {
        self.context.ok_or(RunError::NoContext)
    }
}

/// Time of latent steps or of token steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepsTime {
    /// All of it.
    pub total: Duration,
    /// The part inside ONNX Runtime. The rest is this crate's, and other calls' where several are in flight.
    pub inside_runtime: Duration,
}

/// A think call that has not begun.
pub(crate) struct Thinking {
    past: Past,
    reading: Reading,
    call: Call,
}

/// The fixed part of a call.
struct Call {
    options: ThinkOptions,
    form: StepInputs,
    identity: Arc<OwnedModelIdentity>,
    origin: Origin,
    has_prior_context: bool,
    steps_before: usize,
    reused_tokens: usize,
    context_tokens: usize,
    start: Instant,
}

/// A think call that reads its prompt or takes steps.
struct Running {
    call: Call,
    sequence: Sequence,
    reading: Reading,
    /// The next latent input; `None` until the prompt is read.
    latent: Option<DynTensor>,
    taken: usize,
    first_run: Instant,
    prompt_time: Duration,
    steps_time: StepsTime,
    has_nan: bool,
    has_inf: bool,
    watch: StepWatch,
    departure: Option<Departure>,
}

impl Thinking {
    /// # Errors
    /// When an option is out of range, or prompt and context do not fit the model.
    pub(crate) fn new(
        facts: &Facts,
        mut reading: Reading,
        context: Option<&Context>,
        options: ThinkOptions,
        start: Instant,
    ) -> Result<Box<Self>, RunError> {
        let form = options.form.inputs(facts.tied)?;
        let before = match reading.unread_tokens() {
            Some(tokens) if options.reuse_prefix => facts.reuse(context, tokens)?,
            _ => Before::all(context),
        };
        let reused_tokens = if options.reuse_prefix { reading.skip(before.seq_len()) } else { 0 };
        let past = facts.past(before, reading.left(), options.steps)?;
        let call = Call {
            options,
            form,
            identity: facts.identity.clone(),
            origin: Origin::new(facts.fingerprint.clone(), before, reading.unread_tokens()),
            has_prior_context: context.is_some(),
            steps_before: before.num_steps(),
            reused_tokens,
            context_tokens: past.seq_len(),
            start,
        };
        Ok(Box::new(Self { past, reading, call }))
    }

    /// Tokens and latent steps of the context that it computes.
    pub(crate) fn seq_len(&self) -> usize {
        self.past.seq_len() + self.reading.left() + self.call.options.steps
    }
}

impl Task for Thinking {
    type Output = Thought;

    fn step(self: Box<Self>, decoder: &mut Decoder) -> Result<Progress<Thought>, RunError> {
        let first_run = Instant::now();
        let Self { past, reading, call } = *self;
        let sequence = decoder.begin(past, reading.left() + call.options.steps)?;
        let limits = call.options.limits;
        let running = Running {
            call,
            sequence,
            reading,
            latent: None,
            taken: 0,
            first_run,
            prompt_time: Duration::ZERO,
            steps_time: StepsTime::default(),
            has_nan: false,
            has_inf: false,
            watch: StepWatch::new(limits),
            departure: None,
        };
        Box::new(running).step(decoder)
    }
}

impl Task for Running {
    type Output = Thought;

    fn step(mut self: Box<Self>, decoder: &mut Decoder) -> Result<Progress<Thought>, RunError> {
        let mut outputs = if let Some(latent) = self.latent.take() {
            self.taken += 1;
            let want = self.want();
            let outputs = decoder.run(&mut self.sequence, Input::Latent(&latent), want)?;
            self.steps_time.inside_runtime += outputs.run_time;
            self.steps_time.total = self.first_run.elapsed().saturating_sub(self.prompt_time);
            outputs
        } else {
            let want = self.want();
            let Some(outputs) = decoder.read(&mut self.sequence, &mut self.reading, want)? else {
                return Ok(ControlFlow::Continue(self));
            };
            self.prompt_time = self.first_run.elapsed();
            outputs
        };
        if self.is_watched() {
            let hidden = outputs.last_hidden()?;
            let departure = self.watch.see(norm(&hidden), &outputs.logits()?);
            self.departure = departure.filter(|_| self.taken < self.call.options.steps);
            self.has_nan |= hidden.iter().any(|value| value.is_nan());
            self.has_inf |= hidden.iter().any(|value| value.is_infinite());
        }
        // Behind a NaN there is nothing but NaN; the peer takes no more steps either.
        if self.taken == self.call.options.steps || self.has_nan || self.departure.is_some() {
            return self.finish(decoder, &outputs).map(ControlFlow::Break);
        }
        self.latent = Some(outputs.take_next_latent()?);
        Ok(ControlFlow::Continue(self))
    }
}

impl Running {
    /// The last run gives the hidden state, each before it the next latent input.
    fn want(&self) -> Want {
        let options = &self.call.options;
        let last = self.taken == options.steps;
        let watched = self.is_watched();
        Want { logits: watched, hidden: last || watched, next_latent: (!last).then_some(self.call.form) }
    }

    /// Whether the state behind each step is looked at.
    fn is_watched(&self) -> bool {
        let options = &self.call.options;
        options.diagnostics || (options.limits.is_some() && options.steps > 0)
    }

    fn finish(self, decoder: &mut Decoder, outputs: &Outputs) -> Result<Thought, RunError> {
        let Self { call, taken, departure, .. } = self;
        let options = call.options;
        let last_hidden_state = outputs.last_hidden()?;
        if !options.diagnostics && !last_hidden_state.iter().all(|value| value.is_finite()) {
            return Err(RunError::NotFinite { step: taken });
        }
        let context = if options.keep_context {
            let cache = decoder.end(self.sequence)?;
            let steps = call.steps_before + taken;
            let context = Context::new(cache, call.identity.clone(), steps, last_hidden_state.clone());
            Some(context.computed_from(&call.origin, taken))
        } else {
            None
        };
        let prompt_tokens = self.reading.len();
        let model = Some(call.identity.model_id.clone());
        let diagnostics = options.diagnostics.then(|| TransferDiagnostics {
            target_model: model.clone(),
            transfer_mode: "latent".to_owned(),
            prompt_tokens,
            has_nan: self.has_nan,
            has_inf: self.has_inf,
            norm_trajectory: Some(self.watch.states.iter().map(|state| state.norm).collect()),
            warnings: departure
                .map(|why| format!("ended after {taken} of {} latent steps: {why}", options.steps))
                .into_iter()
                .collect(),
            ..TransferDiagnostics::default()
        });
        let seconds = call.start.elapsed().as_secs_f64();
        Ok(Thought {
            context,
            last_hidden_state: last_hidden_state.into(),
            prompt_tokens,
            reused_tokens: call.reused_tokens,
            context_tokens: call.context_tokens,
            num_steps: taken,
            departure,
            states: self.watch.states,
            prompt_time: self.prompt_time,
            total_time: self.first_run.elapsed(),
            steps_time: self.steps_time,
            metrics: ThinkMetrics {
                model,
                steps: options.steps,
                has_prior_context: call.has_prior_context,
                duration_s: seconds,
                think_duration_s: seconds,
                diagnostics,
            },
        })
    }
}

/// Summed in float64: a hidden state has thousands of numbers.
pub(crate) fn norm(values: &[f32]) -> f32 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{LoadOptions, Model, Runtime};

    #[test]
    fn a_prompt_that_is_read_one_by_one_leaves_other_calls_their_turns() {
        // Its `MultiHeadAttention` reads one token at a time behind a cache.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/models/genai-qwen2-fp16");
        let model = Model::load(&Runtime::find().unwrap(), folder, &LoadOptions::default()).unwrap();
        let steps_of = |context: Option<&Context>| {
            let reading = Reading::tokens(vec![5, 9, 17, 8]);
            let options = ThinkOptions::steps(2);
            let mut task: Box<dyn Task<Output = Thought>> =
                Thinking::new(model.facts(), reading, context, options, Instant::now()).unwrap();
            let steps = model.with_decoder(move |decoder| {
                let mut steps = 1;
                loop {
                    match task.step(decoder)? {
                        ControlFlow::Continue(next) => task = next,
                        ControlFlow::Break(thought) => return Ok((steps, thought)),
                    }
                    steps += 1;
                }
            });
            steps.unwrap()
        };
        let (steps, thought) = steps_of(None);
        assert_eq!(steps, 1 + 2);
        let (steps, behind) = steps_of(thought.context.as_ref());
        assert_eq!(steps, 4 + 2);
        assert_eq!((behind.prompt_tokens, behind.context.unwrap().seq_len()), (4, 6 + 6));
    }
}
