//! Where a session computes, and where its values lie.

#[cfg(feature = "cuda")]
use ort::ep;
use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::builder::SessionBuilder,
};

use crate::{ModelError, runtime::Runtime};

/// Where a model computes. There is no falling back: a device that cannot be had is an error that says what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU. Needs the `cuda` feature, an ONNX Runtime library that was built for CUDA, and CUDA with cuDNN.
    Cuda {
        /// As `nvidia-smi` counts, from 0.
        id: u32,
        /// Bytes that ONNX Runtime may take for itself on the device at most; `None` leaves it all of them.
        memory_limit: Option<usize>,
    },
}

/// Where outputs are bound to.
pub(super) struct Memory {
    /// Where the next run wants them.
    pub(super) device: MemoryInfo<'static>,
    /// Where this crate reads them.
    pub(super) host: MemoryInfo<'static>,
}

impl Device {
    /// Has sessions of `builder` compute here.
    ///
    /// # Errors
    /// When the device cannot be had.
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
                let id =
                    i32::try_from(id).map_err(|_| refuse("there is no device of this number".to_owned()))?;
                cuda(builder, id, memory_limit).map_err(refuse)
            }
        }
    }

    pub(super) fn memory(self) -> ort::Result<Memory> {
        let at = |device, id| MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default);
        let host = at(AllocationDevice::CPU, 0)?;
        let device = match self {
            Self::Cpu => at(AllocationDevice::CPU, 0)?,
            // Registering has checked the number.
            Self::Cuda { id, .. } => at(AllocationDevice::CUDA, i32::try_from(id).unwrap_or(i32::MAX))?,
        };
        Ok(Memory { device, host })
    }
}

#[cfg(feature = "cuda")]
fn cuda(builder: SessionBuilder, id: i32, memory_limit: Option<usize>) -> Result<SessionBuilder, String> {
    let provider = ep::CUDA::default()
        .with_device_id(id)
        // KV-caches come in ever larger sizes, and no block that was made for one holds the next: an arena that grows by
        // what was asked for would come to hold the sum of them all.
        .with_arena_extend_strategy(ep::ArenaExtendStrategy::NextPowerOfTwo);
    let provider = match memory_limit {
        Some(limit) => provider.with_memory_limit(limit),
        None => provider,
    };
    builder
        // Without it ONNX Runtime goes on without the provider that was asked for.
        .with_execution_providers([provider.build().error_on_failure()])
        .map_err(|error| error.message().to_owned())
}

/// Checking for CUDA has refused already where the feature is missing.
#[cfg(not(feature = "cuda"))]
fn cuda(builder: SessionBuilder, _id: i32, _memory_limit: Option<usize>) -> Result<SessionBuilder, String> {
    Ok(builder)
}
