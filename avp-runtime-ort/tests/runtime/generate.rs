//! Generation with real models: forms of the result, stop rules and counts; and equality with Transformers.

use std::{
    fs,
    time::{Duration, Instant},
};

use avp_runtime_ort::{
    Chat, Finish, GenerateOptions, LoadOptions, Message, Model, Prompt, RunError, ThinkOptions,
};
use serde::Deserialize;

use crate::common::{load, repository, runtime, think};

const NOTES: &str = "Notes: Rosa lives in Lisbon. Rosa has a parrot.";
const QUESTION: &str = "Where does Rosa live?";

fn facts() -> Model {
    load("models/facts")
}

fn hot(seed: u64) -> GenerateOptions {
    GenerateOptions { temperature: 3.0, max_tokens: 30, seed, ..GenerateOptions::default() }
}

#[derive(Deserialize)]
struct Records {
    cases: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    prompt: String,
    options: RecordedOptions,
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedOptions {
    repetition_penalty: Option<f32>,
    max_tokens: Option<usize>,
    #[serde(default)]
    logit_bias: std::collections::BTreeMap<u32, f32>,
    #[serde(default)]
    stop: Vec<String>,
}

#[test]
fn penalties_biases_and_stops_equal_transformers() {
    for name in ["tiny-qwen2", "tiny-llama"] {
        let model = load(&format!("test-vectors/parity/{name}"));
        let records = fs::read(repository(&format!("test-vectors/generate/{name}.json"))).unwrap();
        let records: Records = serde_json::from_slice(&records).unwrap();
        assert!(records.cases.len() >= 10);
        for Record { prompt, options, mut tokens } in records.cases {
            let what = format!("{name}, {prompt}, stop {:?}", options.stop);
            let stops = !options.stop.is_empty();
            let options = GenerateOptions {
                repetition_penalty: options.repetition_penalty.unwrap_or(1.0),
                max_tokens: options.max_tokens.unwrap_or(24),
                logit_bias: options.logit_bias,
                stop: options.stop,
                ..GenerateOptions::default()
            };
            let generation = model.generate(prompt.as_str(), None, &options).unwrap();
            // Transformers counts the token that ends a turn among the generated ones.
            if generation.finish == Finish::EndOfTurn {
                tokens.pop();
            }
            assert_eq!(generation.tokens, tokens, "{what}");
            assert_eq!(generation.finish == Finish::Stop, stops, "{what}");
            assert!(options.stop.iter().all(|stop| !generation.text.contains(stop)), "{what}");
        }
    }
}

#[test]
fn every_way_to_ask_gives_the_same_answer() {
    let model = load("test-vectors/parity/tiny-qwen2");
    for seed in 0..5 {
        let options = GenerateOptions { stop: vec!["e".into()], ..hot(seed) };
        let plain = model.generate("x", None, &options).unwrap();
        let started = model.start_generate("x", None, &options).unwrap().wait().unwrap();
        let mut stream = model.start_generate("x", None, &options).unwrap();
        let iterated = stream.by_ref().collect::<Result<Vec<_>, _>>().unwrap();
        assert!(iterated.iter().all(|piece| !piece.is_empty()));
        assert!(stream.next().is_none());
        let read = stream.into_generation();
        for other in [&started, &read] {
            assert_eq!(
                (&other.text, &other.tokens, other.finish),
                (&plain.text, &plain.tokens, plain.finish)
            );
        }
        assert_eq!(iterated.concat(), plain.text);
    }
}

#[test]
fn a_text_to_stop_at_is_found_across_tokens() {
    let model = facts();
    let context = think(&model, NOTES, 0, None);
    let options = GenerateOptions { stop: vec!["lives in".into()], ..GenerateOptions::default() };
    let answer = model.generate(QUESTION, Some(&context), &options).unwrap();
    assert_eq!((answer.text.as_str(), answer.finish), ("Answer: Rosa ", Finish::Stop));
    let options = GenerateOptions { stop: vec!["<|im_end|>".into()], ..GenerateOptions::default() };
    let options = GenerateOptions { ignore_end_of_turn: true, max_tokens: 40, ..options };
    let answer = model.generate(QUESTION, Some(&context), &options).unwrap();
    assert_eq!((answer.text.as_str(), answer.finish), ("Answer: Rosa lives in Lisbon.", Finish::Stop));
}

#[test]
fn an_abandoned_stream_keeps_the_text_read_so_far() {
    let model = load("test-vectors/parity/tiny-qwen2");
    let whole = model.generate("x", None, &hot(3)).unwrap();
    let mut stream = model.start_generate("x", None, &hot(3)).unwrap();
    let mut read = String::new();
    while read.len() <= 5 {
        read += &stream.next().unwrap().unwrap();
    }
    let left = stream.into_generation();
    assert_eq!((&left.text, left.finish), (&read, Finish::Stopped));
    assert!(whole.text.starts_with(&read) && whole.tokens.starts_with(&left.tokens));
    assert!(left.tokens.len() < whole.tokens.len() && !left.tokens.is_empty());
    // The model is free for the next.
    assert_eq!(model.generate("x", None, &hot(3)).unwrap().text, whole.text);
}

#[test]
fn a_stream_can_be_cancelled_from_elsewhere() {
    let model = load("test-vectors/parity/tiny-qwen2");
    let options = GenerateOptions { ignore_end_of_turn: true, max_tokens: 400, ..hot(1) };
    let mut stream = model.start_generate("x", None, &options).unwrap();
    stream.canceller().cancel();
    let last = stream.by_ref().last();
    assert_eq!(last, Some(Err(RunError::Cancelled)));
    assert_eq!(stream.into_generation().finish, Finish::Stopped);
}

#[test]
fn a_timeout_is_an_error_and_the_model_stays_usable() {
    let model = load("test-vectors/parity/tiny-qwen2");
    let after = Duration::ZERO;
    let options = GenerateOptions { timeout: Some(after), ..hot(1) };
    assert_eq!(model.generate("x", None, &options).unwrap_err(), RunError::TimedOut { after });
    let mut stream = model.start_generate("x", None, &options).unwrap();
    assert_eq!(stream.next(), Some(Err(RunError::TimedOut { after })));
    assert_eq!(stream.next(), None);
    assert_eq!(stream.wait().unwrap_err(), RunError::TimedOut { after });
    assert!(model.generate("x", None, &hot(1)).is_ok());
}

#[test]
fn usage_and_time_are_counted() {
    let model = facts();
    let context = think(&model, NOTES, 2, None);
    let prompt = model.tokenize(&QUESTION.into()).unwrap().len();
    let answer = model.generate(QUESTION, Some(&context), &GenerateOptions::default()).unwrap();
    assert_eq!((answer.prompt_tokens, answer.reused_tokens), (prompt, 0));
    assert_eq!(answer.context_tokens, context.seq_len());
    assert!(Duration::ZERO < answer.first_token_time && answer.first_token_time < answer.total_time);
    assert!(answer.tokens_per_second().is_some_and(|speed| speed > 0.0));
}

#[test]
fn a_longer_prompt_reuses_its_prefix_with_the_same_answer() {
    let model = facts();
    let turns = |more: &[&str]| {
        let all: Vec<_> = [NOTES].iter().chain(more).map(|text| Message::new("user", *text)).collect();
        Prompt::from(Chat { add_generation_prompt: !more.is_empty(), ..Chat::from(all) })
    };
    let context = think(&model, turns(&[]), 0, None);
    let reuse = GenerateOptions { reuse_prefix: true, ..GenerateOptions::default() };
    let fresh = model.generate(turns(&[QUESTION]), None, &reuse).unwrap();
    let reused = model.generate(turns(&[QUESTION]), Some(&context), &reuse).unwrap();
    assert_eq!((fresh.reused_tokens, reused.reused_tokens), (0, context.seq_len()));
    assert_eq!((&reused.tokens, reused.prompt_tokens), (&fresh.tokens, fresh.prompt_tokens));
    // The same prompt again: its last token has to be evaluated all the same.
    let prompt = model.tokenize(&turns(&[])).unwrap().len();
    let again = model.generate(turns(&[]), Some(&context), &reuse).unwrap();
    assert_eq!((again.prompt_tokens, again.reused_tokens), (prompt, prompt - 1));
}

#[test]
fn a_token_outside_the_vocabulary_is_refused_before_the_model_runs() {
    let model = load("test-vectors/parity/tiny-qwen2");
    let options = GenerateOptions { logit_bias: [(320, 1.0)].into(), ..GenerateOptions::default() };
    let error = model.generate("x", None, &options).unwrap_err();
    assert_eq!(error, RunError::UnknownToken { option: "logit_bias", id: 320, vocab_size: 320 });
}

/// A tiny model with this chat template.
fn templated(template: &str) -> Model {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(repository("test-vectors/parity/tiny-qwen2")).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
    }
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    Model::load(runtime(), folder.path(), &LoadOptions::default()).unwrap()
}

