//! The prompt as options on the command line: a text, or a conversation with the inputs of a chat template.

use anyhow::{Context as _, Result, ensure};
use avp_runtime_ort::{Chat, Message, Prompt};
use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::output::Input;

/// The prompt of `avp think` and `avp generate`.
#[derive(Args)]
pub(crate) struct PromptArgs {
    /// Text of a user message, rendered with the chat template of the model
    #[arg(long, value_name = "TEXT", required_unless_present = "messages")]
    prompt: Option<String>,
    /// Conversation: a JSON array of messages with `role` and `content`, `tool_calls` and so on; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    messages: Option<Input>,
    /// System message before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "messages")]
    system: Option<String>,
    /// Functions that the model can call: a JSON array of schemas, for templates that support tools
    #[arg(long, value_name = "FILE")]
    tools: Option<Input>,
    /// Texts to answer from: a JSON array of objects with `title` and `text`, for templates that support documents
    #[arg(long, value_name = "FILE")]
    documents: Option<Input>,
    /// Name of the chat template [default: `tool_use` if there are tools and such a template, else `default`]
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Variable of the chat template, such as `enable_thinking=false`; a value that is not JSON is a string
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, Value)>,
    /// Continue between two turns of the context, which `think --closed` wrote: the template's beginning is not repeated
    #[arg(long, requires = "context", conflicts_with_all = ["system", "tools", "documents"])]
    continues: bool,
    /// Read the prompt unchanged, without a chat template
    #[arg(long, requires = "prompt", conflicts_with_all = ["system", "tools", "documents", "template", "variables", "continues"])]
    raw: bool,
}

impl PromptArgs {
    /// The prompt, with its files read.
    ///
    /// # Errors
    /// When a file cannot be read or is malformed, with its name, line and column; or when standard input is named twice,
    /// `context` included.
    pub(crate) fn read(&self, context: Option<&Input>) -> Result<Prompt> {
        let inputs = [self.messages.as_ref(), self.tools.as_ref(), self.documents.as_ref(), context];
        let from_stdin = inputs.into_iter().flatten().filter(|input| **input == Input::Stdin).count();
        ensure!(from_stdin <= 1, "standard input can be read only once; name files for the other inputs");
        let text = self.prompt.clone().unwrap_or_default();
        if self.raw {
            return Ok(Prompt::Raw(text));
        }
        let messages = match &self.messages {
            Some(file) => json(file, "an array of messages, each with a role")?,
            None => {
                let system = self.system.iter().map(|text| Message::new("system", text.as_str()));
                system.chain([Message::new("user", text)]).collect::<Vec<_>>()
            }
        };
        ensure!(!messages.is_empty(), "no messages to read");
        let array = |file: &Option<Input>, what: &str| -> Result<Vec<Value>> {
            file.as_ref().map_or_else(|| Ok(Vec::new()), |file| json(file, what))
        };
        Ok(Prompt::Chat(Chat {
            tools: array(&self.tools, "an array of tools")?,
            documents: array(&self.documents, "an array of documents")?,
            template: self.template.clone(),
            variables: self.variables.iter().cloned().collect(),
            continues: self.continues,
            ..Chat::from(messages)
        }))
    }
}

fn json<T: DeserializeOwned>(file: &Input, expected: &str) -> Result<T> {
    serde_json::from_slice(&file.read()?).with_context(|| format!("{file}: expected {expected}"))
}

fn variable(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_json_or_else_text() {
        assert_eq!(variable("a=false"), Ok(("a".into(), Value::Bool(false))));
        assert_eq!(variable("day=3 May=x"), Ok(("day".into(), "3 May=x".into())));
        assert!(variable("a").is_err());
    }
}
