//! `avp generate`: answers a prompt, optionally after the context in a frame.

use std::{
    borrow::Cow,
    io::{IsTerminal, Write, stdout},
    time::Duration,
};

use anyhow::Result;
use avp_runtime_ort::{Context, GenerateOptions, Generation, Model, Prompt};
use clap::Args;

use crate::{
    model::ModelArgs,
    output::{Input, Output},
    prompt::PromptArgs,
    think::{read_context, report_structural_match, seconds, write_metrics},
};

/// Answer a prompt, optionally after a received KV-cache
///
/// Streams the answer, and nothing else, to standard output.
#[derive(Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    /// Frame with the KV-cache to continue from; `-` for standard input
    #[arg(long, value_name = "FRAME")]
    context: Option<Input>,
    /// Read the prompt from its first token instead of after the context, and take the common prefix from the context
    #[arg(long, requires = "context")]
    reuse: bool,
    #[command(flatten)]
    sampling: Sampling,
    /// Print one JSON object with text, tokens, finish reason, counts and times, after the last token
    #[arg(long)]
    json: bool,
    /// Write times and diagnostics as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    metrics: Option<Output>,
    /// Answer again without the context, and measure how many words both answers share
    #[arg(long, requires = "metrics")]
    compare: bool,
}

/// How tokens are chosen, and when the answer ends.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
struct Sampling {
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: usize,
    /// 0 takes the most likely token; above 0 samples, and higher values flatten the distribution
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Sample from the K most likely tokens only; 0 allows all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Sample from the most likely tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,
    /// Sample from tokens with at least this fraction of the highest probability
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,
    /// Above 1 makes tokens of prompt and answer less likely, below 1 more likely
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,
    /// Subtracted from the logit of a token for each occurrence in the answer, -2 to 2
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Subtracted from the logit of each token that occurs in the answer, -2 to 2
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Added to the logit of a token; -inf forbids it. Can be given several times
    #[arg(long, value_name = "ID=BIAS", value_parser = bias)]
    logit_bias: Vec<(u32, f32)>,
    /// End the answer before this text. Can be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// End the answer before this token. Can be given several times
    #[arg(long, value_name = "ID")]
    stop_token: Vec<u32>,
    /// Continue where the model would end its turn
    #[arg(long)]
    ignore_end_of_turn: bool,
    /// Seed of the sampling
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Fail after this time
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
        let options = GenerateOptions {
            reuse_prefix: self.reuse,
            diagnostics: self.metrics.is_some(),
            compare: self.compare,
            ..self.sampling.options()
        };
        match &self.metrics {
            Some(file) => {
                let answer = model.generate(prompt, context.as_ref(), &options)?;
                self.print(&answer)?;
                write_metrics(file, &answer.metrics)
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

/// Prints each piece as it arrives; a closed pipe ends the generation.
fn stream(model: &Model, prompt: Prompt, context: Option<&Context>, options: &GenerateOptions) -> Result<()> {
    let mut out = stdout().lock();
    let terminal = out.is_terminal();
    for piece in model.start_generate(prompt, context, options)? {
        if piece.is_err() && terminal {
            // The error begins a line of its own.
            writeln!(out)?;
        }
        out.write_all(shown(&piece?, terminal).as_bytes())?;
        out.flush()?;
    }
    Ok(writeln!(out)?)
}

/// Escapes control characters on a terminal; a pipe or a file gets the text unchanged.
fn shown(text: &str, terminal: bool) -> Cow<'_, str> {
    let is_control = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if !terminal || !text.contains(is_control) {
        return text.into();
    }
    text.chars()
        .fold(String::new(), |mut shown, character| {
            if is_control(character) {
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
    let id = id.trim().parse().map_err(|_| format!("expected a token id, got {id:?}"))?;
    let bias = bias.trim().parse().map_err(|_| format!("expected a number, got {bias:?}"))?;
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
    fn control_characters_are_escaped_on_a_terminal_only() {
        assert_eq!(shown("a\u{1b}[2Jb\n\t", true), "a\\u{1b}[2Jb\n\t");
        assert_eq!(shown("a\u{1b}[2Jb", false), "a\u{1b}[2Jb");
    }
}
