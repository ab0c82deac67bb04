//! External data: weights in files beside the graph.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use super::{ModelProto, TensorProto, tensors::visit_tensors};
use crate::prepare::PrepareError;

/// The file of a tensor's external data, with links in `folder` resolved.
///
/// # Errors
/// When its path is missing, absolute, or leaves the folder: a model must not read other files. When the file is missing, or a
/// link leaves the folder.
pub(super) fn external_file(tensor: &TensorProto, folder: &Path) -> Result<PathBuf, PrepareError> {
    resolve(tensor.name(), &external_location(tensor.name(), tensor)?, folder)
}

/// The location of a tensor's external data, relative to the model's folder. Repeated entries are refused, because readers
/// disagree on which one counts. `name` is for errors.
fn external_location(name: &str, tensor: &TensorProto) -> Result<PathBuf, PrepareError> {
    let location = tensor.external_data.iter().find(|entry| entry.key() == "location");
    let path = PathBuf::from(location.map(|entry| entry.value()).unwrap_or_default());
    let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // Repeated offsets are ambiguous as well.
    let mut keys = BTreeSet::new();
    let is_ambiguous = !tensor.external_data.iter().all(|entry| keys.insert(entry.key()));
    if path.as_os_str().is_empty() || !inside || is_address(&path) || is_ambiguous {
        return Err(PrepareError::ExternalPath { name: name.to_owned(), path });
    }
    Ok(path)
}

/// The file at `location` in `folder`; `name` is for errors.
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

/// Whether ONNX Runtime reads the path as a marker for an address in its own memory, given as the offset:
/// `*/_ORT_MEM_ADDR_/*` and a similar name. Such a path is refused even if the file exists.
fn is_address(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"_ORT_"))
}

/// The external data files of a graph.
pub(crate) struct ExternalFiles {
    /// The folder for ONNX Runtime: the graph's own, or that of the whole download if links lead to its blobs. ONNX Runtime
    /// refuses links that leave the given folder.
    pub(crate) root: PathBuf,
    /// The path of each location in the graph, relative to `root`.
    pub(crate) files: BTreeMap<PathBuf, PathBuf>,
}

impl ExternalFiles {
    /// Resolves the `locations` of a graph in `folder`.
    ///
    /// # Errors
    /// When a file is missing, or a link leaves the folder.
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

    /// Makes the locations in `model` relative to the root.
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

/// Every external data location in `model`, sorted. Does not change the model.
///
/// # Errors
/// When a path is missing, absolute, or leaves the folder. The error names the tensor, or its node.
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

/// The folder of a whole download: the cache stores `REPOSITORY/blobs/HASH`, and links to them in
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
    fn a_tensor_with_two_locations_is_refused_in_either_order() {
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

    /// `tensor`, without a name, in each place where ONNX allows a tensor, and its name in errors there.
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
    fn external_data_outside_the_folder_is_refused_for_every_tensor() {
        for (number, (name, mut model)) in
            everywhere(&external(&[("location", "../w")])).into_iter().enumerate()
        {
            let expected = PrepareError::ExternalPath { name: name.to_owned(), path: "../w".into() };
            assert_eq!(external_locations(&mut model), Err(expected), "place {number}");
        }
    }

    #[test]
    fn external_data_of_every_tensor_is_found_and_relocated() {
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
    fn only_links_inside_the_folder_and_to_the_blobs_of_a_snapshot_are_followed() {
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
