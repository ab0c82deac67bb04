//! A generate call on the model's thread: optional latent steps, the answer, and an optional second answer for comparison.

use std::{
    ops::ControlFlow,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use super::{
    GenerateOptions, Generation,
    machine::{Generating, Next, Usage},
};
use crate::{
    Context, Prompt, RunError, ThinkOptions, Thought,
    context::Before,
    decoder::{Decoder, Input, Reading, Sequence, Want},
    engine::{Progress, Task, then},
    facts::Facts,
    kv::Past,
    metrics::{GenerateMetrics, TransferDiagnostics},
    think::Thinking,
};

/// The work of an answer.
pub(crate) type AnswerTask = Box<dyn Task<Output = Generation>>;

/// A piece of text, with the tokens since the last piece.
pub(crate) struct Piece {
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    pub(super) since_start: Duration,
}

/// A generate call before it is passed to the model's thread.
pub(crate) struct Request {
    facts: Arc<Facts>,
    prompt: Reading,
    context: Option<Context>,
    options: GenerateOptions,
    start: Instant,
}

impl Request {
    /// # Errors
    /// When an option is out of range, or the prompt cannot be tokenized.
    pub(crate) fn new(
        facts: &Arc<Facts>,
        prompt: Prompt,
        context: Option<&Context>,
        options: &GenerateOptions,
        start: Instant,
    ) -> Result<Self, RunError> {
        options.check(facts.tokens.vocab_size())?;
        Ok(Self {
            facts: facts.clone(),
            prompt: facts.read(prompt)?,
            context: context.cloned(),
            options: options.clone(),
            start,
        })
    }

    /// The task, which sends its text to `pieces`, and the token counts known before it begins.
    ///
    /// # Errors
    /// When prompt, context and latent steps do not fit the model.
    pub(crate) fn into_task(self, pieces: Option<Sender<Piece>>) -> Result<(AnswerTask, Usage), RunError> {
        if self.options.steps == 0 {
            return self.answer(None, pieces);
        }
        let options = ThinkOptions {
            reuse_prefix: self.options.reuse_prefix,
            diagnostics: self.diagnoses(),
            ..ThinkOptions::steps(self.options.steps)
        };
        let prompt = self.prompt.clone();
        let thinking = Thinking::new(&self.facts, prompt, self.context.as_ref(), options, self.start)?;
        // The answer reads the prompt again, and has at least one token.
        let (context_tokens, prompt_tokens) = (thinking.seq_len(), self.prompt.len());
        self.facts.check_window(context_tokens, prompt_tokens, 1)?;
        let usage = Usage { prompt_tokens, context_tokens, ..Usage::default() };
        let answer = move |thought: Thought| {
            // A context with NaN is an error in any case.
            if !thought.last_hidden_state.iter().all(|value| value.is_finite()) {
                return Err(RunError::NotFinite { step: thought.num_steps });
            }
            let (answer, _) = self.answer(Some(thought), pieces)?;
            Ok(ControlFlow::Continue(answer))
        };
        Ok((then(thinking, answer, None), usage))
    }

    /// The answer behind `thought`, or behind the context.
    fn answer(
        &self,
        thought: Option<Thought>,
        pieces: Option<Sender<Piece>>,
    ) -> Result<(AnswerTask, Usage), RunError> {
        let model = Some(self.facts.identity.model_id.clone());
        let mut metrics = GenerateMetrics {
            model: model.clone(),
            steps: self.options.steps,
            has_prior_context: self.context.is_some(),
            diagnostics: self
                .diagnoses()
                .then(|| TransferDiagnostics { target_model: model, ..TransferDiagnostics::default() }),
            ..GenerateMetrics::default()
        };
        let (answering, usage) = match thought {
            None => self.answering(self.context.as_ref(), self.options.reuse_prefix, pieces, metrics)?,
            // The prompt is read again after its latent steps, so nothing is reused.
            Some(thought) => {
                metrics.think_duration_s = self.start.elapsed().as_secs_f64();
                metrics.diagnostics = thought.metrics.diagnostics;
                self.answering(thought.context.as_ref(), false, pieces, metrics)?
            }
        };
        if !self.options.compare {
            return Ok((answering, usage));
        }
        let (baseline, _) = self.answering(None, false, None, GenerateMetrics::default())?;
        let start = self.start;
        let compare = move |generation: Generation| {
            let finish = move |baseline| compared(generation, baseline, start);
            let fallback = finish.clone();
            let compared = move |baseline| Ok(ControlFlow::Break(finish(Ok(baseline))));
            let fallback = Box::new(move |error| fallback(Err(error)));
            Ok(ControlFlow::Continue(then(baseline, compared, Some(fallback))))
        };
        Ok((then(answering, compare, None), usage))
    }

    fn answering(
        &self,
        context: Option<&Context>,
        reuse_prefix: bool,
        pieces: Option<Sender<Piece>>,
        metrics: GenerateMetrics,
    ) -> Result<(Box<Answering>, Usage), RunError> {
        let facts = &self.facts;
        let mut prompt = self.prompt.clone();
        let tokens = prompt.unread_tokens().unwrap_or_default();
        let before = if reuse_prefix { facts.reuse(context, tokens)? } else { Before::all(context) };
        let reused_tokens = if reuse_prefix { before.seq_len() } else { 0 };
        let unread = prompt.len() - reused_tokens;
        let past = facts.past(before, unread, 1)?;
        let usage = Usage {
            prompt_tokens: prompt.len(),
            reused_tokens,
            context_tokens: past.seq_len(),
            room: facts.window.saturating_sub(past.seq_len() + unread),
        };
        let generating =
            Generating::new(&self.options, &facts.tokens, tokens, &facts.end_of_turn, usage, self.start)?;
        prompt.skip(reused_tokens);
        let expected = unread.saturating_add(self.options.max_tokens).min(facts.window);
        let output =
            Output { pieces, sent_tokens: 0, start: self.start, behind_context: context.is_some(), metrics };
        Ok((Box::new(Answering { past, prompt, expected, generating, output }), usage))
    }

    fn diagnoses(&self) -> bool {
        self.options.diagnostics || self.options.compare
    }
}

/// An answer that has not begun.
struct Answering {
    past: Past,
    prompt: Reading,
    /// Maximum number of tokens to read and generate.
    expected: usize,
    generating: Generating,
    output: Output,
}

impl Task for Answering {
    type Output = Generation;

    fn step(self: Box<Self>, decoder: &mut Decoder) -> Result<Progress<Generation>, RunError> {
        let Self { past, prompt, expected, generating, output } = *self;
        let sequence = decoder.begin(past, expected)?;
        Box::new(Running { sequence, prompt, token: None, generating, output }).step(decoder)
    }
}

/// An answer whose prompt is being read or whose tokens are generated.
struct Running {
    sequence: Sequence,
    prompt: Reading,
    /// The next token to run; `None` until the prompt is read.
    token: Option<u32>,
    generating: Generating,
    output: Output,
}

impl Task for Running {
    type Output = Generation;

    fn step(mut self: Box<Self>, decoder: &mut Decoder) -> Result<Progress<Generation>, RunError> {
        let outputs = if let Some(token) = self.token {
            let outputs = decoder.run(&mut self.sequence, Input::Tokens(&[token]), Want::LOGITS)?;
            self.generating.ran_for(outputs.run_time);
            outputs
        } else {
            let Some(outputs) = decoder.read(&mut self.sequence, &mut self.prompt, Want::LOGITS)? else {
                return Ok(ControlFlow::Continue(self));
            };
            outputs
        };
        let (text, next) = self.generating.advance(&outputs.logits()?, Instant::now())?;
        self.output.send(text, self.generating.answer_tokens());
        Ok(match next {
            Next::Run(token) => {
                self.token = Some(token);
                ControlFlow::Continue(self)
            }
            Next::Done(_) => {
                let Self { generating, output, .. } = *self;
                ControlFlow::Break(output.finish(generating))
            }
        })
    }
}

/// The receiver of the text, and the metrics.
struct Output {
    pieces: Option<Sender<Piece>>,
    sent_tokens: usize,
    start: Instant,
    behind_context: bool,
    metrics: GenerateMetrics,
}

impl Output {
    fn send(&mut self, text: String, tokens: &[u32]) {
        let Some(pieces) = self.pieces.as_ref().filter(|_| !text.is_empty()) else { return };
        let new = tokens[self.sent_tokens..].to_vec();
        self.sent_tokens = tokens.len();
        // A caller that waits for the whole answer has dropped the receiver.
        let _not_listening = pieces.send(Piece { text, tokens: new, since_start: self.start.elapsed() });
    }

    fn finish(self, generating: Generating) -> Generation {
        let mut metrics = self.metrics;
        let mut generation = generating.into_generation();
        metrics.duration_s = self.start.elapsed().as_secs_f64();
        metrics.generate_duration_s = metrics.duration_s - metrics.think_duration_s;
        if let Some(diagnostics) = &mut metrics.diagnostics {
            diagnostics.add_answer(&generation, self.behind_context);
        }
        generation.metrics = metrics;
        generation
    }
}

/// `generation`, compared with the answer without its context.
fn compared(
    mut generation: Generation,
    baseline: Result<Generation, RunError>,
    start: Instant,
) -> Generation {
    if let Some(diagnostics) = &mut generation.metrics.diagnostics {
        diagnostics.compare(&generation.text, baseline);
    }
    generation.metrics.duration_s = start.elapsed().as_secs_f64();
    generation
}
