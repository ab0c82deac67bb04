//! Model identities, handshake and JSON messages.

use avp_core::{
    Dialect, Mode, OwnedModelIdentity, hash,
    json::{Json, ReadError},
    messages::{self, AVP_VERSION},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    argument::argument,
    fault::{Fault, Outcome},
    identity::Identity,
    json::{answer, float, standard},
};

/// The identity of the model with this `config.json`.
///
/// # Errors
/// `bad_json` or `bad_field`.
pub fn identity_from_config(config: &str) -> Outcome<String> {
    answer(&Identity(OwnedModelIdentity::from_config(config).map_err(|error| Fault::json(error, config))?))
}

/// The SHA-256 of a model's config.
///
/// # Errors
/// `bad_json`.
pub fn model_hash(config: &str) -> Outcome<String> {
    answer(&hash::model_hash(config).map_err(|error| Fault::json(error.into(), config))?)
}

/// The SHA-256 of a tokenizer's vocabulary.
///
/// # Errors
/// `bad_json` or `bad_field`.
pub fn tokenizer_hash(vocabulary: &str) -> Outcome<String> {
    let no_object = ReadError::Field { field: "vocabulary", expected: "an object" };
    let hash = hash::tokenizer_hash(vocabulary).map_err(ReadError::from);
    let hash = hash.and_then(|hash| hash.ok_or(no_object));
    answer(&hash.map_err(|error| Fault::json(error, vocabulary))?)
}

/// The dialect of a peer's version; `null` if no dialect matches.
///
/// # Errors
/// None.
pub fn dialect_of(version: &str) -> Outcome<String> {
    answer(&Dialect::from_avp_version(version))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Evidence {
    has_stored_map: bool,
    shared_tokens: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resolution<'a> {
    mode: Mode,
    rule: &'static str,
    avp_map_id: String,
    stored_map_id: String,
    differences: Vec<Difference<'a>>,
}

#[derive(Serialize)]
struct Difference<'a> {
    field: String,
    local: avp_core::FieldValue<'a>,
    remote: avp_core::FieldValue<'a>,
}

/// Decides how two models can exchange state.
///
/// # Errors
/// If an argument is wrong.
pub fn resolve(local: &str, remote: &str, evidence: &str) -> Outcome<String> {
    let Identity(local) = argument(local, "local")?;
    let Identity(remote) = argument(remote, "remote")?;
    let Evidence { has_stored_map, shared_tokens } = argument(evidence, "evidence")?;
    let evidence = avp_core::Evidence { has_stored_map, shared_tokens };
    let (local, remote) = (local.as_ref(), remote.as_ref());
    let resolution = avp_core::resolve(&local, &remote, evidence);
    let differences = local.differences(&remote).map(|difference| Difference {
        field: camel_case(difference.field),
        local: difference.local,
        remote: difference.remote,
    });
    answer(&Resolution {
        mode: resolution.mode,
        rule: resolution.rule.as_str(),
        avp_map_id: resolution.map_id.to_string(),
        stored_map_id: avp_core::stored_map_id(local.model_hash, remote.model_hash).to_string(),
        differences: differences.collect(),
    })
}

pub(crate) fn camel_case(snake_case: &str) -> String {
    let mut words = snake_case.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(word.len().min(1));
        name + &initial.to_ascii_uppercase() + rest
    })
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Hello {
    agent_id: String,
    avp_version: Option<String>,
    identity: Option<Identity>,
    #[serde(skip_deserializing)]
    capabilities: Option<Box<RawValue>>,
}

/// Parses a hello.
///
/// # Errors
/// `bad_json` or `bad_field`.
pub fn parse_hello(text: &str) -> Outcome<String> {
    let hello = messages::Hello::parse(text).map_err(|error| Fault::json(error, text))?;
    answer(&Hello {
        agent_id: hello.agent_id,
        avp_version: Some(hello.avp_version),
        identity: hello.identity.map(Identity),
        capabilities: Some(standard(&hello.capabilities, "capabilities")?),
    })
}

/// The text of a hello. `capabilities` are separate, because the core's JSON keeps text that serde's does not.
///
/// # Errors
/// If an argument is wrong.
pub fn format_hello(hello: &str, capabilities: &str) -> Outcome<String> {
    let hello: Hello = argument(hello, "hello")?;
    answer(
        &messages::Hello {
            agent_id: hello.agent_id,
            avp_version: hello.avp_version.unwrap_or_else(|| AVP_VERSION.to_owned()),
            identity: hello.identity.map(|Identity(identity)| identity),
            capabilities: json(capabilities)?,
        }
        .to_string(),
    )
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonMessage {
    avp_version: Option<String>,
    session_id: String,
    source_agent_id: String,
    target_agent_id: String,
    content: String,
    #[serde(skip_deserializing)]
    extra: Option<Box<RawValue>>,
}

/// Parses a JSON message.
///
/// # Errors
/// `bad_json` or `bad_field`.
pub fn parse_json_message(text: &str) -> Outcome<String> {
    let message = messages::JsonMessage::parse(text).map_err(|error| Fault::json(error, text))?;
    answer(&JsonMessage {
        avp_version: Some(message.avp_version),
        session_id: message.session_id,
        source_agent_id: message.source_agent_id,
        target_agent_id: message.target_agent_id,
        content: message.content,
        extra: Some(standard(&message.extra, "extra")?),
    })
}

/// The text of a JSON message; `extra` as in [`format_hello`].
///
/// # Errors
/// If an argument is wrong.
pub fn format_json_message(message: &str, extra: &str) -> Outcome<String> {
    let message: JsonMessage = argument(message, "message")?;
    answer(
        &messages::JsonMessage {
            avp_version: message.avp_version.unwrap_or_else(|| AVP_VERSION.to_owned()),
            session_id: message.session_id,
            source_agent_id: message.source_agent_id,
            target_agent_id: message.target_agent_id,
            content: message.content,
            extra: json(extra)?,
        }
        .to_string(),
    )
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FallbackRequest {
    session_id: String,
    reason: String,
    #[serde(serialize_with = "float")]
    perplexity_score: f64,
}

/// Parses a fallback request.
///
/// # Errors
/// `bad_json` or `bad_field`.
pub fn parse_fallback_request(text: &str) -> Outcome<String> {
    let request = messages::FallbackRequest::parse(text).map_err(|error| Fault::json(error, text))?;
    let messages::FallbackRequest { session_id, reason, perplexity_score } = request;
    answer(&FallbackRequest { session_id, reason, perplexity_score })
}

/// The text of a fallback request.
#[must_use]
pub fn format_fallback_request(session_id: String, reason: String, perplexity_score: f64) -> String {
    messages::FallbackRequest { session_id, reason, perplexity_score }.to_string()
}

fn json(text: &str) -> Outcome<Json> {
    Json::parse(text).map_err(|error| Fault::json(error.into(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_the_names_of_the_json_fields() {
        let identity = serde_json::to_value(Identity::default()).unwrap();
        let local = OwnedModelIdentity { num_kv_heads: 2, tokenizer_hash: "a".into(), ..Default::default() };
        for difference in local.differences(&OwnedModelIdentity::default()) {
            assert!(identity.get(camel_case(difference.field)).is_some(), "{}", difference.field);
        }
    }

    #[test]
    fn numbers_that_json_lacks_are_refused_in_capabilities() {
        let fault = parse_hello(r#"{"capabilities": {"a": NaN}}"#).unwrap_err();
        assert_eq!((fault.kind, fault.code), ("json", "bad_field"));
    }
}
