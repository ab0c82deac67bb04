"""Speaks to a server with the installed `avp`'s own client, and prints what came of it as one JSON object.

    python send.py URL FOLDER [--token TOKEN] [--large BYTES]

Says hello, then sends a frame of every kind that this release writes, a text, and what a server must refuse. Each frame is left
in FOLDER as it went out, under its kind's name. README.md says what is printed.
"""

import argparse
import importlib.metadata
import json
import random
from pathlib import Path

import httpx
from avp import avp_pb2
from avp.errors import HandshakeError, TransportError
from avp.fallback import JSONMessage
from avp.transport import AVPClient
from avp.types import AVPMetadata, CommunicationMode, CompressionLevel, DataType, ModelIdentity, PayloadType

HAS_HYBRID = hasattr(CommunicationMode, "HYBRID")
IDENTITY = ModelIdentity(model_family="qwen2", model_id="Qwen/Qwen2.5-0.5B", model_hash="ab" * 32, hidden_dim=896, num_layers=24,
                         num_kv_heads=2, head_dim=64, tokenizer_hash="cd" * 32)
OTHER = ModelIdentity(model_family="llama", model_id="other", model_hash="12" * 32, hidden_dim=2048, num_layers=16)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--token")
    parser.add_argument("--large", type=int, default=0, help="bytes of one more payload; half as many again are refused")
    arguments = parser.parse_args()
    connect = lambda identity=IDENTITY, token=arguments.token: AVPClient(
        arguments.url, "researcher", identity, token, timeout=120.0
    )
    with connect() as client, connect(OTHER) as other:
        session = client.handshake()
        found = {
            "peer": importlib.metadata.version("avp"),
            "session": told(session),
            "other": told(other.handshake()),
            "sent": [],
        }
        for name, payload, metadata, level in frames(session.session_id, arguments.large):
            found["sent"].append({"name": name} | transmit(client, arguments.folder, name, payload, metadata, level))
        found["text"] = refusal(lambda: client.send_text(JSONMessage(session_id=session.session_id, content="résumé")))
        found["health"] = client._client.get("/health").json()
        found["refused"] = refusals(client, arguments, connect)
    print(json.dumps(found))


def told(session):
    return {
        "id": session.session_id,
        "mode": session.mode.name.lower(),
        "map": session.avp_map_id,
        "remote": session.remote_identity and session.remote_identity.to_dict(),
    }


def frames(session_id, large):
    """Name, payload, metadata and compression of each frame. No more than one entry of `extra`: several have no fixed order."""
    common = dict(session_id=session_id, source_agent_id="réseau", target_agent_id="智能体", model_id=IDENTITY.model_id,
                  hidden_dim=896, num_layers=24, extra={"num_steps": "8"})
    noise = random.Random(1).randbytes
    cache = AVPMetadata(**common, payload_type=PayloadType.KV_CACHE, dtype=DataType.FLOAT16)
    hidden = AVPMetadata(**common, payload_type=PayloadType.HIDDEN_STATE, tensor_shape=(1, 896))
    yield "kv", noise(200_000), cache, CompressionLevel.NONE
    yield "hidden", noise(3584), hidden, CompressionLevel.NONE
    yield "empty", b"", AVPMetadata(), CompressionLevel.NONE
    mapped = AVPMetadata(**common, payload_type=PayloadType.KV_CACHE, avp_map_id="vocab:0123456789abcdef")
    yield "mapped", noise(1000), mapped, CompressionLevel.NONE
    for level in (CompressionLevel.FAST, CompressionLevel.BALANCED, CompressionLevel.MAX):
        yield f"zstd-{level.name.lower()}", noise(1000) * 300, cache, level
    yield "json", b'{"content": "hi"}', AVPMetadata(mode=CommunicationMode.JSON), CompressionLevel.NONE
    if HAS_HYBRID:
        hybrid = AVPMetadata(**common, mode=CommunicationMode.HYBRID, confidence_score=0.5)
        yield "hybrid", hybrid_payload(noise(5000)), hybrid, CompressionLevel.NONE
        yield "hybrid-zstd", hybrid_payload(noise(50) * 100), hybrid, CompressionLevel.FAST
        yield "embedding", noise(64), AVPMetadata(payload_type=PayloadType.EMBEDDING), CompressionLevel.NONE
    if large:
        yield "large", noise(1 << 16) * (large >> 16), cache, CompressionLevel.NONE


def hybrid_payload(latent):
    """As `encode_hybrid` makes it; the client encodes by itself, and takes no whole frame."""
    chunks = avp_pb2.HybridPayload()
    chunks.chunks.add(chunk_type=avp_pb2.LATENT_CHUNK, data=latent, confidence=0.75)
    chunks.chunks.add(chunk_type=avp_pb2.TEXT_CHUNK, data="résumé".encode(), confidence=1.0)
    return chunks.SerializeToString()


def transmit(client, folder, name, payload, metadata, level):
    response = client.transmit(payload, metadata, level)
    frame = response.request.content
    (folder / name).write_bytes(frame)
    return {"version": response.http_version, "reply": response.json(), "bytes": len(frame)}


def refusals(client, arguments, connect):
    """What the package's client makes of a server's refusals: status and words of its own exceptions, by name."""
    unknown = AVPMetadata(session_id="no such session")
    wordy = AVPMetadata(extra={"": "x" * (80 << 10)})
    found = {
        "unknown_session": refusal(lambda: client.transmit(b"x", unknown)),
        "metadata_too_large": refusal(lambda: client.transmit(b"x", wordy)),
        "frame_too_large": refusal(lambda: client.transmit(bytes(arguments.large * 3 // 2), AVPMetadata())),
        "after_refusals": refusal(lambda: client.transmit(b"x", AVPMetadata())),
    }
    if arguments.token:
        with connect(token="wrong") as stranger:
            found["wrong_token"] = refusal(lambda: stranger.transmit(b"x", AVPMetadata()))
            found["wrong_token_hello"] = refusal(stranger.handshake)
    return found


def refusal(deed):
    try:
        response = deed()
    except TransportError as error:
        return {"status": error.status_code, "words": str(error)}
    except HandshakeError as error:
        return {"handshake": str(error)}
    except httpx.HTTPError as error:
        return {"broken": repr(error)}
    return {"reply": response.json()}


if __name__ == "__main__":
    main()
