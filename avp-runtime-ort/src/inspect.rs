//! Weights, vocabulary and hidden states of a loaded model, for tools that learn from it.

use std::{collections::HashMap, path::Path, sync::Arc};

use crate::{
    Context, Model, ModelError, Prompt, RunError, ThinkOptions,
    context::Before,
    decoder::{Decoder, Input, Sequence, Want},
    onnx::Table,
    prepare::read_tables,
    step_watch::StepState,
    think::norm,
    tokens::Tokens,
};

const HIDDEN: Want = Want { logits: false, hidden: true, next_latent: None };

/// A view of a loaded model, made by [`Model::inspect`].
#[derive(Debug, Clone, Copy)]
pub struct Inspector<'m>(pub(crate) &'m Model);

/// The tables of a model whose rows are tokens, `[vocab_size, hidden_size]`. Tied ones share their memory.
#[derive(Debug, Clone)]
pub struct TokenTables {
    /// Input embeddings.
    pub embedding: TokenTable,
    /// The language-model head.
    pub head: TokenTable,
}

/// A table as the export stores it, quantized or not; cheap to clone.
#[derive(Clone)]
pub struct TokenTable(Arc<Table>);

impl TokenTable {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.0.rows
    }

    /// Values in a row.
    pub fn cols(&self) -> usize {
        self.0.cols
    }

    /// Reads a row as float32.
    ///
    /// # Panics
    /// When `row` is out of range, or `into` is not [`cols`](Self::cols) long.
    pub fn read_row(&self, row: usize, into: &mut [f32]) {
        self.0.read_row(row, into);
    }
}

impl std::fmt::Debug for TokenTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "TokenTable[{}, {}]", self.rows(), self.cols())
    }
}

