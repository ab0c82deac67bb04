//! Whether past and present of a KV-cache can share one buffer.

use super::CacheLayout;
use crate::{conventions, onnx::GraphIndex};

/// Whether past and present may share one buffer: only `GroupQueryAttention` reads each past and writes the present of the
/// same layer. Other operators would read the free capacity as tokens.
pub(super) fn shares_buffers(index: &GraphIndex<'_>, layout: &CacheLayout) -> bool {
    /// The operator's input for the past and its output for the present, of keys and of values.
    const SLOTS: [(usize, usize); 2] = [(3, 1), (4, 2)];
    (0..layout.num_layers).all(|layer| {
        SLOTS.iter().enumerate().all(|(part, &(input, output))| {
            let (past, present) = (conventions::past(layer, part), conventions::present(layer, part));
            let mut readers = index.consumers(&past);
            let reader = readers.next().map(|(_, node)| node);
            readers.next().is_none()
                && index.consumers(&present).next().is_none()
                && reader.is_some_and(|node| {
                    node.op_type() == "GroupQueryAttention"
                        && node.input.get(input) == Some(&past)
                        && node.output.get(output) == Some(&present)
                })
        })
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use bytes::Bytes;
    use prost::Message;

    use crate::{
        onnx::{ModelProto, node},
        prepare::prepare,
    };

    fn model(path: &str) -> ModelProto {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors").join(path);
        ModelProto::decode(Bytes::from(fs::read(path).unwrap())).unwrap()
    }

    /// The result in the report.
    fn shares(model: &ModelProto) -> bool {
        prepare(&mut model.clone(), Path::new("."), None).unwrap().shared_buffers
    }

    #[test]
    fn buffers_are_shared_only_if_one_operator_reads_and_writes_them() {
        let sound = model("engine/shared-buffers/model.onnx");
        assert!(shares(&sound));
        assert!(!shares(&model("parity/tiny-qwen2/model.onnx")));

        // A second reader would take the room behind the past for tokens.
        let mut read_twice = sound.clone();
        let reader = node("Identity", "reader", ["past_key_values.1.value"], ["read"]);
        read_twice.graph.as_mut().unwrap().node.push(reader);
        assert!(!shares(&read_twice));

        let mut crossed = sound;
        for node in &mut crossed.graph.as_mut().unwrap().node {
            if node.op_type() == "GroupQueryAttention" {
                node.input.swap(3, 4);
            }
        }
        assert!(!shares(&crossed));
    }
}
