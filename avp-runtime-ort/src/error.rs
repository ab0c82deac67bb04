//! What can go wrong, one enum per area: loading a model, running it, handing a context over.

use std::path::PathBuf;

use crate::PrepareError;

/// An error of loading a model folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The calibration of the model cannot be read or written, or belongs to another model.
    #[error("calibration {}: {message}: run `avp calibrate` again", path.display())]
    Calibration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A required file is missing.
    #[error("the model folder has no {}: {}", file_name(path), path.display())]
    MissingFile {
        /// The expected path.
        path: PathBuf,
    },
    /// The requested graph is missing, but there are others.
    #[error("the model folder has no {wanted}; it has {}", there.join(", "))]
    NoSuchGraph {
        /// The file's name.
        wanted: String,
        /// The existing graphs, relative to the folder.
        there: Vec<String>,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {message}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's message.
        message: String,
    },
    /// A JSON file is invalid.
    #[error("{}: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The fault, with line and column.
        message: String,
    },
    /// `tokenizer.json` is invalid.
    #[error("{}: not a usable tokenizer: {message}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The tokenizer library's message.
        message: String,
    },
    /// The chat template does not parse, or refuses the messages.
    #[error("chat template{}: {message}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Template {
        /// The line in the template, from 1.
        line: Option<usize>,
        /// The message of the template or its parser.
        message: String,
    },
    /// `config.json` and the graph are of different models.
    #[error("{field} is {config} in config.json, but {graph} in the graph")]
    ConfigMismatch {
        /// The field of `config.json`.
        field: &'static str,
        /// Its value.
        config: u32,
        /// The graph's value.
        graph: usize,
    },
    /// The graph cannot be prepared for latent steps.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The requested device is not available.
    #[error("{device}: {message}")]
    Device {
        /// The device.
        device: String,
        /// The missing part.
        message: String,
    },
    /// The requested profile cannot be written.
    #[error("cannot write a profile beside {}: {message}", path.display())]
    Profile {
        /// The prefix of the profile's path.
        path: PathBuf,
        /// The system's message.
        message: String,
    },
    /// ONNX Runtime refuses the model.
    #[error("ONNX Runtime refuses the model: {message}")]
    Runtime {
        /// ONNX Runtime's message.
        message: String,
    },
}