#[test]
fn the_time_of_a_call_counts_from_its_beginning() {
    let model = templated("{% for a in range(300) %}{% for b in range(400) %}{% endfor %}{% endfor %}x");
    let rendering = || {
        let start = Instant::now();
        model.tokenize(&"x".into()).unwrap();
        start.elapsed()
    };
    let shortest = (0..5).map(|_| rendering()).min().unwrap();
    // The template alone takes longer, on a busy machine too.
    let after = shortest / 10;
    let out_of_time = RunError::TimedOut { after };
    let think = ThinkOptions { timeout: Some(after), ..ThinkOptions::steps(0) };
    assert_eq!(model.think("x", None, &think).unwrap_err(), out_of_time);
    assert_eq!(model.start_think("x", None, &think).wait().unwrap_err(), out_of_time);
    let options = GenerateOptions { max_tokens: 1, timeout: Some(after), ..GenerateOptions::default() };
    assert_eq!(model.generate("x", None, &options).unwrap_err(), out_of_time);
    assert_eq!(model.start_generate("x", None, &options).unwrap().wait().unwrap_err(), out_of_time);
    let streamed = model.start_generate("x", None, &options).unwrap().last();
    assert_eq!(streamed.unwrap().unwrap_err(), out_of_time);
    let options = GenerateOptions { steps: 1, ..options };
    assert_eq!(model.generate("x", None, &options).unwrap_err(), out_of_time);
}

