"""Writes small model folders, one intact and each of the others broken in one way.

    python broken.py -o ../../test-vectors/runtime

A folder holds `model.onnx` and `config.json` alone: a test puts the tokenizer files of `parity/tiny-qwen2` beside them
(the vocabulary has the same size), so that the tokenizer is never what fails. Needs onnx, onnxruntime and numpy; every
graph that is meant to be sound ONNX is checked and run.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

VOCAB_SIZE, HIDDEN_SIZE, HEADS, HEAD_DIM, OPSET = 320, 4, 2, 2, 18
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": VOCAB_SIZE, "hidden_size": HIDDEN_SIZE,
    "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "max_position_embeddings": 64,
    "bos_token_id": 0, "eos_token_id": 2, "tie_word_embeddings": True,
}
FOLDERS = {}


def folder(what):
    """Registers a maker of (model bytes, config); its name is the folder's, its argument what is wrong there."""
    def register(make):
        FOLDERS[make.__name__.replace("_", "-")] = (what, make)
        return make
    return register


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    output = parser.parse_args().output
    for name, (_, make) in FOLDERS.items():
        model, config = make()
        shutil.rmtree(output / name, ignore_errors=True)
        (output / name).mkdir(parents=True)
        (output / name / "model.onnx").write_bytes(model)
        (output / name / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    rows = "".join(f"| `{name}` | {what} |\n" for name, (what, _) in FOLDERS.items())
    (output / "README.md").write_text(
        "# Model folders to be refused\n\nWritten by `tools/parity/broken.py`. Tests put the tokenizer files of `parity/tiny-qwen2` beside them.\n\n"
        "| folder | what is wrong |\n|---|---|\n" + rows)


@folder("nothing: the graph that the others break")
def intact():
    return sound(decoder()), CONFIG


@folder("no `past_key_values`, no `present`: a plain encoder with a vocabulary head")
def no_cache():
    graph = decoder()
    drop(graph.graph.input, lambda value: value.name.startswith("past_key_values"))
    drop(graph.graph.output, lambda value: value.name.startswith("present"))
    key, value = (next(node for node in graph.graph.node if node.output[0] == f"present.0.{part}") for part in ("key", "value"))
    graph.graph.node.remove(key)
    value.CopyFrom(helper.make_node("Identity", ["heads"], value.output, name=value.name))
    return sound(graph), CONFIG


@folder("gives `last_hidden_state` where `logits` should be")
def no_logits():
    graph = decoder()
    drop(graph.graph.output, lambda value: value.name == "logits")
    drop(graph.graph.node, lambda node: node.output[0] == "logits")
    next(node for node in graph.graph.node if node.output[0] == "hidden").output[0] = "last_hidden_state"
    graph.graph.output.insert(0, tensor("last_hidden_state", ["batch_size", "sequence_length", HIDDEN_SIZE]))
    return sound(graph), CONFIG


@folder("takes the cache and gives no `present.0.value` back")
def no_present():
    graph = decoder()
    drop(graph.graph.output, lambda value: value.name == "present.0.value")
    return sound(graph), CONFIG


@folder("also keeps a convolution's state, `past_conv.0`, as hybrid models do")
def past_conv():
    graph = decoder()
    shape = ["batch_size", HIDDEN_SIZE, 3]
    graph.graph.input.append(tensor("past_conv.0", shape))
    graph.graph.output.append(tensor("present_conv.0", shape))
    graph.graph.node.append(helper.make_node("Identity", ["past_conv.0"], ["present_conv.0"], name="/conv/Identity"))
    return sound(graph), CONFIG


@folder("takes `inputs_embeds`: the decoder half of an export whose embedding is a file of its own")
def inputs_embeds():
    graph = decoder()
    drop(graph.graph.input, lambda value: value.name == "input_ids")
    drop(graph.graph.node, lambda node: node.op_type == "Gather" or node.output[0] == "embeddings")
    for node in graph.graph.node:
        node.input[:] = ["inputs_embeds" if name == "embedded" else name for name in node.input]
    graph.graph.input.insert(0, tensor("inputs_embeds", ["batch_size", "sequence_length", HIDDEN_SIZE]))
    return sound(graph), CONFIG


@folder("embeds by `OneHot` and `MatMul`: no node that reads a table's rows by `input_ids`")
def no_gather():
    graph = decoder()
    position = next(i for i, node in enumerate(graph.graph.node) if node.op_type == "Gather")
    del graph.graph.node[position]
    graph.graph.initializer.extend([
        numpy_helper.from_array(np.array([VOCAB_SIZE], np.int64), "depth"),
        numpy_helper.from_array(np.array([0, 1], np.float32), "off_on"),
    ])
    graph.graph.node.insert(position, helper.make_node("MatMul", ["one_hot", "embeddings"], ["embedded"], name="/embed/MatMul"))
    graph.graph.node.insert(position, helper.make_node("OneHot", ["input_ids", "depth", "off_on"], ["one_hot"], name="/embed/OneHot"))
    return sound(graph), CONFIG


@folder("the embedding's table runs in a circle: no sound ONNX, but a protobuf that parses")
def cyclic():
    graph = decoder()
    transpose = next(node for node in graph.graph.node if node.output[0] == "embeddings")
    transpose.input[0] = "embeddings"
    return graph.SerializeToString(), CONFIG


@folder("`config.json` says 1 KV head, the graph has 2")
def kv_heads_mismatch():
    return sound(decoder()), CONFIG | {"num_key_value_heads": 1}


@folder("`config.json` says 2 layers, the graph has 1")
def layers_mismatch():
    return sound(decoder()), CONFIG | {"num_hidden_layers": 2}


@folder("`config.json` says hidden size 8, the graph has 4")
def hidden_size_mismatch():
    return sound(decoder()), CONFIG | {"hidden_size": 8, "head_dim": 2}


@folder("`model.onnx` ends in the middle")
def truncated():
    model = sound(decoder())
    return model[:len(model) // 2], CONFIG


@folder("`model.onnx` is empty")
def empty():
    return b"", CONFIG


@folder("`model.onnx` is a Git LFS pointer, as a clone without LFS leaves it")
def lfs_pointer():
    oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n".encode(), CONFIG


@folder("the weights' file `model.onnx_data` is missing")
def external_data_missing():
    return with_external_data("model.onnx_data"), CONFIG


@folder("the weights claim to lie outside the folder")
def external_data_outside():
    return with_external_data("../tiny.onnx_data"), CONFIG


@folder("nothing: it takes the scalar `num_logits_to_keep` and cuts the hidden state by it before the head")
def num_logits_to_keep():
    graph = decoder()
    graph.graph.input.append(tensor("num_logits_to_keep", [], TensorProto.INT64))
    head = next(node for node in graph.graph.node if node.output[0] == "logits")
    head.input[0] = "kept"
    graph.graph.initializer.extend([numpy_helper.from_array(np.array([value]), name)
                                    for name, value in (("one", 1), ("sequence_axis", 1), ("end", 2**63 - 1))])
    position = list(graph.graph.node).index(head)
    for node in (helper.make_node("Slice", ["hidden", "start", "end", "sequence_axis"], ["kept"], name="/keep/Slice"),
                 helper.make_node("Reshape", ["negative", "one"], ["start"], name="/keep/Reshape"),
                 helper.make_node("Neg", ["num_logits_to_keep"], ["negative"], name="/keep/Neg")):
        graph.graph.node.insert(position, node)
    return sound(graph), CONFIG


@folder("nothing: the head is a `Gemm` over the flattened hidden state")
def gemm_head():
    graph = decoder()
    head = next(node for node in graph.graph.node if node.output[0] == "logits")
    position = list(graph.graph.node).index(head)
    graph.graph.node.remove(head)
    graph.graph.initializer.extend([
        numpy_helper.from_array(np.array([-1, HIDDEN_SIZE]), "flat"),
        numpy_helper.from_array(np.array([VOCAB_SIZE]), "vocab"),
        numpy_helper.from_array(np.linspace(-1, 1, VOCAB_SIZE, dtype=np.float32), "bias")])
    for node in (helper.make_node("Reshape", ["flat_logits", "logits_shape"], ["logits"], name="/lm_head/Reshape_1"),
                 helper.make_node("Concat", ["ids_shape", "vocab"], ["logits_shape"], name="/lm_head/Concat", axis=0),
                 helper.make_node("Shape", ["input_ids"], ["ids_shape"], name="/lm_head/Shape"),
                 helper.make_node("Gemm", ["flat_hidden", "head", "bias"], ["flat_logits"], name="/lm_head/Gemm"),
                 helper.make_node("Reshape", ["hidden", "flat"], ["flat_hidden"], name="/lm_head/Reshape")):
        graph.graph.node.insert(position, node)
    return sound(graph), CONFIG


@folder("the head multiplies with a weight that is nowhere")
def absent_initializer():
    graph = decoder()
    next(node for node in graph.graph.node if node.output[0] == "logits").input[1] = "absent"
    return graph.SerializeToString(), CONFIG


@folder("the table claims 2^62 rows of 2^62 columns and holds 5 kB")
def absurd_shape():
    graph = decoder()
    weight = next(item for item in graph.graph.initializer if item.name == "head")
    weight.dims[:] = [2**62, 2**62]
    return graph.SerializeToString(), CONFIG


@folder("the table claims 2^40 tokens, which fit the machine's numbers, and holds 5 kB")
def huge_vocabulary():
    graph = decoder()
    weight = next(item for item in graph.graph.initializer if item.name == "head")
    weight.dims[:] = [HIDDEN_SIZE, 2**40]
    return graph.SerializeToString(), CONFIG


@folder("the head is a `MatMulNBits` whose K, N and block size are absurd")
def absurd_blocks():
    graph = decoder()
    head = next(node for node in graph.graph.node if node.output[0] == "logits")
    head.op_type, head.domain = "MatMulNBits", "com.microsoft"
    head.input[:] = ["hidden", "packed", "scales"]
    head.attribute.extend([helper.make_attribute(name, value) for name, value in
                           (("K", 2**62), ("N", 2**62), ("bits", 4), ("block_size", 2**62))])
    graph.graph.initializer.extend([numpy_helper.from_array(np.zeros(16, np.uint8), "packed"),
                                    numpy_helper.from_array(np.zeros(1, np.float32), "scales")])
    graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return graph.SerializeToString(), CONFIG


@folder("the head runs in a circle behind `logits`")
def cyclic_head():
    graph = decoder()
    head = next(node for node in graph.graph.node if node.output[0] == "logits")
    head.op_type = "Tanh"
    head.input[:] = ["logits"]
    return graph.SerializeToString(), CONFIG


@folder("a layer numbered 4,000,000,000: nothing may be allocated by that number")
def huge_layer():
    graph = decoder()
    shape = ["batch_size", HEADS, "past_sequence_length", HEAD_DIM]
    graph.graph.input.append(tensor("past_key_values.4000000000.key", shape))
    return graph.SerializeToString(), CONFIG


def decoder():
    """One layer: keys and values are the embedded tokens, the hidden state adds the mean of all values to them.

    Embedding and head share one weight, as the onnxruntime-genai builder ties them: `Transpose -> Gather` and `MatMul`.
    """
    heads = ["batch_size", HEADS, "past_sequence_length", HEAD_DIM]
    present = ["batch_size", HEADS, "total_sequence_length", HEAD_DIM]
    nodes = [
        helper.make_node("Transpose", ["head"], ["embeddings"], name="/embed/Transpose", perm=[1, 0]),
        helper.make_node("Gather", ["embeddings", "input_ids"], ["embedded"], name="/embed/Gather"),
        helper.make_node("Reshape", ["embedded", "split"], ["split_heads"], name="/attn/Reshape"),
        helper.make_node("Transpose", ["split_heads"], ["heads"], name="/attn/Transpose", perm=[0, 2, 1, 3]),
        helper.make_node("Concat", ["past_key_values.0.key", "heads"], ["present.0.key"], name="/attn/Concat", axis=2),
        helper.make_node("Concat", ["past_key_values.0.value", "heads"], ["present.0.value"], name="/attn/Concat_1", axis=2),
        helper.make_node("ReduceMean", ["present.0.value", "length_axis"], ["mean"], name="/attn/ReduceMean", keepdims=0),
        helper.make_node("Reshape", ["mean", "merge"], ["attended"], name="/attn/Reshape_1"),
        helper.make_node("Add", ["embedded", "attended"], ["hidden"], name="/Add"),
        helper.make_node("MatMul", ["hidden", "head"], ["logits"], name="/lm_head/MatMul"),
    ]
    weight = np.random.default_rng(0).normal(size=(HIDDEN_SIZE, VOCAB_SIZE)).astype(np.float32)
    constants = {"head": weight, "split": np.array([0, 0, HEADS, HEAD_DIM]), "length_axis": np.array([2]),
                 "merge": np.array([0, 1, HIDDEN_SIZE])}
    graph = helper.make_graph(
        nodes, "main_graph",
        inputs=[tensor("input_ids", ["batch_size", "sequence_length"], TensorProto.INT64),
                tensor("attention_mask", ["batch_size", "total_sequence_length"], TensorProto.INT64),
                tensor("past_key_values.0.key", heads), tensor("past_key_values.0.value", heads)],
        outputs=[tensor("logits", ["batch_size", "sequence_length", VOCAB_SIZE]),
                 tensor("present.0.key", present), tensor("present.0.value", present)],
        initializer=[numpy_helper.from_array(value, name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def with_external_data(location):
    graph = decoder()
    weight = next(item for item in graph.graph.initializer if item.name == "head")
    length = len(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    return graph.SerializeToString()


def sound(model):
    """The model's bytes, after the checker and one run: what is wrong with it is what its folder says, nothing else."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    sizes = {"batch_size": 1, "sequence_length": 3, "past_sequence_length": 2, "total_sequence_length": 5}
    types = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
    session.run(None, {value.name: np.ones([sizes.get(size, size) for size in value.shape], types[value.type])
                       for value in session.get_inputs()})
    return model.SerializeToString()


def tensor(name, shape, elem_type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, elem_type, shape)


def drop(items, unwanted):
    for item in [item for item in items if unwanted(item)]:
        items.remove(item)


if __name__ == "__main__":
    main()
