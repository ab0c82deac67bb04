//! AVP in an agent card, and the extensions in a header.

use avp_core::{Dialect, OwnedModelIdentity, messages::AVP_VERSION};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use url::Url;

use super::EXTENSION;
use crate::carriers::{
    CarrierError, Limits,
    json::{Object, fetchable, kind_of, to_value, wrong},
};

/// The header with the extensions of a request or a response, in A2A 1.0.
pub const EXTENSIONS_HEADER: HeaderName = HeaderName::from_static("a2a-extensions");

/// Its name in A2A 0.3.
const OLD_EXTENSIONS_HEADER: HeaderName = HeaderName::from_static("x-a2a-extensions");

const DESCRIPTION: &str =
    "Exchanges computed state, such as a KV-cache, in frames of the Agent Vector Protocol";

/// An agent's entry in `capabilities.extensions` of its card: its AVP version, URL and model.
///
/// ```
/// use avp_transport::carriers::{Limits, a2a::AgentExtension};
///
/// let ours = AgentExtension::new("https://a.example/".parse()?)?;
/// let mut card = serde_json::json!({ "name": "A", "capabilities": { "streaming": true } });
/// ours.put_into(&mut card)?;
/// assert_eq!(AgentExtension::from_card(&card, &Limits::default())?, Some(ours));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentExtension {
    url: Url,
    /// The agent's AVP version, as in its hello.
    pub avp_version: String,
    /// The dialects that the agent reads.
    pub dialects: Vec<Dialect>,
    /// The agent's model, as in its hello; `None` if it has none.
    pub identity: Option<OwnedModelIdentity>,
}

impl AgentExtension {
    /// An agent with the version and the dialects of this crate. `url` is the base URL of `/avp/v2/…`.
    ///
    /// # Errors
    /// [`CarrierError::Field`] if the URL is not `http` or `https`, or has a user name or a password.
    pub fn new(url: Url) -> Result<Self, CarrierError> {
        Ok(Self {
            url: fetchable(url, "url")?,
            avp_version: AVP_VERSION.to_owned(),
            dialects: vec![Dialect::V0_2, Dialect::V0_3],
            identity: None,
        })
    }

    /// The base URL of `/avp/v2/…`.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The entry as JSON. It is not `required`, so that agents without AVP can use text.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut entry = json!({
            "uri": EXTENSION,
            "description": DESCRIPTION,
            "required": false,
            "params": {
                "url": self.url.as_str(),
                "avp_version": self.avp_version,
                "dialects": to_value(&self.dialects),
            },
        });
        if let Some(identity) = &self.identity {
            entry["params"]["identity"] = to_value(identity);
        }
        entry
    }

    /// Puts the entry into an agent card; it replaces an earlier one.
    ///
    /// # Errors
    /// [`CarrierError::Field`] if the card, its capabilities or its extensions have another type.
    pub fn put_into(&self, card: &mut Value) -> Result<(), CarrierError> {
        let mut place = card;
        for (field, name) in [("card", "capabilities"), ("capabilities", "extensions")] {
            let got = kind_of(place);
            let object = place.as_object_mut().ok_or(wrong(field, "an object", got))?;
            place = object.entry(name).or_insert(Value::Null);
            if place.is_null() {
                *place = if name == "extensions" { json!([]) } else { json!({}) };
            }
        }
        let got = kind_of(place);
        let entries = place.as_array_mut().ok_or(wrong("extensions", "a list", got))?;
        entries.retain(|entry| entry.get("uri").is_none_or(|uri| uri != EXTENSION));
        entries.push(self.to_json());
        Ok(())
    }

    /// The entry in an agent card, if it has one.
    ///
    /// # Errors
    /// [`CarrierError`] if the card or the entry is invalid.
    pub fn from_card(card: &Value, limits: &Limits) -> Result<Option<Self>, CarrierError> {
        let Some(capabilities) = Object::of(card, "card", limits)?.object("capabilities")? else {
            return Ok(None);
        };
        let entries = capabilities.list("extensions")?.unwrap_or_default();
        let entry = entries.iter().find(|entry| entry.get("uri").is_some_and(|uri| uri == EXTENSION));
        entry.map(|entry| Self::read(entry, limits)).transpose()
    }

    fn read(entry: &Value, limits: &Limits) -> Result<Self, CarrierError> {
        let params = Object::of(entry, "extension", limits)?.object("params")?;
        let params = params.ok_or(wrong("params", "an object", "nothing"))?;
        let missing = |field| wrong(field, "a string", "nothing");
        Ok(Self {
            url: params.url("url")?.ok_or(missing("url"))?,
            avp_version: params.text("avp_version")?.ok_or(missing("avp_version"))?.to_owned(),
            dialects: params.dialects("dialects")?,
            identity: params.identity("identity")?,
        })
    }
}

