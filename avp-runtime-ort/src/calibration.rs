//! What was measured about latent steps on one model, and the options that follow from it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Model, ModelError, RunError, StepForm, StepLimits, ThinkOptions, cache_folder};

/// What `avp calibrate` found out about latent steps on one model.
///
/// It is kept beside the prepared graphs, under the hash of the weights.
///
/// ```
/// use avp_runtime_ort::{Error, LoadOptions, Model, RunError, Runtime, ThinkOptions};
///
/// let model = Model::load(&Runtime::find()?, "../models/facts", &LoadOptions::default())?;
/// let options = match ThinkOptions::calibrated(&model) {
///     Err(RunError::NotCalibrated) => ThinkOptions::default(),
///     found => found?,
/// };
/// model.think("Notes: Rosa has a parrot.", None, &options)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The version of this format, [`Calibration::FORMAT`].
    pub format: u32,
    /// [`Fingerprint::weights_hash`](crate::Fingerprint) of the model.
    pub weights_hash: String,
    /// The form that did best.
    pub form: StepForm,
    /// Number of steps in that form that answered best; 0 where no number of steps in any form did better than none.
    pub steps: usize,
    /// Most steps in that form without harm.
    pub max_steps: usize,
    /// Limits of the state, from positions of text.
    pub limits: StepLimits,
    /// Seed of the questions.
    pub seed: u64,
    /// Every form and number of steps that was tried, none first.
    pub measured: Vec<MeasuredSteps>,
}

/// One number of steps in one form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredSteps {
    /// The form.
    pub form: StepForm,
    /// The number of steps.
    pub steps: usize,
    /// Texts that were continued.
    pub texts: usize,
    /// How much more surprising, in nats a token, the continuation of a text is than without steps: the mean over the texts.
    pub surprise: f64,
    /// The 95 % interval of that mean.
    pub surprise_interval: [f64; 2],
    /// Questions asked.
    pub questions: usize,
    /// Questions whose answer holds the reference.
    pub right: usize,
    /// Of the questions that are right without steps, those that still are.
    pub kept: usize,
    /// Median norm of the hidden state behind the last step.
    pub norm: f64,
    /// Median entropy of the next token behind the last step, in nats.
    pub entropy: f64,
}

impl Calibration {
    /// The version of the format that this release writes and reads.
    pub const FORMAT: u32 = 1;

    /// Writes it to where [`Model::calibration`] finds it; an earlier one is replaced as a whole.
    ///
    /// # Errors
    /// When there is no [`cache_folder`], or the file cannot be written.
    pub fn save(&self) -> Result<PathBuf, ModelError> {
        let path = path(&self.weights_hash).ok_or_else(|| ModelError::Calibration {
            path: PathBuf::new(),
            message: "no cache folder: set AVP_CACHE_DIR".to_owned(),
        })?;
        let failed = |message: String| ModelError::Calibration { path: path.clone(), message };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.to_string()))?;
        let write = |folder: &std::path::Path| -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        write(path.parent().unwrap_or(&path)).map_err(|error| failed(error.to_string()))?;
        Ok(path)
    }
}

impl Model {
    /// The model's calibration, if `avp calibrate` has made one.
    ///
    /// # Errors
    /// When its file cannot be read, is damaged or of another format, or belongs to other weights.
    pub fn calibration(&self) -> Result<Option<Calibration>, ModelError> {
        let weights_hash = &self.facts().fingerprint.weights_hash;
        let Some(path) = path(weights_hash) else { return Ok(None) };
        let failed = |message: String| ModelError::Calibration { path: path.clone(), message };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let found: Calibration = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        if found.format != Calibration::FORMAT {
            return Err(failed(format!("expected format {}, got {}", Calibration::FORMAT, found.format)));
        }
        if found.weights_hash != *weights_hash {
            return Err(failed(format!(
                "expected one of weights {weights_hash}, got one of {}",
                found.weights_hash
            )));
        }
        Ok(Some(found))
    }
}

impl ThinkOptions {
    /// The steps that did best on `model`, in their form, ended early where the state leaves what text leads to.
    ///
    /// # Errors
    /// [`RunError::NotCalibrated`] without a calibration; [`RunError::Calibration`] where it cannot be used.
    pub fn calibrated(model: &Model) -> Result<Self, RunError> {
        let found =
            model.calibration().map_err(|error| RunError::Calibration { message: error.to_string() })?;
        let found = found.ok_or(RunError::NotCalibrated)?;
        Ok(Self { form: found.form, limits: Some(found.limits), ..Self::steps(found.steps) })
    }
}

/// The file of a model's calibration.
fn path(weights_hash: &str) -> Option<PathBuf> {
    Some(cache_folder()?.join("calibrated").join(format!("{weights_hash}.json")))
}
