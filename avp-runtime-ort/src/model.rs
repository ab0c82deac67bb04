//! A loaded model: everything that can be done with it.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Instant,
};

use avp_core::{OwnedModelIdentity, Rule};

use crate::{
    CacheLayout, Context, ContextError, GenerateOptions, Generation, GenerationStream, Inspector, ModelError,
    Prompt, Rendered, RunError, Runtime, ThinkOptions, Thought,
    chat::ChatTemplate,
    config::{self, GenerationConfig, ModelConfig},
    context::Fingerprint,
    decoder::{Decoder, Device},
    engine::{Deadline, Engine, Pending, Progress, Task},
    facts::Facts,
    folder::{self, Dtype, parse_json},
    generate::Request,
    identity,
    prepare::{Cache, prepare_cached},
    think::Thinking,
    tokens::Tokens,
};

/// A decoder with its tokenizer and chat template.
///
/// `Model` is a handle: clones are cheap and refer to the same model, and any thread may use one. The model has a thread of its
/// own, which serves the calls in flight in turn, token by token. Dropping the last handle waits for the accepted calls.
///
/// ```
/// use avp_runtime_ort::{Error, GenerateOptions, LoadOptions, Model, Runtime, ThinkOptions};
///
/// let model = Model::load(&Runtime::find()?, "../models/facts", &LoadOptions::default())?;
/// let notes = model.think("Notes: Rosa lives in Lisbon.", None, &ThinkOptions::default())?;
/// let answer = model.generate("Where?", notes.context.as_ref(), &GenerateOptions::default())?;
/// assert_eq!(answer.context_tokens, notes.prompt_tokens);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Model(Arc<Loaded>);

struct Loaded {
    engine: Engine,
    facts: Arc<Facts>,
}

