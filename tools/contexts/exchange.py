"""Hands contexts over between the Python package and the command `avp`, both ways, and records what came of it.

    python exchange.py --avp ../../target/debug/avp -o ../../test-vectors/contexts

README.md says what is recorded. Needs the packages of requirements.txt and a built `avp`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARITY = HERE.parent / "parity"
VECTORS = HERE.parent.parent / "test-vectors"
sys.path.insert(0, str(PARITY))

# Before `avp` is imported: it caches the realignment matrix under the hash of the config alone.
os.environ["AVP_CACHE_DIR"] = tempfile.mkdtemp(prefix="avp-cache-")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from avp import AVPContext
from avp.connectors.base import _render_prompt, _tokenize_prompt
from avp.connectors.huggingface import HuggingFaceConnector
from avp.kv_cache import KVCacheHeader, dynamic_cache_to_legacy, legacy_to_dynamic_cache
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny_models import MODELS, make

PROMPT = "Rosa lives in Lisbon. Rosa has a parrot."
QUESTION = "Where does Rosa live?"
STEPS = 8
NEW_TOKENS = 16
SMALLEST_GAP = 1e-3
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ENVELOPE = {"session_id": "exchange", "source_agent_id": "agent-a", "target_agent_id": "agent-b"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--avp", type=Path, required=True, help="the built command")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder that gets one folder per model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for model in MODELS:
            source = Path(scratch) / model.name
            make(model, source)
            exchange(Peer(source, model.name), Command(arguments.avp.resolve(), model.name), arguments.output / model.name)


def exchange(peer, command, target):
    target.mkdir(parents=True, exist_ok=True)
    peer.check_weights()
    record = {
        "producer": {name: version(name) for name in ("avp", "transformers", "torch")},
        "prompt": PROMPT,
        "question": QUESTION,
        "to_rust": [to_rust(peer, target, dtype) for dtype in DTYPES],
        "to_python": to_python(peer, command, target),
    }
    (target / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    runs = record["to_rust"] + record["to_python"]
    print(f"{target}: {len(runs)} frames, smallest logit gap {min(run['smallest_logit_gap'] for run in runs):.4f}")


def to_rust(peer, target, dtype):
    context = peer.connectors[dtype].think(PROMPT, steps=STEPS)
    frame = context.to_bytes(model_id=peer.name, **ENVELOPE)
    name = f"python-{dtype}.avp"
    (target / name).write_bytes(frame)
    return {"frame": name, "dtype": dtype, "seq_len": context.seq_len, "num_steps": context.num_steps} | peer.answer(frame)


def to_python(peer, command, target):
    think = ["think", command.model, "--prompt", PROMPT, "--steps", str(STEPS), "--session-id", ENVELOPE["session_id"],
             "--source-agent-id", ENVELOPE["source_agent_id"], "--target-agent-id", ENVELOPE["target_agent_id"]]
    own_hash = {dtype: ["--model-hash", peer.connectors[dtype].get_model_identity().model_hash] for dtype in DTYPES}
    files = {name: str(target / f"rust-{name}.avp") for name in ("0.2", "0.3", "saved", "zstd", "float16", "bfloat16", "relayed")}
    for dialect in ("0.2", "0.3"):
        command.run(*think, *own_hash["float32"], "--dialect", dialect, "-o", files[dialect])
    command.run(*think, "--save", files["saved"])
    for dtype in ("float16", "bfloat16"):
        command.run(*think, *own_hash[dtype], "--dialect", "0.2", "-o", files[dtype])
        command.run("kv", "convert", files[dtype], "--dtype", dtype, "-o", files[dtype])
    zstd(command, files["0.3"], files["zstd"])
    command.run("think", command.model, "--prompt", QUESTION, "--steps", "2", "--context", str(target / "python-float32.avp"),
                "--dialect", "0.2", *own_hash["float32"], "-o", files["relayed"])
    return [{"name": name, "frame": Path(path).name} | peer.receive(Path(path).read_bytes()) for name, path in files.items()]


def zstd(command, source, target):
    """The frame again, compressed; everything it says goes through `inspect` and `encode`."""
    with tempfile.TemporaryDirectory() as scratch:
        payload = Path(scratch) / "payload"
        meta = command.run("inspect", "--json", source, "--payload", str(payload))
        keys = ("session_id", "source_agent_id", "target_agent_id", "model_id", "hidden_dim", "num_layers", "payload_type",
                "dtype", "extra", "mode")
        meta = {key: value for key, value in json.loads(meta).items() if key in keys}
        command.run("encode", "--meta", json.dumps(meta), "--payload", str(payload), "--zstd", "3", "-o", target)


class Command:
    """The built `avp` and the exported model it runs."""

    def __init__(self, path, name):
        self.path, self.model = path, str(VECTORS / "parity" / name)

    def run(self, *arguments):
        done = subprocess.run([self.path, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout


class Peer:
    """The package's connectors in each number format, and Transformers for the continuation."""

    def __init__(self, folder, name):
        self.name = name
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.connectors = {}
        for dtype, torch_dtype in DTYPES.items():
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch_dtype).eval()
            # from_pretrained notes the scratch folder here, and it goes into the package's model hash.
            model.config._name_or_path = name
            self.connectors[dtype] = HuggingFaceConnector(model=model, tokenizer=self.tokenizer)
        self.model = self.connectors["float32"].model

    def check_weights(self):
        """The exported model that Rust runs has the weights that were just made."""
        record = json.loads((VECTORS / "parity" / self.name / "record.json").read_text(encoding="utf-8"))
        for case in record["cases"]:
            assert self.greedy(self.tokens(case["prompt"]), None)["tokens"] == case["greedy"]["tokens"], case["name"]

    def tokens(self, prompt):
        return _tokenize_prompt(self.tokenizer, _render_prompt(self.tokenizer, [{"role": "user", "content": prompt}]), "cpu")[0]

    def receive(self, frame):
        """What the package makes of a frame of ours."""
        context = AVPContext.from_bytes(frame)
        found = {"seq_len": context.seq_len, "num_steps": context.num_steps, "model_family": context.model_family,
                 "dtype": str(dynamic_cache_to_legacy(context.past_key_values)[0][0].dtype).removeprefix("torch.")}
        return found | {"accepted": self.accepts(frame)} | self.answer(frame)

    def accepts(self, frame):
        """Whether the package's own connector thinks on behind the frame; it refuses other model hashes."""
        context = AVPContext.from_bytes(frame)
        connector = self.connectors[str(dynamic_cache_to_legacy(context.past_key_values)[0][0].dtype).removeprefix("torch.")]
        seq_len, asked = context.seq_len, self.tokens(QUESTION).shape[1]
        try:
            thought = connector.think(QUESTION, steps=1, context=context)
        except Exception as error:
            assert type(error).__name__ == "IncompatibleModelsError", error
            return False
        assert thought.seq_len == seq_len + asked + 1
        return True

    def answer(self, frame):
        past = dynamic_cache_to_legacy(AVPContext.from_bytes(frame).past_key_values)
        past = legacy_to_dynamic_cache(tuple((key.float(), value.float()) for key, value in past))
        return self.greedy(self.tokens(QUESTION), past)

    def greedy(self, ids, past):
        """The likeliest tokens one by one, up to the end of the turn; and how close a call the closest one was."""
        found, gaps = [], []
        end = self.model.config.eos_token_id
        with torch.no_grad():
            while len(found) < NEW_TOKENS and end not in found:
                output = self.model(input_ids=ids, past_key_values=past, use_cache=True)
                best = output.logits[0, -1].topk(2)
                gaps.append(float(best.values[0] - best.values[1]))
                found.append(int(best.indices[0]))
                ids, past = best.indices[:1][None], output.past_key_values
        assert min(gaps) > SMALLEST_GAP, f"an ambiguous greedy choice (gap {min(gaps)})"
        return {"tokens": found, "smallest_logit_gap": min(gaps)}


if __name__ == "__main__":
    main()
