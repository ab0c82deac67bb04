//! Visits every tensor of a model: weights are not only initializers of the graph.

use super::{GraphProto, ModelProto, NodeProto, TensorProto, proto::AttributeProto};

/// Calls `visit` with each tensor of `model` and its name, or the name of its node if it has none. Includes graphs in nodes,
/// functions and training info.
///
/// The protobuf decoder limits the nesting depth, and so the recursion.
pub(super) fn visit_tensors(model: &mut ModelProto, visit: &mut dyn FnMut(&str, &mut TensorProto)) {
    let training = model.training_info.iter_mut();
    let training = training.flat_map(|info| [&mut info.initialization, &mut info.algorithm]).flatten();
    for graph in model.graph.iter_mut().chain(training) {
        in_graph(graph, visit);
    }
    for function in &mut model.functions {
        let name = function.name.as_deref().unwrap_or_default();
        in_attributes(name, &mut function.attribute_proto, visit);
        in_nodes(&mut function.node, visit);
    }
}

fn in_graph(graph: &mut GraphProto, visit: &mut dyn FnMut(&str, &mut TensorProto)) {
    let sparse =
        graph.sparse_initializer.iter_mut().flat_map(|tensor| [&mut tensor.values, &mut tensor.indices]);
    for tensor in graph.initializer.iter_mut().chain(sparse.flatten()) {
        at("", tensor, visit);
    }
    in_nodes(&mut graph.node, visit);
}

fn in_nodes(nodes: &mut [NodeProto], visit: &mut dyn FnMut(&str, &mut TensorProto)) {
    for node in nodes {
        // Exporters may leave nodes unnamed, but not their outputs.
        let name =
            node.name.as_deref().filter(|name| !name.is_empty()).or(node.output.first().map(String::as_str));
        in_attributes(name.unwrap_or_default(), &mut node.attribute, visit);
    }
}

fn in_attributes(
    holder: &str,
    attributes: &mut [AttributeProto],
    visit: &mut dyn FnMut(&str, &mut TensorProto),
) {
    for attribute in attributes {
        let sparse = attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors);
        let sparse = sparse.flat_map(|tensor| [&mut tensor.values, &mut tensor.indices]).flatten();
        for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors).chain(sparse) {
            at(holder, tensor, visit);
        }
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            in_graph(graph, visit);
        }
    }
}

fn at(holder: &str, tensor: &mut TensorProto, visit: &mut dyn FnMut(&str, &mut TensorProto)) {
    let name = tensor.name().to_owned();
    visit(if name.is_empty() { holder } else { &name }, tensor);
}
