//! Checks that no compiler makes: sizes of files, links in Markdown, metadata of the crates that are published.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process::output;

/// The most bytes of one file, by folder; the first match counts.
const FILE_LIMITS: [(&str, u64); 3] = [("models/", 8_000_000), ("test-vectors/", 1 << 20), ("", 256 << 10)];

/// The most bytes of all files in a folder together.
const FOLDER_LIMITS: [(&str, u64); 2] = [("models/", 8_000_000), ("test-vectors/", 12 << 20)];

/// Checks every file that git tracks or would add; gives a reason to skip outside a git checkout.
///
/// # Errors
/// When a check fails, with a line for each fault.
pub(crate) fn check(root: &Path) -> Result<Option<String>> {
    let listed = output(Command::new("git").current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]));
    let Ok(listed) = listed else {
        return Ok(Some("not a git checkout".to_owned()));
    };
    // Git lists a deleted file until the deletion is committed.
    let files: Vec<&str> =
        listed.split('\0').filter(|file| !file.is_empty() && root.join(file).is_file()).collect();
    let mut faults = oversized(root, &files)?;
    for file in files.iter().filter(|file| file.ends_with(".md")) {
        let text = fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))?;
        faults.extend(broken_links(root, file, &text));
    }
    for manifest in files.iter().filter(|file| file.ends_with("Cargo.toml")) {
        let text =
            fs::read_to_string(root.join(manifest)).with_context(|| format!("cannot read {manifest}"))?;
        let has_readme = root.join(manifest).with_file_name("README.md").is_file();
        faults.extend(missing_metadata(manifest, &text, has_readme));
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(None)
}

fn oversized(root: &Path, files: &[&str]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut totals = FOLDER_LIMITS.map(|(folder, limit)| (folder, limit, 0));
    for file in files {
        let bytes = fs::metadata(root.join(file)).with_context(|| format!("cannot read {file}"))?.len();
        let limit = FILE_LIMITS.iter().find(|(folder, _)| file.starts_with(folder)).map(|(_, limit)| *limit);
        if let Some(limit) = limit.filter(|limit| bytes > *limit) {
            faults.push(format!("{file} has {bytes} bytes, expected at most {limit}"));
        }
        for (_, _, total) in totals.iter_mut().filter(|(folder, ..)| file.starts_with(folder)) {
            *total += bytes;
        }
    }
    for (folder, limit, total) in totals {
        if total > limit {
            faults.push(format!("{folder} has {total} bytes in all, expected at most {limit}"));
        }
    }
    Ok(faults)
}

/// The relative links `[text](path)` of a Markdown file whose path does not exist.
fn broken_links(root: &Path, file: &str, text: &str) -> Vec<String> {
    let folder = root.join(file).parent().map(PathBuf::from).unwrap_or_default();
    let mut faults = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let Some((target, _)) = rest.split_once(')') else { continue };
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere = path.is_empty() || path.contains(':');
            if !elsewhere && !folder.join(path).exists() {
                faults.push(format!("{file}:{number} links to {target}, which does not exist"));
            }
        }
    }
    faults
}

/// What a crate of the workspace lacks on its page in the registry, unless it is not published.
fn missing_metadata(manifest: &str, text: &str, has_readme: bool) -> Vec<String> {
    if !text.contains("\nversion.workspace = true") || text.contains("\npublish = false") {
        return Vec::new();
    }
    let keys = ["description", "repository.workspace", "keywords", "categories"];
    let missing = keys.into_iter().filter(|key| !text.contains(&format!("\n{key} = ")));
    let missing = missing.chain((!has_readme).then_some("README.md beside it"));
    missing.map(|key| format!("{manifest} has no {key}, which a published crate needs")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_to_missing_files_are_reported() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = "[a](src/main.rs) [b](https://example.org/x) [c](#part) [d](src/none.rs#x)\n\
                    ```\n[e](in/code)\n```\n[f](none.md)";
        assert_eq!(
            broken_links(root, "README.md", text),
            [
                "README.md:1 links to src/none.rs#x, which does not exist",
                "README.md:5 links to none.md, which does not exist"
            ]
        );
    }

    #[test]
    fn a_published_crate_needs_metadata_and_a_readme() {
        let text = "[package]\nname = \"x\"\nversion.workspace = true\ndescription = \"x\"\nkeywords = []\n\
                    categories = []\n";
        assert_eq!(
            missing_metadata("x/Cargo.toml", text, false),
            [
                "x/Cargo.toml has no repository.workspace, which a published crate needs",
                "x/Cargo.toml has no README.md beside it, which a published crate needs"
            ]
        );
        assert!(missing_metadata("x/Cargo.toml", &format!("{text}publish = false\n"), false).is_empty());
    }

    #[test]
    fn a_large_file_is_reported_with_its_size() {
        let folder = std::env::temp_dir().join(format!("xtask-hygiene-{}", std::process::id()));
        fs::create_dir_all(folder.join("models")).unwrap();
        for (file, bytes) in [("large.bin", (256 << 10) + 1), ("models/small.bin", (256 << 10) + 1)] {
            fs::write(folder.join(file), vec![0; bytes]).unwrap();
        }
        let faults = oversized(&folder, &["large.bin", "models/small.bin"]);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(faults.unwrap(), ["large.bin has 262145 bytes, expected at most 262144"]);
    }
}
