//! Fields of untrusted JSON objects.

use avp_core::{Dialect, OwnedFrame, OwnedModelIdentity};
use base64::{
    DecodeError, Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use serde_json::{Map, Value};
use url::Url;

use super::{CarrierError, Limits};
use crate::wire;

/// Protobuf's JSON, and therefore A2A, allows both alphabets, with or without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const READ_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const READ_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A JSON object and the limits of its strings. A null field counts as absent.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    map: &'a Map<String, Value>,
    pub(super) limits: &'a Limits,
}

impl<'a> Object<'a> {
    /// The value of `field`, as an object.
    pub(super) fn of(
        value: &'a Value,
        field: &'static str,
        limits: &'a Limits,
    ) -> Result<Self, CarrierError> {
        match value {
            Value::Object(map) => Ok(Self { map, limits }),
            other => Err(wrong(field, "an object", kind_of(other))),
        }
    }

    pub(super) fn object(&self, field: &'static str) -> Result<Option<Object<'a>>, CarrierError> {
        self.field(field).map(|value| Self::of(value, field, self.limits)).transpose()
    }

    pub(super) fn list(&self, field: &'static str) -> Result<Option<&'a [Value]>, CarrierError> {
        let entries = match self.field(field) {
            None => return Ok(None),
            Some(Value::Array(entries)) => entries,
            Some(other) => return Err(wrong(field, "a list", kind_of(other))),
        };
        check_size(field, entries.len(), self.limits.parts)?;
        Ok(Some(entries))
    }

    pub(super) fn text(&self, field: &'static str) -> Result<Option<&'a str>, CarrierError> {
        let Some(text) = self.long_text(field)? else { return Ok(None) };
        check_size(field, text.len(), self.limits.text)?;
        Ok(Some(text))
    }

    /// A string of any length, which the caller limits.
    pub(super) fn long_text(&self, field: &'static str) -> Result<Option<&'a str>, CarrierError> {
        match self.field(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(field, "a string", kind_of(other))),
        }
    }

    /// An integer. In messages from protobuf's `Struct`, all numbers are floats.
    pub(super) fn integer(&self, field: &'static str) -> Result<Option<u64>, CarrierError> {
        const EXPECTED: &str = "an integer from 0 to 2^53";
        const MAX: f64 = (1_u64 << 53) as f64;
        let number = match self.field(field) {
            None => return Ok(None),
            Some(Value::Number(number)) => number,
            Some(other) => return Err(wrong(field, EXPECTED, kind_of(other))),
        };
        match (number.as_u64(), number.as_f64()) {
            (Some(integer), _) => Ok(Some(integer)),
            (None, Some(float)) if (0.0..=MAX).contains(&float) && float.fract() == 0.0 => {
                Ok(Some(float as u64))
            }
            _ => Err(wrong(field, EXPECTED, "another number")),
        }
    }

    pub(super) fn u32(&self, field: &'static str) -> Result<Option<u32>, CarrierError> {
        let Some(number) = self.integer(field)? else { return Ok(None) };
        match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(wrong(field, "an integer below 2^32", "a larger one")),
        }
    }

    /// An absolute `http` or `https` URL.
    pub(super) fn url(&self, field: &'static str) -> Result<Option<Url>, CarrierError> {
        self.text(field)?.map(|text| fetchable(absolute(text, field)?, field)).transpose()
    }

    /// An identity, as in a handshake.
    pub(super) fn identity(&self, field: &'static str) -> Result<Option<OwnedModelIdentity>, CarrierError> {
        let Some(identity) = self.object(field)? else { return Ok(None) };
        let text = |field| identity.text(field).map(|text| text.unwrap_or_default().to_owned());
        let number = |field| identity.u32(field).map(Option::unwrap_or_default);
        OwnedModelIdentity::from_fields(text, number).map(Some)
    }

    /// The known dialects of a list. Later agents may support others too.
    pub(super) fn dialects(&self, field: &'static str) -> Result<Vec<Dialect>, CarrierError> {
        let named = self.list(field)?.unwrap_or_default();
        let known = [Dialect::V0_2, Dialect::V0_3];
        Ok(known.into_iter().filter(|dialect| named.iter().any(|name| name == dialect.as_str())).collect())
    }

    /// A frame in base64.
    pub(super) fn frame(&self, field: &'static str) -> Result<Option<OwnedFrame>, CarrierError> {
        let Some(text) = self.long_text(field)? else { return Ok(None) };
        let (limit, got) = (self.limits.frame.frame, decoded_len(text) as u64);
        if got > limit {
            let error = avp_core::DecodeError::FrameTooLarge { limit, got };
            return Err(CarrierError::Frame { field, error });
        }
        let url_safe = text.bytes().any(|byte| matches!(byte, b'-' | b'_'));
        let engine = if url_safe { READ_URL_SAFE } else { READ_STANDARD };
        let bytes = engine.decode(text).map_err(|error| CarrierError::Base64 {
            field,
            offset: match error {
                DecodeError::InvalidByte(offset, _) | DecodeError::InvalidLastSymbol(offset, _) => offset,
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len(),
            },
        })?;
        frame(field, bytes.into(), self.limits).map(Some)
    }

    /// Whether `field` is the media type of a frame, with or without parameters.
    pub(super) fn names_frame(&self, field: &'static str) -> Result<bool, CarrierError> {
        Ok(self.text(field)?.is_some_and(is_frame_type))
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.field(field).is_some()
    }

    fn field(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }
}

/// The frame in the bytes of `field`.
pub(super) fn frame(
    field: &'static str,
    bytes: bytes::Bytes,
    limits: &Limits,
) -> Result<OwnedFrame, CarrierError> {
    OwnedFrame::decode_within(bytes, &limits.frame).map_err(|error| CarrierError::Frame { field, error })
}

/// A frame in base64, as protobuf's JSON and MCP write it.
pub(super) fn base64_text(frame: &OwnedFrame) -> Value {
    STANDARD.encode(frame.bytes()).into()
}

/// A value type of the core as JSON.
pub(super) fn to_value(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("structs of text and numbers are JSON")
}

/// The absolute URL in `field`.
pub(super) fn absolute(text: &str, field: &'static str) -> Result<Url, CarrierError> {
    text.parse().map_err(|_| wrong(field, "an absolute URL", "another string"))
}

/// An `http` or `https` URL without user name and password.
pub(super) fn fetchable(url: Url, field: &'static str) -> Result<Url, CarrierError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(field, "an http or https URL", "another scheme"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(field, "a URL without user name and password", "one with them"));
    }
    Ok(url)
}

pub(super) fn is_frame_type(text: &str) -> bool {
    text.parse::<mime::Mime>().is_ok_and(|mime| mime.essence_str().eq_ignore_ascii_case(wire::FRAME))
}

pub(super) fn check_size(field: &'static str, got: usize, limit: usize) -> Result<(), CarrierError> {
    if got > limit {
        return Err(CarrierError::TooLarge { field, limit: limit as u64, got: got as u64 });
    }
    Ok(())
}

pub(super) const fn wrong(field: &'static str, expected: &'static str, got: &'static str) -> CarrierError {
    CarrierError::Field { field, expected, got }
}

pub(super) const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The number of bytes that a base64 text decodes to, if it is valid.
fn decoded_len(text: &str) -> usize {
    let symbols = text.trim_end_matches('=').len();
    symbols / 4 * 3 + (symbols % 4).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn integer(value: Value) -> Result<Option<u64>, CarrierError> {
        let value = json!({ "size": value });
        Object::of(&value, "part", &Limits::default())?.integer("size")
    }

    #[test]
    fn whole_floats_are_the_numbers_they_were_before_protobuf() {
        assert_eq!(integer(json!(139_425.0)), Ok(Some(139_425)));
        assert_eq!(integer(json!(u64::MAX)), Ok(Some(u64::MAX)));
        assert_eq!(integer(json!(null)), Ok(None));
        for wrong in [json!(1.5), json!(-1), json!(-1.0), json!(1e300), json!("7"), json!([7])] {
            assert_eq!(integer(wrong.clone()).unwrap_err().kind(), "bad_field", "{wrong}");
        }
    }

    #[test]
    fn a_url_is_http_without_user_name() {
        let url = |text: &str| {
            Object::of(&json!({ "url": text }), "part", &Limits::default()).and_then(|part| part.url("url"))
        };
        assert_eq!(url("https://a.example/c1").unwrap().unwrap().path(), "/c1");
        for wrong in
            ["file:///etc/passwd", "/c1", "https://", "ftp://a.example/c1", "http://me:pw@a.example/c1"]
        {
            assert_eq!(url(wrong).unwrap_err().kind(), "bad_field", "{wrong}");
        }
    }

    #[test]
    fn the_media_type_counts_without_case_and_parameters() {
        assert!(is_frame_type("application/avp+binary"));
        assert!(is_frame_type("Application/AVP+Binary; version=1"));
        assert!(!is_frame_type("application/avp"));
        assert!(!is_frame_type("application/avp+binary x"));
    }

    proptest! {
        #[test]
        fn the_length_of_a_frame_is_known_from_its_base64(bytes: Vec<u8>) {
            let text = STANDARD.encode(&bytes);
            prop_assert_eq!(decoded_len(&text), bytes.len());
            prop_assert_eq!(decoded_len(text.trim_end_matches('=')), bytes.len());
        }
    }
}
