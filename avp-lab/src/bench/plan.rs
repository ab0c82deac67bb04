//! The pipelines: the agents that work on a question, their order and their prompts.
//!
//! A turn has two wordings: one after a context, which holds what the others have read, and one in text, which quotes what the
//! others have written.

use serde::Serialize;

use super::{dataset::Task, score::Metric};
use crate::world::{self, World};

/// A published arrangement of agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pipeline {
    /// One agent reasons or reads, the other answers.
    TwoAgent,
    /// Planner, critic, refiner and solver in sequence.
    Chain,
    /// Several specialists on one question, or on a part of the context each, and one agent that answers.
    FanOut,
    /// One agent reads with the question, the other answers from its notes.
    Reading,
}

/// The prompts of all agents for one task.
pub(super) struct Plan<'t> {
    /// The prompt of a single agent that does all the work.
    pub(super) direct: String,
    /// The agents' turns; the last one answers.
    pub(super) turns: Vec<Turn<'t>>,
}

/// One agent's turn.
pub(super) struct Turn<'t> {
    pub(super) agent: String,
    /// The prompt after a context.
    pub(super) behind_context: String,
    /// The prompt that quotes the notes of the others.
    pub(super) from_text: FromText<'t>,
}

/// Makes a prompt from the notes of the others.
type FromText<'t> = Box<dyn Fn(&[Note]) -> String + 't>;

/// The text that an agent has written.
pub(super) struct Note {
    pub(super) agent: String,
    pub(super) text: String,
}

/// The wording of prompts.
pub(super) enum Wording {
    /// Plain English, for any model that follows instructions.
    General,
    /// The sentences that the embedded model was trained on.
    World(Box<World>),
}

impl Pipeline {
    /// Every pipeline, in the order of the reports.
    pub const ALL: [Self; 4] = [Self::TwoAgent, Self::Chain, Self::FanOut, Self::Reading];

    /// The name in reports and on the command line, such as `two-agent`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoAgent => "two-agent",
            Self::Chain => "chain",
            Self::FanOut => "fan-out",
            Self::Reading => "reading",
        }
    }

    /// The heading in a report.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::TwoAgent => "Two-agent hand-off",
            Self::Chain => "Chain of four agents",
            Self::FanOut => "Fan-out to specialists",
            Self::Reading => "Reading comprehension",
        }
    }
}

impl Wording {
    /// The prompts of `pipeline` for `task`; a fan-out has `specialists` agents before the last.
    pub(super) fn plan<'t>(&'t self, pipeline: Pipeline, task: &'t Task, specialists: usize) -> Plan<'t> {
        match self {
            Self::General => general(pipeline, task, specialists),
            Self::World(world) => embedded(world, pipeline, task, specialists),
        }
    }
}

/// A turn whose prompt does not depend on the notes of others.
fn first(agent: impl Into<String>, prompt: String) -> Turn<'static> {
    let same = prompt.clone();
    Turn { agent: agent.into(), behind_context: prompt, from_text: Box::new(move |_| same.clone()) }
}

/// A turn whose prompt quotes the notes of others first.
fn later(agent: impl Into<String>, prompt: String) -> Turn<'static> {
    let asked = prompt.clone();
    let from_text = Box::new(move |notes: &[Note]| {
        let mut text = String::from("Other agents have written this.\n\n");
        for Note { agent, text: note } in notes {
            text += &format!("{agent}:\n{}\n\n", note.trim());
        }
        text + &asked
    });
    Turn { agent: agent.into(), behind_context: prompt, from_text }
}

