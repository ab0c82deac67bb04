"""Writes the int4 export of a model that make.py made, with onnxruntime-genai's builder.

    python int4.py OUT

Reads `OUT/torch`, writes `OUT/int4`; its own script, since the builder and Optimum want different releases of
Transformers. A folder that is there already is left as it is.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

# What the builder leaves out and a reader of the folder needs.
BESIDE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    target = out / "int4"
    if target.is_dir():
        print(f"{target}: there already")
        return
    partial = out / ".partial-int4"
    shutil.rmtree(partial, ignore_errors=True)
    scratch = out / ".scratch-int4"
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    source = out / "torch"
    subprocess.run(
        [*builder, "-m", source, "-i", source, "-o", partial, "-p", "int4", "-e", "cpu", "-c", scratch],
        check=True,
    )
    for name in BESIDE:
        if (source / name).exists() and not (partial / name).exists():
            shutil.copyfile(source / name, partial / name)
    shutil.rmtree(scratch, ignore_errors=True)
    partial.rename(target)
    print(f"{target}: {sum(f.stat().st_size for f in target.rglob('*') if f.is_file()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
