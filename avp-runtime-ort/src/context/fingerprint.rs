//! The fingerprint of the model that computed a cache. A model that continues from the cache must have the same.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{ContextError, ModelError, folder::parse_json, prepare::Rotary};

/// The weights and the rotary embedding of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fingerprint {
    /// SHA-256, in hex, of the concatenated SHA-256 hashes, in hex, of the export and of each external file in the order of
    /// their names.
    pub weights_hash: String,
    /// The base of the rotary embedding: `rope_theta` of `config.json`, else that of the graph's tables; empty for models
    /// without one, and if unknown.
    pub rope_theta: String,
    /// `rope_scaling` as one line of JSON, keys sorted; empty without scaling. A hash of the frequencies if only the graph's
    /// tables define the scaling.
    pub rope_scaling: String,
}

/// The keys of a frame's `extra`.
pub(crate) mod key {
    pub(crate) const WEIGHTS_HASH: &str = "weights_hash";
    pub(crate) const ROPE_THETA: &str = "rope_theta";
    pub(crate) const ROPE_SCALING: &str = "rope_scaling";
}

/// The rotary settings of `config.json`. Transformers 5 writes `rope_parameters` only.
#[derive(Deserialize)]
struct RopeConfig {
    rope_theta: Option<Value>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
}

impl Fingerprint {
    /// The fingerprint of a model with these weights and this `config.json`, at `path`.
    ///
    /// # Errors
    /// When the config is not a JSON object, or its rotary settings are invalid.
    pub(crate) fn new(
        weights_hash: String,
        path: &std::path::Path,
        config: &str,
    ) -> Result<Self, ModelError> {
        let RopeConfig { rope_theta, rope_scaling, rope_parameters } = parse_json(path, config)?;
        let mut scaling = rope_scaling.or(rope_parameters).unwrap_or_default();
        let inner_theta = scaling.remove("rope_theta");
        // A default type without settings is equivalent to no scaling.
        if scaling.iter().all(|(key, value)| matches!(&**key, "rope_type" | "type") && value == "default") {
            scaling.clear();
        }
        scaling.sort_keys();
        let rope_theta = rope_theta.filter(|theta| !theta.is_null()).or(inner_theta);
        Ok(Self {
            weights_hash,
            rope_theta: rope_theta.map(|theta| number(&theta)).unwrap_or_default(),
            rope_scaling: if scaling.is_empty() { String::new() } else { Value::Object(scaling).to_string() },
        })
    }

    /// Completes missing settings with those of the graph's tables.
    pub(crate) fn or_rotary(self, rotary: &Rotary) -> Self {
        if !self.rope_theta.is_empty() || !self.rope_scaling.is_empty() {
            return self;
        }
        Self { rope_theta: rotary.theta.clone(), rope_scaling: rotary.scaling.clone(), ..self }
    }

    /// The fingerprint in a frame's `extra`, if there is one.
    pub(crate) fn from_extra<'a>(extra: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let text = |key| extra(key).unwrap_or_default().to_owned();
        Some(Self {
            weights_hash: extra(key::WEIGHTS_HASH).filter(|hash| !hash.is_empty())?.to_owned(),
            rope_theta: text(key::ROPE_THETA),
            rope_scaling: text(key::ROPE_SCALING),
        })
    }

    /// # Errors
    /// When `self`, of the context, differs from `model`. The error names the first field that differs.
    pub(crate) fn check(&self, model: &Self) -> Result<(), ContextError> {
        // The most informative field comes first.
        super::same("rope_theta", &model.rope_theta, &self.rope_theta)?;
        super::same("rope_scaling", &model.rope_scaling, &self.rope_scaling)?;
        super::same("weights_hash", &model.weights_hash, &self.weights_hash)
    }
}

/// The canonical text of a number: `10000`, `10000.0` and `1e4` are equal.
fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn rope(config: &str) -> (String, String) {
        let found = Fingerprint::new("w".into(), Path::new("config.json"), config).unwrap();
        (found.rope_theta, found.rope_scaling)
    }

    #[test]
    fn the_same_rotary_settings_are_equal_however_they_are_written() {
        let plain = ("10000".to_owned(), String::new());
        for config in [
            r#"{"rope_theta":10000.0,"rope_scaling":null}"#,
            r#"{"rope_theta":1e4,"rope_scaling":{"rope_type":"default"}}"#,
            r#"{"rope_parameters":{"rope_theta":10000,"rope_type":"default"}}"#,
        ] {
            assert_eq!(rope(config), plain, "{config}");
        }
        let scaled = r#"{"factor":8.0,"rope_type":"linear"}"#;
        for config in [
            r#"{"rope_theta":500000,"rope_scaling":{"rope_type":"linear","factor":8.0}}"#,
            r#"{"rope_parameters":{"factor":8.0,"rope_theta":5e5,"rope_type":"linear"}}"#,
        ] {
            assert_eq!(rope(config), ("500000".to_owned(), scaled.to_owned()), "{config}");
        }
        assert_eq!(rope("{}"), Default::default());
    }

    #[test]
    fn the_first_field_that_differs_is_named() {
        let model = Fingerprint { weights_hash: "a".into(), rope_theta: "1".into(), rope_scaling: "".into() };
        let named = |context: Fingerprint| match context.check(&model) {
            Err(ContextError::OtherModel { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(model.check(&model), Ok(()));
        assert_eq!(named(Fingerprint { weights_hash: "b".into(), ..model.clone() }), "weights_hash");
        assert_eq!(named(Fingerprint { rope_theta: "2".into(), ..model.clone() }), "rope_theta");
        assert_eq!(named(Fingerprint { rope_scaling: "{}".into(), ..model.clone() }), "rope_scaling");
    }
}
