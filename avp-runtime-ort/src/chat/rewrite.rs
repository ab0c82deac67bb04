//! What is changed in a template's source before minijinja compiles it; every line stays where it was.
//!
//! - `{% generation %}`, Transformers' tag around what an assistant said, marks a range for training and renders its body
//!   in a scope of its own. minijinja has no tags of one's own making, but `{% with %}` renders just so.
//! - What `~` joins goes through the filter [`PAID`] first, and what `{% set a.b = … %}` puts into a namespace through
//!   [`HELD`], since minijinja lets no one step in there; likewise [`COUNTED`] and [`LISTED`].

use std::{collections::HashSet, ops::Range};

use super::tags::{Tag, tags};

/// The filter that pays for what writing a value out will cost, and gives its text.
pub(super) const PAID: &str = "avp_paid";

/// The filter that pays for as much, and gives the value.
pub(super) const COUNTED: &str = "avp_counted";

/// The filter that pays for a list's length.
pub(super) const LISTED: &str = "avp_listed";

/// The filter that makes of a value what a namespace may hold.
pub(super) const HELD: &str = "avp_held";

/// `source` as it is compiled.
///
/// # Errors
/// The line of a statement that wants another template. A model has none that could be loaded, and Transformers has no
/// loader either; minijinja would find the template itself, and give a namespace all that it sets.
pub(super) fn rewrite(source: &str) -> Result<String, usize> {
    let mut edits = Vec::new();
    for tag in tags(source) {
        let statement = Statement::new(source, &tag);
        statement.refuse_other_templates()?;
        statement.rename_generation(&mut edits);
        statement.pay_for_operands(&mut edits);
        statement.guard_set(&mut edits);
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
    Ok(rewritten + &source[copied..])
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
    /// What each token is.
    parts: Vec<Part>,
}

/// What a token is in an expression.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Of an operand: a name, a literal, a bracket, a sign that binds more than `~` does.
    Operand,
    /// `~`.
    Join,
    /// `+`, or `-` between two operands.
    Sum,
    /// `in` or `not in`, but not that of a test.
    In,
    /// Anything else that operands end at.
    End,
}

impl<'a> Statement<'a> {
    fn new(source: &'a str, tag: &'a Tag) -> Self {
        let mut statement = Self { source, tag, parts: Vec::with_capacity(tag.tokens.len()) };
        // Whether the token before ends a value: names are operators only behind one, and `-` is a sum only there.
        let (mut behind_value, mut behind_test) = (false, false);
        // The first `in` of a loop is its own.
        let mut loop_begins = tag.is_statement && statement.text(0) == "for";
        for at in 0..statement.len() {
            let text = statement.text(at);
            let before = |text: &str, back: usize| at >= back && statement.text(at - back) == text;
            let is_attribute = before(".", 1);
            let is_test = !is_attribute && (before("is", 1) || (before("not", 1) && before("is", 2)));
            // Behind an operator that binds more than `not` does, `not` is a name.
            let is_behind_operator = at > 0
                && (matches!(statement.parts[at - 1], Part::Join | Part::Sum | Part::In)
                    || matches!(statement.text(at - 1), "-" | "*" | "/" | "//" | "%" | "**")
                    || matches!(statement.text(at - 1), "==" | "!=" | "<" | ">" | "<=" | ">="));
            let part = match text {
                _ if at == 0 && tag.is_statement => Part::End,
                _ if is_attribute => Part::Operand,
                "~" => Part::Join,
                "+" => Part::Sum,
                "-" if behind_value && !behind_test => Part::Sum,
                "not" if is_test => Part::Operand,
                "not" if behind_value => Part::In,
                "not" if is_behind_operator => Part::Operand,
                "not" => Part::End,
                "in" if is_test => Part::Operand,
                "in" if loop_begins => {
                    loop_begins = false;
                    Part::End
                }
                "in" if behind_value || (before("not", 1) && statement.parts[at - 1] == Part::In) => Part::In,
                "and" | "or" | "if" | "else" if behind_value => Part::End,
                "recursive" if behind_value && statement.text(0) == "for" => Part::End,
                "==" | "!=" | "<" | ">" | "<=" | ">=" | "=" | "," | ":" => Part::End,
                _ => Part::Operand,
            };
            let is_word = |text: &str| {
                text.starts_with(|first: char| first.is_alphanumeric() || "_'\"".contains(first))
            };
            // `is`, and a test's `not`, wait for a name; what follows that can be its argument.
            let waits = (text == "is" && behind_value && !is_attribute) || (text == "not" && is_test);
            behind_value = part == Part::Operand && !waits && (statement.closes(at) || is_word(text));
            behind_test = behind_value && is_test;
            statement.parts.push(part);
        }
        statement
    }

