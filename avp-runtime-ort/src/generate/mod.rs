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

use crate::{Context, Model, Prompt, RunError};

impl Model {
    /// Reads `prompt` behind `context` and generates text until the model ends its turn.
    ///
    /// # Errors
    /// When the prompt is empty, does not fit the window with the context, an option is out of range, or the context is
    /// another model's.
    pub fn generate(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &GenerateOptions,
    ) -> Result<Generation, RunError> {
        self.generate_streaming(prompt, context, options, |_| ControlFlow::Continue(()))
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

    /// As [`generate`](Self::generate), as an iterator over the pieces of text; the model runs while it is iterated.
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
    /// As [`generate`](Self::generate), except for what fails only while it runs: that comes from the iterator.
    pub fn generate_stream(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &GenerateOptions,
    ) -> Result<GenerationStream<'_>, RunError> {
        GenerationStream::new(self, &prompt.into(), context, options)
    }
}
