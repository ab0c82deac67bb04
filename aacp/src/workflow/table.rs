//! Tables of workflows.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Deserializer};

use super::{Call, Value, WorkflowError, template::Template};

/// A table of workflows.
#[derive(Clone, Debug, Default)]
pub struct Workflows {
    list: Vec<Workflow>,
}

/// A workflow: a group of calls.
#[derive(Clone, Debug)]
pub struct Workflow {
    name: String,
    encoder: String,
    about: String,
    calls: Vec<CallSpec>,
}

/// The specification of a call: its arguments and its packets.
#[derive(Clone, Debug)]
pub struct CallSpec {
    name: String,
    about: String,
    required: Vec<String>,
    pub(super) optional: BTreeMap<String, Value>,
    pub(super) makes: Makes,
}

#[derive(Clone, Debug)]
pub(super) enum Makes {
    /// One packet.
    Packet(Template),
    /// The packets of other calls of the workflow, each with the arguments that it has.
    Steps(Vec<usize>),
}

impl Workflows {
    /// The standard table. Parsing it takes tens of microseconds, so keep the result.
    pub fn standard() -> Self {
        Self::from_json(Self::STANDARD).expect("the table is part of this crate, and a test reads it")
    }

    /// Parses a table.
    ///
    /// # Errors
    /// [`WorkflowError::Table`], [`WorkflowError::Template`] or [`WorkflowError::Step`].
    pub fn from_json(text: &str) -> Result<Self, WorkflowError> {
        let table: TableText = serde_json::from_str(text)
            .map_err(|error| WorkflowError::Table { line: error.line(), column: error.column() })?;
        Self::from_sources(table.workflows)
    }

    /// A table from parsed parts.
    ///
    /// # Errors
    /// [`WorkflowError::Template`] or [`WorkflowError::Step`].
    pub fn from_sources(workflows: impl IntoIterator<Item = WorkflowSource>) -> Result<Self, WorkflowError> {
        let workflows = workflows.into_iter().enumerate();
        Ok(Self { list: workflows.map(|(n, workflow)| workflow.compile(n)).collect::<Result<_, _>>()? })
    }

    /// The standard table as JSON.
    pub const STANDARD: &str = include_str!("../../workflows/standard.json");

    /// Reads a table from a file. Available with the feature `std`.
    ///
    /// # Errors
    /// [`WorkflowError::File`], and those of [`Workflows::from_json`].
    #[cfg(feature = "std")]
    pub fn from_file(path: impl AsRef<std::path::Path>) -> Result<Self, WorkflowError> {
        let text = std::fs::read_to_string(path).map_err(|error| WorkflowError::File(error.kind()))?;
        Self::from_json(&text)
    }

    /// Adds the workflows of another table, which replace those with equal names.
    pub fn with(mut self, other: Workflows) -> Self {
        self.list.splice(0..0, other.list);
        self
    }

    /// The workflows.
    pub fn iter(&self) -> impl Iterator<Item = &Workflow> {
        self.list.iter()
    }

    /// A call, by the name of its workflow (`payroll`) or of the Python class (`PayrollEncoder`), and its own name.
    ///
    /// # Errors
    /// [`WorkflowError::UnknownWorkflow`] or [`WorkflowError::UnknownCall`].
    pub fn call(&self, workflow: &str, call: &str) -> Result<Call<'_>, WorkflowError> {
        let workflow = self
            .list
            .iter()
            .find(|one| one.name == workflow || one.encoder == workflow)
            .ok_or(WorkflowError::UnknownWorkflow)?;
        let spec = workflow.calls.iter().find(|one| one.name == call).ok_or(WorkflowError::UnknownCall)?;
        Ok(Call::new(workflow, spec))
    }
}

impl Workflow {
    /// The name, such as `payroll`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the corresponding Python class, such as `PayrollEncoder`; may be empty.
    pub fn encoder(&self) -> &str {
        &self.encoder
    }

    /// A description.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The calls.
    pub fn calls(&self) -> &[CallSpec] {
        &self.calls
    }
}

impl CallSpec {
    /// The name, such as `fetch_employees`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A description.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The names of the required arguments.
    pub fn required(&self) -> &[String] {
        &self.required
    }

