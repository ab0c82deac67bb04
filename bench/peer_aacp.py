"""Times the installed `aacp` at validating the packets given; prints one JSON object of median seconds a packet.

    python peer_aacp.py PACKET...
"""

import json
import sys
from importlib.metadata import version

from aacp.validator import AACPValidator

from peer_timing import median_seconds


def main():
    packets = sys.argv[1:]
    validator = AACPValidator()

    def validate_all():
        for packet in packets:
            validator.validate(packet)

    print(json.dumps({"version": version("aacp"), "seconds": median_seconds(validate_all) / len(packets)}))


if __name__ == "__main__":
    main()
