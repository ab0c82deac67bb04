//! `avp serve` and web pages, with a browser.

use std::process::Command;

use crate::common::repository;

#[test]
fn web_pages_reach_a_server_only_from_allowed_origins_whatever_their_name_leads_to() {
    let Some(chromium) = std::env::var_os("CHROMIUM") else {
        eprintln!("CHROMIUM names no browser: no web page is tried; `cargo xtask test` sets it");
        return;
    };
    let mut node = Command::new("node");
    node.arg(repository("js/test/web-pages.mjs"))
        .arg(env!("CARGO_BIN_EXE_avp"))
        .arg(chromium)
        .arg(repository("models/facts"));
    let output = node.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
