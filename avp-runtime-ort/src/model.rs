//! A model folder, loaded: it thinks, and it generates.

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use avp_core::{OwnedModelIdentity, Rule};

use crate::{
    CacheLayout, Context, ContextError, Finish, GenerateOptions, Generation, ModelError, Prompt, RunError,
    Runtime,
    chat::{ChatTemplate, render_plain},
    config::{self, GenerationConfig, ModelConfig},
    decoder::{Decoder, Input, Want, last_row, to_f32},
    folder::{self, Dtype, parse_json},
    identity,
    kv::KvCache,
    prepare::{Cache, prepare_cached},
    sample::Sampler,
    tokens::Tokens,
};

/// A decoder with its tokenizer and chat template.
///
/// Threads can share it: their runs take turns, token by token, since `ort` runs a session for one caller at a time.
pub struct Model {
    decoder: Mutex<Decoder>,
    tokens: Tokens,
    template: Option<ChatTemplate>,
    identity: Arc<OwnedModelIdentity>,
    end_of_turn: Vec<u32>,
    layout: CacheLayout,
    window: usize,
}

/// How to load a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads of one run, at most one for each core; 0 leaves it to ONNX Runtime, which takes the physical cores.
    pub threads: usize,
    /// Which form of the model to load, where the folder holds several; `None` loads `model.onnx`.
    pub dtype: Option<Dtype>,
}

