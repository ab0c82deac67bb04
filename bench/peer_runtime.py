"""Runs a model for the runtime benchmark, in one of two ways, and times what it is asked for.

    python peer_runtime.py avp FOLDER --tokens N --steps N --threads N
    python peer_runtime.py ort GRAPH --data FOLDER --past N --threads N [--shared]

`avp` is the `avp` package's HuggingFace connector, as its users call it. `ort` is ONNX Runtime alone: one step of a
graph, everything bound once, so that a run is nothing but ONNX Runtime's own work.

Every line on standard input names a piece of work; the answer is one line, a JSON object of numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path


class Avp:
    """Prefill, latent steps and decoding with the connector's own `think` and `generate`."""

    def __init__(self, args):
        import torch
        from avp.connectors.huggingface import HuggingFaceConnector

        torch.set_num_threads(args.threads)
        self.connector = HuggingFaceConnector.from_pretrained(args.model, device="cpu", dtype=torch.float32)
        self.steps = args.steps
        template = self.connector.tokenizer.apply_chat_template
        wrap = lambda text: template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        around = self.connector.tokenize(wrap("")).shape[1]
        # One character of it is one token.
        self.prompt = ("the " * args.tokens)[: args.tokens - around]
        self.tokens = self.connector.tokenize(wrap(self.prompt)).shape[1]
        self.forwards = []
        self.connector.model.register_forward_hook(lambda *_: self.forwards.append(time.perf_counter()))
        self.connector.think("warm up", steps=1)

    def _timed(self, work, forwards):
        """Seconds of the first forward pass, which reads the prompt, and of all that follows it."""
        self.forwards.clear()
        start = time.perf_counter()
        work()
        end = time.perf_counter()
        assert len(self.forwards) == forwards, f"{len(self.forwards)} passes, expected {forwards}"
        return {"prefill": self.forwards[0] - start, "rest": end - self.forwards[0], "tokens": self.tokens}

    def latent(self):
        return self._timed(lambda: self.connector.think(self.prompt, steps=self.steps), self.steps + 1)

    def decode(self):
        # The first token comes with the prompt.
        more = self.steps + 1
        generate = lambda: self.connector.generate(self.prompt, max_new_tokens=more, do_sample=False)
        return self._timed(generate, more)


class Ort:
    """One step of a graph behind `past` tokens, over and over."""

    def __init__(self, args):
        import numpy
        import onnxruntime

        self.numpy, self.args = numpy, args
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        folder = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(folder, str(args.data))
        graph = Path(args.model).read_bytes()
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.ortvalue = onnxruntime.OrtValue.ortvalue_from_numpy
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.outputs = {o.name: o for o in self.session.get_outputs()}
        self.bindings = {}

    def _binding(self, wanted):
        """Binds a step that gives `wanted` and the longer cache."""
        numpy, past = self.numpy, self.args.past
        random = numpy.random.default_rng(1)
        types = {"tensor(float)": numpy.float32, "tensor(float16)": numpy.float16, "tensor(bool)": numpy.bool_}
        latent = wanted == "next_latent"
        config = json.loads((self.args.data / "config.json").read_text())
        heads = config["num_key_value_heads"]
        width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        binding = self.session.io_binding()
        for name, spec in self.inputs.items():
            dtype = types.get(spec.type, numpy.int64)
            if name.startswith("past_key_values."):
                continue
            elif name == "input_ids":
                value = numpy.full((1, 1), 7, dtype)
            elif name == "attention_mask":
                value = numpy.ones((1, past + 1), dtype)
            elif name == "position_ids":
                value = numpy.full((1, 1), past, dtype)
            elif name == "latent_mask":
                value = numpy.full((1, 1, 1), latent)
            elif name == "latent_step":
                value = numpy.full((1,), latent)
            elif name == "latent_temperature":
                value = numpy.ones((1,), dtype)
            elif name == "latent_embeds":
                value = random.standard_normal((1, 1, spec.shape[-1])).astype(dtype) * dtype(0.02)
            else:
                raise SystemExit(f"the graph takes {name}, of which this script knows nothing")
            binding.bind_ortvalue_input(name, self.ortvalue(value))
        for name, spec in self.inputs.items():
            if not name.startswith("past_key_values."):
                continue
            dtype = types[spec.type]
            present = name.replace("past_key_values", "present")
            room = past + 1 if self.args.shared else past
            values = random.standard_normal((1, heads, room, width)).astype(dtype)
            cache = self.ortvalue(values)
            binding.bind_ortvalue_input(name, cache)
            longer = cache if self.args.shared else self.ortvalue(numpy.zeros((1, heads, past + 1, width), dtype))
            binding.bind_ortvalue_output(present, longer)
        binding.bind_output(wanted, "cpu")
        return binding

    def _step(self, wanted, repeats=20):
        binding = self.bindings.get(wanted)
        if binding is None:
            binding = self.bindings[wanted] = self._binding(wanted)
            self.session.run_with_iobinding(binding)
        start = time.perf_counter()
        for _ in range(repeats):
            self.session.run_with_iobinding(binding)
        return {"seconds": (time.perf_counter() - start) / repeats}

    def latent(self):
        return self._step("next_latent")

    def decode(self):
        return self._step("logits")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("how", choices=("avp", "ort"))
    parser.add_argument("model")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--past", type=int, default=1034)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shared", action="store_true")
    args = parser.parse_args()
    partner = {"avp": Avp, "ort": Ort}[args.how](args)
    print(json.dumps({"ready": 1}), flush=True)
    for line in sys.stdin:
        print(json.dumps(getattr(partner, line.strip())()), flush=True)


if __name__ == "__main__":
    main()
