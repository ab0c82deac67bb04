"""Times the installed `avp` at the same work as the Rust benchmark; prints one JSON object of median seconds.

    python peer.py SIZE...

For each size in bytes: `encode` and `decode` of a KV-cache frame with that much payload.
"""

import json
import sys
from importlib.metadata import version

from avp.codec import decode, encode
from avp.types import AVPMetadata, DataType, PayloadType

from peer_timing import median_seconds


def main():
    times = {}
    metadata = AVPMetadata(
        session_id="bench",
        model_id="Qwen/Qwen2.5-0.5B",
        hidden_dim=896,
        num_layers=24,
        payload_type=PayloadType.KV_CACHE,
        dtype=DataType.FLOAT16,
        extra={"num_steps": "8"},
    )
    for size in map(int, sys.argv[1:]):
        payload = bytes(range(256)) * (size // 256)
        frame = encode(payload, metadata)
        times[str(size)] = {
            "encode": median_seconds(lambda: encode(payload, metadata)),
            "decode": median_seconds(lambda: decode(frame)),
        }
    print(json.dumps({"version": version("avp"), "seconds": times}))


if __name__ == "__main__":
    main()
