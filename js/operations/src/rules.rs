//! Packets from rule sets.

use aacp::{
    Priority,
    learn::{
        EncodeError, Encoded, Encoder, Instruction, Rule, RuleRegistry, Scope, Tier, instruction_id,
        keywords, normalise,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    argument::argument,
    fault::{Fault, Outcome},
    json::answer,
    packets::version,
};

/// A rule set.
#[derive(Debug)]
pub struct Rules(RuleRegistry);

#[derive(Serialize)]
struct Summary {
    count: usize,
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    index: usize,
    code: &'static str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FindOptions {
    domain: Option<String>,
    task: Option<String>,
    limit: Option<u64>,
}

#[derive(Serialize)]
struct Found<'a> {
    rule: PacketRule<'a>,
    score: usize,
}

#[derive(Serialize)]
struct PacketRule<'a> {
    id: &'a str,
    name: &'a str,
    description: &'a str,
    task: &'a str,
    domain: &'a str,
    packet: &'a str,
    tags: &'a [String],
    version: &'a str,
    source: &'a str,
    validated: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstructionInit {
    english: String,
    domain: String,
    return_agent: String,
    priority: Option<u8>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EncodeOptions {
    version: Option<String>,
    least_coverage: Option<f64>,
}

impl Rules {
    /// Loads rules in the community's format.
    ///
    /// # Errors
    /// `bad_rules`.
    pub fn new(text: &str) -> Outcome<Self> {
        let rules = RuleRegistry::from_json(text);
        rules.map(Self).map_err(|error| Fault::packet(error.kind(), None, error))
    }

    /// How many rules there are, and which were refused.
    ///
    /// # Errors
    /// None.
    pub fn summary(&self) -> Outcome<String> {
        let refused = self.0.refused().iter().map(|refused| Refused {
            index: refused.index,
            code: refused.kind.map_or("duplicate_id", |kind| kind.as_str()),
        });
        answer(&Summary { count: self.0.rules().len(), refused: refused.collect() })
    }

    /// The rules that share most words with a query.
    ///
    /// # Errors
    /// If an argument is wrong.
    pub fn find(&self, query: &str, options: &str) -> Outcome<String> {
        let FindOptions { domain, task, limit } = argument(options, "options")?;
        let scope = Scope { domain: domain.as_deref(), task: task.as_deref() };
        let found = self.0.find_all(query, scope, usize::try_from(limit.unwrap_or(1)).unwrap_or(usize::MAX));
        let found = found.into_iter().map(|found| Found { rule: found.rule.into(), score: found.score });
        answer(&found.collect::<Vec<_>>())
    }

    /// The packet of the rule that covers an instruction.
    ///
    /// # Errors
    /// `no_rule`, `unknown_version`, codes of the instruction, or an argument that is wrong.
    pub fn encode(&self, instruction: &str, options: &str) -> Outcome<String> {
        #[derive(Serialize)]
        struct ByRule {
            packet: String,
            rule: String,
            coverage: f64,
        }

        let given: InstructionInit = argument(instruction, "instruction")?;
        let options: EncodeOptions = argument(options, "options")?;
        let mut instruction = Instruction::new(&given.english, &given.domain, &given.return_agent);
        instruction.priority = given.priority.map(priority).transpose()?;
        let mut encoder = Encoder::new().rules(self.0.clone()).version(version(options.version.as_deref())?);
        if let Some(least) = options.least_coverage {
            encoder = encoder.least_coverage(least);
        }
        // There is neither a log nor a model here.
        let encoded = encoder.encode_by_rule(&instruction).map_err(instruction_fault)?;
        let Some(Encoded { packet, tier: Tier::Rule { id, coverage }, .. }) = encoded else {
            return Err(Fault::packet("no_rule", None, "no rule covers the instruction"));
        };
        answer(&ByRule { packet, rule: id, coverage })
    }
}

/// The normalised text, id and keywords of an instruction, as the Python package logs them.
///
/// # Errors
/// None.
pub fn describe_instruction(english: &str) -> Outcome<String> {
    #[derive(Serialize)]
    struct Description {
        normalised: String,
        id: String,
        keywords: Vec<String>,
    }

    let keywords = keywords(english).into_iter().collect();
    answer(&Description { normalised: normalise(english), id: instruction_id(english), keywords })
}

impl<'a> From<&'a Rule> for PacketRule<'a> {
    fn from(rule: &'a Rule) -> Self {
        Self {
            id: &rule.id,
            name: &rule.name,
            description: &rule.description,
            task: &rule.task,
            domain: &rule.dom,
            packet: &rule.packet,
            tags: &rule.tags,
            version: &rule.version,
            source: &rule.source,
            validated: rule.validated,
        }
    }
}

fn priority(number: u8) -> Outcome<Priority> {
    match number {
        1 => Ok(Priority::Critical),
        2 => Ok(Priority::Medium),
        3 => Ok(Priority::Low),
        _ => Err(Fault::argument(format!("instruction.priority: expected 1, 2 or 3, got {number}"))),
    }
}

fn instruction_fault(error: EncodeError) -> Fault {
    match error {
        EncodeError::Instruction(kind) => Fault::packet(
            kind.as_str(),
            None,
            format_args!("cannot build a packet for the instruction: {kind}"),
        ),
        // The other messages of `aacp` are about logs and models.
        other => Fault::packet(other.kind(), None, "cannot build a packet for the instruction"),
    }
}
