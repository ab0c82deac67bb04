//! The inputs and outputs of a prepared graph, and the values that each run binds to them.

use std::{fmt::Debug, ops::Range};

use ort::{
    memory::Allocator,
    session::{IoBinding, Session, SessionOutputs},
    value::{DynTensor, DynValue, PrimitiveTensorElementType, Tensor, TensorElementType},
};

use super::{Input, Want, device::Memory};
use crate::{
    ModelError, RunError,
    conventions::{INPUT_IDS, RunInput, past, prepared as names, present, row},
    prepare::CacheLayout,
    step_form::StepInputs,
};

/// The names that a run binds, and the values that are reused.
pub(super) struct Signature {
    cache_names: Vec<CacheNames>,
    /// The inputs that the positions of a run determine.
    run_inputs: Vec<RunInput>,
    constants: Constants,
    /// The current bindings of inputs that rarely change.
    bound: Option<Switches>,
}

struct CacheNames {
    past: [String; 2],
    present: [String; 2],
}

/// Values that never change.
struct Constants {
    /// A placeholder vector, which ordinary runs pass with a false mask.
    unused_latent: DynTensor,
    mask: [Tensor<bool>; 2],
    step: [Tensor<bool>; 2],
    any_id: Tensor<i64>,
}

/// The constants that a run binds.
#[derive(Clone, Copy, PartialEq)]
struct Switches {
    latent: bool,
    /// The form of the latent step, if one follows.
    step: Option<StepInputs>,
}

impl Signature {
    pub(super) fn new(
        session: &Session,
        layout: &CacheLayout,
        hidden_size: usize,
    ) -> Result<Self, ModelError> {
        let takes = |name: &str| session.inputs().iter().any(|input| input.name() == name);
        let latent = session.inputs().iter().find(|input| input.name() == names::LATENT_EMBEDS);
        let latent_type =
            latent.and_then(|input| input.dtype().tensor_type()).ok_or_else(|| ModelError::Runtime {
                message: format!("the prepared graph has no input {}", names::LATENT_EMBEDS),
            })?;
        let flag = |shape: &[usize], value| Tensor::from_array((shape.to_vec(), vec![value]));
        let constants = Constants {
            unused_latent: DynTensor::new(&Allocator::default(), latent_type, [1, 1, hidden_size])?,
            mask: [flag(&[1, 1, 1], false)?, flag(&[1, 1, 1], true)?],
            step: [flag(&[1], false)?, flag(&[1], true)?],
            any_id: row(vec![0])?,
        };
        Ok(Self {
            cache_names: (0..layout.num_layers).map(CacheNames::of_layer).collect(),
            run_inputs: RunInput::ALL.into_iter().filter(|input| takes(input.name())).collect(),
            constants,
            bound: None,
        })
    }

    /// Binds all inputs but the cache for a run over the positions `range`.
    pub(super) fn bind_inputs(
        &mut self,
        binding: &mut IoBinding,
        input: Input<'_>,
        range: Range<usize>,
        want: Want,
    ) -> ort::Result<()> {
        let switches = Switches { latent: matches!(input, Input::Latent(_)), step: want.next_latent };
        if self.bound != Some(switches) {
            self.bound = None;
            let constants = &self.constants;
            binding.bind_input(names::LATENT_MASK, &constants.mask[usize::from(switches.latent)])?;
            binding.bind_input(names::LATENT_STEP, &constants.step[usize::from(switches.step.is_some())])?;
            let form = switches.step.unwrap_or(StepInputs::HIDDEN);
            binding.bind_input(names::LATENT_TEMPERATURE, &one(form.temperature)?)?;
            binding.bind_input(names::LATENT_ROWS, &one(form.rows)?)?;
            binding.bind_input(names::LATENT_HIDDEN, &one(form.hidden)?)?;
            binding.bind_input(names::LATENT_RESCALE, &one(form.rescale)?)?;
            if !switches.latent {
                binding.bind_input(names::LATENT_EMBEDS, &constants.unused_latent)?;
            }
            for input in self.run_inputs.iter().filter(|input| input.is_constant()) {
                binding.bind_input(input.name(), &input.value(&range)?)?;
            }
            self.bound = Some(switches);
        }
        match input {
            Input::Tokens(tokens) => {
                binding.bind_input(INPUT_IDS, &row(tokens.iter().map(|&id| i64::from(id)).collect())?)?;
            }
            Input::Latent(latent) => {
                binding.bind_input(names::LATENT_EMBEDS, latent)?;
                // Any id: the mask replaces its embedding by the vector.
                match range.len() {
                    1 => binding.bind_input(INPUT_IDS, &self.constants.any_id)?,
                    length => binding.bind_input(INPUT_IDS, &row(vec![0; length])?)?,
                }
            }
        }
        for input in self.run_inputs.iter().filter(|input| !input.is_constant()) {
            binding.bind_input(input.name(), &input.value(&range)?)?;
        }
        Ok(())
    }

