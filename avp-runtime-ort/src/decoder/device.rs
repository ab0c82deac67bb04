//! Devices of sessions and of their values.

#[cfg(feature = "cuda")]
use ort::ep;
use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::builder::SessionBuilder,
};

use crate::{ModelError, runtime::Runtime};

/// The device on which a model computes. There is no fallback: an unavailable device is an error that names the missing part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The CPU.
    #[default]
    Cpu,
    /// An NVIDIA GPU. Requires the `cuda` feature, an ONNX Runtime library built for CUDA, and CUDA with cuDNN.
    Cuda {
        /// The device number of `nvidia-smi`, from 0.
        id: u32,
        /// Maximum size of ONNX Runtime's memory arena on the device in bytes; `None` for no limit.
        memory_limit: Option<usize>,
    },
}

/// Memory to which outputs are bound.
pub(super) struct Memory {
    /// Memory of the next run's inputs.
    pub(super) device: MemoryInfo<'static>,
    /// Memory that this crate reads.
    pub(super) host: MemoryInfo<'static>,
}

impl Device {
    /// Sets the device of sessions of `builder`.
    ///
    /// # Errors
    /// When the device is not available.
    pub(super) fn register(
        self,
        runtime: &Runtime,
        builder: SessionBuilder,
    ) -> Result<SessionBuilder, ModelError> {
        match self {
            Self::Cpu => Ok(builder),
            Self::Cuda { id, memory_limit } => {
                let refuse = |message| ModelError::Device { device: format!("CUDA device {id}"), message };
                runtime.check_cuda().map_err(refuse)?;
                let id = i32::try_from(id).map_err(|_| refuse("no device with this number".to_owned()))?;
                cuda(builder, id, memory_limit).map_err(refuse)
            }
        }
    }

    pub(super) fn memory(self) -> ort::Result<Memory> {
        let at = |device, id| MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default);
        let host = at(AllocationDevice::CPU, 0)?;
        let device = match self {
            Self::Cpu => at(AllocationDevice::CPU, 0)?,
            // The number was checked by `register`.
            Self::Cuda { id, .. } => at(AllocationDevice::CUDA, i32::try_from(id).unwrap_or(i32::MAX))?,
        };
        Ok(Memory { device, host })
    }
}

#[cfg(feature = "cuda")]
fn cuda(builder: SessionBuilder, id: i32, memory_limit: Option<usize>) -> Result<SessionBuilder, String> {
    let provider = ep::CUDA::default()
        .with_device_id(id)
        // A growing KV-cache does not fit a block of its earlier sizes: an arena that grows by the requested size would hold
        // the sum of all sizes.
        .with_arena_extend_strategy(ep::ArenaExtendStrategy::NextPowerOfTwo);
    let provider = match memory_limit {
        Some(limit) => provider.with_memory_limit(limit),
        None => provider,
    };
    builder
        // Without it, ONNX Runtime silently continues without the requested provider.
        .with_execution_providers([provider.build().error_on_failure()])
        .map_err(|error| error.message().to_owned())
}

/// The check for CUDA has failed before this if the feature is missing.
#[cfg(not(feature = "cuda"))]
fn cuda(builder: SessionBuilder, _id: i32, _memory_limit: Option<usize>) -> Result<SessionBuilder, String> {
    Ok(builder)
}
