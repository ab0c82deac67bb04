//! Where weights lie that are not in the graph's own file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use super::{ModelProto, TensorProto};
use crate::prepare::PrepareError;

/// Where a tensor's external data lies, relative to the model's folder.
///
/// # Errors
/// When the path is missing, absolute, or leaves the folder: a model file must not read what it does not own.
pub(crate) fn external_location(tensor: &TensorProto) -> Result<PathBuf, PrepareError> {
    let location = tensor.external_data.iter().find(|entry| entry.key() == "location");
    let path = PathBuf::from(location.map(|entry| entry.value()).unwrap_or_default());
    let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if path.as_os_str().is_empty() || !inside {
        return Err(PrepareError::ExternalPath { name: tensor.name().to_owned(), path });
    }
    Ok(path)
}

/// The file that holds a tensor's external data, wherever links in `folder` lead.
///
/// # Errors
/// As [`external_location`]; and when the file is missing or a link leads out of the folder.
pub(crate) fn external_file(tensor: &TensorProto, folder: &Path) -> Result<PathBuf, PrepareError> {
    resolve(tensor.name(), &external_location(tensor)?, folder)
}

/// The file at `location` in `folder`; `name` is what an error calls it.
fn resolve(name: &str, location: &Path, folder: &Path) -> Result<PathBuf, PrepareError> {
    let path = folder.join(location);
    let resolved = path.canonicalize().map_err(|error| unreadable(name, &path, &error))?;
    let root = folder.canonicalize().map_err(|error| unreadable(name, folder, &error))?;
    let in_blobs = |repository: &Path| resolved.starts_with(repository.join("blobs"));
    if resolved.starts_with(&root) || repository_of_snapshot(&root).is_some_and(in_blobs) {
        return Ok(resolved);
    }
    Err(PrepareError::ExternalPath { name: name.to_owned(), path: resolved })
}

/// The files beside a graph that its weights lie in.
pub(crate) struct ExternalFiles {
    /// The folder that ONNX Runtime is to look for them in: the graph's own, or that of the whole download where links lead
    /// out of it to the download's blobs. ONNX Runtime follows no link that leaves the folder it was given.
    pub(crate) root: PathBuf,
    /// Where each location that the graph names lies, relative to `root`.
    pub(crate) files: BTreeMap<PathBuf, PathBuf>,
}

impl ExternalFiles {
    /// Finds what a graph in `folder` names as `locations`.
    ///
    /// # Errors
    /// When a file is missing, or a link leads out of the folder.
    pub(crate) fn find(folder: &Path, locations: &[PathBuf]) -> Result<Self, PrepareError> {
        // The empty path is the working directory.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let own = folder.canonicalize().map_err(|error| PrepareError::Unreadable {
            path: folder.to_owned(),
            message: error.to_string(),
        })?;
        let found: Vec<(&PathBuf, PathBuf)> = locations
            .iter()
            .map(|location| Ok((location, resolve(&location.to_string_lossy(), location, folder)?)))
            .collect::<Result<_, PrepareError>>()?;
        let root = match repository_of_snapshot(&own) {
            Some(repository) if found.iter().any(|(_, file)| !file.starts_with(&own)) => {
                repository.to_owned()
            }
            _ => own,
        };
        let relative = |file: &Path| file.strip_prefix(&root).unwrap_or(file).to_owned();
        let files = found.iter().map(|(location, file)| ((*location).clone(), relative(file))).collect();
        Ok(Self { root, files })
    }

    /// Makes the locations in `model` those relative to the root.
    pub(crate) fn relocate(&self, model: &mut ModelProto) {
        let tensors = model.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        let entries = tensors.flat_map(|tensor| &mut tensor.external_data);
        for entry in entries.filter(|entry| entry.key() == "location") {
            if let Some(file) = self.files.get(Path::new(entry.value())).and_then(|file| file.to_str()) {
                entry.value = Some(file.to_owned());
            }
        }
    }
}

/// Every location of external data that `model` names, sorted.
///
/// # Errors
/// As [`external_location`].
pub(crate) fn external_locations(model: &ModelProto) -> Result<Vec<PathBuf>, PrepareError> {
    let tensors = model.graph.iter().flat_map(|graph| &graph.initializer);
    let external = tensors.filter(|tensor| !tensor.external_data.is_empty());
    let locations: BTreeSet<PathBuf> = external.map(external_location).collect::<Result<_, _>>()?;
    Ok(locations.into_iter().collect())
}

/// The folder of a whole download: its cache keeps `REPOSITORY/blobs/HASH` and links to them from
/// `REPOSITORY/snapshots/REVISION/`.
fn repository_of_snapshot(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|ancestor| ancestor.ends_with("snapshots"))?.parent()
}

pub(super) fn unreadable(name: &str, path: &Path, error: &std::io::Error) -> PrepareError {
    PrepareError::ExternalData { name: name.to_owned(), path: path.to_owned(), message: error.to_string() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::onnx::{
        proto::StringStringEntryProto,
        tensor_proto::{DataLocation, DataType},
    };

    /// A float32 tensor `[2, 2]` beside the model.
    pub(in crate::onnx) fn external(entries: &[(&str, &str)]) -> TensorProto {
        TensorProto {
            name: Some("w".into()),
            dims: vec![2, 2],
            data_type: Some(DataType::Float as i32),
            data_location: Some(DataLocation::External as i32),
            external_data: entries
                .iter()
                .map(|&(key, value)| StringStringEntryProto {
                    key: Some(key.into()),
                    value: Some(value.into()),
                })
                .collect(),
            ..TensorProto::default()
        }
    }

    #[test]
    fn external_paths_stay_inside_the_folder() {
        for path in ["../w", "/etc/passwd", "a/../../w", ""] {
            let refused = external_location(&external(&[("location", path)]));
            assert!(matches!(refused, Err(PrepareError::ExternalPath { .. })), "{path}");
        }
        assert!(external_location(&external(&[("location", "./sub/w")])).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_inside_the_folder_and_to_a_snapshots_blobs_and_nowhere_else() {
        use std::{fs, os::unix::fs::symlink};
        let root = tempfile::tempdir().unwrap();
        let snapshot = root.path().join("snapshots/main/onnx");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir(root.path().join("blobs")).unwrap();
        for file in ["secret", "blobs/1", "snapshots/main/onnx/own"] {
            fs::write(root.path().join(file), [0; 16]).unwrap();
        }
        for (target, link) in [("../../../secret", "out"), ("../../../blobs/1", "blob"), ("own", "inside")] {
            symlink(target, snapshot.join(link)).unwrap();
        }
        let read = |location| external_file(&external(&[("location", location)]), &snapshot).map(|_| ());
        assert_eq!((read("blob"), read("inside"), read("own")), (Ok(()), Ok(()), Ok(())));
        assert!(matches!(read("out"), Err(PrepareError::ExternalPath { .. })));
    }
}
