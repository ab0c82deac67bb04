//! What a model is asked to read: messages, rendered by its chat template as Transformers renders them, or plain text.

mod budget;
mod held;
mod message;
mod operands;
mod prompt;
mod python;
mod rewrite;
mod stack;
mod tags;
mod template;

pub use message::{Content, Message};
pub use prompt::{Chat, Prompt};
pub(crate) use template::ChatTemplate;
