//! ONNX models as data: protobuf types, an index over a graph, and weights.
//!
//! The types are generated from `proto/onnx.proto` by `cargo xtask codegen`. The schema is complete, because prost drops unknown
//! fields, and a dropped field would change the model.

mod build;
mod external;
mod graph;
#[expect(clippy::all, unreachable_pub, reason = "generated from onnx.proto")]
mod proto;
mod quantized;
mod tensors;
mod weights;

pub(crate) use build::{
    constant, float_tensor, if_node, int64_scalar, int64_tensor, node, set_dim, tensor_value,
};
pub(crate) use external::{ExternalFiles, external_locations};
pub(crate) use graph::GraphIndex;
#[cfg(test)]
pub(crate) use proto::StringStringEntryProto;
pub(crate) use proto::{
    GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, attribute_proto, tensor_proto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
pub(crate) use quantized::{Blocks, Codebook, Stored, Table};
pub(crate) use weights::{Element, Matrix, Weights};
