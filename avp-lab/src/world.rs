//! Documents and questions for the embedded model, in the wording of its training.
//!
//! Every wording and number comes from the `world.json` in the model folder; `models/README.md` describes the file.
//! Documents consist only of pairs that are in no training document.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, Result, bail};
use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};
use serde::Deserialize;

/// People, facts and wordings.
#[derive(Deserialize)]
pub(crate) struct World {
    names: Vec<String>,
    towns: Vec<String>,
    jobs: Vec<String>,
    pets: Vec<String>,
    people_per_document: [usize; 2],
    document: DocumentForm,
    summary: SummaryForm,
    questions: Questions,
    prompts: Prompts,
    held_out: HeldOut,
}

/// A question about a document, and the only right answer.
pub(crate) struct Task {
    pub(crate) document: String,
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) hops: Hops,
}

/// Number of facts that an answer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hops {
    One,
    Two,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Name,
    Town,
    Job,
    Pet,
}

#[derive(Deserialize)]
struct DocumentForm {
    prefix: String,
    sentences: HashMap<Kind, String>,
    separator: String,
    fact_order: Vec<Kind>,
    shuffled_share: f64,
}

#[derive(Deserialize)]
struct SummaryForm {
    request: String,
    prefix: String,
}

#[derive(Deserialize)]
struct Questions {
    one_hop: Vec<QuestionForm>,
    two_hop: Vec<QuestionForm>,
}

#[derive(Deserialize)]
struct QuestionForm {
    text: String,
    answer: String,
}

#[derive(Deserialize)]
struct Prompts {
    direct: String,
    summarise: String,
    from_summary: String,
    think: String,
    from_context: String,
}

#[derive(Deserialize)]
struct HeldOut {
    name_factor: usize,
    value_factor: usize,
    modulus: usize,
    remainder: usize,
}

type Person<'w> = HashMap<Kind, &'w str>;

impl World {
    /// Reads `world.json` of a model folder.
    pub(crate) fn load(model: &Path) -> Result<Self> {
        let path = model.join("world.json");
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}, which holds the questions of the embedded model", path.display())
        })?;
        let world: Self = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let [fewest, most] = world.people_per_document;
        if world.held_out.modulus == 0 || fewest == 0 || fewest > most || most > world.names.len() {
            bail!("{}: people_per_document or held_out is impossible", path.display());
        }
        Ok(world)
    }

    /// Draws a document and a question about it.
    pub(crate) fn task(&self, rng: &mut impl Rng, hops: Hops) -> Result<Task> {
        let people = self.people(rng)?;
        let document = self.document_of(&people, rng);
        let forms = match hops {
            Hops::One => &self.questions.one_hop,
            Hops::Two => &self.questions.two_hop,
        };
        let (Some(form), Some(person)) = (forms.choose(rng), people.choose(rng)) else {
            bail!("world.json has no questions of this kind");
        };
        Ok(Task { document, question: fill(&form.text, person), answer: fill(&form.answer, person), hops })
    }

    /// Whether a model folder has a `world.json`.
    pub(crate) fn is_in(model: &Path) -> bool {
        model.join("world.json").is_file()
    }

    /// Splits the sentences of a document into `count` documents of consecutive sentences, without empty ones.
    pub(crate) fn parts(&self, document: &str, count: usize) -> Vec<String> {
        let form = &self.document;
        let facts = document.strip_prefix(&form.prefix).unwrap_or(document);
        let sentences: Vec<&str> =
            facts.split_inclusive('.').map(str::trim).filter(|sentence| !sentence.is_empty()).collect();
        sentences
            .chunks(sentences.len().div_ceil(count.max(1)).max(1))
            .map(|part| {
                let parts: Vec<&str> =
                    [form.prefix.as_str()].into_iter().chain(part.iter().copied()).collect();
                parts.join(&form.separator)
            })
            .collect()
    }

    /// Joins summaries of several documents.
    pub(crate) fn merged<'s>(&self, summaries: impl Iterator<Item = &'s str>) -> String {
        let bare = summaries.map(|text| text.trim().trim_start_matches(&self.summary.prefix).trim());
        let parts: Vec<&str> = [self.summary.prefix.as_str()].into_iter().chain(bare).collect();
        parts.join(&self.document.separator)
    }

    /// The request for a summary, for an agent that has the document in its context.
    pub(crate) fn summary_request(&self) -> &str {
        &self.summary.request
    }

    /// The prompt of an agent that reads document and question itself.
    pub(crate) fn direct_prompt(&self, task: &Task) -> String {
        replace(&self.prompts.direct, &[("document", &task.document), ("question", &task.question)])
    }

    /// Asks agent A for a summary.
    pub(crate) fn summarise_prompt(&self, task: &Task) -> String {
        replace(&self.prompts.summarise, &[("document", &task.document), ("request", &self.summary.request)])
    }

    /// Asks agent B about A's summary.
    pub(crate) fn summary_prompt(&self, task: &Task, summary: &str) -> String {
        replace(&self.prompts.from_summary, &[("summary", summary), ("question", &task.question)])
    }

    /// The prompt of agent A before it hands its KV-cache over.
    pub(crate) fn think_prompt(&self, task: &Task) -> String {
        replace(&self.prompts.think, &[("document", &task.document), ("request", &self.summary.request)])
    }

    /// The prompt of agent B after A's KV-cache.
    pub(crate) fn context_prompt(&self, task: &Task) -> String {
        replace(&self.prompts.from_context, &[("question", &task.question)])
    }

    fn values(&self, kind: Kind) -> &[String] {
        match kind {
            Kind::Name => &self.names,
            Kind::Town => &self.towns,
            Kind::Job => &self.jobs,
            Kind::Pet => &self.pets,
        }
    }

    /// Values of a kind that no training document gives to the name at `name_index`.
    fn held_out_values(&self, name_index: usize, kind: Kind) -> impl Iterator<Item = &str> {
        let HeldOut { name_factor, value_factor, modulus, remainder } = self.held_out;
        let values = self.values(kind).iter().enumerate();
        values
            .filter(move |(index, _)| {
                (name_factor * name_index + value_factor * index) % modulus == remainder
            })
            .map(|(_, value)| value.as_str())
    }

    /// People with distinct names and values. A name has few held-out values, so a draw can fail and is then repeated.
    fn people(&self, rng: &mut impl Rng) -> Result<Vec<Person<'_>>> {
        const MAX_DRAWS: usize = 1000;
        let [fewest, most] = self.people_per_document;
        let count = fewest + below(rng, most - fewest + 1);
        let mut indices: Vec<usize> = (0..self.names.len()).collect();
        for _ in 0..MAX_DRAWS {
            let mut people: Vec<Person<'_>> = Vec::with_capacity(count);
            for &name_index in &*indices.partial_shuffle(rng, count).0 {
                let mut person = Person::from([(Kind::Name, self.names[name_index].as_str())]);
                for &kind in &self.document.fact_order {
                    let taken = |value: &&str| people.iter().any(|other| other.get(&kind) == Some(value));
                    let free: Vec<&str> =
                        self.held_out_values(name_index, kind).filter(|value| !taken(value)).collect();
                    if let Some(value) = free.choose(rng) {
                        person.insert(kind, value);
                    }
                }
                people.push(person);
            }
            if people.iter().all(|person| person.len() == self.document.fact_order.len() + 1) {
                return Ok(people);
            }
        }
        bail!("world.json leaves too few held-out values to make a document");
    }

    fn document_of(&self, people: &[Person<'_>], rng: &mut impl Rng) -> String {
        let form = &self.document;
        let mut sentences: Vec<String> = people
            .iter()
            .flat_map(|person| form.fact_order.iter().map(move |kind| (person, kind)))
            .filter_map(|(person, kind)| Some(fill(form.sentences.get(kind)?, person)))
            .collect();
        if f64::from(rng.next_u32()) < form.shuffled_share * f64::from(u32::MAX) {
            sentences.shuffle(rng);
        }
        sentences.insert(0, form.prefix.clone());
        sentences.join(&form.separator)
    }
}

