//! Texts that end an answer: found across pieces, and held back until it is clear that they are not one.

/// Watches a text that comes in pieces for the first of some texts to be complete.
///
/// What is let through does not depend on how the text is cut into pieces, and never holds a part of the text that ends it.
#[derive(Debug, Clone)]
pub(super) struct StopTexts {
    texts: Vec<String>,
    /// The end of what came in, while it may still be the beginning of a stop text.
    held: String,
}

/// What can be passed on after a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) text: String,
    /// A stop text is complete; what came behind it is dropped.
    pub(super) stopped: bool,
}

impl StopTexts {
    /// `texts` hold no empty one.
    pub(super) fn new(texts: Vec<String>) -> Self {
        Self { texts, held: String::new() }
    }

    /// Takes a piece in and gives what is certain to be no part of a stop text.
    pub(super) fn push(&mut self, piece: &str) -> Passed {
        self.held += piece;
        let found = self.texts.iter().filter_map(|text| {
            let start = self.held.find(text.as_str())?;
            Some((start + text.len(), start))
        });
        // The one that is complete first, as if characters came one by one; of several, the longest.
        if let Some((_, start)) = found.min() {
            self.held.truncate(start);
            return Passed { text: std::mem::take(&mut self.held), stopped: true };
        }
        let tail = self.held.split_off(self.certain());
        Passed { text: std::mem::replace(&mut self.held, tail), stopped: false }
    }

    /// No more will come: what was held back is text after all.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes of what is held that no stop text can begin in.
    fn certain(&self) -> usize {
        let longest = self.texts.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest.saturating_sub(1));
        (from..self.held.len())
            .filter(|&at| self.held.is_char_boundary(at))
            .find(|&at| self.texts.iter().any(|text| text.starts_with(&self.held[at..])))
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(texts: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut stop = StopTexts::new(texts.iter().map(|&text| text.to_owned()).collect());
        let mut passed = String::new();
        for piece in pieces {
            let next = stop.push(piece);
            passed += &next.text;
            if next.stopped {
                return (passed, true);
            }
        }
        (passed + &stop.finish(), false)
    }

    #[test]
    fn a_stop_text_across_pieces_is_no_part_of_the_output() {
        assert_eq!(run(&["\nQ:"], &["Lisbon.", "\n", "Q", ": Who"]), ("Lisbon.".into(), true));
        assert_eq!(run(&["é!"], &["caf", "é", "!"]), ("caf".into(), true));
    }

    #[test]
    fn what_looked_like_a_stop_text_comes_when_it_is_none() {
        let mut stop = StopTexts::new(vec!["STOP".into()]);
        assert_eq!(stop.push("a ST"), Passed { text: "a ".into(), stopped: false });
        assert_eq!(stop.push("ST"), Passed { text: "ST".into(), stopped: false });
        assert_eq!(stop.push("art"), Passed { text: "STart".into(), stopped: false });
        assert_eq!(run(&["STOP"], &["ST"]), ("ST".into(), false));
    }

    #[test]
    fn the_stop_text_that_is_complete_first_counts() {
        assert_eq!(run(&["abc", "b"], &["abc"]), ("a".into(), true));
        assert_eq!(run(&["b", "abc"], &["a", "b", "c"]), ("a".into(), true));
        assert_eq!(run(&["b", "ab"], &["ab"]), (String::new(), true));
    }

    proptest! {
        #[test]
        fn the_output_does_not_depend_on_the_pieces(
            texts in prop::collection::vec("[abé]{1,4}", 0..3),
            pieces in prop::collection::vec("[abcé]{0,3}", 0..12),
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let whole: String = pieces.concat();
            // The rule itself: cut where the shortest beginning of the text that ends in a stop text loses it.
            let expected = whole
                .char_indices()
                .map(|(at, character)| &whole[..at + character.len_utf8()])
                .find_map(|begin| {
                    let longest = texts.iter().filter(|text| begin.ends_with(**text)).max_by_key(|text| text.len())?;
                    Some(begin[..begin.len() - longest.len()].to_owned())
                });
            let stopped = expected.is_some();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&texts, &pieces), (expected.unwrap_or(whole.clone()), stopped));
            prop_assert_eq!(run(&texts, &pieces), run(&texts, &[&whole]));
        }
    }
}