fn general<'t>(pipeline: Pipeline, task: &'t Task, specialists: usize) -> Plan<'t> {
    let question = &task.question;
    let reading = task.paragraphs.join("\n\n");
    let form = match task.metric {
        Metric::Number => {
            "Work it out, then end with a line of the form `#### N`, where N is the number asked for."
        }
        Metric::Words | Metric::Verbatim => "Give only the answer, in as few words as it takes.",
    };
    let ask = |before: &str| format!("{before}Question: {question}\n{form}");
    // The context of the question, if there is one, and then the request.
    let behind_reading = |request: String| match reading.is_empty() {
        true => request,
        false => format!("{reading}\n\n{request}"),
    };
    let solver = || later("solver", ask("Answer with the help of what is known so far. "));
    let turns = match pipeline {
        Pipeline::TwoAgent if task.paragraphs.is_empty() => vec![
            first(
                "researcher",
                format!(
                    "Another agent will answer this question after you. Work out step by step what it takes, and leave \
                     the last step to the other agent.\nQuestion: {question}"
                ),
            ),
            solver(),
        ],
        // The reader does not know the question.
        Pipeline::TwoAgent => vec![
            first(
                "reader",
                behind_reading("Note every fact in these paragraphs that somebody may ask about.".into()),
            ),
            solver(),
        ],
        Pipeline::Chain => vec![
            first(
                "planner",
                behind_reading(format!(
                    "Plan how to answer this question: name the steps in order and what each needs. Do not carry them \
                     out.\nQuestion: {question}"
                )),
            ),
            later(
                "critic",
                format!(
                    "Look for what is missing, wrong or needless in the plan so far, and say how to mend \
                     it.\nQuestion: {question}"
                ),
            ),
            later(
                "refiner",
                format!(
                    "Write the plan anew with the criticism taken in, ready to be followed.\nQuestion: {question}"
                ),
            ),
            later("solver", ask("Follow the plan. ")),
        ],
        Pipeline::FanOut => {
            /// Complementary views of one question.
            const VIEWS: [&str; 3] = [
                "List what is given and what is asked, with every number and name.",
                "Work through the question step by step.",
                "Say what is easily overlooked or mistaken here, and what the sound way is.",
            ];
            let mut turns: Vec<Turn<'t>> = if task.paragraphs.is_empty() {
                let view = |index: usize| format!("{}\nQuestion: {question}", VIEWS[index % VIEWS.len()]);
                (0..specialists).map(|index| first(specialist(index), view(index))).collect()
            } else {
                let size = task.paragraphs.len().div_ceil(specialists.max(1)).max(1);
                let part = |part: &[String]| {
                    format!(
                        "{}\n\nNote what these paragraphs say on this question: {question}",
                        part.join("\n\n")
                    )
                };
                let parts = task.paragraphs.chunks(size).enumerate();
                parts.map(|(index, paragraphs)| first(specialist(index), part(paragraphs))).collect()
            };
            turns.push(later("aggregator", ask("Answer from what the specialists found. ")));
            turns
        }
        Pipeline::Reading => vec![
            first(
                "reader",
                behind_reading(format!("Note what these paragraphs say on this question: {question}")),
            ),
            solver(),
        ],
    };
    Plan { direct: behind_reading(ask("")), turns }
}

/// The embedded model can summarise and answer one question: every agent before the last summarises.
fn embedded<'t>(world: &'t World, pipeline: Pipeline, task: &'t Task, specialists: usize) -> Plan<'t> {
    let facts = |document: &str| world::Task {
        document: document.to_owned(),
        question: task.question.clone(),
        answer: task.answers[0].clone(),
        hops: world::Hops::One,
    };
    let document = task.paragraphs.join(" ");
    let whole = facts(&document);
    let summariser = |agent: String, document: &str| first(agent, world.think_prompt(&facts(document)));
    // In text it reads the last summary; after a context, the request alone.
    let again = |agent: &str| Turn {
        agent: agent.to_owned(),
        behind_context: world.summary_request().to_owned(),
        from_text: Box::new(move |notes: &[Note]| {
            let summary = notes.last().map_or("", |note| note.text.as_str());
            world.think_prompt(&world::Task { document: summary.to_owned(), ..facts("") })
        }),
    };
    let answerer = |agent: &str| {
        let question = facts("");
        Turn {
            agent: agent.to_owned(),
            behind_context: world.context_prompt(&question),
            from_text: Box::new(move |notes: &[Note]| {
                let summary = match notes {
                    [only] => only.text.clone(),
                    many => world.merged(many.iter().map(|note| note.text.as_str())),
                };
                world.summary_prompt(&question, &summary)
            }),
        }
    };
    let turns = match pipeline {
        Pipeline::TwoAgent | Pipeline::Reading => {
            vec![summariser("reader".to_owned(), &document), answerer("solver")]
        }
        Pipeline::Chain => {
            let solver = answerer("solver");
            // Each summary replaces the one before.
            let last =
                Box::new(move |notes: &[Note]| (solver.from_text)(&notes[notes.len().saturating_sub(1)..]));
            let solver = Turn { from_text: last, ..answerer("solver") };
            vec![summariser("planner".to_owned(), &document), again("critic"), again("refiner"), solver]
        }
        Pipeline::FanOut => {
            let parts = world.parts(&document, specialists);
            let mut turns: Vec<Turn<'t>> =
                parts.iter().enumerate().map(|(index, part)| summariser(specialist(index), part)).collect();
            turns.push(answerer("aggregator"));
            turns
        }
    };
    Plan { direct: world.direct_prompt(&whole), turns }
}

