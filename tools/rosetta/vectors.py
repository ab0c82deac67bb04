"""Vectors of single calculations, made and checked with a release of avp.

    python vectors.py --check FILE...     does again what each case says, with the release that made it; exit code 1 if it differs
    python vectors.py -o FOLDER           with avp 0.2.1: new cases of ridge regression and Procrustes (needs torch)

Cases of other releases than the installed one are skipped and counted. test-vectors/projection/README.md says what a case
holds.
"""

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from avp.version import __version__ as AVP

TOLERANCE = 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--check", type=Path, nargs="+", metavar="FILE")
    either.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    if arguments.output:
        write(arguments.output / f"projection-{AVP}.json", list(learned_cases()))
        return
    sys.exit(not all([check_file(path) for path in arguments.check]))


def check_file(path):
    done, faults = Counter(), []
    for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
        if case["source"] != f"avp {AVP}":
            done["skipped, made by " + case["source"]] += 1
            continue
        found = OPERATIONS[case["operation"]](case["input"])
        faults += [f"  {case['name']}: {key}" for key, value in case["expect"].items() if not equal(found[key], value)]
        done[case["operation"]] += 1
    print(f"{path}: {dict(done)}, {len(faults)} faults", *faults, sep="\n")
    return not faults and any(not key.startswith("skipped") for key in done)


def equal(found, expected):
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[key], expected[key]) for key in expected)
    if expected is None or isinstance(expected, (str, bool)):
        return found == expected
    return np.shape(found) == np.shape(expected) and np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def project(given):
    from avp.rosetta.project import vocab_overlap_projection, vocabulary_mediated_projection

    hidden, head, table = (np.array(given[key], np.float32) for key in ("hidden", "source_lm_head", "target_embed"))
    options = {"temperature": given["temperature"], "target_norm": given["target_norm"], "return_metrics": True}
    mediated, mediated_metrics = vocabulary_mediated_projection(hidden, head, table, **options)
    overlap, overlap_metrics = vocab_overlap_projection(hidden, head, table[given["tgt_indices"]], np.array(given["src_indices"]), **options)
    return {"mediated": mediated, "mediated_metrics": mediated_metrics, "overlap": overlap, "overlap_metrics": overlap_metrics}


def realign(given):
    from avp.realign import apply_realignment

    return {"realigned": apply_realignment(given["hidden"], given["w_realign"], given["target_norm"])}


def soft_embedding(given):
    from avp.realign import project_to_embedding_space

    embed = np.array(given["embed"], np.float32)
    return {"soft_embedding": project_to_embedding_space(given["hidden"], embed, given["temperature"])}


def realignment_matrix(given):
    import torch
    from avp.realign import compute_realignment_matrix

    layer = lambda weight: SimpleNamespace(weight=torch.tensor(weight))
    model = SimpleNamespace(get_input_embeddings=lambda: layer(given["e_in"]), get_output_embeddings=lambda: layer(given["e_out"]))
    matrix, norm = compute_realignment_matrix(model, given["lambda"], device="cpu")
    return {"w_realign": matrix.numpy(), "target_norm": float(norm)}


def quality(given):
    from avp.rosetta.quality import TransferQualityConfig, assess_transfer

    hidden = given["hidden"]
    found = assess_transfer(given["prompt_tokens"], hidden, TransferQualityConfig(check_effective_rank=hidden is not None))
    return {key: getattr(found, key) for key in ("recommend_latent", "reason", "effective_rank_ratio")}


def ridge(given):
    import torch
    from avp.rosetta.calibrate import _ridge_regression

    return {"w_map": _ridge_regression(torch.tensor(given["x"]), torch.tensor(given["y"]), given["lambda"]).numpy()}


def procrustes(given):
    import torch
    from avp.rosetta.calibrate import _orthogonal_procrustes

    return {"w_map": _orthogonal_procrustes(torch.tensor(given["x"]), torch.tensor(given["y"])).numpy()}


OPERATIONS = {"project": project, "realign": realign, "soft_embedding": soft_embedding,
              "realignment_matrix": realignment_matrix, "quality": quality, "ridge": ridge, "procrustes": procrustes}


def learned_cases():
    random = np.random.default_rng(7)
    matrix = lambda *shape: floats(random.standard_normal(shape))
    for rows, source, target in [(40, 6, 9), (64, 12, 5)]:
        given = {"x": matrix(rows, source), "y": matrix(rows, target), "lambda": 1e-4}
        yield case(f"ridge-{source}-{target}", "a map from hidden states to embeddings, ridge 1e-4", "ridge", given)
    for width in (5, 12):
        given = {"x": matrix(40, width), "y": matrix(40, width)}
        yield case(f"procrustes-{width}", "the orthogonal map is V U^T of Y^T X = U S V^T", "procrustes", given)


def case(name, rule, operation, given):
    expect = {key: floats(value) for key, value in OPERATIONS[operation](given).items()}
    return {"name": name, "source": f"avp {AVP}", "rule": rule, "operation": operation, "input": given, "expect": expect}


def floats(array):
    """The shortest decimals that are the same float32."""
    array = np.asarray(array, np.float32)
    return float(str(array[()])) if array.ndim == 0 else [floats(part) for part in array]


def write(path, cases):
    text = json.dumps({"$schema": "schema.json", "cases": cases}, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[-+0-9.eE,\s]+\]", lambda found: re.sub(r"\s+", "", found.group()), text) + "\n"
    path.write_text(text, encoding="utf-8")
    print(f"{path}: {len(cases)} cases, {len(text)} bytes")


if __name__ == "__main__":
    main()
