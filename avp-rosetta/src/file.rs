//! `.avp-map` files: safetensors with a header; `docs/avp-map.md` specifies the format.

use std::{
    collections::{HashMap, HashSet},
    io::Write,
    path::Path,
};

use avp_core::MIN_SHARED_TOKENS;
use half::{bf16, f16};
use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorView},
};

use super::{
    AvpMap, MapError, MapModel, Method, Table,
    map::Body,
    rows::{Rows, Values},
    vocabulary::Overlap,
};

const FORMAT: &str = "avp-map";
const VERSION: &str = "1";

/// A valid header holds a dozen short texts; longer headers are refused before they are parsed.
const MAX_HEADER: u64 = 1 << 20;

const W_MAP: &str = "w_map";
const BIAS: &str = "bias";
const SRC_INDICES: &str = "src_indices";
const TGT_INDICES: &str = "tgt_indices";

impl AvpMap {
    /// Encodes the map as the contents of a file.
    ///
    /// # Errors
    /// When safetensors cannot serialize it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, MapError> {
        let mut tensors: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        match &self.body {
            Body::Mediated(table) => tensors.push(table_tensor(table)),
            Body::Overlap { table, ids } => {
                tensors.push(table_tensor(table));
                for (name, ids) in [(SRC_INDICES, &ids.source_ids), (TGT_INDICES, &ids.target_ids)] {
                    tensors.push((name, Dtype::U32, vec![ids.len()], bytes_of(ids, |id| id.to_le_bytes())));
                }
            }
            Body::Linear { matrix, bias, .. } => {
                let shape = vec![self.source.hidden_dim as usize, self.target.hidden_dim as usize];
                tensors.push((W_MAP, Dtype::F32, shape, bytes_of(matrix, |value| value.to_le_bytes())));
                if let Some(bias) = bias {
                    let bytes = bytes_of(bias, |value| value.to_le_bytes());
                    tensors.push((BIAS, Dtype::F32, vec![bias.len()], bytes));
                }
            }
        }
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(malformed)?;
        safetensors::serialize(views, Some(self.header())).map_err(malformed)
    }

    fn header(&self) -> HashMap<String, String> {
        let ends = [("source", &self.source), ("target", &self.target)];
        let of_ends = ends.into_iter().flat_map(|(end, model)| {
            [
                (format!("{end}_model_id"), model.model_id.clone()),
                (format!("{end}_hash"), model.model_hash.clone()),
                (format!("{end}_tokenizer_hash"), model.tokenizer_hash.clone()),
                (format!("{end}_dim"), model.hidden_dim.to_string()),
            ]
        });
        let own = [
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("method", self.method().to_string()),
            // The shortest text that reads back as the same float32.
            ("target_norm", format!("{:?}", self.target_norm)),
            ("anchor_count", self.anchor_count.to_string()),
            ("validation_score", format!("{:?}", self.validation_score)),
        ];
        own.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(of_ends).collect()
    }

    /// Parses the contents of a file. Checks header, types, shapes, lengths, values and ids: the file may be untrusted.
    ///
    /// # Errors
    /// When the contents violate `docs/avp-map.md`. The error names the field or tensor.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MapError> {
        let header_size = bytes.first_chunk().map_or(0, |size| u64::from_le_bytes(*size));
        if header_size > MAX_HEADER {
            return Err(MapError::Malformed {
                message: format!("header of {header_size} bytes exceeds the limit of {MAX_HEADER}"),
            });
        }
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(malformed)?;
        let header = Header { metadata: &metadata };
        header.expect("format", FORMAT)?;
        header.expect("version", VERSION)?;
        let method = header.parse(
            "method",
            "vocab_mediated, vocab_overlap, ridge or procrustes",
            Method::from_name,
        )?;
        let source = header.model(SOURCE_FIELDS)?;
        let target = header.model(TARGET_FIELDS)?;
        let target_norm = header.parse("target_norm", "a number above 0", |text| {
            text.parse::<f32>().ok().filter(|norm| norm.is_finite() && *norm > 0.)
        })?;
        let anchor_count = header.parse("anchor_count", "a whole number", |text| text.parse().ok())?;
        let validation_score = header.parse("validation_score", "a number", |text| {
            text.parse::<f32>().ok().filter(|score| score.is_finite())
        })?;
        check_names(&tensors, method)?;
        let (source_dim, target_dim) = (source.hidden_dim as usize, target.hidden_dim as usize);
        let body = match method {
            Method::VocabMediated => Body::Mediated(read_table(&tensors, None, target_dim)?),
            Method::VocabOverlap => {
                let source_ids = read_ids(&tensors, SRC_INDICES)?;
                let target_ids = read_ids(&tensors, TGT_INDICES)?;
                if target_ids.len() != source_ids.len() {
                    return Err(shape(TGT_INDICES, &[source_ids.len()], vec![target_ids.len()]));
                }
                let table = read_table(&tensors, Some(source_ids.len()), target_dim)?;
                Body::Overlap { table, ids: Overlap { source_ids, target_ids } }
            }
            Method::Ridge | Method::Procrustes => {
                let bias = match tensors.tensor(BIAS) {
                    Ok(_) => Some(read_f32(&tensors, BIAS, &[target_dim])?),
                    Err(_) => None,
                };
                Body::Linear { method, matrix: read_f32(&tensors, W_MAP, &[source_dim, target_dim])?, bias }
            }
        };
        Ok(Self { source, target, target_norm, anchor_count, validation_score, body })
    }

    /// Writes the map to `path` atomically.
    ///
    /// # Errors
    /// When the file cannot be written; an existing file then remains unchanged.
    pub fn save(&self, path: &Path) -> Result<(), MapError> {
        let bytes = self.to_bytes()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|error| MapError::Unwritable { path: path.to_owned(), message: error.to_string() })
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, and as [`from_bytes`](Self::from_bytes).
    pub fn load(path: &Path) -> Result<Self, MapError> {
        let bytes = std::fs::read(path)
            .map_err(|error| MapError::Unreadable { path: path.to_owned(), message: error.to_string() })?;
        Self::from_bytes(&bytes)
    }
}

