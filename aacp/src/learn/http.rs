//! Models behind HTTP: Anthropic's messages and OpenAI's chat completions.
//!
//! API keys are read from the environment only. Available with the feature `http`.

use std::{
    fmt, format,
    string::{String, ToString},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use ureq::{Agent, http::Response};

use super::{Completion, Model, ModelError, Prompt};

/// Maximum size of a response in bytes: a rules file of about 100,000 rules.
const MAX_ANSWER: u64 = 64 << 20;

/// Timeout and retries of requests.
///
/// A request is retried after status 408, 409, 429 or 500 and above, a timeout, or a failed connection. The delay doubles
/// with each try; a `Retry-After` in seconds takes its place, up to the longest delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Timeout of one try, from connecting to the last byte.
    pub timeout: Duration,
    /// Maximum number of tries; at least one is made.
    pub tries: u32,
    /// Delay before the second try.
    pub first_wait: Duration,
    /// Longest delay.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    /// Four tries of one minute each, with delays from half a second to 30 seconds.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            tries: 4,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
        }
    }
}

/// A model behind Anthropic's messages API.
///
/// ```no_run
/// use aacp::learn::{Encoder, http::Anthropic};
/// let model = Anthropic::from_env("claude-sonnet-4-5")?;
/// let encoder = Encoder::new().model(model);
/// # Ok::<(), aacp::learn::ModelError>(())
/// ```
pub struct Anthropic {
    service: Service,
}

impl Anthropic {
    /// The environment variable with the API key.
    pub const VARIABLE: &'static str = "ANTHROPIC_API_KEY";

    /// A model of Anthropic, with the API key from [`Anthropic::VARIABLE`].
    ///
    /// # Errors
    /// [`ModelError::MissingKey`].
    pub fn from_env(model: impl Into<String>) -> Result<Self, ModelError> {
        Self::from_variable(Self::VARIABLE, "https://api.anthropic.com", model)
    }

    /// A model of another service: the API key from `variable`, and the URL before `/v1/messages`.
    ///
    /// # Errors
    /// [`ModelError::MissingKey`].
    pub fn from_variable(
        variable: &'static str,
        base_url: &str,
        model: impl Into<String>,
    ) -> Result<Self, ModelError> {
        let key = Some(key_from(variable)?);
        Ok(Self { service: Service::new(base_url, "/v1/messages", key, model.into()) })
    }

    /// Sets timeout and retries.
    pub fn retry(self, retry: RetryPolicy) -> Self {
        Self { service: self.service.retry(retry) }
    }
}

impl Model for Anthropic {
    fn complete(&self, prompt: &Prompt) -> Result<Completion, ModelError> {
        let body = json!({
            "model": self.service.model,
            "max_tokens": prompt.max_tokens,
            "system": prompt.system,
            "messages": [{"role": "user", "content": prompt.user}],
        });
        let key = self.service.key.as_deref().unwrap_or_default();
        let answer = self.service.post(&[("x-api-key", key), ("anthropic-version", "2023-06-01")], &body)?;
        let blocks = answer["content"].as_array().ok_or(ModelError::Answer { part: "content" })?;
        let text: String = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
        if text.is_empty() {
            return Err(ModelError::Answer { part: "content" });
        }
        let tokens = |key: &str| answer["usage"][key].as_u64().unwrap_or(0);
        Ok(Completion { text, tokens_in: tokens("input_tokens"), tokens_out: tokens("output_tokens") })
    }
}

/// A model behind OpenAI's chat completions API, at OpenAI or any compatible server.
///
/// ```no_run
/// use aacp::learn::{Encoder, http::OpenAi};
/// let model = OpenAi::without_key("http://localhost:8080/v1", "qwen2.5-0.5b");
/// let encoder = Encoder::new().model(model);
/// ```
pub struct OpenAi {
    service: Service,
    /// The field that limits the length of the answer.
    limit_field: &'static str,
}

impl OpenAi {
    /// The environment variable with the API key.
    pub const VARIABLE: &'static str = "OPENAI_API_KEY";

    /// A model of OpenAI, with the API key from [`OpenAi::VARIABLE`].
    ///
    /// # Errors
    /// [`ModelError::MissingKey`].
    pub fn from_env(model: impl Into<String>) -> Result<Self, ModelError> {
        let model = Self::from_variable(Self::VARIABLE, "https://api.openai.com/v1", model)?;
        // OpenAI's newer models reject `max_tokens`; most other servers support nothing else.
        Ok(Self { limit_field: "max_completion_tokens", ..model })
    }

    /// A model of another service: the API key from `variable`, and the URL before `/chat/completions`.
    ///
    /// # Errors
    /// [`ModelError::MissingKey`].
    pub fn from_variable(
        variable: &'static str,
        base_url: &str,
        model: impl Into<String>,
    ) -> Result<Self, ModelError> {
        Ok(Self::new(base_url, Some(key_from(variable)?), model.into()))
    }

    /// A model of a service without an API key, such as one on this machine.
    pub fn without_key(base_url: &str, model: impl Into<String>) -> Self {
        Self::new(base_url, None, model.into())
    }

    /// Sets timeout and retries.
    pub fn retry(self, retry: RetryPolicy) -> Self {
        Self { service: self.service.retry(retry), ..self }
    }

