//! The grammar in `docs/aacp.md` and the parser take the same texts.

// Helpers of a test are tests too, which the lint's own exception for tests does not see.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use aacp::{Kind, Limits, Packet, Severity, Validator};
use abnf::types::{Node, TerminalValues};
use proptest::prelude::*;

/// What the strict profile adds to the grammar; every other error of it is one of form.
const NOT_OF_FORM: &[Kind] = &[
    Kind::UnknownTask,
    Kind::UnknownDomain,
    Kind::MissingReturn,
    Kind::EmptyReturn,
    Kind::MissingVersion,
    Kind::DuplicateField,
    Kind::UnknownEncoding,
];

/// The rules of a grammar by name.
struct Grammar(BTreeMap<String, Node>);

impl Grammar {
    /// The grammar in the documentation.
    fn documented() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/aacp.md");
        let text = std::fs::read_to_string(path).unwrap();
        let grammar = text.split("```abnf\n").nth(1).unwrap().split("```").next().unwrap();
        // The notation ends lines with CR LF.
        let rules = abnf::rulelist(&grammar.replace('\n', "\r\n")).unwrap();
        Self(rules.into_iter().map(|rule| (rule.name().to_lowercase(), rule.node().clone())).collect())
    }

    /// Whether a rule gives this text.
    fn gives(&self, rule: &str, text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        self.ends(&self.0[rule], &chars, 0).contains(&chars.len())
    }

    /// Where a text that starts at `at` and is given by `node` may end.
    fn ends(&self, node: &Node, chars: &[char], at: usize) -> BTreeSet<usize> {
        match node {
            Node::Alternatives(nodes) => nodes.iter().flat_map(|node| self.ends(node, chars, at)).collect(),
            Node::Concatenation(nodes) => nodes.iter().fold(BTreeSet::from([at]), |starts, node| {
                starts.into_iter().flat_map(|start| self.ends(node, chars, start)).collect()
            }),
            Node::Repetition { repeat, node } => {
                let (least, most) = repeat.min_max();
                let (least, most) = (least.unwrap_or(0), most.unwrap_or(usize::MAX));
                let (mut ends, mut seen, mut starts) =
                    (BTreeSet::new(), BTreeSet::new(), BTreeSet::from([at]));
                for count in 0..=most {
                    if count >= least {
                        ends.extend(&starts);
                        // Beyond the least count, a place that was a start before leads nowhere new.
                        starts.retain(|start| seen.insert(*start));
                    }
                    if starts.is_empty() || count == most {
                        break;
                    }
                    starts = starts.into_iter().flat_map(|start| self.ends(node, chars, start)).collect();
                }
                ends
            }
            Node::Rulename(name) => self.ends(&self.0[&name.to_lowercase()], chars, at),
            Node::Group(node) => self.ends(node, chars, at),
            Node::Optional(node) => {
                let mut ends = self.ends(node, chars, at);
                ends.insert(at);
                ends
            }
            Node::String(literal) => {
                let mut end = at;
                for expected in literal.value().chars() {
                    match chars.get(end) {
                        Some(c) if c.eq_ignore_ascii_case(&expected) => end += 1,
                        _ => return BTreeSet::new(),
                    }
                }
                BTreeSet::from([end])
            }
            Node::TerminalValues(TerminalValues::Range(from, to)) => {
                let fits = chars.get(at).is_some_and(|c| (*from..=*to).contains(&u32::from(*c)));
                fits.then_some(at + 1).into_iter().collect()
            }
            Node::TerminalValues(TerminalValues::Concatenation(values)) => {
                let fits = values
                    .iter()
                    .enumerate()
                    .all(|(n, v)| chars.get(at + n).is_some_and(|c| u32::from(*c) == *v));
                fits.then_some(at + values.len()).into_iter().collect()
            }
            Node::Prose(_) => panic!("the grammar has no prose"),
        }
    }
}

std::thread_local! {
    static GRAMMAR: Grammar = Grammar::documented();
}

/// Holds the parser to the grammar for one text; gives which packets it was.
fn check(grammar: &Grammar, text: &str) -> (bool, bool) {
    let packet = Packet::parse_with(text, Limits::MAX).ok();
    assert_eq!(packet.is_some(), grammar.gives("lenient-packet", text), "lenient: {text:?}");

    let mut of_form = true;
    Validator::strict().limits(Limits::MAX).validate(text, |finding| {
        of_form &= finding.severity() != Severity::Error || NOT_OF_FORM.contains(&finding.kind());
    });
    let rule =
        if packet.is_some_and(|packet| packet.is_percent_encoded()) { "pct-packet" } else { "plain-packet" };
    assert_eq!(of_form, grammar.gives(rule, text), "{rule}: {text:?}");
    (packet.is_some(), of_form)
}

#[test]
fn the_parser_and_the_grammar_take_the_same_vectors() {
    let grammar = Grammar::documented();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../test-vectors/aacp/inputs.json");
    let inputs: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut lenient, mut strict) = (0, 0);
    for packet in inputs["packets"].as_array().unwrap() {
        let (is_lenient, is_strict) = check(&grammar, packet.as_str().unwrap());
        lenient += usize::from(is_lenient);
        strict += usize::from(is_strict);
    }
    assert!(
        lenient > 400 && strict > 50,
        "{lenient} lenient and {strict} strict packets are too few to tell"
    );
}

#[test]
fn the_parser_and_the_grammar_take_the_same_characters() {
    let grammar = Grammar::documented();
    let edges = ['\0', '\u{1b}', '\u{7f}', '\u{80}', '\u{9f}', '\u{d7ff}', '\u{e000}', '\u{10ffff}'];
    // Every character of the first blocks and around each range of the grammar.
    let blocks = ('\0'..='\u{180}').chain('\u{1670}'..='\u{1690}').chain('\u{1ff0}'..='\u{2070}');
    for c in blocks.chain('\u{2ff0}'..='\u{3010}').chain(edges) {
        check(&grammar, &format!("A|B|k:{c}x"));
        check(&grammar, &format!("A|B|k:x{c}x"));
        check(&grammar, &format!("A|B|k{c}:x"));
        check(&grammar, &format!("A|B|enc:pct|k:{c}"));
    }
    for byte in 0..=255 {
        for rest in ["", "%80", "%BF", "%9F%80", "%A0%80", "%90%80%80", "%8f%BF%bF", "%41"] {
            check(&grammar, &format!("A|B|enc:pct|k:%{byte:02X}{rest}"));
        }
    }
}

proptest! {
    #[test]
    fn the_parser_and_the_grammar_take_the_same_texts(
        pieces in prop::collection::vec(prop_oneof![
            3 => Just("|".to_string()),
            2 => prop::sample::select(vec![
                "FETCH", "HR", "return:A", "aacp:1.2", "enc:pct", "k:", ":", "x", "X", "%7C", "%C3%A9", "%e2%82%ac", "%",
                "%8", " ", "\n", "\u{85}", "\u{a0}", "\u{2028}", "é", "\u{1c}", "_", ".", "7",
            ]).prop_map(str::to_string),
            1 => any::<char>().prop_map(String::from),
        ], 0..16),
    ) {
        GRAMMAR.with(|grammar| check(grammar, &pieces.concat()));
    }
}
