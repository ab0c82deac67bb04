//! One run of a prepared graph: tokens or a latent vector in, a longer KV-cache out.

use std::{borrow::Cow, path::Path};

use ort::{
    memory::Allocator,
    session::{HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue},
    value::{DynTensor, DynValue, Tensor, TensorElementType},
};

use crate::{
    ModelError, RunError,
    kv::KvCache,
    prepare::{CacheLayout, PrepareReport, PreparedModel, names},
    runtime::Runtime,
};

/// A session over a prepared graph.
pub(crate) struct Decoder {
    session: Session,
    layout: CacheLayout,
    signature: Signature,
}

/// The names a run binds, and a vector that no run looks at: ordinary runs pass it with a false mask.
struct Signature {
    cache_names: Vec<CacheNames>,
    takes_attention_mask: bool,
    takes_position_ids: bool,
    takes_num_logits_to_keep: bool,
    unused_latent: DynTensor,
}

struct CacheNames {
    past: [String; 2],
    present: [String; 2],
}

/// What a run reads.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// Token ids, at least one.
    Tokens(&'a [u32]),
    /// The `next_latent` of the run before, `[1, 1, hidden_size]`.
    Latent(&'a DynTensor),
}

/// What a run is asked for beside the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Logits of the last position.
    Logits,
    /// The latent input of the next step.
    NextLatent,
    /// The last hidden state.
    Hidden,
}

/// What a run gives: the longer cache, and what was wanted beside it.
pub(crate) struct Step {
    pub(crate) cache: KvCache,
    pub(crate) output: DynTensor,
}

impl Decoder {
    /// Makes a session over a prepared graph whose external data lies in `folder`, on `threads` threads (0: ONNX Runtime
    /// decides).
    ///
    /// # Errors
    /// When ONNX Runtime refuses the graph, or its inputs are not what preparing promised.
    pub(crate) fn new(
        runtime: &Runtime,
        prepared: &PreparedModel,
        folder: &Path,
        threads: usize,
    ) -> Result<Self, ModelError> {
        let PrepareReport { cache: layout, hidden_size, .. } = prepared.report;
        let cores = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
        let session = Session::builder(runtime.environment())?
            // More threads than cores wait for each other.
            .with_intra_threads(threads.min(cores))?
            // Without it a model loaded from memory looks for its external data in the working directory.
            .with_config_entry(
                "session.model_external_initializers_file_folder_path",
                folder.to_string_lossy(),
            )?
            .commit_from_memory(&prepared.bytes)?;
        let takes = |name: &str| session.inputs().iter().any(|input| input.name() == name);
        let latent = session.inputs().iter().find(|input| input.name() == names::LATENT_EMBEDS);
        let latent_type =
            latent.and_then(|input| input.dtype().tensor_type()).ok_or_else(|| ModelError::Runtime {
                message: format!("the prepared graph has no input {}", names::LATENT_EMBEDS),
            })?;
        let unused_latent = DynTensor::new(&Allocator::default(), latent_type, [1, 1, hidden_size])?;
        let signature = Signature {
            cache_names: (0..layout.num_layers).map(CacheNames::of_layer).collect(),
            takes_attention_mask: takes("attention_mask"),
            takes_position_ids: takes("position_ids"),
            takes_num_logits_to_keep: takes("num_logits_to_keep"),
            unused_latent,
        };
        Ok(Self { session, layout, signature })
    }

    /// `vector`, `[hidden_size]`, as a latent input in the model's number format.
    ///
    /// # Errors
    /// When it has another length.
    pub(crate) fn latent(&self, vector: &[f32]) -> Result<DynTensor, RunError> {
        let unused = &self.signature.unused_latent;
        let hidden_size = unused.shape().num_elements();
        if vector.len() != hidden_size {
            return Err(RunError::Output {
                output: names::LATENT_EMBEDS.to_owned(),
                expected: format!("{hidden_size} values"),
                got: format!("{} values", vector.len()),
            });
        }
        let shape = [1, 1, hidden_size];
        Ok(match unused.data_type() {
            TensorElementType::Float16 => Tensor::from_array((
                shape,
                vector.iter().map(|&value| half::f16::from_f32(value)).collect::<Vec<_>>(),
            ))?
            .upcast(),
            TensorElementType::Bfloat16 => Tensor::from_array((
                shape,
                vector.iter().map(|&value| half::bf16::from_f32(value)).collect::<Vec<_>>(),
            ))?
            .upcast(),
            _ => Tensor::from_array((shape, vector.to_vec()))?.upcast(),
        })
    }

