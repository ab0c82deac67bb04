//! AACP, the Agent Action Compression Protocol: short, typed, pipe-delimited messages between agents.
//!
//! ```
//! let packet = aacp::Packet::parse("FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary|period:2024-08")?;
//! assert_eq!(packet.get("period"), Some("2024-08"));
//! assert!(aacp::Validator::strict().accepts(packet.as_str()));
//! # Ok::<(), aacp::ParseError>(())
//! ```
//!
//! - [`Packet`] reads a packet from text and finds its fields by key.
//! - [`Validator`] says what is wrong with it, where, and what was likely meant; [`Profile::Lenient`] for what others
//!   send, [`Profile::Strict`] for what we send.
//! - [`peer`] says what the published Python packages would say.
//! - `Explanation` puts a packet into English, `Builder` makes one from parts.
//! - `workflow` makes packets for known workflows from a table, `learn` for instructions in English.
//! - `tokens` counts what each notation costs.
//!
//! Reading and validating allocate nothing, and no input makes them panic.
//!
//! # Crate features
//!
//! None is on by default; then the crate needs neither `std` nor an allocator. No feature changes what another does.
//!
//! - `alloc`: `Builder`, `Explanation`, and reports.
//! - `std`: the same and the standard library.
//! - `serde`: reports as JSON (with `alloc`).
//! - `workflows`: the module `workflow` (with `serde`).
//! - `learn`: the module `learn` (with `std` and `serde`).
//! - `http`: models and rules behind HTTP (with `learn`).
//! - `tokens`: the module `tokens` (with `learn` and `workflows`); `tokenizer-json`: the same with any tokenizer's file.

#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "alloc")]
mod builder;
#[cfg(any(feature = "compact", all(test, feature = "alloc")))]
mod case;
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
