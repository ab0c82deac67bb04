"""Turns a map that avp saved (`~/.avp/maps/*.pt`) into an `.avp-map` file; docs/avp-map.md says what that holds.

    python peer_map.py MAP.pt --source MODEL_DIR --target MODEL_DIR -o MAP.avp-map

The package hashes a config of its own making, so the hashes are taken anew from the two folders' `config.json`, and those of
the vocabularies from their `tokenizer.json`. Needs torch, safetensors, tokenizers and avp.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("map", type=Path)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    write(torch.load(arguments.map, map_location="cpu", weights_only=True), arguments.source, arguments.target, arguments.output)


def write(fields, source, target, path):
    """Writes the fields of an AVPMap, as avp saves them, to `path`."""
    tensors = {"w_map": np.asarray(fields["w_map"], np.float32)}
    if fields["bias"] is not None:
        tensors["bias"] = np.asarray(fields["bias"], np.float32)
    if fields.get("src_indices") is not None:
        tensors |= {name: np.asarray(fields[name]).astype(np.uint32) for name in ("src_indices", "tgt_indices")}
    header = {
        "format": "avp-map", "version": "1", "method": getattr(fields["method"], "value", fields["method"]),
        "target_norm": repr(float(fields["target_norm"])), "anchor_count": str(fields["anchor_count"]),
        "validation_score": repr(float(fields["validation_score"])),
    }
    for end, folder in (("source", source), ("target", target)):
        header |= {f"{end}_model_id": fields[f"{end}_model_id"], f"{end}_dim": str(fields[f"{end}_dim"]),
                   f"{end}_hash": sha256(json.loads((folder / "config.json").read_text(encoding="utf-8"))),
                   f"{end}_tokenizer_hash": sha256(sorted(Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab().items()))}
    save_file(tensors, path, metadata=header)


def sha256(value):
    """As avp hashes configs and vocabularies."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


if __name__ == "__main__":
    main()
