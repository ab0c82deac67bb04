//! The source's half of a hand-over: it needs the map, not the target.

use avp_core::OwnedModelIdentity;

use super::{
    AvpMap, MapModel, ProjectOptions, Projection, RosettaError, calibrate::Side, connect::LoadedSide,
    project::nearest_cosine,
};
use avp_runtime_ort::{Context, Model, RunError};

/// A model with a map from its hidden states to another model's input space. The other model may be in another process: it
/// reads the vector as [`Prompt::Vectors`](avp_runtime_ort::Prompt::Vectors).
///
/// ```
/// # use avp_rosetta::{AvpMap, Projector};
/// # use avp_runtime_ort::*;
/// # let runtime = Runtime::find()?;
/// # let load = |name: &str| Model::load(&runtime, format!("../test-vectors/{name}"), &LoadOptions::default());
/// let map = AvpMap::load("../test-vectors/rosetta/peer.avp-map".as_ref()).map_err(avp_rosetta::RosettaError::from)?;
/// let source = Projector::new(&load("parity/tiny-qwen2")?, map)?;
/// let thought = source.model().think("Rosa has a parrot.", None, &ThinkOptions::steps(2))?.into_context()?;
/// let vector = source.project_context(&thought)?.vector;
/// // Elsewhere:
/// let read = load("rosetta/tiny-other")?.think(Prompt::Vectors(vector), None, &ThinkOptions::steps(0))?;
/// # assert_eq!(read.context.map(|context| context.seq_len()), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Projector {
    source: LoadedSide,
    map: AvpMap,
    options: ProjectOptions,
}

impl Projector {
    /// Takes a map as it is.
    ///
    /// # Errors
    /// When it is from another model; the first field that differs is named.
    pub fn new(source: &Model, map: AvpMap) -> Result<Self, RosettaError> {
        check_end(&map.source, source.identity(), ["source_hash", "source_dim"])?;
        Ok(Self::of(LoadedSide::new(source), map))
    }

    /// A map that was just made for `source`.
    pub(super) fn of(source: LoadedSide, map: AvpMap) -> Self {
        Self { source, map, options: ProjectOptions::default() }
    }

    /// Projects with other options than the default.
    #[must_use]
    pub fn with_options(self, options: ProjectOptions) -> Self {
        Self { options, ..self }
    }

    /// The model that thinks.
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
    /// When it has another width or is not finite.
    pub fn project(&self, hidden: &[f32]) -> Result<Projection, RosettaError> {
        self.map.project(hidden, self.source.head()?, &self.options)
    }

    /// Projects the last hidden state of a context.
    ///
    /// # Errors
    /// When the context is another model's, or has no hidden state because it was received.
    pub fn project_context(&self, context: &Context) -> Result<Projection, RosettaError> {
        self.project(self.hidden_state(context)?)
    }

    /// The largest cosine similarity of a projected vector and an embedding it was made of; `None` for learned maps. Reads
    /// all of them, which projecting does not.
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

/// # Errors
/// When an end of a map is another model's.
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
