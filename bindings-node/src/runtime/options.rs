//! Options as JSON. An absent option has the runtime's default, an unknown one is an error.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use avp_core::{Compression, Dialect};
use avp_runtime_ort::{
    Chat, Device, FrameOptions, FrameReadOptions, GenerateOptions, LoadOptions, Message, Model, Prompt,
    RunError, StepForm, Steps, ThinkOptions,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

use super::fault::argument_failure;
use crate::failure::Failure;

/// Where the ONNX Runtime library may be.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Library {
    pub(super) library: Option<PathBuf>,
    pub(super) packaged: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Load {
    threads: Option<usize>,
    dtype: Option<String>,
    spinning: Option<bool>,
    queue: Option<usize>,
    in_flight: Option<usize>,
}

impl TryFrom<Load> for LoadOptions {
    type Error = Failure;

    fn try_from(given: Load) -> Result<Self, Failure> {
        let default = Self::default();
        let dtype = given.dtype.map(|name| name.parse()).transpose();
        Ok(Self {
            threads: given.threads.unwrap_or(default.threads),
            dtype: dtype.map_err(|error| argument_failure(format_args!("options.dtype: {error}")))?,
            device: Device::Cpu,
            spinning: given.spinning.unwrap_or(default.spinning),
            queue: given.queue.unwrap_or(default.queue),
            in_flight: given.in_flight.unwrap_or(default.in_flight),
            profile: default.profile,
        })
    }
}

/// A prompt: raw text, text as one user message, or a conversation.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Ask {
    raw: Option<String>,
    text: Option<String>,
    messages: Vec<Message>,
    tools: Vec<Value>,
    documents: Vec<Value>,
    template: Option<String>,
    add_generation_prompt: Option<bool>,
    continues: bool,
    special_tokens_as_text: bool,
    variables: Map<String, Value>,
}

impl From<Ask> for Prompt {
    fn from(given: Ask) -> Self {
        match (given.raw, given.text) {
            (Some(text), _) => Self::Raw(text),
            (_, Some(text)) => text.into(),
            _ => Self::Chat(Chat {
                messages: given.messages,
                tools: given.tools,
                documents: given.documents,
                template: given.template,
                add_generation_prompt: given.add_generation_prompt.unwrap_or(true),
                continues: given.continues,
                special_tokens_as_text: given.special_tokens_as_text,
                variables: given.variables,
            }),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Think {
    steps: Steps,
    form: Option<StepForm>,
    #[serde(deserialize_with = "millis")]
    timeout: Option<Duration>,
    diagnostics: bool,
    reuse_prefix: bool,
}

impl Think {
    /// The options on `model`, whose calibration may choose the steps.
    pub(super) fn on(self, model: &Model) -> Result<ThinkOptions, RunError> {
        Ok(ThinkOptions {
            timeout: self.timeout,
            diagnostics: self.diagnostics,
            reuse_prefix: self.reuse_prefix,
            ..self.steps.options(model, self.form)?
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Generate {
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    /// JSON has no infinities: `null` stands for the negative one.
    logit_bias: Vec<(u32, Option<f32>)>,
    stop: Vec<String>,
    stop_tokens: Vec<u32>,
    ignore_end_of_turn: bool,
    seed: Option<u64>,
    #[serde(deserialize_with = "millis")]
    timeout: Option<Duration>,
    reuse_prefix: bool,
}

impl From<Generate> for GenerateOptions {
    fn from(given: Generate) -> Self {
        let default = Self::default();
        let bias = |(id, bias): (u32, Option<f32>)| (id, bias.unwrap_or(f32::NEG_INFINITY));
        Self {
            max_tokens: given.max_tokens.unwrap_or(default.max_tokens),
            temperature: given.temperature.unwrap_or(default.temperature),
            top_k: given.top_k.unwrap_or(default.top_k),
            top_p: given.top_p.unwrap_or(default.top_p),
            min_p: given.min_p.unwrap_or(default.min_p),
            repetition_penalty: given.repetition_penalty.unwrap_or(default.repetition_penalty),
            frequency_penalty: given.frequency_penalty.unwrap_or(default.frequency_penalty),
            presence_penalty: given.presence_penalty.unwrap_or(default.presence_penalty),
            logit_bias: given.logit_bias.into_iter().map(bias).collect::<BTreeMap<_, _>>(),
            stop: given.stop,
            stop_tokens: given.stop_tokens,
            ignore_end_of_turn: given.ignore_end_of_turn,
            seed: given.seed.unwrap_or(default.seed),
            timeout: given.timeout,
            reuse_prefix: given.reuse_prefix,
            ..default
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WriteFrame {
    session_id: String,
    source_agent_id: String,
    target_agent_id: String,
    model_hash: Option<String>,
    dialect: Option<Dialect>,
    alignment: Option<usize>,
    compress: bool,
    checksum: Option<bool>,
    fingerprint: bool,
    token_ids: bool,
}

impl From<WriteFrame> for FrameOptions {
    fn from(given: WriteFrame) -> Self {
        let default = Self::default();
        Self {
            session_id: given.session_id,
            source_agent_id: given.source_agent_id,
            target_agent_id: given.target_agent_id,
            model_hash: given.model_hash,
            dialect: given.dialect.unwrap_or(default.dialect),
            alignment: given.alignment.unwrap_or(default.alignment),
            compression: if given.compress { Compression::Fast } else { Compression::None },
            checksum: given.checksum,
            fingerprint: given.fingerprint,
            token_ids: given.token_ids,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReadFrame {
    verify: Option<bool>,
    scan: bool,
    limit: Option<usize>,
}

impl From<ReadFrame> for FrameReadOptions {
    fn from(given: ReadFrame) -> Self {
        let default = Self::default();
        Self {
            verify_checksum: given.verify.unwrap_or(default.verify_checksum),
            scan: given.scan,
            payload_limit: given.limit.unwrap_or(default.payload_limit),
        }
    }
}

/// Reads a time in milliseconds. A time that overflows `Duration` is the longest one.
fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let millis = f64::deserialize(deserializer)?;
    if millis < 0.0 {
        return Err(D::Error::custom(format_args!("expected 0 or more milliseconds, got {millis}")));
    }
    Ok(Some(Duration::try_from_secs_f64(millis / 1000.0).unwrap_or(Duration::MAX)))
}
