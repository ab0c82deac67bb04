//! `GenerationStream`: an answer as an iterator of text, a future or a blocking wait.

use std::{future::IntoFuture, iter::FusedIterator, sync::mpsc::Receiver};

use super::{Generation, answering::Piece, machine::Usage};
use crate::{Canceller, Pending, PendingFuture, RunError};

/// A pending answer of [`Model::start_generate`](crate::Model::start_generate): iterate over its pieces of text,
/// [`wait`](Self::wait) for all of it, or `.await` it in any async runtime.
///
/// The pieces together are the text. No piece is empty or ends inside a character. The model continues while a piece is
/// processed. To stop it, drop the stream, or call [`into_generation`](Self::into_generation).
///
/// ```
/// use avp_runtime_ort::{Error, GenerateOptions, LoadOptions, Model, Runtime};
///
/// let model = Model::load(&Runtime::find()?, "../models/facts", &LoadOptions::default())?;
/// let mut stream = model.start_generate("Rosa lives in Lisbon.", None, &GenerateOptions::default())?;
/// let text = stream.by_ref().collect::<Result<String, _>>()?;
/// assert_eq!(text, stream.into_generation().text);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it stops the generation"]
pub struct GenerationStream {
    pieces: Receiver<Piece>,
    canceller: Canceller,
    /// The rest of the answer; `None` once it has come or failed.
    pending: Option<Pending<Generation>>,
    /// The answer as far as it was read.
    read: Generation,
    /// The error that ended it.
    error: Option<RunError>,
}

impl GenerationStream {
    pub(crate) fn new(pieces: Receiver<Piece>, pending: Pending<Generation>, usage: Usage) -> Self {
        let read = Generation::begun(usage);
        Self { pieces, canceller: pending.canceller(), pending: Some(pending), read, error: None }
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// As [`Model::generate`](crate::Model::generate), also if the iterator has returned the error before.
    pub fn wait(self) -> Result<Generation, RunError> {
        self.into_pending().wait()
    }

    fn into_pending(self) -> Pending<Generation> {
        let Self { pending, read, error, .. } = self;
        pending.unwrap_or_else(|| Pending::ready(error.map_or(Ok(read), Err)))
    }

    /// The answer as far as it was read: all of it when the iterator has ended, else with
    /// [`Finish::Stopped`](super::Finish::Stopped). Stops the model.
    pub fn into_generation(self) -> Generation {
        self.read
    }

    /// The answer as far as it was read, with the number of tokens of the prompt from the start.
    pub fn so_far(&self) -> &Generation {
        &self.read
    }

    /// A handle that stops the model from another thread, in the middle of a long prompt too: the iterator then ends with
    /// [`RunError::Cancelled`].
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
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
        // The sender is dropped when the answer is complete or the call was stopped.
        match self.pending.take()?.wait() {
            Ok(generation) => {
                self.read = generation;
                None
            }
            Err(error) => {
                self.error = Some(error.clone());
                Some(Err(error))
            }
        }
    }
}

impl FusedIterator for GenerationStream {}

impl IntoFuture for GenerationStream {
    type Output = Result<Generation, RunError>;
    type IntoFuture = PendingFuture<Generation>;

    fn into_future(self) -> PendingFuture<Generation> {
        self.into_pending().into_future()
    }
}

impl std::fmt::Debug for GenerationStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("GenerationStream")
            .field("done", &self.pending.is_none())
            .finish_non_exhaustive()
    }
}
