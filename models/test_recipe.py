"""The recipe's rules:  python -m unittest test_recipe"""

import unittest
from itertools import product
from random import Random

from dialogues import DialogueMaker, curriculum
from tokenizer import build_tokenizer
from world import KINDS, World, user_turn


class Recipe(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.tokenizer = build_tokenizer(cls.world, 1024)
        cls.maker = DialogueMaker(cls.world, cls.tokenizer)
        cls.stages = curriculum(cls.maker, last_steps=1)

    def test_every_word_of_the_world_is_one_token_behind_a_space(self):
        for word in self.world.names + sum(self.world.values.values(), []):
            self.assertEqual(len(self.tokenizer(" " + word).input_ids), 1, word)

    def test_every_name_has_three_held_out_values_of_each_kind(self):
        for name, kind in product(self.world.names, KINDS):
            self.assertEqual(len(self.world.values_for(name, kind, held_out=True)), 3, (name, kind))

    def test_no_training_dialogue_of_any_stage_states_a_held_out_pair(self):
        forms = [*self.world.document_form["sentences"].values()]
        forms += [f"{{name}} {filler}{{{kind}}}." for filler in ("", "in ") for kind in KINDS]
        held_out = {
            form.format(**{"name": name, kind: value})
            for form in forms
            for name, kind in product(self.world.names, KINDS)
            if f"{{{kind}}}" in form
            for value in self.world.values_for(name, kind, held_out=True)
        }
        rng = Random(0)
        for stage in self.stages:
            for _ in range(30):
                text = self.tokenizer.decode(stage.make(rng).ids).replace("\n", " ")
                found = [pair for pair in held_out if f" {pair}" in text]
                self.assertEqual(found, [], stage.name)

    def test_encoding_by_pieces_equals_encoding_the_whole(self):
        rng = Random(1)
        for stage in self.stages:
            for _ in range(30):
                dialogue = stage.make(rng)
                text = self.tokenizer.decode(dialogue.ids)
                self.assertEqual(self.tokenizer(text).input_ids, dialogue.ids, stage.name)

    def test_values_within_a_document_are_distinct(self):
        rng = Random(2)
        for held_out in (True, False):
            for _ in range(200):
                people = self.world.people(rng, held_out)
                for field in ("name", *KINDS):
                    self.assertEqual(len({p.value(field) for p in people}), len(people))

    def test_the_chat_template_renders_a_user_turn_as_training_does(self):
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True
        )
        self.assertEqual(rendered, user_turn("Hello"))


if __name__ == "__main__":
    unittest.main()
