//! The folder that maps are kept in, found by the hashes of their two models.

use std::path::{Path, PathBuf};

use avp_core::stored_map_id;

use avp_runtime_ort::cache_folder;

use super::{AvpMap, MapError, file::is_hash};

/// A folder of maps, each under `{source[:16]}_{target[:16]}.avp-map`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapFolder {
    path: PathBuf,
}

impl MapFolder {
    /// Keeps maps in `path`, which need not be there yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// `AVP_MAP_DIR`; else `maps` in the [`cache_folder`].
    ///
    /// # Errors
    /// When none of them is set.
    pub fn from_env() -> Result<Self, MapError> {
        let named = std::env::var_os("AVP_MAP_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = named.or_else(|| Some(cache_folder()?.join("maps")));
        path.map(Self::at).ok_or(MapError::NoFolder)
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a pair, if there is one: what [`Evidence::has_stored_map`](avp_core::Evidence) asks before a handshake.
    /// Hashes that are none have no file, whatever a peer says its hash is.
    pub fn find(&self, source_hash: &str, target_hash: &str) -> Option<PathBuf> {
        self.file_of(source_hash, target_hash).filter(|path| path.is_file())
    }

    /// Loads the map of a pair, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read, is no map, or is another pair's whose hashes begin alike.
    pub fn load(&self, source_hash: &str, target_hash: &str) -> Result<Option<AvpMap>, MapError> {
        let Some(path) = self.find(source_hash, target_hash) else { return Ok(None) };
        let map = AvpMap::load(&path)?;
        let expect = |field, expected: &str, got: &str| {
            if expected == got {
                return Ok(());
            }
            let (expected, got) = (expected.to_owned(), got.to_owned());
            Err(MapError::OtherPair { path: path.clone(), field, expected, got })
        };
        expect("source_hash", source_hash, &map.source.model_hash)?;
        expect("target_hash", target_hash, &map.target.model_hash)?;
        Ok(Some(map))
    }

    /// Saves a map under its pair's name, replacing an older one, and gives the path.
    ///
    /// # Errors
    /// When it cannot be written; nothing half-written stays.
    pub fn save(&self, map: &AvpMap) -> Result<PathBuf, MapError> {
        let unwritable =
            |path: &Path, message: String| MapError::Unwritable { path: path.to_owned(), message };
        let path = self
            .file_of(&map.source.model_hash, &map.target.model_hash)
            .ok_or_else(|| unwritable(&self.path, "a model's hash is no hash".to_owned()))?;
        std::fs::create_dir_all(&self.path).map_err(|error| unwritable(&self.path, error.to_string()))?;
        map.save(&path)?;
        Ok(path)
    }

    fn file_of(&self, source_hash: &str, target_hash: &str) -> Option<PathBuf> {
        let named = is_hash(source_hash) && is_hash(target_hash);
        named.then(|| self.path.join(format!("{}.avp-map", stored_map_id(source_hash, target_hash))))
    }
}
