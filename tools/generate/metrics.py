"""What `avp` 0.6.2 says of its own diagnostics: test-vectors/metrics. Run where that package is installed."""

import dataclasses
import json
from pathlib import Path

from avp.easy import _compute_word_overlap
from avp.metrics import GenerateMetrics, ThinkMetrics, TransferDiagnostics

SUMMARIES = [
    {},
    {"output_empty": True},
    {"has_nan": True, "has_inf": True, "transfer_mode": "latent"},
    {"transfer_mode": "latent", "norm_trajectory": [12.34, 5.0, 7.777]},
    {"transfer_mode": "rosetta", "projection_method": "VOCAB_MEDIATED", "nearest_cos_sim": 0.98765},
    {"transfer_mode": "latent", "text_overlap": 0.333, "warnings": ["compare baseline failed: x"]},
    {"norm_trajectory": [], "text_overlap": 1.0},
]

OVERLAPS = [("", ""), ("a", ""), ("The cat sat", "the CAT ran away"), ("a a a", "a"), ("\u00c9t\u00e9\tchaud", "\u00e9t\u00e9")]

if __name__ == "__main__":
    summaries = []
    for fields in SUMMARIES:
        found = TransferDiagnostics(**fields)
        summaries.append({**fields, "summary": found.summary(), "healthy": found.healthy})
    record = {
        "fields": {
            kind.__name__: [field.name for field in dataclasses.fields(kind)]
            for kind in (TransferDiagnostics, ThinkMetrics, GenerateMetrics)
        },
        "summaries": summaries,
        "overlaps": [[one, other, _compute_word_overlap(one, other)] for one, other in OVERLAPS],
    }
    folder = Path(__file__).resolve().parents[2] / "test-vectors" / "metrics"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "avp-0.6.2.json").write_text(json.dumps(record, indent=1) + "\n")
