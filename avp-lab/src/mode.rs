//! How agents share their work.

use serde::{Serialize, Serializer};

/// How the last agent learns what the others have read and computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// There are no others: one agent reads and answers alone.
    Direct,
    /// It reads what the others have written.
    Text,
    /// It takes over their KV-cache, after each has run this many latent steps.
    Latent {
        /// Latent steps of each agent before the last.
        steps: usize,
    },
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Text => "text",
            Self::Latent { .. } => "latent",
        }
    }

    /// The name and the latent steps.
    pub(crate) fn label(self) -> String {
        match self {
            Self::Latent { steps } => format!("latent, {steps} steps"),
            mode => mode.name().to_owned(),
        }
    }

    pub(crate) fn steps(self) -> usize {
        match self {
            Self::Direct | Self::Text => 0,
            Self::Latent { steps } => steps,
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
