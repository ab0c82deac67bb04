//! The Python peers, packages that implement the same protocols or carry ours, each in its own environment in
//! `.cache/peers/`.
//!
//! Tests check that each side reads the other's output. They find the interpreters in the environment variables below.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    process::{output, run_aside},
    python,
};

struct Peer {
    /// The package and its release, as pip takes them.
    requirement: &'static str,
    /// Its extras in brackets, or nothing.
    extras: &'static str,
    /// The module that Python imports.
    module: &'static str,
    /// The variable that names the interpreter to a test.
    variable: &'static str,
}

/// HTTP client and server: httpx with h2, FastAPI, uvicorn.
const SERVER: &str = "[server]";

const PEERS: [Peer; 6] = [
    peer("avp==0.2.1", SERVER, "avp", "AVP_PEER_0_2_1_PYTHON"),
    peer("avp==0.6.2", SERVER, "avp", "AVP_PEER_0_6_2_PYTHON"),
    peer("aacp==1.1.0", "", "aacp", "AACP_PEER_1_1_0_PYTHON"),
    peer("aacp==1.4.0", "", "aacp", "AACP_PEER_1_4_0_PYTHON"),
    peer("a2a-sdk==1.3.0", "", "a2a", "A2A_SDK_PYTHON"),
    peer("mcp==2.3.0", "", "mcp", "MCP_SDK_PYTHON"),
];

const fn peer(
    requirement: &'static str,
    extras: &'static str,
    module: &'static str,
    variable: &'static str,
) -> Peer {
    Peer { requirement, extras, module, variable }
}

/// Installs missing peers, and returns each interpreter with the variable that names it.
///
/// # Errors
/// When there is no Python with pip, or an installation fails.
pub(crate) fn set_up(root: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    PEERS
        .iter()
        .map(|peer| {
            let python =
                install(root, peer).with_context(|| format!("cannot install {}", peer.requirement))?;
            Ok((peer.variable, python))
        })
        .collect()
}

/// Installs the requirements file at `path` in the repository, and returns the interpreter.
///
/// # Errors
/// As [`set_up`].
pub(crate) fn set_up_scripts(root: &Path, path: &str, module: &str) -> Result<PathBuf> {
    let file = root.join(path).into_os_string().into_string();
    let file = file.map_err(|_| anyhow::anyhow!("pip takes no path that is not Unicode"))?;
    let name = path.replace('/', "-").replace(".txt", "");
    let recipe = fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
    environment(root, &name, &["--requirement", &file], &recipe, module)
        .with_context(|| format!("cannot install {path}"))
}

fn install(root: &Path, peer: &Peer) -> Result<PathBuf> {
    // The name has the release, so only the extras can change.
    let wanted = peer.requirement.replace("==", &format!("{}==", peer.extras));
    let name = peer.requirement.replace("==", "-");
    environment(root, &name, &[&wanted], peer.extras, peer.module)
}

/// Returns the interpreter of the environment `name`, in which pip has installed `wanted`.
///
/// The environment has no pip of its own and is filled by the user's: Debian's `venv` cannot install pip.
///
/// The environment is rebuilt when `recipe` changes.
fn environment(root: &Path, name: &str, wanted: &[&str], recipe: &str, module: &str) -> Result<PathBuf> {
    let folder = root.join(".cache").join("peers").join(name);
    let interpreter =
        if cfg!(windows) { folder.join("Scripts/python.exe") } else { folder.join("bin/python") };
    let complete = folder.join(".complete");
    if fs::read_to_string(&complete).is_ok_and(|made_of| made_of == recipe)
        && can_import(&interpreter, module)
    {
        eprintln!("{name}: {}", interpreter.display());
        return Ok(interpreter);
    }
    eprintln!("{name}: installing from PyPI into {}", folder.display());
    let python = python::with_pip()?;
    run_aside(Command::new(python).args(["-m", "venv", "--clear", "--without-pip"]).arg(&folder))?;
    let packages = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = output(Command::new(&interpreter).args(["-c", packages]))?;
    run_aside(
        python::pip(python, "install")
            .args(["--quiet", "--no-warn-conflicts", "--target", &packages])
            .args(wanted)
            // The warning is about the user's packages, which stay unchanged.
            .env("PIP_ROOT_USER_ACTION", "ignore"),
    )?;
    fs::write(&complete, recipe).with_context(|| format!("cannot write {}", complete.display()))?;
    Ok(interpreter)
}

/// Whether the interpreter still runs and sees the package, as it does not after an update to another Python.
fn can_import(interpreter: &Path, module: &str) -> bool {
    let find = format!("import importlib.util as u; assert u.find_spec('{module}')");
    output(Command::new(interpreter).args(["-c", &find])).is_ok()
}
