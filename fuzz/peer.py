"""Compares what this library and the Python package read of the same damaged frames.

    python peer.py [seconds] [seed]

Run it with a Python that has `avp` 0.6.2. Builds `frame_lines` and feeds it frames of that version's vectors, changed in a few
places. Where both accept a frame, they must read the same of it. Where one alone accepts it, the reason must be one of those below.
"""

import collections
import json
import pathlib
import random
import struct
import subprocess
import sys
import time
import zlib

import avp

HERE = pathlib.Path(__file__).parent
BATCH = 2000
LIMIT = 1 << 20

# What this library refuses and the package accepts, by our kinds of error.
STRICTER = {
    "bad_protobuf": "a field of another wire type than the schema's, which protobuf skips",
    "trailing_bytes": "bytes behind the frame",
    "metadata_length": "metadata that are longer than the frame",
    "contradictory_flags": "flags and metadata that say different things",
    "unknown_compression": "a compression that is not zstd, in the metadata",
    "bad_compression": "bytes behind the zstd frame, and reserved bits in it",
}
# What the package refuses and this library accepts, by what its message begins with.
LAXER = {
    "DecodeError: Unknown payload_type value 2": "an embedding, of dialect 0.2",
    "DecodeError: Unknown payload_type value -1": "a payload type of 0.5",
    "DecodeError: Unknown communication mode value 2": "JSON, of dialect 0.2",
    "ZstdError: could not determine content size": "a zstd frame of no stated length",
}


def vectors():
    for path in (HERE.parent / "test-vectors" / "avp").glob("frames-*.json"):
        for case in json.loads(path.read_text())["cases"]:
            if case["operation"] == "frame.decode" and len(case["input"].get("hex", "")) < 8000:
                yield bytes.fromhex(case["input"]["hex"])


def changed(rng, frame):
    data = bytearray(frame)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at] = rng.randrange(256)
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            del data[at : at + rng.randrange(1, 9)]
        elif kind == 4 and len(data) > 12:
            # A field of metadata more, with lengths that are right.
            length, metadata = struct.unpack_from("<II", data, 4)
            field = bytes([rng.randrange(1, 20) << 3 & 0x7F | rng.choice([0, 2])]) + rng.choice(
                [bytes([rng.randrange(128)]), b"\x02ab", b"\x02\xff\xfe", b"\xff\xff\xff\xff\x0f", b"\x06\x0a\x01k\x12\x01v"]
            )
            end = 12 + metadata
            if end <= len(data):
                data[end:end] = field
                struct.pack_into("<II", data, 4, (length + len(field)) & 0xFFFFFFFF, metadata + len(field))
        elif len(data) > 12:
            # Lengths that fit the bytes again.
            _, metadata = struct.unpack_from("<II", data, 4)
            struct.pack_into("<II", data, 4, len(data) - 12, min(metadata, len(data) - 12))
    return bytes(data)


def of_peer(frame):
    try:
        message = avp.decode(frame)
    except Exception as error:
        return {"error": type(error).__name__ + ": " + str(error)}
    if len(message.payload) > LIMIT:
        return {"error": "larger than the limit of this comparison"}
    found = message.metadata
    return {
        "session_id": found.session_id,
        "source_agent_id": found.source_agent_id,
        "target_agent_id": found.target_agent_id,
        "model_id": found.model_id,
        "hidden_dim": found.hidden_dim,
        "num_layers": found.num_layers,
        "payload_type": found.payload_type.name.lower(),
        "dtype": found.dtype.name.lower(),
        "tensor_shape": list(found.tensor_shape),
        "mode": found.mode.name.lower(),
        "avp_map_id": found.avp_map_id,
        "extra": found.extra,
        "payload_len": len(message.payload),
        "payload_crc32": zlib.crc32(message.payload),
    }


def fields(data):
    """Numbers, wire types and contents of the fields of a message."""
    def varint(at):
        value = shift = 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80:
                return value, at

    at = 0
    while at < len(data):
        tag, at = varint(at)
        if tag & 7 == 0:
            content, at = varint(at)
        else:
            length, at = varint(at) if tag & 7 == 2 else ({5: 4, 1: 8}[tag & 7], at)
            content, at = data[at : at + length], at + length
        yield tag >> 3, tag & 7, content


def has_odd_entry(frame):
    """Whether an entry of `extra` has fields beside key and value: the package's protobuf then leaves the entry out, as unknown."""
    metadata = frame[12 : 12 + struct.unpack_from("<I", frame, 8)[0]]
    entries = [content for number, wire, content in fields(metadata) if (number, wire) == (14, 2)]
    return any((number, wire) not in [(1, 2), (2, 2)] for entry in entries for number, wire, _ in fields(entry))


def outcome(frame, ours, theirs):
    """What came of a frame, and whether that is as documented above."""
    dialect = ours.pop("dialect", None)
    if "error" in theirs:
        if "error" in ours:
            return "refused by both", True
        known = [why for start, why in LAXER.items() if theirs["error"].startswith(start)]
        return "refused by them alone: " + (known or [theirs["error"]])[0], bool(known)
    if "error" in ours:
        return "refused by us alone: " + STRICTER.get(ours["error"], ours["error"]), ours["error"] in STRICTER
    differ = {key for key in ours if ours[key] != theirs[key]}
    if not differ:
        return "read alike", True
    if differ - {"extra"} == {"mode"} and dialect == "0.2":
        return "a mode of dialect 0.2", True
    if differ == {"extra"} and has_odd_entry(frame):
        return "an entry of extra with unknown fields", True
    return f"read otherwise: {sorted(differ)}", False


def main():
    seconds, seed = float((sys.argv + ["60"])[1]), int((sys.argv + ["", "0"])[2] or 0)
    build = ["cargo", "build", "--release", "--no-default-features", "--features", "zstd-native", "--bin", "frame_lines"]
    subprocess.run(build, cwd=HERE, check=True)
    metadata = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    metadata = subprocess.run(metadata, cwd=HERE, check=True, capture_output=True)
    binary = pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "release" / "frame_lines"
    rng, end, counts, frames = random.Random(seed), time.monotonic() + seconds, collections.Counter(), list(vectors())
    faults = 0
    while time.monotonic() < end:
        batch = [changed(rng, rng.choice(frames)) for _ in range(BATCH)]
        lines = "".join(frame.hex() + "\n" for frame in batch)
        found = subprocess.run([binary], input=lines, check=True, capture_output=True, text=True)
        for frame, line in zip(batch, found.stdout.splitlines(), strict=True):
            what, is_documented = outcome(frame, json.loads(line), of_peer(frame))
            counts[what] += 1
            if not is_documented:
                faults += 1
                print(f"fault: {what}\n{frame.hex()}")
    for what, count in counts.most_common():
        print(f"{count:>9}  {what}")
    sys.exit(min(faults, 1))


main()