    pub(super) fn bind_past(&self, binding: &mut IoBinding, past: &[[DynTensor; 2]]) -> ort::Result<()> {
        for (names, layer) in self.cache_names.iter().zip(past) {
            for (name, tensor) in names.past.iter().zip(layer) {
                binding.bind_input(name, tensor)?;
            }
        }
        Ok(())
    }

    /// Binds the longer cache to new memory on the device.
    pub(super) fn bind_present(&self, binding: &mut IoBinding, memory: &Memory) -> ort::Result<()> {
        for name in self.cache_names.iter().flat_map(|names| &names.present) {
            binding.bind_output_to_device(name, &memory.device)?;
        }
        Ok(())
    }

    /// Binds the longer cache to `buffers`.
    pub(super) fn bind_shared(
        &self,
        binding: &mut IoBinding,
        buffers: &mut [[DynTensor; 2]],
    ) -> ort::Result<()> {
        for (names, layer) in self.cache_names.iter().zip(buffers) {
            for (name, tensor) in names.present.iter().zip(layer) {
                binding.bind_output(name, tensor)?;
            }
        }
        Ok(())
    }

    pub(super) fn take_present(
        &self,
        values: &mut SessionOutputs<'_>,
    ) -> Result<Vec<[DynValue; 2]>, RunError> {
        let mut take = |name: &str| {
            values.remove(name).ok_or_else(|| RunError::Runtime { message: format!("missing output {name}") })
        };
        let layers = self.cache_names.iter();
        layers.map(|names| Ok([take(&names.present[0])?, take(&names.present[1])?])).collect()
    }

    /// Latent vectors in the number format of the graph.
    pub(super) fn latents(&self, values: &[f32], shape: [usize; 3]) -> ort::Result<DynTensor> {
        Ok(match self.constants.unused_latent.data_type() {
            TensorElementType::Float16 => {
                let values: Vec<_> = values.iter().copied().map(half::f16::from_f32).collect();
                Tensor::from_array((shape, values))?.upcast()
            }
            TensorElementType::Bfloat16 => {
                let values: Vec<_> = values.iter().copied().map(half::bf16::from_f32).collect();
                Tensor::from_array((shape, values))?.upcast()
            }
            _ => Tensor::from_array((shape, values.to_vec()))?.upcast(),
        })
    }

    /// Resets the state after the binding was cleared.
    pub(super) fn forget(&mut self) {
        self.bound = None;
    }
}

/// A tensor `[1]`.
fn one<T: PrimitiveTensorElementType + Debug + Clone + 'static>(value: T) -> ort::Result<Tensor<T>> {
    Tensor::from_array(([1], vec![value]))
}

impl CacheNames {
    fn of_layer(layer: usize) -> Self {
        Self { past: [0, 1].map(|part| past(layer, part)), present: [0, 1].map(|part| present(layer, part)) }
    }
}
