"""Fills corpus/ from the vectors, so that fuzzing starts from frames that mean something.

    python seed.py && cargo +nightly fuzz run frame -- -max_total_time=600
"""

import hashlib
import json
import pathlib

HERE = pathlib.Path(__file__).parent
VECTORS = HERE.parent / "test-vectors" / "avp"


def seed(target, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def main():
    for path in sorted(VECTORS.glob("*.json")):
        for case in json.loads(path.read_text()).get("cases", []):
            operation, given = case["operation"], case["input"]
            if operation == "frame.decode":
                frame = bytes.fromhex(given["hex"])
                seed("frame", frame)
                seed("stream", bytes([7]) + frame * 2)
                seed("metadata", frame[12 : 12 + int.from_bytes(frame[8:12].ljust(4, b"\0"), "little")])
                if case.get("expect", {}).get("mode") == "hybrid" and not case["expect"].get("compressed"):
                    seed("hybrid", frame[12 + int.from_bytes(frame[8:12], "little") :])
            elif operation == "hybrid.decode":
                seed("hybrid", bytes.fromhex(given["hex"]))
            elif operation == "kv.decode":
                seed("kv", bytes.fromhex(given["hex"]) + bytes([0, 5, 1]))
            elif "json" in given:
                seed("json", given["json"].encode())
    for folder in sorted((HERE / "corpus").iterdir()):
        print(folder.name, len(list(folder.iterdir())))


if __name__ == "__main__":
    main()
