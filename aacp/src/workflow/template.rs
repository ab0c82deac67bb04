//! Packet templates.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use super::Value;

/// A packet with placeholders: task, domain, and fields in order.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) task: Pattern,
    pub(super) domain: Pattern,
    pub(super) fields: Vec<(String, Pattern)>,
}

/// A text with placeholders.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    /// Plain text.
    Text(String),
    /// `{name}` or `{name:filter,filter}`: the argument's text. Without the argument, the whole pattern has no result.
    Argument { name: String, filters: Vec<Filter> },
    /// `{?name}`: unless the argument is true, the whole pattern has no result.
    Needs(String),
    /// `{name?text}`: the text if the argument is true.
    If { name: String, text: String },
}

#[derive(Clone, Copy, Debug)]
enum Filter {
    /// Upper case.
    Upper,
    /// Lower case.
    Lower,
    /// `-` for each space.
    Dash,
    /// `_` for each space.
    Underscore,
    /// `_` for each space and `-`.
    Snake,
    /// A number with two decimals.
    Fixed2,
}

impl Filter {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "upper" => Filter::Upper,
            "lower" => Filter::Lower,
            "dash" => Filter::Dash,
            "underscore" => Filter::Underscore,
            "snake" => Filter::Snake,
            "fixed2" => Filter::Fixed2,
            _ => return None,
        })
    }
}

/// The argument has the wrong type for a filter.
#[derive(Debug)]
pub(super) struct WrongKind<'t>(pub(super) &'t str);

impl Template {
    /// Parses a template; the error is the offset of the fault, in bytes.
    pub(super) fn parse(text: &str) -> Result<Self, usize> {
        let mut parts = split_outside_braces(text).into_iter();
        let mut pattern = || parts.next().map(|(at, part)| Pattern::parse(part, at));
        let task = pattern().ok_or(0usize)??;
        let domain = pattern().ok_or(text.len())??;
        let mut fields = Vec::new();
        for (at, part) in parts {
            let (key, value) = part.split_once(':').ok_or(at)?;
            fields.push((key.to_owned(), Pattern::parse(value, at + key.len() + 1)?));
        }
        Ok(Self { task, domain, fields })
    }

    /// The names of all arguments.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let patterns =
            [&self.task, &self.domain].into_iter().chain(self.fields.iter().map(|(_, pattern)| pattern));
        patterns.flat_map(|pattern| pattern.0.iter()).filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Argument { name, .. } | Piece::Needs(name) | Piece::If { name, .. } => Some(name.as_str()),
        })
    }
}

impl Pattern {
    fn parse(text: &str, offset: usize) -> Result<Self, usize> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let at = offset + (text.len() - rest.len()) + open;
            if open > 0 {
                pieces.push(Piece::Text(rest[..open].to_owned()));
            }
            let close = rest[open..].find('}').ok_or(at)? + open;
            pieces.push(Piece::parse(&rest[open + 1..close]).ok_or(at)?);
            rest = &rest[close + 1..];
        }
        if let Some(stray) = rest.find('}') {
            return Err(offset + (text.len() - rest.len()) + stray);
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// The text with the arguments; `None` if one of them is missing or the result is blank.
    pub(super) fn fill<'t>(
        &'t self,
        argument: impl Fn(&str) -> Option<Value>,
    ) -> Result<Option<String>, WrongKind<'t>> {
        let value = |name: &str| argument(name).unwrap_or(Value::Nothing);
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Needs(name) if !value(name).holds() => return Ok(None),
                Piece::Needs(_) => {}
                Piece::If { name, text } if value(name).holds() => filled.push_str(text),
                Piece::If { .. } => {}
                Piece::Argument { name, filters } => {
                    let value = value(name);
                    let Some(mut text) = value.written() else { return Ok(None) };
                    for filter in filters {
                        text = apply(*filter, text, &value).ok_or(WrongKind(name))?;
                    }
                    filled.push_str(&text);
                }
            }
        }
        Ok(if crate::text::trim(&filled).1.is_empty() { None } else { Some(filled) })
    }
}

impl Piece {
    fn parse(text: &str) -> Option<Self> {
        let is_name =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if let Some(name) = text.strip_prefix('?') {
            return is_name(name).then(|| Piece::Needs(name.to_owned()));
        }
        if let Some((name, then)) = text.split_once('?') {
            return is_name(name).then(|| Piece::If { name: name.to_owned(), text: then.to_owned() });
        }
        let (name, filters) = match text.split_once(':') {
            Some((name, filters)) => {
                (name, filters.split(',').map(Filter::named).collect::<Option<Vec<_>>>()?)
            }
            None => (text, Vec::new()),
        };
        is_name(name).then(|| Piece::Argument { name: name.to_owned(), filters })
    }
}

fn apply(filter: Filter, text: String, value: &Value) -> Option<String> {
    Some(match filter {
        Filter::Upper => crate::text::upper(&text),
        Filter::Lower => crate::text::lower(&text),
        Filter::Dash => text.replace(' ', "-"),
        Filter::Underscore => text.replace(' ', "_"),
        Filter::Snake => text.replace([' ', '-'], "_"),
        Filter::Fixed2 => match value {
            Value::Number(number, _) => format!("{number:.2}"),
            _ => return None,
        },
    })
}

/// The parts between pipes, each with its offset; pipes inside braces do not separate.
fn split_outside_braces(text: &str) -> Vec<(usize, &str)> {
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => inside = true,
            b'}' => inside = false,
            b'|' if !inside => {
                parts.push((start, &text[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push((start, &text[start..]));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pattern: &str, argument: Value) -> Option<String> {
        Pattern::parse(pattern, 0).unwrap().fill(|name| (name == "x").then(|| argument.clone())).unwrap()
    }

    #[test]
    fn a_pattern_gives_nothing_unless_all_it_needs_is_there() {
        assert_eq!(fill("usr={x}", "j".into()).as_deref(), Some("usr=j"));
        assert_eq!(fill("usr={x}", "".into()).as_deref(), Some("usr="), "an empty text is a text");
        assert_eq!(fill("usr={x}", Value::Nothing), None);
        assert_eq!(fill("usr={x}", Value::List(Vec::new())), None);
        assert_eq!(fill("{x}", "  ".into()), None, "all is blank");
        assert_eq!(fill("{?x}yes", 0.into()), None);
        assert_eq!(fill("{?x}yes", 1.into()).as_deref(), Some("yes"));
        assert_eq!(fill("a{x?,b}", true.into()).as_deref(), Some("a,b"));
        assert_eq!(fill("a{x?,b}", false.into()).as_deref(), Some("a"));
    }

    #[test]
    fn filters_apply_in_order() {
        assert_eq!(fill("{x:underscore,lower}", "IP Rights".into()).as_deref(), Some("ip_rights"));
        assert_eq!(fill("{x:snake}", "2024-08 x".into()).as_deref(), Some("2024_08_x"));
        assert_eq!(fill("{x:fixed2}", 0.125.into()).as_deref(), Some("0.12"));
        assert!(Pattern::parse("{x:fixed2}", 0).unwrap().fill(|_| Some("a".into())).is_err());
    }

    #[test]
    fn a_malformed_template_says_where() {
        for (text, at) in
            [("A|B|k:{x", 6), ("A|B|k:{}", 6), ("A|B|k:{x:loud}", 6), ("A|B|k:x}", 7), ("A|B|k", 4), ("A", 1)]
        {
            assert_eq!(Template::parse(text).unwrap_err(), at, "{text}");
        }
    }
}
