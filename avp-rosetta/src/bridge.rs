//! `Rosetta`: two models and the map between them.

use super::{
    AvpMap, CalibrateOptions, MapFolder, Method, ProjectOptions, Projection, Projector, QualityConfig,
    RosettaError, TransferQuality, ValidateOptions, Validation, assess_transfer, calibrate,
    connect::LoadedSide, projector::check_end, validate,
};
use avp_runtime_ort::{
    Context, GenerateOptions, Generation, Model, Prompt, ThinkOptions, TransferDiagnostics,
};

/// Two models, and a map from the hidden states of the source to the input space of the target.
///
/// ```
/// use avp_rosetta::Rosetta;
/// use avp_runtime_ort::{GenerateOptions, LoadOptions, Model, Runtime, ThinkOptions};
///
/// let (runtime, options) = (Runtime::find()?, LoadOptions::default());
/// let source = Model::load(&runtime, "../test-vectors/parity/tiny-qwen2", &options)?;
/// let target = Model::load(&runtime, "../test-vectors/rosetta/tiny-wide", &options)?;
/// let context = source.think("Rosa lives in Lisbon.", None, &ThinkOptions::default())?.into_context()?;
/// let transfer = Rosetta::between(&source, &target)?.transfer(&context)?;
/// let answer = target.generate("Where?", Some(&transfer.context), &GenerateOptions::default())?;
/// assert_eq!(answer.context_tokens, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Rosetta {
    projector: Projector,
    target: LoadedSide,
    quality: QualityConfig,
}

/// Options of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TransferOptions {
    /// Options of the projection.
    pub project: ProjectOptions,
    /// Limits of the quality gate. It only advises: the transfer happens in any case, as in `avp` 0.6.2.
    pub quality: QualityConfig,
}

/// A context of the target made from the source's hidden state, and figures of its making.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// One position: the projected vector, read by the target. Pass it with the target's prompt.
    pub context: Context,
    /// The projected vector and its metrics.
    pub projection: Projection,
    /// The result of the quality gate.
    pub quality: TransferQuality,
    /// The map's method.
    pub method: Method,
}

/// The target's answer.
#[derive(Debug, Clone)]
pub struct CrossGeneration {
    /// The answer.
    pub generation: Generation,
    /// The transfer that it used.
    pub transfer: Transfer,
}

impl Rosetta {
    /// Loads the pair's map from [`MapFolder::from_env`], or computes one through the vocabulary, which takes no longer than
    /// reading the weights. Nothing is written.
    ///
    /// # Errors
    /// When source and target are the same model, the stored map is invalid, or the vocabularies share too few tokens.
    pub fn between(source: &Model, target: &Model) -> Result<Self, RosettaError> {
        let hashes = (&source.identity().model_hash, &target.identity().model_hash);
        // Without a folder there is no stored map.
        match MapFolder::from_env().ok().map(|folder| folder.load(hashes.0, hashes.1)).transpose()?.flatten()
        {
            Some(map) => Self::with_map(source, target, map),
            None => Self::calibrate(source, target, &CalibrateOptions::default()),
        }
    }

    /// Computes a new map.
    ///
    /// # Errors
    /// When source and target are the same model, or the method does not support them. The error names the requirement.
    pub fn calibrate(
        source: &Model,
        target: &Model,
        options: &CalibrateOptions,
    ) -> Result<Self, RosettaError> {
        check_pair(source, target)?;
        let source = LoadedSide::new(source);
        let map = calibrate::calibrate(&source, &LoadedSide::new(target), options)?;
        let projector = Projector::of(source, map);
        // A new side drops the weights read for calibration: the map holds a copy.
        Ok(Self { projector, target: LoadedSide::new(target), quality: QualityConfig::default() })
    }

    /// Uses an existing map.
    ///
    /// # Errors
    /// When the map belongs to other models. The error names the first field that differs.
    pub fn with_map(source: &Model, target: &Model, map: AvpMap) -> Result<Self, RosettaError> {
        check_pair(source, target)?;
        let projector = Projector::new(source, map)?;
        check_end(&projector.map().target, target.identity(), ["target_hash", "target_dim"])?;
        Ok(Self { projector, target: LoadedSide::new(target), quality: QualityConfig::default() })
    }

    /// Replaces the default options.
    #[must_use]
    pub fn with_options(self, options: TransferOptions) -> Self {
        let projector = self.projector.with_options(options.project);
        Self { projector, quality: options.quality, ..self }
    }

