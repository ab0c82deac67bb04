"""Holds a server against the standards of HTTP/1.1 and HTTP/2, over bare sockets without TLS.

    python conformance.py HOST PORT

Prints one JSON object a line for each case: `case`, `rule` (the section that it is about), and `fault`, what the server did
wrong, or null. The exit code is 0 either way: what a fault means is for the caller to say. Behind each case the server must
still answer a sound request.
"""

import argparse
import json
import sys

import http1
import http2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    address = (arguments.host, arguments.port)
    for rule, case in http1.CASES + http2.CASES:
        fault = fault_of(case, address) or (alive(address) and f"afterwards: {alive(address)}")
        print(json.dumps({"case": case.__name__.replace("_", " "), "rule": rule, "fault": fault}), flush=True)


def fault_of(case, address):
    try:
        case(address)
    except AssertionError as fault:
        return str(fault) or "an assertion without words"
    except OSError as error:  # a time-out: the server waits for more, or does not answer
        return f"{type(error).__name__}: {error}"
    return None


def alive(address):
    """Why the server does not serve, or None."""
    return fault_of(http1.health, address)


if __name__ == "__main__":
    sys.exit(main())
