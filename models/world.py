"""People, facts, documents, questions and answers.

All wordings and numbers come from ``facts/world.json``. The demo of the program ``avp`` reads the
same file, so its questions have the wording of the training. README.md describes the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

WORLD_FILE = Path(__file__).parent / "facts" / "world.json"
KINDS = ("town", "job", "pet")

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"


@dataclass(frozen=True)
class Person:
    """One person of a document: a name and one value of each kind."""

    name: str
    town: str
    job: str
    pet: str

    def value(self, field: str) -> str:
        return getattr(self, field)


@dataclass(frozen=True)
class Fact:
    """One sentence's content: the name it is about, its kind, and the value."""

    name: str
    kind: str
    value: str


@dataclass(frozen=True)
class Question:
    """A question with the kind of value it asks for and the one right answer."""

    kind: str
    hops: int
    text: str
    answer: str
    name: str
    value: str


class World:
    def __init__(self, path: Path = WORLD_FILE) -> None:
        raw = json.loads(path.read_text(encoding="utf-8"))
        self.raw = raw
        self.names: list[str] = raw["names"]
        self.values: dict[str, list[str]] = {kind: raw[f"{kind}s"] for kind in KINDS}
        self.fewest_people, self.most_people = raw["people_per_document"]
        self.document_form = raw["document"]
        self.summary_form = raw["summary"]
        self.questions = raw["questions"]
        self.prompts: dict[str, str] = raw["prompts"]
        self.rule = raw["held_out"]

    # Which pairs may be used

    def is_held_out(self, name: str, kind: str, value: str) -> bool:
        """Whether the pair is held out of every training document."""
        score = (
            self.rule["name_factor"] * self.names.index(name)
            + self.rule["value_factor"] * self.values[kind].index(value)
        )
        return score % self.rule["modulus"] == self.rule["remainder"]

    def values_for(self, name: str, kind: str, held_out: bool) -> list[str]:
        return [v for v in self.values[kind] if self.is_held_out(name, kind, v) == held_out]

    # People and documents

    def people(self, rng: Random, held_out: bool, count: int | None = None) -> list[Person]:
        """Draws people whose names and values are all different.

        A held-out name has only three values of a kind, so a draw can run out of them; it then
        starts afresh.
        """
        count = count or rng.randint(self.fewest_people, self.most_people)
        while True:
            people: list[Person] = []
            for name in rng.sample(self.names, count):
                drawn = {}
                for kind in KINDS:
                    taken = {person.value(kind) for person in people}
                    free = [v for v in self.values_for(name, kind, held_out) if v not in taken]
                    if not free:
                        break
                    drawn[kind] = rng.choice(free)
                else:
                    people.append(Person(name=name, **drawn))
            if len(people) == count:
                return people

    def facts(self, people: list[Person], rng: Random, shuffled: bool | None = None) -> list[Fact]:
        """The facts in document order: person by person, or all of them shuffled."""
        facts = [
            Fact(person.name, kind, person.value(kind))
            for person in people
            for kind in self.document_form["fact_order"]
        ]
        if shuffled is None:
            shuffled = rng.random() < self.document_form["shuffled_share"]
        if shuffled:
            rng.shuffle(facts)
        return facts

    def sentence(self, fact: Fact) -> str:
        template = self.document_form["sentences"][fact.kind]
        return template.format(**{"name": fact.name, fact.kind: fact.value})

    def document(self, facts: list[Fact]) -> str:
        return self._join(self.document_form["prefix"], facts)

    def summary_facts(self, facts: list[Fact]) -> list[Fact]:
        """Person by person, in the order of the document's town sentences."""
        order = [fact.name for fact in facts if fact.kind == "town"]
        kinds = self.document_form["fact_order"]
        return sorted(facts, key=lambda f: (order.index(f.name), kinds.index(f.kind)))

    def summary(self, facts: list[Fact]) -> str:
        return self._join(self.summary_form["prefix"], self.summary_facts(facts))

    def _join(self, prefix: str, facts: list[Fact]) -> str:
        return self.document_form["separator"].join([prefix, *map(self.sentence, facts)])

    # Questions

    def question(self, template: dict, person: Person, hops: int) -> Question:
        given, asks = template["given"], template["asks"]
        value = person.value(asks)
        return Question(
            kind=template["id"],
            hops=hops,
            text=template["text"].format(**{given: person.value(given)}),
            answer=template["answer"].format(**{"name": person.name, asks: value}),
            name=person.name,
            value=value,
        )

    def all_questions(self, people: list[Person], hops: int) -> list[Question]:
        templates = self.questions["one_hop" if hops == 1 else "two_hop"]
        return [self.question(t, person, hops) for t in templates for person in people]

    # Prompts

    def prompt(self, use: str, **parts: str) -> str:
        """The user turn of one use: ``direct``, ``summarise``, ``from_summary``, ``think`` or
        ``from_context``."""
        return self.prompts[use].format(request=self.summary_form["request"], **parts)

    # Words, for the tokenizer

    def vocabulary_text(self) -> list[str]:
        """Texts that hold every word of the world in each form the dialogues use."""
        words = self.names + sum(self.values.values(), [])
        sentences = self.document_form["sentences"].values()
        questions = [q for group in self.questions.values() for q in group]
        return [
            *(" " + word for word in words),
            self.document_form["prefix"],
            self.summary_form["prefix"],
            self.summary_form["request"],
            *sentences,
            *(q["text"] for q in questions),
            *(q["answer"] for q in questions),
            "user\n",
            "assistant\n",
        ]


def user_turn(text: str) -> str:
    """A user turn followed by the generation prompt, as the chat template renders it."""
    return f"{IM_START}user\n{text}{IM_END}\n{IM_START}assistant\n"
