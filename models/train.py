"""Trains the model, stage by stage, on dialogues that it generates during training.

    python train.py                 # from scratch into build/
    python train.py --resume        # continue from the last checkpoint in build/

Every hundred steps, and at the end of each stage, build/checkpoint.pt (weights, optimiser, stage) and
build/model/ (the model with its tokenizer, which export.py reads) are written. A resumed stage
starts again at its first step with the saved weights; the last stage, whose learning rate falls to
zero, is written at its end only.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict, deque
from pathlib import Path
from random import Random

import torch
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from dialogues import Dialogue, DialogueMaker, Stage, curriculum
from tokenizer import build_tokenizer, save_tokenizer
from world import World

HERE = Path(__file__).parent
WINDOW = 10  # batches over which a stage's accuracy is taken
POSITIONS = 1024


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        initializer_range=0.08,  # with the default, 0.02, attention never leaves the even spread
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def batch_tensors(dialogues: list[Dialogue], pad: int):
    """Right-padded ids, and the flat positions, targets and weights of the tokens to predict."""
    length = max(len(d.ids) for d in dialogues)
    ids = torch.full((len(dialogues), length), pad)
    positions, targets, weights, labels = [], [], [], []
    for row, d in enumerate(dialogues):
        ids[row, : len(d.ids)] = torch.tensor(d.ids)
        for at, weight in enumerate(d.weights):
            if weight > 0:
                positions.append(row * length + at - 1)
                targets.append(d.ids[at])
                weights.append(weight)
                labels.append(d.labels[at])
    return ids, torch.tensor(positions), torch.tensor(targets), torch.tensor(weights), labels


class Meter:
    """Share of values predicted right over the last batches, in all and by label."""

    def __init__(self) -> None:
        self.batches: deque[dict[str, tuple[int, int]]] = deque(maxlen=WINDOW)

    def add(self, right: list[bool], labels: list[str]) -> None:
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for ok, label in zip(right, labels):
            counts[label][0] += ok
            counts[label][1] += 1
        self.batches.append(counts)

    def by_label(self) -> dict[str, float]:
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for counts in self.batches:
            for label, (right, total) in counts.items():
                sums[label][0] += right
                sums[label][1] += total
        return {label: right / total for label, (right, total) in sorted(sums.items())}

    def worst(self, only: str | None) -> float:
        """The weakest label counts: a stage with one kind at chance is not mastered."""
        if len(self.batches) < WINDOW:
            return 0.0
        shares = {k: v for k, v in self.by_label().items() if k != "form"}
        return shares[only] if only else min(shares.values())


class Trainer:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.out: Path = args.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.world = World()
        self.tokenizer = build_tokenizer(self.world, POSITIONS)
        self.maker = DialogueMaker(self.world, self.tokenizer)
        self.rng = Random(args.seed)
        torch.manual_seed(args.seed)
        self.model = build_model(self.tokenizer)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.step = 0
        self.seconds = 0.0

    def run(self) -> None:
        stages = curriculum(self.maker, self.args.last_steps)
        first = self.load() if self.args.resume else 0
        if self.args.from_stage:
            first = [s.name for s in stages].index(self.args.from_stage)
        parameters = sum(p.numel() for p in self.model.parameters())
        print(f"{parameters:,} parameters, {len(self.tokenizer)} tokens", flush=True)
        for index in range(first, len(stages)):
            self.train_stage(stages[index], index)
            self.save(next_stage=index + 1)
        print(f"done after {self.step} steps, {self.seconds / 60:.1f} minutes", flush=True)

    def train_stage(self, stage: Stage, index: int) -> None:
        meter = Meter()
        for step in range(1, stage.most_steps + 1):
            started = time.monotonic()
            self.step += 1
            loss = self.train_batch(stage, step, meter)
            self.seconds += time.monotonic() - started
            mastered = not stage.decay and meter.worst(stage.until) >= stage.mastered
            if step % 20 == 0 or mastered or step == stage.most_steps:
                scores = " ".join(f"{k}={v:.2f}" for k, v in meter.by_label().items())
                print(
                    f"{stage.name} {step} loss={loss:.3f} {scores} ({self.seconds / 60:.1f} min)",
                    flush=True,
                )
            if step % 100 == 0 and not stage.decay:
                self.save(next_stage=index)
            if mastered:
                return
        if not stage.decay:
            print(f"{stage.name} not mastered, continuing", flush=True)

    def train_batch(self, stage: Stage, step: int, meter: Meter) -> float:
        rate = self.args.rate * min(1.0, self.step / 50)
        if stage.decay:
            rate *= 0.5 * (1 + math.cos(math.pi * step / (stage.most_steps + 1)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        dialogues = [stage.make(self.rng) for _ in range(stage.batch)]
        ids, positions, targets, weights, labels = batch_tensors(
            dialogues, self.tokenizer.pad_token_id
        )
        # Padding is on the right and attention is causal, so no mask is needed. Only the positions
        # of the loss go through the head.
        hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = self.model.lm_head(hidden.flatten(0, 1)[positions])
        losses = functional.cross_entropy(logits, targets, reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        meter.add((logits.argmax(-1) == targets).tolist(), labels)
        return loss.item()

    # Checkpoints

    def save(self, next_stage: int) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "next_stage": next_stage,
            "step": self.step,
            "seconds": self.seconds,
            "rng": self.rng.getstate(),
        }
        partial = self.out / "checkpoint.part"
        torch.save(state, partial)
        partial.replace(self.out / "checkpoint.pt")
        self.save_model()

    def save_model(self) -> None:
        self.model.save_pretrained(self.out / "model")
        save_tokenizer(self.tokenizer, self.out / "model")

    def load(self) -> int:
        state = torch.load(self.out / "checkpoint.pt", weights_only=False)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.rng.setstate(state["rng"])
        return state["next_stage"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "build")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--last-steps", type=int, default=800, help="steps of the last stage")
    parser.add_argument("--resume", action="store_true", help="go on from build/checkpoint.pt")
    parser.add_argument("--from-stage", help="with --resume: the stage to go on with")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    Trainer(args).run()


if __name__ == "__main__":
    main()
