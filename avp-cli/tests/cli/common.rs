//! Runs the program and reads the vectors.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The program, with a configuration folder of the tests and no token in the environment.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_avp"));
    command.env("AVP_CONFIG_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("config"));
    command.env_remove("AVP_TOKEN").env_remove("AVP_TOKEN_HOST");
    command
}

pub(crate) fn avp<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    avp_with_input(arguments, &[])
}

pub(crate) fn avp_with_input<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
    input: &[u8],
) -> Output {
    let mut child = program()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that fails early need not read its input.
    let _unread = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The standard output of a run that must succeed.
pub(crate) fn stdout(output: &Output) -> &[u8] {
    assert!(output.status.success(), "{}", text(&output.stderr));
    &output.stdout
}

/// The one sentence of a run that must fail.
pub(crate) fn failure(output: &Output) -> &str {
    assert!(!output.status.success(), "succeeded: {}", text(&output.stdout));
    let message = text(&output.stderr).trim_end();
    assert!(message.starts_with("avp: ") && message.lines().count() == 1, "{message}");
    message
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The cases of a file in `test-vectors/avp`.
pub(crate) fn cases(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(repository("test-vectors/avp").join(file)).unwrap();
    let Value::Array(cases) = serde_json::from_str::<Value>(&text).unwrap()["cases"].take() else { panic!() };
    cases
}