/// A run that failed or did not start. The model and every context stay usable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The prompt has no tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt alone is longer than the model's window.
    #[error("the prompt has {tokens} tokens, but the model's window is {window}")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens the model can attend to.
        window: usize,
    },
    /// The context, the prompt and the following steps exceed the window.
    #[error(
        "the context has {context} tokens, the prompt {prompt} and {steps} steps are to follow, \
         but the model's window is {window}"
    )]
    ContextTooLong {
        /// Tokens of the context.
        context: usize,
        /// Tokens of the prompt.
        prompt: usize,
        /// The requested latent steps, or the one token that generating needs at least.
        steps: usize,
        /// Tokens the model can attend to.
        window: usize,
    },
    /// A sampling option is out of its range.
    #[error("{option} must be {expected}, got {got}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// A description of its range.
        expected: &'static str,
        /// The given value.
        got: f64,
    },
    /// An option names a token that the model's vocabulary does not have.
    #[error("{option}: there is no token {id}; the vocabulary ends at {}", vocab_size.saturating_sub(1))]
    UnknownToken {
        /// The option's name.
        option: &'static str,
        /// The given id.
        id: u32,
        /// One more than the largest id.
        vocab_size: usize,
    },
    /// A stop text is empty.
    #[error("stop: expected a non-empty text")]
    EmptyStop,
    /// The context belongs to another model.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The chat template refuses the messages.
    #[error("chat template{}: {message}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Template {
        /// The line in the template, from 1.
        line: Option<usize>,
        /// The template's message.
        message: String,
    },
    /// The chat template exceeded a limit. After the time limit, the rendering still runs, since Rust cannot stop a thread: until
    /// it ends, other messages for the model get this error at once.
    #[error("chat template exceeded its {limit} limit{}", line.map(|line| format!(" at line {line}")).unwrap_or_default())]
    TemplateLimit {
        /// `"fuel"` (instructions, and the size of values), `"time"` or `"output"`.
        limit: &'static str,
        /// The line at which it was stopped, from 1; `None` for the time limit.
        line: Option<usize>,
    },
    /// The tokenizer failed.
    #[error("tokenizer: {message}")]
    Tokenizer {
        /// The tokenizer library's message.
        message: String,
    },
    /// An output of the graph has an unexpected shape or type.
    #[error("output {output}: expected {expected}, got {got}")]
    Output {
        /// The output's name.
        output: String,
        /// The expected shape and type.
        expected: String,
        /// The actual shape and type.
        got: String,
    },
    /// The model returned NaN or infinities.
    #[error("the model returned NaN or infinities at step {step}")]
    NotFinite {
        /// Number of tokens or latent steps before.
        step: usize,
    },
    /// The length of [`Prompt::Vectors`](crate::Prompt::Vectors) is not a multiple of the model's hidden_dim, or that of a single
    /// vector is not hidden_dim.
    #[error("expected hidden_dim ({hidden_dim}) values for each vector, got {got}")]
    Vectors {
        /// The model's hidden_dim.
        hidden_dim: usize,
        /// The number of values.
        got: usize,
    },
    /// [`Prompt::Vectors`](crate::Prompt::Vectors) is not supported by this call.
    #[error("expected a prompt of text, got vectors")]
    NotText,
    /// The model has no calibration, which says what latent steps do on it.
    #[error(
        "the model is not calibrated, so nothing is known of latent steps on it: run `avp calibrate`, or name a number of steps"
    )]
    NotCalibrated,
    /// A form was named for the steps that the calibration chooses, with their form.
    #[error("automatic steps take the calibrated form: leave the form out, or name a number of steps")]
    CalibratedForm,
    /// The model's calibration cannot be used.
    #[error("{message}")]
    Calibration {
        /// The file, and what is wrong with it.
        message: String,
    },
    /// The result has no context.
    #[error("the result has no context: set ThinkOptions::keep_context")]
    NoContext,
    /// The model's queue is full. Try again after a call has ended, or use a blocking call, which waits.
    #[error("the model's queue is full: {places} calls are waiting")]
    Busy {
        /// Length of the queue.
        places: usize,
    },
    /// The caller cancelled the call.
    #[error("cancelled")]
    Cancelled,
    /// The call's timeout expired.
    #[error("not done within {after:?}")]
    TimedOut {
        /// The timeout.
        after: std::time::Duration,
    },
    /// The call panicked; other calls of the model continue.
    #[error("the call panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The model's thread has ended. Load the model again.
    #[error("the model's thread has ended")]
    Stopped,
    /// The device or the host has not enough memory for the run. Existing contexts stay usable.
    #[error("out of memory: {message}")]
    OutOfMemory {
        /// ONNX Runtime's message, with the size.
        message: String,
    },
    /// ONNX Runtime failed.
    #[error("ONNX Runtime: {message}")]
    Runtime {
        /// ONNX Runtime's message.
        message: String,
    },
}

