//! A model folder, loaded: it thinks, and it generates.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use avp_core::{OwnedModelIdentity, Rule};

use crate::{
    CacheLayout, Context, ContextError, ModelError, Prompt, RunError, Runtime,
    chat::{ChatTemplate, render_plain},
    config::{GenerationConfig, ModelConfig},
    decoder::Decoder,
    folder::{parse_json, read_text},
    identity,
    kv::KvCache,
    prepare::{Cache, prepare_cached},
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
    graph_path: PathBuf,
}

/// How to load a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads of one run, at most one for each core; 0 leaves it to ONNX Runtime, which takes the physical cores.
    pub threads: usize,
}

impl Model {
    /// Loads a folder with `config.json`, `tokenizer.json` and `model.onnx`; `generation_config.json`,
    /// `tokenizer_config.json` and `chat_template.jinja` are used where they are there.
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
        let config_path = folder.join("config.json");
        let config_text = read_text(&config_path)?;
        let config: ModelConfig = parse_json(&config_path, &config_text)?;
        let generation = GenerationConfig::load(folder)?;
        let tokens = Tokens::load(folder)?;
        let template = ChatTemplate::load(folder)?;
        let identity = identity::identify(&config_path, &config_text, &tokens)?;
        let graph_path = folder.join("model.onnx");
        if !graph_path.is_file() {
            return Err(ModelError::MissingFile { path: graph_path });
        }
        let prepared = prepare_cached(&graph_path, &Cache::from_env())?;
        identity::check(&identity, &prepared.report)?;
        let decoder = Decoder::new(runtime, &prepared, folder, options.threads)?;
        Ok(Self {
            decoder: Mutex::new(decoder),
            tokens,
            template,
            identity: Arc::new(identity),
            window: config.max_position_embeddings,
            end_of_turn: generation.end_of_turn(config),
            layout: prepared.report.cache,
            graph_path,
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

    /// The export, which carries the weights.
    pub(crate) fn graph_path(&self) -> &Path {
        &self.graph_path
    }

    /// Its text to token ids and back.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Tokens that end a turn.
    pub(crate) fn end_of_turn(&self) -> &[u32] {
        &self.end_of_turn
    }

    /// The identity as contexts share it.
    pub(crate) fn shared_identity(&self) -> Arc<OwnedModelIdentity> {
        self.identity.clone()
    }

    /// The cache to start from, once it is clear that everything fits the window.
    pub(crate) fn past(
        &self,
        context: Option<&Context>,
        prompt: usize,
        steps: usize,
    ) -> Result<Arc<KvCache>, RunError> {
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
    pub(crate) fn decoder(&self) -> MutexGuard<'_, Decoder> {
        self.decoder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Model").field("identity", &self.identity).finish_non_exhaustive()
    }
}
