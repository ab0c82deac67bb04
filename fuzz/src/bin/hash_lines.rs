//! One JSON text a line in, its model hash or `error` a line out.

use std::io::{self, BufRead as _, Write as _};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        match avp_core::hash::model_hash(&line?) {
            Ok(hash) => writeln!(out, "{hash}")?,
            Err(_) => writeln!(out, "error")?,
        }
    }
    Ok(())
}
