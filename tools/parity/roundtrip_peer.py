"""Reads frames with the installed `avp` and prints what it finds, one JSON line for each.

    python roundtrip_peer.py FRAME...

For the conformance test of our writer: any release of `avp` will do, PyTorch is not needed. A line has the keys of a
vector's `expect` (`version`, `flags`, ..., `payload_hex`; see tools/vectors/frames.py), and `file`, `peer` (the package's
version) and `kv_cache` (`num_layers`, `num_kv_heads`, `head_dim`, `seq_len`, `dtype`, read by the package; null for other
payloads). A frame that the package refuses gives `file`, `peer` and `error`. The exit code is 0 either way: what a refusal
means is for the caller to say.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "vectors"))

from avp.kv_cache import KVCacheHeader

from frames import decoded_fields

KV_FIELDS = ("num_layers", "num_kv_heads", "head_dim", "seq_len", "dtype")


def main():
    peer = importlib.metadata.version("avp")
    for path in sys.argv[1:]:
        line = {"file": path, "peer": peer} | read(path)
        print(json.dumps(line))


def read(path):
    try:
        fields = decoded_fields(Path(path).read_bytes())
        return fields | {"kv_cache": kv_cache(fields)}
    except Exception as error:  # the package lets protobuf's, zstd's and enum's errors through as they are
        return {"error": f"{type(error).__name__}: {error}"}


def kv_cache(fields):
    """The header inside a KV-cache body; null where the body is too short to hold one."""
    payload = bytes.fromhex(fields["payload_hex"])
    if fields["payload_type"] != "kv_cache" or len(payload) < KVCacheHeader().header_size:
        return None
    header = KVCacheHeader.from_bytes(payload)
    return {name: getattr(header, name) for name in KV_FIELDS}


if __name__ == "__main__":
    main()
