//! Resizes the tensors of a KV-cache along `seq_len`, on any device.
//!
//! ONNX Runtime has no API for copies within a device, but its operators copy: a graph with one `Pad`, which crops if the padding
//! is negative.

use ort::{
    memory::MemoryInfo,
    session::{IoBinding, Session, builder::GraphOptimizationLevel},
    value::{DynTensor, Tensor},
};
use prost::Message;

use super::device::{Device, Memory};
use crate::{
    ModelError, RunError,
    onnx::{GraphProto, ModelProto, node, tensor_proto::DataType, tensor_value},
    prepare::CacheLayout,
    runtime::Runtime,
};

/// Resizes by a session that is created on first use.
pub(super) struct Resizer {
    runtime: Runtime,
    device: Device,
    layout: CacheLayout,
    loaded: Option<Loaded>,
}

pub(super) struct Loaded {
    // Declared before the session, so that it is dropped first.
    binding: IoBinding,
    session: Session,
}

impl Resizer {
    pub(super) fn new(runtime: &Runtime, device: Device, layout: CacheLayout) -> Self {
        Self { runtime: runtime.clone(), device, layout, loaded: None }
    }

    /// The session, created on first use.
    ///
    /// # Errors
    /// When ONNX Runtime does not support `Pad` in the layout's number format on this device.
    pub(super) fn load(&mut self) -> Result<&mut Loaded, ModelError> {
        let loaded = match self.loaded.take() {
            Some(loaded) => loaded,
            None => Loaded::new(&self.runtime, self.device, &self.layout)?,
        };
        Ok(self.loaded.insert(loaded))
    }

    /// Both tensors of each layer, `[1, num_kv_heads, from, head_dim]`, resized to `to` rows: the first rows of each, followed by
    /// zeros.
    ///
    /// # Errors
    /// When there is not enough memory, or [`load`](Self::load) fails.
    pub(super) fn resize_all(
        &mut self,
        layers: &[[DynTensor; 2]],
        from: usize,
        to: usize,
        memory: &Memory,
    ) -> Result<Vec<[DynTensor; 2]>, RunError> {
        let refused = |error: ModelError| RunError::Runtime { message: error.to_string() };
        let loaded = self.load().map_err(refused)?;
        let mut resize = |tensor| loaded.resize(tensor, from, to, &memory.device);
        layers.iter().map(|[key, value]| Ok([resize(key)?, resize(value)?])).collect()
    }
}

impl Loaded {
    fn new(runtime: &Runtime, device: Device, layout: &CacheLayout) -> Result<Self, ModelError> {
        let builder = Session::builder(runtime.environment())?
            // A single operator needs no optimization and no parallelism.
            .with_optimization_level(GraphOptimizationLevel::Disable)?
            .with_intra_threads(1)?
            // Each length is a new shape, and its memory plan would not be reused.
            .with_memory_pattern(false)?;
        let session = device.register(runtime, builder)?.commit_from_memory(&graph(layout))?;
        let binding = session.create_binding()?;
        Ok(Self { binding, session })
    }

    fn resize(
        &mut self,
        tensor: &DynTensor,
        from: usize,
        to: usize,
        device: &MemoryInfo<'_>,
    ) -> Result<DynTensor, RunError> {
        let mut pads = vec![0; 8];
        // Starts of the four axes, then their ends. Lengths of existing tensors are far below 2^63.
        pads[6] = to as i64 - from as i64;
        self.binding.bind_input("data", tensor)?;
        self.binding.bind_input("pads", &Tensor::from_array(([8], pads))?)?;
        self.binding.bind_output_to_device("resized", device)?;
        let resized =
            self.session.run_binding(&self.binding).map_err(RunError::from).and_then(|mut values| {
                let value = values.remove("resized");
                let value =
                    value.ok_or_else(|| RunError::Runtime { message: "missing output resized".into() })?;
                Ok(value.downcast()?)
            });
        self.binding.clear();
        resized
    }
}

fn graph(layout: &CacheLayout) -> Vec<u8> {
    let elem_type = match layout.dtype {
        avp_core::KvDType::Float32 => DataType::Float,
        avp_core::KvDType::Float16 => DataType::Float16,
        avp_core::KvDType::BFloat16 => DataType::Bfloat16,
    } as i32;
    let tensor = |name: &str, length| {
        let sizes = [Ok(1), Ok(layout.num_kv_heads as i64), Err(length), Ok(layout.head_dim as i64)];
        tensor_value(name, elem_type, &sizes)
    };
    let graph = GraphProto {
        name: Some("resize".to_owned()),
        node: vec![node("Pad", "pad", ["data", "pads"], ["resized"])],
        input: vec![tensor("data", "from"), tensor_value("pads", DataType::Int64 as i32, &[Ok(8)])],
        output: vec![tensor("resized", "to")],
        ..GraphProto::default()
    };
    let mut model = ModelProto { ir_version: Some(8), graph: Some(graph), ..ModelProto::default() };
    // The first operator set whose `Pad` supports every number format of a cache.
    model.opset_import.push(Default::default());
    model.opset_import[0].version = Some(13);
    model.encode_to_vec()
}
