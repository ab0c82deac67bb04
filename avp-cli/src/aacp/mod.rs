//! `avp aacp`: validates, explains, builds and encodes packets, and counts their tokens.

mod build;
mod check;
mod encode;
mod onnx;
mod rules;
mod tokens;

use std::process::ExitCode;

use clap::Subcommand;

/// Work with AACP packets
#[derive(Subcommand)]
pub(crate) enum Aacp {
    Validate(check::Validate),
    Parse(check::Parse),
    Explain(check::Explain),
    Build(build::Build),
    Encode(encode::Encode),
    Rules(rules::Rules),
    Tokens(tokens::Tokens),
}

impl Aacp {
    /// Fails if any packet is invalid; the others are still printed.
    pub(crate) fn run(&self) -> ExitCode {
        let all_valid = match self {
            Self::Validate(validate) => validate.run(),
            Self::Parse(parse) => parse.run(),
            Self::Explain(explain) => explain.run(),
            Self::Build(build) => build.run().map(|()| true),
            Self::Encode(encode) => encode.run().map(|()| true),
            Self::Rules(rules) => rules.run().map(|()| true),
            Self::Tokens(tokens) => tokens.run().map(|()| true),
        };
        crate::exit_code(all_valid)
    }
}
