"""Reads vectors of either layout as cases: one call of one operation, and what it gives.

One layout is what regenerate.py writes (`producer` with lists `vectors`, `kv_cache`, `resolve`, `validate`, ...); the
other is that of `test-vectors/avp` (`cases` with `operation`, `input`, `expect`).
"""

import json
from dataclasses import dataclass
from typing import Any


@dataclass
class Case:
    """`producer` is package and version; `expect` has the keys of `test-vectors/avp/README.md` for that operation."""

    name: str
    producer: str
    operation: str
    input: Any
    expect: Any


def read_cases(document):
    if "cases" in document:
        # Cases of errors are our own rules: no package is their witness.
        return [Case(case["name"], case["source"], case["operation"], case["input"], case["expect"])
                for case in document["cases"] if "expect" in case]
    producer = (document.get("producer") or document["source"]).replace(",", " (").split(" (")[0]
    cases = []
    for key, split in LISTS.items():
        for number, vector in enumerate(document.get(key, [])):
            operation, given, expect = split(vector)
            cases.append(Case(vector.get("name", f"{key}-{number:03}"), producer, operation, given, expect))
    return cases


def take(vector, *names):
    return {name: vector[name] for name in names}


def without(vector, *names):
    return {name: value for name, value in vector.items() if name not in names}


LISTS = {
    "vectors": lambda v: ("frame.decode", {"hex": v["hex"]}, v["expect"]),
    "kv_cache": lambda v: ("kv.decode", {"hex": v["hex"]}, without(v, "hex")),
    "paged": lambda v: ("kv.gather", without(v, "contiguous") | {"dtype": "float32"}, {"layers": v["contiguous"]}),
    "model_hash": lambda v: ("hash.model", {"json": v["config_json"]}, take(v, "sha256")),
    "tokenizer_hash": lambda v: ("hash.tokenizer", {"json": json.dumps(v["vocab"])}, take(v, "sha256")),
    "identity": lambda v: ("identity", {"json": json.dumps(v["config"])}, v["identity"]),
    "resolve": lambda v: (
        "handshake.resolve", take(v, "local", "remote") | {"shared_tokens": v["shared_vocabulary_tokens"]},
        {key: v[key] for key in ("mode", "avp_map_id", "resolution_path") if key in v}),
    "hello": lambda v: ("handshake.hello", {"json": json.dumps(v)}, {"json": v}),
    "json_message": lambda v: ("json_message", {"json": json.dumps(v)}, {"json": v}),
    "validate": lambda v: ("aacp.validate", take(v, "packet"), without(v, "packet")),
    "workflow": lambda v: ("aacp.workflow", without(v, "packets"), take(v, "packets")),
    "rule_based": lambda v: ("aacp.rule_based", take(v, "args"), take(v, "packet")),
}
