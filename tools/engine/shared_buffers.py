"""Writes a small decoder whose attention is `GroupQueryAttention`, and what ONNX Runtime itself makes of it.

    python shared_buffers.py -o ../../test-vectors/engine/shared-buffers

The graph has the shape that the onnxruntime-genai builder gives a model: rotary embedding in the operator, lengths taken
from `attention_mask`, no `position_ids`. Weights are random and seeded. `record.json` holds token ids, given to the session
in pieces, with the last logits behind each piece: once with a present that grows and once with past and present in one
buffer, whose room is filled with NaN; both must agree to be written. A test puts the tokenizer files of
`parity/tiny-qwen2` beside the model (the vocabulary has the same size). Needs what `../parity/requirements.txt` names.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

VOCAB_SIZE, HIDDEN_SIZE, HEADS, KV_HEADS, HEAD_DIM, LAYERS, WINDOW, OPSET = 320, 32, 2, 1, 16, 2, 512, 18
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": VOCAB_SIZE, "hidden_size": HIDDEN_SIZE,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": WINDOW, "bos_token_id": 0, "eos_token_id": 2, "tie_word_embeddings": True,
}
PIECES = [[5, 9, 301, 17, 44], [8], [120], [33, 34, 35], [7]]
CAPACITY = 32


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    output = parser.parse_args().output
    model = decoder()
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    grown, shared = run(session, share=False), run(session, share=True)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(grown, shared))
    assert difference == 0, difference
    output.mkdir(parents=True, exist_ok=True)
    (output / "model.onnx").write_bytes(model.SerializeToString())
    (output / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    record = {"producer": f"onnxruntime {onnxruntime.__version__}",
              "pieces": [{"ids": ids, "logits": [float(value) for value in logits]} for ids, logits in zip(PIECES, grown)]}
    (output / "record.json").write_text(json.dumps(record) + "\n")


def run(session, share):
    """The last logits behind each piece."""
    size = CAPACITY if share else 0
    fill = lambda: np.full((1, KV_HEADS, size, HEAD_DIM), np.nan, np.float32)
    names = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
    cache = {name: onnxruntime.OrtValue.ortvalue_from_numpy(fill()) for name in names}
    seen, all_logits = 0, []
    for ids in PIECES:
        seen += len(ids)
        binding = session.io_binding()
        binding.bind_cpu_input("input_ids", np.array([ids], np.int64))
        binding.bind_cpu_input("attention_mask", np.ones((1, seen), np.int64))
        for name, value in cache.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
        binding.bind_output("logits")
        for name, value in cache.items():
            if share:
                binding.bind_ortvalue_output(f"present.{name}", value)
            else:
                binding.bind_output(f"present.{name}")
        session.run_with_iobinding(binding)
        logits, *presents = binding.get_outputs()
        all_logits.append(logits.numpy()[0, -1])
        if not share:
            cache = dict(zip(names, presents))
    return all_logits


def decoder():
    random = np.random.default_rng(0)
    weights = {"embeddings": random.normal(size=(VOCAB_SIZE, HIDDEN_SIZE)), "norm": np.ones(HIDDEN_SIZE)}
    nodes = [
        # As the builder writes it: the number of valid tokens less one, and how many there are in all.
        helper.make_node("ReduceSum", ["attention_mask", "one"], ["valid"], keepdims=0),
        helper.make_node("Sub", ["valid", "one"], ["last"]),
        helper.make_node("Cast", ["last"], ["seqlens_k"], to=TensorProto.INT32),
        helper.make_node("Shape", ["attention_mask"], ["mask_shape"]),
        helper.make_node("Gather", ["mask_shape", "one_scalar"], ["total"], axis=0),
        helper.make_node("Cast", ["total"], ["total_seq_len"], to=TensorProto.INT32),
        helper.make_node("Gather", ["embeddings", "input_ids"], ["hidden.0"], name="/embed/Gather"),
    ]
    for layer in range(LAYERS):
        for part, width in (("q", HEADS * HEAD_DIM), ("k", KV_HEADS * HEAD_DIM), ("v", KV_HEADS * HEAD_DIM)):
            weights[f"{part}.{layer}"] = random.normal(size=(HIDDEN_SIZE, width)) / HIDDEN_SIZE**0.5
            nodes.append(helper.make_node("MatMul", [f"normed.{layer}", f"{part}.{layer}"], [f"{part}_out.{layer}"]))
        nodes.insert(-3, normalized(f"hidden.{layer}", f"normed.{layer}"))
        weights[f"o.{layer}"] = random.normal(size=(HEADS * HEAD_DIM, HIDDEN_SIZE)) / HIDDEN_SIZE**0.5
        nodes += [
            helper.make_node(
                "GroupQueryAttention",
                [f"q_out.{layer}", f"k_out.{layer}", f"v_out.{layer}", f"past_key_values.{layer}.key",
                 f"past_key_values.{layer}.value", "seqlens_k", "total_seq_len", "cos_cache", "sin_cache"],
                [f"attended.{layer}", f"present.{layer}.key", f"present.{layer}.value"],
                domain="com.microsoft", name=f"/layers.{layer}/attn/GroupQueryAttention",
                num_heads=HEADS, kv_num_heads=KV_HEADS, do_rotary=1),
            helper.make_node("MatMul", [f"attended.{layer}", f"o.{layer}"], [f"projected.{layer}"]),
            helper.make_node("Add", [f"hidden.{layer}", f"projected.{layer}"], [f"hidden.{layer + 1}"]),
        ]
    nodes += [
        normalized(f"hidden.{LAYERS}", "final"),
        helper.make_node("Transpose", ["embeddings"], ["head"], perm=[1, 0], name="/lm_head/Transpose"),
        helper.make_node("MatMul", ["final", "head"], ["logits"], name="/lm_head/MatMul"),
    ]
    angles = np.outer(np.arange(WINDOW), 10000.0 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM))
    weights |= {"cos_cache": np.cos(angles), "sin_cache": np.sin(angles)}
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    initializers += [numpy_helper.from_array(np.array([1]), "one"), numpy_helper.from_array(np.array(1), "one_scalar")]
    past = ["batch_size", KV_HEADS, "past_sequence_length", HEAD_DIM]
    present = ["batch_size", KV_HEADS, "present_sequence_length", HEAD_DIM]
    slots = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
    graph = helper.make_graph(
        nodes, "main_graph",
        inputs=[tensor("input_ids", ["batch_size", "sequence_length"], TensorProto.INT64),
                tensor("attention_mask", ["batch_size", "total_sequence_length"], TensorProto.INT64),
                *(tensor(f"past_key_values.{slot}", past) for slot in slots)],
        outputs=[tensor("logits", ["batch_size", "sequence_length", VOCAB_SIZE]),
                 *(tensor(f"present.{slot}", present) for slot in slots)],
        initializer=initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def normalized(hidden, output):
    return helper.make_node("LayerNormalization", [hidden, "norm"], [output], axis=-1, name=f"/{output}/Norm")


def tensor(name, shape, elem_type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, elem_type, shape)


if __name__ == "__main__":
    main()
