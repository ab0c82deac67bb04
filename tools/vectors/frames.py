"""Whole frames: made by the package's encoder, and read and written again from what a vector says is in them."""

import hashlib
import struct
import zlib
from random import Random

import avp
from avp import avp_pb2
from avp.types import (AVP_VERSION_HEADER, HEADER_SIZE, AVPMetadata, CommunicationMode, CompressionLevel, DataType,
                       PayloadType)

METADATA_FIELDS = {field.name for field in avp_pb2.Metadata.DESCRIPTOR.fields}
HAS_CONFIDENCE = "confidence_score" in METADATA_FIELDS
HAS_CHECKSUM = "payload_checksum" in METADATA_FIELDS
PLAIN_FIELDS = "session_id source_agent_id target_agent_id model_id hidden_dim num_layers avp_map_id".split()
FRAMES = 24

TEXTS = ["", "", "agent", "a b c", "line\nbreak", "réseau", "智能体", "🤝", "Qwen/Qwen2.5-7B-Instruct", "x" * 300]
KEYS = ["", "task_id", "model_hash", "model_family", "num_steps", "clé", "🤝"]
MAP_IDS = ["", "", "vocab:0123456789abcdef", "0123456789abcdef_fedcba9876543210", "vocab_overlap:101"]
SHAPES = [(), (0,), (4,), (1, 896), (2, 3, 4), (1, 2, 3, 4, 5)]
DIMS = [0, 1, 127, 128, 896, 2**31, 2**32 - 1]
LAYERS = [0, 1, 24, 28, 80]


def decoded_fields(frame):
    """What the package reads in a frame, under the names that the vectors use, and what it leaves unread but is there.

    The package verifies a checksum and does not give it out; it is taken from the metadata with the package's schema.
    """
    message = avp.decode(frame)
    header, meta = message.header, message.metadata
    fields = {
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
        "confidence_score": meta.confidence_score if HAS_CONFIDENCE else None,
        "text": getattr(message, "text_fallback", None),
        "checksum": written_checksum(frame),
        "payload_hex": message.payload.hex(),
        "payload_bytes": len(message.payload),
        "payload_sha256": hashlib.sha256(message.payload).hexdigest(),
        "chunks": chunks(frame, message),
    }
    return fields | {name: getattr(meta, name) for name in PLAIN_FIELDS}


def check(given, expect):
    """Reads the frame, compares every field of `expect`, then writes the frame from those fields alone."""
    frame = bytes.fromhex(given["hex"])
    fields = decoded_fields(frame)
    faults = differences(fields, expect)
    if faults:
        return faults
    payload = bytes.fromhex(expect.get("payload_hex", fields["payload_hex"]))
    levels = [level for level in CompressionLevel if (level != CompressionLevel.NONE) == expect["compressed"]]
    written = [write(payload, expect | {"chunks": fields["chunks"]}, level) for level in levels]
    if frame in written:
        return ", read and written byte for byte,"
    # Several entries of `extra` have no fixed order, and another zstd release packs otherwise: compare what is in it.
    if not expect["compressed"] and len(expect["extra"]) < 2:
        return [f"is written as {written[0].hex()}"]
    unfixed = {"payload_length"} if expect["compressed"] else set()
    again = {key: value for key, value in expect.items() if key not in unfixed}
    faults = differences(decoded_fields(written[0]), again)
    return [f"written again, {fault}" for fault in faults] or ", read and written field for field,"


CHECKS = {"frame.decode": check}


def generate(version, seed):
    rng = Random(seed)
    vectors = [vector(rng, f"{version}-{seed}-{number:03}") for number in range(FRAMES)]
    yield f"frames/avp-{version}.json", {"header_version": AVP_VERSION_HEADER, "vectors": vectors}


