"""Records what Transformers and avp 0.2.1 compute with a real model that make.py wrote.

    python record.py OUT            writes OUT/record/

`record.json` has the fields of ../parity/README.md that tests/real.rs of avp-runtime-ort reads. With `--read FRAME`, prints the
token ids with which Transformers answers a question behind the context in a frame, as avp reads it.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parity"))

import record as parity
from avp import AVPContext
from make import once

STEPS = [0, 1, 8, 20]
NEW_TOKENS = 24
QUESTION = "Where does Karl live?"
NOTES = [
    "Anna moved from Oslo to Lisbon in 2019. Her brother Karl lives in Vienna and works as a baker.",
    "Zoë wohnt in Kraków.  東京は雨 🦜 naïve café.\n\n\t- Ida, 42, isn't.\n  ",
]
PROMPTS = [
    "What is the capital of France?",
    "Name three primary colours.",
    "Write one sentence about the sea.",
    "What is 12 plus 30?",
    "Translate 'good morning' into Spanish.",
    "Who wrote Romeo and Juliet?",
    "Give me a synonym for happy.",
    "List the days of the week.",
    "What do bees make?",
    "Explain gravity to a child.",
    "What colour is the sky on a clear day?",
    "How many legs does a spider have?",
    "Write a haiku about autumn leaves.",
    "What is the opposite of cold?",
    "Name a city in Japan.",
    "Why do we sleep?",
    "What is H2O?",
    "Finish the sentence: The quick brown fox",
    "Is the earth flat?",
    "Say hello in five languages.",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--read", type=Path, metavar="FRAME")
    arguments = parser.parse_args()
    model = Model(arguments.out / "hf", arguments.out.name)
    if arguments.read:
        past = AVPContext.from_bytes(arguments.read.read_bytes()).past_key_values
        print(json.dumps(model.greedy(model.tokens(QUESTION), past)["tokens"]))
    else:
        once(arguments.out / "record", lambda folder: write(model, folder))


def write(model, folder):
    (folder / "kv").mkdir()
    greedy = []
    for prompt in PROMPTS:
        ids = model.tokens(prompt)
        greedy.append({"prompt": prompt, "rendered": model.render(prompt), "prompt_ids": ids[0].tolist()} | model.greedy(ids, None))
    latent = []
    for number, notes in enumerate(NOTES):
        for steps in STEPS:
            past, trace = model.latent(model.tokens(notes), steps)
            entry = parity.write_latent(folder, f"{number}-{steps}", steps, past, trace)
            latent.append({"prompt": notes, "rendered": model.render(notes)} | entry)
    context = model.context(NOTES[0])
    (folder / "context.avp").write_bytes(context.to_bytes(session_id="real", source_agent_id="a", model_id=model.name))
    question = model.tokens(QUESTION)
    answer = model.greedy(question, context.past_key_values)
    document = {
        "producer": {name: version(name) for name in parity.PACKAGES},
        "greedy": greedy,
        "latent": latent,
        "frame": {"file": "context.avp", "question": QUESTION, "rendered": model.render(QUESTION), "tokens": answer["tokens"]},
    }
    (folder / "record.json").write_text(parity.to_json(document), encoding="utf-8")


class Model(parity.Connector):
    """A model with a chat template, or a base model, which reads prompts behind its first token."""

    def render(self, prompt):
        return super().render(prompt) if self.tokenizer.chat_template else self.tokenizer.bos_token + prompt

    def latent(self, ids, steps, past=None):
        """The peer's steps. Gemma 3 multiplies its embeddings inside the embedding module, which vectors in place of tokens do not
        pass: the peer feeds them too small, by a factor of 25 in the 270M model. Here they are multiplied as a token's are."""
        scale = getattr(self.model.get_input_embeddings(), "embed_scale", None)

        def multiply(_model, args, kwargs):
            if kwargs.get("inputs_embeds") is not None:
                return args, kwargs | {"inputs_embeds": kwargs["inputs_embeds"] * scale}
            return None

        hook = scale is not None and self.model.register_forward_pre_hook(multiply, with_kwargs=True)
        try:
            return super().latent(ids, steps, past)
        finally:
            if hook:
                hook.remove()

    def context(self, prompt):
        """What `think` makes, which takes one step at least, without a step."""
        past, _ = self.latent(self.tokens(prompt), 0)
        identity = self.avp.get_model_identity()
        return AVPContext(
            past_key_values=past, model_hash=identity.model_hash, num_steps=0, seq_len=past.get_seq_length(),
            model_family=identity.model_family, hidden_dim=identity.hidden_dim, num_layers=identity.num_layers,
        )


if __name__ == "__main__":
    parity.NEW_TOKENS = NEW_TOKENS
    main()