    fn refuse_other_templates(&self) -> Result<(), usize> {
        let wants = matches!(self.text(0), "import" | "from" | "include" | "extends");
        if self.tag.is_statement && wants {
            let start = self.tag.tokens[0].range.start;
            return Err(1 + self.source[..start].matches('\n').count());
        }
        Ok(())
    }

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

    /// `a ~ b` becomes `(a)|avp_paid ~ (b)|avp_paid`, and `a in b` becomes `(a)|avp_counted in b`.
    fn pay_for_operands(&self, edits: &mut Vec<Edit>) {
        let mut paid = HashSet::new();
        for at in 0..self.len() {
            match self.parts[at] {
                Part::Join => {
                    let ends = |part| part != Part::Operand;
                    for operand in [self.operand_before(at, ends), self.operand_behind(at, ends)] {
                        // One between two of them is found twice.
                        if !self.is_literal(&operand) && paid.insert(operand.start) {
                            self.apply(PAID, operand, edits);
                        }
                    }
                }
                Part::In if self.parts.get(at.wrapping_sub(1)) != Some(&Part::In) => {
                    let operand = self.operand_before(at, |part| matches!(part, Part::In | Part::End));
                    if !self.is_literal(&operand) {
                        self.apply(COUNTED, operand, edits);
                    }
                }
                // What these filters make text of.
                Part::Operand
                    if self.text(at) == "|" && matches!(self.text(at + 1), "indent" | "replace") =>
                {
                    let place = self.tag.tokens[at].range.start;
                    edits.push(Edit::insert(place, format!("|{PAID}")));
                }
                _ => {}
            }
        }
    }

    /// `{% set a.b = c %}` becomes `{% set a.b = (c)|avp_held %}`, and so where a filter makes the value. Sums, and what is
    /// taken apart, go through `avp_listed`.
    fn guard_set(&self, edits: &mut Vec<Edit>) {
        if !self.tag.is_statement || self.text(0) != "set" {
            return;
        }
        let mut at = 1;
        while at < self.len() && !matches!(self.text(at), "=" | "|") {
            at += 1;
        }
        let target = |sign: &str| (1..at).any(|at| self.text(at) == sign);
        let value = at + 1..self.len();
        if value.is_empty() {
            return;
        }
        let filter = if target(".") && !self.is_joined(&value) {
            HELD
        } else if target(",") || value.clone().any(|at| self.text(at) == "+") {
            LISTED
        } else {
            return;
        };
        match self.text(at) {
            "=" => self.apply(filter, value, edits),
            _ => edits.push(Edit::insert(self.bytes(value).end, format!("|{filter}"))),
        }
    }

    /// Whether `value` is text, since nothing in it binds less than a `~`.
    fn is_joined(&self, value: &Range<usize>) -> bool {
        let mut joins = false;
        let mut at = value.start;
        while at < value.end {
            match self.parts[at] {
                Part::Operand => at = self.partner(at).max(at),
                Part::Join => joins = true,
                _ => return false,
            }
            at += 1;
        }
        joins
    }

    /// Whether there is nothing to pay for in `operand`: no token, or one string or number.
    fn is_literal(&self, operand: &Range<usize>) -> bool {
        let is_literal = || {
            self.text(operand.start)
                .starts_with(|first: char| first.is_ascii_digit() || "'\"".contains(first))
        };
        operand.is_empty() || (operand.len() == 1 && is_literal())
    }

    /// Has `filter` applied to all of `expression`.
    fn apply(&self, filter: &str, expression: Range<usize>, edits: &mut Vec<Edit>) {
        let bytes = self.bytes(expression);
        edits.push(Edit::insert(bytes.start, "(".to_owned()));
        edits.push(Edit::insert(bytes.end, format!(")|{filter}")));
    }

