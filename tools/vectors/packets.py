"""AACP packets: the validator's verdicts, the workflow encoders and the general encoder."""

import importlib
import inspect
import pkgutil
from random import Random

import aacp
import aacp.encoders.workflows

PACKETS, RULE_BASED = 150, 30

ODD_PACKETS = ["", "   ", "|", "||", "FETCH", "FETCH|HR", "FETCH|HR|return:A", "return:A|FETCH|HR"]
AGENTS = ["HR-Agent", " HR-Agent ", "X", "A:B"]
VALUES = ["", " ", "a", " a", "a:b:c", "x,y", "2024-08", "status=active"]
EXTRA_KEYS = ["res", "period", "filter", "fields", "fmt", "zzz", "Sentiment", "LTV"]

# Arguments of workflow encoders by name; any other gets its own name as value.
SAMPLES = {
    "period": "2024-08", "prev_period": "2024-07", "username": "j.smith", "email": "j.smith@example.com",
    "department": "Finance", "supplier": "ABC Ltd", "amount": 4200.0, "currency": "gbp", "purchase_order": "PO-441",
    "invoice_ref": "INV-9", "contract_type": "nda", "party": "Acme Ltd", "clause_ref": "s7",
    "issue": "IP rights restriction", "risk": "High", "recommendation": "negotiate",
}
# Optional arguments of the general encoder, with values that it has to change.
OPTIONS = {
    "res": "emp", "period": "2024-08", "filter_expr": "a=1", "fields": ["id", "name"], "fmt": "json", "src": ["x", "y"],
    "rules": "r_v2", "template": "t1", "amt": "42", "ccy": "gbp", "supplier": "ABC Ltd", "doc_type": "nda",
    "party": "Acme Ltd", "issue": "IP Rights", "risk": "High", "flags": ["f1", "f2"], "req": ["r1"], "to": ["a", "b"],
    "subj": "hello there", "flag_msg": "check this", "tone": "Formal", "sentiment": "Negative", "chain": ["a", "b"], "prog": 0.5,
}


def check_validate(given, expect):
    return compare(validate(given["packet"]), expect)


def check_workflow(given, expect):
    return compare({"packets": run_workflow(given["encoder"], given["method"], given["args"])}, expect)


def check_rule_based(given, expect):
    return compare({"packet": run_rule_based(given["args"])}, expect)


CHECKS = {"aacp.validate": check_validate, "aacp.workflow": check_workflow, "aacp.rule_based": check_rule_based}


def generate(version, seed):
    rng = Random(seed)
    packets = ODD_PACKETS + [random_packet(rng) for _ in range(PACKETS)]
    yield f"aacp/aacp-{version}.json", {
        "aacp_version": aacp.AACP_VERSION,
        "tasks": sorted(aacp.VALID_TASKS),
        "domains": sorted(aacp.VALID_DOMAINS),
        "extended_fields": sorted(aacp.EXTENDED_FIELDS),
        "validate": [{"packet": packet} | validate(packet) for packet in packets],
        "workflow": list(every_workflow()),
        "rule_based": [{"args": args, "packet": run_rule_based(args)} for args in (random_arguments(rng) for _ in range(RULE_BASED))],
    }


def validate(packet):
    verdict = aacp.AACPValidator().validate(packet)
    return {"valid": verdict.valid, "errors": verdict.errors, "warnings": verdict.warnings}


def run_workflow(encoder, method, arguments):
    """The packets; None where the encoder refuses the arguments."""
    try:
        made = getattr(encoders()[encoder](), method)(**arguments)
    except ValueError:
        return None
    return [one.packet for one in (made if isinstance(made, list) else [made])]


def run_rule_based(arguments):
    """The packet; None where the encoder refuses the arguments."""
    try:
        return aacp.RuleBasedEncoder().encode(**arguments).packet
    except ValueError:
        return None


def encoders():
    """Every workflow encoder class of this release by name."""
    package = aacp.encoders.workflows
    modules = [importlib.import_module(f"{package.__name__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)
               if not info.name.startswith("_")]
    return {name: value for module in modules for name, value in vars(module).items()
            if inspect.isclass(value) and value.__module__ == module.__name__ and name.endswith("Encoder")}


def every_workflow():
    """Every public method of every encoder, with its required arguments alone."""
    for name, encoder in sorted(encoders().items()):
        for method, function in sorted(vars(encoder).items()):
            if method.startswith("_") or not inspect.isfunction(function):
                continue
            required = [parameter for parameter, details in list(inspect.signature(function).parameters.items())[1:]
                        if details.default is inspect.Parameter.empty]
            arguments = {parameter: SAMPLES.get(parameter, parameter.replace("_", "-") + "-1") for parameter in required}
            yield {"encoder": name, "method": method, "args": arguments, "packets": run_workflow(name, method, arguments)}


def random_packet(rng):
    def maybe(odds, text):
        return [text] if rng.random() < odds else []

    keys = sorted(aacp.EXTENDED_FIELDS) + EXTRA_KEYS
    fields = [rng.choice([key, f"{key}:{rng.choice(VALUES)}"]) for key in rng.sample(keys, rng.randrange(7))]
    parts = (maybe(0.05, "") + [rng.choice(sorted(aacp.VALID_TASKS) + ["fetch", "NUKE"])] + maybe(0.05, "")
             + [rng.choice(sorted(aacp.VALID_DOMAINS) + ["", "OPS"])] + maybe(0.9, f"return:{rng.choice(AGENTS)}")
             + maybe(0.8, f"p:{rng.choice(['', '1', '2', '3', '9'])}") + maybe(0.05, "")
             + maybe(0.8, f"aacp:{rng.choice(['1.0', '1.1', '1.2'])}"))
    return "|".join(parts + fields)


def random_arguments(rng):
    core = {"task": rng.choice(sorted(aacp.VALID_TASKS)).lower(), "domain": rng.choice(sorted(aacp.VALID_DOMAINS)).lower(),
            "return_agent": "A-1", "priority": rng.choice(["1", "2", "3"])}
    return core | {key: OPTIONS[key] for key in rng.sample(sorted(OPTIONS), rng.randrange(9))}


def compare(ours, expect):
    return [f"{name} is {ours[name]!r}, the vector says {value!r}" for name, value in expect.items() if ours[name] != value]
