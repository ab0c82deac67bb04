//! Reports on prepared graphs, and their comparison with the export.

use std::{borrow::Cow, path::Path};

use avp_core::KvDType;
use bytes::Bytes;
use ort::{
    memory::Allocator,
    session::{Session, SessionInputValue},
    value::{DynTensor, Tensor},
};
use prost::Message;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

use super::{Cache, PrepareError, PrepareReport, PreparedModel, prepare_cached};
use crate::{
    Dtype, LoadOptions, ModelError, RunError, Runtime, config,
    conventions::{InputName, LOGITS, prepared as names, present, row},
    decoder::to_f32,
    folder, identity,
    kv::KvCache,
    onnx::{ExternalFiles, ModelProto, external_locations},
    step_form::StepInputs,
};

/// Options for comparing a prepared graph with its export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOptions {
    /// The variant of the model, if the folder has several.
    pub dtype: Option<Dtype>,
    /// Seed of the random prompt.
    pub seed: u64,
    /// Token ids of the prompt; `None` for a random one.
    pub prompt: Option<Vec<u32>>,
}

impl Default for CheckOptions {
    /// `model.onnx`, and a random prompt of 16 tokens from seed 0.
    fn default() -> Self {
        Self { dtype: None, seed: 0, prompt: None }
    }
}

/// The difference between the logits of a prepared graph and of its export.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PrepareCheck {
    /// The report on the prepared graph.
    pub report: PrepareReport,
    /// The token ids of the prompt.
    pub prompt: Vec<u32>,
    /// The prepared graph's logits of the last token, `[vocab_size]`, with all tokens read at once.
    pub logits: Vec<f32>,
    /// Number of compared rows of logits.
    pub rows: usize,
    /// The largest absolute difference of a logit.
    pub absolute: f32,
    /// The largest difference divided by the largest of the export's logits in that row; NaN if a logit is NaN.
    pub relative: f32,
}

impl PrepareCheck {
    /// The largest relative difference of a correct graph: 1e-5 in float32, where both run the same kernels on the same
    /// numbers, and four roundings in half precision (2^-9, bfloat16 2^-6). In half precision, ONNX Runtime keeps float32
    /// between some nodes of the export, and slicing the last row before the head adds a rounding there; and with a cache, each
    /// graph reads its own rounded values. With activations of 8 bits, four of their roundings (2^-6): the processor decides
    /// which kernels ONNX Runtime picks for each graph, and a difference in the last bit of float32 can round to the next integer.
    #[must_use]
    pub fn tolerance(&self) -> f32 {
        match self.report.dtype {
            _ if self.report.quantized_activations => 1.0 / 64.0,
            KvDType::Float32 => 1e-5,
            KvDType::Float16 => 1.0 / 512.0,
            KvDType::BFloat16 => 1.0 / 64.0,
        }
    }

    /// Whether the difference is within [`tolerance`](Self::tolerance).
    #[must_use]
    pub fn passed(&self) -> bool {
        self.relative <= self.tolerance()
    }
}

/// Prepares the graph of a model folder, or reads it from the cache, and reports its parts.
///
/// ```
/// use avp_runtime_ort::{LoadOptions, ModelError, prepare_report};
///
/// let report = prepare_report("../models/facts", &LoadOptions::default())?;
/// assert_eq!(report.head_operator, "MatMul");
/// assert!(!report.shared_buffers);
/// # Ok::<(), ModelError>(())
/// ```
///
/// # Errors
/// When a file is missing or invalid, or the graph is not a supported decoder. The error names the file, field or node.
pub fn prepare_report(folder: impl AsRef<Path>, options: &LoadOptions) -> Result<PrepareReport, ModelError> {
    prepare_folder(folder.as_ref(), options.dtype).map(|prepared| prepared.report)
}

