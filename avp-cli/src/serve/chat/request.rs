//! Completion requests. Unsupported fields are refused by name, never ignored.

use std::collections::BTreeMap;

use avp_runtime_ort::{Chat, Content, GenerateOptions, Message, StepForm, Steps};
use avp_transport::server::ErrorResponse;
use serde_json::{Map, Value};

/// A completion request.
#[derive(Debug)]
pub(super) struct ChatRequest {
    pub(super) model: Option<String>,
    pub(super) chat: Chat,
    pub(super) options: GenerateOptions,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// The stored context before the messages.
    pub(super) avp_context: Option<String>,
    /// Number of latent steps after the messages, in place of an answer.
    pub(super) avp_think: Option<Steps>,
    /// Their form; the peer's, or the calibrated one, without it.
    pub(super) avp_form: Option<StepForm>,
}

impl ChatRequest {
    /// Parses the JSON of a request. The default temperature is 0, as elsewhere in this program; the default seed is random.
    ///
    /// # Errors
    /// 400 with the name of the missing, invalid or unsupported field.
    pub(super) fn parse(text: &str) -> Result<Self, ErrorResponse> {
        let fields: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            ErrorResponse::bad_request("invalid_json", format!("the body is not a JSON object: {place}"))
        })?;
        let mut request = Self {
            model: None,
            chat: Vec::new().into(),
            options: GenerateOptions { seed: rand::random(), ..GenerateOptions::default() },
            stream: false,
            include_usage: false,
            avp_context: None,
            avp_think: None,
            avp_form: None,
        };
        let mut closed = false;
        let mut tools = None;
        let told = fields.get("tool_choice") != Some(&"none".into());
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
            let field = Field { name: &name, value: &value };
            let options = &mut request.options;
            match name.as_str() {
                "model" => request.model = Some(field.text()?),
                // Taken, not copied: they may be nearly all of the request.
                "messages" => request.chat.messages = messages(list(&name, value)?)?,
                "tools" => tools = Some(list(&name, value)?),
                "stream" => request.stream = field.flag()?,
                "stream_options" => request.include_usage = include_usage(field)?,
                "max_tokens" | "max_completion_tokens" => options.max_tokens = field.count()?,
                "temperature" => options.temperature = field.number()?,
                "top_p" => options.top_p = field.number()?,
                "top_k" => options.top_k = field.count()?,
                "min_p" => options.min_p = field.number()?,
                "repetition_penalty" => options.repetition_penalty = field.number()?,
                "frequency_penalty" => options.frequency_penalty = field.number()?,
                "presence_penalty" => options.presence_penalty = field.number()?,
                "seed" => options.seed = field.seed()?,
                "stop" => options.stop = stop(field)?,
                "logit_bias" => options.logit_bias = logit_bias(field)?,
                "tool_choice" => tool_choice(field)?,
                "avp_context" => request.avp_context = Some(field.text()?),
                "avp_think" => request.avp_think = Some(field.steps()?),
                "avp_form" => request.avp_form = Some(field.form()?),
                "avp_closed" => closed = field.flag()?,
                "avp_continues" => request.chat.continues = field.flag()?,
                _ => field.must_change_nothing()?,
            }
        }
        if request.chat.messages.is_empty() {
            return Err(
                ErrorResponse::bad_request("missing", "expected at least one message").of_field("messages")
            );
        }
        if (closed || request.avp_form.is_some()) && request.avp_think.is_none() {
            let (field, words) = match closed {
                true => (
                    "avp_closed",
                    "an answer needs the assistant's opened turn; only avp_think can leave it out",
                ),
                false => ("avp_form", "the form of latent steps needs avp_think"),
            };
            return Err(ErrorResponse::bad_request("invalid_value", words).of_field(field));
        }
        request.chat.add_generation_prompt = !closed;
        if request.stream && request.avp_think.is_some() {
            let words = "latent steps return a context, which cannot be streamed";
            return Err(ErrorResponse::bad_request("invalid_value", words).of_field("stream"));
        }
        request.chat.tools = tools.filter(|_| told).unwrap_or_default();
        Ok(request)
    }
}

