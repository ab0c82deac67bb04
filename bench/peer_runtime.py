"""Runs a model for the runtime benchmark, in one of two ways, and times what it is asked for.

    python peer_runtime.py avp FOLDER --tokens N --steps N --threads N
    python peer_runtime.py ort GRAPH --data FOLDER --past N --threads N [--shared] [--grow]

`avp` is the `avp` package's HuggingFace connector, as its users call it. `ort` is ONNX Runtime alone, of which the runs
of a graph are timed and nothing else: one step over and over, or with `--grow` steps that each read the cache of the one
before. `--shared` has past and present in one buffer.

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
    """Steps of a graph behind `past` tokens: one step over and over, or each behind the one before."""

    def __init__(self, args):
        import numpy
        import onnxruntime

        self.numpy, self.args = numpy, args
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        # A plan of where values lie is made at the first run of each length and used from the second run on. A cache that
        # grows has no second run of a length: a loop gains nothing from plans, and keeps them all.
        options.enable_mem_pattern = not args.grow
        folder = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(folder, str(args.data))
        graph = Path(args.model).read_bytes()
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.ortvalue = onnxruntime.OrtValue.ortvalue_from_numpy
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        types = {"tensor(float)": numpy.float32, "tensor(float16)": numpy.float16, "tensor(bool)": numpy.bool_}
        self.dtypes = {name: types.get(spec.type, numpy.int64) for name, spec in self.inputs.items()}
        self.past_names = [name for name in self.inputs if name.startswith("past_key_values.")]
        self.random = numpy.random.default_rng(1)
        self.bindings = {}

    def _bind_step(self, binding, wanted, past, latent):
        """Binds all inputs but the cache for a step behind `past` tokens."""
        numpy = self.numpy
        thinking = wanted == "next_latent"
        for name, dtype in self.dtypes.items():
            if name in self.past_names:
                continue
            elif name == "input_ids":
                value = numpy.full((1, 1), 7, dtype)
            elif name == "attention_mask":
                value = numpy.ones((1, past + 1), dtype)
            elif name == "position_ids":
                value = numpy.full((1, 1), past, dtype)
            elif name == "latent_mask":
                value = numpy.full((1, 1, 1), thinking)
            elif name == "latent_step":
                value = numpy.full((1,), thinking)
            elif name == "latent_temperature":
                value = numpy.ones((1,), dtype)
            elif name == "latent_embeds":
                binding.bind_ortvalue_input(name, latent)
                continue
            else:
                raise SystemExit(f"the graph has the unknown input {name}")
            binding.bind_ortvalue_input(name, self.ortvalue(value))

    def _first_latent(self):
        spec = self.inputs.get("latent_embeds")
        if spec is None:
            return None
        dtype = self.dtypes[spec.name]
        return self.ortvalue(self.random.standard_normal((1, 1, spec.shape[-1])).astype(dtype) * dtype(0.02))

    def _cache(self, rows):
        """Random keys and values, by the names of their inputs."""
        config = json.loads((self.args.data / "config.json").read_text())
        heads = config["num_key_value_heads"]
        width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        fill = lambda name: self.random.standard_normal((1, heads, rows, width)).astype(self.dtypes[name])
        return {name: self.ortvalue(fill(name)) for name in self.past_names}

    def _repeated(self, wanted, repeats):
        """Everything is bound once, also where the longer cache goes."""
        past = self.args.past
        binding = self.bindings.get(wanted)
        if binding is None:
            binding = self.bindings[wanted] = self.session.io_binding()
            self._bind_step(binding, wanted, past, self._first_latent())
            cache = self._cache(past + 1 if self.args.shared else past)
            longer = cache if self.args.shared else self._cache(past + 1)
            for name in self.past_names:
                binding.bind_ortvalue_input(name, cache[name])
                binding.bind_ortvalue_output(present(name), longer[name])
            binding.bind_output(wanted, "cpu")
            self.session.run_with_iobinding(binding)
        start = time.perf_counter()
        for _ in range(repeats):
            self.session.run_with_iobinding(binding)
        return (time.perf_counter() - start) / repeats

    def _grown(self, wanted, repeats):
        """Each step reads the cache that the step before gave. Only the runs are timed, not what is bound for them."""
        start = self.args.past - repeats // 2
        cache = self._cache(start + repeats if self.args.shared else start)
        latent = self._first_latent()
        seconds = 0.0
        for past in range(start, start + repeats):
            binding = self.session.io_binding()
            self._bind_step(binding, wanted, past, latent)
            binding.bind_output(wanted, "cpu")
            for name in self.past_names:
                binding.bind_ortvalue_input(name, cache[name])
                if self.args.shared:
                    binding.bind_ortvalue_output(present(name), cache[name])
                else:
                    binding.bind_output(present(name), "cpu")
            began = time.perf_counter()
            self.session.run_with_iobinding(binding)
            seconds += time.perf_counter() - began
            result, *presents = binding.get_outputs()
            if not self.args.shared:
                cache = dict(zip(self.past_names, presents))
            if wanted == "next_latent":
                latent = result
        return seconds / repeats

    def _step(self, wanted, repeats=20):
        return {"seconds": (self._grown if self.args.grow else self._repeated)(wanted, repeats)}

    def latent(self):
        return self._step("next_latent")

    def decode(self):
        return self._step("logits")


def present(past_name):
    """The output that is the longer cache of an input."""
    return past_name.replace("past_key_values", "present")


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
    parser.add_argument("--grow", action="store_true")
    args = parser.parse_args()
    partner = {"avp": Avp, "ort": Ort}[args.how](args)
    print(json.dumps({"ready": 1}), flush=True)
    for line in sys.stdin:
        print(json.dumps(getattr(partner, line.strip())()), flush=True)


if __name__ == "__main__":
    main()
