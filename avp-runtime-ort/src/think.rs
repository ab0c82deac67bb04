//! Thinking: a prompt read, latent steps taken, all of it kept as a context.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use avp_core::OwnedModelIdentity;
use ort::value::DynTensor;

use crate::{
    Context, Model, Pending, Prompt, RunError,
    context::{Before, Origin},
    decoder::{Decoder, Input, Outputs, Reading, Sequence, Want},
    engine::{Deadline, Task},
    kv::Past,
};

/// What thinking is to keep; named as in `avp` 0.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OutputType {
    /// As [`KvCache`](Self::KvCache): what the same model can go on from.
    #[default]
    Auto,
    /// The KV-cache and the last hidden state.
    KvCache,
    /// The last hidden state alone; the KV-cache is freed. For another model, which has no use for the cache.
    HiddenState,
}

/// How to think.
#[derive(Debug, Clone, PartialEq)]
pub struct ThinkOptions {
    /// Latent steps to take behind the prompt; 20 by default, as `avp` has it. With 0 the prompt is only read.
    pub steps: usize,
    /// What the logits are divided by before a latent step weighs the embeddings of all tokens by their probability; above 0.
    /// Below 1 a step comes nearer to the likeliest token, above it further away. 1 by default, which is LatentMAS's step and
    /// the peer's. Only models with tied embeddings take such a step: others take no other temperature.
    pub temperature: f32,
    /// What to keep.
    pub output: OutputType,
    /// Give up after this time, counted from the call; `None` takes what it takes.
    pub timeout: Option<Duration>,
    /// Measure the norm of the hidden state at each step, which has to leave the device for it.
    pub diagnostics: bool,
    /// Read the prompt from the first token on, and not behind the context: what the two begin with in common is taken from
    /// the context, and only the rest is computed. A context whose tokens are not known saves nothing.
    pub reuse_prefix: bool,
}