/// Whether `hash` is safe in a file name: a hash sent by a peer may contain anything, such as `../`.
pub(super) fn is_hash(hash: &str) -> bool {
    (16..=128).contains(&hash.len()) && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

struct Header<'m> {
    metadata: &'m Metadata,
}

/// The names of the header fields of one model.
struct EndFields {
    model_id: &'static str,
    hash: &'static str,
    tokenizer_hash: &'static str,
    dim: &'static str,
}

const SOURCE_FIELDS: EndFields = EndFields {
    model_id: "source_model_id",
    hash: "source_hash",
    tokenizer_hash: "source_tokenizer_hash",
    dim: "source_dim",
};
const TARGET_FIELDS: EndFields = EndFields {
    model_id: "target_model_id",
    hash: "target_hash",
    tokenizer_hash: "target_tokenizer_hash",
    dim: "target_dim",
};

impl Header<'_> {
    fn text(&self, field: &'static str) -> Result<&str, MapError> {
        let found = self.metadata.metadata().as_ref().and_then(|fields| fields.get(field));
        found.map(String::as_str).ok_or(MapError::MissingField { field })
    }

    fn parse<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, MapError> {
        let text = self.text(field)?;
        parse(text).ok_or_else(|| MapError::Field { field, expected, got: excerpt(text) })
    }

    fn expect(&self, field: &'static str, expected: &'static str) -> Result<(), MapError> {
        self.parse(field, expected, |text| (text == expected).then_some(()))
    }

    fn model(&self, fields: EndFields) -> Result<MapModel, MapError> {
        let hash = |text: &str| is_hash(text).then(|| text.to_owned());
        let hash_or_none = |text: &str| if text.is_empty() { Some(String::new()) } else { hash(text) };
        Ok(MapModel {
            model_id: self.text(fields.model_id)?.to_owned(),
            model_hash: self.parse(fields.hash, "16 to 128 hex digits", hash)?,
            tokenizer_hash: self.parse(
                fields.tokenizer_hash,
                "16 to 128 hex digits, or empty",
                hash_or_none,
            )?,
            hidden_dim: self.parse(fields.dim, "a whole number above 0", |text| {
                text.parse().ok().filter(|&dim| dim > 0)
            })?,
        })
    }
}

/// Refuses unknown tensors: a map with more tensors has another meaning.
fn check_names(tensors: &SafeTensors<'_>, method: Method) -> Result<(), MapError> {
    let known: &[&str] = match method {
        Method::VocabMediated => &[W_MAP],
        Method::VocabOverlap => &[W_MAP, SRC_INDICES, TGT_INDICES],
        Method::Ridge | Method::Procrustes => &[W_MAP, BIAS],
    };
    match tensors.names().into_iter().find(|name| !known.contains(name)) {
        Some(name) => Err(MapError::UnknownTensor { tensor: excerpt(name), method }),
        None => Ok(()),
    }
}

