//! Workflow tables and rule sets: what the host keeps between calls, by number.

use aacp::{
    Priority, Schema,
    learn::{
        EncodeError, Encoded, Encoder, Instruction, Rule, RuleRegistry, Scope, Tier, instruction_id,
        keywords, normalise,
    },
    workflow::{Value, WorkflowError, Workflows},
};

use crate::{
    border::{Answer, Request},
    fault::{Fault, Outcome},
    packets::{Words, version},
    tables,
};

/// What the host keeps here. Number 0 is the published workflows.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    kept: Vec<Kept>,
}

#[derive(Debug, Default)]
enum Kept {
    /// A number that may be given out again.
    #[default]
    Free,
    Table(Workflows),
    Rules(RuleRegistry),
}

impl Shelf {
    pub(crate) fn add_table(&mut self, text: &str, answer: &mut Answer) -> Outcome<()> {
        let table = Workflows::from_sources(tables::workflows(text)?).map_err(workflow_fault)?;
        answer.whole(self.keep(Kept::Table(table)) as u64);
        Ok(())
    }

    /// Answers with the number, how many rules there are, and which were left out.
    pub(crate) fn add_rules(&mut self, text: &str, answer: &mut Answer) -> Outcome<()> {
        let mut rules = RuleRegistry::new();
        rules.add_rules(tables::rules(text)?, Schema::STANDARD);
        answer.object(|answer| {
            answer.key("count").whole(rules.rules().len() as u64);
            answer.key("refused").array(|answer| {
                for refused in rules.refused() {
                    answer.object(|answer| {
                        answer.key("index").whole(refused.index as u64);
                        answer.key("code").text(refused.kind.map_or("duplicate_id", |kind| kind.as_str()));
                    });
                }
            });
            answer.key("number").whole(self.keep(Kept::Rules(rules)) as u64);
        });
        Ok(())
    }

    /// Lets go of what is kept under a number.
    pub(crate) fn drop(&mut self, number: usize) {
        if let Some(kept) = self.kept.get_mut(number).filter(|_| number > 0) {
            *kept = Kept::Free;
        }
    }

    fn keep(&mut self, kept: Kept) -> usize {
        if self.kept.is_empty() {
            self.kept.push(Kept::Table(standard()));
        }
        let free = self.kept.iter().position(|kept| matches!(kept, Kept::Free));
        match free {
            Some(number) => {
                self.kept[number] = kept;
                number
            }
            None => {
                self.kept.push(kept);
                self.kept.len() - 1
            }
        }
    }

    fn table(&mut self, number: usize) -> Outcome<&Workflows> {
        if self.kept.is_empty() {
            self.kept.push(Kept::Table(standard()));
        }
        match self.kept.get(number) {
            Some(Kept::Table(table)) => Ok(table),
            _ => Err(Fault::bad_request()),
        }
    }

    fn rules(&self, number: usize) -> Outcome<&RuleRegistry> {
        match self.kept.get(number) {
            Some(Kept::Rules(rules)) => Ok(rules),
            _ => Err(Fault::bad_request()),
        }
    }
}

/// The published workflows, by this crate's own reader of tables.
fn standard() -> Workflows {
    // A test reads the table, which is part of `aacp`.
    tables::workflows(Workflows::STANDARD)
        .ok()
        .and_then(|table| Workflows::from_sources(table).ok())
        .unwrap_or_default()
}

/// The workflows of a table, with what each call needs.
pub(crate) fn workflows(shelf: &mut Shelf, number: usize, answer: &mut Answer) -> Outcome<()> {
    let table = shelf.table(number)?;
    answer.array(|answer| {
        for workflow in table.iter() {
            answer.object(|answer| {
                answer.key("name").text(workflow.name()).key("encoder").text(workflow.encoder());
                answer.key("about").text(workflow.about()).key("calls").array(|answer| {
                    for call in workflow.calls() {
                        answer.object(|answer| {
                            answer.key("name").text(call.name()).key("about").text(call.about());
                            answer.key("required").texts(call.required().iter().map(String::as_str));
                            answer.key("optional").object(|answer| {
                                call.optional()
                                    .for_each(|(name, value)| write_value(answer.key(name), value));
                            });
                        });
                    }
                });
            });
        }
    });
    Ok(())
}

