"""Runs the public Python package `aacp` over inputs.json and writes what it says.

    python -m venv v && v/bin/pip install aacp==1.4.0 && v/bin/python regenerate.py

writes aacp-1.4.0.json beside this file; likewise for 1.1.0. `--check` compares instead of writing.
The inputs are ours; the answers are the package's, so nothing in the output is edited by hand.
"""

import contextlib
import importlib
import importlib.metadata
import json
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).parent

WORKFLOWS = {
    "PayrollEncoder": "payroll",
    "ITEncoder": "it_provisioning",
    "InvoiceEncoder": "finance_legal",
    "ContractEncoder": "finance_legal",
    "SalesEncoder": "sales",
    "JMLEncoder": "jml",
    "CSResolutionEncoder": "customer_service",
    "MonthEndEncoder": "month_end",
}


def validate(packet):
    from aacp import AACPValidator

    result = AACPValidator().validate(packet)
    return {"packet": packet, "valid": result.valid, "errors": result.errors, "warnings": result.warnings}


def workflow(call):
    """The packets of one encoder method, or None where this version has no such encoder."""
    try:
        module = importlib.import_module("aacp.encoders.workflows." + WORKFLOWS[call["encoder"]])
    except ModuleNotFoundError:
        return None
    encoder = getattr(module, call["encoder"])()
    try:
        encoded = getattr(encoder, call["method"])(**call["args"])
    except ValueError:
        return {**call, "packets": None}
    encoded = encoded if isinstance(encoded, list) else [encoded]
    return {**call, "packets": [one.packet for one in encoded]}


def rule_based(args):
    from aacp import RuleBasedEncoder

    try:
        return {"args": args, "packet": RuleBasedEncoder().encode(**args).packet}
    except ValueError:
        return {"args": args, "packet": None}


def decode(pair):
    """The decoder reads the fields of compact packets by position and gets them wrong, so it is given ten slots."""
    from aacp import AACPDecoder

    return {**pair, "english": AACPDecoder().decode(pair["positional"]).english}


def learning(inputs):
    """What the log of unknown patterns and the rule registry do; None where this version has no registry."""
    try:
        from aacp.registry import RuleRegistry
    except ModuleNotFoundError:
        return None
    from aacp.encoders.fallback import RegistryLogger

    registry = RuleRegistry.from_file(HERE / "rules.json")
    found = [
        {
            **query,
            "best": getattr(registry.find(**query), "id", None),
            "top": [rule.id for rule in registry.find_all(**query, limit=3)],
        }
        for query in inputs["queries"]
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        log = RegistryLogger(folder)
        texts = []
        for english, domain, packet in inputs["english"]:
            known = log.lookup_hash(english)
            if known is None:
                log.log(english, domain, packet, "minor", "first seen", 20, 12)
            texts.append({
                "english": english,
                "normalised": log.normalise(english),
                "id": log.hash(english),
                "keywords": log._extract_keywords(english),
                "known": known is not None,
            })
        entries = json.loads(log.path.read_text())
    for entry in entries:
        entry["timestamp"] = "2026-11-22T12:00:00+00:00"
    return {"texts": texts, "unknown_patterns": entries, "queries": found}


def main():
    version = importlib.metadata.version("aacp")
    from aacp import AACP_VERSION

    inputs = json.loads((HERE / "inputs.json").read_text(encoding="utf-8"))
    workflows = [workflow(call) for call in inputs["workflow"]]
    answers = {
        "source": f"aacp {version}, public Python package, run by regenerate.py over inputs.json",
        "aacp_version": AACP_VERSION,
        "validate": [validate(packet) for packet in inputs["packets"]],
        "workflow": [answer for answer in workflows if answer is not None],
        "rule_based": [rule_based(args) for args in inputs["rule_based"]],
        "decode": [decode(pair) for pair in inputs["decode"]],
        "learning": learning(inputs["learning"]),
    }
    text = json.dumps(answers, indent=1, ensure_ascii=True) + "\n"
    path = HERE / f"aacp-{version}.json"
    if "--check" in sys.argv[1:]:
        same = path.read_text(encoding="utf-8") == text
        print(f"{path.name}: {'as recorded' if same else 'DIFFERS from what is recorded'}")
        sys.exit(not same)
    path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {len(answers['validate'])} packets, {len(answers['workflow'])} workflow calls, "
          f"{len(answers['rule_based'])} rule-based calls")


if __name__ == "__main__":
    main()
