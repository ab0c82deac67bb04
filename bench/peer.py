"""Times the installed `avp` at the same work as the Rust benchmark; prints one JSON object of median seconds.

    python peer.py SIZE...

For each size in bytes: `encode` and `decode` of a KV-cache frame with that much payload.
"""

import json
import statistics
import sys
import time
from importlib.metadata import version

from avp.codec import decode, encode
from avp.types import AVPMetadata, DataType, PayloadType


def median_seconds(work, budget=1.0):
    """The median over at least five runs of `work`, each long enough for the clock, within about `budget` seconds."""
    start = time.perf_counter()
    work()
    once = max(time.perf_counter() - start, 1e-7)
    batch = max(1, int(0.005 / once))
    samples = []
    deadline = time.perf_counter() + budget
    while len(samples) < 5 or (time.perf_counter() < deadline and len(samples) < 101):
        start = time.perf_counter()
        for _ in range(batch):
            work()
        samples.append((time.perf_counter() - start) / batch)
    return statistics.median(samples)


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
