"""The tiny random decoders, one of each family, with a tokenizer each.

Everything in which an implementation could confuse one size with another differs: layers, heads, KV heads, head size, hidden
size, vocabulary. Widths are multiples of 32 where a weight is to be quantized in blocks.
"""

import sys
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig

sys.path.insert(0, str(Path(__file__).parent.parent / "parity"))
from tiny_models import _qwen2_tokenizer as tiny_tokenizer  # noqa: E402

# What every config shares, under the names that most families use.
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 256}

# name: (config class, model class, what differs from SIZES)
FAMILIES = {
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {"hidden_size": 64, "tie_word_embeddings": True, "use_sliding_window": False}),
    "llama": ("LlamaConfig", "LlamaForCausalLM", {"hidden_size": 64, "tie_word_embeddings": False}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {"tie_word_embeddings": False, "sliding_window": None}),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", {"head_dim": 16, "num_key_value_heads": 1}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {
        "head_dim": 16, "num_key_value_heads": 1, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
        "query_pre_attn_scalar": 16, "sliding_window": 256}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {"tie_word_embeddings": False, "sliding_window": None}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {}),
}
GPT2_NAMES = {"hidden_size": "n_embd", "intermediate_size": "n_inner", "num_hidden_layers": "n_layer",
              "num_attention_heads": "n_head", "max_position_embeddings": "n_positions"}


def make(family, folder, seed):
    """Writes model, tokenizer and generation config in Transformers' own format to `folder`, and gives the model."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    config_class, model_class, changes = FAMILIES[family]
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}
    sizes = SIZES | changes | {"vocab_size": len(tokenizer)} | ids
    if family == "gpt2":
        sizes.pop("num_key_value_heads")
        sizes = {GPT2_NAMES.get(name, name): value for name, value in sizes.items()}
    torch.manual_seed(seed)
    network = getattr(transformers, model_class)(getattr(transformers, config_class)(**sizes))
    _fill(network, family)
    network.generation_config = GenerationConfig(**ids)
    network.eval().save_pretrained(folder)
    return network


@torch.no_grad()
def _fill(network, family):
    """Random weights: wide enough for clear greedy choices, narrow enough that latent steps do not amplify rounding.

    Norms and biases are random too, so that leaving one out shows. Gemma adds 1 to the weights of its norms. The final norm's
    random signs keep a tied model from choosing its own last token again and again.
    """
    norm_offset = -1.0 if family.startswith("gemma") else 0.0
    final_norms = {"model.norm.weight", "transformer.ln_f.weight"}
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1 and ("norm" in name or ".ln_" in name) and name.endswith("weight"):
            parameter.uniform_(0.5, 1.5)
            if name in final_norms:
                parameter.mul_(torch.randint(0, 2, parameter.shape) * 2 - 1)
            parameter.add_(norm_offset)
        elif parameter.dim() == 1:
            parameter.normal_(0.0, 0.3)
        elif "embed" in name or "lm_head" in name or "wte" in name:
            # Gemma multiplies its embeddings by the square root of the width.
            parameter.normal_(0.0, 0.4 / (parameter.shape[1] ** 0.5 if family.startswith("gemma") else 1.0) * (3.0 if family.startswith("gemma") else 1.0))
        elif "wpe" in name:
            parameter.normal_(0.0, 0.2)
        else:
            gain = 0.5 if any(part in name for part in ("q_proj", "k_proj", "qkv", "c_attn")) else 0.6
            # GPT-2's Conv1D keeps its weight as [in, out].
            width = parameter.shape[0] if family == "gpt2" else parameter.shape[1]
            parameter.normal_(0.0, gain / width ** 0.5)
