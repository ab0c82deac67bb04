//! A folder of maps, indexed by the hashes of their two models.

use std::path::{Path, PathBuf};

use avp_core::stored_map_id;

use avp_runtime_ort::cache_folder;

use super::{AvpMap, MapError, file::is_hash};

/// A folder of maps named `{source[:16]}_{target[:16]}.avp-map`.
///
/// ```
/// use avp_rosetta::MapFolder;
///
/// let folder = MapFolder::at("maps");
/// assert_eq!(folder.find(&"a1".repeat(32), &"b2".repeat(32)), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapFolder {
    path: PathBuf,
}

impl MapFolder {
    /// The folder `path`, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder `AVP_MAP_DIR`, else `maps` in the [`cache_folder`].
    ///
    /// # Errors
    /// When neither variable nor cache folder is set.
    pub fn from_env() -> Result<Self, MapError> {
        let named = std::env::var_os("AVP_MAP_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = named.or_else(|| Some(cache_folder()?.join("maps")));
        path.map(Self::at).ok_or(MapError::NoFolder)
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The existing file of a pair, for [`Evidence::has_stored_map`](avp_core::Evidence) in a handshake. `None` for invalid
    /// hashes, such as a path sent by a peer.
    pub fn find(&self, source_hash: &str, target_hash: &str) -> Option<PathBuf> {
        self.file_of(source_hash, target_hash).filter(|path| path.is_file())
    }

    /// Loads the map of a pair; `None` if no file exists.
    ///
    /// # Errors
    /// When the file cannot be read, is not a valid map, or belongs to another pair whose hashes have the same prefixes.
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

    /// Saves a map under the name of its pair, replaces an older file, and returns the path.
    ///
    /// # Errors
    /// When the file cannot be written; no partial file remains.
    pub fn save(&self, map: &AvpMap) -> Result<PathBuf, MapError> {
        let unwritable =
            |path: &Path, message: String| MapError::Unwritable { path: path.to_owned(), message };
        let path = self.file_of(&map.source.model_hash, &map.target.model_hash).ok_or_else(|| {
            unwritable(&self.path, "invalid model hash: expected 16 to 128 hex digits".to_owned())
        })?;
        std::fs::create_dir_all(&self.path).map_err(|error| unwritable(&self.path, error.to_string()))?;
        map.save(&path)?;
        Ok(path)
    }

    fn file_of(&self, source_hash: &str, target_hash: &str) -> Option<PathBuf> {
        let named = is_hash(source_hash) && is_hash(target_hash);
        named.then(|| self.path.join(format!("{}.avp-map", stored_map_id(source_hash, target_hash))))
    }
}
