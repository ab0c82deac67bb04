//! `avp rosetta`: maps made, kept, shown, tried and used.

use std::{
    fs,
    process::{Command, Output},
};

use avp_rosetta::AvpMap;
use serde_json::Value;

use crate::common::{avp, avp_with_input, failure, repository, stdout, text};

fn model(name: &str) -> String {
    repository("test-vectors").join(name).display().to_string()
}

fn pair() -> [String; 2] {
    [model("parity/tiny-qwen2"), model("rosetta/tiny-wide")]
}

fn rosetta(arguments: &[&str]) -> Output {
    avp(["rosetta"].iter().chain(arguments))
}

#[test]
fn a_calibrated_map_is_kept_under_its_pair_and_found_there() {
    let maps = tempfile::tempdir().unwrap();
    let [source, target] = pair();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_avp"));
        command.arg("rosetta").args(arguments).env("AVP_MAP_DIR", maps.path()).output().unwrap()
    };
    let made = run(&["calibrate", &source, &target, "--method", "ridge"]);
    let path = text(stdout(&made)).trim_end().to_owned();
    let map = AvpMap::load(path.as_ref()).unwrap();
    assert_eq!(path, maps.path().join(format!("{}.avp-map", map.id())).display().to_string());
    assert_eq!(fs::read_dir(maps.path()).unwrap().count(), 1);

    let shown: Value = serde_json::from_slice(stdout(&rosetta(&["show", &path, "--json"]))).unwrap();
    assert_eq!((&shown["method"], &shown["anchor_count"]), (&"ridge".into(), &80.into()));
    assert_eq!(shown["source"]["hidden_dim"], 32);

    // Found by the two hashes, the learned map gives another answer than the one made on the spot.
    let question = ["generate", &source, &target, "--prompt", "Where does Rosa live?", "--max-tokens", "8"];
    let with_map = [&question[..], &["--map", &path]].concat();
    let kept = stdout(&run(&question)).to_vec();
    assert_eq!(stdout(&rosetta(&with_map)), kept);
    fs::remove_file(&path).unwrap();
    let made_anew = stdout(&run(&question)).to_vec();
    assert!(!made_anew.is_empty() && made_anew != kept);
}

#[test]
fn a_map_goes_through_pipes() {
    let [source, _] = pair();
    let other = model("rosetta/tiny-other");
    let made = rosetta(&["calibrate", &source, &other, "-o", "-"]);
    let shown = avp_with_input(["rosetta", "show", "-"], stdout(&made));
    let shown = text(stdout(&shown)).to_owned();
    assert!(shown.contains("through 266 tokens of both, 88.7 % of the smaller vocabulary"), "{shown}");
}

#[test]
fn validation_says_which_way_is_better_and_its_exit_code_says_so_too() {
    let [source, target] = pair();
    let refused = rosetta(&["validate", &source, &target, "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((&object["recommended_mode"], &object["perplexity"]), (&"json".into(), &Value::Null));
    let taken = rosetta(&["validate", &source, &target, "--cosine=-1", "--perplexity", "1e6"]);
    assert!(text(stdout(&taken)).ends_with("— projection viable, using LATENT\n"));
}

#[test]
fn a_long_prompt_is_answered_with_a_warning() {
    let [source, target] = pair();
    // A token for each digit.
    let prompt = "0123456789".repeat(35);
    let output = rosetta(&[
        "generate",
        &source,
        &target,
        "--prompt",
        &prompt,
        "--question",
        "Who?",
        "--max-tokens",
        "2",
    ]);
    assert!(!stdout(&output).is_empty());
    assert!(text(&output.stderr).contains("exceeds max_prompt_tokens=300"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let [source, target] = pair();
    let refused = |arguments: &[&str]| failure(&rosetta(arguments)).to_owned();
    assert!(refused(&["calibrate", &source, &source, "-o", "-"]).contains("without a projection"));
    assert!(refused(&["show", &format!("{source}/config.json")]).contains("not a complete safetensors file"));
    let peer = repository("test-vectors/rosetta/peer.avp-map").display().to_string();
    let other = refused(&["generate", &source, &target, "--prompt", "x", "--map", &peer]);
    assert!(other.contains("the map is for other models: target_hash"), "{other}");
    let rotated = refused(&["calibrate", &source, &target, "--method", "procrustes", "-o", "-"]);
    assert!(rotated.contains("procrustes needs models of equal hidden size, got 32 and 40"), "{rotated}");
    assert!(refused(&["calibrate", &source, &model("nothing"), "-o", "-"]).contains("nothing"));
}
