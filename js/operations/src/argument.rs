//! Arguments that JavaScript passes as JSON, with errors that name the wrong value.
//!
//! `serde_path_to_error` does the same for any format, and would be a sixth of the WebAssembly module.

use std::fmt::Display;

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{StrDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;

use crate::fault::{Fault, Outcome};

/// Reads the argument called `name`.
///
/// # Errors
/// A [`Fault`] of the kind `argument`, with the path of the wrong value: `metadata.hiddenDim: invalid value ...`.
pub fn argument<T: for<'de> Deserialize<'de>>(json: &str, name: &str) -> Outcome<T> {
    let value = serde_json::from_str(json).map_err(|error| Fault::argument(format!("{name}: {error}")))?;
    T::deserialize(Argument(value))
        .map_err(|Wrong { path, message }| Fault::argument(described(name, &path, &message)))
}

/// Reads the argument called `name`, which is one of the names of a type's values.
///
/// # Errors
/// A [`Fault`] of the kind `argument`.
pub fn named<T: for<'de> Deserialize<'de>>(value: &str, name: &str) -> Outcome<T> {
    let deserializer: StrDeserializer<'_, Wrong> = value.into_deserializer();
    T::deserialize(deserializer).map_err(|wrong| Fault::argument(described(name, "", &wrong.message)))
}

/// serde's message in the words of the JavaScript API.
fn described(name: &str, path: &str, message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return format!("{name}{path}: unknown option {}", rest.replacen(", expected", "; expected", 1));
    }
    match message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(field) => format!("{name}{path}.{field}: missing"),
        None => format!("{name}{path}: {message}"),
    }
}

struct Argument(Value);

#[derive(Debug)]
struct Wrong {
    path: String,
    message: String,
}

impl Wrong {
    fn within(mut self, step: impl Display) -> Self {
        self.path = format!("{step}{}", self.path);
        self
    }
}

impl Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for Wrong {}

impl serde::de::Error for Wrong {
    fn custom<T: Display>(message: T) -> Self {
        Self { path: String::new(), message: message.to_string() }
    }
}

impl<'de> Deserializer<'de> for Argument {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(flag),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., Some(number)) => visitor.visit_f64(number),
                _ => Err(Wrong::custom("number out of range")),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    // The methods below call no method of the visitor that they do not need: each such call is compiled for every type.

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter(), 0)),
            other => Err(Wrong::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Object(fields) => visitor.visit_map(Fields(fields.into_iter(), None)),
            other => Err(Wrong::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            other => Err(Wrong::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(StringDeserializer::new(variant)),
            other => Err(Wrong::invalid_type(unexpected(&other), &"a string")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str bytes byte_buf unit unit_struct tuple_struct identifier
        ignored_any
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(flag) => Unexpected::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Unexpected::Signed(number),
            (_, Some(number)) => Unexpected::Float(number),
            _ => Unexpected::Other("number"),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

/// The items of an array, and the index of the next one.
struct Items(std::vec::IntoIter<Value>, usize);

impl<'de> SeqAccess<'de> for Items {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some(value) = self.0.next() else { return Ok(None) };
        let index = self.1;
        self.1 += 1;
        seed.deserialize(Argument(value)).map(Some).map_err(|wrong| wrong.within(format_args!("[{index}]")))
    }
}

/// The fields of an object, and the one whose key has been read.
struct Fields(serde_json::map::IntoIter, Option<(String, Value)>);

impl<'de> MapAccess<'de> for Fields {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some((key, value)) = self.0.next() else { return Ok(None) };
        let deserializer: StringDeserializer<Wrong> = key.clone().into_deserializer();
        let read = seed.deserialize(deserializer).map_err(|wrong| wrong.within(format_args!(".{key}")))?;
        self.1 = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        let Some((key, value)) = self.1.take() else { return Err(Wrong::custom("a value without a key")) };
        seed.deserialize(Argument(value)).map_err(|wrong| wrong.within(format_args!(".{key}")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only errors are tested")]
    struct Options {
        tensor_shape: Vec<u32>,
        mode: Option<avp_core::Mode>,
        #[serde(default)]
        extra: BTreeMap<String, String>,
    }

    #[test]
    fn a_wrong_argument_is_named_by_its_path() {
        let message = |json| argument::<Options>(json, "options").unwrap_err().message;
        for (json, expected) in [
            (
                r#"{"tensorShape": [1, "2"]}"#,
                "options.tensorShape[1]: invalid type: string \"2\", expected u32",
            ),
            (r#"{"tensorShape": [-1]}"#, "options.tensorShape[0]: invalid value: integer `-1`, expected u32"),
            (
                r#"{"tensorShape": [], "extra": {"a": 1}}"#,
                "options.extra.a: invalid type: integer `1`, expected a string",
            ),
            (
                r#"{"tensorShape": [], "mode": "Json"}"#,
                "options.mode: unknown variant `Json`, expected one of `latent`, `hybrid`, `json`",
            ),
            (
                r#"{"shape": []}"#,
                "options.shape: unknown option `shape`; expected one of `tensorShape`, `mode`, `extra`",
            ),
            ("{}", "options.tensorShape: missing"),
        ] {
            assert_eq!(message(json), expected);
        }
    }
}
