#!/bin/bash -eu
# Builds every fuzz target of the repository, each with a corpus of the test vectors.

# The image has a nightly compiler with the sanitizers; the repository's own version is for releases.
export RUSTUP_TOOLCHAIN=nightly

cargo xtask fuzz corpus

for folder in fuzz aacp/fuzz avp-transport/fuzz; do
    cargo fuzz build -O --debug-assertions --fuzz-dir "$folder"
    for source in "$folder"/fuzz_targets/*.rs; do
        target=$(basename "$source" .rs)
        cp "$folder/target/x86_64-unknown-linux-gnu/release/$target" "$OUT/"
        if [ -d "$folder/corpus/$target" ]; then
            zip -jqr "$OUT/${target}_seed_corpus.zip" "$folder/corpus/$target"
        fi
    done
done
