//! Generates the JavaScript of a module built with `wasm-bindgen`: `bindgen MODULE FOLDER`.
//!
//! It does what `wasm-bindgen-cli` does for `cargo xtask npm`, built with the workspace and at the version in `Cargo.lock`.

use anyhow::{Context as _, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [module, folder] = &arguments[..] else { bail!("usage: bindgen MODULE FOLDER") };
    Bindgen::new()
        .input_path(module)
        .out_name("avp")
        // One file that every host loads: the host gives it the compiled module.
        .web(true)?
        .typescript(true)
        // A module that has failed is replaced by a new instance.
        .reset_state_function(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(folder)
        .with_context(|| format!("cannot process {}", module.display()))
}
