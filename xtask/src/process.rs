//! Programs run with their command line shown, and named in the error where they fail.

use std::{
    env,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::checks::WHOLE;

/// The cargo that runs this program, in the workspace root.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}

/// Builds the program `name` of this workspace with the features that [`WHOLE`] gives, and gives a command that starts it.
///
/// # Errors
/// When it does not build.
pub(crate) fn tool(root: &Path, name: &str) -> Result<Command> {
    run_aside(cargo(root).args(["build", "--quiet", "--locked", "--bin", name]).args(WHOLE))?;
    let mut tool =
        Command::new(target_folder(root).join("debug").join(format!("{name}{}", env::consts::EXE_SUFFIX)));
    tool.current_dir(root);
    Ok(tool)
}

/// The folder of what cargo builds.
pub(crate) fn target_folder(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

/// Runs `command` to its end, showing its command line first.
///
/// # Errors
/// When it does not start or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Like [`run`], with standard output redirected to standard error, for programs that print progress there.
pub(crate) fn run_aside(command: &mut Command) -> Result<()> {
    run(command.stdout(Stdio::from(io::stderr())))
}

/// Runs `command` and returns its standard output, trimmed.
///
/// # Errors
/// When it does not start, fails, or writes something other than text. The message contains its standard error.
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

/// The command line as a shell takes it: variables, the program's name, arguments.
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
    fn a_command_is_shown_as_a_shell_takes_it() {
        let mut command = Command::new("/opt/bin/cargo");
        command.args(["doc", "it's", ""]).env("RUSTDOCFLAGS", "-D warnings").env_remove("GONE");
        assert_eq!(shown(&command), r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s' ''");
    }

    #[test]
    fn a_failure_names_the_command_and_its_message() {
        let mut command = Command::new("rustc");
        let error = output(command.arg("--no-such-option")).unwrap_err().to_string();
        assert!(error.contains("`rustc --no-such-option` failed"), "{error}");
        assert!(error.contains("no-such-option'"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program")).unwrap_err();
        assert!(error.to_string().contains("cannot start `no-such-program`"), "{error}");
    }
}
