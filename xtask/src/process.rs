//! Programs run with their command line shown, and named in the error where they fail.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The cargo that runs this program, in the workspace root.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}

/// Runs `command` to its end, showing its command line first.
///
/// # Errors
/// When it does not start, or ends with anything but success.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// As [`run`], with standard output sent to standard error, for programs that chat where a result belongs.
pub(crate) fn run_aside(command: &mut Command) -> Result<()> {
    run(command.stdout(Stdio::from(io::stderr())))
}

/// What `command` writes to standard output, without the white space around it; its other output is not shown.
///
/// # Errors
/// When it does not start, fails, or writes something other than text; the message has what it wrote to standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}: {}", shown(command), output.status, words.trim());
    }
    let text = String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote something other than text", shown(command)))?;
    Ok(text.trim().to_owned())
}

/// The command line as one would type it: the variables it sets, the program's own name, its arguments.
fn shown(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))));
    let program = Path::new(command.get_program());
    let program = quoted(program.file_stem().unwrap_or(program.as_os_str()));
    let arguments = command.get_args().map(quoted);
    variables.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,@+~".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/opt/bin/cargo");
        command.args(["doc", "it's", ""]).env("RUSTDOCFLAGS", "-D warnings").env_remove("GONE");
        assert_eq!(shown(&command), r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s' ''");
    }

    #[test]
    fn a_failure_names_the_command_and_its_words() {
        let mut command = Command::new("rustc");
        let error = output(command.arg("--no-such-option")).unwrap_err().to_string();
        assert!(error.contains("`rustc --no-such-option` failed"), "{error}");
        assert!(error.contains("no-such-option'"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("no-such-program")).unwrap_err();
        assert!(error.to_string().contains("cannot start `no-such-program`"), "{error}");
    }
}
