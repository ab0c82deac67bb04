//! AVP over HTTP: agents on different machines send each other frames.
//!
//! ```no_run
//! use std::{future::pending, time::Duration};
//! use avp_transport::{server::{ContextHandler, ListenOptions, ServerOptions, Service, serve}, store::ContextStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let handler = ContextHandler::new("relay", ContextStore::in_memory(Default::default()));
//! let service = Service::new(handler, ServerOptions::default());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8790").await?;
//! serve(listener, service, ListenOptions::default(), pending(), Duration::ZERO).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! | to | use | feature |
//! |---|---|---|
//! | receive frames and store them | [`server`], [`store`] | `server` |
//! | send and fetch frames | [`client`] | `client` |
//! | put frames into A2A and MCP messages | [`carriers`], and `docs/carriers.md` | `carriers` |
//! | see the paths, headers and JSON on the wire | [`wire`], and `docs/transport.md` | |
//!
//! All features are enabled by default, and each works without the others.
//!
//! Endpoints, headers and JSON are those of the Python package `avp` 0.2.1 and 0.6.2, whose clients and servers are tested
//! against this crate. Stored contexts, ranges, idempotency keys and metrics are additions.
//!
//! # Hostile input
//!
//! Everything received has limits before memory is allocated for it: see [`server::Limits`] and [`avp_core::FrameLimits`].
//! An incomplete frame, or one with a wrong checksum, is never visible; and responses, logs and metrics contain no
//! payload data.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "carriers")]
pub mod carriers;
#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "client", feature = "server"))]
mod files;
#[cfg(any(feature = "carriers", feature = "client", feature = "server"))]
mod id;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod store;
pub mod wire;
