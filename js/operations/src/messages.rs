//! Identities, handshake and JSON messages, with JavaScript's names.

use avp_core::{
    Dialect, Evidence, FieldValue, ModelIdentity, OwnedModelIdentity, hash,
    json::{Json, ReadError},
    messages::{FallbackRequest, Hello, JsonMessage},
    resolve,
};

use crate::{
    border::{Answer, Request},
    fault::{Fault, Outcome},
};

pub(crate) fn identity(config: &str, answer: &mut Answer) -> Outcome<()> {
    let identity = OwnedModelIdentity::from_config(config).map_err(|error| Fault::json(error, config))?;
    write_identity(&identity.as_ref(), answer);
    Ok(())
}

pub(crate) fn model_hash(config: &str, answer: &mut Answer) -> Outcome<()> {
    let hash = hash::model_hash(config).map_err(|error| Fault::json(error.into(), config))?;
    answer.text(&hash);
    Ok(())
}

pub(crate) fn tokenizer_hash(vocab: &str, answer: &mut Answer) -> Outcome<()> {
    let no_object = ReadError::Field { field: "vocabulary", expected: "an object" };
    let hash = hash::tokenizer_hash(vocab).map_err(ReadError::from).and_then(|hash| hash.ok_or(no_object));
    answer.text(&hash.map_err(|error| Fault::json(error, vocab))?);
    Ok(())
}

pub(crate) fn dialect(avp_version: &str, answer: &mut Answer) {
    answer.optional_text(Dialect::from_avp_version(avp_version).map(Dialect::as_str));
}

/// Decides between two identities; the request holds them, whether there is a stored map, and the shared tokens.
pub(crate) fn resolve_identities(mut request: Request<'_>, answer: &mut Answer) -> Outcome<()> {
    let (local, remote) = (read_identity(&mut request)?, read_identity(&mut request)?);
    let has_stored_map = request.flag()?;
    let shared_tokens = request.option(Request::number)?.map(|tokens| tokens as u64);
    let resolution = resolve(&local, &remote, Evidence { has_stored_map, shared_tokens });
    answer.object(|answer| {
        answer.key("mode").text(resolution.mode.as_str()).key("rule").text(resolution.rule.as_str());
        answer.key("avpMapId").text(&resolution.map_id.to_string());
        let stored = avp_core::stored_map_id(local.model_hash, remote.model_hash);
        answer.key("storedMapId").text(&stored.to_string());
        answer.key("differences").array(|answer| {
            for difference in local.differences(&remote) {
                answer.object(|answer| {
                    answer.key("field").text(camel_case(difference.field));
                    write_value(answer.key("local"), difference.local);
                    write_value(answer.key("remote"), difference.remote);
                });
            }
        });
    });
    Ok(())
}

pub(crate) fn parse_hello(text: &str, answer: &mut Answer) -> Outcome<()> {
    let hello = Hello::parse(text).map_err(|error| Fault::json(error, text))?;
    answer.object(|answer| {
        answer
            .key("agentId")
            .text(&hello.agent_id)
            .key("avpVersion")
            .text(&hello.avp_version)
            .key("identity");
        match &hello.identity {
            Some(identity) => write_identity(&identity.as_ref(), answer),
            None => _ = answer.null(),
        }
        // As text: Python's JSON has numbers that JSON lacks.
        answer.key("capabilities").text(&hello.capabilities.to_string());
    });
    Ok(())
}

/// The request holds agent, version, identity or none, and capabilities as JSON text.
pub(crate) fn write_hello(mut request: Request<'_>, answer: &mut Answer) -> Outcome<()> {
    let hello = Hello {
        agent_id: request.text()?.to_owned(),
        avp_version: version_or_own(request.option(Request::text)?),
        identity: request.option(read_identity)?.map(|identity| identity.to_owned()),
        capabilities: json(request.text()?)?,
    };
    answer.text(&hello.to_string());
    Ok(())
}

pub(crate) fn parse_message(text: &str, answer: &mut Answer) -> Outcome<()> {
    let message = JsonMessage::parse(text).map_err(|error| Fault::json(error, text))?;
    answer.object(|answer| {
        answer.key("avpVersion").text(&message.avp_version).key("sessionId").text(&message.session_id);
        answer.key("sourceAgentId").text(&message.source_agent_id);
        answer.key("targetAgentId").text(&message.target_agent_id);
        answer.key("content").text(&message.content).key("extra").text(&message.extra.to_string());
    });
    Ok(())
}

pub(crate) fn write_message(mut request: Request<'_>, answer: &mut Answer) -> Outcome<()> {
    let message = JsonMessage {
        avp_version: version_or_own(request.option(Request::text)?),
        session_id: request.text()?.to_owned(),
        source_agent_id: request.text()?.to_owned(),
        target_agent_id: request.text()?.to_owned(),
        content: request.text()?.to_owned(),
        extra: json(request.text()?)?,
    };
    answer.text(&message.to_string());
    Ok(())
}

pub(crate) fn parse_fallback(text: &str, answer: &mut Answer) -> Outcome<()> {
    let request = FallbackRequest::parse(text).map_err(|error| Fault::json(error, text))?;
    answer.object(|answer| {
        answer.key("sessionId").text(&request.session_id).key("reason").text(&request.reason);
        answer.key("perplexityScore").number(request.perplexity_score);
    });
    Ok(())
}

pub(crate) fn write_fallback(mut request: Request<'_>, answer: &mut Answer) -> Outcome<()> {
    let session_id = request.text()?.to_owned();
    let reason = request.text()?.to_owned();
    let perplexity_score = request.number()?;
    answer.text(&FallbackRequest { session_id, reason, perplexity_score }.to_string());
    Ok(())
}

fn version_or_own(version: Option<&str>) -> String {
    version.unwrap_or(avp_core::messages::AVP_VERSION).to_owned()
}

fn json(text: &str) -> Outcome<Json> {
    Json::parse(text).map_err(|error| Fault::json(error.into(), text))
}

fn read_identity<'a>(request: &mut Request<'a>) -> Outcome<ModelIdentity<&'a str>> {
    Ok(ModelIdentity {
        model_family: request.text()?,
        model_id: request.text()?,
        model_hash: request.text()?,
        hidden_dim: request.u32()?,
        num_layers: request.u32()?,
        num_kv_heads: request.u32()?,
        head_dim: request.u32()?,
        tokenizer_hash: request.text()?,
    })
}

fn write_identity(identity: &ModelIdentity<&str>, answer: &mut Answer) {
    answer.object(|answer| {
        answer.key("modelFamily").text(identity.model_family).key("modelId").text(identity.model_id);
        answer.key("modelHash").text(identity.model_hash);
        answer.key("hiddenDim").whole(identity.hidden_dim).key("numLayers").whole(identity.num_layers);
        answer.key("numKvHeads").whole(identity.num_kv_heads).key("headDim").whole(identity.head_dim);
        answer.key("tokenizerHash").text(identity.tokenizer_hash);
    });
}

fn write_value(answer: &mut Answer, value: FieldValue<'_>) {
    match value {
        FieldValue::Text(text) => _ = answer.text(text),
        FieldValue::Number(number) => _ = answer.whole(number),
    }
}

fn camel_case(field: &'static str) -> &'static str {
    match field {
        "model_family" => "modelFamily",
        "model_id" => "modelId",
        "model_hash" => "modelHash",
        "hidden_dim" => "hiddenDim",
        "num_layers" => "numLayers",
        "num_kv_heads" => "numKvHeads",
        "head_dim" => "headDim",
        "tokenizer_hash" => "tokenizerHash",
        other => other,
    }
}
