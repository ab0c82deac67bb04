//! Results as JSON.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::fault::{Fault, Outcome};

/// Writes a result as JSON.
pub(crate) fn answer(value: &impl Serialize) -> Outcome<String> {
    // Only a map with keys other than text fails, and no result has one.
    serde_json::to_string(value).map_err(|error| Fault::argument(error.to_string()))
}

/// A value of the core's JSON, which has Python's `NaN` and `Infinity`, as standard JSON.
pub(crate) fn standard(json: &avp_core::json::Json, field: &str) -> Outcome<Box<RawValue>> {
    RawValue::from_string(json.to_string()).map_err(|_| Fault {
        kind: "json",
        code: "bad_field",
        offset: Some(0),
        message: format!("{field}: expected an object of finite numbers"),
    })
}

/// Writes a float; one that JSON lacks becomes a string, which JavaScript's `Number` reads.
pub(crate) fn float<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *number {
        _ if number.is_nan() => serializer.serialize_str("NaN"),
        f64::INFINITY => serializer.serialize_str("Infinity"),
        f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
        number => serializer.serialize_f64(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_that_json_lacks_is_a_string() {
        #[derive(Serialize)]
        struct One(#[serde(serialize_with = "float")] f64);
        for (number, json) in [(0.5, "0.5"), (f64::NAN, r#""NaN""#), (f64::NEG_INFINITY, r#""-Infinity""#)] {
            assert_eq!(answer(&One(number)).unwrap(), json);
        }
    }
}
