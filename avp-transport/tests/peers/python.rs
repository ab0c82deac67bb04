//! The interpreters that have the packages, and the scripts of `tools/transport` that they run.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use avp_core::Dialect;

/// A release of the package, by what names its interpreter.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) variable: &'static str,
    pub(crate) version: &'static str,
    pub(crate) dialect: Dialect,
}

pub(crate) const OLD: Peer =
    Peer { variable: "AVP_PEER_0_2_1_PYTHON", version: "0.2.1", dialect: Dialect::V0_2 };

pub(crate) const NEW: Peer =
    Peer { variable: "AVP_PEER_0_6_2_PYTHON", version: "0.6.2", dialect: Dialect::V0_3 };

impl Peer {
    /// A command that runs a script under this release, or `None`, visibly, where no interpreter is named.
    pub(crate) fn script(self, name: &str) -> Option<Command> {
        let Some(python) = interpreter(self.variable) else {
            eprintln!("{} names no interpreter: nothing to ask", self.variable);
            return None;
        };
        let mut command = Command::new(python);
        command.arg(scripts().join(name)).env("PYTHONDONTWRITEBYTECODE", "1");
        Some(command)
    }
}

fn interpreter(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|path| !path.is_empty())
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/transport")
}

/// What a program that ends well prints, while the server goes on in other threads.
pub(crate) async fn output(mut command: Command) -> Vec<u8> {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output.stdout
}
