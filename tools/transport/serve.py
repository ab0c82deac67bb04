"""Runs the server of the installed `avp` under uvicorn until standard input ends.

    python serve.py [--no-text] [--handshake]

Prints its port as one JSON object. The handlers answer with what the package decoded. `--no-text` leaves the handler of texts
out, `--handshake` puts in one of handshakes, which names a session. A frame whose `model_id` is `raise` makes the handler raise;
`GET /seen` gives the headers of the last request to each of AVP's paths.
"""

import argparse
import json
import os
import socket
import sys
import threading
import zlib
from pathlib import Path

import uvicorn
from avp.transport import create_app

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "vectors"))

from frames import PLAIN_FIELDS


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-text", action="store_true")
    parser.add_argument("--handshake", action="store_true")
    arguments = parser.parse_args()
    app = create_app(
        transmitted,
        text_handler=None if arguments.no_text else said,
        handshake_handler=greeted if arguments.handshake else None,
    )
    seen = {}

    @app.middleware("http")
    async def remember(request, call_next):
        if request.url.path.startswith("/avp/"):
            seen[request.url.path] = dict(request.headers)
        return await call_next(request)

    app.get("/seen")(lambda: seen)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    # Who connects before uvicorn is ready waits.
    listener.listen()
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    threading.Thread(target=end_with_input, daemon=True).start()
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listener])


def end_with_input():
    sys.stdin.read()
    os._exit(0)


async def transmitted(message):
    metadata = message.metadata
    if metadata.model_id == "raise":
        raise RuntimeError("the handler's own fault")
    return {name: getattr(metadata, name) for name in PLAIN_FIELDS} | {
        "payload_type": metadata.payload_type.name.lower(),
        "mode": metadata.mode.name.lower(),
        "extra": dict(metadata.extra),
        "text": getattr(message, "text_fallback", None),
        "payload_bytes": len(message.payload),
        "payload_crc32": zlib.crc32(message.payload),
    }


async def said(message):
    return {"heard": message.to_dict()}


async def greeted(hello):
    return {"agent_id": "peer", "identity": hello.identity.to_dict(), "session_id": "peer's session", "heard": hello.to_dict()}


if __name__ == "__main__":
    main()
