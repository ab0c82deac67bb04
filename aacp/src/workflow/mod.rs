//! Packets for known workflows, from a table of templates.
//!
//! ```
//! use aacp::workflow::Workflows;
//! let workflows = Workflows::standard();
//! let packet = workflows.call("payroll", "fetch_budgets")?.arg("period", "2024-08").packet()?;
//! assert!(packet.starts_with("FETCH|FIN|return:HR-Agent|p:1|aacp:1.2|res:budget_cc|period:2024-08"));
//! # Ok::<(), aacp::workflow::WorkflowError>(())
//! ```
//!
//! The table (`workflows/standard.json`) holds the workflow encoders that the Python package has: payroll, IT
//! provisioning, invoices, contracts, sales, joiner-mover-leaver, customer service, month end, and `general`, which makes
//! any packet from named parts. A user's own table has the same form and is read with [`Workflows::from_json`]; the
//! form is described in `docs/aacp.md`.
//!
//! DIFFERENCE: arguments that would break a packet apart (`|`, a newline) or that a reader would lose (blanks at an end)
//! are percent-encoded; the Python package writes them as they are.

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

/// Why a table cannot be read, or a call not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkflowError {
    /// The table is not JSON of the right form.
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
        /// Number of the workflow in the table, from 0.
        workflow: usize,
        /// Number of the call in the workflow, from 0.
        call: usize,
        /// Where in the template, in bytes.
        at: usize,
    },
    /// A step names no call of its workflow that has a template.
    Step {
        /// Number of the workflow in the table, from 0.
        workflow: usize,
        /// Number of the call in the workflow, from 0.
        call: usize,
        /// Number of the step in the call, from 0.
        step: usize,
    },
    /// No workflow of this name.
    UnknownWorkflow,
    /// The workflow has no call of this name.
    UnknownCall,
    /// The call needs this argument.
    MissingArgument(alloc::string::String),
    /// The call takes no argument of this name; `count` of those given are unknown.
    UnknownArguments {
        /// How many.
        count: usize,
    },
    /// This argument is not of the kind that the template needs.
    WrongKind(alloc::string::String),
    /// [`Call::packet`] on a call of several steps.
    SeveralPackets {
        /// How many packets the call makes.
        got: usize,
    },
    /// The packet cannot be built.
    Build(BuildError),
}

impl WorkflowError {
    /// A stable name for programs to match on, such as `"missing_argument"`; for [`WorkflowError::Build`] that of what
    /// is wrong with the packet.
    pub const fn code(&self) -> &'static str {
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
            WorkflowError::Build(error) => error.code(),
        }
    }
}

impl fmt::Display for WorkflowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkflowError::Table { line, column } => {
                write!(f, "expected a table of workflows, but line {line}, column {column} is none")
            }
            #[cfg(feature = "std")]
            WorkflowError::File(kind) => write!(f, "the table's file cannot be read: {kind}"),
            WorkflowError::Template { workflow, call, at } => {
                write!(f, "the template of workflow {workflow}, call {call} is malformed at byte {at}")
            }
            WorkflowError::Step { workflow, call, step } => {
                write!(f, "step {step} of workflow {workflow}, call {call} names no call with a template")
            }
            WorkflowError::UnknownWorkflow => f.write_str("no workflow of this name"),
            WorkflowError::UnknownCall => f.write_str("the workflow has no call of this name"),
            WorkflowError::MissingArgument(name) => write!(f, "the call needs the argument `{name}`"),
            WorkflowError::UnknownArguments { count } => {
                write!(f, "{count} of the arguments are unknown to the call")
            }
            WorkflowError::WrongKind(name) => {
                write!(f, "the argument `{name}` is not of the kind that the call needs")
            }
            WorkflowError::SeveralPackets { got } => {
                write!(f, "expected a call of one packet, but this one makes {got}")
            }
            WorkflowError::Build(error) => write!(f, "the packet cannot be built: {error}"),
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