/// A field with a value.
#[derive(Clone, Copy)]
struct Field<'r> {
    name: &'r str,
    value: &'r Value,
}

impl<'r> Field<'r> {
    fn wrong(self, expected: &str) -> ErrorResponse {
        let words = format!("{}: expected {expected}", self.name);
        ErrorResponse::bad_request("invalid_value", words).of_field(self.name.to_owned())
    }

    fn text(self) -> Result<String, ErrorResponse> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.wrong("a text"))
    }

    fn flag(self) -> Result<bool, ErrorResponse> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    fn number(self) -> Result<f32, ErrorResponse> {
        self.value.as_f64().map(|number| number as f32).ok_or_else(|| self.wrong("a number"))
    }

    fn count(self) -> Result<usize, ErrorResponse> {
        let count = self.value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.wrong("an integer of at least 0"))
    }

    fn steps(self) -> Result<Steps, ErrorResponse> {
        let wrong = || self.wrong("a number of latent steps, or \"auto\"");
        serde_json::from_value(self.value.clone()).map_err(|_| wrong())
    }

    fn form(self) -> Result<StepForm, ErrorResponse> {
        let form = self.value.as_str().and_then(|form| form.parse().ok());
        form.ok_or_else(|| self.wrong("a form of latent steps, such as hidden or soft:temperature=0.3"))
    }

    /// Any integer; seeds are only compared.
    fn seed(self) -> Result<u64, ErrorResponse> {
        let seed = self.value.as_u64().or_else(|| self.value.as_i64().map(i64::cast_unsigned));
        seed.ok_or_else(|| self.wrong("an integer"))
    }

    fn object(self) -> Result<&'r Map<String, Value>, ErrorResponse> {
        self.value.as_object().ok_or_else(|| self.wrong("an object"))
    }

    /// Accepts fields without effect on the answer, and values equal to the default behaviour.
    fn must_change_nothing(self) -> Result<(), ErrorResponse> {
        let only = |expected: Value| match *self.value == expected {
            true => Ok(()),
            false => {
                let words = format!("{}: only {expected} is supported", self.name);
                Err(ErrorResponse::bad_request("unsupported_parameter", words).of_field(self.name.to_owned()))
            }
        };
        match self.name {
            "user" | "metadata" | "safety_identifier" | "prompt_cache_key" | "prediction" => Ok(()),
            "n" => only(1.into()),
            "logprobs" | "store" => only(false.into()),
            "parallel_tool_calls" => only(true.into()),
            "service_tier" if *self.value == "default" => Ok(()),
            "service_tier" => only("auto".into()),
            "response_format" => only(serde_json::json!({ "type": "text" })),
            "modalities" => only(serde_json::json!(["text"])),
            _ => {
                let words = format!("unknown parameter {}", ErrorResponse::excerpt(self.name));
                Err(ErrorResponse::bad_request("unknown_parameter", words).of_field(self.name.to_owned()))
            }
        }
    }
}

fn include_usage(field: Field<'_>) -> Result<bool, ErrorResponse> {
    let mut include = false;
    for (name, value) in field.object()? {
        match (name.as_str(), value) {
            ("include_usage", Value::Bool(wanted)) => include = *wanted,
            // Padding of chunks against traffic analysis; chunks here have none.
            ("include_obfuscation", Value::Bool(false)) => {}
            _ => return Err(field.wrong("an object with include_usage, true or false")),
        }
    }
    Ok(include)
}

fn stop(field: Field<'_>) -> Result<Vec<String>, ErrorResponse> {
    match field.value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(texts) => {
            let texts = texts.iter().map(|text| text.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(|| field.wrong("a string, or a list of strings"))
        }
        _ => Err(field.wrong("a string, or a list of strings")),
    }
}