/// A context that cannot be read from a frame, or used with a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The frame cannot be decoded.
    #[error(transparent)]
    Decode(#[from] avp_core::DecodeError),
    /// The frame cannot be written.
    #[error(transparent)]
    Encode(#[from] avp_core::EncodeError),
    /// The cache cannot be converted to the model's number format.
    #[error(transparent)]
    Convert(#[from] avp_core::KvError),
    /// The payload of the frame is not a KV-cache.
    #[error("the frame holds {got}, expected a KV-cache")]
    NotAKvCache {
        /// The kind of payload.
        got: &'static str,
    },
    /// The KV-cache is or would be empty.
    #[error("the KV-cache is empty: {num_layers} layers of {seq_len} tokens")]
    Empty {
        /// Number of layers.
        num_layers: usize,
        /// Number of tokens.
        seq_len: usize,
    },
    /// The frame's metadata contradicts its KV-cache.
    #[error("{field} is {metadata} in the frame's metadata, but {body} in its KV-cache")]
    Contradiction {
        /// The field.
        field: &'static str,
        /// The value in the metadata.
        metadata: u64,
        /// The value in the KV-cache.
        body: u64,
    },
    /// An entry of the frame's `extra` is invalid.
    #[error("invalid value of the frame's extra field {field:?}")]
    Extra {
        /// The key.
        field: &'static str,
    },
    /// The context was computed by another model.
    #[error("the context was computed by another model: {field} is {got:?}, this model has {expected:?}")]
    OtherModel {
        /// The first field that differs.
        field: &'static str,
        /// This model's value.
        expected: String,
        /// The context's value.
        got: String,
    },
    /// The cache starts at the wrong position.
    #[error("the context starts at position {got}, expected one that starts at {expected}")]
    Position {
        /// The end of the context before it; 0 for a model.
        expected: usize,
        /// The start of the cache.
        got: usize,
    },
    /// A tail was computed after other tokens than those of the context.
    #[error("the tail belongs to another context: its first {seq_len} tokens differ")]
    OtherPrefix {
        /// Tokens before it.
        seq_len: usize,
    },
    /// A number of the cache is NaN or infinite.
    #[error("layer {layer}, {part}: not a finite number at head {head}, token {token}")]
    NotFinite {
        /// The layer, from 0.
        layer: usize,
        /// `"key"` or `"value"`.
        part: &'static str,
        /// The key/value head, from 0.
        head: usize,
        /// The token, from 0.
        token: usize,
    },
    /// A file could not be read or written.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's message.
        message: String,
    },
    /// The target of the frame failed.
    #[error("cannot write the frame: {message}")]
    Io {
        /// The system's message.
        message: String,
    },
    /// A size exceeds the limit of a frame.
    #[error("{field} of {value} exceeds the limit of a frame")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its value.
        value: usize,
    },
    /// ONNX Runtime could not store the cache.
    #[error("ONNX Runtime: {message}")]
    Runtime {
        /// ONNX Runtime's message.
        message: String,
    },
}

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ONNX Runtime library.
    #[error(transparent)]
    Library(#[from] crate::LibraryError),
    /// Loading a model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Running it.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Handing a context over.
    #[error(transparent)]
    Context(#[from] ContextError),
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().map_or_else(|| "file".to_owned(), |name| name.to_string_lossy().into_owned())
}

impl<R> From<ort::Error<R>> for RunError {
    fn from(error: ort::Error<R>) -> Self {
        let message = error.message().to_owned();
        // ONNX Runtime has no code for it. Its arenas, also where they may not grow, its device allocators and C++ have these
        // words.
        let out_of_memory = [
            "Failed to allocate memory",
            "is smaller than requested bytes",
            "bad_alloc",
            "bad allocation",
            "out of memory",
        ];
        if out_of_memory.iter().any(|words| message.contains(words)) {
            return Self::OutOfMemory { message };
        }
        Self::Runtime { message }
    }
}

impl<R> From<ort::Error<R>> for ModelError {
    fn from(error: ort::Error<R>) -> Self {
        Self::Runtime { message: error.message().to_owned() }
    }
}

impl<R> From<ort::Error<R>> for ContextError {
    fn from(error: ort::Error<R>) -> Self {
        Self::Runtime { message: error.message().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_told_from_other_failures_by_its_words() {
        let told = |message: &str| RunError::from(ort::Error::<()>::new(message));
        for message in [
            "Failed to allocate memory for requested buffer of size 4096",
            "Available memory of 1024 is smaller than requested bytes of 4096",
            "std::bad_alloc",
            "CUDA failure 2: out of memory",
        ] {
            assert_eq!(told(message), RunError::OutOfMemory { message: message.to_owned() });
        }
        let message = "Got invalid dimensions for input";
        assert_eq!(told(message), RunError::Runtime { message: message.to_owned() });
    }
}
