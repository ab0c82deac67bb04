//! The server: a [`Service`] that answers requests with a [`Handler`], and [`serve`], which accepts connections for it.
//!
//! | to | use |
//! |---|---|
//! | store contexts until they are fetched | [`ContextHandler`] |
//! | do something else with frames | your own [`Handler`] |
//! | listen, with TLS, until a shutdown signal | [`serve`], [`ListenOptions`], [`tls_config`] |
//! | run behind another server or middleware | [`Service`], a `tower` service |
//! | limit the memory of your own [`Handler`] | [`FairShares`] |
//! | configure access | [`ServerOptions`], [`Tokens`], [`Principal`], [`PrincipalLimits`], [`AllowedHosts`], [`AllowedOrigins`] |
//! | configure limits | [`Limits`], [`BodyTimeouts`] |
//! | accept frames of known signers alone | [`RequiredSigners`] |
//! | write down who did what | [`AuditLog`] |

mod activity;
mod admission;
mod audit;
mod body;
mod buffer;
mod caller;
mod connections;
mod context_handler;
mod drain;
mod error_response;
mod fair_shares;
mod handler;
mod held_body;
mod idempotency;
mod incoming;
mod json_cost;
mod listen;
mod metrics;
mod options;
mod principal;
mod rate_limit;
mod request_body;
mod request_info;
mod response;
mod routes;
mod sending;
mod service;
mod session;
mod signatures;
mod tls;
mod tokens;
mod web;

pub use audit::AuditLog;
pub use body::IncomingBody;
pub use caller::Caller;
pub use connections::CONNECTION_MEMORY;
pub use context_handler::{ContextHandler, FindEvidence};
pub use error_response::ErrorResponse;
pub use fair_shares::{FairShares, NoRoom, Share};
pub use handler::{Handler, RequestInfo};
pub use incoming::{BodyError, IncomingFrame};
pub use listen::{ListenOptions, serve};
pub use metrics::Metrics;
pub use options::{Limits, ServerOptions};
pub use principal::{Principal, PrincipalLimits, Scope, Scopes, UnknownScope};
pub use request_body::BodyTimeouts;
pub use response::ResponseBody;
pub use service::Service;
pub use session::{DEFAULT_SESSION_TTL, SESSION_MEMORY, Session, SessionManager};
pub use signatures::{MAX_SIGNATURE_LIFETIME, RequiredSigners};
pub use tls::{ServerTls, TlsError, tls_config, tls_config_of_files};
pub use tokens::Tokens;
pub use web::{AllowedHosts, AllowedOrigins, InvalidName};
