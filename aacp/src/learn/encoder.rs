//! The four-tier encoder.

use std::{boxed::Box, collections::BTreeSet, fmt, format, string::String, string::ToString};

use super::{
    LogError, Loss, Model, ModelError, Pattern, PatternLog, Rule, RuleRegistry, Scope,
    model::{Answer, prompt},
    words::{crucial_words, search_words},
};
use crate::{Builder, FieldName, Kind, Packet, Priority, Rejection, Schema, Validator, Version};

/// An instruction in English, to be encoded as a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction<'a> {
    /// The text of the instruction.
    pub english: &'a str,
    /// The domain of the packet.
    pub domain: &'a str,
    /// The agent that receives the answer.
    pub return_agent: &'a str,
    /// The priority; `None` for the one of the rule, the log or the model.
    pub priority: Option<Priority>,
}

impl<'a> Instruction<'a> {
    /// An instruction without a priority.
    pub const fn new(english: &'a str, domain: &'a str, return_agent: &'a str) -> Self {
        Self { english, domain, return_agent, priority: None }
    }

    /// Sets the priority.
    pub const fn priority(self, priority: Priority) -> Self {
        Self { priority: Some(priority), ..self }
    }
}

/// The tier that produced a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Tier {
    /// A rule covers the instruction.
    Rule {
        /// The rule's id.
        id: String,
        /// The share of the instruction's words that occur in the rule, from 0 to 1.
        coverage: f64,
    },
    /// The log contains the same instruction.
    Hash {
        /// The number of times it was encoded, this time included.
        times_seen: u64,
    },
    /// The log contains a similar instruction.
    Pattern {
        /// The similarity, from 0 to 1.
        likeness: f64,
    },
    /// A language model.
    Model {
        /// Tokens of the prompts.
        tokens_in: u64,
        /// Tokens of the completions.
        tokens_out: u64,
    },
}

impl Tier {
    /// `rule`, `hash`, `pattern` or `model`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Tier::Rule { .. } => "rule",
            Tier::Hash { .. } => "hash",
            Tier::Pattern { .. } => "pattern",
            Tier::Model { .. } => "model",
        }
    }
}

/// An instruction encoded as a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The packet, valid in the strict profile.
    pub packet: String,
    /// The tier that produced it.
    pub tier: Tier,
    /// How much of the instruction is missing in the packet.
    pub loss: Loss,
    /// A description of the missing part, if a model gave one.
    pub loss_note: Option<String>,
}

/// An instruction that cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The instruction's domain is unknown, or its return agent is empty: no packet can be valid.
    Instruction(Kind),
    /// No rule and no logged pattern matches, and the encoder has no model.
    NoModel,
    /// The model gave no completion.
    Model(ModelError),
    /// The model's completion is not the requested JSON object, twice in a row.
    Answer,
    /// The model's packet is not valid, twice in a row.
    Invalid(Rejection),
    /// The log failed.
    Log(LogError),
}

