"""Makes the parity models and records what avp 0.2.1's HuggingFaceConnector computes on them.

    python record.py -o ../../test-vectors/parity

Writes one folder per model: the Optimum export with its tokenizer, `record.json`, the KV-caches as avp serializes them
(`kv/*.kv`), one whole frame (`context.avp`) and, for the untied model, the realignment matrix (`realignment.f32`).
Needs the packages of requirements.txt. README.md says what each recorded value means.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

# avp caches the realignment matrix under the hash of the config alone, so a matrix of other weights could be read back.
os.environ["AVP_CACHE_DIR"] = tempfile.mkdtemp(prefix="avp-cache-")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from avp import AVPContext
from avp.connectors.base import _render_prompt, _tokenize_prompt
from avp.connectors.huggingface import HuggingFaceConnector
from avp.kv_cache import serialize_kv_cache
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny_models import MODELS, export, make

PACKAGES = ["avp", "transformers", "tokenizers", "torch", "optimum", "optimum-onnx", "onnx"]
STEPS = [0, 1, 8]
HANDOVER_STEPS = [0, 8]
NEW_TOKENS = 16
SMALLEST_GAP = 1e-3

# A document for agent A, and the question that agent B puts on top of A's cache.
CASES = [
    ("ascii", "Rosa lives in Lisbon. Rosa has a parrot.", "Where does Rosa live?"),
    ("unicode", "Zoë wohnt in Kraków. 東京は雨 🦜 naïve café.", "Où habite Zoë ? 🦜"),
    ("lines", "Facts:\n- Tomas is a baker.\n\n\t- Ida, 42, isn't.\n  ", "Who is 42?\nAnswer in one word."),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("-o", "--output", type=Path, help="folder that gets one folder per model")
    either.add_argument("--survey", type=int, metavar="SEEDS", help="write nothing, print what other seeds would give")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for model in MODELS:
            if arguments.survey:
                survey(model, Path(scratch), arguments.survey)
            else:
                record(model, Path(scratch) / model.name, arguments.output / model.name)


def record(model, source, target):
    make(model, source)
    shutil.rmtree(target, ignore_errors=True)
    export(source, target)
    (target / "kv").mkdir()
    connector = Connector(source, model.name)
    cases = [record_case(connector, target, *case) for case in CASES]
    document = {
        "producer": {name: version(name) for name in PACKAGES},
        "seed": model.seed,
        "identity": connector.avp.get_model_identity().to_dict(),
        "model_hash_input": canonical_config(connector.avp),
        "config": {key: connector.model.config.to_dict()[key] for key in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "tie_word_embeddings", "eos_token_id", "bos_token_id", "pad_token_id")},
        "realignment": record_realignment(connector, target),
        "frame": record_frame(connector, target),
        "cases": cases,
    }
    (target / "record.json").write_text(to_json(document), encoding="utf-8")
    smallest = min(run["smallest_logit_gap"] for case in cases for run in [case["greedy"], *case["handovers"]])
    assert smallest > SMALLEST_GAP, f"ambiguous greedy choice in {model.name} (gap {smallest}): take another seed"
    print(f"{target}: smallest gap between the best and the next logit {smallest:.4f}")


def record_case(connector, target, name, prompt, question):
    ids = connector.tokens(prompt)
    case = {
        "name": name,
        "prompt": prompt,
        "rendered": connector.render(prompt),
        "prompt_ids": ids[0].tolist(),
        "latent": [],
        "greedy": connector.greedy(ids, None),
        "handovers": [],
    }
    for steps in STEPS:
        past, trace = connector.latent(ids, steps)
        case["latent"].append(write_latent(target, f"{name}-{steps}", steps, past, trace))
    question_ids = connector.tokens(question)
    for steps in HANDOVER_STEPS:
        past, _ = connector.latent(ids, steps)
        handover = {"steps": steps, "question": question, "question_ids": question_ids[0].tolist()}
        case["handovers"].append(handover | connector.greedy(question_ids, past))
    past, _ = connector.latent(ids, 8)
    past, trace = connector.latent(question_ids, 1, past)
    case["continued"] = {"first_steps": 8, "question": question} | write_latent(target, f"{name}-8-then-1", 1, past, trace)
    return case


def write_latent(target, stem, steps, past, trace):
    body, header = serialize_kv_cache(past)
    (target / "kv" / f"{stem}.kv").write_bytes(body)
    return {
        "steps": steps,
        "seq_len": header.seq_len,
        "kv_cache": f"kv/{stem}.kv",
        "hidden_state": trace.hidden[-1],
        "latent_inputs": trace.inputs,
    }


def record_realignment(connector, target):
    if not connector.avp.needs_realignment():
        return None
    matrix, target_norm = connector.avp._ensure_realignment()
    (target / "realignment.f32").write_bytes(matrix.contiguous().numpy().astype("<f4").tobytes())
    return {"matrix": "realignment.f32", "shape": list(matrix.shape), "lambda": 1e-5, "target_norm": float(target_norm)}


def record_frame(connector, target):
    """A frame from the package's own front door: `think`, then `to_bytes`."""
    name, prompt, _ = CASES[0]
    context = connector.avp.think(prompt, steps=8)
    envelope = {"session_id": "parity", "source_agent_id": "agent-a", "target_agent_id": "agent-b", "model_id": connector.name}
    frame = context.to_bytes(**envelope)
    assert AVPContext.from_bytes(frame).seq_len == context.seq_len
    (target / "context.avp").write_bytes(frame)
    extra = {"model_hash": context.model_hash, "model_family": context.model_family, "num_steps": str(context.num_steps)}
    return {"file": "context.avp", "case": name, "steps": 8, "kv_cache": f"kv/{name}-8.kv", "extra": extra} | envelope


