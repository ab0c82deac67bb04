//! The KV-cache layout of a decoder export, read from the names, types and shapes of its inputs.

use avp_core::{KvDType, KvHeader};
use serde::{Deserialize, Serialize};

use crate::{
    ContextError,
    context::same,
    conventions::{INPUT_IDS, InputName, LOGITS, past, present},
    onnx::{GraphProto, ValueInfoProto, tensor_proto::DataType, type_proto},
    prepare::PrepareError,
};

/// The layout of a KV-cache: `num_layers` pairs of `[batch, num_kv_heads, seq_len, head_dim]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheLayout {
    /// Number of layers, each with a key and a value.
    pub num_layers: usize,
    /// Number of key heads; fewer than attention heads with grouped-query attention.
    pub num_kv_heads: usize,
    /// Number of elements of one head.
    pub head_dim: usize,
    /// Number format of one element.
    pub dtype: KvDType,
}

impl From<&KvHeader> for CacheLayout {
    fn from(header: &KvHeader) -> Self {
        Self {
            num_layers: header.num_layers as usize,
            num_kv_heads: header.num_kv_heads as usize,
            head_dim: header.head_dim as usize,
            dtype: header.dtype,
        }
    }
}

impl CacheLayout {
    /// Compares the shape of another cache with this one, which is the model's. The number formats may differ.
    ///
    /// # Errors
    /// [`ContextError::OtherModel`], with the first number that differs.
    pub fn check_shape(&self, got: &Self) -> Result<(), ContextError> {
        same("num_layers", self.num_layers, got.num_layers)?;
        same("num_kv_heads", self.num_kv_heads, got.num_kv_heads)?;
        same("head_dim", self.head_dim, got.head_dim)
    }

    /// Bytes of one token in all keys and values.
    #[must_use]
    pub fn bytes_per_token(&self) -> usize {
        let sizes = [2, self.num_layers, self.num_kv_heads, self.head_dim, self.dtype.size()];
        sizes.into_iter().fold(1, usize::saturating_mul)
    }