impl EncodeError {
    /// A stable name for programs to match on, such as `"no_model"`; for [`EncodeError::Instruction`] and
    /// [`EncodeError::Invalid`] that of the finding.
    pub const fn kind(&self) -> &'static str {
        match self {
            EncodeError::Instruction(kind) => kind.as_str(),
            EncodeError::NoModel => "no_model",
            EncodeError::Model(_) => "model",
            EncodeError::Answer => "bad_answer",
            EncodeError::Invalid(rejection) => rejection.kind.as_str(),
            EncodeError::Log(_) => "log",
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::Instruction(kind) => write!(f, "invalid instruction: {kind}"),
            EncodeError::NoModel => {
                f.write_str("no rule and no logged pattern matches the instruction, and no model is set")
            }
            EncodeError::Model(error) => write!(f, "the model gave no completion: {error}"),
            EncodeError::Answer => f.write_str("the model's answer is not the requested JSON object"),
            EncodeError::Invalid(rejection) => write!(f, "invalid packet from the model: {rejection}"),
            EncodeError::Log(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            EncodeError::Model(error) => Some(error),
            EncodeError::Invalid(rejection) => Some(rejection),
            EncodeError::Log(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LogError> for EncodeError {
    fn from(error: LogError) -> Self {
        EncodeError::Log(error)
    }
}

/// Encodes instructions as packets; see [the module](crate::learn).
///
/// The return agent, the version and, if given, the priority of a packet are those of the call, not those of the rule or
/// the log.
#[must_use]
pub struct Encoder<'s> {
    rules: RuleRegistry,
    log: Option<PatternLog>,
    model: Option<Box<dyn Model + Send + Sync>>,
    version: Version,
    schema: Schema<'s>,
    least_coverage: f64,
    least_likeness: f64,
}

impl fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("rules", &self.rules.rules().len())
            .field("log", &self.log)
            .field("model", &self.model.is_some())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Default for Encoder<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'s> Encoder<'s> {
    /// An encoder without rules, log and model. Each tier is active once its part is set.
    pub fn new() -> Self {
        Self {
            rules: RuleRegistry::new(),
            log: None,
            model: None,
            version: Version::default(),
            schema: Schema::STANDARD,
            least_coverage: 0.75,
            least_likeness: 0.75,
        }
    }

    /// Sets the rules.
    pub fn rules(self, rules: RuleRegistry) -> Self {
        Self { rules, ..self }
    }

    /// Sets the log.
    pub fn log(self, log: PatternLog) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Sets the model.
    pub fn model(self, model: impl Model + Send + Sync + 'static) -> Self {
        Self { model: Some(Box::new(model)), ..self }
    }

    /// Sets the version of the packets. Default: [`Version::V1_2`].
    pub fn version(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// Sets the schema of the packets. Default: [`Schema::STANDARD`].
    pub fn schema(self, schema: Schema<'s>) -> Self {
        Self { schema, ..self }
    }

    /// Sets the least share of the instruction's words that a rule must contain, from 0 to 1. Default: 0.75.
    pub fn least_coverage(self, least_coverage: f64) -> Self {
        Self { least_coverage, ..self }
    }

    /// Sets the least similarity of a logged instruction, from 0 to 1. Default: 0.75.
    pub fn least_likeness(self, least_likeness: f64) -> Self {
        Self { least_likeness, ..self }
    }

    /// Encodes an instruction.
    ///
    /// # Errors
    /// See [`EncodeError`]. Nothing is logged unless the packet is valid.
    pub fn encode(&self, instruction: &Instruction<'_>) -> Result<Encoded, EncodeError> {
        if let Some(encoded) = self.encode_by_rule(instruction)? {
            return Ok(encoded);
        }
        if let Some(log) = &self.log
            && let Some(encoded) = self.by_log(log, instruction)?
        {
            return Ok(encoded);
        }
        let model = self.model.as_deref().ok_or(EncodeError::NoModel)?;
        let encoded = self.by_model(model, instruction)?;
        if let Some(log) = &self.log {
            let Encoded { packet, loss, loss_note, .. } = &encoded;
            log.record(&Pattern::new(
                instruction.english,
                instruction.domain,
                packet,
                *loss,
                loss_note.clone(),
            ))?;
        }
        Ok(encoded)
    }

    /// Encodes an instruction with the first tier only; `None` if no rule covers it.
    ///
    /// This needs neither files nor a model, and a program that uses nothing else is linked without their code.
    ///
    /// # Errors
    /// [`EncodeError::Instruction`].
    pub fn encode_by_rule(&self, instruction: &Instruction<'_>) -> Result<Option<Encoded>, EncodeError> {
        // Report errors that no packet can avoid before a model is paid for one.
        if !self.schema.has_domain(&crate::text::upper(instruction.domain)) {
            return Err(EncodeError::Instruction(Kind::UnknownDomain));
        }
        if instruction.return_agent.is_empty() {
            return Err(EncodeError::Instruction(Kind::EmptyReturn));
        }
        Ok(self.by_rule(instruction))
    }

    fn by_rule(&self, instruction: &Instruction<'_>) -> Option<Encoded> {
        let words = search_words(instruction.english);
        let crucial: BTreeSet<String> =
            crucial_words(instruction.english).iter().flat_map(|word| search_words(word)).collect();
        let mut best: Option<(&Rule, f64)> = None;
        for (rule, own) in self.rules.within(Scope { domain: Some(instruction.domain), task: None }) {
            if words.is_empty() || !crucial.is_subset(own) {
                continue;
            }
            let coverage = words.intersection(own).count() as f64 / words.len() as f64;
            if coverage >= self.least_coverage && best.is_none_or(|(_, so_far)| coverage > so_far) {
                best = Some((rule, coverage));
            }
        }
        let (rule, coverage) = best?;
        let packet = self.address(&rule.packet, instruction).ok()?;
        let loss = if coverage < 1.0 { Loss::Minor } else { Loss::None };
        Some(Encoded { packet, tier: Tier::Rule { id: rule.id.clone(), coverage }, loss, loss_note: None })
    }

    fn by_log(
        &self,
        log: &PatternLog,
        instruction: &Instruction<'_>,
    ) -> Result<Option<Encoded>, EncodeError> {
        let found = match log.lookup(instruction.english, instruction.domain)? {
            Some(pattern) => Some((Tier::Hash { times_seen: pattern.times_seen }, pattern)),
            None => log
                .similar(instruction.english, instruction.domain, self.least_likeness)?
                .map(|(pattern, likeness)| (Tier::Pattern { likeness }, pattern)),
        };
        Ok(found.and_then(|(tier, pattern)| {
            // A packet that an older schema allowed may be invalid now; the next tier encodes the instruction again.
            let packet = self.address(&pattern.aacp_packet, instruction).ok()?;
            Some(Encoded { packet, tier, loss: pattern.compression_loss, loss_note: pattern.loss_note })
        }))
    }

    /// Asks the model, and a second time if its first answer is invalid.
    fn by_model(&self, model: &dyn Model, instruction: &Instruction<'_>) -> Result<Encoded, EncodeError> {
        let (mut tokens_in, mut tokens_out) = (0, 0);
        let mut ask = |complaint: Option<&str>| {
            let prompt = prompt(instruction, self.version, self.schema, complaint);
            let completion = model.complete(&prompt).map_err(EncodeError::Model)?;
            tokens_in += completion.tokens_in;
            tokens_out += completion.tokens_out;
            let answer = Answer::read(&completion.text).ok_or(EncodeError::Answer)?;
            let packet = self.address(&answer.packet, instruction).map_err(EncodeError::Invalid)?;
            Ok((packet, answer))
        };
        let (packet, answer) = match ask(None) {
            Err(EncodeError::Answer) => ask(Some("it is not the requested JSON object.")),
            Err(EncodeError::Invalid(rejection)) => ask(Some(&format!("{rejection}."))),
            first => first,
        }?;
        let tier = Tier::Model { tokens_in, tokens_out };
        Ok(Encoded { packet, tier, loss: answer.compression_loss, loss_note: answer.loss_note })
    }

    /// Rewrites a packet for this call: the packet's task and fields; the call's return agent, domain and version; the
    /// call's priority, or else the packet's. Parts that only the lenient profile accepts, such as a bare word, are dropped.
    fn address(&self, packet: &str, instruction: &Instruction<'_>) -> Result<String, Rejection> {
        let domain = crate::text::upper(instruction.domain);
        // Models often omit the return agent.
        let text = format!("{packet}|return:{}", instruction.return_agent.replace('|', ""));
        Validator::lenient().schema(self.schema).parse(&text)?;
        let packet = Packet::parse(&text).map_err(|_| refused())?;
        let mut builder = Builder::new(packet.task(), domain, instruction.return_agent)
            .version(self.version)
            .schema(self.schema);
        let own = packet.value(FieldName::Priority).filter(|priority| !priority.is_empty());
        if let Some(priority) =
            instruction.priority.map(|priority| priority.to_string()).or(own.map(String::from))
        {
            builder = builder.priority_text(priority);
        }
        let mut written = BTreeSet::new();
        for (field, value) in packet.fields_decoded() {
            let Some(key) = field.key().map(crate::text::lower).filter(|key| !key.is_empty()) else {
                continue;
            };
            let reserved = [FieldName::Return, FieldName::Priority, FieldName::Version, FieldName::Encoding];
            if !field.name().is_some_and(|name| reserved.contains(&name)) && written.insert(key.clone()) {
                builder = builder.field(key, value);
            }
        }
        builder.build().map_err(|error| match error {
            crate::BuildError::Rejected(rejection) => rejection,
            _ => refused(),
        })
    }
}

/// A packet whose keys the strict profile rejects.
fn refused() -> Rejection {
    Rejection { kind: Kind::KeySyntax, span: crate::Span::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::{Completion, Prompt};
    use std::{
        sync::{Arc, Mutex},
        vec::Vec,
    };

    /// A model that gives prepared answers and keeps what it was asked.
    #[derive(Clone)]
    struct Scripted(Arc<Mutex<Script>>);

    struct Script {
        answers: Vec<Result<&'static str, ModelError>>,
        prompts: Vec<Prompt>,
    }

    impl Scripted {
        fn new(answers: &[Result<&'static str, ModelError>]) -> Self {
            Self(Arc::new(Mutex::new(Script { answers: answers.to_vec(), prompts: Vec::new() })))
        }

        fn prompts(&self) -> Vec<Prompt> {
            self.0.lock().unwrap().prompts.clone()
        }
    }

    impl Model for Scripted {
        fn complete(&self, prompt: &Prompt) -> Result<Completion, ModelError> {
            let mut script = self.0.lock().unwrap();
            script.prompts.push(prompt.clone());
            let text = script.answers.remove(0)?;
            Ok(Completion { text: text.into(), tokens_in: 100, tokens_out: 10 })
        }
    }

    const GOOD: &str = r#"{"packet":"PROC|FIN|return:X|p:1|aacp:1.0|match:vendor_list","compression_loss":"minor","loss_note":"x"}"#;
    const ASK: Instruction<'_> =
        Instruction::new("Check contractors against the vendor list.", "fin", "FIN-Agent");

    fn log() -> (tempfile::TempDir, PatternLog) {
        let folder = tempfile::tempdir().unwrap();
        let log = PatternLog::open(folder.path().join("log")).unwrap();
        (folder, log)
    }

    #[test]
    fn a_new_instruction_costs_one_call_and_then_nothing() {
        let (_folder, log) = log();
        let model = Scripted::new(&[Ok(GOOD)]);
        let encoder = Encoder::new().log(log).model(model.clone());
        let first = encoder.encode(&ASK).unwrap();
        assert_eq!(first.packet, "PROC|FIN|return:FIN-Agent|p:1|aacp:1.2|match:vendor_list");
        assert_eq!(first.tier, Tier::Model { tokens_in: 100, tokens_out: 10 });
        let again =
            Instruction { english: " check CONTRACTORS against the vendor list.", return_agent: "B", ..ASK };
        let second = encoder.encode(&again.priority(Priority::Low)).unwrap();
        assert_eq!(second.packet, "PROC|FIN|return:B|p:3|aacp:1.2|match:vendor_list");
        assert_eq!(second.tier, Tier::Hash { times_seen: 2 });
        let like = Instruction { english: "Please check the contractors against vendor list", ..ASK };
        assert!(matches!(encoder.encode(&like).unwrap().tier, Tier::Pattern { .. }));
        assert_eq!(model.prompts().len(), 1);
    }

    #[test]
    fn a_bad_answer_is_sent_back_once_and_never_logged() {
        let bad = r#"{"packet":"NUKE|FIN|return:X"}"#;
        let (folder, log) = log();
        let model = Scripted::new(&[Ok(bad), Ok(GOOD), Ok("what?"), Ok(bad), Err(ModelError::Timeout)]);
        let encoder = Encoder::new().log(log).model(model.clone());
        let encoded = encoder.encode(&ASK).unwrap();
        assert_eq!(encoded.tier, Tier::Model { tokens_in: 200, tokens_out: 20 });
        assert!(model.prompts()[1].user.contains("Your last answer was refused: the task is unknown"));
        let other = Instruction { english: "Something else entirely", ..ASK };
        assert!(matches!(encoder.encode(&other), Err(EncodeError::Invalid(_))));
        assert_eq!(encoder.encode(&other), Err(EncodeError::Model(ModelError::Timeout)));
        assert_eq!(PatternLog::open(folder.path().join("log")).unwrap().patterns().unwrap().len(), 1);
    }

    #[test]
    fn an_instruction_that_no_packet_can_carry_costs_nothing() {
        let model = Scripted::new(&[]);
        let encoder = Encoder::new().model(model.clone());
        let encode = |domain, agent| encoder.encode(&Instruction::new("Do it", domain, agent));
        assert_eq!(encode("OPS", "A"), Err(EncodeError::Instruction(Kind::UnknownDomain)));
        assert_eq!(encode("HR", ""), Err(EncodeError::Instruction(Kind::EmptyReturn)));
        assert!(model.prompts().is_empty());
    }

    #[test]
    fn a_rule_must_cover_the_instruction_and_all_its_numbers() {
        let rules = r#"[{"id":"r","name":"Payroll report","description":"Generate the monthly report","task":"REPORT",
            "dom":"HR","packet":"REPORT|HR|return:A|p:2|aacp:1.1|fmt:pdf|bare","tags":["payroll"]}]"#;
        let encoder = Encoder::new().rules(RuleRegistry::from_json(rules).unwrap());
        let encode = |english| encoder.encode(&Instruction::new(english, "HR", "B"));
        let found = encode("Generate the monthly payroll report").unwrap();
        assert_eq!(found.packet, "REPORT|HR|return:B|p:2|aacp:1.2|fmt:pdf");
        assert_eq!(found.tier, Tier::Rule { id: "r".into(), coverage: 1.0 });
        assert_eq!(encode("Generate the monthly payroll report for 2024-08"), Err(EncodeError::NoModel));
        assert_eq!(encode("Do not generate the monthly payroll report"), Err(EncodeError::NoModel));
        assert_eq!(encode("Generate invoices, contracts, budgets and a report"), Err(EncodeError::NoModel));
        let other = encoder.encode(&Instruction::new("Generate the monthly payroll report", "FIN", "B"));
        assert_eq!(other, Err(EncodeError::NoModel));
    }
}
