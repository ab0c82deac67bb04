//! The answer on the model's thread, and the caller's end of it.

use std::{
    iter::FusedIterator,
    ops::ControlFlow,
    sync::mpsc::{self, Receiver, Sender},
    time::{Duration, Instant},
};

use super::{
    Finish, GenerateOptions, Generation,
    machine::{Generating, Next, Usage},
};
use crate::{
    Canceller, Context, Model, Pending, Prompt, RunError,
    context::Before,
    decoder::{Decoder, Input, Reading, Sequence, Want},
    engine::{Deadline, Task},
    kv::Past,
    think::StepsTime,
};

/// An answer, piece by piece; made by [`Model::generate_stream`].
///
/// The pieces together are the text, none is empty, and each is whole characters. The model goes on while a piece is looked
/// at. To stop it, drop the stream, or ask for [`into_generation`](Self::into_generation).
#[must_use = "dropping it stops the generation"]
pub struct GenerationStream {
    pieces: Receiver<Piece>,
    /// The rest of the answer; `None` when it has come.
    pending: Option<Pending<Generation>>,
    /// The answer as far as it was read.
    read: Generation,
}

/// Text that is certain, with the tokens since the piece before.
pub(super) struct Piece {
    text: String,
    tokens: Vec<u32>,
    since_start: Duration,
}

impl GenerationStream {
    pub(super) fn start(
        model: &Model,
        prompt: &Prompt,
        context: Option<&Context>,
        options: &GenerateOptions,
    ) -> Result<Self, RunError> {
        let deadline = Deadline::new(options.timeout);
        let (sender, pieces) = mpsc::channel();
        let answering = Answering::new(model, prompt, context, options, Some(sender))?;
        let Usage { prompt_tokens, reused_tokens, context_tokens, .. } = answering.usage;
        let read = Generation {
            text: String::new(),
            tokens: Vec::new(),
            finish: Finish::Stopped,
            prompt_tokens,
            reused_tokens,
            context_tokens,
            first_token_time: Duration::ZERO,
            total_time: Duration::ZERO,
            steps_time: StepsTime::default(),
        };
        Ok(Self { pieces, pending: Some(model.start_when_free(answering, deadline)?), read })
    }

    /// The answer as far as it was read: all of it when the iterator has ended, else with [`Finish::Stopped`]. A model that is
    /// still at it is stopped.
    pub fn into_generation(self) -> Generation {
        self.read
    }

    /// What stops the model from another place, in the middle of a long prompt too: the iterator then ends with
    /// [`RunError::Cancelled`]. `None` when it has ended.
    pub fn canceller(&self) -> Option<Canceller> {
        self.pending.as_ref().map(Pending::canceller)
    }
}

impl Iterator for GenerationStream {
    type Item = Result<String, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(Piece { text, tokens, since_start }) = self.pieces.recv() {
            if self.read.tokens.is_empty() {
                self.read.first_token_time = since_start;
            }
            self.read.total_time = since_start;
            self.read.tokens.extend(tokens);
            self.read.text += &text;
            return Some(Ok(text));
        }
        // Whoever sent the pieces is done, or was stopped: a call lets go of its task then.
        match self.pending.take()?.wait() {
            Ok(generation) => {
                self.read = generation;
                None
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl FusedIterator for GenerationStream {}

impl std::fmt::Debug for GenerationStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("GenerationStream")
            .field("done", &self.pending.is_none())
            .finish_non_exhaustive()
    }
}

/// A generate call on the model's thread.
pub(super) struct Answering {
    state: State,
    /// Where pieces go, if anywhere; never full, since the model's thread waits for no caller.
    pieces: Option<Sender<Piece>>,
    sent_tokens: usize,
    usage: Usage,
    start: Instant,
}

enum State {
    /// Nothing is run yet.
    Unread {
        past: Past,
        prompt: Reading,
        generating: Generating,
        expected: usize,
    },
    /// Part of the prompt is read.
    Reading {
        sequence: Sequence,
        prompt: Reading,
        generating: Generating,
    },
    /// A token is to be run behind the sequence.
    Answering {
        sequence: Sequence,
        token: u32,
        generating: Generating,
    },
    Done,
}

impl Answering {
    pub(super) fn new(
        model: &Model,
        prompt: &Prompt,
        context: Option<&Context>,
        options: &GenerateOptions,
        pieces: Option<Sender<Piece>>,
    ) -> Result<Self, RunError> {
        let start = Instant::now();
        let tokens = model.tokenize(prompt)?;
        let (before, reused_tokens) = if options.reuse_prefix {
            let before = model.reuse(context, &tokens)?;
            (before, before.seq_len())
        } else {
            (Before::all(context), 0)
        };
        let unread = tokens.len() - reused_tokens;
        let past = model.past(before, unread, 1)?;
        let usage = Usage {
            prompt_tokens: tokens.len(),
            reused_tokens,
            context_tokens: past.seq_len(),
            room: model.window().saturating_sub(past.seq_len() + unread),
        };
        let generating =
            Generating::new(options, model.tokens(), &tokens, model.end_of_turn(), usage, start)?;
        let expected = unread.saturating_add(options.max_tokens).min(model.window());
        let mut prompt = Reading::tokens(tokens);
        prompt.skip(reused_tokens);
        let state = State::Unread { past, prompt, generating, expected };
        Ok(Self { state, pieces, sent_tokens: 0, usage, start })
    }

    /// `false` where nobody listens any more.
    fn send(&mut self, text: String, tokens: &[u32]) -> bool {
        let Some(pieces) = self.pieces.as_ref().filter(|_| !text.is_empty()) else { return true };
        let new = tokens[self.sent_tokens..].to_vec();
        self.sent_tokens = tokens.len();
        pieces.send(Piece { text, tokens: new, since_start: self.start.elapsed() }).is_ok()
    }
}

impl Task for Answering {
    type Output = Generation;

    fn step(&mut self, decoder: &mut Decoder) -> Result<ControlFlow<Generation>, RunError> {
        let mut state = std::mem::replace(&mut self.state, State::Done);
        if let State::Unread { past, prompt, generating, expected } = state {
            state = State::Reading { sequence: decoder.begin(past, expected)?, prompt, generating };
        }
        let (sequence, outputs, mut generating) = match state {
            State::Reading { mut sequence, mut prompt, generating } => {
                let Some(outputs) = decoder.read(&mut sequence, &mut prompt, Want::LOGITS)? else {
                    self.state = State::Reading { sequence, prompt, generating };
                    return Ok(ControlFlow::Continue(()));
                };
                (sequence, outputs, generating)
            }
            State::Answering { mut sequence, token, mut generating } => {
                let outputs = decoder.run(&mut sequence, Input::Tokens(&[token]), Want::LOGITS)?;
                generating.ran_for(outputs.run_time);
                (sequence, outputs, generating)
            }
            // A task that has given its answer is not asked again.
            State::Unread { .. } | State::Done => return Err(RunError::Stopped),
        };
        let (text, next) = generating.advance(&outputs.logits()?, Instant::now())?;
        let heard = self.send(text, generating.answer_tokens());
        Ok(match next {
            Next::Run(token) if heard => {
                self.state = State::Answering { sequence, token, generating };
                ControlFlow::Continue(())
            }
            Next::Run(_) | Next::Done(_) => ControlFlow::Break(generating.into_generation()),
        })
    }
}
