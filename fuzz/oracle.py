"""Compares model hashes with Python's own json module, on random texts.

    python oracle.py [seconds] [seed]

Builds `hash_lines` and feeds it texts that are JSON, nearly JSON, or JSON as only Python reads it. The standard library
is all it needs.
"""

import hashlib
import json
import pathlib
import random
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
BATCH = 5000


def text(rng):
    parts = []
    for _ in range(rng.randrange(6)):
        parts.append(
            rng.choice(
                [
                    lambda: rng.choice('abcXYZ0 /~é€日🤝\x7f\uffff'),
                    lambda: rng.choice(["\\n", "\\t", "\\\"", "\\\\", "\\/", "\\b", "\\f", "\\r"]),
                    lambda: "\\u%04x" % rng.randrange(0x10000),
                    lambda: "\\uD83D\\uDE%02X" % rng.randrange(256),
                    lambda: rng.choice(["\\ud800", "\\udfff", "\\x", "\\u12", "\x01"]) if rng.random() < 0.1 else "k",
                ]
            )()
        )
    return '"' + "".join(parts) + '"'


def number(rng):
    kind = rng.randrange(7)
    if kind == 0:
        return str(rng.randrange(-10, 100))
    if kind == 1:
        return str(rng.randrange(-(10**40), 10**40))
    if kind == 2:
        return repr(rng.uniform(-1, 1) * 10.0 ** rng.randrange(-320, 308))
    if kind == 3:
        return "%d.%de%s%d" % (rng.randrange(20), rng.randrange(10**6), rng.choice(["", "+", "-"]), rng.randrange(330))
    if kind == 4:
        return "%.*f" % (rng.randrange(20), rng.uniform(-1, 1) * 10.0 ** rng.randrange(-6, 20))
    if kind == 5:
        return rng.choice(["NaN", "Infinity", "-Infinity", "-0", "-0.0", "0e5", "1E5", "1e16", "1e-5", "5e-324"])
    return rng.choice(["01", "1.", ".5", "+1", "1e", "-", "0x1"]) if rng.random() < 0.1 else "7"


def value(rng, depth):
    kind = rng.randrange(8 if depth else 5)
    if kind < 2:
        return text(rng)
    if kind < 4:
        return number(rng)
    if kind == 4:
        return rng.choice(["null", "true", "false"])
    space = lambda: rng.choice(["", "", " ", "\t", "  "])
    items = [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        return "[" + ",".join(space() + item + space() for item in items) + "]"
    return "{" + ",".join(space() + text(rng) + space() + ":" + item for item in items) + "}"


def expected(line):
    try:
        canonical = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"))
    except ValueError:
        return "error"
    return hashlib.sha256(canonical.encode()).hexdigest()


def main():
    seconds, seed = float((sys.argv + ["60"])[1]), int((sys.argv + ["", "0"])[2] or 0)
    subprocess.run(
        ["cargo", "build", "--release", "--no-default-features", "--bin", "hash_lines"], cwd=HERE, check=True
    )
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=HERE, check=True, capture_output=True
    )
    binary = pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "release" / "hash_lines"
    rng, end, tried, refused = random.Random(seed), time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        lines = [value(rng, 4) for _ in range(BATCH)]
        found = subprocess.run([binary], input="\n".join(lines).encode(), check=True, capture_output=True)
        for line, hash in zip(lines, found.stdout.decode().split("\n")):
            want = expected(line)
            refused += want == "error"
            if hash != want:
                sys.exit(f"{line!r}: ours {hash}, Python {want}")
        tried += BATCH
    print(f"{tried} texts, {refused} of them not JSON: all agree")


if __name__ == "__main__":
    main()
