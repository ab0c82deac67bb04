"""Training dialogues: token ids, weights of the loss, and the stages of the curriculum."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Callable

from transformers import PreTrainedTokenizerFast

from world import IM_END, IM_START, KINDS, Fact, Person, World

# Weight of an assistant token that is neither a value nor a name ("In", ".", end of turn). These
# are learned quickly; a low weight keeps them from dominating the values.
FORM_WEIGHT = 0.1
QUESTIONS_PER_DOCUMENT = 8
ASSISTANT = f"{IM_START}assistant\n"


@dataclass
class Dialogue:
    """Token ids with, for each, the weight of its prediction and a label for the log."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


class DialogueMaker:
    """Makes the dialogues of each stage.

    Text is encoded piece by piece, each sentence once. That equals encoding the whole, because
    pieces meet only where the tokenizer splits: before a space, a line feed or a special token.
    """

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerFast) -> None:
        self.world = world
        self.encode = cache(lambda text: tuple(tokenizer(text, add_special_tokens=False).input_ids))

    # Writing into a dialogue

    def _say(self, d: Dialogue, text: str, weight: float = 0.0, label: str = "form") -> None:
        ids = self.encode(text)
        d.ids.extend(ids)
        d.weights.extend([weight] * len(ids))
        d.labels.extend([label] * len(ids))

    def _mark(self, d: Dialogue, since: int, word: str, label: str) -> None:
        """Gives the token of the word, searched from `since` on, full weight."""
        (token,) = self.encode(" " + word)
        at = d.ids.index(token, since)
        d.weights[at] = 1.0
        d.labels[at] = label

    def _document(self, d: Dialogue, prefix: str, sentences: list[str]) -> None:
        self._say(d, prefix)
        for sentence in sentences:
            self._say(d, " " + sentence)

    def _open_user(self, d: Dialogue) -> None:
        self._say(d, f"{IM_START}user\n")

    def _open_assistant(self, d: Dialogue) -> None:
        self._say(d, f"{IM_END}\n{ASSISTANT}")

    def _ask(self, d: Dialogue, people: list[Person], rng: Random, two_hop: float, first: str) -> None:
        """Appends question and answer turns; `first` starts the turn of the first question."""
        for number in range(QUESTIONS_PER_DOCUMENT):
            hops = 2 if rng.random() < two_hop else 1
            templates = self.world.questions["two_hop" if hops == 2 else "one_hop"]
            question = self.world.question(rng.choice(templates), rng.choice(people), hops)
            self._say(d, first if number == 0 else f"\n{IM_START}user\n")
            self._say(d, question.text)
            self._open_assistant(d)
            since = len(d.ids)
            self._say(d, question.answer, FORM_WEIGHT)
            self._mark(d, since, question.name, question.kind)
            self._mark(d, since, question.value, "answer_value")
            self._say(d, IM_END, FORM_WEIGHT)

    # Stages that teach looking back

    def words(self, rng: Random) -> Dialogue:
        """Repeat random words, then pieces of the same list from random places.

        The list is of one kind, so that no pair of the world occurs, and its length varies: were it
        always the same, looking a fixed distance back would do, and nothing would be learned of
        looking for the same word.
        """
        pool = rng.choice([self.world.names, *self.world.values.values()])
        chosen = rng.sample(pool, rng.randint(4, 16))
        d = Dialogue()
        self._open_user(d)
        self._document(d, self.world.document_form["prefix"], chosen)
        self._open_assistant(d)
        self._say(d, self.world.summary_form["prefix"])
        for word in chosen:
            self._say(d, " " + word, 1.0, "word")
        for _ in range(8):
            start = rng.randrange(len(chosen) - 1)
            self._say(d, " " + chosen[start])
            for word in chosen[start + 1 : start + 3]:
                self._say(d, " " + word, 1.0, "word")
        self._say(d, IM_END, FORM_WEIGHT)
        return d

    def recall(self, rng: Random, facts: list[Fact], form: Callable[[Fact], str]) -> Dialogue:
        """The facts' sentences, then the same again, half the time in order, and once more in
        another order; the loss is on the values."""
        d = Dialogue()
        self._open_user(d)
        self._document(d, self.world.document_form["prefix"], [form(f) for f in facts])
        self._open_assistant(d)
        self._say(d, self.world.summary_form["prefix"])
        first = facts if rng.random() < 0.5 else rng.sample(facts, len(facts))
        for fact in [*first, *rng.sample(facts, len(facts))]:
            since = len(d.ids)
            self._say(d, " " + form(fact))
            self._mark(d, since, fact.value, fact.kind)
        return d

    def some_facts(self, rng: Random, people: int, kinds: Callable[[], list[str]]) -> list[Fact]:
        """Facts about `people` persons, of the kinds that `kinds` draws for each, shuffled half the time."""
        facts: list[Fact] = []
        for name in rng.sample(self.world.names, people):
            for kind in kinds():
                taken = {f.value for f in facts}
                free = [v for v in self.world.values_for(name, kind, False) if v not in taken]
                facts.append(Fact(name, kind, rng.choice(free)))
        if rng.random() < 0.5:
            rng.shuffle(facts)
        return facts

    def pairs(self, form: str) -> Callable[[Random], Dialogue]:
        """Names with towns, in a form such as ``{name} in {value}.``"""

        def make(rng: Random) -> Dialogue:
            facts = self.some_facts(rng, rng.randint(4, 8), lambda: ["town"])
            return self.recall(rng, facts, lambda f: form.format(name=f.name, value=f.value))

        return make

    def one_kind(self, rng: Random) -> Dialogue:
        kind = rng.choice(KINDS)
        return self.recall(rng, self.some_facts(rng, rng.randint(4, 8), lambda: [kind]), self.world.sentence)

    def one_each(self, rng: Random) -> Dialogue:
        facts = self.some_facts(rng, rng.randint(4, 8), lambda: [rng.choice(KINDS)])
        return self.recall(rng, facts, self.world.sentence)

    def one_or_two_each(self, rng: Random) -> Dialogue:
        facts = self.some_facts(rng, 5, lambda: rng.sample(KINDS, rng.randint(1, 2)))
        return self.recall(rng, facts, self.world.sentence)

    def all_three(self, rng: Random) -> Dialogue:
        facts = self.world.facts(self.world.people(rng, held_out=False), rng)
        return self.recall(rng, facts, self.world.sentence)

    def back(self, rng: Random, facts: list[Fact], form: Callable[[Fact], str]) -> Dialogue:
        """The facts' sentences, then twice their values, each followed by whose it is: the first of
        the two steps of a two-hop question."""
        d = Dialogue()
        self._open_user(d)
        self._document(d, self.world.document_form["prefix"], [form(f) for f in facts])
        self._open_assistant(d)
        self._say(d, self.world.summary_form["prefix"])
        for fact in [*rng.sample(facts, len(facts)), *rng.sample(facts, len(facts))]:
            self._say(d, f" {fact.value}")
            self._say(d, f" {fact.name}", 1.0, "owner")
            self._say(d, ".")
        return d

    def back_one_each(self, forms: list[str]) -> Callable[[Random], Dialogue]:
        """Backwards through one fact of each person, in one of the forms or its sentence."""

        def make(rng: Random) -> Dialogue:
            facts = self.some_facts(rng, rng.randint(4, 8), lambda: [rng.choice(KINDS)])
            form = rng.choice([*forms, ""])
            if not form:
                return self.back(rng, facts, self.world.sentence)
            return self.back(rng, facts, lambda f: form.format(name=f.name, value=f.value))

        return make

    def back_all_three(self, rng: Random) -> Dialogue:
        """Backwards through whole documents; two in five dialogues are questions."""
        if rng.random() < 0.4:
            return self.questions(0.5)(rng)
        facts = self.world.facts(self.world.people(rng, held_out=False), rng)
        return self.back(rng, facts, self.world.sentence)

    # Stages that teach answering

    def questions(self, two_hop: float) -> Callable[[Random], Dialogue]:
        """A document and questions on it; `two_hop` is the share of two-hop questions."""

        def make(rng: Random) -> Dialogue:
            people = self.world.people(rng, held_out=False)
            facts = self.world.facts(people, rng)
            d = Dialogue()
            self._open_user(d)
            self._document(
                d, self.world.document_form["prefix"], [self.world.sentence(f) for f in facts]
            )
            self._ask(d, people, rng, two_hop, first="\n")
            return d

        return make

    def _summarised(self, people: list[Person], rng: Random) -> tuple[Dialogue, int]:
        """A document, the request and the whole summary; also where the summary starts."""
        facts = self.world.facts(people, rng)
        d = Dialogue()
        self._open_user(d)
        self._document(
            d, self.world.document_form["prefix"], [self.world.sentence(f) for f in facts]
        )
        self._say(d, "\n" + self.world.summary_form["request"])
        self._open_assistant(d)
        start = len(d.ids)
        self._say(d, self.world.summary_form["prefix"], FORM_WEIGHT)
        for fact in self.world.summary_facts(facts):
            since = len(d.ids)
            self._say(d, " " + self.world.sentence(fact), FORM_WEIGHT)
            self._mark(d, since, fact.name, "summary_name")
            self._mark(d, since, fact.value, "summary_value")
        self._say(d, IM_END, 1.0, "summary_end")
        return d, start

    def summaries(self, rng: Random) -> Dialogue:
        return self._summarised(self.world.people(rng, held_out=False), rng)[0]

    def handed_over(self, rng: Random) -> Dialogue:
        """Questions after a summary that is complete, cut off anywhere, or not begun, like B's prompt
        after A's cache."""
        people = self.world.people(rng, held_out=False)
        d, start = self._summarised(people, rng)
        length = len(d.ids) - start
        case = rng.random()
        if case < 0.3:
            self._ask(d, people, rng, 0.6, first=f"\n{IM_START}user\n")
            return d
        # Short cuts are as frequent as long ones: hand-overs of few latent steps are the common ones.
        kept = 0 if case < 0.4 else rng.randint(0, 22 if case < 0.75 else length - 1)
        for part in (d.ids, d.weights, d.labels):
            del part[start + min(kept, length - 1) :]
        self._ask(d, people, rng, 0.6, first=f"{IM_START}user\n")
        return d

    def from_summary(self, rng: Random) -> Dialogue:
        """Questions about the text of a summary, as B reads it in mode text."""
        people = self.world.people(rng, held_out=False)
        facts = self.world.summary_facts(self.world.facts(people, rng))
        d = Dialogue()
        self._open_user(d)
        self._document(
            d, self.world.summary_form["prefix"], [self.world.sentence(f) for f in facts]
        )
        self._ask(d, people, rng, 0.6, first="\n")
        return d

    def everything(self, rng: Random) -> Dialogue:
        case = rng.random()
        if case < 0.4:
            return self.questions(0.7)(rng)
        return self.handed_over(rng) if case < 0.85 else self.from_summary(rng)


