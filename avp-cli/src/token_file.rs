//! Files of tokens: one token on each line, then optionally the name of its principal, then optionally scopes, then optionally limits.
//! Blank lines and those that start with `#` are ignored.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use avp_transport::server::{Principal, PrincipalLimits, Scopes, Tokens};

use crate::units::size;

/// The tokens in a file, for a server.
///
/// # Errors
/// When the file cannot be read or contains no token: an empty file must not disable authentication.
pub(crate) fn principals(path: &Path) -> Result<Tokens> {
    let tokens = |text: &str| {
        let lines = lines(text)?.into_iter();
        Ok(lines.fold(Tokens::default(), |tokens, line| match line.principal {
            Some(principal) => tokens.with(line.token, principal),
            None => tokens.and(line.token),
        }))
    };
    read(path, tokens)
}

/// The first token in a file, for a client.
///
/// # Errors
/// When the file cannot be read or contains no token.
pub(crate) fn first(path: &Path) -> Result<String> {
    read(path, |text| Ok(lines(text)?.swap_remove(0).token.to_owned()))
}

fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).map_err(|problem| anyhow!("{}: {problem}", path.display()))
}

/// A line of the file.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    token: &'a str,
    /// `None` for a token of a principal of its own.
    principal: Option<Principal>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.split_ascii_whitespace().peekable();
        let token = parts.next().filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()))?;
        let Some(name) = parts.next() else { return Some(Self { token, principal: None }) };
        if !is_name(name) {
            return None;
        }
        let scopes = parts.next_if(|part| !part.contains('=')).map(str::parse).transpose().ok()?;
        let mut limits = PrincipalLimits::default();
        for part in parts {
            set_limit(&mut limits, part)?;
        }
        let (name, scopes) = (name.to_owned(), scopes.unwrap_or_default());
        Some(Self { token, principal: Some(Principal { name, scopes, limits }) })
    }
}

/// Sets the limit that `part` names, such as `rate=10`; `None` where it is none, or was set before.
fn set_limit(limits: &mut PrincipalLimits, part: &str) -> Option<()> {
    let (name, value) = part.split_once('=')?;
    let is_new = match name {
        "quota" => limits.quota.replace(usize::try_from(size(value).ok()?).ok()?).is_none(),
        "rate" => limits.requests_per_second.replace(value.parse().ok()?).is_none(),
        "places" => limits.places.replace(value.parse().ok().filter(|places| *places > 0)?).is_none(),
        _ => false,
    };
    is_new.then_some(())
}

/// A name like `metrics` is refused: its token would be for everything, although meant for the metrics.
fn is_name(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
    is_plain && name.parse::<Scopes>().is_err()
}

/// The lines with a token, at least one.
///
/// # Errors
/// When a line is invalid or repeats a token, or no line has one. The error does not show the line, which is a secret.
fn lines(text: &str) -> Result<Vec<Line<'_>>, String> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = Line::parse(line).ok_or_else(|| {
            format!(
                "line {number} is not a token: expected printable ASCII without spaces, then perhaps a name of letters, digits, `.`, \
                 `_`, `-`, `@`, then perhaps scopes, such as `send,fetch`, then perhaps `quota=SIZE`, `rate=N` and `places=N`"
            )
        })?;
        if lines.iter().any(|other| other.token == line.token) {
            return Err(format!("line {number} repeats a token"));
        }
        // A limit is a principal's, whichever of its tokens a request has.
        let others = lines.iter().filter_map(|line| line.principal.as_ref());
        if let Some(principal) = &line.principal
            && others
                .into_iter()
                .any(|other| other.name == principal.name && other.limits != principal.limits)
        {
            return Err(format!(
                "line {number} has other limits for its principal than a line before: every token of a principal needs the same ones"
            ));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err("the file contains no token".to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn tokens(text: &str) -> Result<Vec<&str>, String> {
        Ok(lines(text)?.into_iter().map(|line| line.token).collect())
    }

    #[test]
    fn tokens_stand_one_a_line_between_comments() {
        let error = tokens("# friends\n\n alpha\r\nbeta # no\n").unwrap_err();
        assert!(error.starts_with("line 4 is not a token"), "{error}");
        assert_eq!(tokens("# friends\n\n alpha\r\nbeta\n"), Ok(vec!["alpha", "beta"]));
    }

    #[test]
    fn a_name_and_scopes_follow_a_token() {
        let found = lines("alpha\nbeta alice\ngamma ops@here  metrics,admin\n").unwrap();
        let principal = |name: &str, scopes: &str| {
            Some(Principal { name: name.to_owned(), scopes: scopes.parse().unwrap(), ..Default::default() })
        };
        let found: Vec<_> = found.into_iter().map(|line| (line.token, line.principal)).collect();
        let own = Some(Principal { name: "alice".to_owned(), ..Default::default() });
        assert_eq!(
            found,
            [("alpha", None), ("beta", own), ("gamma", principal("ops@here", "metrics,admin"))]
        );
        for wrong in [
            "a metrics",
            "a send,fetch",
            "a b\na c",
            "a b send fetch",
            "a b c",
            "a b,c",
            "a b send,",
            "a \u{e9}",
        ] {
            assert!(lines(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_follow_a_name_and_are_the_same_for_each_token_of_a_principal() {
        let text = "alpha alice quota=2GiB rate=10 places=1\nbeta bob send places=4\ngamma alice fetch places=1 rate=10 quota=2GiB";
        let limits: Vec<_> =
            lines(text).unwrap().into_iter().map(|line| line.principal.unwrap().limits).collect();
        let alice = PrincipalLimits {
            quota: Some(2 << 30),
            requests_per_second: NonZeroU32::new(10),
            places: Some(1),
        };
        assert_eq!(limits, [alice, PrincipalLimits { places: Some(4), ..Default::default() }, alice]);
        assert!(lines("a alice rate=1\nb alice").unwrap_err().contains("line 2 has other limits"));
        for wrong in [
            "a rate=1",
            "a b rate=0",
            "a b rate=1 rate=1",
            "a b rate=1 send",
            "a b quota=much",
            "a b places=-1",
            "a b places=0",
            "a b places",
            "a b seats=1",
        ] {
            assert!(lines(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_without_a_token_opens_nothing() {
        for text in ["", "\n\n", "# alpha\n", "   \n#\n"] {
            assert!(tokens(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_line_is_not_shown() {
        assert!(!tokens("s3cret and words").unwrap_err().contains("s3cret"));
    }
}
