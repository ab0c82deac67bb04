//! Generating: a prompt is read behind a context, then text is generated token by token.

mod answering;
mod generation;
mod machine;
mod options;
mod penalties;
mod sampler;
mod stop;
mod stream;

pub(crate) use answering::Request;
pub use generation::{Finish, Generation};
pub use options::GenerateOptions;
pub use stream::GenerationStream;