impl Model {
    /// Loads a folder with `config.json` (or `genai_config.json`), `tokenizer.json` and `model.onnx`, or another graph by
    /// [`LoadOptions::dtype`]; `generation_config.json`, `tokenizer_config.json` and `chat_template.jinja` are used where
    /// they are there.
    ///
    /// The graph is prepared once and kept under `AVP_CACHE_DIR`, else in the user's cache folder.
    ///
    /// # Errors
    /// When a file is missing or not what it should be, or the graph is no decoder that can be prepared. The error
    /// names the file, field or node.
    pub fn load(
        runtime: &Runtime,
        folder: impl AsRef<Path>,
        options: &LoadOptions,
    ) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let (config_path, config_text) = config::read(folder)?;
        let config: ModelConfig = parse_json(&config_path, &config_text)?;
        let generation = GenerationConfig::load(folder)?;
        let tokens = Tokens::load(folder)?;
        let template = ChatTemplate::load(folder)?;
        let identity = identity::identify(&config_path, &config_text, &tokens)?;
        let graph = folder::graph(folder, options.dtype)?;
        let prepared = prepare_cached(&graph, identity::head_dim(&identity), &Cache::from_env())?;
        identity::check(&identity, &prepared.report)?;
        let decoder = Decoder::new(runtime, &prepared, &prepared.external_folder, options.threads)?;
        Ok(Self {
            decoder: Mutex::new(decoder),
            tokens,
            template,
            identity: Arc::new(identity),
            window: config.max_position_embeddings,
            end_of_turn: generation.end_of_turn(config),
            layout: prepared.report.cache,
        })
    }

    /// Reads `prompt` behind `context` and thinks for `steps` latent steps; gives all of it as a new context.
    ///
    /// A latent step feeds the model's expected next embedding back instead of a token. With 0 steps the prompt is only
    /// read. `context` stays as it was and can be used again.
    ///
    /// # Errors
    /// When the prompt is empty, does not fit the window with context and steps, the context is another model's, or the
    /// model's last hidden state holds no finite numbers.
    pub fn think(
        &self,
        prompt: impl Into<Prompt>,
        steps: usize,
        context: Option<&Context>,
    ) -> Result<Context, RunError> {
        let tokens = self.tokenize(&prompt.into())?;
        let past = self.past(context, tokens.len(), steps)?;
        let want = |left| if left == 0 { Want::Hidden } else { Want::NextLatent };
        let mut step = self.decoder().run(Input::Tokens(&tokens), &past, want(steps))?;
        for left in (0..steps).rev() {
            let latent = step.output;
            step = self.decoder().run(Input::Latent(&latent), &step.cache, want(left))?;
        }
        let last_hidden_state = last_row(&step.output, self.identity.hidden_dim as usize)?;
        if !last_hidden_state.iter().all(|value| value.is_finite()) {
            return Err(RunError::NotFinite { step: steps });
        }
        let before = context.map_or(0, Context::num_steps);
        Ok(Context::new(step.cache, self.identity.clone(), before + steps, last_hidden_state))
    }

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
    /// that is spread over tokens comes whole. `ControlFlow::Break` ends the generation.
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
        let start = Instant::now();
        let mut sampler = Sampler::new(options)?;
        if options.max_tokens == 0 {
            return Err(RunError::Option { option: "max_tokens", expected: "at least 1", got: 0.0 });
        }
        let prompt = self.tokenize(&prompt.into())?;
        let past = self.past(context, prompt.len(), 1)?;
        let mut stream = self.tokens.stream();
        let mut streamed = String::new();
        let mut tokens = Vec::new();
        let mut first_token_time = None;

        let mut step = self.decoder().run(Input::Tokens(&prompt), &past, Want::Logits)?;
        let finish = loop {
            let logits = to_f32(&step.output)?;
            let token = sampler.next(&logits).ok_or(RunError::NotFinite { step: tokens.len() })?;
            first_token_time.get_or_insert_with(|| start.elapsed());
            if self.end_of_turn.contains(&token) {
                break Finish::EndOfTurn;
            }
            tokens.push(token);
            if let Some(piece) = stream.push(token) {
                streamed += &piece;
                if on_text(&piece).is_break() {
                    break Finish::Stopped;
                }
            }
            if tokens.len() == options.max_tokens {
                break Finish::MaxTokens;
            }
            if step.cache.seq_len() >= self.window() {
                break Finish::Window;
            }
            step = self.decoder().run(Input::Tokens(&[token]), &step.cache, Want::Logits)?;
        };
        let total_time = start.elapsed();
        let text = self.tokens.decode(&tokens)?;
        // What still waited for the rest of a character will not get it any more.
        if let Some(rest) = text.strip_prefix(&streamed).filter(|rest| !rest.is_empty())
            && finish != Finish::Stopped
        {
            // The generation has ended: there is nothing left to break off.
            let _ended = on_text(rest);
        }
        Ok(Generation {
            text,
            tokens,
            finish,
            prompt_tokens: prompt.len(),
            context_tokens: context.map_or(0, Context::seq_len),
            first_token_time: first_token_time.unwrap_or(total_time),
            total_time,
        })
    }

    /// The ids of `prompt` as the model reads it: rendered by the chat template, tokenized without further special tokens.
    ///
    /// # Errors
    /// When the template refuses the messages or the tokenizer the text.
    pub fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, RunError> {
        let text = match (prompt, &self.template) {
            (Prompt::Raw(text), _) => text.clone(),
            (Prompt::Chat(messages), Some(template)) => template.render(messages)?,
            (Prompt::Chat(messages), None) => render_plain(messages),
        };
        self.tokens.encode(&text)
    }

    /// The handshake rule by which `context` fits this model: [`Rule::HashMatch`], or [`Rule::StructuralMatch`] where
    /// hashes differ and family, hidden_dim, num_layers and KV shape are equal. So it is with frames of the Python
    /// package, which hashes a config of its own making.
    ///
    /// # Errors
    /// When it does not fit; the first field that differs is named.
    pub fn accepts(&self, context: &Context) -> Result<Rule, ContextError> {
        context.fits(&self.identity, &self.layout)
    }

    /// Who this model is, for handshakes.
    pub fn identity(&self) -> &OwnedModelIdentity {
        &self.identity
    }

    /// Shape and type of the model's KV-cache.
    pub fn cache_layout(&self) -> CacheLayout {
        self.layout
    }

    /// Tokens the model can attend to.
    pub fn window(&self) -> usize {
        self.window
    }

    /// The cache to start from, once it is clear that everything fits the window.
    fn past(&self, context: Option<&Context>, prompt: usize, steps: usize) -> Result<Arc<KvCache>, RunError> {
        let window = self.window();
        if prompt == 0 {
            return Err(RunError::EmptyPrompt);
        }
        if prompt > window {
            return Err(RunError::PromptTooLong { tokens: prompt, window });
        }
        let seq_len = context.map_or(0, Context::seq_len);
        if seq_len.saturating_add(prompt).saturating_add(steps) > window {
            return Err(RunError::ContextTooLong { context: seq_len, prompt, steps, window });
        }
        match context {
            None => Ok(Arc::new(KvCache::empty(self.layout)?)),
            Some(context) => {
                self.accepts(context)?;
                Ok(context.cache_in(self.layout.dtype)?)
            }
        }
    }

    /// A run that panicked leaves nothing half-done behind: all state of a run is in the values it gives.
    fn decoder(&self) -> MutexGuard<'_, Decoder> {
        self.decoder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Model").field("identity", &self.identity).finish_non_exhaustive()
    }
}
