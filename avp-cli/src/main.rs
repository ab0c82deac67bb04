//! `avp`: every capability of the Agent Vector Protocol from a shell.

mod aacp;
mod agent;
mod bench;
mod context;
mod demo;
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
mod serve;
mod think;
mod transfer;
mod units;
mod world;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// Hand over what a language model has computed, not what it has said.
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
    Context(context::Saved),
    Prepare(prepare::Prepare),
    Inspect(inspect::Inspect),
    Encode(encode::Encode),
    #[command(subcommand)]
    Hash(identity::Hash),
    Identity(identity::Identity),
    Handshake(identity::Handshake),
    Serve(serve::Serve),
    Send(transfer::Send),
    Fetch(transfer::Fetch),
    Ping(transfer::Ping),
    #[command(subcommand)]
    Kv(kv::Kv),
    #[command(subcommand)]
    Aacp(aacp::Aacp),
    #[command(subcommand)]
    Rosetta(rosetta::RosettaCommand),
    Demo(demo::Demo),
    #[command(subcommand)]
    Bench(bench::Bench),
    #[command(hide = true)]
    Agent(AgentProcess),
}

/// Answer the demo's requests on standard input.
#[derive(Args)]
struct AgentProcess {
    #[command(flatten)]
    model: model::ModelArgs,
    /// Name to sign frames with
    #[arg(long, default_value = "agent")]
    name: String,
}

impl AgentProcess {
    fn run(&self) -> Result<()> {
        let runtime = self.model.runtime()?;
        agent::serve(&runtime, &self.model.load(&runtime)?, &self.name)
    }
}

/// Every command says what went wrong on standard error; what it was asked for goes to standard output.
fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Think(think) => think.run(),
        Command::Generate(generate) => generate.run(),
        Command::Context(context) => context.run(),
        Command::Prepare(prepare) => prepare.run(),
        Command::Inspect(inspect) => return inspect.run(),
        Command::Aacp(aacp) => return aacp.run(),
        Command::Encode(encode) => encode.run(),
        Command::Hash(hash) => hash.run(),
        Command::Identity(identity) => identity.run(),
        Command::Handshake(handshake) => handshake.run(),
        Command::Serve(serve) => serve.run(),
        Command::Send(send) => send.run(),
        Command::Fetch(fetch) => fetch.run(),
        Command::Ping(ping) => ping.run(),
        Command::Kv(kv) => kv.run(),
        Command::Rosetta(rosetta) => return rosetta.run(),
        Command::Demo(demo) => demo.run(),
        Command::Bench(bench) => bench.run(),
        Command::Agent(agent) => agent.run(),
    };
    exit_code(done.map(|()| true))
}

/// Says what went wrong; a run that finished and found something wrong, `Ok(false)`, has said so itself.
pub(crate) fn exit_code(done: Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // A reader that has seen enough, such as `head`, is no failure of ours.
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
