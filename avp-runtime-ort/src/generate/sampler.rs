//! Chooses the next token from logits: greedily, or by a draw after `top_k`, `top_p` and `min_p`.
//!
//! A vocabulary often has more than 100,000 tokens, and each step reads a logit for each. So greedy decoding allocates nothing
//! and reads the logits twice, and a draw sorts only the remaining candidates.

use std::cmp::Ordering;

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

use super::{GenerateOptions, penalties::Penalties};
use crate::RunError;

/// A sampler with its own stream of random numbers: the same seed and logits give the same tokens.
#[derive(Debug)]
pub(super) struct Sampler {
    penalties: Penalties,
    choice: Choice,
    /// Logits with penalties; reused, so that a step allocates nothing.
    changed: Vec<f32>,
}

#[derive(Debug)]
enum Choice {
    Greedy,
    Draw(Box<Draw>),
}

/// Draws from the likeliest tokens.
#[derive(Debug)]
struct Draw {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    rng: ChaCha8Rng,
    candidates: Vec<Candidate>,
    largest: Vec<f32>,
}

/// A token that may be drawn. The likeliest token has weight 1.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    id: u32,
    weight: f32,
}

impl Sampler {
    /// A sampler for an answer to `prompt`. The options must be in range.
    pub(super) fn new(options: &GenerateOptions, prompt: &[u32]) -> Self {
        let choice = if options.temperature == 0.0 {
            Choice::Greedy
        } else {
            Choice::Draw(Box::new(Draw::new(options)))
        };
        Self { penalties: Penalties::new(options, prompt), choice, changed: Vec::new() }
    }

    /// The next token; `None` if no logit is finite, with or without penalties.
    pub(super) fn next(&mut self, logits: &[f32]) -> Option<u32> {
        let logits = if self.penalties.are_none() {
            logits
        } else {
            self.changed.clear();
            self.changed.extend_from_slice(logits);
            self.penalties.apply(&mut self.changed);
            &self.changed
        };
        let token = match &mut self.choice {
            Choice::Greedy => argmax(logits),
            Choice::Draw(draw) => draw.next(logits),
        }?;
        if !self.penalties.are_none() {
            self.penalties.count(token);
        }
        Some(token)
    }

    /// The error if the model has finite logits but [`next`](Self::next) returned `None`.
    pub(super) fn forbids_all(&self) -> RunError {
        let (option, got) = self.penalties.strongest();
        RunError::Option { option, expected: "a value that allows at least one token", got: got.into() }
    }
}

impl Draw {
    fn new(options: &GenerateOptions) -> Self {
        Self {
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            rng: ChaCha8Rng::seed_from_u64(options.seed),
            candidates: Vec::new(),
            largest: Vec::new(),
        }
    }

    fn next(&mut self, logits: &[f32]) -> Option<u32> {
        self.keep(logits)?;
        let total: f64 = self.candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
        let mut left = self.rng.random::<f64>() * total;
        for candidate in &self.candidates {
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                return Some(candidate.id);
            }
        }
        // Rounding can leave a remainder after the last token.
        self.candidates.last().map(|candidate| candidate.id)
    }

    /// Fills `candidates` with the tokens that may be drawn, in an order that depends only on the logits; `None` if no logit is
    /// finite.
    fn keep(&mut self, logits: &[f32]) -> Option<()> {
        let top = max_finite(logits)?;
        let mut floor = match self.top_k {
            0 => f32::NEG_INFINITY,
            count => kth_largest(logits, count, &mut self.largest),
        };
        if self.top_p == 1.0 {
            // Skips logits well below the threshold of `min_p`: their weights are not needed.
            floor = floor.max(top + self.temperature * (self.min_p.ln() - 0.01));
        }
        let (mut total, mut left) = (0.0, 0.0);
        self.candidates.clear();
        for (id, logit) in at_least(logits, floor) {
            let weight = ((logit - top) / self.temperature).exp();
            // `min_p` comes after `top_p`, whose mass refers to all tokens that `top_k` kept. Both keep the likelier tokens, so
            // tokens that `min_p` drops can be left out before `top_p` sorts.
            total += f64::from(weight);
            if weight >= self.min_p {
                left += f64::from(weight);
                self.candidates.push(Candidate { id, weight });
            }
        }
        if self.top_p < 1.0 {
            keep_nucleus(&mut self.candidates, f64::from(self.top_p) * total, left);
        }
        Some(())
    }
}

