//! How agents share their work.

use avp_runtime_ort::StepForm;
use serde::{Serialize, Serializer};

/// How the last agent learns what the others have read and computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// It does not: it gets its own prompt and nothing of the others. What it answers right, it knew or guessed.
    Nothing,
    /// There are no others: one agent reads and answers alone.
    Direct,
    /// It reads what the others have written.
    Text,
    /// It takes over their KV-cache, after each has run latent steps.
    Latent(Handed),
}

/// The state of a KV-cache that is handed over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Handed {
    /// Latent steps of each agent before the last.
    pub steps: usize,
    /// The form of the steps.
    pub form: StepForm,
    /// Whether the cache ends behind the turn that was read, so that the next agent goes on in the conversation. Else it ends in the
    /// assistant's opened turn, as in `avp`, and the next agent's prompt begins anew there.
    pub closed: bool,
}

impl Mode {
    /// A hand-over with this many steps in the peer's form, in the assistant's opened turn.
    pub const fn latent(steps: usize) -> Self {
        Self::Latent(Handed { steps, form: StepForm::Peer, closed: false })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Direct => "direct",
            Self::Text => "text",
            Self::Latent(_) => "latent",
        }
    }

    /// The name, the latent steps, and what differs from `avp`.
    pub(crate) fn label(self) -> String {
        let Self::Latent(Handed { steps, form, closed }) = self else { return self.name().to_owned() };
        let form = if steps == 0 || form == StepForm::Peer { String::new() } else { format!(", {form}") };
        format!("latent, {steps} steps{form}{}", if closed { ", closed" } else { "" })
    }

    pub(crate) fn steps(self) -> usize {
        match self {
            Self::Nothing | Self::Direct | Self::Text => 0,
            Self::Latent(handed) => handed.steps,
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
