//! The fuzz targets of all crates, from inputs made of the test vectors.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::tools::FUZZ;

const FOLDERS: [&str; 3] = ["fuzz", "aacp/fuzz", "avp-transport/fuzz"];

/// The line of libFuzzer's statistics with the number of inputs.
const EXECUTED: &str = "stat::number_of_executed_units:";

/// Runs each target for ten seconds.
///
/// # Errors
/// When cargo-fuzz cannot be installed, a target does not build, or an input fails.
pub(crate) fn smoke(root: &Path) -> Result<Option<String>> {
    run_each(root, Duration::from_secs(10), None)?;
    Ok(None)
}

/// `cargo xtask fuzz MINUTES [TARGET]`: runs each target, or one, for so many minutes, and prints how many inputs each has read.
/// `cargo xtask fuzz corpus` makes the inputs alone.
///
/// # Errors
/// As [`smoke`]; when the arguments are not a number of minutes and the name of a target.
pub(crate) fn for_minutes(root: &Path, arguments: &[OsString]) -> Result<()> {
    let (minutes, target) = match arguments {
        [corpus] if corpus == "corpus" => return seed(root),
        [minutes] => (minutes, None),
        [minutes, target] => (minutes, target.to_str()),
        _ => bail!("expected `cargo xtask fuzz MINUTES [TARGET]`, or `cargo xtask fuzz corpus`"),
    };
    let minutes: u64 =
        minutes.to_str().and_then(|minutes| minutes.parse().ok()).context("expected a number of minutes")?;
    run_each(root, Duration::from_secs(60 * minutes), target)
}

fn run_each(root: &Path, time: Duration, only: Option<&str>) -> Result<()> {
    seed(root)?;
    let mut counts = Vec::new();
    for folder in FOLDERS {
        for target in targets(&root.join(folder))? {
            if only.is_none_or(|only| only == target) {
                let executed = run_target(root, folder, &target, time)?;
                counts.push((format!("{folder}: {target}"), executed));
            }
        }
    }
    ensure!(!counts.is_empty(), "no target has this name");
    println!("inputs read, without a fault:");
    for (target, executed) in counts {
        println!("{executed:>12}  {target}");
    }
    Ok(())
}

/// Builds a target with libFuzzer, runs it, and returns how many inputs it has read.
fn run_target(root: &Path, folder: &str, target: &str, time: Duration) -> Result<String> {
    let mut cargo = FUZZ.set_up(root)?;
    // Coverage instrumentation and sanitizers are unstable.
    cargo.args(["fuzz", "run", "--fuzz-dir", folder, target, "--"]).env("RUSTC_BOOTSTRAP", "1");
    cargo.arg(format!("-max_total_time={}", time.as_secs())).arg("-print_final_stats=1");
    eprintln!("fuzzing {target} for {} s", time.as_secs());
    let mut child = cargo.stderr(Stdio::piped()).spawn().context("cannot start cargo-fuzz")?;
    let mut executed = "no".to_owned();
    for line in BufReader::new(child.stderr.take().context("no standard error")?).lines() {
        let line = line?;
        match line.strip_prefix(EXECUTED) {
            Some(number) => number.trim().clone_into(&mut executed),
            // Progress would fill the log; faults and where they are must be seen.
            None if line.starts_with('#') => {}
            None => eprintln!("{line}"),
        }
    }
    ensure!(child.wait()?.success(), "{target} has a fault; its input is in {folder}/artifacts/{target}");
    Ok(executed)
}

/// The names of the targets in a folder, in order.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Fills the corpora from the vectors, so that fuzzing starts from inputs that mean something.
fn seed(root: &Path) -> Result<()> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(root.join("test-vectors/avp"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let file: Value = serde_json::from_str(&fs::read_to_string(&path)?)
                .with_context(|| format!("cannot read {}", path.display()))?;
            for case in file["cases"].as_array().into_iter().flatten() {
                inputs.extend(inputs_of(case)?);
            }
        }
    }
    for (number, (folder, target, input)) in inputs.into_iter().enumerate() {
        let corpus = root.join(folder).join("corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
        fs::write(corpus.join(format!("vector-{number}")), input)?;
    }
    Ok(())
}

/// A folder of targets, a target in it, and an input.
type Input = (&'static str, &'static str, Vec<u8>);

/// What a vector gives to the targets.
fn inputs_of(case: &Value) -> Result<Vec<Input>> {
    let input = &case["input"];
    let bytes = input["hex"].as_str().map(hex).transpose()?;
    Ok(match (case["operation"].as_str(), bytes) {
        (Some("frame.decode"), Some(frame)) => inputs_of_frame(frame),
        (Some("frame.verify"), Some(frame)) => vec![("fuzz", "signed", frame)],
        (Some("hybrid.decode"), Some(body)) => vec![("fuzz", "hybrid", body)],
        (Some("kv.decode"), Some(body)) => vec![("fuzz", "kv", [&body[..], &[0, 5, 1]].concat())],
        _ => {
            let json = input["json"].as_str().map(|json| json.as_bytes().to_vec());
            json.into_iter().map(|json| ("fuzz", "json", json)).collect()
        }
    })
}

fn inputs_of_frame(frame: Vec<u8>) -> Vec<Input> {
    const REQUEST: &[u8] = b"POST /avp/v2/transmit\nhost: localhost\nauthorization: Bearer token\n\
        content-type: application/avp+binary\n\n";
    const RECORD: &[u8] = br#"{"owner":"a","expires":99999999999999}"#;
    let mut inputs = vec![
        ("fuzz", "stream", [&[7], &frame[..], &frame].concat()),
        ("avp-transport/fuzz", "reader", [&[7], &frame[..]].concat()),
        ("avp-transport/fuzz", "service", [REQUEST, &frame].concat()),
        ("avp-transport/fuzz", "store", [&(RECORD.len() as u16).to_le_bytes(), RECORD, &frame].concat()),
    ];
    // Bytes 8 to 12 are the length of the metadata, which begin at byte 12.
    let metadata_len = frame.get(8..12).and_then(|len| Some(u32::from_le_bytes(len.try_into().ok()?)));
    let end = metadata_len.and_then(|len| 12_usize.checked_add(len as usize));
    if let Some((head, body)) = end.and_then(|end| frame.split_at_checked(end)) {
        inputs.push(("fuzz", "metadata", head[12..].to_vec()));
        inputs.push(("fuzz", "hybrid", body.to_vec()));
        inputs.push(("fuzz", "unpack", body.to_vec()));
    }
    inputs.push(("fuzz", "signed", frame.clone()));
    inputs.push(("fuzz", "frame", frame));
    inputs
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let byte = |at| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    (0..text.len()).step_by(2).map(byte).collect::<Option<_>>().context("a vector is not hexadecimal")
}
