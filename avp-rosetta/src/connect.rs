//! `LoadedSide`: a loaded [`Model`] as calibration, validation and transfers use it.

use std::sync::OnceLock;

use avp_core::OwnedModelIdentity;
use avp_runtime_ort::{Context, Model, RunError, TokenTable, TokenTables};

use super::{
    RosettaError, Rows, Vocabulary,
    calibrate::{MAX_TEXT_TOKENS, Side},
};

/// A loaded model with its embedding and head, read from its file on first use.
pub(super) struct LoadedSide {
    model: Model,
    tables: OnceLock<TokenTables>,
}

impl LoadedSide {
    pub(super) fn new(model: &Model) -> Self {
        Self { model: model.clone(), tables: OnceLock::new() }
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// A context of `vector` alone, `[hidden size]`, in place of a first token; `num_steps` is the number of latent steps
    /// that led to it.
    ///
    /// # Errors
    /// When the vector has another length, or the hidden state behind it is not finite.
    pub(super) fn read_vector(&self, vector: &[f32], num_steps: usize) -> Result<Context, RunError> {
        self.model.inspect().context_of(vector, num_steps)
    }

    fn tables(&self) -> Result<&TokenTables, RosettaError> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables);
        }
        let tables = self.model.inspect().tables()?;
        Ok(self.tables.get_or_init(|| tables))
    }
}

impl std::fmt::Debug for LoadedSide {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.model.fmt(formatter)
    }
}

impl Side for LoadedSide {
    fn identity(&self) -> &OwnedModelIdentity {
        self.model.identity()
    }

    fn vocabulary(&self) -> Vocabulary {
        self.model.inspect().vocabulary()
    }

    fn embedding(&self) -> Result<&dyn Rows, RosettaError> {
        Ok(&self.tables()?.embedding)
    }

    fn head(&self) -> Result<&dyn Rows, RosettaError> {
        Ok(&self.tables()?.head)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, RosettaError> {
        let mut ids = self.model.inspect().encode_with_special_tokens(text)?;
        ids.truncate(MAX_TEXT_TOKENS.min(self.model.window()));
        if ids.is_empty() { Err(RunError::EmptyPrompt.into()) } else { Ok(ids) }
    }

    fn last_hidden_state(&self, tokens: &[u32]) -> Result<Vec<f32>, RosettaError> {
        Ok(self.model.inspect().last_hidden_state(tokens)?)
    }

    fn hidden_states(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, RosettaError> {
        Ok(self.model.inspect().hidden_states(tokens)?)
    }

    fn logits_behind(&self, vector: &[f32], tokens: &[u32]) -> Result<Vec<Vec<f32>>, RosettaError> {
        Ok(self.model.inspect().logits_behind(vector, tokens)?)
    }
}

impl Rows for TokenTable {
    fn count(&self) -> usize {
        self.rows()
    }

    fn width(&self) -> usize {
        self.cols()
    }

    fn read(&self, row: usize, into: &mut [f32]) {
        self.read_row(row, into);
    }
}