/// The first of the largest finite values, as in Transformers' argmax.
fn argmax(logits: &[f32]) -> Option<u32> {
    at_least(logits, max_finite(logits)?).next().map(|(id, _)| id)
}

/// The finite logits from `floor` on, with their tokens.
///
/// Most logits are far below `floor`: each block is tested without a branch per logit, and only matching blocks are iterated.
fn at_least(logits: &[f32], floor: f32) -> impl Iterator<Item = (u32, f32)> {
    const BLOCK: usize = 64;
    let blocks = (0u32..).step_by(BLOCK).zip(logits.chunks(BLOCK));
    blocks
        .filter(move |(_, block)| block.iter().fold(false, |found, &logit| found | (logit >= floor)))
        .flat_map(|(first, block)| (first..).zip(block.iter().copied()))
        .filter(move |(_, logit)| *logit >= floor && logit.is_finite())
}

/// The largest finite value, computed in independent lanes, so that the compiler uses vector instructions.
fn max_finite(values: &[f32]) -> Option<f32> {
    const LANES: usize = 16;
    // The comparison excludes NaN and infinity; `f32::max` is slower.
    let larger = |top: f32, value: f32| {
        let value = if value < f32::INFINITY { value } else { f32::NEG_INFINITY };
        if value > top { value } else { top }
    };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value);
        }
    }
    let top = rest.iter().copied().chain(lanes).fold(f32::NEG_INFINITY, larger);
    top.is_finite().then_some(top)
}

/// The `count`th largest of the finite values; negative infinity if there are fewer.
///
/// `largest` holds at most twice `count` values: when it is full, its smaller half is dropped and sets the floor for new values.
fn kth_largest(values: &[f32], count: usize, largest: &mut Vec<f32>) -> f32 {
    let descending = |a: &f32, b: &f32| b.total_cmp(a);
    largest.clear();
    if count >= values.len() {
        return f32::NEG_INFINITY;
    }
    let mut floor = f32::NEG_INFINITY;
    for block in values.chunks(64) {
        // Most blocks have no larger value, which is tested without a branch per value.
        if !block.iter().fold(false, |found, &value| found | (value > floor)) {
            continue;
        }
        for &value in block {
            if value > floor && value.is_finite() {
                largest.push(value);
                if largest.len() == 2 * count {
                    floor = *largest.select_nth_unstable_by(count - 1, descending).1;
                    largest.truncate(count);
                }
            }
        }
    }
    if largest.len() < count {
        return f32::NEG_INFINITY;
    }
    *largest.select_nth_unstable_by(count - 1, descending).1
}

/// Keeps the fewest likeliest candidates with a total weight of at least `mass`, or all if their weight is less; `total` is
/// the weight of all candidates. Sorts only those and a few more.
fn keep_nucleus(candidates: &mut Vec<Candidate>, mass: f64, total: f64) {
    // Candidates below an equal share of the excess weigh less than the excess together, so that all of them can be dropped.
    // Half the share, because sums are rounded. If the mass is not reached, the share is negative and nothing is dropped.
    let share = (total - mass) / (2.0 * candidates.len() as f64);
    candidates.retain(|candidate| f64::from(candidate.weight) >= share);
    let mut sorted = 0;
    let mut next = 64;
    let mut sum = 0.0;
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let take = next.min(rest.len());
        if take < rest.len() {
            rest.select_nth_unstable_by(take - 1, likelier_first);
        }
        rest[..take].sort_unstable_by(likelier_first);
        let last = rest[..take].iter().position(|candidate| {
            sum += f64::from(candidate.weight);
            sum >= mass
        });
        if let Some(last) = last {
            candidates.truncate(sorted + last + 1);
            return;
        }
        sorted += take;
        next *= 4;
    }
}