#[test]
fn a_template_that_does_not_end_harms_nothing_else() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
    let model = templated(&format!("fine\n{endless}"));
    let error = model.generate("x", None, &hot(1)).unwrap_err();
    assert_eq!(error, RunError::TemplateLimit { limit: "fuel", line: Some(2) });
    assert!(model.generate(Prompt::Raw("x".into()), None, &hot(1)).is_ok());
}

#[test]
fn messages_tools_and_a_prompt_without_an_answers_beginning_are_rendered() {
    let model = facts();
    let messages = || vec![Message::new("system", "Be brief."), Message::new("user", "Hi")];
    let raw = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n";
    let ids = |prompt: Prompt| model.tokenize(&prompt).unwrap();
    assert_eq!(ids(messages().into()), ids(Prompt::Raw(format!("{raw}<|im_start|>assistant\n"))));
    let open = Chat { add_generation_prompt: false, ..Chat::from(messages()) };
    assert_eq!(ids(open.into()), ids(Prompt::Raw(raw.into())));
}

#[test]
fn diagnostics_report_durations_norms_and_a_comparison() {
    let model = facts();
    let options = ThinkOptions { diagnostics: true, ..ThinkOptions::steps(3) };
    let thought = model.think(NOTES, None, &options).unwrap();
    let found = thought.metrics.diagnostics.as_ref().unwrap();
    assert_eq!((thought.metrics.steps, thought.metrics.has_prior_context), (3, false));
    assert_eq!(found.norm_trajectory.as_deref().map(<[f32]>::len), Some(4));
    assert_eq!((found.transfer_mode.as_str(), found.prompt_tokens), ("latent", thought.prompt_tokens));

    let context = thought.into_context().unwrap();
    let options = GenerateOptions { steps: 2, compare: true, ..GenerateOptions::default() };
    let answer = model.generate(QUESTION, Some(&context), &options).unwrap();
    let (metrics, found) = (&answer.metrics, answer.metrics.diagnostics.as_ref().unwrap());
    assert!(found.healthy(), "{}", found.summary());
    assert!(metrics.has_prior_context && metrics.think_duration_s > 0.0 && metrics.generate_duration_s > 0.0);
    assert!(metrics.duration_s > metrics.think_duration_s + metrics.generate_duration_s);
    assert_eq!(found.output_length, answer.text.trim().chars().count());
    assert_eq!(found.norm_trajectory.as_ref().map(Vec::len), Some(3));
    assert!(found.text_overlap.is_some() && found.text_baseline_output.is_some());
    // The pieces are those of the answer, not of the one to compare with.
    let streamed = model.start_generate(QUESTION, Some(&context), &options).unwrap();
    assert_eq!(streamed.collect::<Result<String, _>>().unwrap(), answer.text);

    let plain = model.generate(QUESTION, Some(&context), &GenerateOptions::default()).unwrap();
    assert_eq!((plain.metrics.steps, plain.metrics.think_duration_s), (0, 0.0));
    assert_eq!(plain.metrics.generate_duration_s, plain.metrics.duration_s);
    assert_eq!(plain.metrics.diagnostics, None);
}

#[test]
fn an_answer_after_latent_steps_reads_the_whole_prompt_again() {
    let model = facts();
    let prompt = model.tokenize(&QUESTION.into()).unwrap().len();
    let context = think(&model, QUESTION, 0, None);
    let reuse = GenerateOptions { reuse_prefix: true, steps: 2, ..GenerateOptions::default() };
    let answer = model.generate(QUESTION, Some(&context), &reuse).unwrap();
    // The thinking read the prompt from its first token on, and the answer reads it once more behind both steps.
    assert_eq!((answer.context_tokens, answer.reused_tokens), (prompt + 2, 0));
    let begun = model.start_generate(QUESTION, Some(&context), &reuse).unwrap().into_generation();
    assert_eq!((begun.prompt_tokens, begun.context_tokens), (prompt, prompt + 2));
}
