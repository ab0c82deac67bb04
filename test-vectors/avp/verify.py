"""Checks the frames of this folder with the Python package that wrote them.

    python -m venv v && v/bin/pip install avp==0.6.2 && v/bin/python verify.py

reads frames-<version>.json of the installed version: every frame decodes to what its case expects, and encoding the
same fields gives the same bytes (the same fields, where the package's own bytes are not fixed). Needs `avp` alone.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import sys

import avp.codec as codec
import avp.types as types

HERE = pathlib.Path(__file__).parent
DIALECT_0_2 = hasattr(types, "FLAG_HYBRID")


def fields(message, expect):
    """The decoded message under the names of `expect`; fields that the package does not decode are taken over."""
    meta, header = message.metadata, message.header
    decoded = {
        "version": header.version,
        "flags": header.flags,
        "payload_length": header.payload_length,
        "metadata_length": header.metadata_length,
        "compressed": header.compressed,
        "payload_type": meta.payload_type.name.lower(),
        "dtype": meta.dtype.name.lower(),
        "tensor_shape": list(meta.tensor_shape),
        "mode": meta.mode.name.lower(),
        "extra": dict(meta.extra),
        "payload_bytes": len(message.payload),
        "payload_sha256": hashlib.sha256(message.payload).hexdigest(),
    }
    plain = "session_id source_agent_id target_agent_id model_id hidden_dim num_layers avp_map_id".split()
    decoded.update({name: getattr(meta, name) for name in plain})
    if expect["mode"] == "hybrid":
        decoded["text"] = message.text_fallback
    if expect["confidence_score"] is not None:
        decoded["confidence_score"] = meta.confidence_score
    return decoded


def encode(message, expect):
    level = types.CompressionLevel.BALANCED if expect["compressed"] else types.CompressionLevel.NONE
    if expect["mode"] != "hybrid":
        return codec.encode(message.payload, message.metadata, level)
    confidence = {chunk["kind"]: chunk["confidence"] for chunk in expect["chunks"]}
    return codec.encode_hybrid(
        message.payload, message.text_fallback, message.metadata, level, confidence["latent"], confidence["text"]
    )


def main():
    version = importlib.metadata.version("avp")
    cases = json.loads((HERE / f"frames-{version}.json").read_text())["cases"]
    faults = []
    for case in cases:
        frame, expect = bytes.fromhex(case["input"]["hex"]), case["expect"]
        message = codec.decode(frame)
        for name, value in fields(message, expect).items():
            if value != expect[name]:
                faults.append(f"{case['name']}: {name} is {value!r}, the case says {expect[name]!r}")
        again = encode(message, expect)
        if case["rewrite"]["as"] == "bytes" and again != frame:
            faults.append(f"{case['name']}: encodes to {again.hex()}")
    print(f"avp {version}: {len(cases)} frames, {len(faults)} faults", *faults, sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
