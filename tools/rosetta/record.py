"""Records what a release of avp does when one tiny model hands over to another.

    python record.py -o ../../test-vectors/rosetta     # with avp 0.6.2 or avp 0.2.1 installed; README.md says which gives what

The models are made anew from their seeds (models.py), so that Transformers runs the very weights that were exported.
"""

import argparse
import importlib
import json
import os
import re
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

os.environ["AVP_CACHE_DIR"] = tempfile.mkdtemp(prefix="avp-cache-")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import avp.rosetta.validate as validate_module
import torch
from avp.connectors.base import _render_prompt, _tokenize_prompt
from avp.connectors.huggingface import HuggingFaceConnector
from avp.rosetta.calibrate import calibrate
from avp.version import __version__ as AVP
from transformers import AutoModelForCausalLM, AutoTokenizer

import models
import peer_map

# The package gives its function the module's name.
calibrate_module = importlib.import_module("avp.rosetta.calibrate")

PAIRS = [("tiny-qwen2", "tiny-wide"), ("tiny-wide", "tiny-qwen2"), ("tiny-qwen2", "tiny-other"), ("tiny-llama", "tiny-other")]
CASES = [("Rosa lives in Lisbon. Rosa has a parrot.", 0, "Where does Rosa live?"),
         ("Zoë wohnt in Kraków. 東京は雨 🦜 naïve café.", 8, "Où habite Zoë ? 🦜")]
NEW_TOKENS = 12
ROOT = Path(__file__).resolve().parent.parent.parent
ANCHORS = (ROOT / "avp-runtime-ort/src/rosetta/anchors.txt").read_text(encoding="utf-8").splitlines()
# One of each kind; validate.rs has the same.
VALIDATION_TEXTS = [
    "The tides follow the moon more than the sun.",
    "Compare copper and aluminium as conductors.",
    "Half of a third is a sixth.",
    "for name in names: print(name.upper())",
    "Il fait trop chaud pour dormir.",
]
validate_module.VALIDATION_TEXTS = VALIDATION_TEXTS


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    record = {"0.6.2": record_transfers, "0.2.1": record_learned}[AVP]
    with tempfile.TemporaryDirectory() as scratch:
        connectors = {name: Connector(Path(scratch) / name, name) for name in {name for pair in PAIRS for name in pair}}
        document = {
            "producer": {"avp": AVP} | {name: version(name) for name in ("transformers", "torch")},
            "pairs": [record(connectors[source], connectors[target]) for source, target in PAIRS],
        }
        if AVP == "0.6.2":
            write_map(connectors, arguments.output)
    path = arguments.output / f"record-{AVP}.json"
    path.write_text(to_json(document), encoding="utf-8")
    print(f"{path}: {path.stat().st_size} bytes")


def record_transfers(source, target):
    """Calibration without training, projection, priming, validation."""
    found = calibrate(source.model, target.model, source.tokenizer, target.tokenizer, auto_save=False)
    pair = facts(source, target, found)
    pair["map"] |= {
        "overlap_count": found.overlap_count, "overlap_ratio": found.overlap_ratio,
        "src_indices": None if found.src_indices is None else found.src_indices.tolist(),
        "tgt_indices": None if found.tgt_indices is None else found.tgt_indices.tolist(),
    }
    pair["cases"] = [record_case(source, target, found, *case) for case in CASES]
    pair["validation"] = record_validation(source, target, found)
    return pair


def write_map(connectors, output):
    """One map as the Python library writes it."""
    source, target = PAIRS[2]
    ends = [connectors[name] for name in (source, target)]
    found = calibrate(ends[0].model, ends[1].model, ends[0].tokenizer, ends[1].tokenizer, auto_save=False)
    peer_map.write(vars(found), ROOT / "test-vectors/parity" / source, output / target, output / "peer.avp-map")


def record_case(source, target, found, prompt, steps, question):
    context = source.avp.think(prompt, steps=steps)
    projected, metrics = source.avp.project_hidden_for_cross_model(context.last_hidden_state, found, return_metrics=True)
    target.avp._avp_map_cache[source.avp._model_hash] = found
    primed = target.avp._apply_rosetta_projection(source.avp, context)
    return {
        "prompt": prompt, "steps": steps, "question": question,
        "hidden_state": context.last_hidden_state[0].tolist(),
        "projected": projected[0].tolist(),
        "metrics": {name: float(value[0]) for name, value in metrics.items()},
        "seq_len": primed.seq_len, "num_steps": primed.num_steps,
        "question_ids": target.tokens(question)[0].tolist(),
    } | target.greedy(target.tokens(question), primed.past_key_values)


