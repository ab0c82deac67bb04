//! Packets for workflows, from a table of templates.
//!
//! ```
//! use aacp::workflow::Workflows;
//! let workflows = Workflows::standard();
//! let packet = workflows.call("payroll", "fetch_budgets")?.arg("period", "2024-08").packet()?;
//! assert!(packet.starts_with("FETCH|FIN|return:HR-Agent|p:1|aacp:1.2|res:budget_cc|period:2024-08"));
//! # Ok::<(), aacp::workflow::WorkflowError>(())
//! ```
//!
//! The standard table (`workflows/standard.json`) has the workflow encoders of the Python package: payroll, IT
//! provisioning, invoices, contracts, sales, joiner-mover-leaver, customer service, month end, and `general`, which builds
//! any packet from named parts. Tables of a user have the same format, described in `docs/aacp.md`, and are read with
//! [`Workflows::from_json`].
//!
//! DIFFERENCE: arguments with `|`, control characters or blanks at an end are percent-encoded; the Python package writes
//! them unchanged.

mod call;
mod table;
mod template;
mod typed;
mod value;

pub use call::Call;
pub use table::{CallSource, CallSpec, Workflow, WorkflowSource, Workflows};
pub use typed::{
    Contract, CustomerService, InformationTechnology, Invoice, JoinerMoverLeaver, MonthEnd, Payroll, Sales,
};
pub use value::Value;

use core::{error::Error, fmt};

use crate::BuildError;

/// A table that cannot be read, or a call that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkflowError {
    /// The table does not have the format.
    Table {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// The table's file cannot be read.
    #[cfg(feature = "std")]
    File(std::io::ErrorKind),
    /// A template is malformed, or a call has neither or both of `packet` and `steps`.
    Template {
        /// Index of the workflow in the table, from 0.
        workflow: usize,
        /// Index of the call in the workflow, from 0.
        call: usize,
        /// Offset in the template, in bytes.
        at: usize,
    },
    /// A step is not the name of a call with a template in the same workflow.
    Step {
        /// Index of the workflow in the table, from 0.
        workflow: usize,
        /// Index of the call in the workflow, from 0.
        call: usize,
        /// Index of the step in the call, from 0.
        step: usize,
    },
    /// The table has no workflow with this name.
    UnknownWorkflow,
    /// The workflow has no call with this name.
    UnknownCall,
    /// This argument is missing.
    MissingArgument(alloc::string::String),
    /// The call does not have some of the given arguments.
    UnknownArguments {
        /// Number of unknown arguments.
        count: usize,
    },
    /// This argument has the wrong type for the template.
    WrongKind(alloc::string::String),
    /// [`Call::packet`] was called on a call with several packets.
    SeveralPackets {
        /// Number of packets of the call.
        got: usize,
    },
    /// The packet cannot be built.
    Build(BuildError),
}

impl WorkflowError {
    /// A stable name for programs to match on, such as `"missing_argument"`; for [`WorkflowError::Build`] that of its
    /// [`BuildError`].
    pub const fn kind(&self) -> &'static str {
        match self {
            WorkflowError::Table { .. } => "bad_table",
            #[cfg(feature = "std")]
            WorkflowError::File(_) => "unreadable_file",
            WorkflowError::Template { .. } => "bad_template",
            WorkflowError::Step { .. } => "bad_step",
            WorkflowError::UnknownWorkflow => "unknown_workflow",
            WorkflowError::UnknownCall => "unknown_call",
            WorkflowError::MissingArgument(_) => "missing_argument",
            WorkflowError::UnknownArguments { .. } => "unknown_arguments",
            WorkflowError::WrongKind(_) => "wrong_kind",
            WorkflowError::SeveralPackets { .. } => "several_packets",
            WorkflowError::Build(error) => error.kind(),
        }
    }
}

impl fmt::Display for WorkflowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkflowError::Table { line, column } => {
                write!(f, "not a table of workflows: line {line}, column {column}")
            }
            #[cfg(feature = "std")]
            WorkflowError::File(kind) => write!(f, "cannot read the table of workflows: {kind}"),
            WorkflowError::Template { workflow, call, at } => {
                write!(f, "workflow {workflow}, call {call}: malformed template at byte {at}")
            }
            WorkflowError::Step { workflow, call, step } => {
                write!(
                    f,
                    "workflow {workflow}, call {call}: step {step} is not the name of a call with a template"
                )
            }
            WorkflowError::UnknownWorkflow => f.write_str("unknown workflow"),
            WorkflowError::UnknownCall => f.write_str("unknown call of the workflow"),
            WorkflowError::MissingArgument(name) => write!(f, "missing argument `{name}`"),
            WorkflowError::UnknownArguments { count } => {
                write!(f, "the call does not have {count} of the arguments")
            }
            WorkflowError::WrongKind(name) => {
                write!(f, "the argument `{name}` has the wrong type")
            }
            WorkflowError::SeveralPackets { got } => {
                write!(f, "expected a call with one packet, got one with {got}")
            }
            WorkflowError::Build(error) => write!(f, "cannot build the packet: {error}"),
        }
    }
}

impl Error for WorkflowError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            WorkflowError::Build(error) => Some(error),
            _ => None,
        }
    }
}
