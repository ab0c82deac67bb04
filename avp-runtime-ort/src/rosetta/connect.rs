//! What calibrating, validating and handing over ask of a loaded [`Model`]: the one file here that knows how it runs.

use std::sync::{Arc, OnceLock};

use avp_core::OwnedModelIdentity;

use super::{
    RosettaError, Rows, Vocabulary,
    calibrate::{MAX_TEXT_TOKENS, Side},
};
use crate::{
    Context, Model, Prompt, RunError, ThinkOptions,
    decoder::{Decoder, Input, Sequence, Want},
    kv::KvCache,
    onnx,
    prepare::{Tables, read_tables},
};

const HIDDEN: Want = Want { logits: false, hidden: true, next_latent: None };

/// A loaded model with its embedding and its head, which are read from its file when they are first asked for.
pub(super) struct LoadedSide {
    model: Model,
    tables: OnceLock<Tables>,
}

impl LoadedSide {
    pub(super) fn new(model: &Model) -> Self {
        Self { model: model.clone(), tables: OnceLock::new() }
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// A context that holds `vector` alone, `[hidden size]`, where a first token would stand; `num_steps` says how many
    /// latent steps were taken on the way to it.
    ///
    /// # Errors
    /// When the vector has another length, or the model makes no finite numbers of it.
    pub(super) fn read_vector(&self, vector: &[f32], num_steps: usize) -> Result<Context, RunError> {
        let model = &self.model;
        let read = model.think(Prompt::Vectors(vector.to_vec()), None, &ThinkOptions::steps(0))?;
        let hidden = read.last_hidden_state.to_vec();
        let cache = read.into_context()?.cache_in(model.cache_layout().dtype)?;
        Ok(Context::new(cache, model.facts().identity.clone(), num_steps, hidden))
    }

    fn tables(&self) -> Result<&Tables, RosettaError> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables);
        }
        let tables = read_tables(&self.model.facts().graph_path)?;
        Ok(self.tables.get_or_init(|| tables))
    }

    /// Runs of their own, behind nothing: other calls of the model wait until all of them are done.
    fn with_new_sequence<T: Send + 'static>(
        &self,
        expected: usize,
        work: impl FnOnce(&mut Decoder, &mut Sequence) -> Result<T, RunError> + Send + 'static,
    ) -> Result<T, RosettaError> {
        let past = Arc::new(KvCache::empty(self.model.cache_layout()).map_err(RunError::from)?);
        Ok(self.model.with_decoder(move |decoder| {
            let mut sequence = decoder.begin(past, expected)?;
            work(decoder, &mut sequence)
        })?)
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
        self.model.facts().tokens.vocabulary()
    }

    fn embedding(&self) -> Result<&dyn Rows, RosettaError> {
        Ok(&*self.tables()?.embedding)
    }

    fn head(&self) -> Result<&dyn Rows, RosettaError> {
        Ok(&*self.tables()?.head)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, RosettaError> {
        let mut ids = self.model.facts().tokens.encode_with_special_tokens(text)?;
        ids.truncate(MAX_TEXT_TOKENS);
        if ids.is_empty() { Err(RunError::EmptyPrompt.into()) } else { Ok(ids) }
    }

    fn last_hidden_state(&self, tokens: &[u32]) -> Result<Vec<f32>, RosettaError> {
        let tokens = tokens.to_vec();
        self.with_new_sequence(tokens.len(), move |decoder, sequence| {
            decoder.run(sequence, Input::Tokens(&tokens), HIDDEN)?.last_hidden()
        })
    }

    fn hidden_states(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, RosettaError> {
        let tokens = tokens.to_vec();
        // Token by token: some exports keep the last position's hidden state only.
        self.with_new_sequence(tokens.len(), move |decoder, sequence| {
            let mut next = |token: &u32| {
                decoder.run(sequence, Input::Tokens(std::slice::from_ref(token)), HIDDEN)?.last_hidden()
            };
            tokens.iter().map(&mut next).collect()
        })
    }

    fn logits_behind(&self, vector: &[f32], tokens: &[u32]) -> Result<Vec<Vec<f32>>, RosettaError> {
        let (vector, tokens) = (vector.to_vec(), tokens.to_vec());
        self.with_new_sequence(tokens.len(), move |decoder, sequence| {
            let latent = decoder.latents(&vector)?;
            let behind_vector = decoder.run(sequence, Input::Latent(&latent), Want::LOGITS)?;
            let mut logits = vec![behind_vector.logits()?.into_owned()];
            for token in tokens.split_last().map_or(&tokens[..], |(_, before)| before) {
                let input = Input::Tokens(std::slice::from_ref(token));
                logits.push(decoder.run(sequence, input, Want::LOGITS)?.logits()?.into_owned());
            }
            Ok(logits)
        })
    }
}

/// A table as the export stores it, quantized or not.
impl Rows for onnx::Table {
    fn count(&self) -> usize {
        self.rows
    }

    fn width(&self) -> usize {
        self.cols
    }

    fn read(&self, row: usize, into: &mut [f32]) {
        self.read_row(row, into);
    }
}