fn likelier_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    fn sampler(options: GenerateOptions) -> Sampler {
        Sampler::new(&options, &[])
    }

    #[test]
    fn temperature_zero_chooses_the_first_largest_logit() {
        assert_eq!(sampler(GenerateOptions::default()).next(&[0.5, 2.0, f32::NAN, 2.0]), Some(1));
        let mut many = vec![f32::NEG_INFINITY; 1000];
        many[600] = -3.0;
        many[700] = -3.0;
        assert_eq!(argmax(&many), Some(600));
    }

    #[test]
    fn logits_without_a_finite_value_give_no_token() {
        for temperature in [0.0, 1.0] {
            let mut sampler = sampler(GenerateOptions { temperature, ..GenerateOptions::default() });
            assert_eq!(sampler.next(&[f32::NAN, f32::INFINITY]), None);
            assert_eq!(sampler.next(&[]), None);
        }
    }

    #[test]
    fn a_single_remaining_token_does_not_depend_on_the_seed() {
        let hot = |seed| GenerateOptions { temperature: 1.5, seed, ..GenerateOptions::default() };
        for seed in 0..20 {
            for options in [
                GenerateOptions { top_p: 1e-6, ..hot(seed) },
                GenerateOptions { top_k: 1, ..hot(seed) },
                GenerateOptions { min_p: 1.0, ..hot(seed) },
            ] {
                assert_eq!(sampler(options).next(&[0.1, 0.3, f32::NEG_INFINITY, 0.2]), Some(1));
            }
        }
    }

    #[test]
    fn a_long_tail_below_min_p_does_not_change_the_nucleus() {
        let options =
            GenerateOptions { temperature: 1.0, top_p: 0.3, min_p: 0.6, ..GenerateOptions::default() };
        // Three tokens weigh 2.7, the tail 500: `top_p` leaves much of the tail, and `min_p` then only the three.
        let mut logits = vec![0.5_f32.ln(); 1000];
        logits.splice(10..13, [0.9_f32.ln(), 0.0, 0.8_f32.ln()]);
        let mut draw = Draw::new(&options);
        draw.keep(&logits).unwrap();
        let mut kept: Vec<u32> = draw.candidates.iter().map(|candidate| candidate.id).collect();
        kept.sort_unstable();
        assert_eq!(kept, [10, 11, 12]);
    }

    #[test]
    fn draws_follow_the_distribution_and_repeat_with_the_seed() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let options = GenerateOptions { temperature: 1.0, seed: 7, ..GenerateOptions::default() };
        let mut one = sampler(options.clone());
        let mut other = sampler(options);
        let mut counts = [0u32; 3];
        for _ in 0..8000 {
            let id = one.next(&logits).unwrap();
            assert_eq!(other.next(&logits), Some(id));
            counts[id as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([1000.0, 2000.0, 5000.0]) {
            assert!((f64::from(*count) - expected).abs() < 200.0, "{counts:?}");
        }
    }

    #[test]
    fn a_repeated_token_is_penalized() {
        let mut sampler = sampler(GenerateOptions { presence_penalty: 1.0, ..GenerateOptions::default() });
        let said: Vec<_> = (0..3).filter_map(|_| sampler.next(&[1.0, 0.9, 0.8])).collect();
        assert_eq!(said, [0, 1, 2]);
    }

    #[derive(Deserialize)]
    struct Records {
        cases: Vec<Record>,
    }

    #[derive(Deserialize)]
    struct Record {
        name: String,
        logits: Vec<f32>,
        prompt: Vec<u32>,
        options: RecordedOptions,
        /// Probability of each token that may be drawn, by id.
        probabilities: Vec<(u32, f64)>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct RecordedOptions {
        temperature: f32,
        top_k: usize,
        top_p: f32,
        min_p: f32,
        repetition_penalty: f32,
        logit_bias: std::collections::BTreeMap<u32, f32>,
    }

    impl Default for RecordedOptions {
        fn default() -> Self {
            Self {
                temperature: 1.0,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                repetition_penalty: 1.0,
                logit_bias: [].into(),
            }
        }
    }

    #[test]
    fn distributions_equal_transformers() {
        let records = include_str!("../../../test-vectors/sampling/distributions.json");
        let records: Records = serde_json::from_str(records).unwrap();
        assert!(records.cases.len() >= 20);
        for record in records.cases {
            let RecordedOptions { temperature, top_k, top_p, min_p, repetition_penalty, logit_bias } =
                record.options;
            let options = GenerateOptions {
                temperature,
                top_k,
                top_p,
                min_p,
                repetition_penalty,
                logit_bias,
                ..GenerateOptions::default()
            };
            let mut logits = record.logits;
            Penalties::new(&options, &record.prompt).apply(&mut logits);
            let mut draw = Draw::new(&options);
            draw.keep(&logits).unwrap();
            let total: f64 = draw.candidates.iter().map(|kept| f64::from(kept.weight)).sum();
            let mut kept = draw.candidates;
            kept.sort_by_key(|candidate| candidate.id);
            let ids: Vec<u32> = kept.iter().map(|candidate| candidate.id).collect();
            let expected: Vec<u32> = record.probabilities.iter().map(|&(id, _)| id).collect();
            assert_eq!(ids, expected, "{}", record.name);
            for (candidate, (id, probability)) in kept.iter().zip(&record.probabilities) {
                let difference = (f64::from(candidate.weight) / total - probability).abs();
                assert!(difference <= 1e-5, "{}, token {id}: differs by {difference}", record.name);
            }
        }
    }

    /// What `keep` should keep, by id, in the documented order and by a full sort at each step.
    fn filtered_in_sequence(options: &GenerateOptions, logits: &[f32]) -> Vec<u32> {
        let mut kept: Vec<(u32, f32)> =
            (0..).zip(logits.iter().copied()).filter(|(_, logit)| logit.is_finite()).collect();
        kept.sort_by(|a, b| b.1.total_cmp(&a.1));
        if let Some(&(_, floor)) = options.top_k.checked_sub(1).and_then(|last| kept.get(last)) {
            kept.retain(|&(_, logit)| logit >= floor);
        }
        kept.sort_by_key(|&(id, _)| id);
        let top = kept.iter().map(|&(_, logit)| logit).fold(f32::MIN, f32::max);
        let weight = |logit: f32| ((logit - top) / options.temperature).exp();
        let mut kept: Vec<Candidate> =
            kept.into_iter().map(|(id, logit)| Candidate { id, weight: weight(logit) }).collect();
        if options.top_p < 1.0 {
            let total: f64 = kept.iter().map(|candidate| f64::from(candidate.weight)).sum();
            kept.sort_by(likelier_first);
            let mut before = 0.0;
            kept.retain(|candidate| {
                let needed = before < f64::from(options.top_p) * total;
                before += f64::from(candidate.weight);
                needed
            });
        }
        kept.retain(|candidate| candidate.weight >= options.min_p);
        let mut kept: Vec<u32> = kept.into_iter().map(|candidate| candidate.id).collect();
        kept.sort_unstable();
        kept
    }

    proptest! {
        #[test]
        fn the_combined_filters_equal_top_k_top_p_and_min_p_in_sequence(
            logits in prop::collection::vec(-40i8..40, 1..600), temperature in 0.2..6.0f32,
            top_k in prop_oneof![Just(0), 1usize..300], top_p in prop_oneof![Just(1.0), 0.01..1.0f32], min_p in 0.0..=1.0f32,
        ) {
            let logits: Vec<f32> = logits.into_iter().map(|logit| f32::from(logit) / 8.0).collect();
            let options = GenerateOptions { temperature, top_k, top_p, min_p, ..GenerateOptions::default() };
            let mut draw = Draw::new(&options);
            draw.keep(&logits).unwrap();
            let mut kept: Vec<u32> = draw.candidates.iter().map(|candidate| candidate.id).collect();
            kept.sort_unstable();
            prop_assert_eq!(kept, filtered_in_sequence(&options, &logits));
        }

        #[test]
        fn the_kth_largest_equals_a_full_sort(
            values in prop::collection::vec(prop_oneof![-9i8..9, Just(i8::MIN)], 0..200), count in 1usize..40,
        ) {
            let values: Vec<f32> =
                values.iter().map(|&value| if value == i8::MIN { f32::NAN } else { value.into() }).collect();
            let mut sorted: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let found = kth_largest(&values, count, &mut Vec::new());
            if count < values.len() {
                prop_assert_eq!(found, sorted.get(count - 1).copied().unwrap_or(f32::NEG_INFINITY));
            } else {
                prop_assert_eq!(found, f32::NEG_INFINITY);
            }
        }

        #[test]
        fn the_nucleus_equals_a_full_sort(weights in prop::collection::vec(0u8..50, 1..400), part in 0.0..1.0f64) {
            let candidates: Vec<Candidate> =
                (0..).zip(&weights).map(|(id, &weight)| Candidate { id, weight: weight.into() }).collect();
            let total = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>();
            let mass = part * total;
            let mut sorted = candidates.clone();
            sorted.sort_by(likelier_first);
            let mut sum = 0.0;
            let last = sorted.iter().position(|candidate| { sum += f64::from(candidate.weight); sum >= mass });
            sorted.truncate(last.unwrap() + 1);
            let mut kept = candidates;
            keep_nucleus(&mut kept, mass, total);
            prop_assert_eq!(kept, sorted);
        }
    }
}
