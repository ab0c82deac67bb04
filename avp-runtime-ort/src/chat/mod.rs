//! Prompts: plain text, or messages rendered by the model's chat template as Transformers renders them.

mod limits;
mod message;
mod prompt;
mod python;
mod template;

pub use message::{Content, Message};
pub use prompt::{Chat, Prompt};
pub(crate) use template::ChatTemplate;
