//! Answers one question in one mode: the agents run in turn, and every hand-over is a real frame.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use avp_runtime_ort::{
    Chat, Context, ContextError, Finish, FrameOptions, FrameReadOptions, GenerateOptions, Message, Model,
    Prompt, RunError, Runtime, ThinkOptions,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::plan::{Note, Plan, Turn};
use crate::mode::{Handed, Mode};

/// The model, and its token limits.
pub(super) struct Agents<'m> {
    pub(super) runtime: &'m Runtime,
    pub(super) model: &'m Model,
    /// Tokens that an agent before the last may write.
    pub(super) max_note_tokens: usize,
    /// Tokens of an answer.
    pub(super) max_answer_tokens: usize,
}

/// The outcome of a question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    Answered(Answer),
    /// Something did not fit the window of the model. The reason has no numbers, so that equal reasons are counted together.
    Skipped(Cow<'static, str>),
}

/// An answer and its costs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Whether the model ended its turn.
    pub(super) finished: bool,
    /// Each agent's part, in order.
    pub(super) agents: Vec<Part>,
    /// Bytes handed over, text or frames, all hand-overs together.
    pub(super) handover_bytes: usize,
    /// Time of writing and reading frames.
    pub(super) handover_time: Duration,
    /// Time from the start of the last agent, hand-over included, to its first token.
    pub(super) first_token_time: Duration,
    /// Time from the start of the first agent to the last token.
    pub(super) total_time: Duration,
}

/// One agent's part in an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) agent: String,
    /// Tokens of its prompt, all of them evaluated.
    pub(super) tokens_read: usize,
    pub(super) tokens_written: usize,
    pub(super) latent_steps: usize,
    pub(super) time: Duration,
}

