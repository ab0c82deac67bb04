//! Logged instructions.

use std::{format, string::String, vec::Vec};

use serde::{Deserialize, Deserializer, Serialize};

use super::words::{instruction_id, keywords, normalise};

/// How much of the instruction is missing in the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Nothing.
    None,
    /// Little.
    Minor,
    /// Some of it.
    Partial,
    /// Much.
    #[default]
    Significant,
}

/// An instruction, its packet, and a count: an entry of the Python package's `unknown_patterns.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pattern {
    /// [`instruction_id`] of the instruction.
    pub id: String,
    /// The time of the first use, in ISO 8601.
    pub timestamp: String,
    /// The domain, in upper case.
    pub domain: String,
    /// The instruction, unchanged.
    pub english: String,
    /// The instruction in normal form; see [`normalise`].
    pub english_normalised: String,
    /// The [`keywords`] of the instruction.
    pub keywords: Vec<String>,
    /// The packet.
    pub aacp_packet: String,
    /// How much of the instruction is missing in the packet.
    pub compression_loss: Loss,
    /// A description of the missing part.
    pub loss_note: Option<String>,
    /// Tokens of the instruction, estimated.
    pub token_estimate_english: u64,
    /// Tokens of the packet, estimated.
    pub token_estimate_packet: u64,
    /// The saving of the packet, in percent of the instruction's tokens.
    pub reduction_pct: f64,
    /// Whether it has become a rule.
    pub rule_based_written: bool,
    /// The number of times it was used.
    pub times_seen: u64,
}

impl Pattern {
    /// A new pattern, first used now.
    pub fn new(english: &str, domain: &str, packet: &str, loss: Loss, loss_note: Option<String>) -> Self {
        let (english_tokens, packet_tokens) = (estimate(english), estimate(packet));
        let reduction = (1.0 - packet_tokens as f64 / english_tokens as f64) * 100.0;
        Self {
            id: instruction_id(english),
            timestamp: format!("{}", humantime::format_rfc3339_seconds(std::time::SystemTime::now())),
            domain: crate::text::upper(domain),
            english: english.into(),
            english_normalised: normalise(english),
            keywords: keywords(english),
            aacp_packet: packet.into(),
            compression_loss: loss,
            loss_note,
            token_estimate_english: english_tokens,
            token_estimate_packet: packet_tokens,
            reduction_pct: (reduction * 10.0).round() / 10.0,
            rule_based_written: false,
            times_seen: 1,
        }
    }
}

/// One token for four bytes, the estimate of the Python package.
fn estimate(text: &str) -> u64 {
    (text.len() as u64 / 4).max(1)
}

/// An entry in a file. Release 1.1.0 does not write the normal form, the keywords and the count.
#[derive(Deserialize)]
struct PatternText {
    timestamp: Option<String>,
    domain: String,
    english: String,
    keywords: Option<Vec<String>>,
    aacp_packet: String,
    #[serde(default, deserialize_with = "loss_or_worst")]
    compression_loss: Loss,
    loss_note: Option<String>,
    #[serde(default)]
    token_estimate_english: u64,
    #[serde(default)]
    token_estimate_packet: u64,
    #[serde(default)]
    reduction_pct: f64,
    #[serde(default)]
    rule_based_written: bool,
    #[serde(default = "once")]
    times_seen: u64,
}

fn once() -> u64 {
    1
}

fn loss_or_worst<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Loss, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(serde_json::from_value(serde_json::Value::String(text)).unwrap_or_default())
}

impl<'de> Deserialize<'de> for Pattern {
    /// Computes id and normal form again: an entry with a wrong id could not be found.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = PatternText::deserialize(deserializer)?;
        Ok(Self {
            id: instruction_id(&text.english),
            timestamp: text.timestamp.unwrap_or_default(),
            domain: crate::text::upper(&text.domain),
            english_normalised: normalise(&text.english),
            keywords: text.keywords.unwrap_or_else(|| keywords(&text.english)),
            english: text.english,
            aacp_packet: text.aacp_packet,
            compression_loss: text.compression_loss,
            loss_note: text.loss_note,
            token_estimate_english: text.token_estimate_english,
            token_estimate_packet: text.token_estimate_packet,
            reduction_pct: text.reduction_pct,
            rule_based_written: text.rule_based_written,
            times_seen: text.times_seen.max(1),
        })
    }
}
