//! Percent-encoding of values (`enc:pct`).
//!
//! A pipe always ends a field, so a value that contains one must be encoded. With `enc:pct`, `%` and two hexadecimal digits
//! are one byte of UTF-8, as in RFC 3986, section 2.1.

use core::fmt;

use crate::text::trim;

/// A decoded value: escapes are replaced by their characters if the packet is percent-encoded.
///
/// ```
/// let packet = aacp::Packet::parse("SEND|HR|return:A|aacp:1.2|enc:pct|subj:a%7Cb")?;
/// let subject = packet.fields().find(|field| field.has_key("subj")).unwrap();
/// assert!(packet.decode(subject.value()).chars().eq("a|b".chars()));
/// # Ok::<(), aacp::ParseError>(())
/// ```
///
/// Text that is not the escape of a whole character is unchanged; the strict profile rejects it.
#[derive(Clone, Copy, Debug)]
pub struct Decoded<'a> {
    value: &'a str,
    encoded: bool,
}

impl<'a> Decoded<'a> {
    pub(crate) fn new(value: &'a str, encoded: bool) -> Self {
        Self { value, encoded }
    }

    /// The characters.
    pub fn chars(self) -> impl Iterator<Item = char> + Clone + 'a {
        let mut rest = self.value;
        core::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let escape = if first == '%' && self.encoded { escaped_char(rest.as_bytes()) } else { None };
            let (c, len) = escape.unwrap_or((first, first.len_utf8()));
            rest = &rest[len..];
            Some(c)
        })
    }

    /// The text; borrowed if it contains no escapes. Available with the feature `alloc`.
    #[cfg(feature = "alloc")]
    pub fn to_cow(self) -> alloc::borrow::Cow<'a, str> {
        if self.encoded && self.value.contains('%') {
            alloc::borrow::Cow::Owned(self.chars().collect())
        } else {
            alloc::borrow::Cow::Borrowed(self.value)
        }
    }
}

impl fmt::Display for Decoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.chars().try_for_each(|c| f.write_char(c))
    }
}

/// A value encoded for `enc:pct`.
///
/// The escaped characters are `|`, `%`, control characters, and blank characters at either end.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a>(pub &'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, inner) = trim(self.0);
        let inner = start..start + inner.len();
        for (at, c) in self.0.char_indices() {
            if must_escape(c) || !inner.contains(&at) {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    write!(f, "%{byte:02X}")?;
                }
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}

/// Whether the strict profile requires this value to be encoded.
#[cfg(feature = "alloc")]
pub(crate) fn needs_encoding(value: &str) -> bool {
    value.contains(must_escape) || trim(value).1.len() != value.len()
}

fn must_escape(c: char) -> bool {
    matches!(c, '|' | '%') || c.is_control()
}

/// Offset of the first `%` that does not start the escape of a whole character, in bytes.
///
/// All bytes of a character are escaped, or none: `%C3%A9` is é, `%C3` alone is invalid.
pub(crate) fn first_bad_escape(value: &str) -> Option<usize> {
    let bytes = value.as_bytes();
    let mut at = 0;
    while let Some(skip) = memchr::memchr(b'%', &bytes[at..]) {
        at += skip;
        match escaped_char(&bytes[at..]) {
            Some((_, len)) => at += len,
            None => return Some(at),
        }
    }
    None
}

/// The character escaped at the start of `bytes`, and the length of the escape in bytes.
pub(crate) fn escaped_char(bytes: &[u8]) -> Option<(char, usize)> {
    let first = escaped_byte(bytes)?;
    // The number of leading ones of the first byte is the number of bytes; RFC 3629, section 3.
    let len = match first.leading_ones() {
        0 => 1,
        ones @ 2..=4 => ones as usize,
        _ => return None,
    };
    let mut utf8 = [first, 0, 0, 0];
    for (n, byte) in utf8.iter_mut().enumerate().take(len).skip(1) {
        *byte = escaped_byte(bytes.get(3 * n..)?)?;
    }
    let c = core::str::from_utf8(&utf8[..len]).ok()?.chars().next()?;
    Some((c, 3 * len))
}

/// The byte of `%` and two hexadecimal digits.
fn escaped_byte(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    Some(hex(*high)? << 4 | hex(*low)?)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_spells_one_whole_character() {
        assert_eq!(escaped_char(b"%7C"), Some(('|', 3)));
        assert_eq!(escaped_char(b"%c3%A9x"), Some(('é', 6)));
        assert_eq!(escaped_char(b"%F0%9F%98%80"), Some(('😀', 12)));
        for bad in ["", "%", "%7", "%7g", "%+1", "%C3", "%C3é", "%A9", "%C0%80", "%ED%A0%80", "%FF"] {
            assert_eq!(escaped_char(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn encoding_escapes_what_a_reader_would_lose_and_nothing_else() {
        extern crate std;
        use std::string::ToString;
        for (plain, encoded) in [
            ("a|b%\n", "a%7Cb%25%0A"),
            (" a b\u{a0}", "%20a b%C2%A0"),
            ("é:=,", "é:=,"),
            ("  ", "%20%20"),
            ("", ""),
        ] {
            assert_eq!(Encoded(plain).to_string(), encoded);
            assert_eq!(Decoded::new(encoded, true).to_string(), plain);
        }
    }

    #[test]
    fn decoding_leaves_alone_what_is_no_escape() {
        assert!(Decoded::new("5%|%C3", true).chars().eq("5%|%C3".chars()));
        assert!(Decoded::new("%41", false).chars().eq("%41".chars()));
    }

    #[test]
    fn the_first_bad_escape_is_found_past_good_ones() {
        assert_eq!(first_bad_escape("plain"), None);
        assert_eq!(first_bad_escape("a%7Cb%25"), None);
        assert_eq!(first_bad_escape("é%7Cb%"), Some(6));
    }
}
