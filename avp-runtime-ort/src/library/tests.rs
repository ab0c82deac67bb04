use std::fs;

use super::*;

/// A place with `content` under a library's name.
fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libonnxruntime.so.1.99.0");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn refusal(path: &Path) -> LibraryError {
    OrtLibrary::find(Some(path)).unwrap_err()
}

/// An ELF header with one segment of `segment_len` bytes from the file's start.
fn elf(segment_len: u64) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
    bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
    bytes[64 + 32..64 + 40].copy_from_slice(&segment_len.to_le_bytes());
    bytes
}

/// Builds a library that reports the ONNX Runtime version `release` and has no other function.
#[cfg(unix)]
fn library_of_release(folder: &Path, release: &str) -> PathBuf {
    let source = folder.join("source.rs");
    let code = r#"
        #![allow(non_snake_case)]
        #[repr(C)]
        pub struct Base(extern "system" fn(u32) -> usize, extern "system" fn() -> *const u8);
        extern "system" fn api(_: u32) -> usize { 0 }
        extern "system" fn version() -> *const u8 { b"RELEASE\0".as_ptr() }
        static BASE: Base = Base(api, version);
        #[unsafe(no_mangle)]
        pub extern "system" fn OrtGetApiBase() -> *const Base { &BASE }
    "#;
    fs::write(&source, code.replace("RELEASE", release)).unwrap();
    let name = if cfg!(target_os = "macos") { "libonnxruntime.X.dylib" } else { "libonnxruntime.so.X" };
    let path = folder.join(name.replace('X', release));
    let mut rustc = std::process::Command::new("rustc");
    rustc.args(["--edition", "2024", "--crate-type", "cdylib", "-o"]).arg(&path).arg(&source);
    assert!(rustc.status().unwrap().success());
    path
}

/// A library that every system with this target has mapped already.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn another_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path =
        maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc"));
    PathBuf::from(path.unwrap())
}

#[test]
fn a_missing_file_is_named() {
    let error = refusal(Path::new("/no/such/libonnxruntime.so"));
    assert!(
        matches!(&error, LibraryError::Unreadable { path, .. } if path.ends_with("libonnxruntime.so")),
        "{error}"
    );
}

#[test]
fn a_folder_is_refused_as_a_library() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(refusal(folder.path()), LibraryError::NotAFile { got: "a folder", .. }));
}

#[test]
#[cfg(unix)]
fn a_pipe_is_refused_without_waiting_for_its_other_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(matches!(refusal(&path), LibraryError::NotAFile { got: "a pipe or device", .. }));
}

#[test]
fn a_text_file_is_refused_in_the_loaders_words() {
    let (_folder, path) = file(b"this is not a library\n");
    let error = refusal(&path);
    assert!(matches!(&error, LibraryError::NotLoadable { message, .. } if !message.is_empty()), "{error}");
    assert!(!error.to_string().contains('\n'), "one sentence on one line: {error}");
}

#[test]
fn an_empty_file_is_refused() {
    let (_folder, path) = file(b"");
    assert!(matches!(refusal(&path), LibraryError::NotLoadable { .. }));
}

#[test]
fn a_file_that_ends_before_its_segments_is_never_mapped() {
    let (_folder, path) = file(&elf(1 << 20));
    assert_eq!(refusal(&path), LibraryError::CutOff { path, expected: 1 << 20, got: 120 });
    let (_folder, path) = file(&elf(u64::MAX));
    assert_eq!(refusal(&path), LibraryError::CutOff { path, expected: u64::MAX, got: 120 });
}

