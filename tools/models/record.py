"""Records what each tiny model says, as its reference computes it.

    python record.py -i /tmp/sources -o ../../test-vectors/models

A float32 export is compared with Transformers on the weights it was made of. An export in half precision or quantized has
other weights than those: its reference is ONNX Runtime on the export itself, cut open in Python at the embedding, with
softmax and realignment in NumPy. How far its logits are from Transformers' is recorded beside it.

Writes `record.json` into each folder, with one entry for each graph in it.
"""

import argparse
import json
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

PROMPT = "Rosa lives in Lisbon. Zoë, 42, wohnt in Kraków 🦜."
QUESTION = "Where does Rosa live?"
STEPS, NEW_TOKENS, RIDGE = 8, 12, 1e-5
PACKAGES = ["transformers", "torch", "optimum-onnx", "onnx", "onnxruntime"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-i", "--sources", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    for folder in sorted(arguments.output.iterdir()):
        graphs = sorted(folder.rglob("*.onnx"))
        if not graphs:
            continue
        family = folder.name.split("-")[1]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        prompt, question = (tokenizer.encode(text, add_special_tokens=False).ids for text in (PROMPT, QUESTION))
        peer = Transformers(arguments.sources / family)
        of_peer = converse(peer, prompt, question)
        entries = []
        for graph in graphs:
            of_graph = converse(OnnxRuntime(graph, *peer.table.shape), prompt, question)
            exact = graph.stem == "model" and "fp16" not in folder.name and "int4" not in folder.name
            reference = of_peer if exact else of_graph
            distance = {name: difference(of_graph[name], of_peer[name]) for name in ("logits", "hidden", "latent_hidden")}
            entries.append({"file": str(graph.relative_to(folder)), "reference": "transformers" if exact else "onnxruntime",
                            "difference_to_transformers": distance} | reference)
            print(f"{folder.name}/{graph.name}: smallest gap {reference['smallest_gap']:.4f}, to Transformers {distance}")
        document = {"producer": {name: version(name) for name in PACKAGES}, "prompt": PROMPT, "prompt_ids": prompt,
                    "question": QUESTION, "question_ids": question, "steps": STEPS, "tied": peer.tied, "graphs": entries}
        (folder / "record.json").write_text(to_json(document), encoding="utf-8")


def converse(engine, prompt, question):
    """A prompt, greedy tokens; and a prompt, latent steps, a question behind them, greedy tokens."""
    first = engine.run(ids=prompt)
    tokens, gap = greedy(engine, first)
    last = first
    for _ in range(STEPS):
        last = engine.run(latent=engine.next_latent(last), past=last)
    hidden = last["hidden"]
    # The model builder's half-precision exports for the CPU cannot read several tokens behind a cache.
    for ids in [[token] for token in question] if engine.one_by_one else [question]:
        last = engine.run(ids=ids, past=last)
    answer, answer_gap = greedy(engine, last)
    return {"logits": rounded(first["logits"]), "hidden": rounded(first["hidden"]), "greedy": tokens,
            "latent_hidden": rounded(hidden), "answer": answer, "smallest_gap": min(gap, answer_gap)}


def greedy(engine, output):
    tokens, gaps = [], []
    while True:
        second, best = np.sort(output["logits"])[-2:]
        gaps.append(float(best - second))
        tokens.append(int(output["logits"].argmax()))
        if len(tokens) == NEW_TOKENS or tokens[-1] == 2:
            return tokens, min(gaps)
        output = engine.run(ids=tokens[-1:], past=output)


def soft_embedding(product, table):
    product = product.astype(np.float64)
    weights = np.exp(product - product.max())
    return weights / weights.sum() @ table


def realignment(head, table):
    """As LatentMAS and avp 0.2.1 define it, in float64: the matrix and the norm to scale to."""
    head, table = head.astype(np.float64), table.astype(np.float64)
    matrix = np.linalg.solve(head.T @ head + RIDGE * np.eye(head.shape[1]), head.T @ table)
    return matrix, np.linalg.norm(table, axis=1).mean()


def realigned(hidden, matrix, norm):
    latent = hidden.astype(np.float64) @ matrix
    return latent * norm / max(np.linalg.norm(latent), 1e-6)


class Transformers:
    """The network itself, fed `inputs_embeds`."""

    one_by_one = False

    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.head = self.model.get_output_embeddings().weight.detach().numpy()
        self.table = self.model.get_input_embeddings().weight.detach().numpy()
        self.tied = bool(np.array_equal(self.head, self.table))
        self.solution = None if self.tied else realignment(self.head, self.table)

    @torch.no_grad()
    def run(self, ids=None, latent=None, past=None):
        given = {"input_ids": torch.tensor([ids])} if ids else {"inputs_embeds": torch.tensor(latent, dtype=torch.float32).view(1, 1, -1)}
        if past is not None:
            # A cache grows in place; the one that was given is still needed.
            given["past_key_values"] = type(past["cache"]).from_legacy_cache(past["cache"].to_legacy_cache())
        output = self.model(**given, use_cache=True, output_hidden_states=True)
        return {"logits": output.logits[0, -1].numpy(), "hidden": output.hidden_states[-1][0, -1].numpy(),
                "cache": output.past_key_values}

    def next_latent(self, output):
        # Before a soft cap, as avp 0.2.1 does.
        if self.tied:
            return soft_embedding(output["hidden"] @ self.head.T, self.table)
        return realigned(output["hidden"], *self.solution)


class OnnxRuntime:
    """An export, cut open: vectors where the embedding stood, and the last hidden state as an output."""

    def __init__(self, path, vocab, width):
        model = onnx.load(path)
        graph = model.graph
        makers = {output: node for node in graph.node for output in node.output}
        embed = next(node for node in graph.node if "Gather" in node.op_type and ("embed" in node.name or "wte" in node.name))
        behind = [node for node in graph.node if node.op_type == "DequantizeLinear" and embed.output[0] in node.input]
        last = behind[0] if behind else embed
        head = next(node for node in graph.node if "lm_head" in node.name and node.op_type.startswith("MatMul"))
        quantize = makers[head.input[0]]
        hidden = quantize.input[0] if quantize.op_type == "DynamicQuantizeLinear" else head.input[0]
        self.one_by_one = any(node.op_type == "MultiHeadAttention" for node in graph.node)
        half = any(value.type.tensor_type.elem_type == TensorProto.FLOAT16 for value in graph.output)
        self.type = np.float16 if half else np.float32
        elem_type = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        embedded, last.output[0] = last.output[0], "looked_up"
        position = list(graph.node).index(last) + 1
        graph.node.insert(position, helper.make_node("Identity", ["inputs_embeds"], [embedded]))
        del graph.value_info[:]
        graph.input.append(helper.make_tensor_value_info("inputs_embeds", elem_type, ["b", "s", "d"]))
        for name in ("looked_up", hidden):
            graph.output.append(helper.make_tensor_value_info(name, elem_type, ["b", "s", "d"]))
        self.hidden = hidden
        initial = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if not tensor.data_type in (21, 22)}
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.inputs = {value.name: value for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs()]
        heads = self.inputs["past_key_values.0.key"].shape
        self.head_dim = heads[3] if isinstance(heads[3], int) else json.loads((path.parent / "genai_config.json").read_text())["model"]["decoder"]["head_size"]
        self.heads = heads[1]
        self.width = width
        self.table = np.concatenate([self.look_up(list(range(i, i + 64))) for i in range(0, vocab, 64)]).astype(np.float64)
        weight = self.head_weight(head, initial)
        # Quantized twice, or once, a tied weight is still nearly the same.
        self.tied = bool(np.linalg.norm(weight - self.table) < 0.25 * np.linalg.norm(self.table))
        self.solution = None if self.tied else realignment(weight, self.table)

    @staticmethod
    def head_weight(node, initial):
        """The head as [vocab, hidden] floats."""
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        data = initial[node.input[1]]
        if node.op_type == "MatMulNBits":
            scales = initial[node.input[2]].astype(np.float32).reshape(attributes["N"], -1)
            low_first = np.stack([data & 15, data >> 4], -1).reshape(attributes["N"], scales.shape[1], -1).astype(np.float32)
            zeros = 8.0
            if len(node.input) > 3 and node.input[3]:
                zeros = initial[node.input[3]].reshape(attributes["N"], -1)
                zeros = np.stack([zeros & 15, zeros >> 4], -1).reshape(attributes["N"], -1)[:, :scales.shape[1], None].astype(np.float32)
            return ((low_first - zeros) * scales[..., None]).reshape(attributes["N"], -1)[:, :attributes["K"]]
        if node.op_type == "MatMulInteger":
            scale = initial[node.input[1].replace("_quantized", "_scale")]
            return ((data.astype(np.float32) - initial[node.input[3]].astype(np.float32)) * scale).T
        if node.op_type == "MatMulBnb4":
            codes = np.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
                              -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
                              0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
                              0.7229568362236023, 1.0], np.float32)
            high_first = np.stack([data >> 4, data & 15], -1).reshape(-1, attributes["block_size"])
            return (codes[high_first] * initial[node.input[2]][:, None]).reshape(attributes["N"], attributes["K"])
        return data.astype(np.float32).T

    def look_up(self, ids):
        return self.feed(ids, np.zeros((1, len(ids), self.width), self.type), None)["looked_up"][0]

    def feed(self, ids, embeds, past):
        layers = sum(name.endswith(".key") for name in self.inputs)
        names = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
        empty = np.zeros((1, self.heads, 0, self.head_dim), self.type)
        cache = {name: past["cache"][name] if past else empty for name in names}
        start = cache["0.key"].shape[2]
        values = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, start + len(ids)), np.int64),
                  "position_ids": np.arange(start, start + len(ids))[None], "inputs_embeds": embeds.astype(self.type)}
        values |= {f"past_key_values.{name}": value for name, value in cache.items()}
        outputs = self.session.run(self.outputs, {name: value for name, value in values.items() if name in self.inputs})
        outputs = dict(zip(self.outputs, outputs))
        outputs["cache"] = {name: outputs[f"present.{name}"] for name in names}
        return outputs

    def run(self, ids=None, latent=None, past=None):
        if ids:
            embeds = self.look_up(ids)[None]
        else:
            ids, embeds = [0], latent.reshape(1, 1, -1)
        outputs = self.feed(ids, embeds, past)
        return {"logits": outputs["logits"][0, -1].astype(np.float32), "hidden": outputs[self.hidden][0, -1].astype(np.float32),
                "cache": outputs["cache"]}

    def next_latent(self, output):
        return soft_embedding(output["logits"], self.table) if self.tied else realigned(output["hidden"], *self.solution)


def difference(one, other):
    """The largest, over the largest value of the other."""
    one, other = np.array(one), np.array(other)
    return float(np.abs(one - other).max() / np.abs(other).max())


def rounded(values):
    return [float(f"{value:.7g}") for value in values]


def to_json(document):
    """Indented, but a list of numbers stays on one line."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    return re.sub(r"\[[-+0-9.eE,\s]+\]", lambda found: re.sub(r"\s+", "", found.group()), text) + "\n"


if __name__ == "__main__":
    main()
