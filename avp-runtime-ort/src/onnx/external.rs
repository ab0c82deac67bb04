//! Where weights lie that are not in the graph's own file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use super::{ModelProto, TensorProto, tensors::visit_tensors};
use crate::prepare::PrepareError;

/// The file that holds a tensor's external data, wherever links in `folder` lead.
///
/// # Errors
/// When its path is missing, absolute, or leaves the folder: a model file must not read what it does not own. When the file
/// is missing or a link leads out of the folder.
pub(super) fn external_file(tensor: &TensorProto, folder: &Path) -> Result<PathBuf, PrepareError> {
    resolve(tensor.name(), &external_location(tensor.name(), tensor)?, folder)
}

/// Where a tensor's external data lies, relative to the model's folder. Of several entries of a name one reader takes the
/// first and another the last: there must be one. `name` is what an error calls it.
fn external_location(name: &str, tensor: &TensorProto) -> Result<PathBuf, PrepareError> {
    let location = tensor.external_data.iter().find(|entry| entry.key() == "location");
    let path = PathBuf::from(location.map(|entry| entry.value()).unwrap_or_default());
    let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // So are two offsets in one file two tensors.
    let mut keys = BTreeSet::new();
    let is_ambiguous = !tensor.external_data.iter().all(|entry| keys.insert(entry.key()));
    if path.as_os_str().is_empty() || !inside || is_address(&path) || is_ambiguous {
        return Err(PrepareError::ExternalPath { name: name.to_owned(), path });
    }
    Ok(path)
}

/// The file at `location` in `folder`; `name` is what an error calls it.
fn resolve(name: &str, location: &Path, folder: &Path) -> Result<PathBuf, PrepareError> {
    let path = folder.join(location);
    let resolved = path.canonicalize().map_err(|error| unreadable(name, &path, &error))?;
    let root = folder.canonicalize().map_err(|error| unreadable(name, folder, &error))?;
    let in_blobs = |repository: &Path| resolved.starts_with(repository.join("blobs"));
    let inside = resolved.starts_with(&root) || repository_of_snapshot(&root).is_some_and(in_blobs);
    if inside && !is_address(resolved.strip_prefix(&root).unwrap_or(&resolved)) {
        return Ok(resolved);
    }
    Err(PrepareError::ExternalPath { name: name.to_owned(), path: resolved })
}

/// Whether ONNX Runtime takes it for no file, but the offset beside it for an address in its own memory:
/// `*/_ORT_MEM_ADDR_/*` and another name like it. A file that is really called so must not be found under that name.
fn is_address(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"_ORT_"))
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
        visit_tensors(model, &mut |_, tensor| {
            for entry in tensor.external_data.iter_mut().filter(|entry| entry.key() == "location") {
                let file = self.files.get(Path::new(entry.value())).and_then(|file| file.to_str());
                if let Some(file) = file {
                    entry.value = Some(file.to_owned());
                }
            }
        });
    }
}

