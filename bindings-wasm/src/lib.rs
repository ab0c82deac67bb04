//! The WebAssembly module of the npm package `avp-wasm`.
//!
//! The host writes a request into this module's memory, names an operation, and reads the answer: JSON, numbers, or the
//! bytes of a frame's head. Nothing of that needs generated glue, so the module has few exports and two imports, and the same
//! file serves browsers, bundlers, workers, Deno and Node; `js/src` is the other side.
//!
//! | part | does |
//! |---|---|
//! | `avp-js-operations` | answers one request, for every binding |
//! | `avp-wasm-crc` | checksums of a payload that passes through a window |
//! | [`zstd`] | packs and unpacks a body that the host hands over in pieces |
//! | `abi` | the exports; the only place that knows of memory addresses |
//!
//! A body never comes in whole, except that of a hybrid frame, whose chunks can only be found by reading it.
#![deny(unsafe_code)]

#[cfg(target_arch = "wasm32")]
mod abi;
pub mod zstd;

#[cfg(test)]
mod tests {
    use aacp::{Explanation, Packet};
    use avp_core::json::Json;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn floats_are_read_without_tables_as_the_standard_library_reads_them(
            text in prop_oneof![
                any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
                "-?[1-9][0-9]{0,30}(\\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?",
                "-?[0-9]\\.[0-9]{1,900}",
            ]
        ) {
            let ours = Json::parse(&text).ok().and_then(|json| json.as_f64());
            prop_assert_eq!(ours.map(f64::to_bits), text.parse().ok().map(f64::to_bits));
        }

        #[test]
        fn parts_are_explained_as_the_standard_library_reads_them(text in "[+-]?[0-9]{0,3}\\.?[0-9]{0,3}([eE]-?[0-9]{0,2})?|inf|nan|x") {
            let packet = format!("LOG|HR|return:A|aacp:1.2|prog:{text}");
            let explained = Packet::parse(&packet).map(|packet| Explanation::of(&packet).to_string()).unwrap();
            let expected = match text.parse::<f64>() {
                Ok(part) if part.is_finite() => format!("{:.0}%", part * 100.0),
                _ => text.clone(),
            };
            prop_assert!(explained.contains(&expected), "{} in {}", expected, explained);
        }
    }
}
