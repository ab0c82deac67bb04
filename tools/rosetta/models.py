"""The models between which record.py hands over: the two of `tools/parity`, and two more that are made here.

    python models.py -o ../../test-vectors/rosetta     # writes tiny-wide and tiny-other, as Optimum exports them

`tiny-wide` reads with tiny-qwen2's tokenizer and has another width, another depth, an untied head, and eight rows more in
its tables than the tokenizer has tokens, as models are padded for tensor parallelism. `tiny-other` has a tokenizer of its
own: every token that it shares with the others has another id there.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parity"))
import tiny_models

MADE = ["tiny-wide", "tiny-other"]
PADDING = 8
OTHER_CORPUS = ["Der Zug nach Bremen hat Verspätung.", "Im Garten steht ein alter Birnbaum.", "Where is the key to the cellar?"]


def make(name, folder):
    """Writes model and tokenizer in Transformers' own format to `folder`."""
    if name not in MADE:
        return tiny_models.make(next(model for model in tiny_models.MODELS if model.name == name), folder)
    wide = name == "tiny-wide"
    tokenizer = tiny_models._qwen2_tokenizer() if wide else other_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(5 if wide else 6)
    sizes = {"vocab_size": len(tokenizer) + PADDING, "hidden_size": 40, "num_attention_heads": 5, "num_key_value_heads": 5} \
        if wide else {"vocab_size": len(tokenizer), "hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 1}
    network = LlamaForCausalLM(LlamaConfig(
        intermediate_size=64, num_hidden_layers=1, max_position_embeddings=512, rope_theta=10000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=not wide, **sizes, **tiny_models._token_ids(tokenizer)))
    tiny_models._fill(network)
    network.eval().save_pretrained(folder)


def other_tokenizer():
    """Byte-level BPE with one special token more in front, so that all ids move up, and merges from other sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(OTHER_CORPUS, trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|unused|>", *tiny_models.SPECIAL_TOKENS], show_progress=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"], clean_up_tokenization_spaces=False, model_max_length=512,
        chat_template=tiny_models.LLAMA_TEMPLATE)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder that gets one folder per model")
    arguments = parser.parse_args()
    for name in MADE:
        with tempfile.TemporaryDirectory() as scratch:
            make(name, scratch)
            shutil.rmtree(arguments.output / name, ignore_errors=True)
            tiny_models.export(scratch, arguments.output / name)


if __name__ == "__main__":
    main()
