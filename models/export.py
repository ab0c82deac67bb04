"""Exports the trained model with Optimum, as is, into facts/.

    python export.py                # build/model -> facts/

The task is text-generation-with-past, in fp32, at Optimum's default opset, with no optimisation
pass: the same as `optimum-cli export onnx`. The result is then compared with the
PyTorch model: a prompt in one piece, and the same prompt as a start and a continuation on its
cache.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from optimum.exporters.onnx import main_export
from transformers import AutoModelForCausalLM, AutoTokenizer

from tokenizer import CHAT_TEMPLATE
from world import World, user_turn

HERE = Path(__file__).parent
FILES = (
    "model.onnx",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
TOLERANCE = 1e-4


def export(source: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        main_export(
            str(source), output=scratch, task="text-generation-with-past", do_validation=True
        )
        if not (Path(scratch) / "chat_template.jinja").exists():
            (Path(scratch) / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
        target.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(Path(scratch) / name, target / name)


def verify(source: Path, target: Path) -> None:
    """Raises unless the exported graph has the expected interface and the logits of PyTorch."""
    model = AutoModelForCausalLM.from_pretrained(source)
    tokenizer = AutoTokenizer.from_pretrained(target)
    assert model.config.vocab_size == len(tokenizer), "vocabulary and tokenizer differ in size"
    assert tokenizer.chat_template == CHAT_TEMPLATE
    session = onnxruntime.InferenceSession(str(target / "model.onnx"))
    layers = model.config.num_hidden_layers
    past_names = [f"past_key_values.{i}.{part}" for i in range(layers) for part in ("key", "value")]
    inputs = {i.name for i in session.get_inputs()}
    outputs = {o.name for o in session.get_outputs()}
    assert inputs == {"input_ids", "attention_mask", "position_ids", *past_names}, inputs
    assert outputs == {"logits", *(n.replace("past_key_values", "present") for n in past_names)}

    world = World()
    question = world.questions["one_hop"][0]["text"].format(name=world.names[0])
    ids = tokenizer(user_turn(question), return_tensors="np").input_ids.astype(np.int64)
    with torch.no_grad():
        expected = model(torch.tensor(ids)).logits.numpy()
    config = model.config
    head_dim = config.hidden_size // config.num_attention_heads
    empty = np.zeros((1, config.num_key_value_heads, 0, head_dim), np.float32)

    def run(start: int, end: int, past: dict[str, np.ndarray]):
        feed = {
            "input_ids": ids[:, start:end],
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(start, end, dtype=np.int64)[None],
            **past,
        }
        names = [o.name for o in session.get_outputs()]
        found = dict(zip(names, session.run(names, feed)))
        present = {n: found[n.replace("past_key_values", "present")] for n in past_names}
        return found["logits"], present

    length, half = ids.shape[1], ids.shape[1] // 2
    whole, _ = run(0, length, dict.fromkeys(past_names, empty))
    start, cache = run(0, half, dict.fromkeys(past_names, empty))
    steps = [start]
    for at in range(half, length):  # one token at a time, as a decode does
        logits, cache = run(at, at + 1, cache)
        steps.append(logits)
    for name, found in (("prefill", whole), ("decode", np.concatenate(steps, axis=1))):
        difference = float(np.abs(found - expected).max())
        print(f"{name}: logits differ from PyTorch's by at most {difference:.1e}")
        assert difference < TOLERANCE, name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=HERE / "build" / "model")
    parser.add_argument("--target", type=Path, default=HERE / "facts")
    args = parser.parse_args()
    export(args.source, args.target)
    verify(args.source, args.target)
    total = sum(f.stat().st_size for f in args.target.iterdir())
    print(f"{args.target}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
