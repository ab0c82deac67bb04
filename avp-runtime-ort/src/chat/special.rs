//! Special tokens in what a conversation says: taken as the text that they are, so that a message cannot end its own turn and begin
//! another one.
//!
//! A template's special tokens and those in a message are the same characters once the conversation is rendered. So each special token in
//! a message is replaced by a mark that nobody can guess before rendering, and the marks are found again in the rendered text. A
//! template that changes a mark leaves a mark in the prompt, and never a special token.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::{Map, Value};

use super::{Chat, Content};

/// A prompt as text, ready to be tokenized: what [`Model::render`](crate::Model::render) makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered(pub(crate) Vec<Part>);

/// A part of a rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text, in which special tokens are what they are.
    Text(String),
    /// The characters of a special token, as text.
    Literal(String),
}

impl Rendered {
    /// The length of the text in bytes.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.0.iter().map(|part| part.text().len()).sum()
    }
}

impl Part {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Literal(text) => text,
        }
    }
}

/// The role whose messages may have added tokens that are not special, such as `</think>`: templates look for them there.
const ASSISTANT: &str = "assistant";

/// The texts of the tokens that a tokenizer takes out of a text before anything else.
#[derive(Debug)]
pub(crate) struct SpecialTexts {
    /// Those of special tokens.
    special: Option<AhoCorasick>,
    /// Those of all added tokens: some models mark turns by tokens that are not special.
    added: Option<AhoCorasick>,
}

impl SpecialTexts {
    /// The texts of added tokens, each with whether it is special.
    pub(crate) fn new(texts: impl IntoIterator<Item = (String, bool)>) -> Self {
        let texts: Vec<_> = texts.into_iter().filter(|(text, _)| !text.is_empty()).collect();
        let all = |is_special: bool| texts.iter().filter(move |(_, special)| *special || !is_special);
        let finder = |is_special| {
            let texts: Vec<_> = all(is_special).map(|(text, _)| text.as_str()).collect();
            // The longest, as the tokenizer takes them. Without a pattern there is nothing to find.
            let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&texts);
            finder.ok().filter(|_| !texts.is_empty())
        };
        Self { special: finder(true), added: finder(false) }
    }

    /// Whether `text` has the text of an added token.
    pub(crate) fn are_in(&self, text: &str) -> bool {
        self.added.as_ref().is_some_and(|finder| finder.is_match(text))
    }

    /// Replaces the special tokens in what the conversation says by marks.
    pub(super) fn mark(&self, chat: &Chat) -> Marked {
        let mut chat = chat.clone();
        let mut marks = Marks::new();
        for message in &mut chat.messages {
            let finder = if message.role == ASSISTANT { &self.special } else { &self.added };
            let Some(finder) = finder else { continue };
            marks.replace(finder, &mut message.role);
            match &mut message.content {
                Some(Content::Text(text)) => marks.replace(finder, text),
                Some(Content::Parts(parts)) => {
                    join_texts(parts);
                    marks.replace_in_list(finder, parts);
                }
                Some(Content::Null) | None => {}
            }
            marks.replace_in_fields(finder, &mut message.fields);
        }
        if let Some(finder) = &self.added {
            marks.replace_in_list(finder, &mut chat.tools);
            marks.replace_in_list(finder, &mut chat.documents);
        }
        Marked { chat, marks }
    }
}

/// Joins texts that follow each other: a template writes them side by side, and a token could be divided between them.
fn join_texts(parts: &mut Vec<Value>) {
    parts.dedup_by(|next, text| {
        let Some(more) = next["text"].as_str() else { return false };
        let Some(Value::String(text)) = text.get_mut("text") else { return false };
        text.push_str(more);
        true
    });
}

/// A conversation with marks.
pub(super) struct Marked {
    pub(super) chat: Chat,
    marks: Marks,
}

