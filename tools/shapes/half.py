"""Makes a half-precision model of random weights at a real model's shape, in the form of onnxruntime-genai's builder.

    python half.py OUT [--shape qwen2.5-0.5b] [--dtype fp16] [--seed 1] [--graph-only | --weights-only]

Writes the graph that the builder writes for a Qwen2 on CUDA (`-p fp16 -e cuda`), node for node, without reading a model:
the builder would need the weights in memory first, 30 GB at the shape of Qwen2.5-7B. The graph needs `onnx`; the weights
need NumPy alone, so that a machine that has no more can be given the rest of the folder (some 100 kB) and fill it itself.

The head is the embedding at every shape, as it is in the small models of the family.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from make import CHAT_TEMPLATE, COMMON, END, PAD, SHAPES

EPSILON = COMMON["rms_norm_eps"]
# What the builder, a config and NumPy call a number format.
DTYPES = {"fp16": ("float16", np.float16), "fp32": ("float32", np.float32)}
GRAPH, DATA = "model.onnx", "model.onnx.data"
# Random numbers that are drawn once and laid out again and again, at another place each time.
DRAWN = 1 << 22


def weights(shape: dict, head_dim: int, rows: int) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and kind of each weight, in the order of the file; MatMul takes them as `[in, out]`."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    heads = shape["num_attention_heads"] * head_dim
    qkv = heads + 2 * shape["num_key_value_heads"] * head_dim
    found = []
    for layer in range(shape["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        found += [
            (f"{at}.input_layernorm.weight", (hidden,), "ones"),
            (f"{at}.attn.qkv_proj.MatMul.weight", (hidden, qkv), "random"),
            (f"{at}.attn.qkv_proj.Add.bias", (qkv,), "random"),
        ]
        if layer == 0:
            found += [("cos_cache", (rows, head_dim // 2), "cos"), ("sin_cache", (rows, head_dim // 2), "sin")]
        found += [
            (f"{at}.attn.o_proj.MatMul.weight", (heads, hidden), "random"),
            (f"{at}.post_attention_layernorm.weight", (hidden,), "ones"),
            (f"{at}.mlp.gate_proj.MatMul.weight", (hidden, inner), "random"),
            (f"{at}.mlp.up_proj.MatMul.weight", (hidden, inner), "random"),
            (f"{at}.mlp.down_proj.MatMul.weight", (inner, hidden), "random"),
        ]
    last = f"model.layers.{shape['num_hidden_layers']}.final_norm_layernorm.weight"
    return [*found, (last, (hidden,), "ones"), ("lm_head.MatMul.weight", (hidden, shape["vocab_size"]), "random")]


def graph(shape: dict, head_dim: int, rows: int, dtype: str):
    """The builder's graph, with its weights beside it."""
    from onnx import TensorProto, helper

    element = {"fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT}[dtype]
    size = np.dtype(DTYPES[dtype][1]).itemsize
    nodes = []

    def node(operator: str, name: str, inputs: list[str], outputs: list[str] | None = None, **attributes) -> str:
        outputs = outputs or [f"{name}/output_0"]
        nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))
        return outputs[0]

    def constant(name: str, value) -> str:
        numbers = np.array(value, np.int64)
        tensor = helper.make_tensor("", TensorProto.INT64, numbers.shape, numbers.ravel())
        output = name.replace("constant_nodes", "constants")
        return node("Constant", name, [], [output], value=tensor)

    mask = "/model/attn_mask_reformat/attn_mask_subgraph"
    one = constant("/model/constant_nodes/INT64/[1]", [1])
    total = node("ReduceSum", f"{mask}/ReduceSum", ["attention_mask", one], keepdims=0)
    behind = node("Sub", f"{mask}/Sub", [total, one])
    behind = node("Cast", f"{mask}/Sub/Cast", [behind], to=TensorProto.INT32)
    sizes = node("Shape", f"{mask}/Shape", ["attention_mask"])
    length = node("Gather", f"{mask}/Gather", [sizes, constant("/model/constant_nodes/INT64/1", 1)], axis=0)
    length = node("Cast", f"{mask}/Gather/Cast", [length], to=TensorProto.INT32)
    head = "lm_head.MatMul.weight"
    embedding = node("Transpose", "/model/embed_tokens/Transpose", [head], perm=[1, 0])
    stream = node("Gather", "/model/embed_tokens/Gather", [embedding, "input_ids"])
    name = "/model/layers.0/input_layernorm"
    normed = node(
        "SimplifiedLayerNormalization",
        f"{name}/LayerNorm",
        [stream, "model.layers.0.input_layernorm.weight"],
        [f"{name}/output_0"],
        epsilon=EPSILON,
        axis=-1,
        stash_type=1,
    )

    def add_and_norm(stream: str, added: str, name: str, weight: str, *, is_last: bool = False):
        outputs = [f"{name}/output_0"] + ([] if is_last else ["", "", f"{name}/output_3"])
        node(
            "SkipSimplifiedLayerNormalization",
            f"{name}/SkipLayerNorm",
            [stream, added, weight],
            outputs,
            domain="com.microsoft",
            epsilon=EPSILON,
        )
        return outputs[0], outputs[-1]

    count = shape["num_hidden_layers"]
    for layer in range(count):
        at, weight = f"/model/layers.{layer}", f"model.layers.{layer}"
        qkv = node("MatMul", f"{at}/attn/qkv_proj/MatMul", [normed, f"{weight}.attn.qkv_proj.MatMul.weight"])
        qkv = node("Add", f"{at}/attn/qkv_proj/Add", [qkv, f"{weight}.attn.qkv_proj.Add.bias"])
        attention = f"{at}/attn/GroupQueryAttention"
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        attended = node(
            "GroupQueryAttention",
            attention,
            [qkv, "", "", *past, behind, length, "cos_cache", "sin_cache", "", "", ""],
            [f"{attention}/output_0", *present],
            domain="com.microsoft",
            num_heads=shape["num_attention_heads"],
            kv_num_heads=shape["num_key_value_heads"],
            scale=head_dim**-0.5,
            local_window_size=-1,
            softcap=0.0,
            do_rotary=1,
            rotary_interleaved=0,
        )
        attended = node("MatMul", f"{at}/attn/o_proj/MatMul", [attended, f"{weight}.attn.o_proj.MatMul.weight"])
        normed, stream = add_and_norm(
            stream, attended, f"{at}/post_attention_layernorm", f"{weight}.post_attention_layernorm.weight"
        )
        gate = node("MatMul", f"{at}/mlp/gate_proj/MatMul", [normed, f"{weight}.mlp.gate_proj.MatMul.weight"])
        up = node("MatMul", f"{at}/mlp/up_proj/MatMul", [normed, f"{weight}.mlp.up_proj.MatMul.weight"])
        open_gate = node("Sigmoid", f"{at}/mlp/act_fn/Sigmoid", [gate])
        gate = node("Mul", f"{at}/mlp/act_fn/Mul", [gate, open_gate])
        inner = node("Mul", f"{at}/mlp/Mul", [gate, up])
        down = node("MatMul", f"{at}/mlp/down_proj/MatMul", [inner, f"{weight}.mlp.down_proj.MatMul.weight"])
        is_last = layer + 1 == count
        norm = "final_norm_layernorm" if is_last else "input_layernorm"
        normed, stream = add_and_norm(
            stream,
            down,
            f"/model/layers.{layer + 1}/{norm}",
            f"model.layers.{layer + 1}.{norm}.weight",
            is_last=is_last,
        )
    node("MatMul", "/lm_head/MatMul", [normed, head], ["logits"])

    def value(name: str, kind: int, *sizes):
        return helper.make_tensor_value_info(name, kind, ["batch_size", *sizes])

    inputs = [
        value("input_ids", TensorProto.INT64, "sequence_length"),
        value("attention_mask", TensorProto.INT64, "total_sequence_length"),
    ]
    outputs = [value("logits", element, "sequence_length", shape["vocab_size"])]
    kv_heads = shape["num_key_value_heads"]
    for layer in range(count):
        for part in ("key", "value"):
            past, present = f"past_key_values.{layer}.{part}", f"present.{layer}.{part}"
            inputs.append(value(past, element, kv_heads, "past_sequence_length", head_dim))
            outputs.append(value(present, element, kv_heads, "total_sequence_length", head_dim))

    initializers, offset = [], 0
    for name, sizes, _kind in weights(shape, head_dim, rows):
        tensor = TensorProto(name=name, dims=sizes, data_type=element, data_location=TensorProto.EXTERNAL)
        length = int(np.prod(sizes)) * size
        for key, text in (("location", DATA), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=text)
        initializers.append(tensor)
        offset += length
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_graph(nodes, "main_graph", inputs, outputs, initializers)
    return helper.make_model(made, opset_imports=opsets, ir_version=10, producer_name="avp tools/shapes/half.py")