class Trace:
    """What went into and came out of the model, pass by pass, seen from outside the connector."""

    def __init__(self):
        self.inputs, self.hidden = [], []

    def before(self, _model, _args, kwargs):
        if kwargs.get("inputs_embeds") is not None:
            self.inputs.append(kwargs["inputs_embeds"][0, -1].tolist())

    def after(self, model, _args, output):
        """Keeps the last position's hidden state, and proves that it is the one the head reads (after the final norm)."""
        hidden = output.hidden_states[-1][0, -1]
        torch.testing.assert_close(model.lm_head(hidden), output.logits[0, -1], rtol=1e-4, atol=1e-4)
        self.hidden.append(hidden.tolist())


class Connector:
    """The peer's connector, and Transformers itself for what the peer gets wrong."""

    def __init__(self, folder, name):
        self.name = name
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        # from_pretrained notes the scratch folder here, and it goes into the peer's model hash.
        self.model.config._name_or_path = name
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.avp = HuggingFaceConnector(model=self.model, tokenizer=self.tokenizer)

    def render(self, prompt):
        return _render_prompt(self.tokenizer, [{"role": "user", "content": prompt}])

    def tokens(self, prompt):
        return _tokenize_prompt(self.tokenizer, self.render(prompt), "cpu")[0]

    def latent(self, ids, steps, past=None):
        trace = Trace()
        hooks = [self.model.register_forward_pre_hook(trace.before, with_kwargs=True),
                 self.model.register_forward_hook(trace.after)]
        try:
            past = self.avp.generate_latent_steps(ids, steps, past_key_values=past)
        finally:
            for hook in hooks:
                hook.remove()
        assert len(trace.inputs) == steps and len(trace.hidden) == steps + 1
        return past, trace

    @torch.no_grad()
    def greedy(self, ids, past):
        """Greedy decoding with Transformers' forward alone; the end-of-turn token, if it comes, is the last one kept."""
        prompt, tokens, gaps = ids, [], []
        alone = past is None
        while len(tokens) < NEW_TOKENS and self.model.config.eos_token_id not in tokens:
            output = self.model(input_ids=ids, past_key_values=past, use_cache=True)
            past = output.past_key_values
            best, second = output.logits[0, -1].topk(2).values.tolist()
            gaps.append(best - second)
            tokens.append(int(output.logits[0, -1].argmax()))
            ids = torch.tensor([[tokens[-1]]])
        if alone:
            peer = self.model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS, do_sample=False)
            assert peer[0, prompt.shape[1]:].tolist() == tokens, "the loop above and generate() disagree"
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return {"tokens": tokens, "text": text, "smallest_logit_gap": min(gaps)}


def survey(model, scratch, seeds):
    """Prints how good each seed's greedy continuations are as a test: clear choices, many tokens, some end of turn."""
    for seed in range(seeds):
        make(replace(model, seed=seed), scratch / "candidate")
        connector = Connector(scratch / "candidate", model.name)
        runs = []
        for _, prompt, question in CASES:
            runs.append(connector.greedy(connector.tokens(prompt), None))
            for steps in HANDOVER_STEPS:
                past, _ = connector.latent(connector.tokens(prompt), steps)
                runs.append(connector.greedy(connector.tokens(question), past))
        gap = min(run["smallest_logit_gap"] for run in runs)
        variety = min(len(set(run["tokens"])) for run in runs)
        print(f"{model.name}, seed {seed}: smallest gap {gap:.4f}, at least {variety} different tokens, "
              f"lengths {[len(run['tokens']) for run in runs]}", flush=True)


def canonical_config(connector):
    text = json.dumps(connector.model.config.to_dict(), sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == connector.get_model_identity().model_hash
    return text


def to_json(document):
    """Indented, but a list of numbers stays on one line."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[-+0-9.eE,\s]+\]", lambda found: re.sub(r"\s+", "", found.group()).replace(",", ", "), text) + "\n"
    assert json.loads(text) == document
    return text


if __name__ == "__main__":
    main()
