//! The outputs of a run other than the cache.

use std::{borrow::Cow, time::Duration};

use ort::{
    session::{IoBinding, SessionOutputs},
    value::{DynTensor, TensorElementType},
};

use super::device::Memory;
use crate::{
    RunError,
    conventions::{LOGITS, prepared as names},
    step_form::StepInputs,
};

/// The requested outputs of a run, apart from the cache. Other outputs stay on the device; `next_latent` is computed only if
/// requested.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Want {
    /// Logits of the last position.
    pub(crate) logits: bool,
    /// The hidden state of the last position, after the final norm.
    pub(crate) hidden: bool,
    /// The latent input of the next step, in this form.
    pub(crate) next_latent: Option<StepInputs>,
}

impl Want {
    pub(crate) const LOGITS: Self = Self { logits: true, hidden: false, next_latent: None };

    pub(super) fn bind(self, binding: &mut IoBinding, memory: &Memory) -> ort::Result<()> {
        if self.logits {
            binding.bind_output_to_device(LOGITS, &memory.host)?;
        }
        if self.hidden {
            binding.bind_output_to_device(names::LAST_HIDDEN, &memory.host)?;
        }
        if self.next_latent.is_some() {
            binding.bind_output_to_device(names::NEXT_LATENT, &memory.device)?;
        }
        Ok(())
    }
}

/// The outputs of a run, apart from the cache.
pub(crate) struct Outputs {
    logits: Option<DynTensor>,
    hidden: Option<DynTensor>,
    next_latent: Option<DynTensor>,
    /// Time spent in ONNX Runtime.
    pub(crate) run_time: Duration,
}

impl Outputs {
    pub(super) fn take(
        values: &mut SessionOutputs<'_>,
        want: Want,
        run_time: Duration,
    ) -> Result<Self, RunError> {
        let mut take = |wanted: bool, name: &str| -> Result<Option<DynTensor>, RunError> {
            let value = if wanted { Some(values.remove(name).ok_or_else(|| missing(name))?) } else { None };
            Ok(value.map(ort::value::Value::downcast).transpose()?)
        };
        Ok(Self {
            logits: take(want.logits, LOGITS)?,
            hidden: take(want.hidden, names::LAST_HIDDEN)?,
            next_latent: take(want.next_latent.is_some(), names::NEXT_LATENT)?,
            run_time,
        })
    }

    /// Logits of the last position, `[vocab_size]`.
    ///
    /// # Errors
    /// When they were not requested.
    pub(crate) fn logits(&self) -> Result<Cow<'_, [f32]>, RunError> {
        to_f32(self.logits.as_ref().ok_or_else(|| missing(LOGITS))?)
    }

    /// The hidden state of the last position, `[hidden_size]`.
    ///
    /// # Errors
    /// When it was not requested.
    pub(crate) fn last_hidden(&self) -> Result<Vec<f32>, RunError> {
        let hidden = self.hidden.as_ref().ok_or_else(|| missing(names::LAST_HIDDEN))?;
        Ok(to_f32(hidden)?.into_owned())
    }

    /// The latent input of the next step, `[1, 1, hidden_size]`, on the device.
    ///
    /// # Errors
    /// When it was not requested, or was taken before.
    pub(crate) fn take_next_latent(&mut self) -> Result<DynTensor, RunError> {
        self.next_latent.take().ok_or_else(|| missing(names::NEXT_LATENT))
    }
}

/// The elements of a tensor as float32, borrowed if possible.
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

fn missing(name: &str) -> RunError {
    RunError::Runtime { message: format!("missing output {name}") }
}
