//! Responses: completions, whole or in chunks, and contexts.

use std::time::{SystemTime, UNIX_EPOCH};

use avp_runtime_ort::{Finish, Generation, Thought};
use serde_json::{Value, json};

/// The fields common to all parts of one completion.
pub(super) struct Completion {
    id: String,
    created: u64,
    model: String,
}

impl Completion {
    pub(super) fn new(model: &str) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { id: format!("chatcmpl-{:032x}", rand::random::<u128>()), created, model: model.to_owned() }
    }

    /// A whole completion.
    pub(super) fn whole(&self, generation: &Generation) -> Value {
        self.message(&generation.text, finish_reason(generation.finish), usage(generation))
    }

    /// The response to `avp_think`: the context is stored as `context_id`.
    pub(super) fn thought(&self, thought: &Thought, context_id: &str, ttl: u64) -> Value {
        let prompt = thought.context_tokens + thought.prompt_tokens - thought.reused_tokens;
        let usage = json!({
            "prompt_tokens": prompt,
            "completion_tokens": thought.num_steps,
            "total_tokens": prompt + thought.num_steps,
            "prompt_tokens_details": { "cached_tokens": thought.context_tokens },
            "completion_tokens_details": { "reasoning_tokens": thought.num_steps },
        });
        let mut message = self.message("", "stop", usage);
        message["avp_context"] = context_id.into();
        message["avp_expires_in"] = ttl.into();
        message
    }

    /// The first chunk, with the role.
    pub(super) fn opening(&self) -> Value {
        self.chunk(json!({ "role": "assistant", "content": "" }), Value::Null)
    }

    /// A piece of the text.
    pub(super) fn piece(&self, text: &str) -> Value {
        self.chunk(json!({ "content": text }), Value::Null)
    }

    /// The last chunk, with the finish reason.
    pub(super) fn ending(&self, generation: &Generation) -> Value {
        self.chunk(json!({}), finish_reason(generation.finish).into())
    }

    /// The chunk with the usage, if requested.
    pub(super) fn usage(&self, generation: &Generation) -> Value {
        let mut chunk = self.part("chat.completion.chunk", json!([]));
        chunk["usage"] = usage(generation);
        chunk
    }

    fn message(&self, content: &str, finish_reason: &str, usage: Value) -> Value {
        let choice = json!({
            "index": 0,
            "message": { "role": "assistant", "content": content },
            "logprobs": null,
            "finish_reason": finish_reason,
        });
        let mut message = self.part("chat.completion", json!([choice]));
        message["usage"] = usage;
        message
    }

    fn chunk(&self, delta: Value, finish_reason: Value) -> Value {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason });
        self.part("chat.completion.chunk", json!([choice]))
    }

    fn part(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

/// The usage of an answer. The tokens of a context count as prompt tokens and as cached tokens.
fn usage(generation: &Generation) -> Value {
    let Generation { prompt_tokens, reused_tokens, context_tokens, .. } = *generation;
    let prompt = context_tokens + prompt_tokens - reused_tokens;
    let completion = generation.tokens.len();
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": context_tokens },
    })
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::MaxTokens | Finish::Window => "length",
        _ => "stop",
    }
}
