//! Scores of answers: exact match and F1, as the authors of the data sets compute them, and confidence intervals.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// How the answers of a task are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    /// The number after `####`, extracted as GSM8K's authors do from the reference and from the answer.
    Number,
    /// HotpotQA's normalised exact match and F1.
    Words,
    /// The text, without surrounding white space.
    Verbatim,
}

/// The score of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Score {
    /// Whether it matches the reference.
    pub(super) exact: bool,
    /// Whether it holds the reference, in whole words: a model that answers in sentences matches none exactly.
    pub(super) contains: bool,
    /// The harmonic mean of precision and recall over words, for [`Metric::Words`].
    pub(super) f1: Option<f64>,
}

/// A share with its Wilson score interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Share {
    pub(super) right: usize,
    pub(super) total: usize,
    /// `right / total`; 0 if `total` is 0.
    pub(super) share: f64,
    /// Lower end of the 95 % interval.
    pub(super) low: f64,
    /// Upper end of the 95 % interval.
    pub(super) high: f64,
}

impl Metric {
    /// Scores `answer` against the reference to which it comes nearest.
    pub(super) fn score(self, answer: &str, references: &[String]) -> Score {
        let scores = references.iter().map(|reference| self.score_one(answer, reference));
        scores
            .reduce(|best, next| Score {
                exact: best.exact || next.exact,
                contains: best.contains || next.contains,
                f1: best.f1.zip(next.f1).map(|(one, other)| one.max(other)),
            })
            .unwrap_or(Score { exact: false, contains: false, f1: None })
    }

    fn score_one(self, answer: &str, reference: &str) -> Score {
        match self {
            Self::Number => {
                let wanted = final_number(reference);
                let exact = wanted.is_some() && final_number(answer) == wanted;
                let contains = exact || numbers(answer).any(|number| Some(number) == wanted);
                Score { exact, contains, f1: None }
            }
            Self::Words => {
                let (answer, reference) = (normalised(answer), normalised(reference));
                let contains =
                    !reference.is_empty() && format!(" {answer} ").contains(&format!(" {reference} "));
                Score { exact: answer == reference, contains, f1: Some(f1(&answer, &reference)) }
            }
            Self::Verbatim => {
                let (answer, reference) = (answer.trim(), reference.trim());
                Score { exact: answer == reference, contains: answer.contains(reference), f1: None }
            }
        }
    }
}

/// Two ways to answer, compared on the questions that only one of them answered right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Paired {
    /// Questions that only the first answered right.
    pub(super) only_first: usize,
    /// Questions that only the second answered right.
    pub(super) only_second: usize,
    /// McNemar's exact two-sided p-value: how likely so uneven a split is if both are equally good.
    pub(super) p: f64,
}

impl Paired {
    pub(super) fn new(only_first: usize, only_second: usize) -> Self {
        let (n, fewer) = (only_first + only_second, only_first.min(only_second));
        // The sum of the binomial distribution with probability 1/2 up to `fewer`, from logarithms: 2^-n vanishes for large n.
        let mut log_term = -(n as f64) * std::f64::consts::LN_2;
        let mut tail = log_term.exp();
        for k in 0..fewer {
            log_term += ((n - k) as f64 / (k + 1) as f64).ln();
            tail += log_term.exp();
        }
        Self { only_first, only_second, p: (2.0 * tail).min(1.0) }
    }
}

impl Share {
    /// The share of `right` in `total`.
    ///
    /// The interval is Wilson's (1927). Unlike the normal approximation it stays within 0 and 1 and keeps its coverage near the
    /// ends, where scores of agents often are.
    pub(super) fn new(right: usize, total: usize) -> Self {
        /// The normal distribution's 97.5 % quantile.
        const Z: f64 = 1.959_963_984_540_054;
        if total == 0 {
            return Self { right, total, share: 0.0, low: 0.0, high: 1.0 };
        }
        let n = total as f64;
        let share = right as f64 / n;
        let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        let centre = share + Z * Z / (2.0 * n);
        Self {
            right,
            total,
            share,
            low: ((centre - spread) / scale).clamp(0.0, share),
            high: ((centre + spread) / scale).clamp(share, 1.0),
        }
    }
}

/// The first number that follows `#### `: digits, points and commas, optionally after a minus. Commas are dropped, as the authors
/// do; values are compared, so `72.` equals 72.
fn final_number(text: &str) -> Option<f64> {
    text.match_indices("#### ").find_map(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        let digits = rest.strip_prefix('-').unwrap_or(rest);
        let length =
            digits.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(digits.len());
        let number: String = digits[..length].chars().filter(|&c| c != ',').collect();
        let value: f64 = number.trim_end_matches('.').parse().ok()?;
        Some(if rest.starts_with('-') { -value } else { value })
    })
}

/// Every number of a text, commas dropped.
fn numbers(text: &str) -> impl Iterator<Item = f64> {
    text.split(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',' | '-'))
        .filter_map(|word| word.replace(',', "").trim_matches('.').parse().ok())
}

