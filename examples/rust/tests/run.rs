//! The examples run and print what they should.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

fn run(command: &mut Command) -> String {
    let output = command.current_dir(repository()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_quick_start_answers_from_the_handed_over_context() {
    let printed = run(&mut Command::new(env!("CARGO_BIN_EXE_quick-start")));
    assert!(printed.ends_with(" bytes\nAnswer: Rosa lives in Lisbon.\n"), "{printed}");
}

#[test]
fn the_second_process_answers_from_the_frame_of_the_first() {
    let printed = run(&mut Command::new(env!("CARGO_BIN_EXE_two-processes")));
    assert_eq!(printed, "Answer: Rosa has a parrot.\n");
}

#[test]
fn the_router_forwards_a_frame_to_the_file_of_its_target() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    // Dialect 0.3: flags 0, two bytes of payload, metadata `target_agent_id: "b"`.
    let frame = b"AV\x01\0\x05\0\0\0\x03\0\0\0\x1a\x01bhi";
    std::fs::write(folder.join("frame.avp"), frame).unwrap();
    let to = folder.join("b.avp");
    let mut router = Command::new(env!("CARGO_BIN_EXE_router"));
    router.args(["a=unused.avp".into(), format!("b={}", to.display())]);
    run(router.stdin(File::open(folder.join("frame.avp")).unwrap()));
    assert_eq!(std::fs::read(to).unwrap(), frame);
}