    /// What the operator at `operator` has on its left.
    fn operand_before(&self, operator: usize, ends: impl Fn(Part) -> bool) -> Range<usize> {
        let mut start = operator;
        while let Some(before) = start.checked_sub(1)
            && !self.opens(before)
            && !ends(self.parts[before])
        {
            start = self.partner(before).min(before);
        }
        start..operator
    }

    /// What the operator at `operator` has on its right.
    fn operand_behind(&self, operator: usize, ends: impl Fn(Part) -> bool) -> Range<usize> {
        let mut end = operator + 1;
        while end < self.len() && !self.closes(end) && !ends(self.parts[end]) {
            end = self.partner(end).max(end) + 1;
        }
        operator + 1..end
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

    /// With the first letter of each filter behind `avp_`.
    fn short(source: &str) -> String {
        rewrite(source)
            .unwrap()
            .replace(PAID, "p")
            .replace(COUNTED, "c")
            .replace(LISTED, "l")
            .replace(HELD, "h")
    }

    #[test]
    fn generation_becomes_a_scope_whatever_its_whitespace() {
        assert_eq!(
            short("a{% generation %}b{%- endgeneration -%}c{%-generation%}{%+ endgeneration %}"),
            "a{% with %}b{%- endwith -%}c{%-with%}{%+ endwith %}"
        );
        assert_eq!(
            short("{% raw %}{{{% endraw %}{% generation %}{% endgeneration %}"),
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
            "{% set a = b.c %}{% set a %}b.c{% endset %}{{ 'a' in b }}",
            "{% set a.b %}text{% endset %}",
            "a ~ b",
            "{",
            "",
        ] {
            assert_eq!(rewrite(source).as_deref(), Ok(source));
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
            ("a not in b ~ c", "(a)|c not in (b)|p ~ (c)|p"),
            ("a ~ b in 'c' ~ d", "((a)|p ~ (b)|p)|c in 'c' ~ (d)|p"),
            ("a.in ~ b.not|c ~ 1", "(a.in)|p ~ (b.not|c)|p ~ 1"),
            ("or * or(1) ~ in", "(or * or(1))|p ~ (in)|p"),
            ("not in ~ not", "not (in)|p ~ (not)|p"),
            ("a not in in ~ -not", "(a)|c not in (in)|p ~ (-not)|p"),
            ("a|replace(b, 'c') ~ d is eq -1", "(a|p|replace(b, 'c'))|p ~ (d is eq -1)|p"),
            ("f(a ~ [b ~ c], d=e ~ 'f')", "f((a)|p ~ ([(b)|p ~ (c)|p])|p, d=(e)|p ~ 'f')"),
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
            ("set a.b = a.b ~ c", "set a.b = (a.b)|p ~ (c)|p"),
            ("set a.b = a ~ b or c", "set a.b = ((a)|p ~ (b)|p or c)|h"),
            ("set a = b + c", "set a = (b + c)|l"),
            ("set a, b = c", "set a, b = (c)|l"),
            ("set a.b | default(a)", "set a.b | default(a)|h"),
        ] {
            assert_eq!(short(&format!("{{%- {written} -%}}")), format!("{{%- {expected} -%}}"));
        }
    }

    #[test]
    fn a_long_source_takes_no_longer_for_its_nesting() {
        let source = format!("{{{{ {}", "(a~".repeat(40_000));
        assert!(rewrite(&source).unwrap().len() > source.len());
        let source = format!("{{{{ {}{}", "(".repeat(40_000), "a)~".repeat(40_000));
        assert!(rewrite(&source).unwrap().len() > source.len());
    }

    /// Expressions of which most have a value.
    fn expression() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "a", "b.c", "'x'", "1", "2.5e-1", "none", "[1, 2]", "d", "e[0]", "b.or", "b.in",
        ]);
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
        for filter in [PAID, COUNTED, LISTED, HELD] {
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
                    prop_assert_eq!(rendered(rewrite(&source).unwrap()), Some(expected));
                }
            }
        }
    }
}
