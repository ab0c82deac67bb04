//! `avp generate`: answers a prompt, behind the context in a frame where one is given.

use std::{
    borrow::Cow,
    io::{IsTerminal, Write, stdout},
    ops::ControlFlow,
    time::Duration,
};

use anyhow::Result;
use avp_runtime_ort::{Context, DebugConfig, GenerateOptions, Generation, Model, Prompt};
use clap::Args;

use crate::{
    ModelArgs,
    output::{Input, Output},
    prompt::PromptArgs,
    think::{read_context, report_structural_match, seconds, write_metrics},
};

/// Answer a prompt, continuing from a received KV-cache where one is given
///
/// The answer alone goes to standard output, piece by piece.
#[derive(Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    /// A frame with the KV-cache to continue from; `-` for standard input
    #[arg(long, value_name = "FRAME")]
    context: Option<Input>,
    /// Read the prompt from its first token on, taking from the context what both begin with, instead of behind it
    #[arg(long, requires = "context")]
    reuse: bool,
    #[command(flatten)]
    sampling: Sampling,
    /// Print one JSON object with the text, its tokens, why it ended, tokens counted and times, when all is there
    #[arg(long)]
    json: bool,
    /// Write how long it took and how healthy it looks as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    metrics: Option<Output>,
    /// Answer once more without the context, and count the words both answers share
    #[arg(long, requires = "metrics")]
    compare: bool,
}

/// How tokens are chosen, and what ends the answer.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
struct Sampling {
    /// Tokens to generate at most
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: usize,
    /// 0 takes the likeliest token each time; more draws, the flatter the higher
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw only from the K likeliest tokens; 0 takes all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw only from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,
    /// Draw only from tokens at least this fraction as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,
    /// Above 1 makes tokens of prompt and answer less likely, below 1 more
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,
    /// Taken from a token's logit for each time it is in the answer, -2 to 2
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Taken from the logit of each token that is in the answer, -2 to 2
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Added to a token's logit; -inf forbids it. May be given several times
    #[arg(long, value_name = "ID=BIAS", value_parser = bias)]
    logit_bias: Vec<(u32, f32)>,
    /// End the answer before this text. May be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// End the answer before this token. May be given several times
    #[arg(long, value_name = "ID")]
    stop_token: Vec<u32>,
    /// Go on where the model would end its turn
    #[arg(long)]
    ignore_end_of_turn: bool,
    /// Seed of the draw
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Give up after so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

impl Generate {
    pub(crate) fn run(&self) -> Result<()> {
        let prompt = self.prompt.read(self.context.as_ref())?;
        let runtime = self.model.runtime()?;
        let context = self.context.as_ref().map(|input| read_context(&runtime, input)).transpose()?;
        let model = self.model.load(&runtime)?;
        report_structural_match(&model, context.as_ref())?;
        let options = GenerateOptions { reuse_prefix: self.reuse, ..self.sampling.options() };
        match &self.metrics {
            Some(file) => {
                let debug = DebugConfig { compare: self.compare };
                let (answer, metrics) =
                    model.generate_measured(prompt, 0, context.as_ref(), &options, Some(debug))?;
                self.print(&answer)?;
                write_metrics(file, &metrics)
            }
            None if self.json => self.print(&model.generate(prompt, context.as_ref(), &options)?),
            None => stream(&model, prompt, context.as_ref(), &options),
        }
    }

    fn print(&self, answer: &Generation) -> Result<()> {
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(answer)?)?;
        } else {
            writeln!(out, "{}", shown(&answer.text, out.is_terminal()))?;
        }
        Ok(())
    }
}

impl Sampling {
    fn options(&self) -> GenerateOptions {
        GenerateOptions {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            logit_bias: self.logit_bias.iter().copied().collect(),
            stop: self.stop.clone(),
            stop_tokens: self.stop_token.clone(),
            ignore_end_of_turn: self.ignore_end_of_turn,
            seed: self.seed,
            timeout: self.timeout,
            ..GenerateOptions::default()
        }
    }
}

/// Prints each piece as it comes; a reader that goes away ends the generation.
fn stream(model: &Model, prompt: Prompt, context: Option<&Context>, options: &GenerateOptions) -> Result<()> {
    let mut out = stdout().lock();
    let terminal = out.is_terminal();
    let mut failed = None;
    let answer = model.generate_streaming(prompt, context, options, |piece| {
        match out.write_all(shown(piece, terminal).as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    if answer.is_err() && terminal {
        // What went wrong begins a line of its own.
        writeln!(out)?;
    }
    answer?;
    Ok(writeln!(out)?)
}

/// A model's words must not command a terminal; a pipe or a file gets them as they are.
fn shown(text: &str, terminal: bool) -> Cow<'_, str> {
    let commands = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if !terminal || !text.contains(commands) {
        return text.into();
    }
    text.chars()
        .fold(String::new(), |mut shown, character| {
            if commands(character) {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
            shown
        })
        .into()
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let (id, bias) = text.split_once('=').ok_or("expected ID=BIAS, such as 42=-1.5")?;
    let id = id.trim().parse().map_err(|_| format!("{id:?} is no token id"))?;
    let bias = bias.trim().parse().map_err(|_| format!("{bias:?} is no number"))?;
    Ok((id, bias))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_is_an_id_and_a_number() {
        assert_eq!(bias("42=-1.5"), Ok((42, -1.5)));
        assert_eq!(bias("0=-inf"), Ok((0, f32::NEG_INFINITY)));
        for (text, names) in [("42", "ID=BIAS"), ("x=1", "\"x\""), ("-1=1", "\"-1\""), ("1=x", "\"x\"")] {
            assert!(bias(text).unwrap_err().contains(names), "{text}");
        }
    }

    #[test]
    fn a_terminal_is_not_commanded_and_a_pipe_gets_all() {
        assert_eq!(shown("a\u{1b}[2Jb\n\t", true), "a\\u{1b}[2Jb\n\t");
        assert_eq!(shown("a\u{1b}[2Jb", false), "a\u{1b}[2Jb");
    }
}
