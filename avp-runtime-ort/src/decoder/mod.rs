//! A session over a prepared graph: tokens or latent vectors in, a longer KV-cache out.
//!
//! ```text
//! let mut sequence = decoder.begin(past, expected)?;                          // a KV-cache to continue from
//! let mut outputs = decoder.run(&mut sequence, Input::Tokens(&ids), want_next_latent)?;
//! let latent = outputs.take_next_latent()?;                                   // stays on the device
//! let outputs = decoder.run(&mut sequence, Input::Latent(&latent), Want::LOGITS)?;
//! let logits = outputs.logits()?;                                             // on the host, float32
//! let cache = decoder.end(sequence)?;                                         // the KV-cache of a context
//! ```
//!
//! All values are bound by an `IoBinding`: the cache and `next_latent` to the session's device, where the next run reads them;
//! logits and hidden states to host memory, only if they are requested. Inputs that do not change between runs stay bound.

mod device;
mod outputs;
mod reading;
mod resize;
mod sequence;
mod signature;

use std::{path::Path, sync::Arc, time::Instant};

use ort::{
    session::{IoBinding, RunOptions, Session},
    value::DynTensor,
};

pub use self::device::Device;
use self::{device::Memory, resize::Resizer, sequence::Buffers, signature::Signature};
pub(crate) use self::{
    outputs::{Outputs, Want, to_f32},
    reading::Reading,
    sequence::Sequence,
};
use crate::{
    LoadOptions, ModelError, RunError,
    kv::{KvCache, Past},
    prepare::{CacheLayout, PrepareReport, PreparedModel},
    runtime::Runtime,
};

/// A session over a prepared graph, for one thread at a time.
pub(crate) struct Decoder {
    // Declared before the session, so that it is dropped first.
    binding: IoBinding,
    session: Session,
    signature: Signature,
    memory: Memory,
    layout: CacheLayout,
    hidden_size: usize,
    resizer: Resizer,
    /// Whether past and present of the graph can share one buffer.
    shares_buffers: bool,
    run_options: Option<Arc<RunOptions>>,
    /// Whether the graph reads only one token at a time with a cache.
    one_token_behind_cache: bool,
}

/// The input of a run.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// Token ids, at least one.
    Tokens(&'a [u32]),
    /// Vectors in place of tokens, `[1, length, hidden_size]`: a `next_latent`, or the result of
    /// [`latents`](Decoder::latents).
    Latent(&'a DynTensor),
}

impl Input<'_> {
    /// Number of rows that the input adds to a sequence.
    fn len(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Latent(latents) => latents.shape().get(1).map_or(0, |&length| length as usize),
        }
    }
}

impl Decoder {
    /// Creates a session for a prepared graph.
    ///
    /// # Errors
    /// When the device is not available, ONNX Runtime refuses the graph, or its inputs are not those of a prepared graph.
    pub(crate) fn new(
        runtime: &Runtime,
        prepared: &PreparedModel,
        options: &LoadOptions,
    ) -> Result<Self, ModelError> {
        let PrepareReport { cache: layout, hidden_size, one_token_behind_cache, .. } = prepared.report;
        let cores = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
        let builder = Session::builder(runtime.environment())?
            // More threads than cores would wait for each other.
            .with_intra_threads(options.threads.min(cores))?
            // Spinning threads start sooner, but take the core from other processes.
            .with_intra_op_spinning(options.spinning)?
            // ONNX Runtime keeps a memory plan for each input shape and uses it from the second run on. A growing cache has a new
            // shape in every run, so that plans would accumulate without use.
            .with_memory_pattern(false)?
            // Without it, a model loaded from memory reads its external data from the working directory.
            .with_config_entry(
                "session.model_external_initializers_file_folder_path",
                prepared.external_folder.to_string_lossy(),
            )?;
        let builder = match &options.profile {
            Some(path) => {
                check_writable(path)?;
                builder.with_profiling(path)?
            }
            None => builder,
        };
        let session = options.device.register(runtime, builder)?.commit_from_memory(&prepared.bytes)?;
        let memory = options.device.memory()?;
        let signature = Signature::new(&session, &layout, hidden_size)?;
        let binding = session.create_binding()?;
        let mut resizer = Resizer::new(runtime, options.device, layout);
        // Sharing only saves time; devices that cannot resize buffers run without it.
        let shares_buffers = prepared.report.shared_buffers && resizer.load().is_ok();
        Ok(Self {
            binding,
            session,
            signature,
            memory,
            layout,
            hidden_size,
            resizer,
            shares_buffers,
            run_options: None,
            one_token_behind_cache,
        })
    }