/// Runs the export and the prepared graph on the same prompt, on the CPU, and compares the logits: of all tokens, read at once
/// and one by one, each graph with its own KV-cache; and of the last one after half of the prompt, if the graph can read
/// several tokens with a cache.
///
/// # Errors
/// As [`prepare_report`], and when ONNX Runtime refuses a graph, or a prompt token is not in the vocabulary.
pub fn check_prepared(
    runtime: &Runtime,
    folder: impl AsRef<Path>,
    options: &CheckOptions,
) -> Result<PrepareCheck, ModelError> {
    let prepared = prepare_folder(folder.as_ref(), options.dtype)?;
    let vocab_size = prepared.report.vocab_size;
    let prompt = options.prompt.clone().unwrap_or_else(|| random_prompt(vocab_size, options.seed));
    if prompt.is_empty() || prompt.iter().any(|&id| id as usize >= vocab_size) {
        let message = format!("the prompt needs token ids below {vocab_size}");
        return Err(ModelError::Runtime { message });
    }
    let open = |graph: &[u8]| {
        Ok::<_, ModelError>(
            Session::builder(runtime.environment())?
                .with_config_entry(
                    "session.model_external_initializers_file_folder_path",
                    prepared.external_folder.to_string_lossy(),
                )?
                .commit_from_memory(graph)?,
        )
    };
    let export = open(&export(&prepared.report.file)?)?;
    compare(export, open(&prepared.bytes)?, prepared.report, prompt)
}

/// Compares the last rows of logits of both graphs after each piece of the prompt.
fn compare(
    mut export: Session,
    mut prepared: Session,
    report: PrepareReport,
    prompt: Vec<u32>,
) -> Result<PrepareCheck, ModelError> {
    let mut check =
        PrepareCheck { report, prompt, logits: Vec::new(), rows: 0, absolute: 0.0, relative: 0.0 };
    for lengths in pieces(check.prompt.len(), check.report.one_token_behind_cache) {
        let empty = || KvCache::empty(check.report.cache);
        let (mut past_of_export, mut past) = (empty()?, empty()?);
        let mut left = &check.prompt[..];
        for length in lengths {
            let (piece, rest) = left.split_at(length);
            left = rest;
            let (expected, cache) =
                run(&mut export, &check.report, &past_of_export, piece, LOGITS, StepInputs::HIDDEN)?;
            past_of_export = cache;
            let (logits, cache) =
                run(&mut prepared, &check.report, &past, piece, LOGITS, StepInputs::HIDDEN)?;
            past = cache;

            let absolute = largest(logits.iter().zip(&expected).map(|(one, other)| one - other));
            let scale = largest(expected.iter().copied());
            let relative = if absolute == 0.0 { 0.0 } else { absolute / scale };
            let same_size = logits.len() == expected.len();
            check.rows += 1;
            check.absolute = largest([check.absolute, absolute].into_iter());
            check.relative =
                largest([check.relative, if same_size { relative } else { f32::NAN }].into_iter());
            if check.logits.is_empty() {
                check.logits = logits;
            }
        }
    }
    Ok(check)
}

/// The pieces of a prompt of `length` tokens in each comparison: all tokens; one by one, so that every row of logits is the
/// last of a run; and two halves, if the graph can read several tokens with a cache.
fn pieces(length: usize, one_token_behind_cache: bool) -> Vec<Vec<usize>> {
    let mut pieces = vec![vec![length], vec![1; length]];
    if !one_token_behind_cache && length > 2 {
        pieces.push(vec![length / 2, length - length / 2]);
    }
    pieces
}

/// The largest absolute value; NaN if a value is NaN, which `f32::max` would ignore.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.map(f32::abs).fold(
        0.0,
        |largest, value| {
            if largest.is_nan() || value <= largest { largest } else { value }
        },
    )
}

fn prepare_folder(folder: &Path, dtype: Option<Dtype>) -> Result<PreparedModel, ModelError> {
    let (path, text) = config::read(folder)?;
    let identity = identity::from_config(&path, &text)?;
    let graph = folder::graph(folder, dtype)?;
    let prepared = prepare_cached(&graph, identity::head_dim(&identity), &Cache::from_env())?;
    identity::check(&identity, &prepared.report)?;
    Ok(prepared)
}