@dataclass(frozen=True)
class Stage:
    """One stage: what it trains on and when it is mastered.

    It ends when the share of values predicted right, over the last batches, reaches `mastered` for
    every label (for the label `until`, where given), and at `most_steps` at the latest. A stage with
    `decay` runs all its steps while the rate falls to nothing.
    """

    name: str
    make: Callable[[Random], Dialogue]
    batch: int
    most_steps: int
    mastered: float = 0.95
    until: str | None = None
    decay: bool = False


def curriculum(m: DialogueMaker, last_steps: int) -> list[Stage]:
    return [
        Stage("words", m.words, 32, 1500),
        Stage("pairs", m.pairs("{name} {value}."), 32, 800),
        Stage("pairs_in", m.pairs("{name} in {value}."), 32, 800),
        Stage("pairs_lives_in", m.pairs("{name} lives in {value}."), 32, 800),
        Stage("one_kind", m.one_kind, 32, 800),
        Stage("one_each", m.one_each, 32, 800),
        Stage("one_or_two_each", m.one_or_two_each, 32, 800, mastered=0.92),
        Stage("all_three", m.all_three, 32, 800, mastered=0.9),
        Stage("summaries", m.summaries, 32, 400),
        Stage("one_hop", m.questions(0.0), 32, 800),
        Stage("back_one_each", m.back_one_each(["{name} {value}.", "{name} in {value}."]), 32, 800),
        Stage("back_all_three", m.back_all_three, 32, 800, mastered=0.9, until="owner"),
        Stage("two_hop", m.questions(0.6), 32, 1000, mastered=0.85),
        Stage("everything", m.everything, 32, last_steps, decay=True),
    ]
