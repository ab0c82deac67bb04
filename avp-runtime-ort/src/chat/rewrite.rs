//! What is changed in a template's source before minijinja compiles it; every line stays where it was.
//!
//! - `{% generation %}`, Transformers' tag around what an assistant said, marks a range for training and renders its body
//!   in a scope of its own. minijinja has no tags of one's own making, but `{% with %}` renders just so.
//! - minijinja lets no one step in before its operators. So their operands go through filters first, which pay for what is
//!   about to be made of them: of `~`, of `+`, of what `in` looks for, and what `set` takes apart or puts into a namespace.
//!   What two filters make text of goes to others, which pay and then ask them.

use std::{collections::BTreeSet, ops::Range};

use super::{
    operands::{Operands, Part},
    tags::tags,
};

/// The filter that pays for what writing a value out will cost, and gives its text.
pub(super) const PAID: &str = "avp_paid";

/// The filter that pays for as much, and gives the value.
pub(super) const COUNTED: &str = "avp_counted";

/// The filter that pays for a list's length.
pub(super) const LISTED: &str = "avp_listed";

/// The filter that makes of a value what a namespace may hold.
pub(super) const HELD: &str = "avp_held";

/// Filters that make text of all that they are given, and those that pay for it first.
pub(super) const WRITERS: [(&str, &str); 2] = [("indent", "avp_indent"), ("replace", "avp_replace")];

/// `source` as it is compiled.
///
/// # Errors
/// The line of a statement that wants another template. A model has none that could be loaded, and Transformers has no
/// loader either; minijinja would find the template itself, and give a namespace all that it sets.
pub(super) fn rewrite(source: &str) -> Result<String, usize> {
    let mut edits = Vec::new();
    for tag in tags(source) {
        let operands = Operands::new(source, &tag);
        if matches!(operands.statement(), "import" | "from" | "include" | "extends") {
            return Err(1 + source[..operands.bytes(0..1).start].matches('\n').count());
        }
        Rewriter { operands: &operands, edits: &mut edits }.rewrite();
    }
    // Stable: of two that end at one place, the inner was found first.
    edits.sort_by_key(|edit| edit.bytes.start);
    let mut rewritten = String::with_capacity(source.len() + edits.len() * PAID.len());
    let mut copied = 0;
    for Edit { bytes, text } in edits {
        rewritten += &source[copied..bytes.start];
        rewritten += &text;
        copied = bytes.end;
    }
    Ok(rewritten + &source[copied..])
}

/// Bytes of the source, and what stands there instead.
struct Edit {
    bytes: Range<usize>,
    text: String,
}

/// Makes the edits of one tag.
struct Rewriter<'a> {
    operands: &'a Operands<'a>,
    edits: &'a mut Vec<Edit>,
}

