"""What both scripts share: the frames that travel, what is said of a context, and the command line."""

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path

VECTORS = Path(__file__).resolve().parents[2] / "test-vectors"
MEDIA_TYPE = "application/avp+binary"
URL = "https://a.example/avp/v2/contexts/c1"
CONTEXT = {
    "id": "c1",
    "size": 139425,
    "crc32": 3509857412,
    "etag": '"d1344684"',
    "session_id": "d7de63524f8c6a9dbab0b4ab7a45a731",
    "identity": {
        "model_family": "qwen2",
        "model_id": "Qwen/Qwen2.5-0.5B",
        "model_hash": "5a" * 32,
        "hidden_dim": 896,
        "num_layers": 24,
        "num_kv_heads": 2,
        "head_dim": 64,
        "tokenizer_hash": "c3" * 32,
    },
}


def frame(name):
    """A frame that the Python package `avp` wrote, from the vectors of the release that the name begins with."""
    release = name.split("-")[0]
    cases = json.loads((VECTORS / "avp" / f"frames-{release}.json").read_text(encoding="utf-8"))["cases"]
    return bytes.fromhex(next(case["input"]["hex"] for case in cases if case["name"] == name))


# A KV-cache in dialect 0.3, and one in dialect 0.2.
FRAMES = [frame("0.6.2-1-020"), frame("0.2.1-1-011")]


def case(name, rule, kind, value, expect):
    return {"name": name, "rule": rule, "kind": kind, "value": value, "expect": expect}


def carries_frame(data):
    return {"frame": data.hex()}


def carries_context(**changes):
    return {"context": {"url": URL} | CONTEXT | changes}


def run(package, make, read):
    """`make [FILE]` writes the cases, `read` answers each line of JSON from standard input with one of its own."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("file", type=Path, nargs="?")
    commands.add_parser("read")
    arguments = parser.parse_args()
    # JSON on every system in the encoding of JSON.
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    if arguments.command == "make":
        producer = f"{package} {importlib.metadata.version(package)} (public Python package)"
        text = json.dumps({"producer": producer, "cases": make()}, indent=1, ensure_ascii=False) + "\n"
        if arguments.file:
            arguments.file.write_text(text, encoding="utf-8", newline="\n")
        else:
            sys.stdout.write(text)
        return
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = read(message["kind"], message["value"])
        except Exception as error:  # what the package refuses is an answer too: the caller says what it means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, ensure_ascii=False))
