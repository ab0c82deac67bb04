"""Two tiny random decoders with their tokenizers, exported by Optimum.

`tiny-qwen2` ties its input and output embeddings, `tiny-llama` does not. Everything in which an implementation could
confuse one size with another differs: layers, heads, head size, hidden size, vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from optimum.exporters.onnx import main_export
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TASK = "text-generation-with-past"

# Enough words for the trainer to find its merges in; the prompts of record.py use other sentences on purpose.
CORPUS = [
    "Rosa lives in Lisbon. Rosa is a pilot. Rosa has a parrot.",
    "Where does the owner of the parrot live? In Lisbon.",
    "Tomas lives in Oslo. Tomas is a baker. Tomas has a turtle.",
    "Une réponse brève : où habite Zoé ? À Liège, près du café.",
    "user assistant system You are a helpful assistant.",
]

# Splits words, digits, punctuation and white space much as Qwen2's own tokenizer does.
QWEN2_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

# ChatML. The first adds a system turn where there is none, the second opens with `bos_token`: both are things that a
# real model's template does, and a renderer that forgets them gets other prompt ids.
QWEN2_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


@dataclass(frozen=True)
class TinyModel:
    """One model: its folder's name, the seed of its weights, and how it is made."""

    name: str
    seed: int
    tied: bool


MODELS = [TinyModel("tiny-qwen2", seed=9, tied=True), TinyModel("tiny-llama", seed=12, tied=False)]


def make(model, folder):
    """Writes model, tokenizer and generation config in Transformers' own format to `folder`."""
    folder = Path(folder)
    tokenizer = _qwen2_tokenizer() if model.tied else _llama_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(model.seed)
    network = _qwen2(tokenizer) if model.tied else _llama(tokenizer)
    _fill(network)
    network.eval().save_pretrained(folder)


def export(source, target):
    """Runs Optimum's exporter, fp32, opset and file names as it chooses them."""
    main_export(str(source), output=str(target), task=TASK, framework="pt", dtype="fp32", device="cpu", do_validation=True)


def _qwen2(tokenizer):
    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, rope_theta=1000000.0,
        rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False, **_token_ids(tokenizer)))


def _llama(tokenizer):
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=80, num_hidden_layers=3,
        num_attention_heads=6, num_key_value_heads=3, max_position_embeddings=512, rope_theta=10000.0,
        rms_norm_eps=1e-5, tie_word_embeddings=False, **_token_ids(tokenizer)))


def _token_ids(tokenizer):
    return {
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    }


@torch.no_grad()
def _fill(network):
    """Random weights: wide enough for clear greedy choices, narrow enough that latent steps do not amplify rounding.

    Norms and biases are random too, so that leaving one out shows. The final norm's random signs keep a tied model from
    choosing its own last token again and again.
    """
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1 and name.endswith("norm.weight"):
            parameter.uniform_(0.5, 1.5)
            if name == "model.norm.weight":
                parameter.mul_(torch.randint(0, 2, parameter.shape) * 2 - 1)
        elif parameter.dim() == 1:
            parameter.normal_(0.0, 0.3)
        elif "embed" in name or "lm_head" in name:
            parameter.normal_(0.0, 0.4)
        else:
            gain = 0.5 if "q_proj" in name or "k_proj" in name else 0.6
            parameter.normal_(0.0, gain / parameter.shape[1] ** 0.5)


def _qwen2_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return _train(tokenizer, vocab_size=320, template=QWEN2_TEMPLATE)


def _llama_tokenizer():
    """Its post-processor adds a first token when asked to add special tokens: the connector does not ask."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bos = SPECIAL_TOKENS[0]
    tokenizer = _train(tokenizer, vocab_size=288, template=LLAMA_TEMPLATE)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.convert_tokens_to_ids(bos))])
    return tokenizer


def _train(tokenizer, vocab_size, template):
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=SPECIAL_TOKENS, show_progress=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"], clean_up_tokenization_spaces=False, model_max_length=512,
        chat_template=template)
