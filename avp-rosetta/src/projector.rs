//! The source's half of a transfer: it needs the map, not the target.

use avp_core::OwnedModelIdentity;

use super::{
    AvpMap, MapModel, ProjectOptions, Projection, RosettaError, calibrate::Side, connect::LoadedSide,
    project::nearest_cosine,
};
use avp_runtime_ort::{Context, Model, RunError};

/// A model with a map from its hidden states to another model's input space. The other model may be in another process; it
/// reads the vector as [`Prompt::Vectors`](avp_runtime_ort::Prompt::Vectors).
///
/// ```
/// use avp_rosetta::{AvpMap, Projector};
/// use avp_runtime_ort::{LoadOptions, Model, Runtime, ThinkOptions};
///
/// let model = Model::load(&Runtime::find()?, "../test-vectors/parity/tiny-qwen2", &LoadOptions::default())?;
/// let projector = Projector::new(&model, AvpMap::load("../test-vectors/rosetta/peer.avp-map".as_ref())?)?;
/// let context = model.think("Rosa has a parrot.", None, &ThinkOptions::steps(2))?.into_context()?;
/// let vector = projector.project_context(&context)?.vector;
/// assert_eq!(vector.len(), projector.map().target.hidden_dim as usize);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Projector {
    source: LoadedSide,
    map: AvpMap,
    options: ProjectOptions,
}

impl Projector {
    /// Pairs a model with a map from it.
    ///
    /// # Errors
    /// When the map is from another model. The error names the first field that differs.
    pub fn new(source: &Model, map: AvpMap) -> Result<Self, RosettaError> {
        check_end(&map.source, source.identity(), ["source_hash", "source_dim"])?;
        Ok(Self::of(LoadedSide::new(source), map))
    }

    /// Pairs `source` with a map just computed for it.
    pub(super) fn of(source: LoadedSide, map: AvpMap) -> Self {
        Self { source, map, options: ProjectOptions::default() }
    }

    /// Replaces the default options.
    #[must_use]
    pub fn with_options(self, options: ProjectOptions) -> Self {
        Self { options, ..self }
    }

    /// The source model.
    pub fn model(&self) -> &Model {
        self.source.model()
    }

    /// The map.
    pub fn map(&self) -> &AvpMap {
        &self.map
    }

    /// Projects a hidden state of the model, after its final norm.
    ///
    /// # Errors
    /// When the state has another width or is not finite.
    pub fn project(&self, hidden: &[f32]) -> Result<Projection, RosettaError> {
        self.map.project(hidden, self.source.head()?, &self.options)
    }

    /// Projects the last hidden state of a context.
    ///
    /// # Errors
    /// When the context belongs to another model, or has no hidden state because it was received.
    pub fn project_context(&self, context: &Context) -> Result<Projection, RosettaError> {
        self.project(self.hidden_state(context)?)
    }

    /// The largest cosine similarity of a projected vector to an embedding in the map; `None` for learned maps. Reads all
    /// embeddings, unlike projecting.
    ///
    /// # Errors
    /// When the vector has another width.
    pub fn nearest_cosine(&self, projection: &Projection) -> Result<Option<f32>, RosettaError> {
        self.map.table().map(|table| nearest_cosine(&projection.vector, table)).transpose()
    }

    pub(super) fn hidden_state<'c>(&self, context: &'c Context) -> Result<&'c [f32], RosettaError> {
        self.model().accepts(context).map_err(RunError::from)?;
        context.last_hidden_state().ok_or(RosettaError::NoHiddenState)
    }

    pub(super) fn side(&self) -> &LoadedSide {
        &self.source
    }
}

impl std::fmt::Debug for Projector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Projector")
            .field("model", self.model())
            .field("target", &self.map.target)
            .field("method", &self.map.method())
            .finish_non_exhaustive()
    }
}

/// Checks that one end of a map is `model`.
///
/// # Errors
/// When a field differs. The error names it.
pub(super) fn check_end(
    end: &MapModel,
    model: &OwnedModelIdentity,
    fields: [&'static str; 2],
) -> Result<(), RosettaError> {
    let values = [
        (model.model_hash.clone(), end.model_hash.clone()),
        (model.hidden_dim.to_string(), end.hidden_dim.to_string()),
    ];
    match fields.into_iter().zip(values).find(|(_, (expected, got))| expected != got) {
        Some((field, (expected, got))) => Err(RosettaError::OtherModels { field, expected, got }),
        None => Ok(()),
    }
}
