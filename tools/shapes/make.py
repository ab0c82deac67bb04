"""Makes a model of random weights at a real model's shape: a Transformers folder and Optimum's fp32 export of it.

    python make.py OUT [--shape qwen2.5-0.5b] [--seed 1]

`OUT/torch` has the weights as safetensors, `OUT/onnx` the export (`text-generation-with-past`, opset and options as
Optimum chooses them). Speed depends on shapes alone, so random weights measure what real ones would; nothing is
downloaded. The tokenizer is byte-level without merges: one ASCII character is one token, so a prompt's length in
tokens is known by looking at it.

A folder that is whole already is left as it is.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
from pathlib import Path

# Fields of the models' published configs.
SHAPES = {
    "qwen2.5-0.5b": {
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "qwen2.5-1.5b": {
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "qwen2.5-7b": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    # For trying the benchmark itself: seconds to make, milliseconds to run.
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
}

# The same for every shape of the family.
COMMON = {
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "bos_token_id": None,
}

END = "<|im_end|>"
PAD = "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_tokenizer(max_length: int):
    """A byte-level tokenizer that merges nothing."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = [PAD, "<|im_start|>", END]
    vocabulary = {token: index for index, token in enumerate(specials + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=specials[1:],
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_torch(shape: str, seed: int, folder: Path) -> None:
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    tokenizer = byte_tokenizer(COMMON["max_position_embeddings"])
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = Qwen2Config(**SHAPES[shape], **COMMON, **ends)
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config).eval()
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def export(source: Path, target: Path) -> None:
    from optimum.exporters.onnx import main_export

    # Validation would run both models at once; the runtime's own tests compare numbers on small models.
    main_export(str(source), output=target, task="text-generation-with-past", do_validation=False)
    template = target / "chat_template.jinja"
    if not template.exists():
        template.write_text(CHAT_TEMPLATE, encoding="utf-8")


def whole_or_not_at_all(target: Path, make) -> None:
    """Lets `make` fill a folder and gives it its name when it is whole."""
    if target.is_dir():
        print(f"{target}: there already")
        return
    partial = target.with_name(f".partial-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    make(partial)
    partial.rename(target)
    print(f"{target}: {sum(f.stat().st_size for f in target.rglob('*') if f.is_file()) / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    recipe = {"shape": args.shape, "seed": args.seed}
    record = args.out / "recipe.json"
    if record.exists() and json.loads(record.read_text()) != recipe:
        parser.error(f"{args.out} holds {record.read_text()}; give another folder")
    args.out.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(recipe))
    whole_or_not_at_all(args.out / "torch", lambda folder: make_torch(args.shape, args.seed, folder))
    gc.collect()
    whole_or_not_at_all(args.out / "onnx", lambda folder: export(args.out / "torch", folder))


if __name__ == "__main__":
    main()
