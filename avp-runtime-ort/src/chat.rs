//! Chat templates as Hugging Face writes them: from messages to the text a model was trained on.

use std::path::Path;

use minijinja::{Environment, ErrorKind, Value, context, syntax::SyntaxConfig, value::Serde};
use serde::{Deserialize, Serialize};

use crate::{
    ModelError, RunError,
    folder::{read_json, read_text},
};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or what else the model's template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message from `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// What a model is asked to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Rendered by the model's chat template, which then opens the assistant's turn.
    Chat(Vec<Message>),
    /// Tokenized as it stands.
    Raw(String),
}

impl From<&str> for Prompt {
    /// The text as one user message.
    fn from(text: &str) -> Self {
        Self::Chat(vec![Message::new("user", text)])
    }
}

impl From<String> for Prompt {
    /// The text as one user message.
    fn from(text: String) -> Self {
        Self::Chat(vec![Message::new("user", text)])
    }
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Self::Chat(messages)
    }
}

/// A model's chat template, compiled.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: SpecialTokens,
}

/// The tokens a template may write by name.
#[derive(Debug, Clone, Default, Deserialize)]
struct SpecialTokens {
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    pad_token: Option<TokenText>,
    unk_token: Option<TokenText>,
}

/// Exporters write a special token as its text or as an object that holds it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Object { content: String },
}

#[derive(Deserialize)]
struct TokenizerConfig {
    #[serde(flatten)]
    special_tokens: SpecialTokens,
    #[serde(default)]
    chat_template: Option<TemplateField>,
}

/// One template, or several by name of which `default` is for plain chat.
#[derive(Deserialize)]
#[serde(untagged)]
enum TemplateField {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

const TEMPLATE: &str = "chat_template";

impl ChatTemplate {
    /// Loads `chat_template.jinja`, else the template inside `tokenizer_config.json`; `None` when the model has none.
    ///
    /// # Errors
    /// When a file cannot be read, or the template does not parse, with its line.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>, ModelError> {
        let config: TokenizerConfig = match read_json(&folder.join("tokenizer_config.json")) {
            Err(ModelError::MissingFile { .. }) => {
                TokenizerConfig { special_tokens: SpecialTokens::default(), chat_template: None }
            }
            other => other?,
        };
        let source = match read_text(&folder.join("chat_template.jinja")) {
            Err(ModelError::MissingFile { .. }) => config.chat_template.and_then(TemplateField::into_default),
            other => Some(other?),
        };
        source.map(|source| Self::compile(source, config.special_tokens)).transpose()
    }

    fn compile(source: String, special_tokens: SpecialTokens) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        // What Transformers sets on its own Jinja environment.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| template_error(&error))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(TEMPLATE, source).map_err(|error| template_error(&error))?;
        Ok(Self { environment, special_tokens })
    }

    /// Renders `messages` and opens the assistant's turn.
    ///
    /// # Errors
    /// When the template refuses the messages, with its own words and line.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, RunError> {
        let text = |token: &Option<TokenText>| token.as_ref().map_or("", TokenText::as_str).to_owned();
        let variables = context! {
            messages => Serde(messages),
            add_generation_prompt => true,
            bos_token => text(&self.special_tokens.bos_token),
            eos_token => text(&self.special_tokens.eos_token),
            pad_token => text(&self.special_tokens.pad_token),
            unk_token => text(&self.special_tokens.unk_token),
        };
        self.environment.get_template(TEMPLATE).and_then(|template| template.render(variables)).map_err(
            |error| {
                let (line, message) = line_and_message(&error);
                RunError::Template { line, message }
            },
        )
    }
}

impl TokenText {
    fn as_str(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Object { content: text } => text,
        }
    }
}

impl TemplateField {
    fn into_default(self) -> Option<String> {
        match self {
            Self::One(template) => Some(template),
            Self::Named(templates) => {
                templates.into_iter().find(|named| named.name == "default").map(|named| named.template)
            }
        }
    }
}

/// The peer's own form for models without a chat template, so that both sides of a hand-over read the same tokens.
pub(crate) fn render_plain(messages: &[Message]) -> String {
    let mut text = String::new();
    for Message { role, content } in messages {
        text += &format!("<|{role}|>\n{content}\n</|{role}|>\n");
    }
    text + "<|assistant|>"
}

fn template_error(error: &minijinja::Error) -> ModelError {
    let (line, message) = line_and_message(error);
    ModelError::Template { line, message }
}

fn line_and_message(error: &minijinja::Error) -> (Option<usize>, String) {
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    (error.line(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> Result<ChatTemplate, ModelError> {
        let tokens = SpecialTokens {
            eos_token: Some(TokenText::Object { content: "</s>".into() }),
            ..SpecialTokens::default()
        };
        ChatTemplate::compile(source.to_owned(), tokens)
    }

    #[test]
    fn blocks_are_trimmed_and_python_methods_work_as_in_transformers() {
        let template = template(
            "{% for m in messages %}\n    {% if m.content.startswith('H') %}\n{{ m.role }}: {{ m['content'].strip() }}{{ eos_token }}\n    {% endif %}\n{% endfor %}",
        )
        .unwrap();
        let rendered = template.render(&[Message::new("user", "Hi "), Message::new("user", "no")]).unwrap();
        assert_eq!(rendered, "user: Hi</s>\n");
    }

    #[test]
    fn a_template_that_refuses_speaks_in_its_own_words() {
        let template =
            template("{% if true %}\n{{ raise_exception('roles must alternate') }}{% endif %}").unwrap();
        match template.render(&[]) {
            Err(RunError::Template { line, message }) => {
                assert_eq!((line, message.as_str()), (Some(2), "roles must alternate"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_template_that_does_not_parse_names_its_line() {
        let refused = template("fine\n{% for %}").err();
        assert!(matches!(refused, Some(ModelError::Template { line: Some(2), .. })), "{refused:?}");
    }

    #[test]
    fn named_templates_fall_to_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            r#"{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}"#;
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        let template = ChatTemplate::load(folder.path()).unwrap().unwrap();
        assert_eq!(template.render(&[]).unwrap(), "d");
    }
}
