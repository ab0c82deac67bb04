//! What is changed in a template's source before minijinja compiles it; every line stays where it was.
//!
//! - `{% generation %}`, Transformers' tag around what an assistant said, marks a range for training and renders its body
//!   in a scope of its own. minijinja has no tags of one's own making, but `{% with %}` renders just so.
//! - What `~` joins goes through the filter [`PAID`] first, and what `{% set a.b = … %}` puts into a namespace through
//!   [`HELD`], since minijinja lets no one step in there.

use std::{collections::HashSet, ops::Range};

use super::tags::{Tag, tags};

/// The filter that pays for what writing a value out will cost.
pub(super) const PAID: &str = "avp_paid";

/// The filter that makes of a value what a namespace may hold.
pub(super) const HELD: &str = "avp_held";

/// `source` as it is compiled.
pub(super) fn rewrite(source: &str) -> String {
    let mut edits = Vec::new();
    for tag in tags(source) {
        let statement = Statement { source, tag: &tag };
        statement.rename_generation(&mut edits);
        statement.pay_for_joined(&mut edits);
        statement.guard_attributes(&mut edits);
    }
    // Stable: of two that end at one place, the inner was found first.
    edits.sort_by_key(|edit| edit.range.start);
    let mut rewritten = String::with_capacity(source.len() + edits.len() * PAID.len());
    let mut copied = 0;
    for Edit { range, text } in edits {
        rewritten += &source[copied..range.start];
        rewritten += &text;
        copied = range.end;
    }
    rewritten + &source[copied..]
}

/// Bytes of the source, and what stands there instead.
struct Edit {
    range: Range<usize>,
    text: String,
}

impl Edit {
    fn insert(at: usize, text: String) -> Self {
        Self { range: at..at, text }
    }
}

/// A tag and the source it is of. Ranges are of its tokens.
struct Statement<'a> {
    source: &'a str,
    tag: &'a Tag,
}