impl Rewriter<'_> {
    fn rewrite(&mut self) {
        match (self.operands.statement(), self.operands.parts().len()) {
            ("generation", 1) => self.rename(0, "with"),
            ("endgeneration", 1) => self.rename(0, "endwith"),
            ("set", _) => {
                self.pay_for_operands();
                self.guard_set();
            }
            _ => self.pay_for_operands(),
        }
    }

    /// `a ~ b` becomes `(a)|avp_paid ~ (b)|avp_paid`, `a + b` becomes `(a)|avp_listed + (b)|avp_listed`, `a in b` becomes
    /// `(a)|avp_counted in b`, and `|replace(a, b)` becomes `|avp_replace(a, b)`.
    fn pay_for_operands(&mut self) {
        let operands = self.operands;
        // An operand between two of one kind is found twice.
        let mut paid = BTreeSet::new();
        for (at, &part) in operands.parts().iter().enumerate() {
            let both = || [operands.left_of(at), operands.right_of(at)];
            match (part, operands.text(at)) {
                (Part::Join, _) => {
                    for operand in both().into_iter().filter(|operand| paid.insert((part, operand.start))) {
                        self.apply(PAID, operand);
                    }
                }
                (Part::Sum, "+") => {
                    let lists = both().into_iter().filter(|operand| !operands.is_joined(operand));
                    for operand in lists.filter(|operand| paid.insert((part, operand.start))) {
                        self.apply(LISTED, operand);
                    }
                }
                // The second word of `not in` has nothing on its left.
                (Part::In, _) => self.apply(COUNTED, operands.left_of(at)),
                (Part::Operand, filter) if operands.names_filter(at) => {
                    if let Some((_, paying)) = WRITERS.iter().find(|(name, _)| *name == filter) {
                        self.rename(at, paying);
                    }
                }
                _ => {}
            }
        }
    }

    /// `{% set a.b = c %}` becomes `{% set a.b = (c)|avp_held %}`, and so where a filter makes the value. What is taken apart
    /// goes through `avp_listed`.
    fn guard_set(&mut self) {
        let operands = self.operands;
        let tokens = operands.parts().len();
        let equals = (1..tokens).find(|&at| matches!(operands.text(at), "=" | "|")).unwrap_or(tokens);
        let target = |sign: &str| (1..equals).any(|at| operands.text(at) == sign);
        let value = (equals + 1).min(tokens)..tokens;
        if value.is_empty() {
            return;
        }
        let filter = if target(".") && !operands.is_joined(&value) {
            HELD
        } else if target(",") {
            LISTED
        } else {
            return;
        };
        match operands.text(equals) {
            "=" => self.apply(filter, value),
            _ => self.insert(operands.bytes(value).end, format!("|{filter}")),
        }
    }

    /// Has `filter` applied to all of `expression`, unless that is as good as nothing.
    fn apply(&mut self, filter: &str, expression: Range<usize>) {
        if !self.operands.is_literal(&expression) {
            let bytes = self.operands.bytes(expression);
            self.insert(bytes.start, "(".to_owned());
            self.insert(bytes.end, format!(")|{filter}"));
        }
    }

    fn rename(&mut self, at: usize, name: &str) {
        self.edits.push(Edit { bytes: self.operands.bytes(at..at + 1), text: name.to_owned() });
    }

    fn insert(&mut self, place: usize, text: String) {
        self.edits.push(Edit { bytes: place..place, text });
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
            .replace("avp_", "")
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
            ("a + b * 2 ~ -c.d[0]|e(f) - g", "(a)|l + (b * 2)|p ~ (-c.d[0]|e(f))|p - g"),
            ("a + b + 'c' in d", "((a)|l + (b)|l + 'c')|c in d"),
            ("a.b|c + -1 == d", "(a.b|c)|l + (-1)|l == d"),
            ("x if a ~ b else c", "x if (a)|p ~ (b)|p else c"),
            ("not a ~ b is not none and c", "not (a)|p ~ (b is not none)|p and c"),
            ("a|b is none and c ~ d", "a|b is none and (c)|p ~ (d)|p"),
            ("a is not in (b, c) ~ d", "(a is not in (b, c))|p ~ (d)|p"),
            ("a not in b ~ c", "(a)|c not in (b)|p ~ (c)|p"),
            ("a ~ b in 'c' ~ d", "((a)|p ~ (b)|p)|c in 'c' ~ (d)|p"),
            ("a.in ~ b.not|c ~ 1", "(a.in)|p ~ (b.not|c)|p ~ 1"),
            ("or * or(1) ~ in", "(or * or(1))|p ~ (in)|p"),
            ("not in ~ not", "not (in)|p ~ (not)|p"),
            ("a not in in ~ -not", "(a)|c not in (in)|p ~ (-not)|p"),
            ("a|replace(b, 'c') ~ d is eq -1", "(a|replace(b, 'c'))|p ~ (d is eq -1)|p"),
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
            ("set a = b + c", "set a = (b)|l + (c)|l"),
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