    /// The source and the map.
    pub fn projector(&self) -> &Projector {
        &self.projector
    }

    /// The source model.
    pub fn source(&self) -> &Model {
        self.projector.model()
    }

    /// The target model.
    pub fn target(&self) -> &Model {
        self.target.model()
    }

    /// The map.
    pub fn map(&self) -> &AvpMap {
        self.projector.map()
    }

    /// Projects the last hidden state of the source's `context`; the target reads the vector as its first input embedding, as
    /// in `avp` 0.6.2.
    ///
    /// # Errors
    /// When the context belongs to another model, or has no hidden state because it was received.
    pub fn transfer(&self, context: &Context) -> Result<Transfer, RosettaError> {
        let hidden = self.projector.hidden_state(context)?;
        let prompt_tokens = context.seq_len().saturating_sub(context.num_steps());
        self.transfer_state(hidden, prompt_tokens, context.num_steps())
    }

    /// As [`transfer`](Self::transfer), for a hidden state without its context, after the source's final norm
    /// ([`ThinkOptions::keep_context`]). `prompt_tokens` and `num_steps` are those of the source.
    ///
    /// # Errors
    /// When the state has another width or is not finite.
    pub fn transfer_state(
        &self,
        hidden: &[f32],
        prompt_tokens: usize,
        num_steps: usize,
    ) -> Result<Transfer, RosettaError> {
        let quality = assess_transfer(prompt_tokens, None, &self.quality)?;
        let projection = self.projector.project(hidden)?;
        let context = self.target.read_vector(&projection.vector, num_steps)?;
        Ok(Transfer { context, projection, quality, method: self.map().method() })
    }

    /// The source takes `steps` latent steps on `prompt`, and the target answers the same prompt behind the projected vector.
    /// For different prompts, use [`Model::think`], [`transfer`](Self::transfer) and [`Model::generate`].
    ///
    /// # Errors
    /// As those three methods.
    pub fn generate(
        &self,
        prompt: impl Into<Prompt>,
        steps: usize,
        options: &GenerateOptions,
    ) -> Result<CrossGeneration, RosettaError> {
        let prompt = prompt.into();
        let think = ThinkOptions { keep_context: false, ..ThinkOptions::steps(steps) };
        let thought = self.source().think(prompt.clone(), None, &think)?;
        let transfer = self.transfer_state(&thought.last_hidden_state, thought.prompt_tokens, steps)?;
        let generation = self.target().generate(prompt, Some(&transfer.context), options)?;
        Ok(CrossGeneration { generation, transfer })
    }

    /// Diagnostics of a transfer, with the fields and values of `avp` 0.6.2; the fields of an answer stay empty. Reads all
    /// embeddings to find the nearest one.
    ///
    /// # Errors
    /// When the transfer belongs to another pair and its vector has another width.
    pub fn diagnose(&self, transfer: &Transfer) -> Result<TransferDiagnostics, RosettaError> {
        let nearest = self.projector.nearest_cosine(&transfer.projection)?;
        let learned = transfer.projection.metrics.is_none();
        Ok(TransferDiagnostics {
            transfer_mode: "rosetta".to_owned(),
            source_model: Some(self.source().identity().model_id.clone()),
            target_model: Some(self.target().identity().model_id.clone()),
            prompt_tokens: transfer.quality.prompt_tokens,
            quality_gate_passed: Some(transfer.quality.recommend_latent),
            quality_gate_reason: transfer.quality.reason.clone(),
            projection_method: transfer.method.as_str().to_uppercase(),
            // The peer reports no figures for learned maps.
            hidden_state_norm: (!learned).then_some(transfer.projection.hidden_state_norm.into()),
            nearest_cos_sim: nearest.map(f64::from),
            ..TransferDiagnostics::default()
        })
    }

    /// Validates the map on a few texts: the cosine similarity of the projected vectors, then the target's perplexity.
    ///
    /// # Errors
    /// When a text has no tokens, or running a model fails.
    pub fn validate(&self, options: &ValidateOptions) -> Result<Validation, RosettaError> {
        validate::validate(self.projector.side(), &self.target, self.map(), options)
    }
}

fn check_pair(source: &Model, target: &Model) -> Result<(), RosettaError> {
    let hash = &source.identity().model_hash;
    if *hash == target.identity().model_hash {
        return Err(RosettaError::SameModel { hash: hash.clone() });
    }
    Ok(())
}
