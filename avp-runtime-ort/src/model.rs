//! A model folder, loaded: it thinks, and it generates.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use avp_core::{OwnedModelIdentity, Rule};

use crate::{
    CacheLayout, Context, ContextError, ModelError, Prompt, RunError, Runtime,
    chat::ChatTemplate,
    config::{self, GenerationConfig, ModelConfig},
    context::{Before, Fingerprint},
    decoder::{Decoder, Device},
    engine::{Deadline, Engine, Pending, Task},
    folder::{self, Dtype, parse_json},
    identity,
    kv::{KvCache, Past},
    prepare::{Cache, prepare_cached},
    tokens::Tokens,
};

/// A decoder with its tokenizer and chat template.
///
/// A handle: clones are cheap and stand for the same model, and any thread may use one. The model has a thread of its own,
/// which takes the calls in flight by turns, token by token. Dropping the last handle waits for the calls it has accepted.
#[derive(Clone)]
pub struct Model(Arc<Loaded>);

struct Loaded {
    engine: Engine,
    tokens: Tokens,
    template: Option<ChatTemplate>,
    identity: Arc<OwnedModelIdentity>,
    fingerprint: Arc<Fingerprint>,
    end_of_turn: Vec<u32>,
    layout: CacheLayout,
    tied: bool,
    window: usize,
    graph_path: PathBuf,
}