impl Statement<'_> {
    fn rename_generation(&self, edits: &mut Vec<Edit>) {
        let name = match self.text(0) {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => return,
        };
        if self.tag.is_statement && self.len() == 1 {
            edits.push(Edit { range: self.tag.tokens[0].range.clone(), text: name.to_owned() });
        }
    }

    /// `a ~ b` becomes `(a)|avp_paid ~ (b)|avp_paid`.
    fn pay_for_joined(&self, edits: &mut Vec<Edit>) {
        let mut paid = HashSet::new();
        for joins in (0..self.len()).filter(|&at| self.text(at) == "~") {
            for operand in [self.operand_before(joins), self.operand_behind(joins)] {
                // One between two of them is found twice.
                if !operand.is_empty() && paid.insert(operand.start) {
                    self.apply(PAID, operand, edits);
                }
            }
        }
    }

    /// `{% set a.b = c %}` becomes `{% set a.b = (c)|avp_held %}`, and so where a filter makes the value.
    fn guard_attributes(&self, edits: &mut Vec<Edit>) {
        if !self.tag.is_statement || self.text(0) != "set" {
            return;
        }
        let mut at = 1;
        while at < self.len() && !matches!(self.text(at), "=" | "|") {
            at += 1;
        }
        let has_attribute = (1..at).any(|at| self.text(at) == ".");
        let value = at + 1..self.len();
        if !has_attribute || value.is_empty() {
            return;
        }
        match self.text(at) {
            "=" => self.apply(HELD, value, edits),
            _ => edits.push(Edit::insert(self.bytes(value).end, format!("|{HELD}"))),
        }
    }

    /// Has `filter` applied to all of `expression`.
    fn apply(&self, filter: &str, expression: Range<usize>, edits: &mut Vec<Edit>) {
        let bytes = self.bytes(expression);
        edits.push(Edit::insert(bytes.start, "(".to_owned()));
        edits.push(Edit::insert(bytes.end, format!(")|{filter}")));
    }

    /// What the `~` at `joins` has on its left.
    fn operand_before(&self, joins: usize) -> Range<usize> {
        let mut start = joins;
        while let Some(before) = start.checked_sub(1) {
            // What stands beside the sign belongs to it whatever its name.
            let ends =
                if start == joins { self.opens(before) } else { self.opens(before) || self.parts(before) };
            if ends {
                break;
            }
            start = self.partner(before);
        }
        start..joins
    }

    /// What the `~` at `joins` has on its right.
    fn operand_behind(&self, joins: usize) -> Range<usize> {
        let mut end = joins + 1;
        while end < self.len() && !self.closes(end) && (end == joins + 1 || !self.parts(end)) {
            end = self.partner(end) + 1;
        }
        joins + 1..end
    }

    /// Whether the token binds less than `~` does, so that an operand of it ends there.
    fn parts(&self, at: usize) -> bool {
        match self.text(at) {
            // `is not`, `is in` and `is not in` are tests, which bind more.
            "not" | "in" => {
                let before = |text: &str, back: usize| at >= back && self.text(at - back) == text;
                !(before("is", 1) || (before("not", 1) && before("is", 2)))
            }
            // A sign of one operand binds more.
            "-" => self.is_behind_operand(at),
            "~" | "+" | "==" | "!=" | "<" | ">" | "<=" | ">=" | "=" | "," | ":" => true,
            "and" | "or" | "if" | "else" => true,
            // The statement's name.
            _ => at == 0 && self.tag.is_statement,
        }
    }

    /// Whether what stands before the token is a value, and not a sign or a word that waits for one.
    fn is_behind_operand(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return false };
        let is_word = |text: &str| matches!(text, "and" | "or" | "not" | "in" | "is" | "if" | "else");
        match self.text(before) {
            word if is_word(word) => false,
            text if text.starts_with(|first: char| first.is_alphanumeric() || "_'\"".contains(first)) => {
                before > 0 || !self.tag.is_statement
            }
            _ => self.closes(before),
        }
    }

    fn opens(&self, at: usize) -> bool {
        matches!(self.text(at), "(" | "[" | "{")
    }

    fn closes(&self, at: usize) -> bool {
        matches!(self.text(at), ")" | "]" | "}")
    }

    fn partner(&self, at: usize) -> usize {
        self.tag.tokens[at].partner
    }

    fn len(&self) -> usize {
        self.tag.tokens.len()
    }

    /// Empty behind the last token.
    fn text(&self, at: usize) -> &str {
        self.tag.tokens.get(at).map_or("", |token| &self.source[token.range.clone()])
    }

    /// `tokens` is not empty.
    fn bytes(&self, tokens: Range<usize>) -> Range<usize> {
        self.tag.tokens[tokens.start].range.start..self.tag.tokens[tokens.end - 1].range.end
    }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, Value, context};
    use proptest::prelude::*;

    use super::*;

    /// With `|p` for the filter of what is joined and `|h` for that of what is held.
    fn short(source: &str) -> String {
        rewrite(source).replace(PAID, "p").replace(HELD, "h")
    }

    #[test]
    fn generation_becomes_a_scope_whatever_its_whitespace() {
        assert_eq!(
            rewrite("a{% generation %}b{%- endgeneration -%}c{%-generation%}{%+ endgeneration %}"),
            "a{% with %}b{%- endwith -%}c{%-with%}{%+ endwith %}"
        );
        assert_eq!(
            rewrite("{% raw %}{{{% endraw %}{% generation %}{% endgeneration %}"),
            "{% raw %}{{{% endraw %}{% with %}{% endwith %}"
        );
    }

    #[test]
    fn what_is_no_such_tag_stays_as_it_is() {
        for source in [
            "generation",
            "{# {% generation %} #}",
            "{{ '{% generation %}' }}",
            "{{ \"a\\\"{% generation %}\" }}",
            "{% raw %}{{ ' {% generation %}{% endraw %}",
            "{% set generation = 1 %}{{ generation }}",
            "{% if a == '%}' %}é{",
            "{% set a = b.c %}{% set (a, b) = c, d %}{% set a %}b.c{% endset %}",
            "{% set a.b %}text{% endset %}",
            "a ~ b",
            "{",
            "",
        ] {
            assert_eq!(rewrite(source), source);
        }
    }

    #[test]
    fn each_operand_of_a_join_is_paid_for_as_far_as_it_goes() {
        for (written, expected) in [
            ("a ~ b", "(a)|p ~ (b)|p"),
            ("a~b~c", "(a)|p~(b)|p~(c)|p"),
            ("a + b * 2 ~ -c.d[0]|e(f) - g", "a + (b * 2)|p ~ (-c.d[0]|e(f))|p - g"),
            ("x if a ~ b else c", "x if (a)|p ~ (b)|p else c"),
            ("not a ~ b is not none and c", "not (a)|p ~ (b is not none)|p and c"),
            ("a is not in (b, c) ~ d", "(a is not in (b, c))|p ~ (d)|p"),
            ("a not in b ~ c", "a not in (b)|p ~ (c)|p"),
            ("f(a ~ [b ~ c], d=e ~ 'f')", "f((a)|p ~ ([(b)|p ~ (c)|p])|p, d=(e)|p ~ ('f')|p)"),
            ("{a ~ b: c ~ d}[e ~ f:g]", "{(a)|p ~ (b)|p: (c)|p ~ (d)|p}[(e)|p ~ (f)|p:g]"),
            ("(a) ~ (b)(c)", "((a))|p ~ ((b)(c))|p"),
            ("a == b ~ c != d", "a == (b)|p ~ (c)|p != d"),
            ("a ~ - - b", "(a)|p ~ (- - b)|p"),
        ] {
            assert_eq!(short(&format!("{{{{ {written} }}}}")), format!("{{{{ {expected} }}}}"));
        }
        assert_eq!(short("{% if a ~ b %}{% elif a~b %}"), "{% if (a)|p ~ (b)|p %}{% elif (a)|p~(b)|p %}");
        assert_eq!(short("{% for a in b ~ c if d %}"), "{% for a in (b)|p ~ (c)|p if d %}");
    }

    #[test]
    fn what_a_namespace_is_given_is_made_fit_for_it() {
        for (written, expected) in [
            ("set a.b = c", "set a.b = (c)|h"),
            ("set a.b = c, d", "set a.b = (c, d)|h"),
            ("set a.b.c=d if e else f", "set a.b.c=(d if e else f)|h"),
            ("set (a, b.c) = d", "set (a, b.c) = (d)|h"),
            ("set a.b = c == d ~ e", "set a.b = (c == (d)|p ~ (e)|p)|h"),
            ("set a.b = a.b ~ c", "set a.b = ((a.b)|p ~ (c)|p)|h"),
            ("set a.b | default(a)", "set a.b | default(a)|h"),
        ] {
            assert_eq!(short(&format!("{{%- {written} -%}}")), format!("{{%- {expected} -%}}"));
        }
    }

    #[test]
    fn a_long_source_takes_no_longer_for_its_nesting() {
        let source = format!("{{{{ {}", "(a~".repeat(40_000));
        assert!(rewrite(&source).len() > source.len());
        let source = format!("{{{{ {}{}", "(".repeat(40_000), "a)~".repeat(40_000));
        assert!(rewrite(&source).len() > source.len());
    }

    /// Expressions of which most have a value.
    fn expression() -> impl Strategy<Value = String> {
        let leaf =
            prop::sample::select(vec!["a", "b.c", "'x'", "1", "2.5e-1", "none", "[1, 2]", "d", "e[0]"]);
        leaf.prop_map(str::to_owned).prop_recursive(5, 40, 3, |inner| {
            let of_two = |forms: &[&'static str]| {
                (prop::sample::select(forms.to_vec()), inner.clone(), inner.clone())
                    .prop_map(|(form, one, other)| form.replace('A', &one).replace('B', &other))
            };
            prop_oneof![
                4 => of_two(&["A ~ B", "A~B", "A ~ -B", "A ~ (B)", "(A) ~ B"]),
                2 => of_two(&["A + B", "A * B", "A == B", "A and B", "A or B", "A in [B]", "A not in [B]", "A - B"]),
                2 => of_two(&["not A", "A is none", "A is not none", "A is in [B]", "A is not in ([B])", "-A"]),
                2 => of_two(&["[A, B]", "{'k': A, B: 1}", "A if B else A", "(A, B)", "[A][0:1]", "f(A, g=B)"]),
                1 => of_two(&["A|string", "(A)|default(B)|string", "A|e ~ B", "(A)|join(B ~ '-')"]),
            ]
        })
    }

    fn rendered(source: String) -> Option<String> {
        let mut environment = Environment::new();
        for filter in [PAID, HELD] {
            environment.add_filter(filter, |value: Value| value);
        }
        let template = environment.template_from_named_str("t.txt", &source).ok()?;
        template.render(context! { a => "A", b => context! { c => 3 }, d => vec![1], e => vec!["e"] }).ok()
    }

    proptest! {
        #[test]
        fn nothing_is_rendered_otherwise(expression in expression()) {
            for source in [
                format!("{{{{ {expression} }}}}"),
                format!("{{% set n = namespace() %}}{{%- set n.a = {expression}-%}}{{{{ n.a }}}}"),
                format!("{{% if {expression} %}}1{{% else %}}0{{% endif %}}"),
            ] {
                // What minijinja refuses may come to be taken: an operand can be more in brackets.
                if let Some(expected) = rendered(source.clone()) {
                    prop_assert_eq!(rendered(rewrite(&source)), Some(expected));
                }
            }
        }
    }
}
