//! The interface to language models.

use std::{fmt, format, string::String, string::ToString};

use serde::Deserialize;

use super::{Instruction, Loss};
use crate::{FieldName, Schema, Version};

/// A language model: a service, or a model in this process.
pub trait Model {
    /// Completes a prompt.
    ///
    /// # Errors
    /// If there is no completion.
    fn complete(&self, prompt: &Prompt) -> Result<Completion, ModelError>;
}

/// The prompt of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The system message.
    pub system: String,
    /// The user message.
    pub user: String,
    /// The maximum number of tokens in the answer.
    pub max_tokens: u32,
}

/// The completion of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// Tokens of the prompt, as the model counts them; 0 if unknown.
    pub tokens_in: u64,
    /// Tokens of the completion, as the model counts them; 0 if unknown.
    pub tokens_out: u64,
}

/// A model that gave no completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelError {
    /// The environment variable with the API key is not set, or empty.
    MissingKey {
        /// The variable.
        variable: &'static str,
    },
    /// The service answered with an error status.
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The service did not answer in time.
    Timeout,
    /// The connection to the service failed.
    Connection,
    /// The response does not have the form of the service's API.
    Answer {
        /// The part that is missing or malformed.
        part: &'static str,
    },
    /// A model in this process failed.
    Failed,
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelError::MissingKey { variable } => {
                write!(f, "no API key: set the environment variable {variable}")
            }
            ModelError::Status { status } => {
                write!(f, "the service answered with HTTP status {status}")
            }
            ModelError::Timeout => f.write_str("the service did not answer in time"),
            ModelError::Connection => f.write_str("the connection to the service failed"),
            ModelError::Answer { part } => write!(f, "the service's response has no valid `{part}`"),
            ModelError::Failed => f.write_str("the model failed"),
        }
    }
}

impl std::error::Error for ModelError {}

/// The JSON object in a model's answer.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) packet: String,
    #[serde(default)]
    pub(super) compression_loss: Loss,
    #[serde(default)]
    pub(super) loss_note: Option<String>,
}

impl Answer {
    /// Reads the JSON object in the text; text around it is ignored.
    pub(super) fn read(text: &str) -> Option<Self> {
        let start = text.find('{')?;
        let end = text.rfind('}')?;
        serde_json::from_str(text.get(start..=end)?).ok()
    }
}

/// The maximum number of tokens of a packet with its JSON: several times that of a long packet.
const MAX_TOKENS: u32 = 1024;

/// The prompt for an instruction; `complaint` is the error of the model's last answer.
pub(super) fn prompt(
    instruction: &Instruction<'_>,
    version: Version,
    schema: Schema<'_>,
    complaint: Option<&str>,
) -> Prompt {
    let list = |words: &mut dyn Iterator<Item = &str>| words.collect::<std::vec::Vec<_>>().join(" ");
    let fields = FieldName::ALL.iter().filter(|name| !matches!(name, FieldName::Encoding));
    let fields: String = fields.map(|name| format!("  {}: {}\n", name.key(), name.about())).collect();
    let system = format!(
        "You translate an agent's instruction into one AACP packet.\n\
         A packet is TASK|DOM|return:AGENT|p:PRIORITY|aacp:{version}|key:value|key:value and so on, on one line.\n\
         TASK is one of: {}\n\
         DOM is one of: {}\n\
         Keys:\n{fields}{}\
         Values are short, without spaces where possible, and never hold the character |. Items of a list are divided by commas.\n\
         Say only what the instruction says. Leave a field out rather than guess it. Write every number and date that the \
         instruction has.\n\
         Answer with one JSON object and nothing else: {{\"packet\": the packet, \"compression_loss\": \"none\", \"minor\", \
         \"partial\" or \"significant\", \"loss_note\": what the packet leaves out, or null}}.",
        list(&mut schema.all_tasks()),
        list(&mut schema.all_domains()),
        schema.fields.iter().map(|key| format!("  {key}\n")).collect::<String>(),
    );
    let mut user = format!("Domain: {}\nReturn agent: {}\n", instruction.domain, instruction.return_agent);
    if let Some(priority) = instruction.priority {
        user += &format!("Priority: {priority}\n");
    }
    user += &format!("\nInstruction: {}", instruction.english);
    if let Some(complaint) = complaint {
        user += &format!("\n\nYour last answer was refused: {complaint}");
    }
    Prompt { system: system.to_string(), user, max_tokens: MAX_TOKENS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_in_its_wrapping() {
        let answer = Answer::read(
            "Here it is:\n```json\n{\"packet\": \"A|B|c\", \"compression_loss\": \"minor\"}\n```",
        )
        .unwrap();
        assert_eq!(
            (answer.packet.as_str(), answer.compression_loss, answer.loss_note),
            ("A|B|c", Loss::Minor, None)
        );
        for text in ["", "}{", "no", "{\"packet\": 3}", "{"] {
            assert!(Answer::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_prompt_knows_the_users_schema() {
        let instruction = Instruction::new("Audit shard 7", "OPS", "A");
        let schema = Schema { tasks: &["AUDIT"], domains: &["OPS"], fields: &["shard"] };
        let prompt = prompt(&instruction, Version::V1_1, schema, Some("too long"));
        for part in ["SYNC AUDIT\n", "SALES OPS\n", "  shard\n", "aacp:1.1|", "  ltv: "] {
            assert!(prompt.system.contains(part), "{part}");
        }
        assert!(
            prompt.user.ends_with("Instruction: Audit shard 7\n\nYour last answer was refused: too long")
        );
    }
}
