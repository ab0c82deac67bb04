//! What each token of a tag is in an expression, and where the operands of an operator begin and end.
//!
//! As minijinja 3 binds: `~` more than `+` and `-`, those more than `in`, that more than all else that parts operands here.
//! Words are operators by where they stand: `or` behind a value is one, and a name elsewhere.

use std::ops::Range;

use super::tags::Tag;

/// A tag, read as an expression. Ranges are of its tokens.
pub(super) struct Operands<'a> {
    source: &'a str,
    tag: &'a Tag,
    parts: Vec<Part>,
}

/// What a token is, from what binds most to what binds least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Of an operand: a name, a literal, a bracket, a sign that binds more than `~` does.
    Operand,
    /// `~`.
    Join,
    /// `+`, or `-` between two operands.
    Sum,
    /// `in`, and both words of `not in`, but not those of a test.
    In,
    /// Anything else that operands end at.
    End,
}

impl<'a> Operands<'a> {
    pub(super) fn new(source: &'a str, tag: &'a Tag) -> Self {
        let mut operands = Self { source, tag, parts: Vec::with_capacity(tag.tokens.len()) };
        let mut behind = Behind::Nothing;
        // The first `in` of a loop is its own.
        let mut loop_begins = operands.statement() == "for";
        for at in 0..tag.tokens.len() {
            let part = match operands.text(at) {
                "in" if loop_begins && behind == Behind::Value => {
                    loop_begins = false;
                    Part::End
                }
                _ if at == 0 && tag.is_statement => Part::End,
                text => operands.part(at, text, behind),
            };
            behind = operands.behind(at, part, behind);
            operands.parts.push(part);
        }
        operands
    }

    /// Of each token.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The name of a statement; empty in an expression.
    pub(super) fn statement(&self) -> &'a str {
        if self.tag.is_statement { self.text(0) } else { "" }
    }

    /// Empty where there is no such token.
    pub(super) fn text(&self, at: usize) -> &'a str {
        self.tag.tokens.get(at).map_or("", |token| &self.source[token.range.clone()])
    }

    /// The bytes of the source that `tokens` have, of which there is one at least.
    pub(super) fn bytes(&self, tokens: Range<usize>) -> Range<usize> {
        self.tag.tokens[tokens.start].range.start..self.tag.tokens[tokens.end - 1].range.end
    }

    /// What the operator has on its left.
    pub(super) fn left_of(&self, operator: usize) -> Range<usize> {
        let mut start = operator;
        while let Some(before) = start.checked_sub(1)
            && !self.opens(before)
            && self.parts[before] < self.parts[operator]
        {
            start = self.partner(before).min(before);
        }
        start..operator
    }

    /// What the operator has on its right.
    pub(super) fn right_of(&self, operator: usize) -> Range<usize> {
        let mut end = operator + 1;
        while end < self.parts.len() && !self.closes(end) && self.parts[end] < self.parts[operator] {
            end = self.partner(end).max(end) + 1;
        }
        operator + 1..end
    }

    /// Whether `tokens` are text whatever their names stand for, since nothing in them binds less than a `~`.
    pub(super) fn is_joined(&self, tokens: &Range<usize>) -> bool {
        let mut loosest = Part::Operand;
        let mut at = tokens.start;
        while at < tokens.end {
            loosest = loosest.max(self.parts[at]);
            at = self.partner(at).max(at) + 1;
        }
        loosest == Part::Join
    }

    /// Whether `tokens` are one string or number, or nothing.
    pub(super) fn is_literal(&self, tokens: &Range<usize>) -> bool {
        let quoted_or_digit = |first: char| first.is_ascii_digit() || "'\"".contains(first);
        tokens.is_empty() || (tokens.len() == 1 && self.text(tokens.start).starts_with(quoted_or_digit))
    }

    /// Whether the token is the name of a filter.
    pub(super) fn names_filter(&self, at: usize) -> bool {
        let before = at.checked_sub(1);
        before.is_some_and(|before| self.text(before) == "|") || (at == 1 && self.statement() == "filter")
    }

    fn part(&self, at: usize, text: &str, behind: Behind) -> Part {
        let behind_value = matches!(behind, Behind::Value | Behind::Test);
        match text {
            _ if matches!(behind, Behind::Dot | Behind::Is) => Part::Operand,
            "~" => Part::Join,
            "+" => Part::Sum,
            // Behind the name of a test it begins what the test compares with.
            "-" if behind == Behind::Value => Part::Sum,
            "not" | "in" if behind_value => Part::In,
            "in" if self.text(at.wrapping_sub(1)) == "not" && self.parts[at - 1] == Part::In => Part::In,
            // Where an operand is due that binds more than `not` does, it is a name.
            "not" if behind != Behind::Operator => Part::End,
            "and" | "or" | "if" | "else" if behind_value => Part::End,
            "recursive" if behind_value && self.statement() == "for" => Part::End,
            "==" | "!=" | "<" | ">" | "<=" | ">=" | "=" | "," | ":" => Part::End,
            _ => Part::Operand,
        }
    }

    /// What the token behind this one stands behind.
    fn behind(&self, at: usize, part: Part, before: Behind) -> Behind {
        let is_word =
            |text: &str| text.starts_with(|first: char| first.is_alphanumeric() || "_'\"".contains(first));
        match self.text(at) {
            "." => Behind::Dot,
            "is" if part == Part::Operand && matches!(before, Behind::Value | Behind::Test) => Behind::Is,
            "not" if before == Behind::Is => Behind::Is,
            text if part == Part::Operand && is_word(text) => {
                if before == Behind::Is {
                    Behind::Test
                } else {
                    Behind::Value
                }
            }
            _ if self.closes(at) => Behind::Value,
            "~" | "+" | "-" | "*" | "/" | "//" | "%" | "**" => Behind::Operator,
            "==" | "!=" | "<" | ">" | "<=" | ">=" => Behind::Operator,
            _ if part == Part::In => Behind::Operator,
            _ => Behind::Nothing,
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
}

/// What a token stands behind.
#[derive(Clone, Copy, PartialEq)]
enum Behind {
    /// A sign or a word that begins something.
    Nothing,
    /// The end of a value.
    Value,
    /// The name of a test, which may be all of it.
    Test,
    /// A dot: what follows is an attribute.
    Dot,
    /// `is`, or `is not`: what follows is a test.
    Is,
    /// An operator that binds more than `not` does.
    Operator,
}
