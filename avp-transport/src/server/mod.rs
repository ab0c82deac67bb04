//! The server's side: a [`Service`] that answers requests by a [`Handler`], and [`serve`], which brings it requests.
//!
//! | to | use |
//! |---|---|
//! | keep contexts for whoever fetches them | [`Stock`] |
//! | do something else with frames | a [`Handler`] of your own |
//! | listen, with TLS, until it is time to stop | [`serve`], [`ListenOptions`], [`tls_config`] |
//! | answer behind a server or middleware that is there | [`Service`], a `tower` service |
//! | say how much, from whom, how fast | [`ServerOptions`], [`Limits`], [`Pace`], [`Tokens`] |

mod activity;
mod admission;
mod answer;
mod body;
mod caller;
mod handler;
mod incoming;
mod listen;
mod memory;
mod metrics;
mod options;
mod refusal;
mod service;
mod source;
mod stock;
mod tls;
mod tokens;

pub use answer::Answer;
pub use body::IncomingBody;
pub use handler::{Caller, Handler};
pub use incoming::{BodyError, IncomingFrame};
pub use listen::{ListenOptions, serve};
pub use metrics::Metrics;
pub use options::{Limits, ServerOptions};
pub use refusal::Refusal;
pub use service::Service;
pub use source::Pace;
pub use stock::{FindEvidence, Stock};
pub use tls::{ServerTls, TlsError, tls_config, tls_config_of_files};
pub use tokens::Tokens;
