//! What was measured about latent steps on one model, and the options that follow from it.

use std::{path::PathBuf, str::FromStr};

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

/// A number of latent steps, or what the model's calibration says.
///
/// ```
/// use avp_runtime_ort::Steps;
///
/// assert_eq!("8".parse(), Ok(Steps::Number(8)));
/// assert_eq!("auto".parse(), Ok(Steps::Auto));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub enum Steps {
    /// So many.
    Number(usize),
    /// The calibrated number, in the calibrated form. Written as `auto`.
    Auto,
}

/// A text that is neither a number of steps nor `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of latent steps, or \"auto\"")]
pub struct UnknownSteps;

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(usize),
    Word(String),
}

impl TryFrom<Written> for Steps {
    type Error = UnknownSteps;

    fn try_from(written: Written) -> Result<Self, UnknownSteps> {
        match written {
            Written::Number(steps) => Ok(Self::Number(steps)),
            Written::Word(word) if word == "auto" => Ok(Self::Auto),
            Written::Word(_) => Err(UnknownSteps),
        }
    }
}

impl FromStr for Steps {
    type Err = UnknownSteps;

    fn from_str(text: &str) -> Result<Self, UnknownSteps> {
        match text {
            "auto" => Ok(Self::Auto),
            number => number.parse().map(Self::Number).map_err(|_| UnknownSteps),
        }
    }
}

impl Default for Steps {
    /// None.
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Steps {
    /// The options of these steps on `model`; a number is taken in `form`, else in the peer's.
    ///
    /// # Errors
    /// As [`ThinkOptions::calibrated`]; [`RunError::CalibratedForm`] where a form is named for the calibrated steps.
    pub fn options(self, model: &Model, form: Option<StepForm>) -> Result<ThinkOptions, RunError> {
        match (self, form) {
            (Self::Number(steps), form) => {
                Ok(ThinkOptions { form: form.unwrap_or_default(), ..ThinkOptions::steps(steps) })
            }
            (Self::Auto, None) => ThinkOptions::calibrated(model),
            (Self::Auto, Some(_)) => Err(RunError::CalibratedForm),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_a_number_or_a_word() {
        let read = |json: &str| serde_json::from_str::<Steps>(json);
        assert_eq!((read("8").unwrap(), read("\"auto\"").unwrap()), (Steps::Number(8), Steps::Auto));
        for wrong in ["-1", "1.5", "\"many\"", "\"8\"", "null"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!("-1".parse::<Steps>(), Err(UnknownSteps));
    }
}
