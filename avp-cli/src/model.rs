//! The model a command runs, and the options to run it with.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use avp_runtime_ort::{Device, Dtype, LoadOptions, Model, OrtLibrary, Runtime};
use clap::Args;

/// The model to run, and the options to run it with.
#[derive(Args)]
pub(crate) struct ModelArgs {
    /// Folder with config.json, tokenizer.json and model.onnx
    #[arg(value_name = "MODEL_DIR")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// The options to run a model with.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
    /// Threads of one run, at most one for each core; 0 uses all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Let idle threads sleep at once: slower steps, but other processes get the core
    #[arg(long)]
    no_spinning: bool,
    /// Variant of the model: fp32, fp16, q4, q4f16, int8, uint8, bnb4 or quantized [default: model.onnx]
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<Dtype>,
    /// Device to run on: cpu, cuda, or cuda:N for the GPU with that number
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    device: Device,
    /// Most bytes that ONNX Runtime may allocate on the GPU
    #[arg(long, value_name = "BYTES")]
    gpu_memory: Option<usize>,
}

/// The ONNX Runtime library to load.
#[derive(Args)]
pub(crate) struct LibraryArgs {
    /// ONNX Runtime library [default: ORT_DYLIB_PATH, or where `avp doctor` finds one]
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime: Option<PathBuf>,
}

impl ModelArgs {
    pub(crate) fn runtime(&self) -> Result<Runtime> {
        self.run.library.runtime()
    }

    pub(crate) fn load(&self, runtime: &Runtime) -> Result<Model> {
        self.run.load(runtime, &self.folder)
    }
}

impl RunArgs {
    pub(crate) fn load(&self, runtime: &Runtime, folder: &Path) -> Result<Model> {
        Ok(Model::load(runtime, folder, &self.load_options())?)
    }

    fn load_options(&self) -> LoadOptions {
        let device = match self.device {
            Device::Cuda { id, .. } => Device::Cuda { id, memory_limit: self.gpu_memory },
            other => other,
        };
        LoadOptions {
            threads: self.threads,
            dtype: self.dtype,
            device,
            spinning: !self.no_spinning,
            ..LoadOptions::default()
        }
    }
}

impl LibraryArgs {
    pub(crate) fn runtime(&self) -> Result<Runtime> {
        load_runtime(&find_library(self.onnxruntime.as_deref())?)
    }
}

/// The library at `named`, else the first usable one on this machine.
pub(crate) fn find_library(named: Option<&Path>) -> Result<OrtLibrary> {
    OrtLibrary::find(named).map_err(with_advice)
}

pub(crate) fn load_runtime(library: &OrtLibrary) -> Result<Runtime> {
    Runtime::load(library).map_err(with_advice)
}

fn with_advice(error: avp_runtime_ort::LibraryError) -> anyhow::Error {
    anyhow!("{error}; `avp doctor` checks this machine")
}

pub(crate) fn device(name: &str) -> Result<Device, String> {
    let cuda = |id| Ok(Device::Cuda { id, memory_limit: None });
    match name.split_once(':') {
        None if name == "cpu" => Ok(Device::Cpu),
        None if name == "cuda" => cuda(0),
        Some(("cuda", id)) => {
            cuda(id.parse().map_err(|_| format!("expected the number of a GPU, got {id:?}"))?)
        }
        _ => Err("expected cpu, cuda or cuda:N".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_elsewhere() {
        assert_eq!(device("cpu"), Ok(Device::Cpu));
        assert_eq!(device("cuda"), Ok(Device::Cuda { id: 0, memory_limit: None }));
        assert_eq!(device("cuda:3"), Ok(Device::Cuda { id: 3, memory_limit: None }));
        for wrong in ["gpu", "cuda:", "cuda:x", "cpu:0", "CUDA", ""] {
            assert!(device(wrong).is_err(), "{wrong}");
        }
    }
}
