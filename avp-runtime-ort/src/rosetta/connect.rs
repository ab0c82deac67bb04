//! What calibrating, validating and handing over ask of a loaded [`Model`]: the one file here that knows how it runs.

use std::cell::OnceCell;

use avp_core::OwnedModelIdentity;

use super::{
    RosettaError, Rows, Vocabulary,
    calibrate::{MAX_TEXT_TOKENS, Side},
};
use crate::{
    Context, Model, RunError,
    decoder::{Input, Step, Want, last_row, to_f32},
    kv::KvCache,
    prepare::{Tables, TokenRows, read_tables},
};

/// A loaded model with its embedding and its head, which are read from its file when they are first asked for.
pub(super) struct LoadedSide<'m> {
    model: &'m Model,
    tables: OnceCell<Tables>,
}

impl<'m> LoadedSide<'m> {
    pub(super) fn new(model: &'m Model) -> Self {
        Self { model, tables: OnceCell::new() }
    }

    pub(super) fn model(&self) -> &'m Model {
        self.model
    }

    fn tables(&self) -> Result<&Tables, RosettaError> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables);
        }
        let tables = read_tables(self.model.graph_path())?;
        Ok(self.tables.get_or_init(|| tables))
    }
}

impl Side for LoadedSide<'_> {
    fn identity(&self) -> &OwnedModelIdentity {
        self.model.identity()
    }

    fn vocabulary(&self) -> Vocabulary {
        self.model.tokens().vocabulary()
    }

    fn embedding(&self) -> Result<&dyn Rows, RosettaError> {
        Ok(&self.tables()?.embedding)
    }

    fn head(&self) -> Result<&dyn Rows, RosettaError> {
        Ok(&self.tables()?.head)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, RosettaError> {
        let mut ids = self.model.tokens().encode_with_special_tokens(text)?;
        ids.truncate(MAX_TEXT_TOKENS);
        if ids.is_empty() { Err(RunError::EmptyPrompt.into()) } else { Ok(ids) }
    }

    fn last_hidden_state(&self, tokens: &[u32]) -> Result<Vec<f32>, RosettaError> {
        let step = self.model.step(Input::Tokens(tokens), &self.model.no_past()?, Want::Hidden)?;
        Ok(last_row(&step.output, self.model.identity().hidden_dim as usize)?)
    }

    fn hidden_states(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, RosettaError> {
        let mut cache = self.model.no_past()?;
        // Token by token: some exports keep the last position's hidden state only.
        let mut next = |&token: &u32| {
            let step = self.model.step(Input::Tokens(&[token]), &cache, Want::Hidden)?;
            cache = step.cache;
            Ok(to_f32(&step.output)?.into_owned())
        };
        tokens.iter().map(&mut next).collect()
    }

    fn logits_behind(&self, vector: &[f32], tokens: &[u32]) -> Result<Vec<Vec<f32>>, RosettaError> {
        let latent = self.model.decoder().latent(vector)?;
        let mut step = self.model.step(Input::Latent(&latent), &self.model.no_past()?, Want::Logits)?;
        let mut logits = vec![to_f32(&step.output)?.into_owned()];
        for &token in tokens.split_last().map_or(tokens, |(_, before)| before) {
            step = self.model.step(Input::Tokens(&[token]), &step.cache, Want::Logits)?;
            logits.push(to_f32(&step.output)?.into_owned());
        }
        Ok(logits)
    }
}

impl Model {
    /// A context that holds `vector` alone, `[hidden size]`, where a first token would stand; `num_steps` says how many
    /// latent steps were taken on the way to it.
    ///
    /// # Errors
    /// When the vector has another length, or the model makes no finite numbers of it.
    pub(super) fn read_vector(&self, vector: &[f32], num_steps: usize) -> Result<Context, RunError> {
        let latent = self.decoder().latent(vector)?;
        let step = self.step(Input::Latent(&latent), &self.no_past()?, Want::Hidden)?;
        let hidden = last_row(&step.output, self.identity().hidden_dim as usize)?;
        if !hidden.iter().all(|value| value.is_finite()) {
            return Err(RunError::NotFinite { step: 0 });
        }
        Ok(Context::new(step.cache, self.shared_identity(), num_steps, hidden))
    }

    fn step(&self, input: Input<'_>, past: &KvCache, want: Want) -> Result<Step, RunError> {
        self.decoder().run(input, past, want)
    }

    fn no_past(&self) -> Result<KvCache, RunError> {
        Ok(KvCache::empty(self.cache_layout())?)
    }
}

impl Rows for TokenRows {
    fn count(&self) -> usize {
        if self.transposed { self.matrix.cols } else { self.matrix.rows }
    }

    fn width(&self) -> usize {
        if self.transposed { self.matrix.rows } else { self.matrix.cols }
    }

    fn read(&self, row: usize, into: &mut [f32]) {
        assert_eq!(into.len(), self.width(), "the row's width");
        if self.transposed {
            into.iter_mut().enumerate().for_each(|(col, value)| *value = self.matrix.at(col, row));
        } else {
            into.iter_mut().zip(self.matrix.row(row)).for_each(|(to, from)| *to = from);
        }
    }

    /// A transposed matrix is read the way it lies, not down its columns.
    fn products(&self, vector: &[f32], count: usize) -> Vec<f32> {
        assert_eq!(vector.len(), self.width(), "the vector's length");
        if self.transposed {
            let mut sums = vec![0.; count];
            for (row, &factor) in vector.iter().enumerate() {
                sums.iter_mut().zip(self.matrix.row(row)).for_each(|(sum, value)| *sum += factor * value);
            }
            sums
        } else {
            let product = |row| self.matrix.row(row).zip(vector).map(|(a, b)| a * b).sum();
            (0..count).map(product).collect()
        }
    }
}
