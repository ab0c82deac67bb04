"""What Transformers leaves of fixed logits: processed distributions for test-vectors/sampling."""

import json
import random
from pathlib import Path

import torch
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

OPTIONS = [
    {},
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 10_000},
    {"top_p": 0.9},
    {"top_p": 0.25},
    {"top_p": 0.01},
    {"min_p": 0.1},
    {"min_p": 0.6},
    {"min_p": 1.0},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95},
    {"temperature": 1.4, "top_k": 12, "top_p": 0.8, "min_p": 0.05},
    {"temperature": 0.6, "top_p": 0.95, "min_p": 0.3, "repetition_penalty": 1.1},
    {"logit_bias": {"3": 4.0, "7": -4.0}},
    {"logit_bias": {"1": -100.0}, "repetition_penalty": 1.5, "top_k": 7},
]


def processors(options):
    """The order of `GenerationMixin._get_logits_processor`."""
    chain = LogitsProcessorList()
    if bias := options.get("logit_bias"):
        chain.append(SequenceBiasLogitsProcessor([[[int(token)], value] for token, value in bias.items()]))
    if "repetition_penalty" in options:
        chain.append(RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]))
    if "temperature" in options:
        chain.append(TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        chain.append(TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        chain.append(TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        chain.append(MinPLogitsWarper(options["min_p"]))
    return chain


def logits(rng, shape, size):
    if shape == "normal":
        return [round(rng.gauss(0, 3), 4) for _ in range(size)]
    if shape == "peaked":
        return [round(rng.gauss(0, 1) + (9 if token == 11 else 0), 4) for token in range(size)]
    # Steps of a half: many tokens are equally likely.
    return [rng.randint(-6, 6) / 2 for _ in range(size)]


def cases():
    rng = random.Random(5)
    for shape, size in [("normal", 100), ("peaked", 40), ("ties", 60)]:
        for options in OPTIONS:
            # Which of equally likely tokens a nucleus cuts off depends on an unstable sort.
            if shape == "ties" and "top_p" in options:
                continue
            values = logits(rng, shape, size)
            prompt = [rng.randrange(size) for _ in range(12)]
            scores = processors(options)(torch.tensor([prompt]), torch.tensor([values], dtype=torch.float32))
            chances = torch.softmax(scores.double(), dim=-1)[0].tolist()
            kept = [[token, chance] for token, chance in enumerate(chances) if scores[0, token] != -torch.inf]
            name = f"{shape} {json.dumps(options)}"
            yield {"name": name, "logits": values, "prompt": prompt, "options": options, "probabilities": kept}


def record(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(case) for case in cases())
    (folder / "distributions.json").write_text(f'{{"cases": [\n{lines}\n]}}\n')
