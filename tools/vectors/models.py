"""Hashes, identities, and what two identities agree on."""

import inspect
import json
import warnings
from random import Random

import avp
from avp.types import ModelIdentity

# A config without hidden_size is one of the cases.
warnings.filterwarnings("ignore", message="extract_model_identity")

RESOLVE_PARAMETERS = inspect.signature(avp.CompatibilityResolver.resolve).parameters

STRINGS = ["", "a/b", "</s>", "é", "智", "😀", "\x7f", "\ue000", "\uffff", 'tab\t"quote"\\', "line\n", "\u2028", "Qwen/Qwen2.5-0.5B"]
# Every form that Python's float repr and json.dumps give a number.
NUMBERS = [0, -1, 1, 151936, 2**53 + 1, 10**30, -(2**63), 0.0, -0.0, 0.1, 1 / 3, 1.5, 1e-5, 1e-6, 2.5e-7, 1e15, 1e16, 1e22,
           500000.0, 1000000.0, 3.4028234663852886e38, 5e-324, 1.7976931348623157e308]
TOKENS = ["a", "Z", "Ġ", "\\", '"', "\n", "\x7f", "é", "日", "😀", "\ue000", "\uffff"]

MODEL_HASHES, TOKENIZER_HASHES, PAIRS = 40, 12, 80

IDENTITY_CONFIGS = [
    {"model_type": "qwen2", "_name_or_path": "Qwen/Qwen2.5-0.5B", "hidden_size": 896, "num_hidden_layers": 24,
     "num_attention_heads": 14, "num_key_value_heads": 2},
    {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12},
    {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
    {"model_type": "gemma", "hidden_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 8,
     "num_key_value_heads": 1, "head_dim": 256},
    {"model_type": "qwen3", "hidden_size": 100, "num_hidden_layers": 3, "num_attention_heads": 7},
    {"hidden_size": 64},
    {},
]


def check_model_hash(given, expect):
    return compare({"sha256": avp.compute_model_hash(json.loads(given["json"]))}, expect)


def check_tokenizer_hash(given, expect):
    return compare({"sha256": avp.compute_tokenizer_hash(json.loads(given["json"]))}, expect)


def check_identity(given, expect):
    return compare(identity_of(json.loads(given["json"])), expect)


def check_resolve(given, expect):
    return compare(resolve(given["local"], given["remote"], given["shared_tokens"]), expect)


def check_hello(given, expect):
    return compare({"json": avp.HelloMessage.from_dict(json.loads(given["json"])).to_dict()}, expect)


def check_json_message(given, expect):
    return compare({"json": json.loads(avp.JSONMessage.from_json(given["json"]).to_json())}, expect)


CHECKS = {"hash.model": check_model_hash, "hash.tokenizer": check_tokenizer_hash, "identity": check_identity,
          "handshake.resolve": check_resolve, "handshake.hello": check_hello, "json_message": check_json_message}


def generate(version, seed):
    rng = Random(seed)
    configs = [{}] + [random_config(rng) for _ in range(MODEL_HASHES - 1)]
    vocabularies = [random_vocabulary(rng) for _ in range(TOKENIZER_HASHES)]
    yield "model/hashes.json", {
        "model_hash": [{"config_json": json.dumps(config), "sha256": avp.compute_model_hash(config)} for config in configs],
        "tokenizer_hash": [{"vocab": vocab, "sha256": avp.compute_tokenizer_hash(vocab)} for vocab in vocabularies],
        "identity": [{"config": config, "identity": identity_of(config)} for config in IDENTITY_CONFIGS],
    }
    pairs = [random_pair(rng) for _ in range(PAIRS)]
    hello = [avp.HelloMessage(agent_id="agent-a", identity=ModelIdentity.from_dict(local), capabilities={"kv": True, "max_mb": 512})
             for local, _, _ in pairs[:3]]
    message = {"session_id": "s1", "source_agent_id": "a", "target_agent_id": "b", "content": "résumé 🤝"}
    messages = [avp.JSONMessage(**message), avp.JSONMessage(**message, extra={"n": 1, "nested": {"x": [1, 2]}})]
    yield "model/handshake.json", {
        "resolve": [{"local": local, "remote": remote, "shared_vocabulary_tokens": shared} | resolve(local, remote, shared)
                    for local, remote, shared in pairs],
        "hello": [one.to_dict() for one in hello],
        "json_message": [one.to_dict() for one in messages],
    }


def identity_of(config):
    return avp.extract_model_identity(config).to_dict()


def resolve(local, remote, shared):
    """What the package says; `resolution_path` is missing where its release does not give it."""
    tokenizers = {}
    if shared is not None:
        if "source_tokenizer" not in RESOLVE_PARAMETERS:
            raise ImportError("a release that counts shared tokens", name="a release that counts shared tokens")
        common = {f"token{number}": number for number in range(shared)}
        tokenizers = {"source_tokenizer": Vocabulary(common | {"only-a": shared}),
                      "target_tokenizer": Vocabulary(common | {"only-b": shared})}
    session = avp.CompatibilityResolver.resolve(ModelIdentity.from_dict(local), ModelIdentity.from_dict(remote), **tokenizers)
    said = {"mode": session.mode.name.lower(), "avp_map_id": session.avp_map_id}
    path = getattr(session, "resolution_path", None)
    return said | ({} if path is None else {"resolution_path": path})


class Vocabulary(dict):
    """As much of a tokenizer as the handshake looks at."""

    def get_vocab(self):
        return dict(self)


def random_config(rng):
    def value(depth):
        kind = rng.randrange(6 if depth else 4)
        if kind == 4:
            return [value(depth - 1) for _ in range(rng.randrange(4))]
        if kind == 5:
            return {f"{rng.choice(STRINGS)}{number}": value(depth - 1) for number in range(rng.randrange(4))}
        return [rng.choice(STRINGS), rng.choice(NUMBERS), rng.choice(NUMBERS), rng.choice([True, False, None])][kind]

    return {f"{rng.choice(STRINGS)}{rng.randrange(1000)}": value(2) for _ in range(rng.randrange(1, 12))}


def random_vocabulary(rng):
    words = {"".join(rng.choices(TOKENS, k=rng.randrange(1, 6))) for _ in range(rng.choice([1, 5, 40]))}
    return {word: number for number, word in enumerate(sorted(words, key=lambda _: rng.random()))}


def random_pair(rng):
    def identity():
        fields = {"model_family": rng.choice(["", "qwen2", "llama"]), "model_id": rng.choice(["m1", "m2"]),
                  "model_hash": rng.choice(["", "a" * 64, "b" * 64]), "hidden_dim": rng.choice([0, 896, 896, 2048]),
                  "num_layers": rng.choice([0, 16, 24]), "num_kv_heads": 2, "head_dim": 64}
        hashed = rng.choice([None, "c" * 64, "d" * 64])
        return fields | ({"tokenizer_hash": hashed} if hashed else {})

    local, remote = identity(), identity()
    if rng.random() < 0.2:
        # Left to chance, two identities of the same structure and different hashes hardly ever meet.
        remote |= {key: local[key] for key in ("model_family", "hidden_dim", "num_layers")}
    shared = rng.choice([None, None, 0, 99, 100, 101, 500]) if "source_tokenizer" in RESOLVE_PARAMETERS else None
    return local, remote, shared


def compare(ours, expect):
    return [f"{name} is {ours.get(name)!r}, the vector says {value!r}" for name, value in expect.items()
            if name not in ours or ours[name] != value]
