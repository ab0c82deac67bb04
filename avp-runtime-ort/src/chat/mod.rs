//! Prompts: plain text, or messages rendered by the model's chat template as Transformers renders them.

mod limits;
mod message;
mod prompt;
mod python;
mod special;
mod template;

pub use message::{Content, Message};
pub use prompt::{Chat, Prompt};
pub use special::Rendered;
pub(crate) use special::{Part, SpecialTexts};
pub(crate) use template::ChatTemplate;