#[test]
fn a_file_that_ends_within_its_headers_is_never_mapped() {
    for len in 6..120 {
        let (_folder, path) = file(&elf(0)[..len]);
        let error = refusal(&path);
        assert!(matches!(error, LibraryError::CutOff { got, .. } if got == len as u64), "{len}: {error}");
    }
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn a_library_without_the_entry_point_is_not_onnx_runtime() {
    let path = another_library();
    assert_eq!(refusal(&path), LibraryError::NotOnnxRuntime { path });
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn a_real_library_cut_short_is_refused() {
    let whole = fs::read(another_library()).unwrap();
    for part in [whole.len() / 4, whole.len() / 2, whole.len() * 3 / 4] {
        let (_folder, path) = file(&whole[..part]);
        assert!(matches!(refusal(&path), LibraryError::CutOff { .. }), "{part} of {}", whole.len());
    }
}

#[test]
#[cfg(unix)]
fn an_older_release_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = library_of_release(folder.path(), "1.9.0");
    let expected = ort::MINOR_VERSION;
    assert_eq!(refusal(&path), LibraryError::TooOld { path, got: "1.9.0".into(), expected });
}

#[test]
#[cfg(unix)]
fn an_unusable_candidate_is_passed_over_for_a_usable_one() {
    let (text, _) = file(b"text");
    let folder = tempfile::tempdir().unwrap();
    library_of_release(folder.path(), "1.9.0");
    let usable = library_of_release(folder.path(), "1.99.0");
    let places = [text.path(), folder.path()].map(|path| places::Place::Folder(path.to_owned()));
    let library = OrtLibrary::first_usable(&places).unwrap();
    assert_eq!((library.version(), library.source()), ("1.99.0", LibrarySource::System));
    assert_eq!(library.path(), usable.canonicalize().unwrap());
}

#[test]
fn only_releases_that_serve_the_api_level_pass() {
    let oldest = format!("1.{}.0", ort::MINOR_VERSION);
    let too_old = format!("1.{}.3", ort::MINOR_VERSION - 1);
    assert!(serves_api(&oldest) && serves_api("1.999.0") && serves_api("1.999.0-dev"));
    for refused in [too_old.as_str(), "", "1", "0.99.0", "2.0.0", "one.two"] {
        assert!(!serves_api(refused), "{refused}");
    }
}

#[test]
fn the_error_lists_every_searched_path() {
    let empty = tempfile::tempdir().unwrap();
    let (folder, path) = file(b"text");
    let places = [
        places::Place::Cache(empty.path().to_owned()),
        places::Place::Python("no-such-interpreter"),
        places::Place::Folder(folder.path().canonicalize().unwrap()),
    ];
    let error = OrtLibrary::first_usable(&places).unwrap_err();
    let LibraryError::NotFound { looked_at } = &error else { panic!("{error}") };
    assert_eq!(looked_at[0], empty.path().display().to_string());
    assert_eq!(looked_at[1], "the packages of no-such-interpreter");
    let candidate = path.canonicalize().unwrap();
    if cfg!(target_os = "linux") {
        assert!(looked_at[2].starts_with(&format!("{} (", candidate.display())), "{error}");
    }
    assert!(error.to_string().contains("ORT_DYLIB_PATH"), "{error}");
}

#[test]
fn every_message_ends_with_the_mend() {
    let path = PathBuf::from("p");
    let message = String::from("m");
    for error in [
        LibraryError::NotFound { looked_at: vec!["a".into(), "b".into()] },
        LibraryError::Unreadable { path: path.clone(), message: message.clone() },
        LibraryError::NotAFile { path: path.clone(), got: "a folder" },
        LibraryError::CutOff { path: path.clone(), expected: 2, got: 1 },
        LibraryError::NotLoadable { path: path.clone(), message: message.clone() },
        LibraryError::NotOnnxRuntime { path: path.clone() },
        LibraryError::TooOld { path: path.clone(), got: "1.9.0".into(), expected: 17 },
        LibraryError::Unusable { path: path.clone(), message },
    ] {
        assert!(error.to_string().ends_with(MEND), "{error}");
    }
}

#[test]
fn the_library_of_this_checkout_is_found_and_checked() {
    let library = OrtLibrary::find(None).unwrap();
    assert!(library.path().is_absolute());
    assert!(serves_api(library.version()), "{}", library.version());
    let again = OrtLibrary::find(Some(library.path())).unwrap();
    assert_eq!((again.version(), again.source()), (library.version(), LibrarySource::Explicit));
}
