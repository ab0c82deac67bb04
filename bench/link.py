"""Two network namespaces with a high-latency link between them, for the HTTP benchmark. Needs root and /dev/net/tun.

    python link.py NEAR FAR MILLISECONDS

Creates the namespaces NEAR (10.99.0.1) and FAR (10.99.0.2), each with a device whose other end is this program: packets of one
arrive at the other MILLISECONDS later, in order and without loss, like with `tc netem delay`, which many kernels lack. TCP on both
sides is that of the system. Prints a JSON object once both are up, and removes everything when standard input ends.
"""

import collections
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# As on the Internet. With packets of 64 KiB, TCP's receive window never grows beyond one of them.
MTU = 1500


def main():
    near, far, delay = sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000
    made = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        ends = [end(name, address, made) for name, address in ((near, "10.99.0.1"), (far, "10.99.0.2"))]
        for come, go in (ends, ends[::-1]):
            threading.Thread(target=carry, args=(come, go, delay), daemon=True).start()
        print(json.dumps({"ready": 1}), flush=True)
        sys.stdin.read()
    finally:
        for name in made:
            run("ip", "netns", "delete", name)
    os._exit(0)


def end(namespace, address, made):
    """Creates a device in a namespace of its own; returns the file of its other end."""
    run("ip", "netns", "add", namespace)
    made.append(namespace)
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", namespace.encode(), IFF_TUN | IFF_NO_PI))
    run("ip", "link", "set", namespace, "netns", namespace)
    inside = ("ip", "-n", namespace)
    run(*inside, "address", "add", f"{address}/24", "dev", namespace)
    run(*inside, "link", "set", namespace, "mtu", str(MTU), "txqueuelen", "10000", "up")
    run(*inside, "link", "set", "lo", "up")
    return device


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


def carry(come, go, delay):
    """Reads packets as they arrive, and writes each after its delay."""
    waiting = collections.deque()
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        if select.select([come], [], [], patience)[0]:
            waiting.append((time.monotonic() + delay, os.read(come, 1 << 16)))
        while waiting and waiting[0][0] <= time.monotonic():
            os.write(go, waiting.popleft()[1])


if __name__ == "__main__":
    main()
