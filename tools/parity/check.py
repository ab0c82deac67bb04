"""Checks a parity record against ONNX Runtime on the exported graph, without PyTorch, Transformers or avp.

    python check.py ../../test-vectors/parity/tiny-qwen2 ../../test-vectors/parity/tiny-llama

Every recorded number is computed anew by ONNX Runtime from `model.onnx`, with its embedding `Gather` cut open so that a
latent vector can go in, and by NumPy for the latent step. Prints the largest difference of each kind; fails when a
KV-cache differs by more than 1e-5 or a greedy token differs. Needs onnx, onnxruntime, numpy and tokenizers only.
"""

import json
import struct
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from tokenizers import Tokenizer

TOLERANCE = 1e-5


def main():
    for folder in sys.argv[1:]:
        check(Path(folder))


def check(folder):
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    model = Model(folder, record)
    differences = defaultdict(float)

    def compare(kind, ours, theirs):
        assert np.shape(ours) == np.shape(theirs), (folder, kind, np.shape(ours), np.shape(theirs))
        differences[kind] = max(differences[kind], float(np.abs(np.asarray(ours) - np.asarray(theirs, np.float32)).max(initial=0)))

    for case in record["cases"]:
        assert model.tokens(case["rendered"]) == case["prompt_ids"], case["name"]
        for latent in case["latent"]:
            cache, hidden, inputs = model.latent(case["prompt_ids"], latent["steps"], None)
            compare("kv_cache", cache, model.read_kv(latent["kv_cache"]))
            compare("hidden_state", hidden, latent["hidden_state"])
            compare("latent_inputs", np.reshape(inputs, (-1, model.hidden_size)),
                    np.reshape(latent["latent_inputs"], (-1, model.hidden_size)))
        assert model.greedy(case["prompt_ids"], None, len(case["greedy"]["tokens"])) == case["greedy"]["tokens"], case["name"]
        for run in case["handovers"]:
            cache, *_ = model.latent(case["prompt_ids"], run["steps"], None)
            assert model.greedy(run["question_ids"], cache, len(run["tokens"])) == run["tokens"], (case["name"], run["steps"])
        continued = case["continued"]
        cache, *_ = model.latent(case["prompt_ids"], continued["first_steps"], None)
        cache, hidden, _ = model.latent(case["handovers"][0]["question_ids"], continued["steps"], cache)
        compare("kv_cache", cache, model.read_kv(continued["kv_cache"]))
        compare("hidden_state", hidden, continued["hidden_state"])
    print(f"{folder.name}: greedy tokens equal; largest differences: " + ", ".join(f"{k} {v:.1e}" for k, v in differences.items()))
    assert differences["kv_cache"] <= TOLERANCE


class Model:
    """ONNX Runtime on the export, with `embeds` as a further input in place of the embedding's output."""

    def __init__(self, folder, record):
        self.folder, self.tokenizer = folder, Tokenizer.from_file(str(folder / "tokenizer.json"))
        graph = onnx.load(folder / "model.onnx")
        gather = next(node for node in graph.graph.node if node.op_type == "Gather" and node.input[1] == "input_ids")
        self.embedding = initializer(graph, gather.input[0])
        self.hidden_size = self.embedding.shape[1]
        head = next(node for node in graph.graph.node if node.output[0] == "logits")
        assert head.op_type == "MatMul", head.op_type
        self.head = initializer(graph, head.input[1])
        graph.graph.node.remove(gather)
        graph.graph.input.append(onnx.helper.make_tensor_value_info(gather.output[0], onnx.TensorProto.FLOAT, ["b", "s", self.hidden_size]))
        graph.graph.output.append(onnx.helper.make_tensor_value_info(head.input[0], onnx.TensorProto.FLOAT, ["b", "s", self.hidden_size]))
        self.embeds, self.hidden = gather.output[0], head.input[0]
        self.session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        self.inputs = {item.name for item in self.session.get_inputs()}
        self.layers, self.kv_heads = record["config"]["num_hidden_layers"], record["config"]["num_key_value_heads"]
        self.head_dim = record["identity"]["head_dim"]
        self.end = record["config"]["eos_token_id"]
        self.realign = self.realignment(record)

    def tokens(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def realignment(self, record):
        """None for tied embeddings; else matrix and target norm, checked against the record's."""
        if record["realignment"] is None:
            assert np.array_equal(self.embedding, self.head.T), "called tied, but the head has other weights"
            return None
        given, out = record["realignment"], self.head.T.astype(np.float64)
        matrix = np.linalg.solve(out.T @ out + given["lambda"] * np.eye(out.shape[1]), out.T @ self.embedding)
        norm = np.linalg.norm(self.embedding, axis=1).mean()
        theirs = np.frombuffer((self.folder / given["matrix"]).read_bytes(), "<f4").reshape(given["shape"])
        np.testing.assert_allclose(matrix, theirs, atol=1e-5)
        np.testing.assert_allclose(norm, given["target_norm"], rtol=1e-6)
        return matrix.astype(np.float32), np.float32(norm)

    def next_latent(self, hidden):
        if self.realign is None:
            logits = hidden @ self.head
            weights = np.exp(logits - logits.max())
            return (weights / weights.sum()) @ self.embedding
        aligned = hidden @ self.realign[0]
        return aligned * (self.realign[1] / np.linalg.norm(aligned))

    def latent(self, ids, steps, cache):
        logits, hidden, cache = self.run(self.embedding[ids], ids, cache)
        inputs = []
        for _ in range(steps):
            inputs.append(self.next_latent(hidden))
            logits, hidden, cache = self.run(inputs[-1][None], [0], cache)
        return cache, hidden, inputs

    def greedy(self, ids, cache, limit):
        tokens = []
        while len(tokens) < limit and self.end not in tokens:
            logits, _, cache = self.run(self.embedding[ids], ids, cache)
            tokens.append(int(logits.argmax()))
            ids = tokens[-1:]
        return tokens

    def run(self, embeds, ids, cache):
        """Last position's logits and hidden state, and the cache `[layers, 2, kv_heads, seq_len, head_dim]`."""
        if cache is None:
            cache = np.zeros((self.layers, 2, self.kv_heads, 0, self.head_dim), np.float32)
        past, length = cache.shape[3], len(ids)
        feed = {self.embeds: embeds[None].astype(np.float32), "input_ids": np.array([ids], np.int64),
                "attention_mask": np.ones((1, past + length), np.int64),
                "position_ids": np.arange(past, past + length, dtype=np.int64)[None]}
        for layer in range(self.layers):
            feed[f"past_key_values.{layer}.key"], feed[f"past_key_values.{layer}.value"] = cache[layer][:, None]
        names = ["logits", self.hidden] + [f"present.{layer}.{part}" for layer in range(self.layers) for part in ("key", "value")]
        logits, hidden, *present = self.session.run(names, {k: v for k, v in feed.items() if k in self.inputs})
        return logits[0, -1], hidden[0, -1], np.concatenate(present).reshape(self.layers, 2, *present[0].shape[1:])

    def read_kv(self, path):
        body = (self.folder / path).read_bytes()
        layers, heads, head_dim, seq_len, dtype = struct.unpack("<IIIIB", body[:17])
        assert dtype == 0
        return np.frombuffer(body[17:], "<f4").reshape(layers, 2, heads, seq_len, head_dim)


def initializer(graph, name):
    return next(onnx.numpy_helper.to_array(item) for item in graph.graph.initializer if item.name == name)


if __name__ == "__main__":
    main()