fn logit_bias(field: Field<'_>) -> Result<BTreeMap<u32, f32>, ErrorResponse> {
    let bias = |(id, bias): (&String, &Value)| Some((id.parse().ok()?, bias.as_f64()? as f32));
    let biases = field.object()?.iter().map(bias).collect::<Option<_>>();
    biases.ok_or_else(|| field.wrong("an object from token ids to numbers"))
}

fn tool_choice(field: Field<'_>) -> Result<(), ErrorResponse> {
    // A call of a certain tool cannot be enforced.
    match field.value.as_str() {
        Some("auto" | "none") => Ok(()),
        _ => Err(field.wrong("\"auto\" or \"none\"")),
    }
}

fn list(name: &str, value: Value) -> Result<Vec<Value>, ErrorResponse> {
    match value {
        Value::Array(list) => Ok(list),
        value => Err(Field { name, value: &value }.wrong("a list")),
    }
}

fn messages(list: Vec<Value>) -> Result<Vec<Message>, ErrorResponse> {
    list.into_iter().enumerate().map(|(index, value)| message(index, value)).collect()
}

fn message(index: usize, value: Value) -> Result<Message, ErrorResponse> {
    let wrong = |part: &str, expected: &str| {
        let name = format!("messages[{index}]{part}");
        ErrorResponse::bad_request("invalid_value", format!("{name}: expected {expected}")).of_field(name)
    };
    if !value.is_object() {
        return Err(wrong("", "an object with role and content"));
    }
    let mut message: Message = serde_json::from_value(value)
        .map_err(|_| wrong("", "a role, and content that is a string or a list of parts"))?;
    match message.role.as_str() {
        "system" | "user" | "assistant" | "tool" => {}
        // The newer name; templates support the older one.
        "developer" => message.role = "system".to_owned(),
        _ => return Err(wrong(".role", "system, user, assistant or tool")),
    }
    match &message.content {
        Some(Content::Text(_)) => {}
        Some(Content::Parts(parts)) => {
            for (place, part) in parts.iter().enumerate() {
                if part["type"] != "text" || !part["text"].is_string() {
                    return Err(wrong(&format!(".content[{place}]"), "a part of type text"));
                }
            }
            // Not every template supports parts.
            message.content = Some(Content::Text(message.text()));
        }
        // Messages with only tool calls have no content.
        Some(Content::Null) | None if message.role == "assistant" => {}
        Some(Content::Null) | None => return Err(wrong(".content", "a string or a list of parts")),
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(extra: Value) -> Result<ChatRequest, ErrorResponse> {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ChatRequest::parse(&body.to_string())
    }

    #[test]
    fn every_field_arrives_where_it_belongs() {
        let read = request(json!({
            "messages": [
                { "role": "developer", "content": "Be brief." },
                { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
                { "role": "assistant", "content": null, "tool_calls": [{ "id": "1" }] },
                { "role": "tool", "content": "3", "tool_call_id": "1" },
            ],
            "stream": true, "stream_options": { "include_usage": true }, "max_completion_tokens": 7,
            "temperature": 0.5, "top_p": 0.25, "seed": -1, "stop": ["x", "y"], "frequency_penalty": 1,
            "presence_penalty": -1, "logit_bias": { "42": -100 }, "tools": [{ "type": "function" }],
            "tool_choice": "auto", "avp_context": "c1", "n": 1, "user": "somebody", "logprobs": false,
            "response_format": { "type": "text" }, "top_logprobs": null,
        }))
        .unwrap();
        let options = &read.options;
        assert_eq!((options.max_tokens, options.temperature, options.top_p), (7, 0.5, 0.25));
        assert_eq!((options.seed, &*options.stop), (u64::MAX, &["x".to_owned(), "y".to_owned()][..]));
        assert_eq!((options.frequency_penalty, options.presence_penalty), (1.0, -1.0));
        assert_eq!(options.logit_bias, [(42, -100.0)].into());
        assert!(read.stream && read.include_usage);
        assert_eq!(
            (read.avp_context.as_deref(), read.avp_think, read.chat.tools.len()),
            (Some("c1"), None, 1)
        );
        let [system, user, assistant, _] = &read.chat.messages[..] else { panic!() };
        assert_eq!((&*system.role, user.text()), ("system", "ab".to_owned()));
        assert!(assistant.fields.contains_key("tool_calls"));
    }

    #[test]
    fn a_context_is_read_in_the_form_and_to_the_turn_that_is_asked_for() {
        let read = request(json!({ "avp_think": "auto" })).unwrap();
        assert_eq!((read.avp_think, read.chat.add_generation_prompt), (Some(Steps::Auto), true));
        let read = request(json!({
            "avp_think": 2, "avp_form": "hidden", "avp_closed": true, "avp_continues": true,
        }))
        .unwrap();
        assert_eq!((read.avp_think, read.avp_form), (Some(Steps::Number(2)), Some(StepForm::Hidden)));
        assert_eq!((read.chat.add_generation_prompt, read.chat.continues), (false, true));
    }

    #[test]
    fn tools_that_must_not_be_called_are_not_told() {
        let read = request(json!({ "tools": [{ "type": "function" }], "tool_choice": "none" })).unwrap();
        assert!(read.chat.tools.is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let image = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }]);
        for (extra, field) in [
            (json!({ "n": 2 }), "n"),
            (json!({ "logprobs": true }), "logprobs"),
            (json!({ "response_format": { "type": "json_object" } }), "response_format"),
            (json!({ "tool_choice": "required" }), "tool_choice"),
            (json!({ "parallel_tool_calls": false }), "parallel_tool_calls"),
            (json!({ "functions": [] }), "functions"),
            (json!({ "temprature": 1 }), "temprature"),
            (json!({ "temperature": "hot" }), "temperature"),
            (json!({ "max_tokens": -1 }), "max_tokens"),
            (json!({ "stop": [1] }), "stop"),
            (json!({ "logit_bias": { "x": 1 } }), "logit_bias"),
            (json!({ "stream_options": { "include": true } }), "stream_options"),
            (json!({ "stream": true, "avp_think": 3 }), "stream"),
            (json!({ "avp_think": -1 }), "avp_think"),
            (json!({ "avp_think": "many" }), "avp_think"),
            (json!({ "avp_think": 1, "avp_form": "sofd" }), "avp_form"),
            (json!({ "avp_form": "hidden" }), "avp_form"),
            (json!({ "avp_closed": true }), "avp_closed"),
            (json!({ "messages": [] }), "messages"),
            (json!({ "messages": ["Hi"] }), "messages[0]"),
            (json!({ "messages": [{ "role": "robot", "content": "Hi" }] }), "messages[0].role"),
            (json!({ "messages": [{ "role": "user" }] }), "messages[0].content"),
            (json!({ "messages": image }), "messages[0].content[0]"),
        ] {
            let error = request(extra.clone()).unwrap_err();
            assert_eq!((error.status().as_u16(), error.field()), (400, Some(field)), "{extra}: {error}");
        }
        for body in ["", "[]", "{\"messages\": [", "7"] {
            assert_eq!(ChatRequest::parse(body).unwrap_err().code(), "invalid_json", "{body}");
        }
    }

    #[test]
    fn a_refusal_repeats_a_short_part_of_an_unknown_name() {
        let refused = request(json!({ "x".repeat(900_000): 1 })).unwrap_err();
        assert_eq!(refused.code(), "unknown_parameter");
        assert!(refused.reply().to_string().len() < 400);
    }

    #[test]
    fn a_refusal_repeats_nothing_of_the_conversation() {
        let secret = json!([{ "role": "user", "content": { "s3cret": "s3cret" } }]);
        assert!(!request(json!({ "messages": secret })).unwrap_err().to_string().contains("s3cret"));
        assert!(!ChatRequest::parse("{\"messages\": s3cret}").unwrap_err().to_string().contains("s3cret"));
    }
}