def fill(path: Path, layout: list, dtype: str, head_dim: int, seed: int) -> None:
    """Writes the weights one after the other, at one buffer's memory."""
    _, kind = DTYPES[dtype]
    random = np.random.default_rng(seed)
    drawn = (random.standard_normal(DRAWN, np.float32) * 0.02).astype(kind)
    with path.open("wb") as file:
        for _name, sizes, content in layout:
            if content == "ones":
                np.ones(sizes, kind).tofile(file)
            elif content == "random":
                left = int(np.prod(sizes))
                while left:
                    start = int(random.integers(DRAWN // 2))
                    part = drawn[start : start + min(left, DRAWN // 2)]
                    part.tofile(file)
                    left -= len(part)
            else:
                frequencies = COMMON["rope_theta"] ** (-np.arange(0, head_dim, 2) / head_dim)
                angles = np.arange(sizes[0])[:, None] * frequencies
                getattr(np, content)(angles).astype(kind).tofile(file)


def describe(folder: Path, shape: dict, head_dim: int, rows: int, dtype: str) -> None:
    """The files beside the graph; the tokenizer is that of make.py, byte by byte."""
    # GPT-2's alphabet: printable bytes stand for themselves, the others for letters behind them.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = sorted([chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))])
    specials = [PAD, "<|im_start|>", END]
    vocabulary = {token: index for index, token in enumerate([*specials, *alphabet])}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[token], "content": token, **flags} for token in specials],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": {**level, "add_prefix_space": True},
        "model": {"type": "BPE", "unk_token": None, "vocab": vocabulary, "merges": []},
    }
    ends = {"eos_token_id": vocabulary[END], "pad_token_id": vocabulary[PAD]}
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **shape,
        **COMMON,
        **ends,
        "tie_word_embeddings": True,
        "max_position_embeddings": rows,
        "head_dim": head_dim,
    }

    def write(name: str, content) -> None:
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")

    write("config.json", {**config, "torch_dtype": DTYPES[dtype][0]})
    write("generation_config.json", ends)
    write("tokenizer.json", tokenizer)
    write("tokenizer_config.json", {"eos_token": END, "pad_token": PAD, "model_max_length": rows})
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--dtype", choices=DTYPES, default="fp16")
    parser.add_argument("--seed", type=int, default=1)
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--graph-only", action="store_true", help="leave the weights to --weights-only")
    parts.add_argument("--weights-only", action="store_true", help="fill a folder that has the graph; needs NumPy alone")
    args = parser.parse_args()
    shape = SHAPES[args.shape]
    head_dim = shape["hidden_size"] // shape["num_attention_heads"]
    rows = COMMON["max_position_embeddings"]
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.weights_only:
        model = graph(shape, head_dim, rows, args.dtype)
        (args.out / GRAPH).write_bytes(model.SerializeToString())
        describe(args.out, shape, head_dim, rows, args.dtype)
    else:
        made = json.loads((args.out / "config.json").read_text(encoding="utf-8"))
        if made["torch_dtype"] != DTYPES[args.dtype][0] or any(made[field] != size for field, size in shape.items() if field != "tie_word_embeddings"):
            parser.error(f"{args.out} holds the graph of another shape or dtype")
    if not args.graph_only:
        partial = args.out / f".partial-{DATA}"
        fill(partial, weights(shape, head_dim, rows), args.dtype, head_dim, args.seed)
        partial.rename(args.out / DATA)
    print(f"{args.out}: {sum(f.stat().st_size for f in args.out.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
