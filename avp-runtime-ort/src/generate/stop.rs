//! Stop texts: found across pieces of the answer. The end of a piece that may begin a stop text is held back.

/// Finds the first complete stop text in a text that arrives in pieces.
///
/// The output does not depend on the boundaries of the pieces, and never contains a part of the stop text.
#[derive(Debug, Clone)]
pub(super) struct StopTexts {
    texts: Vec<String>,
    /// The end of the input that may be the beginning of a stop text.
    held: String,
}

/// The output after a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) text: String,
    /// Whether a stop text is complete. Any text after it is dropped.
    pub(super) stopped: bool,
}

impl StopTexts {
    /// `texts` must not contain an empty text.
    pub(super) fn new(texts: Vec<String>) -> Self {
        Self { texts, held: String::new() }
    }

    /// Appends a piece and returns the text that cannot be part of a stop text.
    pub(super) fn push(&mut self, piece: &str) -> Passed {
        self.held += piece;
        let found = self.texts.iter().filter_map(|text| {
            let start = self.held.find(text.as_str())?;
            Some((start + text.len(), start))
        });
        // The stop text that ends first; among several, the longest.
        if let Some((_, start)) = found.min() {
            self.held.truncate(start);
            return Passed { text: std::mem::take(&mut self.held), stopped: true };
        }
        let tail = self.held.split_off(self.certain());
        Passed { text: std::mem::replace(&mut self.held, tail), stopped: false }
    }

    /// Returns the held text at the end of the input.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Number of held bytes before the first possible stop text.
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
    fn a_stop_text_across_pieces_is_not_part_of_the_output() {
        assert_eq!(run(&["\nQ:"], &["Lisbon.", "\n", "Q", ": Who"]), ("Lisbon.".into(), true));
        assert_eq!(run(&["é!"], &["caf", "é", "!"]), ("caf".into(), true));
    }

    #[test]
    fn an_incomplete_stop_text_is_returned_later() {
        let mut stop = StopTexts::new(vec!["STOP".into()]);
        assert_eq!(stop.push("a ST"), Passed { text: "a ".into(), stopped: false });
        assert_eq!(stop.push("ST"), Passed { text: "ST".into(), stopped: false });
        assert_eq!(stop.push("art"), Passed { text: "STart".into(), stopped: false });
        assert_eq!(run(&["STOP"], &["ST"]), ("ST".into(), false));
    }

    #[test]
    fn the_first_complete_stop_text_ends_the_output() {
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