impl Marked {
    /// The rendered text, with the special tokens in place of their marks.
    pub(super) fn rendered(&self, text: &str) -> Rendered {
        let mut parts = Vec::new();
        // The end of the last mark that was found, and where to look for the next one.
        let (mut begin, mut from) = (0, 0);
        while let Some(start) = text[from..].find(&self.marks.start).map(|at| from + at) {
            let index = start + self.marks.start.len();
            from = index;
            // A mark that the template changed stays as it is.
            if let Some((literal, len)) = self.marks.find(&text[index..]) {
                parts.push(Part::Text(text[begin..start].to_owned()));
                parts.push(Part::Literal(literal.to_owned()));
                from = index + len;
                begin = from;
            }
        }
        parts.push(Part::Text(text[begin..].to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        Rendered(parts)
    }
}

/// What ends a mark.
const END: char = 'z';

struct Marks {
    /// What begins each mark: letters and digits, which templates and JSON leave as they are.
    start: String,
    /// What each mark stands for, by its number.
    replaced: Vec<String>,
}

impl Marks {
    fn new() -> Self {
        // The standard library seeds it with random bits of the system.
        let [a, b] = [(); 2].map(|()| RandomState::new().build_hasher().finish());
        Self { start: format!("avp{a:016x}{b:016x}x"), replaced: Vec::new() }
    }

    /// What the mark stands for whose number is at the start of `text`, and the length of number and end.
    fn find(&self, text: &str) -> Option<(&str, usize)> {
        let (number, _) = text.split_once(END)?;
        let literal = self.replaced.get(number.parse::<usize>().ok()?)?;
        Some((literal, number.len() + END.len_utf8()))
    }

    fn replace(&mut self, finder: &AhoCorasick, text: &mut String) {
        if !finder.is_match(&**text) {
            return;
        }
        let mut marked = String::with_capacity(text.len());
        finder.replace_all_with(text, &mut marked, |_, special, marked| {
            marked.push_str(&format!("{}{}{END}", self.start, self.replaced.len()));
            self.replaced.push(special.to_owned());
            true
        });
        *text = marked;
    }

    fn replace_in(&mut self, finder: &AhoCorasick, value: &mut Value) {
        match value {
            Value::String(text) => self.replace(finder, text),
            Value::Array(values) => self.replace_in_list(finder, values),
            Value::Object(fields) => self.replace_in_fields(finder, fields),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn replace_in_list(&mut self, finder: &AhoCorasick, values: &mut [Value]) {
        values.iter_mut().for_each(|value| self.replace_in(finder, value));
    }

    fn replace_in_fields(&mut self, finder: &AhoCorasick, fields: &mut Map<String, Value>) {
        fields.values_mut().for_each(|value| self.replace_in(finder, value));
        if fields.keys().any(|name| finder.is_match(name.as_str())) {
            *fields = std::mem::take(fields)
                .into_iter()
                .map(|(mut name, value)| {
                    self.replace(finder, &mut name);
                    (name, value)
                })
                .collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Message;

    fn specials() -> SpecialTexts {
        let special = ["<|end|>", "<|end|>!", "<s>"].map(|text| (text.to_owned(), true));
        SpecialTexts::new(special.into_iter().chain([("</think>".to_owned(), false)]))
    }

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    fn literal(text: &str) -> Part {
        Part::Literal(text.to_owned())
    }

    #[test]
    fn special_tokens_in_every_part_of_a_conversation_are_marked_and_found_again() {
        let message: Message = serde_json::from_value(json!({
            "role": "us<s>er",
            "content": [{ "type": "text", "text": "a<|end|>!b" }],
            "name": { "<s>": ["<|end|>"] },
        }))
        .unwrap();
        let chat = Chat {
            tools: vec![json!({ "name": "<s>" })],
            documents: vec![json!("<s><s>")],
            ..Chat::from(vec![message, Message::new("user", "c<|end|>")])
        };
        let marked = specials().mark(&chat);
        let all = format!("{:?}", marked.chat);
        assert!(!specials().are_in(&all), "{all}");
        assert_eq!(
            marked.marks.replaced,
            ["<s>", "<|end|>!", "<|end|>", "<s>", "<|end|>", "<s>", "<s>", "<s>"]
        );
        let content = marked.chat.messages[0].text();
        let rendered = marked.rendered(&format!("<s>{content}<|end|>"));
        assert_eq!(rendered, Rendered(vec![text("<s>a"), literal("<|end|>!"), text("b<|end|>")]));
        assert_eq!(rendered.text_len(), "<s>a<|end|>!b<|end|>".len());
    }

    #[test]
    fn added_tokens_that_are_not_special_are_text_but_in_the_assistants_messages() {
        let chat = Chat::from(["user", "assistant"].map(|role| Message::new(role, "a</think>b<s>")).to_vec());
        let marked = specials().mark(&chat);
        assert_eq!(marked.marks.replaced, ["</think>", "<s>", "<s>"]);
        assert!(marked.chat.messages[1].text().starts_with("a</think>b"));
    }

    #[test]
    fn a_token_that_is_divided_between_two_parts_is_text() {
        let parts = json!([{ "text": "<|e" }, { "text": "nd|>" }, { "type": "image" }, { "text": "<s>" }]);
        let message = serde_json::from_value(json!({ "role": "user", "content": parts })).unwrap();
        let marked = specials().mark(&Chat::from(vec![message]));
        assert_eq!(marked.marks.replaced, ["<|end|>", "<s>"]);
        assert!(!specials().are_in(&marked.chat.messages[0].text()));
    }

    #[test]
    fn a_mark_that_was_changed_or_made_up_is_text() {
        let marked = specials().mark(&Chat::from(vec![Message::new("user", "<s>")]));
        let start = &marked.marks.start;
        for changed in [format!("{start}7z"), format!("{start}0"), format!("{start}z"), start.to_uppercase()]
        {
            assert_eq!(marked.rendered(&changed), Rendered(vec![text(&changed)]));
            let behind = marked.rendered(&format!("{changed} {start}0z."));
            assert_eq!(behind, Rendered(vec![text(&format!("{changed} ")), literal("<s>"), text(".")]));
        }
        assert_ne!(*start, Marks::new().start);
    }

    #[test]
    fn without_special_tokens_everything_is_text() {
        let chat = Chat::from(vec![Message::new("user", "<|end|>")]);
        let marked = SpecialTexts::new([]).mark(&chat);
        assert_eq!(marked.chat, chat);
        assert_eq!(marked.rendered("<|end|>"), Rendered(vec![text("<|end|>")]));
    }
}
