"""The HTTP client or server of the installed `avp`, as its users call it, for the HTTP benchmark.

    python peer_http.py serve
    python peer_http.py send URL SIZE

Every line on standard input names a piece of work; the answer is one line, a JSON object of numbers. `serve` knows `port`; its
handler answers with the payload's length. `send` knows `frame`: seconds for one payload of SIZE bytes, from the call to the answer.
"""

import json
import os
import socket
import sys
import threading
import time


def serve():
    import uvicorn
    from avp.transport import create_app

    async def handler(message):
        return {"bytes": len(message.payload)}

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    port = listener.getsockname()[1]
    config = uvicorn.Config(create_app(handler), log_level="warning", access_log=False)
    threading.Thread(target=answer, args=({"port": lambda: {"port": port}},), daemon=True).start()
    uvicorn.Server(config).run(sockets=[listener])


def send(url, size):
    from avp.transport import AVPClient
    from avp.types import AVPMetadata, DataType, PayloadType

    client = AVPClient(url, timeout=600.0)
    payload = bytes(range(256)) * (int(size) // 256)
    metadata = AVPMetadata(session_id="", model_id="Qwen/Qwen2.5-0.5B", hidden_dim=896, num_layers=24,
                           payload_type=PayloadType.KV_CACHE, dtype=DataType.FLOAT16, extra={"num_steps": "8"})

    def frame():
        start = time.perf_counter()
        client.transmit(payload, metadata)
        return {"seconds": time.perf_counter() - start}

    answer({"frame": frame})


def answer(works):
    print(json.dumps({"ready": 1}), flush=True)
    for line in sys.stdin:
        print(json.dumps(works[line.strip()]()), flush=True)
    os._exit(0)


if __name__ == "__main__":
    {"serve": serve, "send": send}[sys.argv[1]](*sys.argv[2:])