impl Inspector<'_> {
    /// Token ids by their text, added tokens included.
    pub fn vocabulary(&self) -> HashMap<String, u32> {
        self.0.facts().tokens.vocabulary()
    }

    /// The ids of a plain text, with the special tokens that the tokenizer puts around it.
    ///
    /// # Errors
    /// When the tokenizer cannot read the text.
    pub fn encode_with_special_tokens(&self, text: &str) -> Result<Vec<u32>, RunError> {
        self.0.facts().tokens.encode_with_special_tokens(text)
    }

    /// Reads the embedding and the head from the export.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tables(&self) -> Result<TokenTables, ModelError> {
        let tables = read_tables(&self.0.facts().graph_path)?;
        Ok(TokenTables { embedding: TokenTable(tables.embedding), head: TokenTable(tables.head) })
    }

    /// The hidden state behind `tokens` after the final norm, `[hidden_dim]`.
    ///
    /// # Errors
    /// When `tokens` is empty or longer than the window, or ONNX Runtime fails.
    pub fn last_hidden_state(&self, tokens: &[u32]) -> Result<Vec<f32>, RunError> {
        let tokens = tokens.to_vec();
        self.with_new_sequence(tokens.len(), move |decoder, sequence| {
            decoder.run(sequence, Input::Tokens(&tokens), HIDDEN)?.last_hidden()
        })
    }

    /// The hidden state of every position after the final norm. Other calls wait until all are computed.
    ///
    /// # Errors
    /// As [`last_hidden_state`](Self::last_hidden_state).
    pub fn hidden_states(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, RunError> {
        let tokens = tokens.to_vec();
        // Token by token: some exports keep the last position's hidden state only.
        self.with_new_sequence(tokens.len(), move |decoder, sequence| {
            let mut next = |token: &u32| {
                decoder.run(sequence, Input::Tokens(std::slice::from_ref(token)), HIDDEN)?.last_hidden()
            };
            tokens.iter().map(&mut next).collect()
        })
    }

    /// The logits behind `vector` in the place of a first token, and behind it and each further token but the last: the
    /// predictions of each of `tokens`.
    ///
    /// # Errors
    /// When `vector` is not `hidden_dim` long, `tokens` is empty or longer than the window, or ONNX Runtime fails.
    pub fn logits_behind(&self, vector: &[f32], tokens: &[u32]) -> Result<Vec<Vec<f32>>, RunError> {
        self.check_width(vector)?;
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

    /// How surprising each of `tokens` but the first is behind `context` and those before it, in nats: the negative logarithm of its
    /// probability. Other calls wait until all are computed.
    ///
    /// # Errors
    /// When the context does not fit the model, the window is too short, or ONNX Runtime fails.
    pub fn surprise(&self, context: &Context, tokens: &[u32]) -> Result<Vec<f32>, RunError> {
        let past = self.0.facts().past(Before::all(Some(context)), tokens.len(), 0)?;
        let tokens = tokens.to_vec();
        self.0.with_decoder(move |decoder| {
            let mut sequence = decoder.begin(past, tokens.len())?;
            let mut after = |pair: &[u32]| {
                let logits = decoder.run(&mut sequence, Input::Tokens(&pair[..1]), Want::LOGITS)?;
                let logits = logits.logits()?;
                let largest = logits.iter().copied().fold(f32::MIN, f32::max);
                let total: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
                let logit = logits.get(pair[1] as usize).copied().unwrap_or(f32::NEG_INFINITY);
                Ok((total.ln() - f64::from(logit - largest)) as f32)
            };
            tokens.windows(2).map(&mut after).collect()
        })
    }

    /// The state behind each of `tokens` from an empty context.
    ///
    /// # Errors
    /// As [`last_hidden_state`](Self::last_hidden_state).
    pub fn states(&self, tokens: &[u32]) -> Result<Vec<StepState>, RunError> {
        let tokens = tokens.to_vec();
        self.with_new_sequence(tokens.len(), move |decoder, sequence| {
            let want = Want { logits: true, ..HIDDEN };
            let mut next = |token: &u32| {
                let outputs = decoder.run(sequence, Input::Tokens(std::slice::from_ref(token)), want)?;
                Ok(StepState::new(norm(&outputs.last_hidden()?), &outputs.logits()?))
            };
            tokens.iter().map(&mut next).collect()
        })
    }

    /// A context of `vector` alone, `[hidden_dim]`, in the place of a first token; `num_steps` is the number of latent steps
    /// that led to it.
    ///
    /// # Errors
    /// When the vector has another length, or the hidden state behind it is not finite.
    pub fn context_of(&self, vector: &[f32], num_steps: usize) -> Result<Context, RunError> {
        self.check_width(vector)?;
        let model = self.0;
        let read = model.think(Prompt::Vectors(vector.to_vec()), None, &ThinkOptions::steps(0))?;
        let hidden = read.last_hidden_state.to_vec();
        let cache = read.into_context()?.cache_in(model.cache_layout().dtype)?;
        Ok(Context::new(cache, model.facts().identity.clone(), num_steps, hidden))
    }

    fn check_width(&self, vector: &[f32]) -> Result<(), RunError> {
        let hidden_dim = self.0.identity().hidden_dim as usize;
        if vector.len() == hidden_dim {
            return Ok(());
        }
        Err(RunError::Vectors { hidden_dim, got: vector.len() })
    }

    /// Runs `expected` tokens behind an empty cache: other calls of the model wait until all of them are done.
    ///
    /// # Errors
    /// When there are no tokens, they do not fit the window, or `work` fails.
    fn with_new_sequence<T: Send + 'static>(
        &self,
        expected: usize,
        work: impl FnOnce(&mut Decoder, &mut Sequence) -> Result<T, RunError> + Send + 'static,
    ) -> Result<T, RunError> {
        let past = self.0.facts().past(Before::default(), expected, 0)?;
        self.0.with_decoder(move |decoder| {
            let mut sequence = decoder.begin(past, expected)?;
            work(decoder, &mut sequence)
        })
    }
}

/// The vocabulary of a model folder, added tokens included, without loading the model: ids by the token's text.
///
/// # Errors
/// When its `tokenizer.json` is missing or is not a tokenizer.
pub fn read_vocabulary(folder: impl AsRef<Path>) -> Result<HashMap<String, u32>, ModelError> {
    Ok(Tokens::load(folder.as_ref())?.vocabulary())
}