    /// A sequence that continues from `past`, with capacity for `expected` more tokens and latent steps. Further runs are
    /// possible, but slower. The cache of `past` does not change.
    ///
    /// # Errors
    /// When `past` is part of a cache and there is not enough memory for a copy.
    pub(crate) fn begin(&mut self, past: impl Into<Past>, expected: usize) -> Result<Sequence, RunError> {
        let past = past.into();
        if self.shares_buffers {
            return Ok(Sequence::Shared(Buffers::new(past, expected)));
        }
        let (cache, seq_len) = (past.cache(), past.seq_len());
        if seq_len == cache.seq_len() {
            return Ok(Sequence::Growing(cache.clone()));
        }
        // Cut on the device; the host does it if the device has no operator.
        let first = match self.resizer.resize_all(cache.layers(), cache.seq_len(), seq_len, &self.memory) {
            Ok(layers) => KvCache::from_outputs(self.layout, seq_len, sequence::as_outputs(layers))?,
            Err(_) => cache.first_on_host(seq_len)?,
        };
        Ok(Sequence::Growing(Arc::new(first)))
    }

    /// Runs `input` after `sequence`, appends it, and returns the requested outputs. Use [`read`](Self::read) for inputs that may
    /// be longer than the graph reads at once.
    ///
    /// # Errors
    /// When ONNX Runtime fails or the run was stopped. `sequence` is then unchanged.
    pub(crate) fn run(
        &mut self,
        sequence: &mut Sequence,
        input: Input<'_>,
        want: Want,
    ) -> Result<Outputs, RunError> {
        let result = self.bind_and_run(sequence, input, want);
        if result.is_err() {
            // A failed run may leave bindings incomplete.
            self.release();
        }
        result
    }

    /// The KV-cache of `sequence`.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub(crate) fn end(&mut self, sequence: Sequence) -> Result<Arc<KvCache>, RunError> {
        match sequence {
            Sequence::Growing(cache) => Ok(cache),
            Sequence::Shared(buffers) => buffers.into_cache(&mut self.resizer, &self.memory),
        }
    }

    /// `[1, length, hidden_size]` vectors for [`Input::Latent`], in the graph's number format.
    ///
    /// # Errors
    /// [`RunError::Output`] when the length is not a multiple of the width.
    pub(crate) fn latents(&self, vectors: &[f32]) -> Result<DynTensor, RunError> {
        let length = vectors.len() / self.hidden_size;
        Ok(self.signature.latents(vectors, [1, length, self.hidden_size])?)
    }

    /// Clears the bindings of the last run. Called when no run follows immediately.
    pub(crate) fn release(&mut self) {
        self.binding.clear();
        self.signature.forget();
    }

    /// Makes the following runs stoppable by `options`.
    pub(crate) fn set_run_options(&mut self, options: Option<Arc<RunOptions>>) {
        self.run_options = options;
    }

    fn bind_and_run(
        &mut self,
        sequence: &mut Sequence,
        input: Input<'_>,
        want: Want,
    ) -> Result<Outputs, RunError> {
        let start = sequence.seq_len();
        let seq_len = start + input.len();
        self.signature.bind_inputs(&mut self.binding, input, start..seq_len, want)?;
        // A binding reuses the output of the last run and fails if it has grown, so each run binds again.
        self.binding.clear_outputs();
        match sequence {
            Sequence::Growing(past) => {
                self.signature.bind_past(&mut self.binding, past.layers())?;
                self.signature.bind_present(&mut self.binding, &self.memory)?;
            }
            Sequence::Shared(buffers) => {
                buffers.reserve(&mut self.resizer, &self.memory, seq_len)?;
                self.signature.bind_past(&mut self.binding, buffers.layers())?;
                self.signature.bind_shared(&mut self.binding, buffers.layers_mut())?;
            }
        }
        want.bind(&mut self.binding, &self.memory)?;
        let run_start = Instant::now();
        let mut values = match &self.run_options {
            Some(options) => self.session.run_binding_with_options(&self.binding, options)?,
            None => self.session.run_binding(&self.binding)?,
        };
        let run_time = run_start.elapsed();
        let outputs = Outputs::take(&mut values, want, run_time)?;
        match sequence {
            Sequence::Growing(cache) => {
                let present = self.signature.take_present(&mut values)?;
                *cache = Arc::new(KvCache::from_outputs(self.layout, seq_len, present.into_iter())?);
            }
            Sequence::Shared(buffers) => buffers.written(seq_len),
        }
        Ok(outputs)
    }
}

/// Checks that a profile can be written, because ONNX Runtime does not report an error.
fn check_writable(profile: &Path) -> Result<(), ModelError> {
    let folder = profile.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(folder)
        .map(|_gone| ())
        .map_err(|error| ModelError::Profile { path: profile.to_owned(), message: error.to_string() })
}

#[cfg(test)]
mod tests;
