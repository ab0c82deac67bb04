"""Records what Transformers does with logits and chat templates; see README.md."""

from pathlib import Path

import chat
import greedy
import sampling

VECTORS = Path(__file__).resolve().parents[2] / "test-vectors"

if __name__ == "__main__":
    sampling.record(VECTORS / "sampling")
    chat.record(VECTORS / "chat")
    greedy.record(VECTORS / "generate")
