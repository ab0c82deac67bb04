//! A model folder as the language model of the encoder.

use std::sync::{Arc, Mutex, PoisonError};

use aacp::learn::{Completion, Model as LanguageModel, ModelError, Prompt};
use anyhow::Result;
use avp_runtime_ort::{GenerateOptions, LoadOptions, Message, Model, RunError};

use crate::model::{find_library, load_runtime};

/// A model in this process, with greedy decoding: the same instruction gives the same packet.
pub(crate) struct OnnxModel {
    model: Model,
    last_error: LastError,
}

/// The error of the last run; the encoder's own error has no cause.
#[derive(Clone, Default)]
pub(crate) struct LastError(Arc<Mutex<Option<RunError>>>);

impl OnnxModel {
    /// Loads the model in `folder`.
    ///
    /// # Errors
    /// When ONNX Runtime or the folder cannot be used.
    pub(crate) fn load(folder: &str) -> Result<Self> {
        let runtime = load_runtime(&find_library(None)?)?;
        let model = Model::load(&runtime, folder, &LoadOptions::default())?;
        Ok(Self { model, last_error: LastError::default() })
    }

    pub(crate) fn last_error(&self) -> LastError {
        self.last_error.clone()
    }
}

impl LastError {
    /// The error of the last run, if it failed.
    pub(crate) fn take(&self) -> Option<RunError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl LanguageModel for OnnxModel {
    fn complete(&self, prompt: &Prompt) -> Result<Completion, ModelError> {
        let messages =
            vec![Message::new("system", prompt.system.as_str()), Message::new("user", prompt.user.as_str())];
        let options =
            GenerateOptions { max_tokens: prompt.max_tokens as usize, ..GenerateOptions::default() };
        match self.model.generate(messages, None, &options) {
            Ok(generation) => Ok(Completion {
                tokens_in: generation.prompt_tokens as u64,
                tokens_out: generation.tokens.len() as u64,
                text: generation.text,
            }),
            Err(error) => {
                *self.last_error.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(ModelError::Failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn load(folder: &str) -> OnnxModel {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        OnnxModel::load(&folder.display().to_string()).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn prompt(user: &str) -> Prompt {
        Prompt { system: "You answer from the notes.".into(), user: user.into(), max_tokens: 24 }
    }

    #[test]
    fn the_model_reads_system_and_user_and_counts_its_tokens() {
        let completion = load("models/facts")
            .complete(&prompt("Notes: Rosa lives in Lisbon. Rosa has a parrot. Where does Rosa live?"))
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(!completion.text.is_empty());
        assert!(completion.tokens_in > 20 && (1..=24).contains(&completion.tokens_out), "{completion:?}");
    }

    #[test]
    fn the_error_of_a_failed_run_is_returned_once() {
        let model = load("test-vectors/parity/tiny-qwen2");
        let last_error = model.last_error();
        let refused = model.complete(&prompt(&"word ".repeat(600)));
        assert_eq!(refused, Err(ModelError::Failed));
        assert!(matches!(last_error.take(), Some(RunError::PromptTooLong { window: 512, .. })));
        assert!(last_error.take().is_none());
    }
}
