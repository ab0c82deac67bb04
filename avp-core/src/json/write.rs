//! Numbers and text as Python's `json.dumps` writes them.

use core::fmt::{self, Write};

use super::Text;

impl Text {
    /// Writes the text in quotes, with everything outside printable ASCII escaped.
    pub(super) fn write(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_char('"')?;
        let mut rest = &self.0[..];
        while let [first, ..] = rest {
            let plain =
                rest.iter().take_while(|byte| matches!(byte, b' '..=b'~' if !b"\"\\".contains(byte))).count();
            if plain > 0 {
                out.write_str(core::str::from_utf8(&rest[..plain]).map_err(|_| fmt::Error)?)?;
                rest = &rest[plain..];
                continue;
            }
            match first {
                b'"' => out.write_str("\\\"")?,
                b'\\' => out.write_str("\\\\")?,
                b'\n' => out.write_str("\\n")?,
                b'\r' => out.write_str("\\r")?,
                b'\t' => out.write_str("\\t")?,
                0x08 => out.write_str("\\b")?,
                0x0c => out.write_str("\\f")?,
                _ => {
                    let (code, len) = first_code_point(rest);
                    match code.checked_sub(0x1_0000) {
                        None => write!(out, "\\u{code:04x}")?,
                        Some(offset) => {
                            write!(
                                out,
                                "\\u{:04x}\\u{:04x}",
                                0xd800 + (offset >> 10),
                                0xdc00 + (offset & 0x3ff)
                            )?;
                        }
                    }
                    rest = &rest[len..];
                    continue;
                }
            }
            rest = &rest[1..];
        }
        out.write_char('"')
    }
}

/// The first code point of generalized UTF-8, surrogates included, and its length in bytes.
fn first_code_point(text: &[u8]) -> (u32, usize) {
    let (len, head) = match text[0] {
        byte @ 0..0x80 => (1, byte),
        byte @ 0x80..0xe0 => (2, byte & 0x1f),
        byte @ 0xe0..0xf0 => (3, byte & 0x0f),
        byte => (4, byte & 0x07),
    };
    let len = len.min(text.len());
    let code = text[1..len].iter().fold(u32::from(head), |code, byte| (code << 6) | u32::from(byte & 0x3f));
    (code, len)
}

/// Python's `repr` of a float: the shortest digits that read back the same, with an exponent from 1e16 up and below
/// 1e-4 (`float_repr_style = 'short'`).
pub(super) fn write_float(out: &mut dyn Write, value: f64) -> fmt::Result {
    if !value.is_finite() {
        return out.write_str(match value {
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => "NaN",
        });
    }
    let mut digits = Buffer::<32>::default();
    let exponent = shortest_digits(value.abs(), &mut digits)?;
    let (head, tail) = digits.as_str().split_at(1);
    if value.is_sign_negative() {
        out.write_char('-')?;
    }
    if !(-4..16).contains(&exponent) {
        let point = if tail.is_empty() { "" } else { "." };
        return write!(out, "{head}{point}{tail}e{exponent:+03}");
    }
    match usize::try_from(exponent) {
        Ok(shift) if shift < tail.len() => {
            let (before, after) = tail.split_at(shift);
            write!(out, "{head}{before}.{after}")
        }
        Ok(shift) => write!(out, "{head}{tail}{:0<zeros$}.0", "", zeros = shift - tail.len()),
        Err(_) => {
            write!(out, "0.{:0<zeros$}{head}{tail}", "", zeros = exponent.unsigned_abs() as usize - 1)
        }
    }
}

/// Writes the fewest digits that read back as `value`, which is finite and not negative, to `digits`, and returns the
/// power of ten of the first.
///
/// Where two numbers of that many digits are equally near, Python takes the even one. So does `ryu`; the formatting of
/// `core` does not (727079998553582.25 is `…2.2` here and `…2.3` there).
fn shortest_digits(value: f64, digits: &mut Buffer<32>) -> Result<i32, fmt::Error> {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().map_err(|_| fmt::Error)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // `12.50`, `0.0125` and `1.25e1` are all 125 with a place for the point.
    let significant = |digit: &u8| *digit != b'0';
    let all = whole.bytes().chain(fraction.bytes());
    let Some(first) = all.clone().position(|digit| significant(&digit)) else {
        digits.write_char('0')?;
        return Ok(0);
    };
    let last =
        all.clone().enumerate().filter(|(_, digit)| significant(digit)).last().map_or(first, |(at, _)| at);
    for digit in all.skip(first).take(last - first + 1) {
        digits.write_char(digit.into())?;
    }
    // Both are at most 24, the length of what `ryu` writes.
    Ok(exponent + whole.len() as i32 - first as i32 - 1)
}

/// Text of at most `N` bytes on the stack.
struct Buffer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Buffer<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Buffer<N> {
    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl<const N: usize> Write for Buffer<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