def record_validation(source, target, found):
    """What the package says; and perplexities, also where its cosine gate would have ended before them."""
    config = validate_module.ValidationConfig
    run = lambda threshold: validate_module.validate_projection(
        source.model, target.model, found, source.tokenizer, target.tokenizer, config(cosine_sim_threshold=threshold))
    validation = {"texts": VALIDATION_TEXTS}
    if source.tokenizer.get_vocab() == target.tokenizer.get_vocab():
        for name, threshold in [("default", 0.5), ("open", -1.0)]:
            result = run(threshold)
            validation[name] = {
                "cosine_similarity": result.cosine_similarity, "perplexity": result.perplexity,
                "recommended_mode": result.recommended_mode.name.lower(), "detail": result.detail}
        return validation
    # The package looks the source's token ids up in the target's table, which are other tokens there. Its own measure, on
    # the positions whose next token both vocabularies have, by the target's ids:
    to_target = dict(zip(found.src_indices.tolist(), found.tgt_indices.tolist()))
    embeds = target.model.get_input_embeddings().weight.detach()
    cosines = []
    for hidden, ids in validate_module._extract_per_token_hidden_states(source.model, source.tokenizer, VALIDATION_TEXTS, "cpu"):
        projected = validate_module._apply_projection(hidden, found, source.model)
        pairs = [(projected[at], to_target[token]) for at, token in enumerate(ids[1:].tolist()) if token in to_target]
        cosines.append(validate_module._compute_cosine_similarity(
            torch.stack([vector for vector, _ in pairs]), embeds, torch.tensor([token for _, token in pairs])))
    return validation | {"translated": {"cosine_similarity": sum(cosines) / len(cosines)}}


def record_learned(source, target):
    """A ridge map from our anchor sentences, and what it makes of two hidden states; also with the package's own equations
    solved in float64, since its float32 solution is off by up to 1.1e-3."""
    from avp.rosetta.project import apply_cross_model_projection

    fit = lambda: calibrate(source.model, target.model, source.tokenizer, target.tokenizer, anchor_texts=ANCHORS, method="ridge")
    found, solve = fit(), calibrate_module._ridge_regression
    calibrate_module._ridge_regression = lambda x, y, ridge: solve(x.double(), y.double(), ridge).float()
    exact = fit()
    calibrate_module._ridge_regression = solve
    pair = facts(source, target, found)
    pair["cases"] = []
    for prompt, _, _ in CASES:
        hidden = source.hidden_state(prompt)
        project = lambda made: apply_cross_model_projection(hidden, made.w_map, made.target_norm, made.bias)[0].tolist()
        pair["cases"].append({"prompt": prompt, "hidden_state": hidden[0].tolist(), "projected": project(found), "projected_float64": project(exact)})
    return pair


def facts(source, target, found):
    return {"source": source.name, "target": target.name, "map": {
        "method": found.method.value, "source_dim": found.source_dim, "target_dim": found.target_dim,
        "target_norm": float(found.target_norm), "anchor_count": found.anchor_count,
        "validation_score": found.validation_score}}


class Connector:
    """The peer's connector, and Transformers itself for greedy decoding."""

    def __init__(self, folder, name):
        self.name = name
        models.make(name, folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.model.config._name_or_path = name
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.avp = HuggingFaceConnector(model=self.model, tokenizer=self.tokenizer)

    def tokens(self, prompt):
        return _tokenize_prompt(self.tokenizer, _render_prompt(self.tokenizer, [{"role": "user", "content": prompt}]), "cpu")[0]

    @torch.no_grad()
    def hidden_state(self, prompt):
        return self.model(input_ids=self.tokens(prompt), output_hidden_states=True).hidden_states[-1][:, -1]

    @torch.no_grad()
    def greedy(self, ids, past):
        """The end-of-turn token, if it comes, is the last one kept."""
        tokens, gaps = [], []
        while len(tokens) < NEW_TOKENS and self.model.config.eos_token_id not in tokens:
            output = self.model(input_ids=ids, past_key_values=past, use_cache=True)
            past = output.past_key_values
            best, second = output.logits[0, -1].topk(2).values.tolist()
            gaps.append(best - second)
            tokens.append(int(output.logits[0, -1].argmax()))
            ids = torch.tensor([[tokens[-1]]])
        return {"tokens": tokens, "smallest_logit_gap": min(gaps)}


def to_json(document):
    """Indented, but a list of numbers stays on one line."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[-+0-9.eE,\s]+\]", lambda found: re.sub(r"\s+", "", found.group()).replace(",", ", "), text) + "\n"
    assert json.loads(text) == document
    return text


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
