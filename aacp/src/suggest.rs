//! Spelling suggestions.

use crate::text::Folded;

/// Maximum length of compared words, in characters; AACP's words have at most 13.
const LONGEST: usize = 32;

/// The candidate nearest to `word`, if the distance is that of a typing error.
///
/// The distance is the optimal string alignment distance of the lower-case words: letters changed, omitted, added, or
/// swapped with a neighbour. One edit is allowed for each three letters, at most two; among equals, the first wins.
pub(crate) fn nearest<'s>(word: &str, candidates: impl Iterator<Item = &'s str>) -> Option<&'s str> {
    let word = Letters::of(word)?;
    let allowed = (word.len / 2).min(2).min(word.len.div_ceil(3));
    let mut best = None;
    let mut best_distance = allowed + 1;
    for candidate in candidates {
        let Some(letters) = Letters::of(candidate) else { continue };
        if letters.len.abs_diff(word.len) >= best_distance {
            continue;
        }
        let distance = word.distance(&letters);
        if distance < best_distance {
            (best, best_distance) = (Some(candidate), distance);
        }
    }
    best
}

/// A word's lower-case characters.
struct Letters {
    chars: [char; LONGEST],
    len: usize,
}

impl Letters {
    /// `None` if the word is empty or longer than [`LONGEST`].
    fn of(word: &str) -> Option<Self> {
        if word.is_empty() || word.len() > 4 * LONGEST {
            return None;
        }
        let mut letters = Self { chars: ['\0'; LONGEST], len: 0 };
        for c in Folded(word).chars() {
            *letters.chars.get_mut(letters.len)? = c;
            letters.len += 1;
        }
        Some(letters)
    }

    /// Optimal string alignment distance, kept in the last three rows of its table.
    fn distance(&self, other: &Self) -> usize {
        let (a, b) = (&self.chars[..self.len], &other.chars[..other.len]);
        let mut before_last = [0usize; LONGEST + 1];
        let mut last: [usize; LONGEST + 1] = core::array::from_fn(|j| j);
        for i in 1..=a.len() {
            let mut row = [0usize; LONGEST + 1];
            row[0] = i;
            for j in 1..=b.len() {
                let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
                row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    row[j] = row[j].min(before_last[j - 2] + 1);
                }
            }
            (before_last, last) = (last, row);
        }
        last[b.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{DOMAINS, TASKS};

    fn task(word: &str) -> Option<&'static str> {
        nearest(word, TASKS.iter().copied())
    }

    #[test]
    fn a_slip_of_the_hand_is_mended() {
        assert_eq!(task("fetch"), Some("FETCH"));
        assert_eq!(task("FECTH"), Some("FETCH"), "swapped letters");
        assert_eq!(task("REPROTS"), Some("REPORT"));
        assert_eq!(nearest("hr", DOMAINS.iter().copied()), Some("HR"));
        assert_eq!(nearest("setnimen", ["tone", "sentiment"].into_iter()), Some("sentiment"));
    }

    #[test]
    fn another_word_is_left_alone() {
        for word in
            ["", "X", "NUKE", "DELETE", "OPS", "é", "AN-EXTREMELY-LONG-WORD-THAT-NO-SCHEMA-HAS-ANYWHERE"]
        {
            assert_eq!(task(word), None, "{word}");
            assert_eq!(nearest(word, DOMAINS.iter().copied()), None, "{word}");
        }
    }
}