    fn new(base_url: &str, key: Option<String>, model: String) -> Self {
        Self { service: Service::new(base_url, "/chat/completions", key, model), limit_field: "max_tokens" }
    }
}

impl Model for OpenAi {
    fn complete(&self, prompt: &Prompt) -> Result<Completion, ModelError> {
        let mut body = json!({
            "model": self.service.model,
            "messages": [
                {"role": "system", "content": prompt.system},
                {"role": "user", "content": prompt.user},
            ],
        });
        body[self.limit_field] = prompt.max_tokens.into();
        let bearer = self.service.key.as_deref().map(|key| format!("Bearer {key}"));
        let headers = bearer.as_deref().map(|bearer| ("authorization", bearer));
        let answer = self.service.post(headers.as_slice(), &body)?;
        let text = answer["choices"][0]["message"]["content"].as_str().filter(|text| !text.is_empty());
        let text = text.ok_or(ModelError::Answer { part: "choices" })?.to_string();
        let tokens = |key: &str| answer["usage"][key].as_u64().unwrap_or(0);
        Ok(Completion { text, tokens_in: tokens("prompt_tokens"), tokens_out: tokens("completion_tokens") })
    }
}

/// Fetches text from a URL.
pub(super) fn get(url: &str) -> Result<String, ModelError> {
    let retry = RetryPolicy::default();
    // This request has no API key, so redirects are followed.
    let agent = agent(retry, 5);
    with_retries(retry, || {
        let mut response = agent.get(url).call()?;
        response.body_mut().with_config().limit(MAX_ANSWER).read_to_string()
    })
}

/// A URL with an API key and a model.
struct Service {
    agent: Agent,
    url: String,
    key: Option<String>,
    model: String,
    retry: RetryPolicy,
}

impl Service {
    fn new(base_url: &str, path: &str, key: Option<String>, model: String) -> Self {
        let retry = RetryPolicy::default();
        let url = format!("{}{path}", base_url.trim_end_matches('/'));
        Self { agent: agent(retry, 0), url, key, model, retry }
    }

    fn retry(self, retry: RetryPolicy) -> Self {
        Self { agent: agent(retry, 0), retry, ..self }
    }

    fn post(&self, headers: &[(&str, &str)], body: &Value) -> Result<Value, ModelError> {
        let body = body.to_string();
        let answer = with_retries(self.retry, || {
            let mut request = self.agent.post(&self.url).header("content-type", "application/json");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let mut response = request.send(&body)?;
            response.body_mut().with_config().limit(MAX_ANSWER).read_to_string()
        })?;
        serde_json::from_str(&answer).map_err(|_| ModelError::Answer { part: "JSON" })
    }
}

impl fmt::Debug for Anthropic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)
    }
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)
    }
}

impl fmt::Debug for Service {
    /// Omits the API key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("url", &self.url).field("model", &self.model).finish_non_exhaustive()
    }
}

fn key_from(variable: &'static str) -> Result<String, ModelError> {
    std::env::var(variable).ok().filter(|key| !key.is_empty()).ok_or(ModelError::MissingKey { variable })
}

/// A client with this timeout and this number of redirects: none for requests with an API key.
fn agent(retry: RetryPolicy, redirects: u32) -> Agent {
    Agent::config_builder()
        .timeout_global(Some(retry.timeout))
        .max_redirects(redirects)
        .max_redirects_will_error(true)
        .http_status_as_error(true)
        .middleware(keep_retry_after)
        .build()
        .into()
}

/// Sends a request until it succeeds, fails permanently, or no try is left.
fn with_retries<T>(
    retry: RetryPolicy,
    mut request: impl FnMut() -> Result<T, ureq::Error>,
) -> Result<T, ModelError> {
    let mut wait = retry.first_wait;
    let mut tries_left = retry.tries.max(1);
    loop {
        RETRY_AFTER.set(None);
        let error = match request() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        tries_left -= 1;
        if tries_left == 0 || !is_passing(&error) {
            return Err(model_error(&error));
        }
        thread::sleep(RETRY_AFTER.get().unwrap_or(wait).min(retry.longest_wait));
        wait = (wait * 2).min(retry.longest_wait);
    }
}

std::thread_local! {
    /// The `Retry-After` of the last response on this thread; ureq's error for a status has no headers.
    static RETRY_AFTER: core::cell::Cell<Option<Duration>> = const { core::cell::Cell::new(None) };
}

fn keep_retry_after(
    request: ureq::http::Request<ureq::SendBody>,
    next: ureq::middleware::MiddlewareNext,
) -> Result<Response<ureq::Body>, ureq::Error> {
    let response = next.handle(request)?;
    let seconds =
        response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    RETRY_AFTER.set(seconds.map(Duration::from_secs));
    Ok(response)
}

fn is_passing(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::StatusCode(status) => matches!(status, 408 | 409 | 429 | 500..),
        ureq::Error::Timeout(_) | ureq::Error::Io(_) | ureq::Error::ConnectionFailed => true,
        _ => false,
    }
}

fn model_error(error: &ureq::Error) -> ModelError {
    match error {
        ureq::Error::StatusCode(status) => ModelError::Status { status: *status },
        ureq::Error::Timeout(_) => ModelError::Timeout,
        ureq::Error::BodyExceedsLimit(_) => ModelError::Answer { part: "length" },
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => ModelError::Timeout,
        _ => ModelError::Connection,
    }
}
