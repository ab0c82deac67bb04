//! Prompts.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{ChatTemplate, Message};
use crate::RunError;

/// The input of a call.
///
/// ```
/// use avp_runtime_ort::{Message, Prompt};
///
/// let prompt = Prompt::from("Hi");
/// assert_eq!(prompt, Prompt::from(vec![Message::new("user", "Hi")]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Messages, rendered by the model's chat template.
    Chat(Chat),
    /// Text, tokenized without a template.
    Raw(String),
    /// Vectors in the space of the model's input embeddings, `[length, hidden_dim]`, read in place of tokens: another model's
    /// state, once it is projected there.
    Vectors(Vec<f32>),
}

/// A conversation and the other arguments of Transformers' `apply_chat_template`.
///
/// ```
/// use avp_runtime_ort::{Chat, Message};
///
/// let tool = serde_json::json!({"type": "function", "function": {"name": "now", "parameters": {}}});
/// let chat = Chat { tools: vec![tool], ..Chat::from(vec![Message::new("user", "What time is it?")]) };
/// assert!(chat.add_generation_prompt);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// The messages.
    pub messages: Vec<Message>,
    /// Functions that the model may call, as JSON schemas; templates without tool support ignore them.
    pub tools: Vec<Value>,
    /// Texts to answer from, each with a `title` and a `text`; templates without support for them ignore them.
    pub documents: Vec<Value>,
    /// The name of the template, where the model has several; `None` takes `tool_use` where there are tools and such a template, else `default`.
    pub template: Option<String>,
    /// Whether the template opens the assistant's turn, so that the model answers; true by default.
    pub add_generation_prompt: bool,
    /// Further variables of the template, such as `enable_thinking`.
    pub variables: Map<String, Value>,
}

impl Prompt {
    /// The text to tokenize.
    ///
    /// # Errors
    /// When the template refuses the messages, or the prompt is vectors.
    pub(crate) fn text(&self, template: Option<&ChatTemplate>) -> Result<Cow<'_, str>, RunError> {
        match (self, template) {
            (Self::Raw(text), _) => Ok(text.into()),
            (Self::Vectors(_), _) => Err(RunError::NotText),
            (Self::Chat(chat), Some(template)) => template.render(chat).map(Cow::Owned),
            (Self::Chat(chat), None) => chat.plain().map(Cow::Owned),
        }
    }
}

impl Chat {
    /// The peer's own form for models without a chat template, so that both sides of a hand-over read the same tokens.
    fn plain(&self) -> Result<String, RunError> {
        if !self.tools.is_empty() || !self.documents.is_empty() || self.template.is_some() {
            let message =
                "the model has no chat template, so it takes no tools, documents or template name".to_owned();
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

    #[test]
    fn vectors_have_no_text() {
        assert_eq!(Prompt::Vectors(vec![1.0]).text(None), Err(RunError::NotText));
    }
}
