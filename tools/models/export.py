"""Writes the tiny model folders, each by the exporter that people use.

    python export.py sources  -o /tmp/sources                      # Transformers' own format, random weights
    python export.py optimum  -i /tmp/sources -o ../../test-vectors/models
    python export.py genai    -i /tmp/sources -o ../../test-vectors/models   # another environment, see README.md
    python export.py community -i /tmp/sources -o ../../test-vectors/models  # the environment of genai
    python export.py one-layer -i /tmp/sources -o ../../test-vectors/engine  # the environment of genai

`community` lays a folder out as onnx-community's are: the Optimum export with its weights beside it, and its sisters in other
number formats.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Qwen2 and Llama by Optimum are in test-vectors/parity; Qwen2 is in `community` too.
OPTIMUM = ["mistral", "gemma", "gemma2", "phi3", "gpt2"]
# Half precision for CUDA has GroupQueryAttention, which the CPU runs too.
GENAI = [("qwen2", "fp32", "cpu"), ("qwen2", "fp16", "cpu"), ("qwen2", "fp16", "cuda"), ("qwen2", "int4", "cpu"), ("llama", "fp32", "cpu"),
         ("llama", "fp16", "cpu"), ("llama", "fp16", "cuda"), ("llama", "int4", "cpu"), ("gemma", "int4", "cpu")]
BLOCK = 32
# Seeds whose greedy choices are clear in every number format: see the smallest gaps that record.py prints.
SEEDS = {"qwen2": 10, "gemma2": 10}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["sources", "optimum", "genai", "community", "one-layer"])
    parser.add_argument("-i", "--sources", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    {"sources": sources, "optimum": optimum, "genai": genai, "community": community,
     "one-layer": one_layer}[arguments.what](arguments.sources, arguments.output)


def sources(_, output):
    from networks import FAMILIES, make
    for family in FAMILIES:
        shutil.rmtree(output / family, ignore_errors=True)
        make(family, output / family, SEEDS.get(family, 9))


def optimum(sources, output):
    for family in OPTIMUM:
        optimum_export(sources / family, fresh(output / f"optimum-{family}"))
    # What `community` starts from, where the model builder's environment finds it.
    with tempfile.TemporaryDirectory() as scratch:
        optimum_export(sources / "qwen2", Path(scratch))
        shutil.copyfile(Path(scratch) / "model.onnx", sources / "qwen2" / "optimum.onnx")


def genai(sources, output):
    """The model builder, everything as it chooses it. It writes no config.json: genai_config.json serves."""
    for family, precision, provider in GENAI:
        suffix = "" if provider == "cpu" else f"-{provider}"
        build(sources / family, fresh(output / f"genai-{family}-{precision}{suffix}"), precision, provider)


def one_layer(sources, output):
    """The first layer of genai-qwen2-fp32 as a model of its own."""
    build(sources / "qwen2", fresh(output / "one-layer"), "fp32", "cpu", "--extra_options", "num_hidden_layers=1")


def build(source, target, precision, provider, *options):
    subprocess.run([sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", source.name, "-i", source,
                    "-o", target, "-p", precision, "-e", provider, *options], check=True)


def community(sources, output):
    """One Optimum export and what onnxruntime's own tools make of it."""
    import onnx
    from onnxruntime.quantization import QuantType, matmul_bnb4_quantizer, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer, QuantFormat
    from onnxruntime.transformers.float16 import convert_float_to_float16

    target = fresh(output / "community-qwen2")
    (target / "onnx").mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        export = Path(scratch) / "model.onnx"
        shutil.copyfile(sources / "qwen2" / "optimum.onnx", export)
        for file in (sources / "qwen2").glob("*.json*"):
            shutil.copy(file, target)
        shutil.copy(sources / "qwen2" / "chat_template.jinja", target)

        def save(model, name, beside=True):
            onnx.save(model, target / "onnx" / name, save_as_external_data=beside, all_tensors_to_one_file=True,
                      location=f"{name}_data", size_threshold=1024)

        def q4(embedding):
            operators = ("MatMul", "Gather") if embedding else ("MatMul",)
            quantizer = MatMulNBitsQuantizer(
                onnx.load(export), bits=4, block_size=BLOCK, is_symmetric=embedding, quant_format=QuantFormat.QOperator,
                op_types_to_quantize=operators, quant_axes=(("MatMul", 0), ("Gather", 1)))
            quantizer.process()
            return quantizer.model.model

        save(onnx.load(export), "model.onnx")
        save(convert_float_to_float16(onnx.load(export)), "model_fp16.onnx")
        # Asymmetric with the embedding in floats, and symmetric with a quantized one: both are published.
        save(q4(embedding=False), "model_q4.onnx", beside=False)
        save(convert_float_to_float16(q4(embedding=True)), "model_q4f16.onnx")
        bnb4 = matmul_bnb4_quantizer.MatMulBnb4Quantizer(onnx.load(export), matmul_bnb4_quantizer.MatMulBnb4Quantizer.NF4, 64)
        bnb4.process()
        save(bnb4.model.model, "model_bnb4.onnx", beside=False)
        # Products of full 8-bit signed weights overflow on processors without VNNI, and the record would hold on some alone.
        for name, kind in (("uint8", QuantType.QUInt8), ("int8", QuantType.QInt8)):
            quantize_dynamic(export, target / "onnx" / f"model_{name}.onnx", weight_type=kind, reduce_range=name == "int8",
                             extra_options={"MatMulConstBOnly": True})


def optimum_export(source, target):
    from optimum.exporters.onnx import main_export
    main_export(str(source), output=str(target), task="text-generation-with-past", framework="pt", dtype="fp32",
                device="cpu", do_validation=True)


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    main()