fn specialist(index: usize) -> String {
    format!("specialist {}", index + 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn task(paragraphs: &[&str], metric: Metric) -> Task {
        Task {
            number: 1,
            question: "How many {received}?".into(),
            paragraphs: paragraphs.iter().map(|&text| text.to_owned()).collect(),
            answers: vec!["2".into()],
            metric,
        }
    }

    fn agents(plan: &Plan<'_>) -> Vec<String> {
        plan.turns.iter().map(|turn| turn.agent.clone()).collect()
    }

    #[test]
    fn every_pipeline_ends_with_the_agent_that_is_asked() {
        for task in [task(&[], Metric::Number), task(&["A: x", "B: y"], Metric::Words)] {
            for pipeline in Pipeline::ALL {
                let plan = Wording::General.plan(pipeline, &task, 3);
                let last = plan.turns.last().unwrap();
                assert!(plan.turns.len() >= 2 && last.behind_context.contains(&task.question));
                assert!(plan.direct.contains(&task.question));
                let notes = [Note { agent: "one".into(), text: "noted".into() }];
                assert!((last.from_text)(&notes).contains("one:\nnoted"), "{}", pipeline.name());
            }
        }
    }

    #[test]
    fn the_chain_has_its_four_agents_and_only_the_first_reads() {
        let task = task(&["A: long text"], Metric::Words);
        let plan = Wording::General.plan(Pipeline::Chain, &task, 3);
        assert_eq!(agents(&plan), ["planner", "critic", "refiner", "solver"]);
        let readers = plan.turns.iter().filter(|turn| turn.behind_context.contains("long text")).count();
        assert_eq!(readers, 1);
    }

    #[test]
    fn specialists_share_the_reading_out_among_them() {
        let task = task(&["A: x", "B: y", "C: z"], Metric::Words);
        let plan = Wording::General.plan(Pipeline::FanOut, &task, 2);
        assert_eq!(agents(&plan), ["specialist 1", "specialist 2", "aggregator"]);
        assert!(
            plan.turns[0].behind_context.contains("B: y") && plan.turns[1].behind_context.contains("C: z")
        );
        assert!(!plan.turns[1].behind_context.contains("A: x"));
    }

    #[test]
    fn the_embedded_model_is_asked_in_its_own_sentences() {
        let model = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/facts"));
        let wording = Wording::World(Box::new(World::load(model).unwrap()));
        let document = "Notes: Rosa lives in Rome. Rosa is a vet. Omar has a cat.";
        let task = Task { question: "Where does Rosa live?".into(), ..task(&[document], Metric::Verbatim) };
        let note = |text: &str| Note { agent: "x".into(), text: text.into() };

        let chain = wording.plan(Pipeline::Chain, &task, 3);
        assert_eq!(chain.direct, format!("{document}\nWhere does Rosa live?"));
        assert_eq!(chain.turns[0].behind_context, format!("{document}\nSummarise the notes."));
        assert_eq!(chain.turns[1].behind_context, "Summarise the notes.");
        let notes = [note("Summary: old."), note("Summary: new.")];
        assert_eq!((chain.turns[2].from_text)(&notes), "Summary: new.\nSummarise the notes.");
        assert_eq!((chain.turns[3].from_text)(&notes), "Summary: new.\nWhere does Rosa live?");

        let fan_out = wording.plan(Pipeline::FanOut, &task, 3);
        assert_eq!(fan_out.turns[1].behind_context, "Notes: Rosa is a vet.\nSummarise the notes.");
        assert_eq!((fan_out.turns[3].from_text)(&notes), "Summary: old. new.\nWhere does Rosa live?");
        assert_eq!(fan_out.turns[3].behind_context, "Where does Rosa live?");
    }
}
