//! What a model is asked to read.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{ChatTemplate, Message};
use crate::RunError;

/// What a model is asked to read.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Rendered by the model's chat template.
    Chat(Chat),
    /// Tokenized as it stands.
    Raw(String),
}

/// A conversation, and what a chat template may be told beside it: the arguments of Transformers' `apply_chat_template`.
///
/// ```
/// # use avp_runtime_ort::{Chat, Message};
/// let tool = serde_json::json!({"type": "function", "function": {"name": "now", "parameters": {}}});
/// let chat = Chat { tools: vec![tool], ..Chat::from(vec![Message::new("user", "What time is it?")]) };
/// assert!(chat.add_generation_prompt);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// The messages.
    pub messages: Vec<Message>,
    /// Functions that the model may call, as JSON schemas; templates that do not know tools leave them out.
    pub tools: Vec<Value>,
    /// Texts to answer from, each with a `title` and a `text`, for templates that know them.
    pub documents: Vec<Value>,
    /// Which of several templates; `None` takes `tool_use` where there are tools and such a template, else `default`.
    pub template: Option<String>,
    /// Whether the template opens the assistant's turn, so that the model answers; true unless said otherwise.
    pub add_generation_prompt: bool,
    /// What else the template looks at, such as `enable_thinking`.
    pub variables: Map<String, Value>,
}

impl Prompt {
    /// The text that is tokenized.
    pub(crate) fn text(&self, template: Option<&ChatTemplate>) -> Result<Cow<'_, str>, RunError> {
        match (self, template) {
            (Self::Raw(text), _) => Ok(text.into()),
            (Self::Chat(chat), Some(template)) => template.render(chat).map(Cow::Owned),
            (Self::Chat(chat), None) => chat.plain().map(Cow::Owned),
        }
    }
}

impl Chat {
    /// The peer's own form for models without a chat template, so that both sides of a hand-over read the same tokens.
    fn plain(&self) -> Result<String, RunError> {
        if !self.tools.is_empty() || !self.documents.is_empty() || self.template.is_some() {
            let message = "the model has none to tell it of tools or documents".to_owned();
            return Err(RunError::Template { line: None, message });
        }
        let mut text = String::new();
        for message in &self.messages {
            let role = &message.role;
            text += &format!("<|{role}|>\n{}\n</|{role}|>\n", message.text());
        }
        if self.add_generation_prompt {
            text += "<|assistant|>";
        }
        Ok(text)
    }
}

impl From<Vec<Message>> for Chat {
    fn from(messages: Vec<Message>) -> Self {
        Self {
            messages,
            tools: Vec::new(),
            documents: Vec::new(),
            template: None,
            add_generation_prompt: true,
            variables: Map::new(),
        }
    }
}

impl From<Chat> for Prompt {
    fn from(chat: Chat) -> Self {
        Self::Chat(chat)
    }
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Self::Chat(messages.into())
    }
}

impl From<&str> for Prompt {
    /// The text as one user message.
    fn from(text: &str) -> Self {
        vec![Message::new("user", text)].into()
    }
}

impl From<String> for Prompt {
    /// The text as one user message.
    fn from(text: String) -> Self {
        vec![Message::new("user", text)].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_template_messages_are_rendered_as_the_peer_does() {
        let prompt = Prompt::from("Hi");
        assert_eq!(prompt.text(None).unwrap(), "<|user|>\nHi\n</|user|>\n<|assistant|>");
    }

    #[test]
    fn without_a_template_tools_are_refused_not_dropped() {
        let chat = Chat { tools: vec![Value::Null], ..Chat::from(Vec::new()) };
        assert!(matches!(Prompt::from(chat).text(None), Err(RunError::Template { .. })));
    }
}
