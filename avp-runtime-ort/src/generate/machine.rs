//! The generation loop as a sans-IO state machine: logits in, the next token to run out.
//!
//! It holds the state of one answer without the decoder. The driver runs the prompt, then each requested token, and passes the
//! logits of each run in. So the loop may run on any thread, and every stop rule is tested without a model.

use std::time::{Duration, Instant};

use super::{Finish, GenerateOptions, Generation, sampler::Sampler, stop::StopTexts};
use crate::{
    RunError,
    think::StepsTime,
    tokens::{TextStream, Tokens},
};

/// The state of an answer.
pub(crate) struct Generating {
    tokens: Tokens,
    sampler: Sampler,
    stream: TextStream,
    stop_texts: StopTexts,
    end_of_turn: Vec<u32>,
    stop_tokens: Vec<u32>,
    limit: Limit,
    start: Instant,
    /// When the first token was chosen.
    first: Option<Instant>,
    /// When the last token was chosen.
    last: Instant,
    /// Time inside ONNX Runtime for the tokens after the first.
    inside_runtime: Duration,
    answer: Answer,
    usage: Usage,
}

#[derive(Debug, Default)]
struct Answer {
    text: String,
    tokens: Vec<u32>,
    finish: Option<Finish>,
}

#[derive(Debug)]
struct Limit {
    max_tokens: usize,
    room: usize,
}

/// Token counts at the start of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Tokens of the prompt, including reused ones.
    pub(crate) prompt_tokens: usize,
    /// Tokens of the prompt that were taken from the context.
    pub(crate) reused_tokens: usize,
    /// Tokens in the context.
    pub(crate) context_tokens: usize,
    /// Tokens that fit the window after context and prompt.
    pub(crate) room: usize,
}

/// The next action of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Run this token and pass the logits in.
    Run(u32),
    /// The answer is complete.
    Done(Finish),
}

impl Generating {
    /// Begins an answer to `prompt`, ended by any token of `end_of_turn`.
    ///
    /// # Errors
    /// When an option is out of range.
    pub(crate) fn new(
        options: &GenerateOptions,
        tokens: &Tokens,
        prompt: &[u32],
        end_of_turn: &[u32],
        usage: Usage,
        start: Instant,
    ) -> Result<Self, RunError> {
        options.check(tokens.vocab_size())?;
        let special = options.stop.iter().filter_map(|text| tokens.special_token(text));
        Ok(Self {
            tokens: tokens.clone(),
            sampler: Sampler::new(options, prompt),
            stream: TextStream::default(),
            stop_texts: StopTexts::new(options.stop.clone()),
            end_of_turn: if options.ignore_end_of_turn { Vec::new() } else { end_of_turn.to_vec() },
            stop_tokens: options.stop_tokens.iter().copied().chain(special).collect(),
            limit: Limit { max_tokens: options.max_tokens, room: usage.room },
            start,
            first: None,
            last: start,
            inside_runtime: Duration::ZERO,
            answer: Answer::default(),
            usage,
        })
    }

    /// Chooses a token from the logits of the last position; returns the new text and the next action.
    ///
    /// # Errors
    /// When no logit is finite, options forbid every token, or the tokenizer cannot decode the token.
    pub(crate) fn advance(&mut self, logits: &[f32], now: Instant) -> Result<(String, Next), RunError> {
        let step = self.answer.tokens.len();
        let token = match self.sampler.next(logits) {
            Some(token) => token,
            // The model has a finite logit, so the options exclude it.
            None if logits.iter().any(|logit| logit.is_finite()) => return Err(self.sampler.forbids_all()),
            None => return Err(RunError::NotFinite { step }),
        };
        self.first.get_or_insert(now);
        self.last = now;
        if self.end_of_turn.contains(&token) {
            return self.end(Finish::EndOfTurn);
        }
        if self.stop_tokens.contains(&token) {
            return self.end(Finish::Stop);
        }
        self.answer.tokens.push(token);
        let piece = self.stream.push(&self.tokens, token)?;
        let passed = self.stop_texts.push(&piece);
        if passed.stopped {
            self.answer.finish = Some(Finish::Stop);
            return Ok((self.keep(passed.text), Next::Done(Finish::Stop)));
        }
        let text = self.keep(passed.text);
        // The last token needs no position in the window, because it is not run.
        let finish = if self.answer.tokens.len() >= self.limit.max_tokens {
            Finish::MaxTokens
        } else if self.answer.tokens.len() > self.limit.room {
            Finish::Window
        } else {
            return Ok((text, Next::Run(token)));
        };
        let (rest, next) = self.end(finish)?;
        Ok((text + &rest, next))
    }

