//! The places that are searched for a library.

use std::{
    env, fmt,
    fs::read_dir,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::LibrarySource;

/// One place. It is searched by [`candidates`](Self::candidates).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A folder with one subfolder for each release.
    Cache(PathBuf),
    /// The package of this Python interpreter.
    Python(&'static str),
    /// A folder of libraries.
    Folder(PathBuf),
}

/// Every place, in the order of the module above.
pub(super) fn all() -> Vec<Place> {
    let mut places: Vec<Place> = caches().into_iter().map(Place::Cache).collect();
    let interpreters: &[&str] = if cfg!(windows) { &["python", "py"] } else { &["python3", "python"] };
    places.extend(interpreters.iter().copied().map(Place::Python));
    let beside_program = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    places.extend(beside_program.into_iter().chain(loader_folders()).map(Place::Folder));
    places
}

impl Place {
    pub(super) fn source(&self) -> LibrarySource {
        match self {
            Self::Cache(_) => LibrarySource::Cache,
            Self::Python(_) => LibrarySource::Python,
            Self::Folder(_) => LibrarySource::System,
        }
    }

    /// The files with the library's name, newest release first.
    pub(super) fn candidates(&self) -> Vec<PathBuf> {
        match self {
            Self::Cache(root) => {
                let mut releases: Vec<PathBuf> = entries(root).collect();
                releases.sort_by_key(|path| std::cmp::Reverse(release(path)));
                releases.iter().flat_map(|folder| libraries_in(folder)).collect()
            }
            Self::Python(interpreter) => python_package(Command::new(interpreter))
                .map(|package| libraries_in(&package.join("capi")))
                .unwrap_or_default(),
            Self::Folder(folder) => libraries_in(folder),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cache(path) | Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Python(interpreter) => write!(f, "the packages of {interpreter}"),
        }
    }
}

/// The folder set by `cargo` for the programs that it runs, else the one beside `target` for a program in it.
///
/// Only a folder named `target` counts as cargo's: other parent folders may be writable by other users.
fn caches() -> Vec<PathBuf> {
    let named = env::var_os("AVP_ONNXRUNTIME_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from);
    let beside_target = || {
        let exe = env::current_exe().ok()?;
        let target =
            exe.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "target"))?;
        Some(target.parent()?.join(".cache").join("onnxruntime"))
    };
    named.or_else(beside_target).into_iter().collect()
}

/// The folders of the system's loader: those of its environment variable first, then the usual ones.
fn loader_folders() -> Vec<PathBuf> {
    let (variable, usual): (&str, &[&str]) = if cfg!(windows) {
        ("PATH", &[])
    } else if cfg!(target_os = "macos") {
        ("DYLD_LIBRARY_PATH", &["/opt/homebrew/lib", "/usr/local/lib", "/usr/lib"])
    } else if cfg!(target_arch = "aarch64") {
        ("LD_LIBRARY_PATH", &["/usr/local/lib", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"])
    } else {
        ("LD_LIBRARY_PATH", &["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"])
    };
    let named = env::var_os(variable).unwrap_or_default();
    let named: Vec<PathBuf> = env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect();
    named.into_iter().chain(usual.iter().map(PathBuf::from)).collect()
}

/// The libraries of one folder, newest first; a link and its target count once.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let is_library =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(is_library_name);
    let mut found: Vec<PathBuf> =
        entries(folder).filter(is_library).filter_map(|path| path.canonicalize().ok()).collect();
    found.sort_by_key(|path| std::cmp::Reverse(release(path)));
    found.dedup();
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// `libonnxruntime.so`, `libonnxruntime.so.1.31.1`, `libonnxruntime.1.31.1.dylib`, `onnxruntime.dll`; not the libraries of
/// execution providers, whose names continue with `_providers`.
fn is_library_name(name: &str) -> bool {
    if cfg!(windows) {
        name.eq_ignore_ascii_case("onnxruntime.dll")
    } else if cfg!(target_os = "macos") {
        name.strip_prefix("libonnxruntime.").is_some_and(|rest| rest.ends_with("dylib"))
    } else {
        name.strip_prefix("libonnxruntime.so").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// The numbers in a file or folder name, compared as numbers: 1.9 is older than 1.31.
fn release(path: &Path) -> Vec<u64> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The folder of the `onnxruntime` package, found without importing it, which takes a second.
fn python_package(mut interpreter: Command) -> Option<PathBuf> {
    // An empty entry stands for the working folder, which must not decide what is loaded here.
    const SCRIPT: &str = "import sys; sys.path[:] = filter(None, sys.path); import importlib.util as u; \
                          s = u.find_spec('onnxruntime'); \
                          print(s.submodule_search_locations[0] if s and s.submodule_search_locations else '')";
    let child = interpreter
        .args(["-c", SCRIPT])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let output = output_within(child, Duration::from_secs(5))?;
    let path = output.trim();
    (!path.is_empty()).then(|| PathBuf::from(path))
}

/// The child's standard output, or `None` if the child does not close it in time. The child has ended in both cases.
fn output_within(mut child: Child, limit: Duration) -> Option<String> {
    let mut stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).map(|_| text);
        // The receiver is dropped after the timeout.
        let _ = sender.send(read);
    });
    let output = receiver.recv_timeout(limit).ok().and_then(Result::ok);
    // Both fail only where the child has ended already.
    let _ = child.kill();
    let _ = child.wait();
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert!(
            release(Path::new("libonnxruntime.so.1.31.1")) > release(Path::new("libonnxruntime.so.1.9.0"))
        );
        assert!(release(Path::new("1.31.1")) > release(Path::new("1.31")));
    }

    #[test]
    #[cfg(all(unix, not(target_os = "macos")))]
    fn a_folder_gives_its_libraries_newest_first_and_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.31.1",
            "libonnxruntime_providers_shared.so",
            "x.so",
        ] {
            std::fs::write(root.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(root.join("libonnxruntime.so.1.31.1"), root.join("libonnxruntime.so"))
            .unwrap();
        let expected = [root.join("libonnxruntime.so.1.31.1"), root.join("libonnxruntime.so.1.9.0")];
        assert_eq!(libraries_in(&root), expected);
        assert_eq!(libraries_in(&root.join("missing")), Vec::<PathBuf>::new());
    }

    #[test]
    #[cfg(unix)]
    fn a_program_that_never_answers_is_given_up() {
        let child = Command::new("sleep").arg("60").stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(output_within(child, Duration::from_millis(50)), None);
    }

    #[test]
    fn an_interpreter_that_is_not_there_has_no_package() {
        assert_eq!(python_package(Command::new("no-such-interpreter")), None);
    }

    #[test]
    #[cfg(unix)]
    fn python_tells_where_the_package_is_and_the_working_folder_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("onnxruntime");
        std::fs::create_dir(&package).unwrap();
        std::fs::write(package.join("__init__.py"), "raise SystemExit('imported')").unwrap();

        let mut python = Command::new("python3");
        python.env("PYTHONPATH", folder.path());
        assert_eq!(python_package(python), Some(package.clone()));

        let mut python = Command::new("python3");
        python.env_remove("PYTHONPATH").current_dir(folder.path());
        assert_ne!(python_package(python), Some(package));
    }
}
