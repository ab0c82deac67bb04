//! What can go wrong, one enum per area: loading a model, running it, handing a context over.

use std::path::PathBuf;

use crate::PrepareError;

/// Why a model folder cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file that every model folder has is not there.
    #[error("the model folder has no {}: {}", file_name(path), path.display())]
    MissingFile {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The graph that was asked for is not there, but others are.
    #[error("the model folder has no {wanted}; it has {}", there.join(", "))]
    NoSuchGraph {
        /// The file's name.
        wanted: String,
        /// The graphs that are there, relative to the folder.
        there: Vec<String>,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {message}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// A JSON file does not hold what is needed.
    #[error("{}: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        message: String,
    },
    /// `tokenizer.json` is no tokenizer.
    #[error("{}: not a usable tokenizer: {message}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the tokenizer library says.
        message: String,
    },
    /// The chat template does not parse, or refuses the messages.
    #[error("chat template{}: {message}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Template {
        /// The line in the template, from 1.
        line: Option<usize>,
        /// The template's or its parser's words.
        message: String,
    },
    /// `config.json` and the graph speak of different models.
    #[error("config.json says {field} is {config}, but the graph has {graph}")]
    ConfigMismatch {
        /// The field of `config.json`.
        field: &'static str,
        /// Its value.
        config: u32,
        /// What the graph says.
        graph: usize,
    },
    /// The graph cannot be made ready for latent work.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The device that was asked for cannot be had.
    #[error("{device}: {message}")]
    Device {
        /// The device.
        device: String,
        /// What is missing.
        message: String,
    },
    /// The profile that was asked for cannot be written.
    #[error("cannot write a profile beside {}: {message}", path.display())]
    Profile {
        /// What the profile's name is to begin with.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// ONNX Runtime does not take the model.
    #[error("ONNX Runtime refuses the model: {message}")]
    Runtime {
        /// ONNX Runtime's words.
        message: String,
    },
}

/// Why a run did not happen or did not finish. The model and every context stay usable.
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
    /// The context, the prompt and what is to follow do not fit the window together.
    #[error(
        "the context has {context} tokens, the prompt {prompt} and {steps} steps are to follow, \
         but the model's window is {window}"
    )]
    ContextTooLong {
        /// Tokens of the context.
        context: usize,
        /// Tokens of the prompt.
        prompt: usize,
        /// Latent steps asked for, or the one token that generating needs at least.
        steps: usize,
        /// Tokens the model can attend to.
        window: usize,
    },
    /// A sampling option is out of its range.
    #[error("{option} must be {expected}, got {got}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// The value given.
        got: f64,
    },
    /// An option names a token that the model's vocabulary does not have.
    #[error("{option}: there is no token {id}; the vocabulary ends at {}", vocab_size.saturating_sub(1))]
    UnknownToken {
        /// The option's name.
        option: &'static str,
        /// The id given.
        id: u32,
        /// One more than the largest id.
        vocab_size: usize,
    },
    /// A text to stop at is empty.
    #[error("stop must not be an empty text: it would stop everything")]
    EmptyStop,
    /// The context belongs to another model.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The chat template refuses the messages.
    #[error("chat template{}: {message}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Template {
        /// The line in the template, from 1.
        line: Option<usize>,
        /// The template's words.
        message: String,
    },
    /// The chat template takes too long, or makes more text than a prompt can be.
    #[error("chat template exceeded its {limit} limit{}", line.map(|line| format!(" at line {line}")).unwrap_or_default())]
    TemplateLimit {
        /// `"time"`, in instructions or in seconds, or `"output"`.
        limit: &'static str,
        /// The line that it was stopped at, from 1; `None` where seconds ran out.
        line: Option<usize>,
    },
    /// The tokenizer cannot read or write the text.
    #[error("tokenizer: {message}")]
    Tokenizer {
        /// The tokenizer library's words.
        message: String,
    },
    /// The graph gave an output that its inputs do not lead one to expect.
    #[error("output {output}: expected {expected}, got {got}")]
    Output {
        /// The output's name.
        output: String,
        /// Its shape and type as they should be.
        expected: String,
        /// As they are.
        got: String,
    },
    /// The model gave something other than numbers.
    #[error("the model gave no finite numbers at step {step}")]
    NotFinite {
        /// Tokens generated before, or latent steps taken.
        step: usize,
    },
    /// The length of [`Prompt::Vectors`](crate::Prompt::Vectors) is not a multiple of the model's hidden_dim.
    #[error("expected a multiple of hidden_dim ({hidden_dim}) values, got {got}")]
    Vectors {
        /// The model's hidden_dim.
        hidden_dim: usize,
        /// Values there are.
        got: usize,
    },
    /// [`Prompt::Vectors`](crate::Prompt::Vectors) was given where only text can be read.
    #[error("expected a prompt of text, got vectors")]
    NotText,
    /// The thought holds no context.
    #[error("the thought holds no context: set ThinkOptions::keep_context")]
    NoContext,
    /// The model's queue is full. Try again when a call has been answered, or make a blocking call, which waits.
    #[error("the model's queue is full: {places} calls are waiting")]
    Busy {
        /// Places in the queue.
        places: usize,
    },
    /// The caller cancelled the call.
    #[error("cancelled")]
    Cancelled,
    /// The call's time was up.
    #[error("not done within {after:?}")]
    TimedOut {
        /// The time it was given.
        after: std::time::Duration,
    },
    /// The call met a fault of this program and was given up; the model goes on.
    #[error("the call panicked: {message}")]
    Panicked {
        /// The panic's words.
        message: String,
    },
    /// The model's thread has ended. Load the model again.
    #[error("the model's thread has ended")]
    Stopped,
    /// The device or the host has no memory left for the run. What is in memory stays usable.
    #[error("out of memory: {message}")]
    OutOfMemory {
        /// ONNX Runtime's words, which give the size.
        message: String,
    },
    /// ONNX Runtime failed.
    #[error("ONNX Runtime: {message}")]
    Runtime {
        /// ONNX Runtime's words.
        message: String,
    },
}