    /// Adds time spent inside ONNX Runtime for a token.
    pub(crate) fn ran_for(&mut self, time: Duration) {
        self.inside_runtime += time;
    }

    /// The tokens of the answer so far.
    pub(crate) fn answer_tokens(&self) -> &[u32] {
        &self.answer.tokens
    }

    /// The answer so far, with [`Finish::Stopped`] if it is not complete.
    pub(crate) fn into_generation(self) -> Generation {
        let first = self.first.unwrap_or(self.last);
        Generation {
            text: self.answer.text,
            tokens: self.answer.tokens,
            finish: self.answer.finish.unwrap_or(Finish::Stopped),
            first_token_time: first.duration_since(self.start),
            total_time: self.last.duration_since(self.start),
            steps_time: StepsTime {
                total: self.last.duration_since(first),
                inside_runtime: self.inside_runtime,
            },
            ..Generation::begun(self.usage)
        }
    }

    /// Ends the answer and returns the text that was held back.
    fn end(&mut self, finish: Finish) -> Result<(String, Next), RunError> {
        let passed = self.stop_texts.push(&self.stream.finish(&self.tokens)?);
        let finish = if passed.stopped { Finish::Stop } else { finish };
        let rest = if passed.stopped { passed.text } else { passed.text + &self.stop_texts.finish() };
        self.answer.finish = Some(finish);
        Ok((self.keep(rest), Next::Done(finish)))
    }

