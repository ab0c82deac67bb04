//! What stands between the delimiters of a template: its tags, and their tokens with the places they have in the source.
//!
//! Just as minijinja 3 reads a template, so that what is found here is what runs there: raw text and comments hide tags,
//! strings and open brackets hide the end of one. A template that it refuses may come out as anything.

use std::ops::Range;

/// A statement `{% … %}` or an expression `{{ … }}`.
pub(super) struct Tag {
    pub(super) is_statement: bool,
    /// In the order of the source.
    pub(super) tokens: Vec<Token>,
}

/// A name, a number, a string or a sign.
pub(super) struct Token {
    /// Bytes of the source.
    pub(super) range: Range<usize>,
    /// Of a bracket, which token is the other one; of anything else, itself.
    pub(super) partner: usize,
}

/// The tags of `source`, in its order.
pub(super) fn tags(source: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some((start, marker)) = next_marker(source, at) {
        let inner = start + 2;
        let inner = inner + usize::from(source[inner..].starts_with(['-', '+']));
        at = match marker {
            '#' => find(source, inner, "#}").map_or(source.len(), |end| end + 2),
            '%' => match bare_tag(&source[inner..], "raw") {
                Some(length) => end_of_raw(source, inner + length),
                None => tag(source, inner, "%}", &mut tags),
            },
            _ => tag(source, inner, "}}", &mut tags),
        };
    }
    tags
}

/// Where the next `{%`, `{{` or `{#` begins, and its second character.
fn next_marker(source: &str, from: usize) -> Option<(usize, char)> {
    let mut at = from;
    loop {
        at = find(source, at, "{")?;
        match source[at + 1..].chars().next() {
            Some(marker @ ('%' | '{' | '#')) => return Some((at, marker)),
            _ => at += 1,
        }
    }
}

fn find(source: &str, from: usize, what: &str) -> Option<usize> {
    source[from..].find(what).map(|at| from + at)
}

/// The bytes up to the end of a tag that is nothing but `name`, where `inner` begins behind its `{%`.
fn bare_tag(inner: &str, name: &str) -> Option<usize> {
    let behind = inner.trim_ascii_start().strip_prefix(name)?.trim_ascii_start();
    let behind = behind.strip_prefix(['-', '+']).unwrap_or(behind);
    behind.strip_prefix("%}").map(|rest| inner.len() - rest.len())
}

/// Where the text that `{% raw %}` begins has its `{% endraw %}` behind it.
fn end_of_raw(source: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(open) = find(source, at, "{%") {
        at = open + 2;
        let sign = usize::from(source[at..].starts_with(['-', '+']));
        if let Some(length) = bare_tag(&source[at + sign..], "endraw") {
            return at + sign + length;
        }
    }
    source.len()
}

/// Adds the tag whose inside begins at `from`, and gives where the text behind it begins.
fn tag(source: &str, from: usize, close: &str, tags: &mut Vec<Tag>) -> usize {
    let mut found = Tag { is_statement: close == "%}", tokens: Vec::new() };
    let mut at = from;
    let mut open = Vec::new();
    let end = loop {
        let rest = &source[at..];
        let Some(first) = rest.chars().next() else { break at };
        if first.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if open.is_empty() {
            if rest.starts_with(close) {
                break at + close.len();
            }
            if rest.strip_prefix(['-', '+']).is_some_and(|rest| rest.starts_with(close)) {
                break at + 1 + close.len();
            }
        }
        let index = found.tokens.len();
        let mut partner = index;
        match first {
            '(' | '[' | '{' => open.push(index),
            ')' | ']' | '}' => {
                if let Some(opened) = open.pop() {
                    found.tokens[opened].partner = index;
                    partner = opened;
                }
            }
            _ => {}
        }
        let after_dot =
            index.checked_sub(1).is_some_and(|dot| source[found.tokens[dot].range.clone()] == *".");
        let length =
            if first.is_ascii_digit() { number_len(rest, after_dot) } else { token_len(rest, first) };
        found.tokens.push(Token { range: at..at + length, partner });
        at += length;
    };
    tags.push(found);
    end
}

/// Bytes of the token that `rest` begins with.
fn token_len(rest: &str, first: char) -> usize {
    match first {
        '"' | '\'' => string_len(rest, first),
        _ if first == '_' || first.is_alphabetic() => {
            rest.find(|at: char| at != '_' && !at.is_alphanumeric()).unwrap_or(rest.len())
        }
        _ => {
            let two = ["//", "**", "==", "!=", ">=", "<="].iter().any(|sign| rest.starts_with(sign));
            if two { 2 } else { first.len_utf8() }
        }
    }
}

