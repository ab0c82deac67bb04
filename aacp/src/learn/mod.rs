//! Encoding of instructions in English as packets. A packet that a model wrote is logged and used again without the model.
//!
//! ```
//! use aacp::learn::{Encoder, Instruction, RuleRegistry};
//! let rules = r#"[{"id":"r1","name":"Payroll report","description":"Generate the monthly report",
//!                  "task":"REPORT","dom":"HR","packet":"REPORT|HR|return:A|aacp:1.2|fmt:pdf","tags":["payroll"]}]"#;
//! let encoder = Encoder::new().rules(RuleRegistry::from_json(rules)?);
//! let encoded = encoder.encode(&Instruction::new("Generate the monthly payroll report.", "HR", "HR-Agent"))?;
//! assert_eq!(encoded.packet, "REPORT|HR|return:HR-Agent|aacp:1.2|fmt:pdf");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An [`Encoder`] tries four tiers in turn:
//!
//! 1. rules of a [`RuleRegistry`] that cover the instruction;
//! 2. the [`PatternLog`]: the same instruction, by a hash of its normalised text;
//! 3. the log again: an instruction with nearly the same keywords, and the same numbers and negations;
//! 4. a language [`Model`], whose packet is validated and logged for the next time.
//!
//! [`http`] has models behind two HTTP APIs. Available with the feature `learn`.

mod encoder;
#[cfg(feature = "http")]
pub mod http;
mod log;
mod model;
mod pattern;
mod rules;
mod words;

pub use encoder::{EncodeError, Encoded, Encoder, Instruction, Tier};
pub use log::{LogError, PatternLog};
pub use model::{Completion, Model, ModelError, Prompt};
pub use pattern::{Loss, Pattern};
pub use rules::{Found, Refused, Rule, RuleError, RuleRegistry, Scope};
pub use words::{instruction_id, keywords, normalise};
