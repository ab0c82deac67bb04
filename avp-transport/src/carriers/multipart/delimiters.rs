//! The delimiter lines of a multipart body (RFC 2046, section 5.1.1).

use memchr::memmem::Finder;

use crate::carriers::{CarrierError, json::wrong};

/// Finds the delimiter lines of a boundary.
pub(super) struct Delimiters {
    /// `\r\n--` and the boundary: the preceding line break belongs to the delimiter.
    finder: Finder<'static>,
}

/// A delimiter line, in bytes from the start of the body.
#[derive(Debug, PartialEq)]
pub(super) struct Delimiter {
    /// The end of the preceding part.
    pub(super) start: usize,
    /// The start of the following part.
    pub(super) end: usize,
    /// Whether it is the closing delimiter.
    pub(super) closes: bool,
}

impl Delimiters {
    /// A finder for a boundary: 1 to 70 of the characters that RFC 2046 allows, and no space at the end.
    pub(super) fn new(boundary: &str) -> Result<Self, CarrierError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        if !(1..=70).contains(&boundary.len()) || !boundary.bytes().all(allowed) || boundary.ends_with(' ') {
            return Err(wrong("boundary", "1 to 70 allowed characters", "another string"));
        }
        Ok(Self { finder: Finder::new(&format!("\r\n--{boundary}")).into_owned() })
    }

    /// The first delimiter: at the start of the body, or after a preamble.
    pub(super) fn first(&self, body: &[u8]) -> Result<Delimiter, CarrierError> {
        let without_break = &self.finder.needle()[2..];
        if body.starts_with(without_break) {
            return line(body, 0, without_break.len());
        }
        self.next(body, 0)
    }

    /// The first delimiter at or after `from`.
    pub(super) fn next(&self, body: &[u8], from: usize) -> Result<Delimiter, CarrierError> {
        match self.finder.find(&body[from..]) {
            Some(place) => line(body, from + place, from + place + self.finder.needle().len()),
            None => Err(CarrierError::Multipart {
                expected: "a delimiter line",
                got: "the end",
                offset: body.len(),
            }),
        }
    }
}

/// The delimiter that starts at `start` and whose boundary ends at `rest`.
fn line(body: &[u8], start: usize, rest: usize) -> Result<Delimiter, CarrierError> {
    if body[rest..].starts_with(b"--") {
        return Ok(Delimiter { start, end: rest + 2, closes: true });
    }
    // Transports may add spaces.
    let spaces = body[rest..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    if body[rest + spaces..].starts_with(b"\r\n") {
        return Ok(Delimiter { start, end: rest + spaces + 2, closes: false });
    }
    Err(CarrierError::Multipart {
        expected: "the end of a delimiter line",
        got: "something else",
        offset: rest + spaces,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_what_rfc_2046_allows() {
        let longest = "b".repeat(70);
        for boundary in ["b", "gc0pJq0M:08jU534c0p", "a b", &longest] {
            assert!(Delimiters::new(boundary).is_ok(), "{boundary}");
        }
        let too_long = "b".repeat(71);
        for boundary in ["", "b ", "b\r\n", "b\"", "ä", &too_long] {
            assert!(Delimiters::new(boundary).is_err(), "{boundary:?}");
        }
    }

    #[test]
    fn lines_end_where_what_follows_them_starts() {
        let delimiters = Delimiters::new("b").unwrap();
        let line = |start, end, closes| Ok(Delimiter { start, end, closes });
        assert_eq!(delimiters.first(b"--b\r\n"), line(0, 5, false));
        assert_eq!(delimiters.first(b"hello\r\n--b \t\r\n"), line(5, 14, false));
        assert_eq!(delimiters.next(b"--b\r\n\r\n--b--", 3), line(5, 12, true));
        // With no line break before it, it is text.
        assert!(delimiters.first(b"hello--b\r\n").is_err());
        assert!(delimiters.first(b"--bc\r\n").is_err());
        assert!(delimiters.first(b"--b-\r\n").is_err());
        assert!(delimiters.first(b"--b").is_err());
    }
}
