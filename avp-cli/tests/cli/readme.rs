//! The README's commands for two machines, as they stand there, with both machines on this one.

use std::{
    ffi::OsString,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    common::{repository, stdout, text},
    server::Server,
};

/// The commands of the section, in three parts: for either machine, for `a`, and for `b`.
fn commands() -> [String; 3] {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap().replace("\r\n", "\n");
    let section = readme.split("\n## ").find(|part| part.starts_with("From one machine to another")).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let parts = block.split("# on ").skip(1).map(|part| part.split_once('\n').unwrap().1.to_owned());
    parts.collect::<Vec<_>>().try_into().unwrap()
}

/// A shell in `folder` that finds this `avp` and runs `script` until something in it fails.
fn shell(folder: &Path, script: &str) -> Command {
    let avp = Path::new(env!("CARGO_BIN_EXE_avp")).parent().unwrap();
    let mut path = OsString::from(avp);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -e -o pipefail\n{script}")]).current_dir(folder).env("PATH", path);
    command.env_remove("AVP_TOKEN").stdin(Stdio::null());
    command
}

fn is_there(program: &str) -> bool {
    let version = if program == "openssl" { "version" } else { "--version" };
    Command::new(program).arg(version).output().is_ok_and(|output| output.status.success())
}

fn run(folder: &Path, script: &str) -> String {
    text(stdout(&shell(folder, script).output().unwrap())).to_owned()
}

#[test]
fn the_commands_of_the_readme_hand_a_context_from_one_server_to_another() {
    if let Some(missing) = ["bash", "curl", "openssl"].into_iter().find(|program| !is_there(program)) {
        eprintln!("there is no {missing}: the README's commands are not run");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    symlink(repository("models").canonicalize().unwrap(), folder.path().join("models")).unwrap();
    let here =
        |commands: &str| commands.replace("0.0.0.0:8790", "127.0.0.1:0").replace("DNS:a", "DNS:localhost");
    let [either, on_a, on_b] = commands().map(|commands| here(&commands));
    let start = |commands: &str| {
        let (set_up, serve) = commands.split_at(commands.find("avp serve ").unwrap());
        run(folder.path(), set_up);
        Server::spawn(shell(folder.path(), &format!("exec {serve}")))
    };
    let a = start(&either);
    // The secret is made once; all else has the other machine's name.
    let others =
        either.lines().filter(|line| !line.contains("# once, for both")).collect::<Vec<_>>().join("\n");
    let renamed = [("CN=a", "CN=b"), ("a.key", "b.key"), ("a.pem", "b.pem")];
    let b = start(&renamed.iter().fold(others, |commands, (from, to)| commands.replace(from, to)));
    let url = |server: &Server| server.url.replace("127.0.0.1", "localhost");
    let to_both =
        |commands: &str| commands.replace("https://a:8790", &url(&a)).replace("https://b:8790", &url(&b));
    assert!(a.url.starts_with("https://") && b.url.starts_with("https://") && a.url != b.url);

    let id = run(folder.path(), &to_both(&on_a));
    let id = id.trim();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let told = run(folder.path(), &to_both(&on_b).replace("/ID", &format!("/{id}")));
    let (ping, answer) = told.split_at(told.find("{\"").unwrap_or_else(|| panic!("{told}")));
    assert!(ping.contains("latent"), "{ping}");
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "Answer: Rosa lives in Lisbon.", "{answer}");

    std::fs::write(folder.path().join("guessed"), "guessed\n").unwrap();
    let stranger =
        on_b.replace("--token-file tokens", "--token-file guessed").replace("/ID", &format!("/{id}"));
    let refused = shell(folder.path(), &to_both(&stranger)).output().unwrap();
    assert!(!refused.status.success() && text(&refused.stderr).contains("unauthorized"));
}
