//! AACP, the Agent Action Compression Protocol: short, typed, pipe-delimited messages between agents.
//!
//! ```
//! let packet = aacp::Packet::parse("FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary|period:2024-08")?;
//! assert_eq!(packet.get("period"), Some("2024-08"));
//! assert!(aacp::Validator::strict().accepts(packet.as_str()));
//! # Ok::<(), aacp::ParseError>(())
//! ```
//!
//! - [`Packet`] parses a packet and finds its fields by key.
//! - [`Validator`] reports errors and warnings with their place and a suggestion; [`Profile::Lenient`] is for received
//!   packets, [`Profile::Strict`] for packets to send.
//! - [`peer`] has the verdicts and messages of the published Python packages.
//! - `Explanation` describes a packet in English, `Builder` builds one.
//! - `workflow` builds packets for known workflows from a table, `learn` for instructions in English.
//! - `tokens` counts the tokens of each notation.
//!
//! Parsing and validating do not allocate, and no input makes them panic.
//!
//! # Crate features
//!
//! No feature is on by default; without features the crate needs neither `std` nor an allocator. A feature only adds items.
//!
//! - `alloc`: `Builder`, `Explanation`, and reports.
//! - `std` (implies `alloc`): the standard library.
//! - `serde` (implies `alloc`): reports as JSON.
//! - `workflows` (implies `serde`): the module `workflow`.
//! - `learn` (implies `std` and `serde`): the module `learn`.
//! - `http` (implies `learn`): models and rules behind HTTP.
//! - `tokens` (implies `learn` and `workflows`): the module `tokens`; `tokenizer-json` adds `tokenizer.json` files.

#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "alloc")]
mod builder;
#[cfg(feature = "alloc")]
mod explain;
mod field;
mod finding;
#[cfg(feature = "learn")]
pub mod learn;
#[cfg(feature = "serde")]
mod line;
mod packet;
mod pct;
pub mod peer;
#[cfg(feature = "alloc")]
mod report;
mod schema;
mod seen;
mod span;
mod suggest;
mod text;
#[cfg(feature = "tokens")]
pub mod tokens;
mod validate;
mod version;
#[cfg(feature = "workflows")]
pub mod workflow;

#[cfg(feature = "alloc")]
pub use builder::{BuildError, Builder, Priority};
#[cfg(feature = "alloc")]
pub use explain::{Explanation, Sentence};
pub use field::FieldName;
pub use finding::{Finding, Kind, Rejection, Severity, Suggestion};
#[cfg(feature = "serde")]
pub use line::{FieldLine, FindingLine, ReportLine};
pub use packet::{Field, Limits, Packet, ParseError, Slots};
pub use pct::{Decoded, Encoded};
#[cfg(feature = "alloc")]
pub use report::Report;
pub use schema::{DOMAINS, PRIORITIES, Schema, TASKS};
pub use span::Span;
pub use validate::{Profile, Validator, Verdict};
pub use version::Version;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