/// How to load a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads of one run, at most one for each core; 0 leaves it to ONNX Runtime, which takes the physical cores.
    pub threads: usize,
    /// Which form of the model to load, where the folder holds several; `None` loads `model.onnx`.
    pub dtype: Option<Dtype>,
    /// Where the model computes.
    pub device: Device,
    /// Whether threads without work wait for it awake, as they do by default. Awake they start sooner, which tells in small
    /// models; turn it off where several models share the cores.
    pub spinning: bool,
    /// Calls that may wait for their turn; 64 by default, at least 1. Past it, blocking calls wait for a place and calls
    /// that are started get [`RunError::Busy`].
    pub queue: usize,
    /// Calls that take turns at most; 8 by default, at least 1. Each holds its KV-cache in memory.
    pub in_flight: usize,
    /// Has ONNX Runtime write down what each operator of each run took, in Chrome's trace format, to a file that begins with
    /// this path and ends in the time and `.json`. It is whole once the last handle of the model is dropped. Writing it
    /// takes time too, and ONNX Runtime ends it after a million events, some hundred steps of a large model.
    pub profile: Option<PathBuf>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            dtype: None,
            device: Device::Cpu,
            spinning: true,
            queue: 64,
            in_flight: 8,
            profile: None,
        }
    }
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
        let fingerprint = Fingerprint::new(prepared.weights_hash.clone(), &config_path, &config_text)?
            .or_rotary(&prepared.report.rotary);
        let decoder = Decoder::new(runtime, &prepared, options)?;
        let engine = Engine::new(decoder, options.queue, options.in_flight)
            .map_err(|error| ModelError::Runtime { message: format!("no thread to run it: {error}") })?;
        Ok(Self(Arc::new(Loaded {
            engine,
            tokens,
            template,
            identity: Arc::new(identity),
            fingerprint: Arc::new(fingerprint),
            window: config.max_position_embeddings,
            end_of_turn: generation.end_of_turn(config),
            layout: prepared.report.cache,
            tied: prepared.report.tied,
            graph_path: graph,
        })))
    }

    /// The ids of `prompt` as the model reads it: rendered by the chat template, tokenized without further special tokens.
    ///
    /// # Errors
    /// When the template refuses the messages or the tokenizer the text.
    pub fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, RunError> {
        self.0.tokens.encode(&prompt.text(self.0.template.as_ref())?)
    }

    /// The handshake rule by which `context` fits this model: [`Rule::HashMatch`], or [`Rule::StructuralMatch`] where
    /// hashes differ and family, hidden_dim, num_layers and KV shape are equal. So it is with frames of the Python
    /// package, which hashes a config of its own making.
    ///
    /// # Errors
    /// When it does not fit; the first field that differs is named.
    pub fn accepts(&self, context: &Context) -> Result<Rule, ContextError> {
        context.fits(&self.0.identity, &self.0.layout, &self.0.fingerprint)
    }

    /// Who this model is, for handshakes.
    pub fn identity(&self) -> &OwnedModelIdentity {
        &self.0.identity
    }

    /// Shape and type of the model's KV-cache.
    pub fn cache_layout(&self) -> CacheLayout {
        self.0.layout
    }

    /// Whether its head is its embedding transposed, so that a latent step is a softmax over tokens.
    pub(crate) fn is_tied(&self) -> bool {
        self.0.tied
    }

    /// Tokens the model can attend to.
    pub fn window(&self) -> usize {
        self.0.window
    }

    /// The export, which carries the weights.
    pub(crate) fn graph_path(&self) -> &Path {
        &self.0.graph_path
    }

    /// Its text to token ids and back.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// Tokens that end a turn.
    pub(crate) fn end_of_turn(&self) -> &[u32] {
        &self.0.end_of_turn
    }

    /// The identity as contexts share it.
    pub(crate) fn shared_identity(&self) -> Arc<OwnedModelIdentity> {
        self.0.identity.clone()
    }

    /// Its weights and rotary settings as contexts remember them.
    pub(crate) fn fingerprint(&self) -> Arc<Fingerprint> {
        self.0.fingerprint.clone()
    }

    /// What to start from, once it is clear that everything fits the window: `before`, then `prompt` tokens and `steps`.
    pub(crate) fn past(&self, before: Before<'_>, prompt: usize, steps: usize) -> Result<Past, RunError> {
        let window = self.window();
        if prompt == 0 {
            return Err(RunError::EmptyPrompt);
        }
        if prompt > window {
            return Err(RunError::PromptTooLong { tokens: prompt, window });
        }
        let seq_len = before.seq_len();
        if seq_len.saturating_add(prompt).saturating_add(steps) > window {
            return Err(RunError::ContextTooLong { context: seq_len, prompt, steps, window });
        }
        match before.context() {
            None => Ok(Arc::new(KvCache::empty(self.0.layout)?).into()),
            Some(context) => {
                self.accepts(context)?;
                Ok(Past::new(context.cache_in(self.0.layout.dtype)?, seq_len))
            }
        }
    }

    /// Does `task` on the model's thread and gives its answer, by `deadline`; waits for a place in the queue.
    ///
    /// # Errors
    /// The task's own; [`RunError::TimedOut`], [`RunError::Panicked`] or [`RunError::Stopped`].
    pub(crate) fn run<T: Task>(&self, task: T, deadline: Option<Deadline>) -> Result<T::Output, RunError> {
        self.0.engine.run(task, deadline)
    }

    /// Hands `task` to the model's thread, after waiting for a place in its queue.
    ///
    /// # Errors
    /// [`RunError::TimedOut`].
    pub(crate) fn start_when_free<T: Task>(
        &self,
        task: T,
        deadline: Option<Deadline>,
    ) -> Result<Pending<T::Output>, RunError> {
        self.0.engine.start_when_free(task, deadline)
    }

    /// Hands `task` to the model's thread. What keeps it from being taken, [`RunError::Busy`] too, is the answer.
    pub(crate) fn start<T: Task>(&self, task: T, deadline: Option<Deadline>) -> Pending<T::Output> {
        self.0.engine.start(task, deadline)
    }

    /// Does `work` in one step of the model's thread: for tests of the decoder.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn with_decoder<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Decoder) -> Result<T, RunError> + Send + 'static,
    ) -> Result<T, RunError> {
        self.run(Once(Some(work)), None)
    }
}

/// A task of one step.
struct Once<F>(Option<F>);

impl<T, F> Task for Once<F>
where
    T: Send + 'static,
    F: FnOnce(&mut Decoder) -> Result<T, RunError> + Send + 'static,
{
    type Output = T;

    fn step(&mut self, decoder: &mut Decoder) -> Result<ControlFlow<T>, RunError> {
        // A task that has given its answer is not asked again.
        let work = self.0.take().ok_or(RunError::Stopped)?;
        work(decoder).map(ControlFlow::Break)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Model").field("identity", &self.0.identity).finish_non_exhaustive()
    }
}