/// The export, with the external data locations of the prepared graph.
fn export(path: &Path) -> Result<Vec<u8>, ModelError> {
    let unreadable = |error: std::io::Error| PrepareError::Unreadable {
        path: path.to_owned(),
        message: error.to_string(),
    };
    let bytes = Bytes::from(std::fs::read(path).map_err(unreadable)?);
    let mut model =
        ModelProto::decode(bytes).map_err(|error| PrepareError::Malformed { message: error.to_string() })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    ExternalFiles::find(folder, &external_locations(&mut model)?)?.relocate(&mut model);
    Ok(model.encode_to_vec())
}

fn random_prompt(vocab_size: usize, seed: u64) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let vocab_size = u32::try_from(vocab_size).unwrap_or(u32::MAX).max(1);
    (0..16).map(|_| random.random_range(0..vocab_size)).collect()
}

/// The last row of `output` as float32, and the longer cache, after an export or its prepared graph has read `tokens` with
/// the cache `past`. A latent step takes the given form.
pub(super) fn run(
    session: &mut Session,
    report: &PrepareReport,
    past: &KvCache,
    tokens: &[u32],
    output: &str,
    form: StepInputs,
) -> Result<(Vec<f32>, KvCache), ModelError> {
    let (start, end) = (past.seq_len(), past.seq_len() + tokens.len());
    let flag = |shape: Vec<usize>, value| Tensor::from_array((shape, vec![value]));
    let latent = session.inputs().iter().find(|input| input.name() == names::LATENT_EMBEDS);
    let latent = match latent.and_then(|input| input.dtype().tensor_type()) {
        Some(elem_type) => {
            Some(DynTensor::new(&Allocator::default(), elem_type, [1, 1, report.hidden_size])?)
        }
        None => None,
    };
    let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::new();
    for name in session.inputs().iter().map(|input| input.name().to_owned()) {
        let value: SessionInputValue<'_> = match name.as_str() {
            names::LATENT_MASK => flag(vec![1, 1, 1], false)?.into(),
            names::LATENT_STEP => flag(vec![1], output == names::NEXT_LATENT)?.into(),
            names::LATENT_TEMPERATURE => Tensor::from_array(([1], vec![form.temperature]))?.into(),
            names::LATENT_ROWS => Tensor::from_array(([1], vec![form.rows]))?.into(),
            names::LATENT_HIDDEN => Tensor::from_array(([1], vec![form.hidden]))?.into(),
            names::LATENT_RESCALE => flag(vec![1], form.rescale)?.into(),
            names::LATENT_EMBEDS => match &latent {
                Some(latent) => latent.into(),
                None => continue,
            },
            exported => match InputName::parse(exported) {
                InputName::InputIds => row(tokens.iter().map(|&id| id.into()).collect())?.into(),
                InputName::Run(input) => input.value(&(start..end))?.into(),
                InputName::Past { layer, part } if layer < past.layers().len() => {
                    (&past.layers()[layer][part]).into()
                }
                _ => return Err(PrepareError::UnknownInput { input: name }.into()),
            },
        };
        inputs.push((name.into(), value));
    }
    let failed = |error: RunError| ModelError::Runtime { message: error.to_string() };
    let mut outputs = session.run(inputs)?;
    let mut take = |name: &str| {
        outputs.remove(name).ok_or_else(|| ModelError::Runtime { message: format!("missing output {name}") })
    };
    let values: DynTensor = take(output)?.downcast()?;
    let width = values.shape().last().map_or(0, |&size| usize::try_from(size).unwrap_or(0));
    let values = to_f32(&values).map_err(failed)?;
    let last = values[values.len().saturating_sub(width)..].to_vec();
    let mut layers = Vec::new();
    for layer in 0..report.cache.num_layers {
        layers.push([take(&present(layer, 0))?, take(&present(layer, 1))?]);
    }
    Ok((last, KvCache::from_outputs(report.cache, end, layers.into_iter()).map_err(failed)?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::prepare::cache::tests::move_constant_to;

    #[test]
    fn the_largest_value_is_nan_if_any_value_is() {
        assert_eq!(largest([1.0, -3.0, 2.0].into_iter()), 3.0);
        assert_eq!(largest([].into_iter()), 0.0);
        for values in [[f32::NAN, 1.0, 2.0], [1.0, f32::NAN, 2.0], [1.0, 2.0, f32::NAN]] {
            assert!(largest(values.into_iter()).is_nan(), "{values:?}");
        }
    }

    #[test]
    fn a_prompt_is_read_whole_one_by_one_and_in_halves() {
        assert_eq!(pieces(5, false), [vec![5], vec![1; 5], vec![2, 3]]);
        assert_eq!(pieces(5, true), [vec![5], vec![1; 5]]);
        assert_eq!(pieces(1, false), [[1], [1]]);
    }

    #[test]
    fn a_difference_only_with_a_cache_is_detected() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/runtime/intact/model.onnx");
        let export = ModelProto::decode(Bytes::from(fs::read(path).unwrap())).unwrap();
        let mut sound = export.clone();
        let report = super::super::prepare(&mut sound, Path::new("."), None).unwrap();
        let mut wrong = sound.clone();
        let graph = wrong.graph.as_mut().unwrap();
        let past = "past_key_values.0.value";
        for input in graph.node.iter_mut().flat_map(|node| &mut node.input).filter(|input| *input == past) {
            *input = "doubled".to_owned();
        }
        graph.node.insert(0, crate::onnx::node("Add", "double", [past, past], ["doubled"]));

        let runtime = Runtime::find().unwrap_or_else(|error| panic!("{error}"));
        let open = |model: &ModelProto| {
            let mut builder = Session::builder(runtime.environment()).unwrap();
            builder.commit_from_memory(&model.encode_to_vec()).unwrap()
        };
        let check = |graph, prompt: &[u32]| {
            compare(open(&export), open(graph), report.clone(), prompt.to_vec()).unwrap()
        };
        let found = check(&sound, &[3, 1, 2]);
        assert!(found.passed() && found.rows == 1 + 3 + 2, "{found:?}");
        assert!(!check(&wrong, &[3, 1, 2]).passed());
        // Nothing is read behind a single token.
        assert!(check(&wrong, &[3]).passed());
    }

    #[test]
    fn a_flattened_head_equals_the_export() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/runtime/gemm-head");
        let folder = tempfile::tempdir().unwrap();
        fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
        let bytes = Bytes::from(fs::read(source.join("model.onnx")).unwrap());
        let mut model = ModelProto::decode(bytes).unwrap();
        let nodes = &mut model.graph.as_mut().unwrap().node;
        let head = nodes.iter_mut().find(|node| node.op_type() == "Gemm").unwrap();
        head.op_type = Some("MatMul".to_owned());
        head.input.truncate(2);
        head.attribute.clear();
        fs::write(folder.path().join("model.onnx"), model.encode_to_vec()).unwrap();

        let runtime = Runtime::find().unwrap_or_else(|error| panic!("{error}"));
        let check = check_prepared(&runtime, folder.path(), &CheckOptions::default()).unwrap();
        assert_eq!(check.report.head_operator, "MatMul");
        assert!(check.report.tied && check.passed(), "{check:?}");
    }

    #[cfg(unix)]
    #[test]
    fn external_data_of_a_node_is_read_through_links() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/parity/tiny-qwen2");
        let repository = tempfile::tempdir().unwrap();
        let (folder, blobs) = (repository.path().join("snapshots/1"), repository.path().join("blobs"));
        for folder in [&folder, &blobs] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::copy(source.join("config.json"), folder.join("config.json")).unwrap();
        let bytes = Bytes::from(fs::read(source.join("model.onnx")).unwrap());
        let mut model = ModelProto::decode(bytes).unwrap();
        fs::write(blobs.join("hash"), move_constant_to(&mut model, "constant")).unwrap();
        std::os::unix::fs::symlink("../../blobs/hash", folder.join("constant")).unwrap();
        fs::write(folder.join("model.onnx"), model.encode_to_vec()).unwrap();

        let runtime = Runtime::find().unwrap_or_else(|error| panic!("{error}"));
        let check = check_prepared(&runtime, &folder, &CheckOptions::default()).unwrap();
        assert!(check.passed(), "{check:?}");
    }
}