fn tensor<'t>(tensors: &SafeTensors<'t>, name: &'static str) -> Result<TensorView<'t>, MapError> {
    tensors.tensor(name).map_err(|_| MapError::MissingTensor { tensor: name })
}

/// A table `[rows, width]`; any number of rows if `rows` is `None`.
fn read_table(tensors: &SafeTensors<'_>, rows: Option<usize>, width: usize) -> Result<Table, MapError> {
    let view = tensor(tensors, W_MAP)?;
    match view.shape() {
        &[found, columns]
            if columns == width && found > 0 && rows.is_none_or(|expected| expected == found) => {}
        got => {
            let rows = rows.map_or_else(|| "any number above 0".to_owned(), |rows| rows.to_string());
            return Err(MapError::Shape {
                tensor: W_MAP,
                expected: format!("[{rows}, {width}]"),
                got: got.to_vec(),
            });
        }
    }
    let values = match view.dtype() {
        Dtype::F32 => Values::F32(values_of(view.data(), f32::from_le_bytes)),
        Dtype::F16 => Values::F16(values_of(view.data(), f16::from_le_bytes)),
        Dtype::BF16 => Values::Bf16(values_of(view.data(), bf16::from_le_bytes)),
        dtype => return Err(wrong_dtype(W_MAP, "F32, F16 or BF16", dtype)),
    };
    // The shape is checked, so the only possible error is a value that is not finite.
    Table::from_values(width, values).map_err(|_| MapError::NotFinite { tensor: W_MAP })
}

fn read_f32(tensors: &SafeTensors<'_>, name: &'static str, expected: &[usize]) -> Result<Vec<f32>, MapError> {
    let view = tensor(tensors, name)?;
    if view.dtype() != Dtype::F32 {
        return Err(wrong_dtype(name, "F32", view.dtype()));
    }
    if view.shape() != expected {
        return Err(shape(name, expected, view.shape().to_vec()));
    }
    let values = values_of(view.data(), f32::from_le_bytes);
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(MapError::NotFinite { tensor: name })
    }
}

fn read_ids(tensors: &SafeTensors<'_>, name: &'static str) -> Result<Vec<u32>, MapError> {
    let view = tensor(tensors, name)?;
    if view.dtype() != Dtype::U32 {
        return Err(wrong_dtype(name, "U32", view.dtype()));
    }
    let ids = match view.shape() {
        &[count] if count as u64 >= MIN_SHARED_TOKENS => values_of(view.data(), u32::from_le_bytes),
        got => {
            let expected = format!("[at least {MIN_SHARED_TOKENS}]");
            return Err(MapError::Shape { tensor: name, expected, got: got.to_vec() });
        }
    };
    let mut seen = HashSet::with_capacity(ids.len());
    match ids.iter().find(|&&id| !seen.insert(id)) {
        Some(&id) => Err(MapError::RepeatedToken { tensor: name, id }),
        None => Ok(ids),
    }
}

fn table_tensor(table: &Table) -> (&'static str, Dtype, Vec<usize>, Vec<u8>) {
    let (dtype, bytes) = match table.values() {
        Values::F32(values) => (Dtype::F32, bytes_of(values, |value| value.to_le_bytes())),
        Values::F16(values) => (Dtype::F16, bytes_of(values, |value| value.to_le_bytes())),
        Values::Bf16(values) => (Dtype::BF16, bytes_of(values, |value| value.to_le_bytes())),
    };
    (W_MAP, dtype, vec![table.count(), table.width()], bytes)
}

fn bytes_of<T: Copy, const N: usize>(values: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| to_bytes(value)).collect()
}

/// Safetensors guarantees that the bytes fill the shape.
fn values_of<T, const N: usize>(bytes: &[u8], from_bytes: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| from_bytes(chunk)).collect()
}

fn shape(tensor: &'static str, expected: &[usize], got: Vec<usize>) -> MapError {
    MapError::Shape { tensor, expected: format!("{expected:?}"), got }
}

fn wrong_dtype(tensor: &'static str, expected: &'static str, got: Dtype) -> MapError {
    MapError::DType { tensor, expected, got: format!("{got:?}") }
}

fn malformed(error: safetensors::SafeTensorError) -> MapError {
    MapError::Malformed { message: excerpt_of(&error.to_string(), 160) }
}

fn excerpt(text: &str) -> String {
    excerpt_of(text, 40)
}

/// The first characters, to bound the length of an error.
fn excerpt_of(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

#[cfg(test)]
mod tests;