/// Every location of external data that `model` names, sorted. It is only read.
///
/// # Errors
/// When a path is missing, absolute, or leaves the folder; the error names the tensor, or the node that holds it.
pub(crate) fn external_locations(model: &mut ModelProto) -> Result<Vec<PathBuf>, PrepareError> {
    let mut locations = Ok(BTreeSet::new());
    visit_tensors(model, &mut |name, tensor| {
        if let Ok(found) = &mut locations
            && !tensor.external_data.is_empty()
        {
            match external_location(name, tensor) {
                Ok(location) => {
                    found.insert(location);
                }
                Err(error) => locations = Err(error),
            }
        }
    });
    Ok(locations?.into_iter().collect())
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
        GraphProto, NodeProto, constant, if_node, node,
        proto::{
            AttributeProto, FunctionProto, SparseTensorProto, StringStringEntryProto, TrainingInfoProto,
        },
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
        let addresses = ["*/_ORT_MEM_ADDR_/*", "./*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*"];
        for path in ["../w", "/etc/passwd", "a/../../w", ""].into_iter().chain(addresses) {
            let refused = external_location("w", &external(&[("location", path)]));
            assert!(matches!(refused, Err(PrepareError::ExternalPath { .. })), "{path}");
        }
        assert!(external_location("w", &external(&[("location", "./sub/w")])).is_ok());
    }

    #[test]
    fn a_tensor_in_two_places_is_refused_whichever_comes_first() {
        for (one, two) in [("w", "../w"), ("../w", "w"), ("w", "w")] {
            let tensor = external(&[("location", one), ("location", two)]);
            assert!(matches!(external_location("w", &tensor), Err(PrepareError::ExternalPath { .. })));
        }
        let tensor = external(&[("location", "w"), ("offset", "0"), ("length", "4"), ("offset", "8")]);
        assert!(matches!(external_location("w", &tensor), Err(PrepareError::ExternalPath { .. })));
    }

    fn graph_of(node: NodeProto) -> GraphProto {
        GraphProto { node: vec![node], ..GraphProto::default() }
    }

    fn model_of(graph: GraphProto) -> ModelProto {
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    /// `tensor`, without a name, in each place where ONNX allows one, and what an error calls it there.
    fn everywhere(tensor: &TensorProto) -> Vec<(&'static str, ModelProto)> {
        let tensor = TensorProto { name: None, ..tensor.clone() };
        let sparse = SparseTensorProto { values: Some(tensor.clone()), ..SparseTensorProto::default() };
        let indices = SparseTensorProto { indices: Some(tensor.clone()), ..SparseTensorProto::default() };
        let constant = || constant("constant", "c", tensor.clone());
        let empty = GraphProto::default;
        let initializer = GraphProto { initializer: vec![tensor.clone()], ..empty() };
        let with = |attribute| {
            let node = node("Custom", "", ["x"], ["made"]);
            model_of(graph_of(NodeProto { attribute: vec![attribute], ..node }))
        };
        let none = AttributeProto::default;
        let function = FunctionProto { node: vec![constant()], ..FunctionProto::default() };
        let by_default = FunctionProto {
            name: Some("function".into()),
            attribute_proto: vec![AttributeProto { t: Some(tensor.clone()), ..none() }],
            ..FunctionProto::default()
        };
        let training =
            TrainingInfoProto { algorithm: Some(initializer.clone()), ..TrainingInfoProto::default() };
        vec![
            ("", model_of(initializer.clone())),
            ("", model_of(GraphProto { sparse_initializer: vec![sparse.clone()], ..empty() })),
            ("", model_of(GraphProto { sparse_initializer: vec![indices], ..empty() })),
            ("constant", model_of(graph_of(constant()))),
            ("", model_of(graph_of(if_node("if", "x", "y", empty(), initializer.clone())))),
            ("constant", model_of(graph_of(if_node("if", "x", "y", graph_of(constant()), empty())))),
            ("", with(AttributeProto { graphs: vec![initializer], ..none() })),
            ("made", with(AttributeProto { tensors: vec![tensor], ..none() })),
            ("made", with(AttributeProto { sparse_tensor: Some(sparse.clone()), ..none() })),
            ("made", with(AttributeProto { sparse_tensors: vec![sparse], ..none() })),
            ("constant", ModelProto { functions: vec![function], ..ModelProto::default() }),
            ("function", ModelProto { functions: vec![by_default], ..ModelProto::default() }),
            ("", ModelProto { training_info: vec![training], ..ModelProto::default() }),
        ]
    }

    #[test]
    fn external_data_is_held_to_the_folder_wherever_a_tensor_stands() {
        for (number, (name, mut model)) in
            everywhere(&external(&[("location", "../w")])).into_iter().enumerate()
        {
            let expected = PrepareError::ExternalPath { name: name.to_owned(), path: "../w".into() };
            assert_eq!(external_locations(&mut model), Err(expected), "place {number}");
        }
    }

    #[test]
    fn external_data_is_found_and_moved_wherever_a_tensor_stands() {
        let file = || (PathBuf::from("w"), PathBuf::from("snapshots/1/w"));
        let files = ExternalFiles { root: PathBuf::new(), files: [file()].into() };
        for (number, (_, mut model)) in everywhere(&external(&[("location", "w")])).into_iter().enumerate() {
            assert_eq!(external_locations(&mut model), Ok(vec![file().0]), "place {number}");
            files.relocate(&mut model);
            assert_eq!(external_locations(&mut model), Ok(vec![file().1]), "place {number}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_inside_the_folder_and_to_a_snapshots_blobs_and_nowhere_else() {
        use std::{fs, os::unix::fs::symlink};
        let root = tempfile::tempdir().unwrap();
        let snapshot = root.path().join("snapshots/main/onnx");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir(root.path().join("blobs")).unwrap();
        let address = "*/_ORT_MEM_ADDR_";
        fs::create_dir_all(snapshot.join(address)).unwrap();
        fs::write(snapshot.join(address).join("*"), [0; 16]).unwrap();
        symlink(format!("{address}/*"), snapshot.join("address")).unwrap();
        for file in ["secret", "blobs/1", "snapshots/main/onnx/own"] {
            fs::write(root.path().join(file), [0; 16]).unwrap();
        }
        for (target, link) in [("../../../secret", "out"), ("../../../blobs/1", "blob"), ("own", "inside")] {
            symlink(target, snapshot.join(link)).unwrap();
        }
        let read = |location| external_file(&external(&[("location", location)]), &snapshot).map(|_| ());
        assert_eq!((read("blob"), read("inside"), read("own")), (Ok(()), Ok(()), Ok(())));
        for refused in ["out", "address"] {
            assert!(matches!(read(refused), Err(PrepareError::ExternalPath { .. })), "{refused}");
        }
    }
}
