//! `{% generation %}`: Transformers' tag around what an assistant said.
//!
//! It marks a range for training and renders its body in a scope of its own. minijinja has no tags of one's own making, but
//! `{% with %}` renders just so; the names are exchanged in the source, which leaves every line where it was.

/// `source` with `generation` tags that minijinja knows.
pub(super) fn replace(source: &str) -> String {
    let mut replaced = String::with_capacity(source.len());
    let mut rest = source;
    let mut raw = false;
    while let Some((before, tag)) = next_tag(rest, raw) {
        replaced += before;
        let end = end_of(tag);
        let (tag, behind) = tag.split_at(end);
        match name(tag) {
            Some("raw") => raw = true,
            Some("endraw") => raw = false,
            _ => {}
        }
        replaced += &match name(tag) {
            Some("generation") if !raw => tag.replacen("generation", "with", 1),
            Some("endgeneration") if !raw => tag.replacen("endgeneration", "endwith", 1),
            _ => tag.to_owned(),
        };
        rest = behind;
    }
    replaced + rest
}

/// What stands before the next `{%`, `{{` or `{#`, and what begins with it; in raw text only `{%` counts.
fn next_tag(source: &str, raw: bool) -> Option<(&str, &str)> {
    let opens: &[&str] = if raw { &["{%"] } else { &["{%", "{{", "{#"] };
    let at = opens.iter().filter_map(|open| source.find(open)).min()?;
    Some(source.split_at(at))
}

/// Bytes of the tag that `source` begins with: up to what closes it outside quotes.
fn end_of(source: &str) -> usize {
    let (close, quoted) = match source.get(..2) {
        Some("{#") => ("#}", false),
        Some("{{") => ("}}", true),
        _ => ("%}", true),
    };
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in source.char_indices().skip(2) {
        match quote {
            Some(open) => {
                if escaped {
                    escaped = false;
                } else if character == '\\' {
                    escaped = true;
                } else if character == open {
                    quote = None;
                }
            }
            None if source[at..].starts_with(close) => return at + close.len(),
            None if quoted && matches!(character, '"' | '\'') => quote = Some(character),
            None => {}
        }
    }
    source.len()
}

/// The name of a statement such as `{%- generation -%}` that is nothing but a name.
fn name(tag: &str) -> Option<&str> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    Some(inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_becomes_a_scope_whatever_its_whitespace() {
        assert_eq!(
            replace("a{% generation %}b{%- endgeneration -%}c{%-generation%}{%+ endgeneration %}"),
            "a{% with %}b{%- endwith -%}c{%-with%}{%+ endwith %}"
        );
    }

    #[test]
    fn what_is_no_tag_stays_as_it_is() {
        for source in [
            "generation",
            "{# {% generation %} #}",
            "{{ '{% generation %}' }}",
            "{{ \"a\\\"{% generation %}\" }}",
            "{% raw %}{{ ' {% generation %}{% endraw %}",
            "{% set generation = 1 %}{{ generation }}",
            "{% generation",
            "{% if a == '%}' %}é{",
            "{",
            "",
        ] {
            assert_eq!(replace(source), source);
        }
    }

    #[test]
    fn a_tag_behind_raw_text_counts_again() {
        assert_eq!(
            replace("{% raw %}{{{% endraw %}{% generation %}{% endgeneration %}"),
            "{% raw %}{{{% endraw %}{% with %}{% endwith %}"
        );
    }
}
