"""Evaluates the exported model on documents of held-out pairs only.

    python evaluate.py                          # facts/, 600 questions for each mode
    python evaluate.py --questions 1200 --seed 7

Modes, each on the same questions:

    direct     B reads document and question in one user turn
    text       A writes a summary; B reads summary and question
    latent N   A reads document and request and runs N latent steps; B's prompt follows
               directly in A's KV-cache

A latent step feeds softmax(logits) @ E, with E the token embedding, as the next input. The exported
graph takes token ids only, so a `Where` is added after its embedding; the rest of the graph stays as
exported.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from transformers import AutoTokenizer

from world import IM_END, Question, World, user_turn

HERE = Path(__file__).parent
LONGEST_ANSWER = 12  # tokens
LONGEST_SUMMARY = 120  # tokens; four people take 63
LATENT_STEPS = (0, 8, 20)
QUESTIONS_PER_DOCUMENT = {1: 2, 2: 2}  # hops: how many

Cache = dict[str, np.ndarray]


def with_latent_input(model: onnx.ModelProto) -> np.ndarray:
    """Adds the inputs `latent_mask` and `latent_embeds` to the graph; returns the embedding."""
    graph = model.graph
    weights = {i.name: i for i in graph.initializer}
    (gather,) = [
        n
        for n in graph.node
        if n.op_type == "Gather" and n.input[0] in weights and n.input[1] == "input_ids"
    ]
    embedding = numpy_helper.to_array(weights[gather.input[0]])
    embedded = gather.output[0]
    gather.output[0] = embedded + "_of_ids"
    graph.node.insert(
        list(graph.node).index(gather) + 1,
        helper.make_node("Where", ["latent_mask", "latent_embeds", gather.output[0]], [embedded]),
    )
    graph.input.append(helper.make_tensor_value_info("latent_mask", TensorProto.BOOL, [1, 1, 1]))
    graph.input.append(
        helper.make_tensor_value_info("latent_embeds", TensorProto.FLOAT, [1, 1, embedding.shape[1]])
    )
    return embedding


class Agent:
    """The model with its tokenizer: runs tokens or a latent vector on top of a KV-cache."""

    def __init__(self, folder: Path, threads: int) -> None:
        model = onnx.load(folder / "model.onnx")
        self.embedding = with_latent_input(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.empty: Cache = {
            i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)
            for i in self.session.get_inputs()
            if i.name.startswith("past_key_values.")
        }
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.end = self.tokenizer.convert_tokens_to_ids(IM_END)
        self.no_latent = np.zeros((1, 1, self.embedding.shape[1]), np.float32)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def run(self, ids: list[int], cache: Cache, latent: np.ndarray | None = None):
        """The last position's logits and the cache with these positions added."""
        past = next(iter(cache.values())).shape[2]
        feed = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, past + len(ids)), np.int64),
            "position_ids": np.arange(past, past + len(ids), dtype=np.int64)[None],
            "latent_mask": np.full((1, 1, 1), latent is not None),
            "latent_embeds": self.no_latent if latent is None else latent.reshape(1, 1, -1),
            **cache,
        }
        found = dict(zip(self.outputs, self.session.run(self.outputs, feed)))
        present = {n: found[n.replace("past_key_values", "present")] for n in cache}
        return found["logits"][0, -1], present

    def think(self, prompt: str, steps: int) -> Cache:
        """The cache of the prompt followed by `steps` latent steps."""
        logits, cache = self.run(self.encode(prompt), self.empty)
        for _ in range(steps):
            weights = np.exp(logits - logits.max())
            latent = (weights / weights.sum()) @ self.embedding
            # The latent vector replaces the embedding of this id; any id will do.
            logits, cache = self.run([self.end], cache, latent.astype(np.float32))
        return cache

    def generate(self, prompt: str, cache: Cache | None, most: int) -> str:
        """Greedy text up to the end of the turn."""
        ids = self.encode(prompt)
        cache = self.empty if cache is None else cache
        made: list[int] = []
        while len(made) < most:
            logits, cache = self.run(ids, cache)
            token = int(logits.argmax())
            if token == self.end:
                break
            made.append(token)
            ids = [token]
        return self.tokenizer.decode(made).strip()


class Tally:
    """Right answers by mode and kind of question."""

    def __init__(self) -> None:
        self.right: Counter[tuple[str, str]] = Counter()
        self.total: Counter[tuple[str, str]] = Counter()
        self.hops: dict[str, int] = {}

    def add(self, mode: str, question: Question, answer: str) -> None:
        self.hops[question.kind] = question.hops
        self.total[mode, question.kind] += 1
        self.right[mode, question.kind] += answer == question.answer

    def share(self, mode: str, kinds: list[str]) -> str:
        right = sum(self.right[mode, k] for k in kinds)
        total = sum(self.total[mode, k] for k in kinds)
        return f"{100 * right / total:.1f} %" if total else "-"

    def table(self) -> str:
        modes = list(dict.fromkeys(mode for mode, _ in self.total))
        kinds = sorted(self.hops, key=lambda k: (self.hops[k], k))
        groups = {
            "one hop": [k for k in kinds if self.hops[k] == 1],
            "two hops": [k for k in kinds if self.hops[k] == 2],
            **{k: [k] for k in kinds},
        }
        lines = ["| | " + " | ".join(modes) + " |", "|---|" + "--:|" * len(modes)]
        for title, group in groups.items():
            cells = [self.share(mode, group) for mode in modes]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def draw_questions(world: World, rng: Random, people) -> list[Question]:
    return [
        question
        for hops, count in QUESTIONS_PER_DOCUMENT.items()
        for question in rng.sample(world.all_questions(people, hops), count)
    ]


def measure(agent: Agent, world: World, rng: Random, documents: int, held_out: bool) -> None:
    tally = Tally()
    summaries_right = 0
    for _ in range(documents):
        people = world.people(rng, held_out=held_out)
        facts = world.facts(people, rng)
        document = world.document(facts)
        questions = draw_questions(world, rng, people)

        for q in questions:
            prompt = user_turn(world.prompt("direct", document=document, question=q.text))
            tally.add("direct", q, agent.generate(prompt, None, LONGEST_ANSWER))

        request = user_turn(world.prompt("summarise", document=document))
        summary = agent.generate(request, None, LONGEST_SUMMARY)
        summaries_right += summary == world.summary(facts)
        for q in questions:
            prompt = user_turn(world.prompt("from_summary", summary=summary, question=q.text))
            tally.add("text", q, agent.generate(prompt, None, LONGEST_ANSWER))

        thought = user_turn(world.prompt("think", document=document))
        for steps in LATENT_STEPS:
            cache = agent.think(thought, steps)
            for q in questions:
                prompt = user_turn(world.prompt("from_context", question=q.text))
                tally.add(f"latent {steps}", q, agent.generate(prompt, cache, LONGEST_ANSWER))
    print(tally.table())
    print(f"\nsummaries right word for word: {summaries_right} of {documents}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=HERE / "facts")
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--seen-pairs", action="store_true", help="documents of the training pairs instead"
    )
    args = parser.parse_args()
    per_document = sum(QUESTIONS_PER_DOCUMENT.values())
    documents = -(-args.questions // per_document)
    print(f"{documents * per_document} questions on {documents} documents, seed {args.seed}\n")
    measure(
        Agent(args.model, args.threads),
        World(),
        Random(args.seed),
        documents,
        held_out=not args.seen_pairs,
    )


if __name__ == "__main__":
    main()