/// Options of loading a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads of one run, at most one for each core; 0 leaves it to ONNX Runtime, which takes the physical cores.
    pub threads: usize,
    /// The variant of the model, if the folder has several; `None` loads `model.onnx`.
    pub dtype: Option<Dtype>,
    /// The device of the model.
    pub device: Device,
    /// Whether idle threads spin, which reduces latency for small models. Default: true. Turn it off if several models share the
    /// cores.
    pub spinning: bool,
    /// Calls that may wait for their turn; 64 by default, at least 1. Past it, blocking calls wait for a place and calls
    /// that are started get [`RunError::Busy`].
    pub queue: usize,
    /// Maximum number of calls that take turns; 8 by default, at least 1. Each holds its KV-cache in memory.
    pub in_flight: usize,
    /// Makes ONNX Runtime record the time of each operator of each run, in Chrome's trace format, to a file whose name starts
    /// with this path and ends with the time and `.json`. It is complete after the last handle of the model is dropped. Profiling
    /// takes time too, and ONNX Runtime stops it after a million events, some hundred steps of a large model.
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
    /// When a file is missing or invalid, or the graph is not a supported decoder. The error names the file, field or node.
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
        let facts = Facts {
            tokens,
            template,
            identity: Arc::new(identity),
            fingerprint: Arc::new(fingerprint),
            window: config.max_position_embeddings,
            end_of_turn: generation.end_of_turn(config),
            layout: prepared.report.cache,
            tied: prepared.report.tied,
            graph_path: graph,
        };
        Ok(Self(Arc::new(Loaded { engine, facts: Arc::new(facts) })))
    }

    /// Reads `prompt` behind `context`; the result is a new context. Waits for a place in the model's queue.
    ///
    /// With [`ThinkOptions::steps`], latent steps follow: each feeds a vector of the model's own back in place of a token.
    /// `context` stays as it was and can be used again.
    ///
    /// ```
    /// use avp_runtime_ort::{Error, LoadOptions, Model, Runtime, ThinkOptions};
    ///
    /// let model = Model::load(&Runtime::find()?, "../models/facts", &LoadOptions::default())?;
    /// let thought = model.think("Notes: Rosa has a parrot.", None, &ThinkOptions::default())?;
    /// assert_eq!((thought.num_steps, thought.context.is_some()), (0, true));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// When the prompt is empty, does not fit the window with context and steps, the context is another model's, a number
    /// of the form is out of range, the last hidden state is not finite, or the time is up.
    pub fn think(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &ThinkOptions,
    ) -> Result<Thought, RunError> {
        let deadline = Deadline::new(options.timeout);
        self.run(self.thinking(prompt.into(), context, options)?, deadline)
    }

    /// As [`think`](Self::think), without waiting.
    ///
    /// Every error is in the answer, also [`RunError::Busy`] where the model's queue was full.
    pub fn start_think(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &ThinkOptions,
    ) -> Pending<Thought> {
        let deadline = Deadline::new(options.timeout);
        match self.thinking(prompt.into(), context, options) {
            Ok(thinking) => self.start(thinking, deadline),
            Err(error) => Pending::refused(error),
        }
    }

    /// Reads `prompt` behind `context` and generates text until the model ends its turn. Waits for a place in the model's
    /// queue.
    ///
    /// ```
    /// use avp_runtime_ort::{Error, GenerateOptions, LoadOptions, Model, Runtime};
    ///
    /// let model = Model::load(&Runtime::find()?, "../models/facts", &LoadOptions::default())?;
    /// let answer = model.generate("Rosa lives in Lisbon.", None, &GenerateOptions::default())?;
    /// assert!(!answer.text.is_empty());
    /// # Ok::<(), Error>(())
    /// ```
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
        let (start, deadline) = (Instant::now(), Deadline::new(options.timeout));
        let request = Request::new(&self.0.facts, prompt.into(), context, options, start)?;
        self.run(request.into_task(None)?.0, deadline)
    }

    /// As [`generate`](Self::generate), without waiting: the text comes piece by piece, or all at once.
    ///
    /// # Errors
    /// As [`generate`](Self::generate), and [`RunError::Busy`] where the model's queue is full. Errors of the model's runs come
    /// from the stream.
    pub fn start_generate(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &GenerateOptions,
    ) -> Result<GenerationStream, RunError> {
        let (start, deadline) = (Instant::now(), Deadline::new(options.timeout));
        let (sender, pieces) = mpsc::channel();
        let request = Request::new(&self.0.facts, prompt.into(), context, options, start)?;
        let (task, usage) = request.into_task(Some(sender))?;
        Ok(GenerationStream::new(pieces, self.0.engine.try_start(task, deadline)?, usage))
    }

    /// The text of `prompt`: messages rendered by the chat template. As [`Prompt::Rendered`], it has the same tokens.
    ///
    /// # Errors
    /// When the template refuses the messages, or the prompt is vectors.
    pub fn render(&self, prompt: &Prompt) -> Result<Rendered, RunError> {
        self.0.facts.render(prompt)
    }

    /// The token ids of `prompt`: rendered by the chat template, tokenized without further special tokens.
    ///
    /// # Errors
    /// When the template refuses the messages, the tokenizer the text, or the prompt is vectors.
    pub fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, RunError> {
        self.0.facts.tokenize(prompt)
    }

    /// The handshake rule by which `context` fits this model: [`Rule::HashMatch`], or [`Rule::StructuralMatch`] where
    /// hashes differ and family, hidden_dim, num_layers and KV shape are equal. Frames of the Python package match by
    /// structure, since it hashes a config of its own making.
    ///
    /// # Errors
    /// When it does not fit; the first field that differs is named.
    pub fn accepts(&self, context: &Context) -> Result<Rule, ContextError> {
        self.0.facts.accepts(context)
    }

    /// The model's identity, for handshakes.
    pub fn identity(&self) -> &OwnedModelIdentity {
        &self.0.facts.identity
    }

    /// SHA-256 over the weights, in hex, as in the model's [`Fingerprint`](crate::Fingerprint).
    pub fn weights_hash(&self) -> &str {
        &self.0.facts.fingerprint.weights_hash
    }

    /// Shape and type of the model's KV-cache.
    pub fn cache_layout(&self) -> CacheLayout {
        self.0.facts.layout
    }

    /// Tokens the model can attend to.
    pub fn window(&self) -> usize {
        self.0.facts.window
    }

    /// Weights, vocabulary and hidden states, for tools that learn from the model.
    pub fn inspect(&self) -> Inspector<'_> {
        Inspector(self)
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.0.facts
    }

    fn thinking(
        &self,
        prompt: Prompt,
        context: Option<&Context>,
        options: &ThinkOptions,
    ) -> Result<Box<Thinking>, RunError> {
        let (start, facts) = (Instant::now(), self.facts());
        Thinking::new(facts, facts.read(prompt)?, context, *options, start)
    }

    /// Does `task` on the model's thread and gives its answer, by `deadline`; waits for a place in the queue.
    ///
    /// # Errors
    /// The task's own; [`RunError::TimedOut`], [`RunError::Panicked`] or [`RunError::Stopped`].
    pub(crate) fn run<T: Send + 'static>(
        &self,
        task: Box<dyn Task<Output = T>>,
        deadline: Option<Deadline>,
    ) -> Result<T, RunError> {
        self.0.engine.run(task, deadline)
    }

    /// Hands `task` to the model's thread. A reason not to take it, such as [`RunError::Busy`], is the answer.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        task: Box<dyn Task<Output = T>>,
        deadline: Option<Deadline>,
    ) -> Pending<T> {
        self.0.engine.start(task, deadline)
    }

    /// Does `work` in one step of the model's thread.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn with_decoder<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Decoder) -> Result<T, RunError> + Send + 'static,
    ) -> Result<T, RunError> {
        self.run(Box::new(Once(work)), None)
    }
}

/// A task of one step.
struct Once<F>(F);

impl<T, F> Task for Once<F>
where
    T: Send + 'static,
    F: FnOnce(&mut Decoder) -> Result<T, RunError> + Send + 'static,
{
    type Output = T;

    fn step(self: Box<Self>, decoder: &mut Decoder) -> Result<Progress<T>, RunError> {
        (self.0)(decoder).map(ControlFlow::Break)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Model").field("identity", self.identity()).finish_non_exhaustive()
    }
}