impl Agents<'_> {
    /// Runs `plan`.
    ///
    /// # Errors
    /// When the model fails, unless something does not fit its window.
    pub(super) fn answer(&self, plan: &Plan<'_>, mode: Mode) -> Result<Outcome> {
        let done = match mode {
            Mode::Direct => self.direct(plan),
            Mode::Text => self.in_text(&plan.turns),
            Mode::Nothing => self.alone(&plan.turns),
            Mode::Latent(handed) => self.latent(&plan.turns, handed),
        };
        match done {
            Ok(answer) => Ok(Outcome::Answered(answer)),
            Err(error) => match error.downcast_ref::<RunError>() {
                Some(RunError::PromptTooLong { .. }) => {
                    Ok(Outcome::Skipped("a prompt is longer than the window".into()))
                }
                Some(RunError::ContextTooLong { .. }) => {
                    Ok(Outcome::Skipped("context, prompt and steps are longer than the window".into()))
                }
                _ => Err(error),
            },
        }
    }

    /// One agent does the work of all.
    fn direct(&self, plan: &Plan<'_>) -> Result<Answer> {
        let last = plan.turns.last().context("a pipeline has an agent")?;
        let written = self.write(&last.agent, plan.direct.as_str(), None, self.max_answer_tokens)?;
        let total_time = written.part.time;
        Ok(written.into_answer(Vec::new(), Handover::default(), total_time))
    }

    /// The last agent gets its prompt without what the others have read.
    fn alone(&self, turns: &[Turn<'_>]) -> Result<Answer> {
        let last = turns.last().context("a pipeline has an agent")?;
        let written = self.write(&last.agent, last.behind_context.as_str(), None, self.max_answer_tokens)?;
        let total_time = written.part.time;
        Ok(written.into_answer(Vec::new(), Handover::default(), total_time))
    }

    fn in_text(&self, turns: &[Turn<'_>]) -> Result<Answer> {
        let start = Instant::now();
        let (last, before) = turns.split_last().context("a pipeline has an agent")?;
        let mut notes = Vec::new();
        let mut parts = Vec::new();
        let mut handover = Handover::default();
        for turn in before {
            let written = self.write(&turn.agent, (turn.from_text)(&notes), None, self.max_note_tokens)?;
            handover.bytes += written.text.len();
            parts.push(written.part);
            notes.push(Note { agent: turn.agent.clone(), text: written.text });
        }
        let written = self.write(&last.agent, (last.from_text)(&notes), None, self.max_answer_tokens)?;
        Ok(written.into_answer(parts, handover, start.elapsed()))
    }

    fn latent(&self, turns: &[Turn<'_>], handed: Handed) -> Result<Answer> {
        let start = Instant::now();
        let (last, before) = turns.split_last().context("a pipeline has an agent")?;
        let mut frame = Bytes::new();
        let mut parts = Vec::new();
        let mut handover = Handover::default();
        let Handed { steps, form, closed } = handed;
        let options = ThinkOptions { form, ..ThinkOptions::steps(steps) };
        for turn in before {
            let turn_start = Instant::now();
            let received = self.receive(frame)?;
            let imported = turn_start.elapsed();
            let known = received.as_ref().map_or(0, Context::seq_len);
            let context = self
                .model
                .think(
                    turn_of(&turn.behind_context, received.as_ref(), closed, closed),
                    received.as_ref(),
                    &options,
                )?
                .into_context()?;
            let export = Instant::now();
            frame = context
                .to_bytes(&FrameOptions { source_agent_id: turn.agent.clone(), ..FrameOptions::default() })?;
            handover.bytes += frame.len();
            handover.time += imported + export.elapsed();
            parts.push(Part {
                agent: turn.agent.clone(),
                tokens_read: context.seq_len().saturating_sub(known + steps),
                tokens_written: 0,
                latent_steps: steps,
                time: turn_start.elapsed(),
            });
        }
        let last_start = Instant::now();
        let received = self.receive(frame)?;
        let imported = last_start.elapsed();
        handover.time += imported;
        let mut written = self.write(
            &last.agent,
            turn_of(&last.behind_context, received.as_ref(), closed, false),
            received.as_ref(),
            self.max_answer_tokens,
        )?;
        written.first_token_time += imported;
        written.part.time += imported;
        Ok(written.into_answer(parts, handover, start.elapsed()))
    }

    /// The context in a frame; the first agent gets an empty one.
    fn receive(&self, frame: Bytes) -> Result<Option<Context>, ContextError> {
        if frame.is_empty() {
            return Ok(None);
        }
        Context::from_bytes(self.runtime, frame, &FrameReadOptions::default()).map(Some)
    }

    fn write(
        &self,
        agent: &str,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        max_tokens: usize,
    ) -> Result<Written, RunError> {
        let start = Instant::now();
        let options = GenerateOptions { max_tokens, ..GenerateOptions::default() };
        let generation = self.model.generate(prompt, context, &options)?;
        let part = Part {
            agent: agent.to_owned(),
            tokens_read: generation.prompt_tokens,
            tokens_written: generation.tokens.len(),
            latent_steps: 0,
            time: start.elapsed(),
        };
        Ok(Written {
            finished: generation.finish == Finish::EndOfTurn,
            first_token_time: generation.first_token_time,
            text: generation.text,
            part,
        })
    }
}

/// `text` as a message of the user: behind a context whose turns are `closed` it goes on in the conversation. With `ends` it is not
/// followed by the assistant's opened turn.
fn turn_of(text: &str, context: Option<&Context>, closed: bool, ends: bool) -> Prompt {
    Prompt::Chat(Chat {
        add_generation_prompt: !ends,
        continues: closed && context.is_some(),
        ..Chat::from(vec![Message::new("user", text)])
    })
}

/// The hand-overs so far.
#[derive(Default)]
struct Handover {
    bytes: usize,
    time: Duration,
}

/// A text that an agent wrote.
struct Written {
    text: String,
    finished: bool,
    part: Part,
    first_token_time: Duration,
}

impl Written {
    fn into_answer(self, mut agents: Vec<Part>, handover: Handover, total_time: Duration) -> Answer {
        agents.push(self.part);
        Answer {
            text: self.text,
            finished: self.finished,
            agents,
            handover_bytes: handover.bytes,
            handover_time: handover.time,
            first_token_time: self.first_token_time,
            total_time,
        }
    }
}
