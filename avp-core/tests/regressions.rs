//! Inputs that once broke something, replayed through the fuzz targets that found them. Their names say what was wrong.
#![cfg(all(feature = "std", feature = "zstd"))]

use std::{fs, path::Path};

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public in the crate that the file is written for")]
mod targets;

type Target = fn(&[u8]);

#[test]
fn what_was_once_found_stays_mended() {
    let targets: [(&str, Target); 5] = [
        ("frame", targets::frame),
        ("hybrid", targets::hybrid),
        ("json", targets::json),
        ("kv", targets::kv),
        ("stream", targets::stream),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/regressions");
    for (name, target) in targets {
        // Git keeps no empty folder: a target without findings has none.
        for file in fs::read_dir(folder.join(name)).into_iter().flatten() {
            let path = file.expect("a readable folder").path();
            let input = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            println!("{}", path.display());
            target(&input);
        }
    }
}