    /// The names and defaults of the optional arguments.
    pub fn optional(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.optional.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether the call has this argument.
    pub fn takes(&self, name: &str) -> bool {
        self.optional.contains_key(name) || self.required.iter().any(|required| required == name)
    }
}

/// The JSON of a table.
#[derive(Deserialize)]
struct TableText {
    workflows: Vec<WorkflowSource>,
}

/// The JSON of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct WorkflowSource {
    /// See [`Workflow::name`].
    pub name: String,
    /// See [`Workflow::encoder`].
    #[serde(default)]
    pub encoder: String,
    /// See [`Workflow::about`].
    #[serde(default)]
    pub about: String,
    /// The calls.
    pub calls: Vec<CallSource>,
}

/// The JSON of a call: with a template or steps, not both.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct CallSource {
    /// See [`CallSpec::name`].
    pub name: String,
    /// See [`CallSpec::about`].
    #[serde(default)]
    pub about: String,
    /// See [`CallSpec::required`].
    #[serde(default)]
    pub required: Vec<String>,
    /// See [`CallSpec::optional`]; `None` for a value that an argument cannot have.
    #[serde(default, deserialize_with = "values")]
    pub optional: BTreeMap<String, Option<Value>>,
    /// The template of a call with one packet.
    pub packet: Option<String>,
    /// The names of the calls that are the steps of this call.
    pub steps: Option<Vec<String>>,
}

fn values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Option<Value>>, D::Error> {
    let values = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|(name, value)| (name, Value::from_json(&value))).collect())
}

impl WorkflowSource {
    fn compile(self, workflow: usize) -> Result<Workflow, WorkflowError> {
        let names: Vec<(String, bool)> =
            self.calls.iter().map(|call| (call.name.clone(), call.packet.is_some())).collect();
        let calls = self.calls.into_iter().enumerate();
        let calls = calls.map(|(n, call)| call.compile(workflow, n, &names)).collect::<Result<_, _>>()?;
        Ok(Workflow { name: self.name, encoder: self.encoder, about: self.about, calls })
    }
}

impl CallSource {
    /// `names` are the names of the workflow's calls, each with whether it has a template.
    fn compile(
        self,
        workflow: usize,
        call: usize,
        names: &[(String, bool)],
    ) -> Result<CallSpec, WorkflowError> {
        let malformed = |at| WorkflowError::Template { workflow, call, at };
        let optional = self.optional.into_iter().map(|(name, value)| Some((name, value?)));
        let optional = optional.collect::<Option<BTreeMap<_, _>>>().ok_or(malformed(0))?;
        let makes = match (self.packet, self.steps) {
            (Some(text), None) => {
                let template = Template::parse(&text).map_err(malformed)?;
                let known =
                    |name: &str| optional.contains_key(name) || self.required.iter().any(|own| own == name);
                if let Some(name) = template.names().find(|name| !known(name)) {
                    return Err(malformed(text.find(&["{", name].concat()).unwrap_or(0)));
                }
                Makes::Packet(template)
            }
            (None, Some(steps)) => {
                let index = |(step, name): (usize, String)| {
                    let found = names.iter().position(|(own, is_packet)| *is_packet && *own == name);
                    found.ok_or(WorkflowError::Step { workflow, call, step })
                };
                Makes::Steps(steps.into_iter().enumerate().map(index).collect::<Result<_, _>>()?)
            }
            _ => return Err(malformed(0)),
        };
        Ok(CallSpec { name: self.name, about: self.about, required: self.required, optional, makes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_table_is_well_formed() {
        let calls = Workflows::standard().list.iter().map(|workflow| workflow.calls.len()).sum::<usize>();
        assert_eq!((Workflows::standard().list.len(), calls), (9, 50));
    }

    #[test]
    fn a_bad_table_says_where() {
        let table = |call: &str| {
            Workflows::from_json(&alloc::format!("{{\"workflows\":[{{\"name\":\"w\",\"calls\":[{call}]}}]}}"))
        };
        assert_eq!(Workflows::from_json("{").unwrap_err(), WorkflowError::Table { line: 1, column: 1 });
        let template = |at| WorkflowError::Template { workflow: 0, call: 0, at };
        assert_eq!(table("{\"name\":\"c\"}").unwrap_err(), template(0));
        assert_eq!(table("{\"name\":\"c\",\"packet\":\"A|B|k:{x\"}").unwrap_err(), template(6));
        assert_eq!(
            table("{\"name\":\"c\",\"packet\":\"A|B|k:{x}\"}").unwrap_err(),
            template(6),
            "x is no argument"
        );
        let step = WorkflowError::Step { workflow: 0, call: 0, step: 0 };
        assert_eq!(
            table("{\"name\":\"c\",\"steps\":[\"c\"]}").unwrap_err(),
            step,
            "no call of steps within steps"
        );
    }
}
