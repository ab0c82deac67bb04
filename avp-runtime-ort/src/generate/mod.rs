//! Generating: a prompt read behind a context, then text, token by token.

mod generation;
mod machine;
mod options;
mod penalties;
mod sampler;
mod stop;
mod stream;

use std::ops::ControlFlow;

pub use generation::{Finish, Generation};
pub use options::GenerateOptions;
pub use stream::GenerationStream;

use self::stream::Answering;
use crate::{Context, Model, Pending, Prompt, RunError, engine::Deadline};

impl Model {
    /// Reads `prompt` behind `context` and generates text until the model ends its turn; waits for a place in the model's
    /// queue.
    ///
    /// # Errors
    /// When the prompt is empty, does not fit the window with the context, an option is out of range, the context is another
    /// model's, or the time is up.
    pub fn generate(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &GenerateOptions,
    ) -> Result<Generation, RunError> {
        let deadline = Deadline::new(options.timeout);
        self.generate_until(deadline, &prompt.into(), context, options)
    }

    /// As [`generate`](Self::generate), by `deadline`, whatever `options` say.
    pub(crate) fn generate_until(
        &self,
        deadline: Option<Deadline>,
        prompt: &Prompt,
        context: Option<&Context>,
        options: &GenerateOptions,
    ) -> Result<Generation, RunError> {
        self.run(Answering::new(self, prompt, context, options, None)?, deadline)
    }

    /// As [`generate`](Self::generate), calling `on_text` with each piece of text as soon as it is certain: a character
    /// that is spread over tokens comes whole, and what may be the beginning of a text to stop at waits. The pieces
    /// together are the text. `ControlFlow::Break` ends the generation.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_streaming(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &GenerateOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, RunError> {
        let mut stream = self.generate_stream(prompt, context, options)?;
        for piece in &mut stream {
            if on_text(&piece?).is_break() {
                break;
            }
        }
        Ok(stream.into_generation())
    }

    /// As [`generate`](Self::generate), as an iterator over the pieces of text; returns as soon as it has a place in the
    /// model's queue.
    ///
    /// ```
    /// # use avp_runtime_ort::{Error, GenerateOptions, LoadOptions, Model, Runtime};
    /// # let model = Model::load(&Runtime::find()?, "../models/facts", &LoadOptions::default())?;
    /// let mut stream = model.generate_stream("Rosa lives in Lisbon.", None, &GenerateOptions::default())?;
    /// let text = stream.by_ref().collect::<Result<String, _>>()?;
    /// assert_eq!(text, stream.into_generation().text);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`generate`](Self::generate). What fails only while the model runs comes from the iterator.
    pub fn generate_stream(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &GenerateOptions,
    ) -> Result<GenerationStream, RunError> {
        GenerationStream::start(self, &prompt.into(), context, options)
    }

    /// As [`generate`](Self::generate), without waiting: the answer is awaited, waited for, or cancelled.
    ///
    /// Every error is in the answer, [`RunError::Busy`] too: the model's queue was full.
    pub fn start_generate(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &GenerateOptions,
    ) -> Pending<Generation> {
        let deadline = Deadline::new(options.timeout);
        match Answering::new(self, &prompt.into(), context, options, None) {
            Ok(answering) => self.start(answering, deadline),
            Err(error) => Pending::refused(error),
        }
    }
}