fn write_value(answer: &mut Answer, value: &Value) {
    match value {
        Value::Nothing => answer.null(),
        Value::Text(text) => answer.text(text),
        Value::List(items) => answer.texts(items.iter().map(String::as_str)),
        Value::Number(number, _) => answer.number(*number),
        Value::Flag(flag) => answer.flag(*flag),
    };
}

/// Makes a call; the request holds the table's number, workflow, call, arguments as pairs of name and JSON, version and
/// further words.
pub(crate) fn call(shelf: &mut Shelf, mut request: Request<'_>, answer: &mut Answer) -> Outcome<()> {
    let table = shelf.table(request.u32()? as usize)?;
    let mut call = table.call(request.text()?, request.text()?).map_err(workflow_fault)?;
    for (name, json) in request.pairs()? {
        let value = tables::argument(json);
        call =
            call.arg(name, value.ok_or_else(|| workflow_fault(WorkflowError::WrongKind(name.to_owned())))?);
    }
    call = call.version(version(&mut request)?);
    let words = Words::read(&mut request)?;
    let packets = call.schema(words.schema()).packets().map_err(workflow_fault)?;
    answer.texts(packets.iter().map(String::as_str));
    Ok(())
}

/// The rules that fit a query best; the request holds the set's number, query, domain, task and limit.
pub(crate) fn find(shelf: &Shelf, mut request: Request<'_>, answer: &mut Answer) -> Outcome<()> {
    let rules = shelf.rules(request.u32()? as usize)?;
    let query = request.text()?;
    let scope = Scope { domain: request.option(Request::text)?, task: request.option(Request::text)? };
    let found = rules.find_all(query, scope, request.number()? as usize);
    answer.array(|answer| {
        for found in found {
            answer.object(|answer| {
                answer.key("rule").object(|answer| write_rule(found.rule, answer));
                answer.key("score").whole(found.score as u64);
            });
        }
    });
    Ok(())
}

fn write_rule(rule: &Rule, answer: &mut Answer) {
    answer.key("id").text(&rule.id).key("name").text(&rule.name).key("description").text(&rule.description);
    answer.key("task").text(&rule.task).key("domain").text(&rule.dom).key("packet").text(&rule.packet);
    answer.key("tags").texts(rule.tags.iter().map(String::as_str));
    answer.key("version").text(&rule.version).key("source").text(&rule.source);
    answer.key("validated").flag(rule.validated);
}

/// A packet by rule; the request holds the set's number, instruction, domain, return agent, priority, least coverage and
/// version.
pub(crate) fn encode(shelf: &Shelf, mut request: Request<'_>, answer: &mut Answer) -> Outcome<()> {
    let rules = shelf.rules(request.u32()? as usize)?;
    let mut instruction = Instruction::new(request.text()?, request.text()?, request.text()?);
    instruction.priority = match request.option(Request::u32)? {
        Some(1) => Some(Priority::Critical),
        Some(2) => Some(Priority::Medium),
        Some(3) => Some(Priority::Low),
        _ => None,
    };
    let mut encoder = Encoder::new().rules(rules.clone());
    if let Some(least) = request.option(Request::number)? {
        encoder = encoder.least_coverage(least);
    }
    // There is neither a log nor a model here.
    let encoded =
        encoder.version(version(&mut request)?).encode_by_rule(&instruction).map_err(instruction_fault)?;
    let Some(Encoded { packet, tier: Tier::Rule { id, coverage }, .. }) = encoded else {
        return Err(Fault::packet("no_rule", None, "no rule covers the instruction"));
    };
    answer.object(|answer| {
        answer.key("packet").text(&packet).key("rule").text(&id).key("coverage").number(coverage);
    });
    Ok(())
}

/// How the published package's log sees an instruction.
pub(crate) fn instruction(english: &str, answer: &mut Answer) {
    answer.object(|answer| {
        answer.key("normalised").text(&normalise(english)).key("id").text(&instruction_id(english));
        answer.key("keywords").texts(keywords(english).iter().map(String::as_str));
    });
}

fn instruction_fault(error: EncodeError) -> Fault {
    // The other sentences of `aacp` are about logs and models.
    match error {
        EncodeError::Instruction(kind) => Fault::packet(
            kind.as_str(),
            None,
            format_args!("no packet can be made of the instruction: {kind}"),
        ),
        other => Fault::packet(other.kind(), None, "no packet can be made of the instruction"),
    }
}

fn workflow_fault(error: WorkflowError) -> Fault {
    Fault::packet(error.kind(), None, error)
}