impl Default for ThinkOptions {
    fn default() -> Self {
        Self {
            steps: 20,
            temperature: 1.0,
            output: OutputType::Auto,
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

/// What thinking came to.
#[derive(Debug, Clone)]
pub struct Thought {
    /// All that was read and thought; `None` where only the hidden state was to be kept.
    pub context: Option<Context>,
    /// The hidden state of the last position after the final norm, `[hidden_dim]`.
    pub last_hidden_state: Arc<[f32]>,
    /// Tokens of the prompt, or vectors in their place.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were in the context already and were not evaluated again.
    pub reused_tokens: usize,
    /// Tokens and latent steps of the context it went on from, none of them evaluated again; reused ones are among them.
    pub context_tokens: usize,
    /// Latent steps taken.
    pub num_steps: usize,
    /// Whether a hidden state that was looked at held NaN. Only [`Model::think_measured`] gives such a thought, and the first
    /// NaN ended it; elsewhere it is an error.
    pub has_nan: bool,
    /// Whether one held an infinity.
    pub has_inf: bool,
    /// Euclidean norms of the last position's hidden state, behind the prompt and behind each step: `num_steps + 1` of
    /// them where [`ThinkOptions::diagnostics`] asked for it, else none.
    pub hidden_norms: Vec<f32>,
    /// From the first run to the end of the prompt.
    pub prompt_time: Duration,
    /// From the first run to the end.
    pub total_time: Duration,
    /// Time of the latent steps, from the end of the prompt to the end of the last.
    pub steps_time: StepsTime,
}

/// Where the time of steps went, latent ones or tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepsTime {
    /// All of it.
    pub total: Duration,
    /// Of it, inside ONNX Runtime. The rest is this crate's, and other calls' where several are in flight.
    pub inside_runtime: Duration,
}

impl Model {
    /// Reads `prompt` behind `context` and thinks for `steps` latent steps; gives all of it as a new context.
    ///
    /// A latent step feeds the model's expected next embedding back instead of a token. With 0 steps the prompt is only
    /// read. `context` stays as it was and can be used again.
    ///
    /// # Errors
    /// When the prompt is empty, does not fit the window with context and steps, the context is another model's, or the
    /// model's last hidden state holds no finite numbers.
    pub fn think(
        &self,
        prompt: impl Into<Prompt>,
        steps: usize,
        context: Option<&Context>,
    ) -> Result<Context, RunError> {
        let thought = self.think_with(prompt, ThinkOptions::steps(steps), context)?;
        thought.context.ok_or(RunError::Stopped)
    }

    /// As [`think`](Self::think), with every option; waits for a place in the model's queue.
    ///
    /// # Errors
    /// As [`think`](Self::think), [`RunError::Option`] for a temperature that the model cannot take, and
    /// [`RunError::TimedOut`].
    pub fn think_with(
        &self,
        prompt: impl Into<Prompt>,
        options: ThinkOptions,
        context: Option<&Context>,
    ) -> Result<Thought, RunError> {
        self.think_until(Deadline::new(options.timeout), &prompt.into(), options, context, false)
    }

    /// As [`think_with`](Self::think_with), by `deadline`, whatever `options` say. With `tells_not_finite`, and diagnostics, a
    /// hidden state that holds other things than numbers is no error, but said of the thought.
    pub(crate) fn think_until(
        &self,
        deadline: Option<Deadline>,
        prompt: &Prompt,
        options: ThinkOptions,
        context: Option<&Context>,
        tells_not_finite: bool,
    ) -> Result<Thought, RunError> {
        let tokens = self.tokenize(prompt)?;
        let thinking = Thinking::new(self, Reading::tokens(tokens), options, context)?;
        self.run(Thinking { tells_not_finite, ..thinking }, deadline)
    }

    /// As [`think_with`](Self::think_with), reading `vectors` where tokens would stand: `[length, hidden_dim]`, in the space
    /// of the model's input embeddings. So is read what another model knows, once it is projected there.
    ///
    /// # Errors
    /// As [`think_with`](Self::think_with), and when `vectors` are not whole ones or not finite.
    pub fn think_vectors(
        &self,
        vectors: &[f32],
        options: ThinkOptions,
        context: Option<&Context>,
    ) -> Result<Thought, RunError> {
        let deadline = Deadline::new(options.timeout);
        let hidden_dim = self.identity().hidden_dim as usize;
        if !vectors.len().is_multiple_of(hidden_dim) {
            return Err(RunError::Vectors { hidden_dim, got: vectors.len() });
        }
        if !vectors.iter().all(|value| value.is_finite()) {
            return Err(RunError::NotFinite { step: 0 });
        }
        let reading = Reading::vectors(vectors.to_vec(), vectors.len() / hidden_dim);
        self.run(Thinking::new(self, reading, options, context)?, deadline)
    }

    /// As [`think_with`](Self::think_with), without waiting: the answer is awaited, waited for, or cancelled.
    ///
    /// Every error is in the answer, [`RunError::Busy`] too: the model's queue was full.
    pub fn start_think(
        &self,
        prompt: impl Into<Prompt>,
        options: ThinkOptions,
        context: Option<&Context>,
    ) -> Pending<Thought> {
        let deadline = Deadline::new(options.timeout);
        let thinking = self
            .tokenize(&prompt.into())
            .and_then(|tokens| Thinking::new(self, Reading::tokens(tokens), options, context));
        match thinking {
            Ok(thinking) => self.start(thinking, deadline),
            Err(error) => Pending::refused(error),
        }
    }
}

/// A think call on the model's thread.
struct Thinking {
    reading: Reading,
    options: ThinkOptions,
    identity: Arc<OwnedModelIdentity>,
    origin: Origin,
    steps_before: usize,
    reused_tokens: usize,
    context_tokens: usize,
    state: State,
    /// Whether hidden states that hold other things than numbers are told of and no error.
    tells_not_finite: bool,
    has_nan: bool,
    has_inf: bool,
    hidden_norms: Vec<f32>,
    start: Instant,
    prompt_time: Duration,
    steps_time: StepsTime,
}

enum State {
    Unread(Past),
    Reading(Sequence),
    Thinking { sequence: Sequence, latent: DynTensor, taken: usize },
    Done,
}

impl Thinking {
    fn new(
        model: &Model,
        mut reading: Reading,
        options: ThinkOptions,
        context: Option<&Context>,
    ) -> Result<Self, RunError> {
        check_temperature(options.temperature, model.is_tied())?;
        let (before, reused_tokens) = match reading.unread_tokens() {
            Some(tokens) if options.reuse_prefix => {
                let before = model.reuse(context, tokens)?;
                (before, before.seq_len())
            }
            _ => (Before::all(context), 0),
        };
        reading.skip(reused_tokens);
        let past = model.past(before, reading.left(), options.steps)?;
        Ok(Self {
            origin: Origin::new(model.fingerprint(), before, reading.unread_tokens(), options.steps),
            reading,
            identity: model.shared_identity(),
            steps_before: before.num_steps(),
            reused_tokens,
            context_tokens: past.seq_len(),
            state: State::Unread(past),
            tells_not_finite: false,
            has_nan: false,
            has_inf: false,
            hidden_norms: Vec::new(),
            options,
            start: Instant::now(),
            prompt_time: Duration::ZERO,
            steps_time: StepsTime::default(),
        })
    }

    /// The last run gives the hidden state, each before it the next latent input.
    fn want(&self, taken: usize) -> Want {
        let last = taken == self.options.steps;
        Want {
            logits: false,
            hidden: last || self.options.diagnostics,
            next_latent: (!last).then_some(self.options.temperature),
        }
    }

    fn finish(
        &mut self,
        decoder: &mut Decoder,
        sequence: Sequence,
        outputs: &Outputs,
        steps: usize,
    ) -> Result<Thought, RunError> {
        let last_hidden_state = outputs.last_hidden()?;
        if !self.tells_not_finite && !last_hidden_state.iter().all(|value| value.is_finite()) {
            return Err(RunError::NotFinite { step: steps });
        }
        let context = match self.options.output {
            OutputType::HiddenState => None,
            OutputType::Auto | OutputType::KvCache => {
                let cache = decoder.end(sequence)?;
                let steps = self.steps_before + steps;
                let context = Context::new(cache, self.identity.clone(), steps, last_hidden_state.clone());
                Some(context.computed_from(&self.origin))
            }
        };
        Ok(Thought {
            context,
            last_hidden_state: last_hidden_state.into(),
            prompt_tokens: self.reading.len(),
            reused_tokens: self.reused_tokens,
            context_tokens: self.context_tokens,
            num_steps: steps,
            has_nan: self.has_nan,
            has_inf: self.has_inf,
            hidden_norms: std::mem::take(&mut self.hidden_norms),
            prompt_time: self.prompt_time,
            total_time: self.start.elapsed(),
            steps_time: self.steps_time,
        })
    }
}

impl Task for Thinking {
    type Output = Thought;

    fn step(&mut self, decoder: &mut Decoder) -> Result<ControlFlow<Thought>, RunError> {
        let mut state = std::mem::replace(&mut self.state, State::Done);
        if let State::Unread(past) = state {
            self.start = Instant::now();
            state = State::Reading(decoder.begin(past, self.reading.left() + self.options.steps)?);
        }
        let (sequence, mut outputs, taken) = match state {
            State::Reading(mut sequence) => {
                let want = self.want(0);
                let Some(outputs) = decoder.read(&mut sequence, &mut self.reading, want)? else {
                    self.state = State::Reading(sequence);
                    return Ok(ControlFlow::Continue(()));
                };
                self.prompt_time = self.start.elapsed();
                (sequence, outputs, 0)
            }
            State::Thinking { mut sequence, latent, taken } => {
                let taken = taken + 1;
                let outputs = decoder.run(&mut sequence, Input::Latent(&latent), self.want(taken))?;
                self.steps_time.inside_runtime += outputs.run_time;
                self.steps_time.total = self.start.elapsed().saturating_sub(self.prompt_time);
                (sequence, outputs, taken)
            }
            // A task that has given its answer is not asked again.
            State::Unread(_) | State::Done => return Err(RunError::Stopped),
        };
        if self.options.diagnostics {
            let hidden = outputs.last_hidden()?;
            self.hidden_norms.push(norm(&hidden));
            self.has_nan |= hidden.iter().any(|value| value.is_nan());
            self.has_inf |= hidden.iter().any(|value| value.is_infinite());
        }
        // Behind a NaN there is nothing but NaN; the peer takes no more steps either.
        if taken == self.options.steps || (self.tells_not_finite && self.has_nan) {
            return self.finish(decoder, sequence, &outputs, taken).map(ControlFlow::Break);
        }
        let latent = outputs.take_next_latent()?;
        self.state = State::Thinking { sequence, latent, taken };
        Ok(ControlFlow::Continue(()))
    }
}

fn check_temperature(temperature: f32, tied: bool) -> Result<(), RunError> {
    let expected = match tied {
        true if temperature.is_finite() && temperature > 0.0 => return Ok(()),
        true => "above 0",
        false if temperature == 1.0 => return Ok(()),
        false => "1, since the model's embeddings are not tied",
    };
    Err(RunError::Option { option: "temperature", expected, got: temperature.into() })
}

/// Summed in float64: a hidden state has thousands of numbers.
fn norm(values: &[f32]) -> f32 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{LoadOptions, Runtime};

    #[test]
    fn a_prompt_that_is_read_one_by_one_leaves_other_calls_their_turns() {
        // Its `MultiHeadAttention` reads one token at a time behind a cache.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/models/genai-qwen2-fp16");
        let model = Model::load(&Runtime::find().unwrap(), folder, &LoadOptions::default()).unwrap();
        let steps_of = |context: Option<&Context>| {
            let reading = Reading::tokens(vec![5, 9, 17, 8]);
            let mut thinking = Thinking::new(&model, reading, ThinkOptions::steps(2), context).unwrap();
            let steps = model.with_decoder(move |decoder| {
                let mut steps = 1;
                loop {
                    match thinking.step(decoder)? {
                        ControlFlow::Continue(()) => steps += 1,
                        ControlFlow::Break(thought) => return Ok((steps, thought)),
                    }
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
