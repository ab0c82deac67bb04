//! An index of the producer and the consumers of each value.

use std::collections::HashMap;

use super::{GraphProto, NodeProto, TensorProto};

/// An index over a graph: nodes by the values that they produce and read, initializers by name.
///
/// Positions refer to `graph.node` and are valid until the graph is edited.
pub(crate) struct GraphIndex<'g> {
    graph: &'g GraphProto,
    producers: HashMap<&'g str, usize>,
    consumers: HashMap<&'g str, Vec<usize>>,
    initializers: HashMap<&'g str, &'g TensorProto>,
}

impl<'g> GraphIndex<'g> {
    pub(crate) fn new(graph: &'g GraphProto) -> Self {
        let mut producers = HashMap::new();
        let mut consumers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (position, node) in graph.node.iter().enumerate() {
            for output in node.output.iter().filter(|name| !name.is_empty()) {
                producers.insert(output.as_str(), position);
            }
            for input in node.input.iter().filter(|name| !name.is_empty()) {
                consumers.entry(input.as_str()).or_default().push(position);
            }
        }
        let initializers = graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
        Self { graph, producers, consumers, initializers }
    }

    pub(crate) fn graph(&self) -> &'g GraphProto {
        self.graph
    }

    pub(crate) fn node(&self, position: usize) -> &'g NodeProto {
        &self.graph.node[position]
    }

    /// The node that produces `value`, with its position; `None` for graph inputs and initializers.
    pub(crate) fn producer(&self, value: &str) -> Option<(usize, &'g NodeProto)> {
        self.producers.get(value).map(|&position| (position, self.node(position)))
    }

    pub(crate) fn consumers(&self, value: &str) -> impl Iterator<Item = (usize, &'g NodeProto)> + '_ {
        self.consumers.get(value).into_iter().flatten().map(|&position| (position, self.node(position)))
    }

    pub(crate) fn initializer(&self, name: &str) -> Option<&'g TensorProto> {
        self.initializers.get(name).copied()
    }

    /// Whether `value` is constant: an initializer, or the output of a `Constant` node.
    pub(crate) fn is_constant(&self, value: &str) -> bool {
        self.initializer(value).is_some()
            || self.producer(value).is_some_and(|(_, node)| node.op_type() == "Constant")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::node;

    #[test]
    fn producers_and_consumers_are_found_by_value() {
        let graph = GraphProto {
            node: vec![
                node("Identity", "first", ["x"], ["y"]),
                node("Add", "second", ["y", "w"], ["z"]),
                node("Identity", "third", ["y"], ["q"]),
            ],
            initializer: vec![TensorProto { name: Some("w".into()), ..TensorProto::default() }],
            ..GraphProto::default()
        };
        let index = GraphIndex::new(&graph);
        assert_eq!(index.producer("z").map(|(position, _)| position), Some(1));
        assert_eq!(index.producer("x").map(|(position, _)| position), None);
        assert_eq!(index.consumers("y").map(|(position, _)| position).collect::<Vec<_>>(), [1, 2]);
        assert!(index.is_constant("w") && !index.is_constant("y"));
    }
}