    /// Reads the layout from the cache inputs, and checks that every other input is known.
    ///
    /// `head_dim` is the value of the config, for exports with a symbolic dimension.
    ///
    /// # Errors
    /// When the graph lacks an input or output of a decoder, or has an unknown input.
    pub(crate) fn from_graph(graph: &GraphProto, head_dim: Option<usize>) -> Result<Self, PrepareError> {
        let initialized = |name: &str| graph.initializer.iter().any(|tensor| tensor.name() == name);
        let inputs: Vec<&ValueInfoProto> =
            graph.input.iter().filter(|input| !initialized(input.name())).collect();
        if !inputs.iter().any(|input| input.name() == INPUT_IDS) {
            return Err(missing(format!("input named {INPUT_IDS}")));
        }
        if !graph.output.iter().any(|output| output.name() == LOGITS) {
            return Err(missing(format!("output named {LOGITS}")));
        }

        let mut layers: Vec<[Option<(usize, usize, KvDType)>; 2]> = Vec::new();
        for input in &inputs {
            let name = input.name().to_owned();
            match InputName::parse(&name) {
                InputName::InputIds | InputName::Run(_) => {}
                InputName::Past { layer, .. } if layer >= inputs.len() => {
                    return Err(PrepareError::CacheInput { input: name, expected: "layers numbered from 0" });
                }
                InputName::Past { layer, part } => {
                    if layers.len() <= layer {
                        layers.resize(layer + 1, [None; 2]);
                    }
                    layers[layer][part] = Some(cache_shape(input, head_dim)?);
                }
                InputName::OtherCache => return Err(PrepareError::UnsupportedCache { input: name }),
                InputName::Unknown => return Err(PrepareError::UnknownInput { input: name }),
            }
        }
        let Some(&[Some((num_kv_heads, head_dim, dtype)), _]) = layers.first() else {
            return Err(missing(format!("input named {}", past(0, 0))));
        };
        for (layer, parts) in layers.iter().enumerate() {
            for (part, shape) in parts.iter().enumerate() {
                let (input, output) = (past(layer, part), present(layer, part));
                match shape {
                    None => return Err(missing(format!("input named {input}"))),
                    Some(shape) if *shape != (num_kv_heads, head_dim, dtype) => {
                        return Err(PrepareError::CacheInput {
                            input,
                            expected: "the same heads, head_dim and type in every layer",
                        });
                    }
                    Some(_) if !graph.output.iter().any(|value| value.name() == output) => {
                        return Err(missing(format!("output named {output}")));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(Self { num_layers: layers.len(), num_kv_heads, head_dim, dtype })
    }
}

fn missing(missing: String) -> PrepareError {
    PrepareError::NotADecoder { missing }
}

fn cache_shape(
    input: &ValueInfoProto,
    head_dim: Option<usize>,
) -> Result<(usize, usize, KvDType), PrepareError> {
    let refuse = |expected| PrepareError::CacheInput { input: input.name().to_owned(), expected };
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Err(refuse("a tensor"));
    };
    let dtype = match DataType::try_from(tensor.elem_type()) {
        Ok(DataType::Float) => KvDType::Float32,
        Ok(DataType::Float16) => KvDType::Float16,
        Ok(DataType::Bfloat16) => KvDType::BFloat16,
        _ => return Err(refuse("float32, float16 or bfloat16 elements")),
    };
    let dims = tensor.shape.as_ref().map(|shape| &shape.dim[..]).unwrap_or_default();
    let [_, heads, _, width] = dims else {
        return Err(refuse("four dimensions [batch, num_kv_heads, seq_len, head_dim]"));
    };
    let fixed = |dim: &crate::onnx::Dimension| usize::try_from(dim.dim_value()).ok().filter(|&size| size > 0);
    match (fixed(heads), fixed(width).or(head_dim)) {
        (Some(heads), Some(width)) => Ok((heads, width, dtype)),
        (None, _) => Err(refuse("a numeric num_kv_heads")),
        (_, None) => Err(refuse("a numeric head_dim, here or in the model's config")),
    }
}

impl crate::onnx::Dimension {
    /// The dimension as a number; 0 if it is symbolic.
    fn dim_value(&self) -> i64 {
        match self.value {
            Some(crate::onnx::dimension::Value::DimValue(size)) => size,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::tensor_value;

    fn decoder(layers: usize) -> GraphProto {
        let float = DataType::Float as i32;
        let int = DataType::Int64 as i32;
        let mut graph = GraphProto {
            input: vec![tensor_value("input_ids", int, &[Err("batch"), Err("length")])],
            output: vec![tensor_value("logits", float, &[Err("batch"), Err("length"), Ok(50)])],
            ..GraphProto::default()
        };
        for layer in 0..layers {
            for part in ["key", "value"] {
                let dims = [Err("batch"), Ok(2), Err("past"), Ok(16)];
                graph.input.push(tensor_value(&format!("past_key_values.{layer}.{part}"), float, &dims));
                graph.output.push(tensor_value(&format!("present.{layer}.{part}"), float, &dims));
            }
        }
        graph
    }

    #[test]
    fn the_layout_is_read_from_names_types_and_shapes() {
        let layout = CacheLayout::from_graph(&decoder(3), None).unwrap();
        let expected = CacheLayout { num_layers: 3, num_kv_heads: 2, head_dim: 16, dtype: KvDType::Float32 };
        assert_eq!(layout, expected);
    }

    #[test]
    fn a_graph_that_is_not_a_decoder_is_refused_with_the_missing_name() {
        let missing = |graph: &GraphProto| match CacheLayout::from_graph(graph, None) {
            Err(PrepareError::NotADecoder { missing }) => missing,
            other => panic!("{other:?}"),
        };
        assert_eq!(missing(&decoder(0)), "input named past_key_values.0.key");
        let mut graph = decoder(2);
        graph.input.remove(0);
        assert_eq!(missing(&graph), "input named input_ids");
        let mut graph = decoder(2);
        graph.input.remove(2);
        assert_eq!(missing(&graph), "input named past_key_values.0.value");
        let mut graph = decoder(2);
        graph.output.pop();
        assert_eq!(missing(&graph), "output named present.1.value");
    }

    #[test]
    fn other_cache_families_and_unknown_inputs_are_refused_by_name() {
        for (name, other_family) in [
            ("past_conv.0", true),
            ("past_recurrent.1", true),
            ("past_key_values.0.encoder.key", true),
            ("pixels", false),
        ] {
            let mut graph = decoder(1);
            graph.input.push(tensor_value(name, DataType::Float as i32, &[Ok(1)]));
            match CacheLayout::from_graph(&graph, None) {
                Err(PrepareError::UnsupportedCache { input }) => assert!(other_family && input == name),
                Err(PrepareError::UnknownInput { input }) => assert!(!other_family && input == name),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn absurd_layer_numbers_do_not_allocate() {
        let mut graph = decoder(1);
        graph.input.push(tensor_value("past_key_values.4000000000.key", DataType::Float as i32, &[]));
        assert!(matches!(CacheLayout::from_graph(&graph, None), Err(PrepareError::CacheInput { .. })));
    }
}