def vector(rng, name):
    wanted = {
        "session_id": rng.choice(["", rng.randbytes(16).hex()]),
        "hidden_dim": rng.choice(DIMS),
        "num_layers": rng.choice(LAYERS),
        "payload_type": rng.choice(list(PayloadType)).name.lower(),
        "dtype": rng.choice(list(DataType)).name.lower(),
        "tensor_shape": list(rng.choice(SHAPES)),
        "mode": rng.choice(list(CommunicationMode)).name.lower(),
        "avp_map_id": rng.choice(MAP_IDS),
        "extra": {key: rng.choice(TEXTS) for key in rng.sample(KEYS, rng.choice([0, 0, 1, 2, 3]))},
        "confidence_score": rng.choice([0.0, 0.5, 1.0, 0.1]),
    } | {name: rng.choice(TEXTS) for name in ("source_agent_id", "target_agent_id", "model_id")}
    payload = rng.choice([b"", rng.randbytes(rng.choice([1, 4, 64, 300])), bytes(1024), rng.randbytes(16) * 64])
    if wanted["mode"] == "hybrid":
        wanted["chunks"] = [{"kind": kind, "confidence": rng.choice([0.0, 0.25, 0.75])} for kind in ("latent", "text")]
        wanted["text"] = rng.choice(TEXTS)
    frame = write(payload, wanted, rng.choice(list(CompressionLevel)))
    expect = decoded_fields(frame)
    given = {key: wanted[key] for key in wanted if key not in ("chunks", "confidence_score")}
    assert not differences(expect, given) and expect["payload_hex"] == payload.hex(), name
    return {"name": name, "hex": frame.hex(), "expect": {key: expect[key] for key in SHARED_KEYS}}


SHARED_KEYS = ("version flags payload_length metadata_length compressed session_id source_agent_id target_agent_id model_id "
               "hidden_dim num_layers payload_type dtype tensor_shape mode avp_map_id extra confidence_score text checksum "
               "payload_hex payload_sha256").split()


def write(payload, fields, level):
    """Encodes with the package. `fields` are named as in a vector's `expect`."""
    metadata = AVPMetadata(
        payload_type=PayloadType[fields["payload_type"].upper()], dtype=DataType[fields["dtype"].upper()],
        mode=CommunicationMode[fields["mode"].upper()], tensor_shape=tuple(fields["tensor_shape"]),
        extra=fields["extra"], **{name: fields[name] for name in PLAIN_FIELDS})
    if HAS_CONFIDENCE:
        metadata.confidence_score = fields["confidence_score"]
    if fields["mode"] != "hybrid":
        return avp.encode(payload, metadata, level)
    confidence = {chunk["kind"]: chunk["confidence"] for chunk in fields["chunks"]}
    return avp.encode_hybrid(payload, fields["text"], metadata, level, confidence["latent"], confidence["text"])


def differences(fields, expect):
    """What `expect` says otherwise; keys that no package decodes (`dialect`) are left to our own implementation."""
    faults = []
    for name, expected in expect.items():
        if name == "dialect":
            continue
        found = fields[name]
        if name == "checksum" and isinstance(expected, dict):
            # A project case gives the verdict as well; the package's is that decoding did not fail.
            found = {"expected": found, "actual": zlib.crc32(bytes.fromhex(fields["payload_hex"])), "ok": True}
        if found != expected:
            faults.append(f"{name} is {found!r}, the vector says {expected!r}")
    return faults


def written_checksum(frame):
    if not HAS_CHECKSUM:
        return None
    metadata_length = struct.unpack_from("<I", frame, 8)[0]
    meta = avp_pb2.Metadata.FromString(frame[HEADER_SIZE:HEADER_SIZE + metadata_length])
    return meta.payload_checksum if meta.HasField("payload_checksum") else None


def chunks(frame, message):
    """The chunks of a hybrid body with their confidence, which `decode` does not give out; None for other frames."""
    if getattr(message, "text_fallback", None) is None:
        return None
    header = message.header
    body = frame[HEADER_SIZE + header.metadata_length:HEADER_SIZE + header.payload_length]
    if header.compressed:
        body = avp.decompress(body)
    kinds = {avp_pb2.LATENT_CHUNK: "latent", avp_pb2.TEXT_CHUNK: "text"}
    return [{"kind": kinds[chunk.chunk_type], "bytes": len(chunk.data), "confidence": chunk.confidence}
            for chunk in avp_pb2.HybridPayload.FromString(body).chunks]