fn string_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// With its fraction and exponent; behind a dot it is an index and has neither.
fn number_len(rest: &str, after_dot: bool) -> usize {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Radix,
        Integer,
        Fraction,
        Exponent,
        Signed,
    }

    let bytes = rest.as_bytes();
    let radix = match bytes.get(..2) {
        Some(b"0b" | b"0B") => 2,
        Some(b"0o" | b"0O") => 8,
        Some(b"0x" | b"0X") => 16,
        _ => 10,
    };
    let (mut at, mut state) = if radix == 10 { (0, State::Integer) } else { (2, State::Radix) };
    while let Some(&byte) = bytes.get(at) {
        state = match (byte, state) {
            (b'0'..=b'9', State::Exponent) => State::Signed,
            (b'0'..=b'9' | b'_', state) => state,
            (b'.', State::Integer) if !after_dot => {
                let next = |offset: usize| bytes.get(at + offset).copied().unwrap_or(b' ');
                let is_exponent =
                    matches!(next(1), b'e' | b'E') && matches!(next(2), b'+' | b'-' | b'0'..=b'9');
                let is_name = rest[at + 1..].starts_with(|first: char| first == '_' || first.is_alphabetic());
                if is_name && !is_exponent {
                    break;
                }
                State::Fraction
            }
            (b'e' | b'E', State::Integer | State::Fraction) => State::Exponent,
            (b'+' | b'-', State::Exponent) => State::Signed,
            (b'a'..=b'f' | b'A'..=b'F', State::Radix) if radix == 16 => state,
            _ => break,
        };
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each tag as its tokens, with blanks between them.
    fn found(source: &str) -> Vec<String> {
        let text = |tag: &Tag| {
            let tokens: Vec<&str> = tag.tokens.iter().map(|token| &source[token.range.clone()]).collect();
            tokens.join(" ")
        };
        tags(source).iter().map(text).collect()
    }

    #[test]
    fn tokens_are_names_numbers_strings_and_signs() {
        for (inside, tokens) in [
            ("a.b|c(d='e',f=[1])", "a . b | c ( d = 'e' , f = [ 1 ] )"),
            ("a==b//c**d~-1", "a == b // c ** d ~ - 1"),
            ("1.5e-3~x.0.y", "1.5e-3 ~ x . 0 . y"),
            ("0xe-1", "0xe - 1"),
            ("1e5-é_1", "1e5 - é_1"),
            ("1or 2.e+5 3_e-1 4.x 5.", "1 or 2.e+5 3_e-1 4 . x 5."),
            ("a.0.1e5", "a . 0 . 1e5"),
            (r#""a\"b"~'c"d'"#, r#""a\"b" ~ 'c"d'"#),
        ] {
            assert_eq!(found(&format!("{{{{{inside}}}}}")), [tokens]);
        }
    }

    #[test]
    fn a_tag_ends_outside_of_brackets_and_strings() {
        assert_eq!(found("{{ {'a': {}}}} }}{% x %}"), ["{ 'a' : { } }", "x"]);
        assert_eq!(found("{{ '}}' }}a{%- x -%}b{%+x+%}"), ["'}}'", "x", "x"]);
        assert_eq!(found("{% a [%}] %}{{ b -}}"), ["a [ % } ]", "b"]);
        assert_eq!(found("{{ a--}}"), ["a -"]);
    }

    #[test]
    fn brackets_know_each_other() {
        let tags = tags("{{ (a[b]) }}{{ ] (c}");
        let partners = |tag: &Tag| tag.tokens.iter().map(|token| token.partner).collect::<Vec<_>>();
        assert_eq!(partners(&tags[0]), [5, 1, 4, 3, 2, 0]);
        assert_eq!(partners(&tags[1])[..3], [0, 3, 2]);
    }

    #[test]
    fn raw_text_and_comments_hide_tags() {
        assert_eq!(found("{# {% a %} #}{% b %}"), ["b"]);
        assert_eq!(found("{#-#}{% b %}#}"), ["b"]);
        assert_eq!(found("{% raw %}{{ ' {% a %}{% endraw %}{% b %}"), ["b"]);
        assert_eq!(found("{%-\nraw +%}{% endraw x %}{%- endraw -%}{% b %}"), ["b"]);
        assert_eq!(found("{% rawly %}{% b %}"), ["rawly", "b"]);
        assert_eq!(found("{ {{a}} {"), ["a"]);
    }

    #[test]
    fn what_never_ends_is_read_to_its_end() {
        for source in ["{", "{%", "{{ 'a", "{#", "{{ (", "{% raw %}{% endraw", "{{ a)) }", "{{ 'é\\"] {
            tags(source);
        }
    }
}