    fn keep(&mut self, text: String) -> String {
        self.answer.text += &text;
        text
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Letters as tokens 0 to 25, and `<end>` as 26.
    fn letters() -> Tokens {
        let vocab: serde_json::Map<_, _> =
            (b'a'..=b'z').enumerate().map(|(id, letter)| ((letter as char).to_string(), json!(id))).collect();
        let json = json!({
            "version": "1.0",
            "added_tokens": [{"id": 26, "content": "<end>", "special": true, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false}],
            "decoder": {"type": "Fuse"},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        });
        Tokens::parse(Path::new("tokenizer.json"), &json.to_string()).unwrap()
    }

    fn id(letter: char) -> u32 {
        if letter == '.' { 26 } else { letter as u32 - 'a' as u32 }
    }

    /// Logits with `letter` as the likeliest token; `.` is `<end>`.
    fn logits(letter: char) -> Vec<f32> {
        (0..27).map(|token| if token == id(letter) { 1.0 } else { 0.0 }).collect()
    }

    fn begin(options: &GenerateOptions, room: usize) -> Generating {
        let usage = Usage { prompt_tokens: 1, room, ..Usage::default() };
        Generating::new(options, &letters(), &[0], &[26], usage, Instant::now()).unwrap()
    }

    /// Has a model say `said`, and gives the pieces and the answer.
    fn answer(options: &GenerateOptions, room: usize, said: &str) -> (Vec<String>, Generation) {
        let mut generating = begin(options, room);
        let mut pieces = Vec::new();
        for letter in said.chars() {
            let (piece, next) = generating.advance(&logits(letter), Instant::now()).unwrap();
            pieces.push(piece);
            match next {
                Next::Run(token) => assert_eq!(token, id(letter)),
                Next::Done(_) => break,
            }
        }
        (pieces, generating.into_generation())
    }

    #[test]
    fn the_end_of_turn_token_is_not_part_of_the_answer() {
        let (pieces, answer) = answer(&GenerateOptions::default(), 99, "hi.x");
        assert_eq!(pieces, ["h", "i", ""]);
        assert_eq!((answer.text.as_str(), answer.finish), ("hi", Finish::EndOfTurn));
        assert_eq!(answer.tokens, [id('h'), id('i')]);
    }

    #[test]
    fn an_end_of_turn_can_be_ignored() {
        let options =
            GenerateOptions { ignore_end_of_turn: true, max_tokens: 4, ..GenerateOptions::default() };
        let (_, answer) = answer(&options, 99, "h.ix");
        assert_eq!((answer.text.as_str(), answer.finish, answer.tokens.len()), ("hix", Finish::MaxTokens, 4));
    }

    #[test]
    fn stop_tokens_and_texts_are_not_part_of_the_text() {
        let stop = |text: &str| GenerateOptions { stop: vec![text.into()], ..GenerateOptions::default() };
        let (pieces, found) = answer(&stop("bc"), 99, "abcd");
        assert_eq!(pieces, ["a", "", ""]);
        assert_eq!((found.text.as_str(), found.finish, found.tokens.len()), ("a", Finish::Stop, 3));
        let (pieces, found) = answer(&stop("bc"), 99, "ab.");
        assert_eq!(pieces, ["a", "", "b"]);
        assert_eq!((found.text.as_str(), found.finish), ("ab", Finish::EndOfTurn));

        let options = GenerateOptions { stop_tokens: vec![id('c')], ..GenerateOptions::default() };
        let (_, found) = answer(&options, 99, "abcd");
        assert_eq!((found.text.as_str(), found.finish), ("ab", Finish::Stop));
    }

    #[test]
    fn a_stop_text_may_name_a_special_token() {
        let options = GenerateOptions {
            stop: vec!["<end>".into()],
            ignore_end_of_turn: true,
            ..GenerateOptions::default()
        };
        let (_, answer) = answer(&options, 99, "ab.c");
        assert_eq!((answer.text.as_str(), answer.finish), ("ab", Finish::Stop));
    }

    #[test]
    fn it_ends_at_max_tokens_or_at_the_window() {
        let options = GenerateOptions { max_tokens: 2, ..GenerateOptions::default() };
        assert_eq!(answer(&options, 99, "abc").1.finish, Finish::MaxTokens);
        let (_, found) = answer(&GenerateOptions::default(), 2, "abcd");
        assert_eq!((found.text.as_str(), found.finish), ("abc", Finish::Window));
        // A text that is held back is not lost there.
        let options = GenerateOptions { stop: vec!["bz".into()], ..options };
        assert_eq!(answer(&options, 99, "abc").1.text, "ab");
    }

    #[test]
    fn an_abandoned_answer_keeps_its_text_and_is_stopped() {
        let (_, answer) = answer(&GenerateOptions::default(), 99, "ab");
        assert_eq!((answer.text.as_str(), answer.finish), ("ab", Finish::Stopped));
    }

    #[test]
    fn non_finite_logits_fail_with_the_step() {
        let mut generating = begin(&GenerateOptions::default(), 9);
        generating.advance(&logits('a'), Instant::now()).unwrap();
        let error = generating.advance(&[f32::NAN; 27], Instant::now()).unwrap_err();
        assert_eq!(error, RunError::NotFinite { step: 1 });
    }

    #[test]
    fn options_that_forbid_every_token_are_an_option_error() {
        let forbidden = |id| (id, f32::NEG_INFINITY);
        for temperature in [0.0, 1.0] {
            let logit_bias = (0..27).map(forbidden).collect();
            let options = GenerateOptions { temperature, logit_bias, ..GenerateOptions::default() };
            match begin(&options, 9).advance(&logits('a'), Instant::now()) {
                Err(RunError::Option { option: "logit_bias", got, .. }) => assert_eq!(got, f64::NEG_INFINITY),
                other => panic!("{other:?}"),
            }
            let error = begin(&options, 9).advance(&[f32::NAN; 27], Instant::now()).unwrap_err();
            assert_eq!(error, RunError::NotFinite { step: 0 });

            let repetition_penalty = f32::MAX;
            let options = GenerateOptions { temperature, repetition_penalty, ..GenerateOptions::default() };
            let error = begin(&options, 9).advance(&[-2.0], Instant::now()).unwrap_err();
            assert!(matches!(error, RunError::Option { option: "repetition_penalty", .. }), "{error}");
        }
    }

    #[test]
    fn times_are_measured_from_the_call_to_the_first_and_last_token() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut generating = Generating::new(
            &GenerateOptions::default(),
            &letters(),
            &[0],
            &[26],
            Usage { room: 9, ..Usage::default() },
            start,
        )
        .unwrap();
        generating.advance(&logits('a'), at(2)).unwrap();
        generating.ran_for(Duration::from_millis(900));
        generating.advance(&logits('b'), at(3)).unwrap();
        generating.ran_for(Duration::from_millis(1900));
        generating.advance(&logits('.'), at(5)).unwrap();
        let answer = generating.into_generation();
        assert_eq!((answer.first_token_time.as_secs(), answer.total_time.as_secs()), (2, 5));
        assert_eq!(
            (answer.steps_time.total.as_secs(), answer.steps_time.inside_runtime.as_millis()),
            (3, 2800)
        );
    }

    proptest! {
        #[test]
        fn pieces_make_the_text(
            said in "[abc.]{0,20}", stop in prop::collection::vec("[abc]{1,3}", 0..3), max_tokens in 1usize..30,
        ) {
            let options = GenerateOptions { stop: stop.clone(), max_tokens, ..GenerateOptions::default() };
            let (pieces, answer) = answer(&options, 15, &format!("{said}."));
            prop_assert_eq!(pieces.concat(), answer.text.as_str());
            prop_assert!(stop.iter().all(|stop| !answer.text.contains(stop)));
        }
    }
}
