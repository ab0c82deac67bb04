//! From what one model thought to what another answers.

use super::{
    AvpMap, CalibrateOptions, MapFolder, Method, ProjectOptions, Projection, Projector, QualityConfig,
    RosettaError, TransferQuality, ValidateOptions, Validation, assess_transfer, calibrate,
    connect::LoadedSide, projector::check_end, validate,
};
use avp_runtime_ort::{
    Context, GenerateOptions, Generation, Model, Prompt, ThinkOptions, TransferDiagnostics,
};

/// Two models, and a map from the hidden states of the first to the input space of the second. Any thread may use it.
///
/// ```
/// # use avp_rosetta::Rosetta;
/// # use avp_runtime_ort::*;
/// # let runtime = Runtime::find()?;
/// # let load = |name: &str| Model::load(&runtime, format!("../test-vectors/{name}"), &LoadOptions::default());
/// let (source, target) = (load("parity/tiny-qwen2")?, load("rosetta/tiny-wide")?);
/// let rosetta = Rosetta::between(&source, &target)?;
/// let answer = rosetta.generate("Where does Rosa live?", 8, &GenerateOptions::default())?;
/// assert_eq!(answer.generation.context_tokens, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Rosetta {
    projector: Projector,
    target: LoadedSide,
    quality: QualityConfig,
}

/// How contexts are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TransferOptions {
    /// How to project.
    pub project: ProjectOptions,
    /// When to advise against a transfer. The advice is given with the transfer, which happens all the same, as in `avp`
    /// 0.6.2.
    pub quality: QualityConfig,
}

/// A context of the target that holds what the source thought, and how it came to be.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// One position: the projected vector, read by the target. Put it in front of the target's prompt.
    pub context: Context,
    /// The vector and what it was made of.
    pub projection: Projection,
    /// Whether one vector is likely to be enough.
    pub quality: TransferQuality,
    /// The map's method.
    pub method: Method,
}

/// What the target answered.
#[derive(Debug, Clone)]
pub struct CrossGeneration {
    /// The answer.
    pub generation: Generation,
    /// What was handed over for it.
    pub transfer: Transfer,
}

impl Rosetta {
    /// Takes the pair's map from [`MapFolder::from_env`] where there is one, else makes one through the vocabulary, which
    /// learns nothing and takes no longer than reading the weights. Nothing is written.
    ///
    /// # Errors
    /// When both models are one, the stored map cannot be used, or the vocabularies share too few tokens.
    pub fn between(source: &Model, target: &Model) -> Result<Self, RosettaError> {
        let hashes = (&source.identity().model_hash, &target.identity().model_hash);
        // Without a folder there is no stored map: no reason not to make one.
        match MapFolder::from_env().ok().map(|folder| folder.load(hashes.0, hashes.1)).transpose()?.flatten()
        {
            Some(map) => Self::with_map(source, target, map),
            None => Self::calibrate(source, target, &CalibrateOptions::default()),
        }
    }

    /// Makes a new map.
    ///
    /// # Errors
    /// When both models are one, or the method asked for is not for them; the error says what it needs.
    pub fn calibrate(
        source: &Model,
        target: &Model,
        options: &CalibrateOptions,
    ) -> Result<Self, RosettaError> {
        check_pair(source, target)?;
        let source = LoadedSide::new(source);
        let map = calibrate::calibrate(&source, &LoadedSide::new(target), options)?;
        let projector = Projector::of(source, map);
        // Not the side that calibrating used: the map holds what it needs of the target's weights.
        Ok(Self { projector, target: LoadedSide::new(target), quality: QualityConfig::default() })
    }

    /// Takes a map as it is.
    ///
    /// # Errors
    /// When it is for other models; the first field that differs is named.
    pub fn with_map(source: &Model, target: &Model, map: AvpMap) -> Result<Self, RosettaError> {
        check_pair(source, target)?;
        let projector = Projector::new(source, map)?;
        check_end(&projector.map().target, target.identity(), ["target_hash", "target_dim"])?;
        Ok(Self { projector, target: LoadedSide::new(target), quality: QualityConfig::default() })
    }

    /// Hands over with other options than the default.
    #[must_use]
    pub fn with_options(self, options: TransferOptions) -> Self {
        let projector = self.projector.with_options(options.project);
        Self { projector, quality: options.quality, ..self }
    }

    /// The source with the map.
    pub fn projector(&self) -> &Projector {
        &self.projector
    }

    /// The model that thinks.
    pub fn source(&self) -> &Model {
        self.projector.model()
    }

    /// The model that answers.
    pub fn target(&self) -> &Model {
        self.target.model()
    }

    /// The map.
    pub fn map(&self) -> &AvpMap {
        self.projector.map()
    }

    /// Hands over what the source thought: its last hidden state, projected, stands as one input embedding in front of all
    /// that the target will read, as in `avp` 0.6.2.
    ///
    /// # Errors
    /// When the context is not the source's, or has no hidden state because it was received.
    pub fn transfer(&self, context: &Context) -> Result<Transfer, RosettaError> {
        let hidden = self.projector.hidden_state(context)?;
        let prompt_tokens = context.seq_len().saturating_sub(context.num_steps());
        self.transfer_state(hidden, prompt_tokens, context.num_steps())
    }

    /// As [`transfer`](Self::transfer), of a hidden state after the source's final norm that was kept alone
    /// ([`ThinkOptions::keep_context`]) or received; `prompt_tokens` and `num_steps` say how the source came to it.
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

    /// The source thinks about `prompt` for `steps` latent steps, and the target answers the same prompt with that in front
    /// of it. Where the two read different prompts, use [`Model::think`], [`transfer`](Self::transfer) and
    /// [`Model::generate`].
    ///
    /// # Errors
    /// As those three.
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

    /// What there is to say of a transfer, with the fields and words of `avp` 0.6.2; what is said of an answer stays empty. Reads
    /// all of the embeddings for the nearest one, which the transfer did not.
    ///
    /// # Errors
    /// When the transfer is another pair's and its vector has another width.
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
            // The peer has no numbers for learned maps.
            hidden_state_norm: (!learned).then_some(transfer.projection.hidden_state_norm.into()),
            nearest_cos_sim: nearest.map(f64::from),
            ..TransferDiagnostics::default()
        })
    }

    /// Tries the map on a few texts: first the direction of the projected vectors, then what the target makes of them.
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