    /// Runs `input` behind `past` and gives the longer cache with what was wanted.
    ///
    /// # Errors
    /// When ONNX Runtime fails; `past` stays as it was.
    pub(crate) fn run(&mut self, input: Input<'_>, past: &KvCache, want: Want) -> Result<Step, RunError> {
        let length = match input {
            Input::Tokens(tokens) => tokens.len(),
            Input::Latent(_) => 1,
        };
        let seq_len = past.seq_len() + length;
        let options = self.signature.outputs(want)?;
        let inputs = self.signature.inputs(input, past, seq_len, want)?;
        let mut outputs = self.session.run_with_options(inputs, &options)?;
        let mut take = |name: &str| {
            outputs
                .remove(name)
                .ok_or_else(|| RunError::Runtime { message: format!("gave no output {name}") })
        };
        let output = take(want.name())?.downcast()?;
        let layers: Vec<[DynValue; 2]> = self
            .signature
            .cache_names
            .iter()
            .map(|names| Ok([take(&names.present[0])?, take(&names.present[1])?]))
            .collect::<Result<_, RunError>>()?;
        Ok(Step { cache: KvCache::from_outputs(self.layout, seq_len, layers.into_iter())?, output })
    }
}

impl Signature {
    fn outputs(&self, want: Want) -> Result<RunOptions<HasSelectedOutputs>, RunError> {
        let present = self.cache_names.iter().flat_map(|names| &names.present);
        let selector = present
            .fold(OutputSelector::no_default().with(want.name()), |selector, name| selector.with(name));
        Ok(RunOptions::new()?.with_outputs(selector))
    }

    fn inputs<'v>(
        &'v self,
        input: Input<'v>,
        past: &'v KvCache,
        seq_len: usize,
        want: Want,
    ) -> Result<Vec<(Cow<'v, str>, SessionInputValue<'v>)>, RunError> {
        let start = past.seq_len();
        let (ids, latent) = match input {
            Input::Tokens(tokens) => (tokens.iter().map(|&id| i64::from(id)).collect(), None),
            // Any id will do: the mask puts the vector in its place.
            Input::Latent(latent) => (vec![0], Some(latent)),
        };
        let mut inputs: Vec<(Cow<'v, str>, SessionInputValue<'v>)> = Vec::new();
        let mut push =
            |name: &'v str, value: SessionInputValue<'v>| inputs.push((Cow::Borrowed(name), value));

        push("input_ids", row(ids)?.into());
        if self.takes_attention_mask {
            push("attention_mask", row(vec![1; seq_len])?.into());
        }
        if self.takes_position_ids {
            push("position_ids", row((start as i64..seq_len as i64).collect())?.into());
        }
        if self.takes_num_logits_to_keep {
            push("num_logits_to_keep", Tensor::from_array((Vec::<i64>::new(), vec![1i64]))?.into());
        }
        push(names::LATENT_MASK, flag(&[1, 1, 1], latent.is_some())?.into());
        push(names::LATENT_EMBEDS, latent.unwrap_or(&self.unused_latent).into());
        push(names::LATENT_STEP, flag(&[1], want == Want::NextLatent)?.into());
        for (names, layer) in self.cache_names.iter().zip(past.layers()) {
            for (name, tensor) in names.past.iter().zip(layer) {
                push(name, tensor.into());
            }
        }
        Ok(inputs)
    }
}

impl CacheNames {
    fn of_layer(layer: usize) -> Self {
        Self {
            past: ["key", "value"].map(|part| format!("past_key_values.{layer}.{part}")),
            present: ["key", "value"].map(|part| format!("present.{layer}.{part}")),
        }
    }
}

impl Want {
    fn name(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::NextLatent => names::NEXT_LATENT,
            Self::Hidden => names::HIDDEN_STATES,
        }
    }
}

/// The last row of a `[1, length, hidden_size]` output, as float32.
pub(crate) fn last_row(hidden: &DynTensor, hidden_size: usize) -> Result<Vec<f32>, RunError> {
    let values = to_f32(hidden)?;
    Ok(values[values.len().saturating_sub(hidden_size)..].to_vec())
}

/// A tensor's elements as float32, borrowed where they are already.
pub(crate) fn to_f32(tensor: &DynTensor) -> Result<Cow<'_, [f32]>, RunError> {
    Ok(match tensor.data_type() {
        TensorElementType::Float16 => {
            tensor.try_extract_tensor::<half::f16>()?.1.iter().map(|value| value.to_f32()).collect()
        }
        TensorElementType::Bfloat16 => {
            tensor.try_extract_tensor::<half::bf16>()?.1.iter().map(|value| value.to_f32()).collect()
        }
        _ => Cow::Borrowed(tensor.try_extract_tensor::<f32>()?.1),
    })
}

fn row(values: Vec<i64>) -> ort::Result<Tensor<i64>> {
    Tensor::from_array(([1, values.len()], values))
}

fn flag(shape: &[usize], value: bool) -> ort::Result<Tensor<bool>> {
    Tensor::from_array((shape.to_vec(), vec![value]))
}
