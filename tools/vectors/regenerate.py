"""Makes vectors with an installed release of `avp` or `aacp`, or checks given ones with it.

    python regenerate.py --package avp --version 0.6.2 -o OUT       make new vectors
    python regenerate.py --package avp --version 0.6.2 --check FILE...   check vectors that this release produced

A check does not compare files. It lets the package do again what each vector says it did: decode and encode the frame,
resolve the two identities, judge the packet. Exit code 1 if anything differs, or if no vector could be checked.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from cases import read_cases

MODULES = {"avp": ["frames", "kv_caches", "models"], "aacp": ["packets"]}


def main():
    arguments = parse_arguments()
    installed = importlib.metadata.version(arguments.package)
    if installed != arguments.version:
        sys.exit(f"{arguments.package} {installed} is installed, not {arguments.version}")
    # avp looks for stored maps here, and a map lying about would change what two agents agree on.
    os.environ["AVP_CACHE_DIR"] = tempfile.mkdtemp(prefix="avp-cache-")
    modules = [importlib.import_module(name) for name in MODULES[arguments.package]]
    if arguments.check:
        checks = {operation: check for module in modules for operation, check in module.CHECKS.items()}
        sound = [check_file(path, checks, arguments) for path in arguments.check]
        sys.exit(not all(sound))
    for module in modules:
        for name, document in module.generate(installed, arguments.seed):
            write(arguments.output / name, {"producer": f"{arguments.package} {installed} (public Python package)"} | document)


def check_file(path, checks, arguments):
    """Prints one line for the file and one for each fault; true if vectors were checked and none was wrong."""
    agreed, reasons, faults = Counter(), Counter(), []
    for case in read_cases(json.loads(path.read_text(encoding="utf-8"))):
        if case.producer != f"{arguments.package} {arguments.version}":
            reasons[f"made by {case.producer}"] += 1
            continue
        if case.operation not in checks:
            reasons[f"no check for {case.operation}"] += 1
            continue
        try:
            outcome = checks[case.operation](case.input, case.expect)
        except ImportError as error:
            reasons[f"{case.operation} needs {error.name or error}"] += 1
            continue
        except Exception as error:  # a vector that the package refuses is a fault of that vector, not the end of the run
            outcome = [f"{type(error).__name__}: {error}"]
        if isinstance(outcome, str):
            agreed[f"{case.operation}{outcome}"] += 1
        else:
            faults += [f"  {case.name}: {fault}" for fault in outcome]
            agreed[case.operation] += not outcome
    agreed = +agreed
    print(f"{path}: " + "; ".join(
        [f"{count} {what} agree" for what, count in agreed.items()]
        + [f"{len(faults)} faults"] + [f"{count} skipped, {why}" for why, count in reasons.items()]))
    print("\n".join(faults), end="\n" * bool(faults))
    return bool(agreed) and not faults


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path}: " + ", ".join(f"{len(value)} {key}" for key, value in document.items() if isinstance(value, list)))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", required=True, choices=MODULES)
    parser.add_argument("--version", required=True, help="must be the installed one: says which peer you mean to ask")
    parser.add_argument("--seed", type=int, default=1)
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("-o", "--output", type=Path, help="folder for new vectors")
    either.add_argument("--check", type=Path, nargs="+", metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
