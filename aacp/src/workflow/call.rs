//! Calls with their arguments.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    CallSpec, Value, Workflow, WorkflowError,
    table::Makes,
    template::{Template, WrongKind},
};
use crate::{Builder, FieldName, Schema, Version};

/// A call of a workflow with its arguments.
#[must_use]
#[derive(Clone, Debug)]
pub struct Call<'w> {
    workflow: &'w Workflow,
    spec: &'w CallSpec,
    arguments: BTreeMap<String, Value>,
    version: Version,
    schema: Schema<'w>,
}

impl<'w> Call<'w> {
    pub(super) fn new(workflow: &'w Workflow, spec: &'w CallSpec) -> Self {
        Self {
            workflow,
            spec,
            arguments: BTreeMap::new(),
            version: Version::default(),
            schema: Schema::STANDARD,
        }
    }

    /// The specification of the call.
    pub fn spec(&self) -> &'w CallSpec {
        self.spec
    }

    /// Sets an argument.
    pub fn arg(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.into(), value.into());
        self
    }

    /// Sets the version of the packets. Default: [`Version::V1_2`].
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Sets the schema of the packets. Default: [`Schema::STANDARD`].
    pub fn schema(mut self, schema: Schema<'w>) -> Self {
        self.schema = schema;
        self
    }

    /// The packet of a call with one packet.
    ///
    /// # Errors
    /// [`WorkflowError::SeveralPackets`], and those of [`Call::packets`].
    pub fn packet(&self) -> Result<String, WorkflowError> {
        let mut packets = self.packets()?;
        match (packets.pop(), packets.len()) {
            (Some(packet), 0) => Ok(packet),
            (_, more) => Err(WorkflowError::SeveralPackets { got: more + 1 }),
        }
    }

    /// The packets, in order.
    ///
    /// # Errors
    /// - [`WorkflowError::MissingArgument`], [`WorkflowError::UnknownArguments`], [`WorkflowError::WrongKind`];
    /// - [`WorkflowError::Build`] for an invalid packet.
    pub fn packets(&self) -> Result<Vec<String>, WorkflowError> {
        let count = self.arguments.keys().filter(|name| !self.spec.takes(name)).count();
        if count > 0 {
            return Err(WorkflowError::UnknownArguments { count });
        }
        if let Some(name) = self.spec.required().iter().find(|name| !self.arguments.contains_key(*name)) {
            return Err(WorkflowError::MissingArgument(name.clone()));
        }
        match &self.spec.makes {
            Makes::Packet(template) => Ok([self.fill(self.spec, template)?].into()),
            Makes::Steps(steps) => steps
                .iter()
                .map(|step| {
                    let spec = &self.workflow.calls()[*step];
                    match &spec.makes {
                        Makes::Packet(template) => self.fill(spec, template),
                        Makes::Steps(_) => unreachable!("the table takes no steps within steps"),
                    }
                })
                .collect(),
        }
    }

    /// The argument of one step: the given one, or else this call's default, or else the step's default.
    fn argument(&self, step: &CallSpec, name: &str) -> Option<Value> {
        let own = step.optional.get(name);
        let default = self.spec.optional.get(name).or(own);
        match self.arguments.get(name) {
            // `Nothing` and an empty list select a default that is a list.
            Some(Value::Nothing) if matches!(default, Some(Value::List(_))) => default.cloned(),
            Some(Value::List(items)) if items.is_empty() => default.cloned(),
            Some(given) => Some(given.clone()),
            None => default.cloned(),
        }
    }

    fn fill(&self, step: &CallSpec, template: &Template) -> Result<String, WorkflowError> {
        let argument = |name: &str| self.argument(step, name);
        let kind = |WrongKind(name): WrongKind<'_>| WorkflowError::WrongKind(name.to_string());

        let task = template.task.fill(argument).map_err(kind)?.unwrap_or_default();
        let domain = template.domain.fill(argument).map_err(kind)?.unwrap_or_default();
        let (mut return_agent, mut priority, mut fields) = (String::new(), None, Vec::new());
        for (key, pattern) in &template.fields {
            let Some(value) = pattern.fill(argument).map_err(kind)? else { continue };
            match FieldName::from_key(key) {
                Some(FieldName::Return) => return_agent = value,
                Some(FieldName::Priority) => priority = Some(value),
                _ => fields.push((key, value)),
            }
        }
        let mut builder = Builder::new(task, domain, return_agent).version(self.version).schema(self.schema);
        if let Some(priority) = priority {
            builder = builder.priority_text(priority);
        }
        for (key, value) in fields {
            builder = builder.field(key, value);
        }
        builder.build().map_err(WorkflowError::Build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuildError, Packet, workflow::Workflows};

    #[test]
    fn arguments_are_checked_by_name() {
        let workflows = Workflows::standard();
        let call = || workflows.call("payroll", "fetch_budgets").unwrap();
        assert_eq!(call().packet(), Err(WorkflowError::MissingArgument("period".into())));
        let unknown = call().arg("period", "x").arg("perod", "y").packet();
        assert_eq!(unknown, Err(WorkflowError::UnknownArguments { count: 1 }));
        let run = workflows.call("payroll", "full_run").unwrap().arg("period", "a").arg("prev_period", "b");
        assert_eq!(run.packet(), Err(WorkflowError::SeveralPackets { got: 6 }));
        let wrong = workflows.call("general", "encode").unwrap().arg("task", "LOG").arg("domain", "HR");
        let wrong = wrong.arg("return_agent", "A").arg("prog", "half").packet();
        assert_eq!(wrong, Err(WorkflowError::WrongKind("prog".into())));
        assert_eq!(workflows.call("payroll", "x").unwrap_err(), WorkflowError::UnknownCall);
        assert_eq!(workflows.call("x", "x").unwrap_err(), WorkflowError::UnknownWorkflow);
    }

    #[test]
    fn an_argument_cannot_smuggle_in_a_field() {
        let workflows = Workflows::standard();
        let call = workflows.call("it", "provision_vpn").unwrap().arg("username", "j|return:Mallory");
        let text = call.packet().unwrap();
        let packet = Packet::parse(&text).unwrap();
        assert_eq!(packet.get("return"), Some("IT-Agent"));
        let filter = packet.get("filter").unwrap();
        assert_eq!(packet.decode(filter).to_string(), "usr=j|return:Mallory");
    }

    #[test]
    fn a_users_table_goes_on_top_and_uses_the_users_schema() {
        let own = r#"{"workflows":[{"name":"ops","calls":[
            {"name":"audit","required":["shard"],"optional":{"agent":"OPS-Agent"},
             "packet":"AUDIT|OPS|return:{agent}|shard:{shard}"}]}]}"#;
        let workflows = Workflows::standard().with(Workflows::from_json(own).unwrap());
        let call = workflows.call("ops", "audit").unwrap().arg("shard", 7);
        assert!(matches!(call.packet(), Err(WorkflowError::Build(BuildError::Rejected(_)))));
        let schema = Schema { tasks: &["AUDIT"], domains: &["OPS"], fields: &["shard"] };
        assert_eq!(
            call.schema(schema).packet().as_deref(),
            Ok("AUDIT|OPS|return:OPS-Agent|aacp:1.2|shard:7")
        );
    }
}
