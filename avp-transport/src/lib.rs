//! AVP over HTTP: agents on other machines hand each other frames.
//!
//! ```
//! use avp_transport::{server::{ListenOptions, ServerOptions, Service, Stock, serve}, store::{Contexts, Keeping}};
//! # use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let stock = Stock::new("relay", Contexts::in_memory(Keeping::default()));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let stop = async {};
//! serve(listener, Service::new(stock, ServerOptions::default()), ListenOptions::default(), stop, Duration::ZERO).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! | to | use |
//! |---|---|
//! | take frames and keep them | [`server`], [`store`] |
//! | send and fetch them | [`client`] |
//! | put them into A2A and MCP messages | [`carriers`], and `docs/carriers.md` |
//! | read a frame that arrives in pieces, with no sockets | [`reader`] |
//! | see what goes over the wire | [`wire`], and `docs/transport.md` |
//!
//! The endpoints, headers and JSON are those of the Python package `avp` 0.2.1 and 0.6.2, whose clients and servers are
//! on the other end of this crate's tests. Kept contexts, ranges, idempotency keys and metrics are this crate's own.
//!
//! # Hostile input
//!
//! What comes from the other side has limits before it has memory: see [`server::Limits`] and
//! [`reader::FrameLimits`]. Nobody sees a frame that is not whole, or whose checksum is not right; and neither answers, logs
//! nor metrics hold anything of a payload.

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
pub mod reader;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod store;
pub mod wire;