/// The extensions that a request or a response lists in either header, without duplicates.
///
/// ```
/// use avp_transport::carriers::a2a;
///
/// let mut headers = http::HeaderMap::new();
/// headers.insert("a2a-extensions", a2a::extensions_value(&[a2a::EXTENSION, "https://b.example/ext/v1"])?);
/// assert_eq!(a2a::requested_extensions(&headers), [a2a::EXTENSION, "https://b.example/ext/v1"]);
/// # Ok::<(), avp_transport::carriers::CarrierError>(())
/// ```
#[must_use]
pub fn requested_extensions(headers: &HeaderMap) -> Vec<&str> {
    let mut found = Vec::new();
    let values = [EXTENSIONS_HEADER, OLD_EXTENSIONS_HEADER];
    let values = values.iter().flat_map(|name| headers.get_all(name)).filter_map(|value| value.to_str().ok());
    for uri in values.flat_map(|value| value.split(',')).map(str::trim).filter(|uri| !uri.is_empty()) {
        if !found.contains(&uri) {
            found.push(uri);
        }
    }
    found
}

/// The value of [`EXTENSIONS_HEADER`] for these extensions.
///
/// # Errors
/// [`CarrierError::Field`] if a URI is empty, or has a comma or anything but visible ASCII.
pub fn extensions_value(uris: &[&str]) -> Result<HeaderValue, CarrierError> {
    let fits =
        |uri: &&str| !uri.is_empty() && uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let bad = wrong("A2A-Extensions", "URIs in visible ASCII without commas", "another string");
    if !uris.iter().all(fits) {
        return Err(bad);
    }
    HeaderValue::from_str(&uris.join(", ")).map_err(|_| bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(params: Value) -> Result<Option<AgentExtension>, CarrierError> {
        let card = json!({ "capabilities": { "extensions": [{ "uri": EXTENSION, "params": params }] } });
        AgentExtension::from_card(&card, &Limits::default())
    }

    #[test]
    fn an_entry_takes_the_place_of_its_predecessor_and_of_no_other() {
        let mut card = json!({ "capabilities": { "extensions": [{ "uri": "https://b.example/ext/v1" }] } });
        let mut ours = AgentExtension::new("https://a.example/".parse().unwrap()).unwrap();
        ours.put_into(&mut card).unwrap();
        ours.identity = Some(OwnedModelIdentity { model_family: "qwen2".to_owned(), ..Default::default() });
        ours.put_into(&mut card).unwrap();
        assert_eq!(card["capabilities"]["extensions"].as_array().unwrap().len(), 2);
        assert_eq!(AgentExtension::from_card(&card, &Limits::default()), Ok(Some(ours)));
    }

    #[test]
    fn a_card_without_the_entry_says_so_and_a_wrong_one_is_an_error() {
        for card in
            [json!({}), json!({ "capabilities": null }), json!({ "capabilities": { "extensions": [7] } })]
        {
            assert_eq!(AgentExtension::from_card(&card, &Limits::default()), Ok(None));
        }
        for params in [
            json!(null),
            json!({ "avp_version": "0.6.2" }),
            json!({ "url": "https://a.example/" }),
            json!({ "url": "unix:/run/avp", "avp_version": "0.6.2" }),
            json!({ "url": "https://a.example/", "avp_version": "0.6.2", "identity": 7 }),
        ] {
            assert_eq!(read(params.clone()).unwrap_err().kind(), "bad_field", "{params}");
        }
        let ours = AgentExtension::new("https://a.example/".parse().unwrap()).unwrap();
        for mut card in
            [json!([]), json!({ "capabilities": 7 }), json!({ "capabilities": { "extensions": {} } })]
        {
            assert_eq!(ours.put_into(&mut card).unwrap_err().kind(), "bad_field", "{card}");
        }
    }

    #[test]
    fn dialects_of_the_future_are_passed_over() {
        let params =
            json!({ "url": "https://a.example/", "avp_version": "0.9.0", "dialects": ["0.9", "0.3", 1] });
        assert_eq!(read(params).unwrap().unwrap().dialects, [Dialect::V0_3]);
    }

    #[test]
    fn extensions_are_read_from_the_old_header_and_the_new_one() {
        let mut headers = HeaderMap::new();
        headers.append("A2A-Extensions", HeaderValue::from_static(" urn:a:1 ,, urn:b:1"));
        headers.append("A2A-Extensions", HeaderValue::from_bytes(b"urn:\xff").unwrap());
        headers.append("X-A2A-Extensions", HeaderValue::from_static("urn:b:1,urn:c:1"));
        assert_eq!(requested_extensions(&headers), ["urn:a:1", "urn:b:1", "urn:c:1"]);
    }

    #[test]
    fn a_name_that_would_be_two_is_not_written() {
        for uri in ["", "urn:a:1,urn:b:1", "urn:a 1", "urn:a:1\r\nX: y", "urn:ä:1"] {
            assert_eq!(extensions_value(&[uri]).unwrap_err().kind(), "bad_field", "{uri:?}");
        }
        assert_eq!(extensions_value(&["urn:a:1", "urn:b:1"]).unwrap(), "urn:a:1, urn:b:1");
    }
}