/// HotpotQA's `normalize_answer`: lower case, without punctuation, articles and superfluous white space.
fn normalised(text: &str) -> String {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut kept = String::new();
    // An article is a whole word to a regular expression: it may touch what is neither letter nor digit.
    for word in bare.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let end = word.find(|c: char| !c.is_alphanumeric()).unwrap_or(word.len());
        let (word, behind) = word.split_at(end);
        kept.push_str(if matches!(word, "a" | "an" | "the") { " " } else { word });
        kept.push_str(behind);
    }
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// HotpotQA's F1 of two normalised answers; yes, no and "noanswer" match as a whole or not at all.
fn f1(answer: &str, reference: &str) -> f64 {
    const WHOLE: [&str; 3] = ["yes", "no", "noanswer"];
    if answer != reference && (WHOLE.contains(&answer) || WHOLE.contains(&reference)) {
        return 0.0;
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in reference.split(' ').filter(|word| !word.is_empty()) {
        *counts.entry(word).or_default() += 1;
    }
    let wanted: usize = counts.values().sum();
    let mut given = 0;
    let mut shared = 0;
    for word in answer.split(' ').filter(|word| !word.is_empty()) {
        given += 1;
        if let Some(left) = counts.get_mut(word).filter(|left| **left > 0) {
            *left -= 1;
            shared += 1;
        }
    }
    if shared == 0 { 0.0 } else { 2.0 * f64::from(shared) / (f64::from(given) + wanted as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_from_behind_the_mark_as_gsm8k_has_them() {
        let right = |answer, reference| Metric::Number.score_one(answer, reference).exact;
        assert!(right("so 6*12=72\n#### 72", "He sold <<6*12=72>>72.\n#### 72"));
        assert!(right("#### 1,234.", "#### 1234"));
        assert!(right("#### -5 apples", "#### -5"));
        assert!(!right("72", "#### 72"), "the authors count an answer without the mark as wrong");
        assert!(!right("#### 7", "#### 72"));
        assert!(!right("#### ...", "#### ..."), "no number is no match");
        assert!(right("#### none yet\n#### 3", "#### 3"));
    }

    #[test]
    fn words_are_normalised_as_hotpotqa_does() {
        assert_eq!(normalised("The  Man, from a U.S. town"), "man from us town");
        assert_eq!(normalised("a–b"), "–b");
        assert_eq!(normalised("Anna and the theory"), "anna and theory");
    }

    #[test]
    fn f1_counts_shared_words_once_each() {
        let words = |answer, reference| Metric::Words.score_one(answer, reference);
        let score = words("Rome, Rome", "the city of Rome");
        assert_eq!((score.exact, score.f1), (false, Some(0.4)));
        assert_eq!(words("An answer.", "answer"), Score { exact: true, contains: true, f1: Some(1.0) });
        assert_eq!(words("yes it is", "yes").f1, Some(0.0));
        assert_eq!(words("yes", "Yes.").f1, Some(1.0));
        assert_eq!(words("", "Rome").f1, Some(0.0));
    }

    #[test]
    fn an_answer_contains_a_reference_in_whole_words_or_numbers() {
        let contains = |metric: Metric, answer, reference| metric.score_one(answer, reference).contains;
        assert!(contains(Metric::Words, "It is the City of Rome, of course.", "city of Rome"));
        assert!(!contains(Metric::Words, "Romeo", "Rome"));
        assert!(!contains(Metric::Words, "anything", "the"), "nothing is left of the reference");
        assert!(contains(Metric::Number, "That makes $1,234.", "#### 1234"));
        assert!(!contains(Metric::Number, "12345 or 0.1234", "#### 1234"));
        assert!(!contains(Metric::Number, "none", "no number"));
    }

    #[test]
    fn the_nearest_of_several_references_counts() {
        let references = ["NYC".to_owned(), "New York City".to_owned()];
        let score = Metric::Words.score("new york city", &references);
        assert_eq!(score, Score { exact: true, contains: true, f1: Some(1.0) });
        assert!(!Metric::Words.score("Boston", &references).contains);
    }

    #[test]
    fn pairs_have_mcnemars_exact_p_value() {
        let p = |one, other| Paired::new(one, other).p;
        // By hand: 2 (1 + 10) / 2^10, and 2 / 2^6.
        assert!((p(1, 9) - 22.0 / 1024.0).abs() < 1e-12 && (p(9, 1) - p(1, 9)).abs() < 1e-15);
        assert!((p(0, 6) - 2.0 / 64.0).abs() < 1e-12);
        assert_eq!((p(0, 0), p(5, 5)), (1.0, 1.0));
        assert!(p(2000, 2200) < 0.01 && p(2000, 2200) > 0.001);
    }

    #[test]
    fn shares_have_wilsons_interval() {
        let share = Share::new(8, 10);
        // Wilson (1927), to four places: 0.4902, 0.9433.
        assert!((share.low - 0.4902).abs() < 5e-5 && (share.high - 0.9433).abs() < 5e-5, "{share:?}");
        assert_eq!((Share::new(0, 20).low, Share::new(20, 20).high), (0.0, 1.0));
        assert_eq!(Share::new(0, 0).share, 0.0);
    }
}
