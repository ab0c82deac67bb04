//! `avp`: every capability of the Agent Vector Protocol from a shell.

#[cfg(feature = "aacp")]
mod aacp;
mod bench;
mod calibrate;
mod context;
mod demo;
mod doctor;
mod encode;
mod generate;
mod identity;
mod inspect;
mod kv;
mod model;
mod output;
mod prepare;
mod prompt;
mod rosetta;
#[cfg(feature = "http")]
mod serve;
mod sign;
mod think;
#[cfg(feature = "http")]
mod token_file;
#[cfg(feature = "http")]
mod transfer;
mod units;
#[cfg(feature = "http")]
mod user_token;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The features that this program was built with.
const FEATURES: &[&str] = &[
    #[cfg(feature = "aacp")]
    "aacp",
    #[cfg(feature = "cuda")]
    "cuda",
    #[cfg(feature = "http")]
    "http",
    #[cfg(feature = "zstd-native")]
    "zstd-native",
];

/// Hand over what a language model has computed, not what it has said
#[derive(Parser)]
#[command(name = "avp", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Think(think::Think),
    Generate(generate::Generate),
    #[command(subcommand)]
    Context(context::ContextCommand),
    Prepare(prepare::Prepare),
    Calibrate(calibrate::Calibrate),
    Inspect(inspect::Inspect),
    Encode(encode::Encode),
    #[command(subcommand)]
    Hash(identity::Hash),
    Identity(identity::Identity),
    Handshake(identity::Handshake),
    Keygen(sign::Keygen),
    Sign(sign::Sign),
    Verify(sign::Verify),
    #[cfg(feature = "http")]
    Serve(serve::Serve),
    #[cfg(feature = "http")]
    Send(transfer::Send),
    #[cfg(feature = "http")]
    Fetch(transfer::Fetch),
    #[cfg(feature = "http")]
    Share(transfer::Share),
    #[cfg(feature = "http")]
    Ping(transfer::Ping),
    #[command(subcommand)]
    Kv(kv::Kv),
    #[cfg(feature = "aacp")]
    #[command(subcommand)]
    Aacp(aacp::Aacp),
    #[command(subcommand)]
    Rosetta(rosetta::RosettaCommand),
    Doctor(doctor::Doctor),
    Demo(demo::Demo),
    #[command(subcommand)]
    Bench(bench::Bench),
    #[command(hide = true)]
    Agent(demo::Agent),
}

/// Results go to standard output, errors to standard error.
fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Think(think) => think.run(),
        Command::Generate(generate) => generate.run(),
        Command::Context(context) => context.run(),
        Command::Prepare(prepare) => prepare.run(),
        Command::Calibrate(calibrate) => calibrate.run(),
        Command::Inspect(inspect) => return inspect.run(),
        #[cfg(feature = "aacp")]
        Command::Aacp(aacp) => return aacp.run(),
        Command::Encode(encode) => encode.run(),
        Command::Hash(hash) => hash.run(),
        Command::Identity(identity) => identity.run(),
        Command::Handshake(handshake) => handshake.run(),
        Command::Keygen(keygen) => keygen.run(),
        Command::Sign(sign) => sign.run(),
        Command::Verify(verify) => verify.run(),
        #[cfg(feature = "http")]
        Command::Serve(serve) => serve.run(),
        #[cfg(feature = "http")]
        Command::Send(send) => send.run(),
        #[cfg(feature = "http")]
        Command::Fetch(fetch) => fetch.run(),
        #[cfg(feature = "http")]
        Command::Share(share) => share.run(),
        #[cfg(feature = "http")]
        Command::Ping(ping) => ping.run(),
        Command::Kv(kv) => kv.run(),
        Command::Rosetta(rosetta) => return rosetta.run(),
        Command::Doctor(doctor) => return exit_code(doctor.run()),
        Command::Demo(demo) => demo.run(),
        Command::Bench(bench) => bench.run(),
        Command::Agent(agent) => agent.run(),
    };
    exit_code(done.map(|()| true))
}

/// Prints an error; a command that returns `Ok(false)` has already reported what it found.
pub(crate) fn exit_code(done: Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // A reader that has read enough, such as `head`, is not an error.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("avp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