/// Fills `{name}`, `{town}`, `{job}` and `{pet}` from a person.
fn fill(template: &str, person: &Person<'_>) -> String {
    let fields = [("name", Kind::Name), ("town", Kind::Town), ("job", Kind::Job), ("pet", Kind::Pet)];
    let pairs: Vec<(&str, &str)> =
        fields.iter().filter_map(|(field, kind)| Some((*field, *person.get(kind)?))).collect();
    replace(template, &pairs)
}

/// Replaces each `{field}` once, left to right, so that a value with braces in it stays as it is.
fn replace(template: &str, fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        text.push_str(before);
        let field = behind.split_once('}');
        let value = field.and_then(|(name, _)| fields.iter().find(|(known, _)| *known == name));
        match (field, value) {
            (Some((_, after)), Some((_, value))) => {
                text.push_str(value);
                rest = after;
            }
            _ => {
                text.push('{');
                rest = behind;
            }
        }
    }
    text + rest
}

fn below(rng: &mut impl Rng, limit: usize) -> usize {
    (rng.next_u64() % limit as u64) as usize
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::ChaCha8Rng};

    use super::*;

    fn world() -> World {
        World::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/facts"))).unwrap()
    }

    #[test]
    fn documents_hold_only_pairs_that_training_never_saw() {
        let world = world();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let rule = &world.held_out;
        for _ in 0..200 {
            for person in world.people(&mut rng).unwrap() {
                let index_of =
                    |kind: Kind| world.values(kind).iter().position(|value| value == person[&kind]).unwrap();
                for kind in [Kind::Town, Kind::Job, Kind::Pet] {
                    let score = rule.name_factor * index_of(Kind::Name) + rule.value_factor * index_of(kind);
                    assert_eq!(score % rule.modulus, rule.remainder);
                }
            }
        }
    }

    #[test]
    fn every_question_has_one_answer_in_its_document() {
        let world = world();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..200 {
            let people = world.people(&mut rng).unwrap();
            for kind in [Kind::Name, Kind::Town, Kind::Job, Kind::Pet] {
                let mut values: Vec<&str> = people.iter().map(|person| person[&kind]).collect();
                values.sort_unstable();
                values.dedup();
                assert_eq!(values.len(), people.len());
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_tasks() {
        let world = world();
        let draw = || {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let task = world.task(&mut rng, Hops::Two).unwrap();
            (world.direct_prompt(&task), task.answer)
        };
        assert_eq!(draw(), draw());
    }

    #[test]
    fn the_parts_of_a_document_are_complete_and_their_summaries_join() {
        let world = world();
        let document = "Notes: Rosa lives in Lisbon. Rosa is a pilot. Rosa has a cat. Omar lives in Rome.";
        let parts = world.parts(document, 3);
        assert_eq!(
            parts,
            ["Notes: Rosa lives in Lisbon. Rosa is a pilot.", "Notes: Rosa has a cat. Omar lives in Rome."]
        );
        assert_eq!(world.parts(document, 1), [document]);
        assert_eq!(world.parts(document, 9).len(), 4);
        assert_eq!(world.merged(["Summary: A.", " B.\n"].into_iter()), "Summary: A. B.");
    }

    #[test]
    fn values_with_braces_are_not_filled_again() {
        assert_eq!(replace("{a} and {b} {c}", &[("a", "{b}"), ("b", "x")]), "{b} and x {c}");
    }
}
