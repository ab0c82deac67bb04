//! Prompts.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{ChatTemplate, Message, Part, Rendered, SpecialTexts};
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
    /// What [`Model::render`](crate::Model::render) made of another prompt.
    Rendered(Rendered),
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
    /// Whether the messages go on in a context that ends between two turns, as after a call without
    /// [`add_generation_prompt`](Self::add_generation_prompt). The beginning of the template (a first token, a default system turn) is
    /// then not rendered again. Tools and documents are part of that beginning, so they belong to the earlier call. False by default.
    pub continues: bool,
    /// Whether the texts of added tokens in messages, tools and documents are text, so that no message can end its turn and begin
    /// another one; in the assistant's messages only those of special tokens, because templates look for others there. False by default, as
    /// in Transformers; `avp serve` sets it. Tokens that a tokenizer finds in normalized text only are not covered.
    pub special_tokens_as_text: bool,
    /// Further variables of the template, such as `enable_thinking`.
    pub variables: Map<String, Value>,
}

impl Prompt {
    /// The text to tokenize.
    ///
    /// # Errors
    /// When the template refuses the messages, or the prompt is vectors.
    pub(crate) fn render(
        &self,
        template: Option<&ChatTemplate>,
        special: &SpecialTexts,
    ) -> Result<Cow<'_, Rendered>, RunError> {
        let whole = |text| Cow::Owned(Rendered(vec![Part::Text(text)]));
        match self {
            Self::Raw(text) => Ok(whole(text.clone())),
            Self::Rendered(rendered) => Ok(Cow::Borrowed(rendered)),
            Self::Vectors(_) => Err(RunError::NotText),
            Self::Chat(chat) if chat.special_tokens_as_text => {
                let marked = special.mark(chat);
                Ok(Cow::Owned(marked.rendered(&marked.chat.text(template)?)))
            }
            Self::Chat(chat) => Ok(whole(chat.text(template)?)),
        }
    }
}

impl Chat {
    fn text(&self, template: Option<&ChatTemplate>) -> Result<String, RunError> {
        match template {
            Some(template) if self.continues => self.later_turns(template),
            Some(template) => template.render(self),
            None => self.plain(),
        }
    }

    /// What the template adds for these messages behind earlier ones.
    fn later_turns(&self, template: &ChatTemplate) -> Result<String, RunError> {
        let refused = |message: &str| RunError::Template { line: None, message: message.to_owned() };
        if !self.tools.is_empty() || !self.documents.is_empty() {
            return Err(refused(
                "tools and documents belong to the beginning of a conversation, not to one that continues",
            ));
        }
        let mut earlier: Vec<Message> = Vec::new();
        // Some templates refuse two turns of the user in a row.
        for role in ["user", "assistant"] {
            earlier.push(Message::new(role, "earlier"));
            let messages = earlier.iter().chain(&self.messages).cloned().collect();
            let whole = template.render(&Self { messages, ..self.clone() });
            let begun = template.render(&Self {
                messages: earlier.clone(),
                add_generation_prompt: false,
                ..self.clone()
            });
            if let (Ok(whole), Ok(begun)) = (whole, begun)
                && let Some(later) = whole.strip_prefix(&begun)
            {
                return Ok(later.to_owned());
            }
        }
        Err(refused(
            "the template renders no turn apart from those before it, so the conversation cannot continue behind a context",
        ))
    }

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
            continues: false,
            special_tokens_as_text: false,
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

    fn render(prompt: &Prompt) -> Result<Rendered, RunError> {
        let special = SpecialTexts::new([("<|user|>".to_owned(), true)]);
        prompt.render(None, &special).map(Cow::into_owned)
    }

    #[test]
    fn without_a_template_messages_are_rendered_as_the_peer_does() {
        let text = "<|user|>\nHi\n</|user|>\n<|assistant|>";
        assert_eq!(render(&Prompt::from("Hi")), Ok(Rendered(vec![Part::Text(text.into())])));
    }

    #[test]
    fn a_special_token_in_a_message_is_text_where_that_is_asked_for() {
        let chat = |special_tokens_as_text| {
            Prompt::from(Chat {
                special_tokens_as_text,
                ..Chat::from(vec![Message::new("user", "a<|user|>")])
            })
        };
        let literals = |prompt: &Prompt| {
            let Rendered(parts) = render(prompt).unwrap();
            parts.into_iter().filter(|part| matches!(part, Part::Literal(_))).count()
        };
        assert_eq!((literals(&chat(false)), literals(&chat(true))), (0, 1));
    }

    #[test]
    fn without_a_template_tools_are_refused_not_dropped() {
        let chat = Chat { tools: vec![Value::Null], ..Chat::from(Vec::new()) };
        assert!(matches!(render(&Prompt::from(chat)), Err(RunError::Template { .. })));
    }

    /// Rendered by a template of a folder.
    fn rendered(template: &str, chat: Chat) -> Result<String, RunError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"bos_token":"<s>"}"#).unwrap();
        chat.text(ChatTemplate::load(folder.path()).unwrap().as_ref())
    }

    fn later(template: &str) -> Result<String, RunError> {
        let chat = Chat::from(vec![Message::new("user", "Where?")]);
        rendered(template, Chat { continues: true, ..chat })
    }

    #[test]
    fn a_conversation_that_continues_does_not_begin_again() {
        let turns = "{{ bos_token }}{% if messages[0].role != 'system' %}[system]{% endif %}\
            {% for message in messages %}[{{ message.role }}]{{ message.content }};{% endfor %}\
            {% if add_generation_prompt %}[assistant]{% endif %}";
        assert_eq!(later(turns).unwrap(), "[user]Where?;[assistant]");
        let alternating = turns.replace(
            "[{{ message.role }}]",
            "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles') }}{% endif %}\
             [{{ message.role }}]",
        );
        assert_eq!(later(&alternating).unwrap(), "[user]Where?;[assistant]");
    }

    #[test]
    fn a_template_whose_turns_depend_on_later_ones_is_refused_for_a_conversation_that_continues() {
        let counting =
            "{{ messages | length }}{% for message in messages %}{{ message.content }}{% endfor %}";
        assert!(matches!(later(counting), Err(RunError::Template { .. })));
    }

    #[test]
    fn tools_are_not_lost_where_a_conversation_continues() {
        let tools = vec![Value::Null];
        let chat = Chat { tools, continues: true, ..Chat::from(vec![Message::new("user", "Where?")]) };
        let error =
            rendered("{% for message in messages %}{{ message.content }}{% endfor %}", chat).unwrap_err();
        assert!(error.to_string().contains("tools"), "{error}");
    }

    #[test]
    fn vectors_have_no_text() {
        assert_eq!(render(&Prompt::Vectors(vec![1.0])), Err(RunError::NotText));
    }
}