/// Why a context cannot be taken from a frame, or used with a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The frame does not decode.
    #[error(transparent)]
    Decode(#[from] avp_core::DecodeError),
    /// The frame cannot be written.
    #[error(transparent)]
    Encode(#[from] avp_core::EncodeError),
    /// The cache cannot be brought into the model's number format.
    #[error(transparent)]
    Convert(#[from] avp_core::KvError),
    /// The frame decodes and holds something else.
    #[error("the frame holds {got}, expected a KV-cache")]
    NotAKvCache {
        /// The payload it holds.
        got: &'static str,
    },
    /// The KV-cache holds no numbers, or none would be left, so there is nothing to continue from.
    #[error("the KV-cache is empty: {num_layers} layers of {seq_len} tokens")]
    Empty {
        /// Layers it has.
        num_layers: usize,
        /// Tokens it has.
        seq_len: usize,
    },
    /// The frame's metadata and its KV-cache disagree.
    #[error("the frame's metadata says {field} is {metadata}, but its KV-cache has {body}")]
    Contradiction {
        /// The field.
        field: &'static str,
        /// What the metadata says.
        metadata: u64,
        /// What the KV-cache says.
        body: u64,
    },
    /// A field in the frame's `extra` does not hold what it should.
    #[error("the frame's extra field {field:?} does not hold what it should")]
    Extra {
        /// The key.
        field: &'static str,
    },
    /// The context was made by another model.
    #[error("the context was made by another model: {field} is {got:?}, this model has {expected:?}")]
    OtherModel {
        /// The first field that differs.
        field: &'static str,
        /// This model's value.
        expected: String,
        /// The context's value.
        got: String,
    },
    /// The cache starts at another position than the one where it would be used.
    #[error("the context starts at position {got}, expected one that starts at {expected}")]
    Position {
        /// Where the context before it ends; 0 for a model.
        expected: usize,
        /// Where it starts.
        got: usize,
    },
    /// A tail was computed behind other tokens than those it was to be put behind.
    #[error("the tail was cut off behind {seq_len} other tokens")]
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
        /// The system's words.
        message: String,
    },
    /// What the frame was written to failed.
    #[error("cannot write the frame: {message}")]
    Io {
        /// The system's words.
        message: String,
    },
    /// A size is larger than a frame can say.
    #[error("{field} is {value}, more than a frame can say")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its value.
        value: usize,
    },
    /// ONNX Runtime could not hold the cache.
    #[error("ONNX Runtime: {message}")]
    Runtime {
        /// ONNX Runtime's words.
        message: String,
    },
}

/// Any of this crate's errors, for callers that do not tell them apart.
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
    /// Handing over to another model.
    #[error(transparent)]
    Rosetta(#[from] crate::rosetta::RosettaError),
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
