"""What Transformers' `generate` says with penalties, biases and texts to stop at, on the tiny models of ../parity."""

import json
import re
import sys
import tempfile
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parity"))
import tiny_models  # noqa: E402

PROMPTS = ["Where does Rosa live?", "Zoé a un café ☕ à Liège, n'est-ce pas ?"]

OPTIONS = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"repetition_penalty": 5.0, "max_tokens": 60},
]


def cases(model, tokenizer):
    for prompt in PROMPTS:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt"
        )
        plain = generate(model, tokenizer, ids, {})["tokens"]
        first = plain[0]
        # A bias against the first token that was said, and a text to stop at from the middle of the answer, of characters
        # that are whole: these models also say bytes that make none.
        middle = max(re.findall(r"[!-~]{1,3}", tokenizer.decode(plain, skip_special_tokens=True)[4:]), key=len)
        for options in [*OPTIONS, {"logit_bias": {str(first): -50.0}}, {"stop": [middle]}]:
            yield {"prompt": prompt, "options": options, **generate(model, tokenizer, ids, options)}


def generate(model, tokenizer, ids, options):
    more = {}
    if "repetition_penalty" in options:
        more["repetition_penalty"] = options["repetition_penalty"]
    if bias := options.get("logit_bias"):
        more["sequence_bias"] = [[[int(token)], value] for token, value in bias.items()]
    if "stop" in options:
        more |= {"stop_strings": options["stop"], "tokenizer": tokenizer}
    output = model.generate(
        ids, attention_mask=ids.new_ones(ids.shape), do_sample=False, max_new_tokens=options.get("max_tokens", 24), **more
    )
    return {"tokens": output[0, ids.shape[1] :].tolist()}


def record(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    for tiny in tiny_models.MODELS:
        with tempfile.TemporaryDirectory() as source:
            tiny_models.make(tiny, source)
            model = AutoModelForCausalLM.from_pretrained(source)
            tokenizer = AutoTokenizer.from_pretrained(source)
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases(model, tokenizer))
        (folder / f"{tiny.name}.json").write_text(f'{{"cases": [\n{lines}\n]}}\n')
