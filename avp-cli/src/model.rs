//! The model a command runs, and what it runs it with.

use std::path::{Path, PathBuf};

use anyhow::Result;
use avp_runtime_ort::{Device, Dtype, LoadOptions, Model, OrtLibrary, Runtime};
use clap::Args;

/// The model to run, and what to run it with.
#[derive(Args)]
pub(crate) struct ModelArgs {
    /// Folder with config.json, tokenizer.json and model.onnx
    #[arg(value_name = "MODEL_DIR")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// What a model runs with.
#[derive(Args)]
pub(crate) struct HowArgs {
    /// ONNX Runtime library; otherwise ORT_DYLIB_PATH names it, or it is looked for where it is usually installed
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Threads of one run, at most one for each core; 0 takes all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Form of the model: fp32, fp16, q4, q4f16, int8, uint8, bnb4 or quantized; otherwise model.onnx
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<Dtype>,
    /// Where it computes: cpu, cuda, or cuda:N for the GPU of that number
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    device: Device,
    /// Bytes that ONNX Runtime may take on the GPU at most
    #[arg(long, value_name = "BYTES")]
    gpu_memory: Option<usize>,
}

impl ModelArgs {
    pub(crate) fn runtime(&self) -> Result<Runtime> {
        self.how.runtime()
    }

    pub(crate) fn load(&self, runtime: &Runtime) -> Result<Model> {
        self.how.load(runtime, &self.folder)
    }
}

impl HowArgs {
    pub(crate) fn runtime(&self) -> Result<Runtime> {
        Ok(Runtime::load(&OrtLibrary::find(self.onnxruntime.as_deref())?)?)
    }

    pub(crate) fn load(&self, runtime: &Runtime, folder: &Path) -> Result<Model> {
        Ok(Model::load(runtime, folder, &self.load_options())?)
    }

    fn load_options(&self) -> LoadOptions {
        let device = match self.device {
            Device::Cuda { id, .. } => Device::Cuda { id, memory_limit: self.gpu_memory },
            other => other,
        };
        LoadOptions { threads: self.threads, dtype: self.dtype, device, ..LoadOptions::default() }
    }
}

fn device(name: &str) -> Result<Device, String> {
    let cuda = |id| Ok(Device::Cuda { id, memory_limit: None });
    match name.split_once(':') {
        None if name == "cpu" => Ok(Device::Cpu),
        None if name == "cuda" => cuda(0),
        Some(("cuda", id)) => cuda(id.parse().map_err(|_| format!("{id:?} is no GPU's number"))?),
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
