//! Scores of answers: exact match and F1, as the authors of the data sets compute them, and confidence intervals.

use std::collections::HashMap;

use serde::Serialize;

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
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Score {
    /// Whether it matches the reference.
    pub(super) exact: bool,
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
    /// Scores `answer` against `reference`.
    pub(super) fn score(self, answer: &str, reference: &str) -> Score {
        match self {
            Self::Number => {
                let exact =
                    final_number(answer).is_some_and(|number| Some(number) == final_number(reference));
                Score { exact, f1: None }
            }
            Self::Words => {
                let (answer, reference) = (normalised(answer), normalised(reference));
                Score { exact: answer == reference, f1: Some(f1(&answer, &reference)) }
            }
            Self::Verbatim => Score { exact: answer.trim() == reference.trim(), f1: None },
        }
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
        let right = |answer, reference| Metric::Number.score(answer, reference).exact;
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
        let score = Metric::Words.score("Rome, Rome", "the city of Rome");
        assert_eq!((score.exact, score.f1), (false, Some(0.4)));
        assert_eq!(Metric::Words.score("An answer.", "answer"), Score { exact: true, f1: Some(1.0) });
        assert_eq!(Metric::Words.score("yes it is", "yes").f1, Some(0.0));
        assert_eq!(Metric::Words.score("yes", "Yes.").f1, Some(1.0));
        assert_eq!(Metric::Words.score("", "Rome").f1, Some(0.0));
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
