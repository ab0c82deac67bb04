//! Constructors of nodes, tensors and value descriptions.

use bytes::Bytes;

use super::{
    GraphProto, NodeProto, TensorProto, ValueInfoProto,
    attribute_proto::AttributeType,
    proto::{AttributeProto, TensorShapeProto, TypeProto, tensor_shape_proto},
    tensor_proto::DataType,
    type_proto,
};

/// A node without attributes.
pub(crate) fn node<const I: usize, const O: usize>(
    op_type: &str,
    name: &str,
    inputs: [&str; I],
    outputs: [&str; O],
) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.to_owned()),
        name: Some(name.to_owned()),
        input: inputs.map(str::to_owned).to_vec(),
        output: outputs.map(str::to_owned).to_vec(),
        ..NodeProto::default()
    }
}

impl NodeProto {
    /// Adds an integer attribute.
    pub(crate) fn with_int(mut self, name: &str, value: i64) -> Self {
        self.attribute.push(AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(AttributeType::Int as i32),
            i: Some(value),
            ..AttributeProto::default()
        });
        self
    }

    /// Adds an attribute that is a graph.
    pub(crate) fn with_graph(mut self, name: &str, graph: GraphProto) -> Self {
        self.attribute.push(AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(AttributeType::Graph as i32),
            g: Some(graph),
            ..AttributeProto::default()
        });
        self
    }

    fn with_tensor(mut self, name: &str, tensor: TensorProto) -> Self {
        self.attribute.push(AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(AttributeType::Tensor as i32),
            t: Some(tensor),
            ..AttributeProto::default()
        });
        self
    }

    /// The value of an integer attribute, or `default` if absent.
    pub(crate) fn int_or(&self, name: &str, default: i64) -> i64 {
        self.attribute.iter().find(|attribute| attribute.name() == name).map_or(default, AttributeProto::i)
    }

    /// The value of an integer-list attribute.
    pub(crate) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute.iter().find(|attribute| attribute.name() == name).map(|attribute| &attribute.ints[..])
    }
}

/// A `Constant` node holding `tensor`.
pub(crate) fn constant(name: &str, output: &str, tensor: TensorProto) -> NodeProto {
    node("Constant", name, [], [output]).with_tensor("value", tensor)
}

/// An `If` with a scalar condition. Both branches read values of the outer graph and produce one value.
pub(crate) fn if_node(
    name: &str,
    condition: &str,
    output: &str,
    then_branch: GraphProto,
    else_branch: GraphProto,
) -> NodeProto {
    node("If", name, [condition], [output])
        .with_graph("then_branch", then_branch)
        .with_graph("else_branch", else_branch)
}

/// A float32 tensor of `dims`, row-major.
pub(crate) fn float_tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, DataType::Float, dims, bytes)
}

/// A one-dimensional int64 tensor.
pub(crate) fn int64_tensor(name: &str, values: &[i64]) -> TensorProto {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, DataType::Int64, &[values.len() as i64], bytes)
}

/// An int64 tensor without dimensions.
pub(crate) fn int64_scalar(name: &str, value: i64) -> TensorProto {
    tensor(name, DataType::Int64, &[], value.to_le_bytes().to_vec())
}

/// The description of a tensor graph input or output; a dimension is a number or a symbol.
pub(crate) fn tensor_value(name: &str, elem_type: i32, dims: &[Result<i64, &str>]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension};
    let dim = dims
        .iter()
        .map(|dim| Dimension {
            value: Some(match dim {
                Ok(size) => dimension::Value::DimValue(*size),
                Err(symbol) => dimension::Value::DimParam((*symbol).to_owned()),
            }),
            ..Dimension::default()
        })
        .collect();
    let tensor_type =
        type_proto::Tensor { elem_type: Some(elem_type), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor_type)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

/// Sets dimension `axis` of a tensor description, if it exists.
pub(crate) fn set_dim(value: &mut ValueInfoProto, axis: usize, size: i64) {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|t| t.value.as_mut())
    else {
        return;
    };
    if let Some(dim) = tensor.shape.as_mut().and_then(|shape| shape.dim.get_mut(axis)) {
        dim.value = Some(tensor_shape_proto::dimension::Value::DimValue(size));
    }
}

fn tensor(name: &str, data_type: DataType, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(data_type as i32),
        dims: dims.to_vec(),
        raw_data: Some(Bytes::from(bytes)),
        ..TensorProto::default()
    }
}
