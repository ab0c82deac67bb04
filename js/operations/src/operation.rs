//! One request, one answer.

use crate::{
    border::{Answer, Request},
    fault::{Fault, Outcome},
    frames, messages, packets,
    rules::{self, Shelf},
};

/// Everything that the host can ask for, in the order of its numbers (`js/src/core.ts` has the same list).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "each is named after the function that answers it")]
pub enum Operation {
    DecodeHead,
    FlagNames,
    EncodeHead,
    DecodeHybrid,
    EncodeHybrid,
    DecodeKv,
    EncodeKv,
    Resolve,
    Dialect,
    ParseHello,
    WriteHello,
    ParseMessage,
    WriteMessage,
    ParseFallback,
    WriteFallback,
    Identity,
    ModelHash,
    TokenizerHash,
    ParsePacket,
    ValidatePacket,
    ExplainPacket,
    BuildPacket,
    Vocabulary,
    AddTable,
    Workflows,
    Call,
    AddRules,
    FindRules,
    EncodeByRule,
    Drop,
    Instruction,
}

use Operation as Op;

const ALL: [Operation; 31] = [
    Op::DecodeHead,
    Op::FlagNames,
    Op::EncodeHead,
    Op::DecodeHybrid,
    Op::EncodeHybrid,
    Op::DecodeKv,
    Op::EncodeKv,
    Op::Resolve,
    Op::Dialect,
    Op::ParseHello,
    Op::WriteHello,
    Op::ParseMessage,
    Op::WriteMessage,
    Op::ParseFallback,
    Op::WriteFallback,
    Op::Identity,
    Op::ModelHash,
    Op::TokenizerHash,
    Op::ParsePacket,
    Op::ValidatePacket,
    Op::ExplainPacket,
    Op::BuildPacket,
    Op::Vocabulary,
    Op::AddTable,
    Op::Workflows,
    Op::Call,
    Op::AddRules,
    Op::FindRules,
    Op::EncodeByRule,
    Op::Drop,
    Op::Instruction,
];

impl Operation {
    /// The operation of this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// What outlives a request.
#[derive(Debug, Default)]
pub struct State {
    shelf: Shelf,
}

impl State {
    /// Answers a request: bytes of a frame for the operations that encode one, numbers for `DecodeHead` and
    /// `DecodeHybrid`, JSON for all others.
    ///
    /// `number` is a length, or the number under which something is kept; each operation says which.
    ///
    /// # Errors
    /// The core's own, as a [`Fault`].
    pub fn answer(&mut self, operation: Operation, request: &[u8], number: f64) -> Outcome<Vec<u8>> {
        let text = || str::from_utf8(request).map_err(|_| Fault::bad_request());
        let fields = Request::new(request);
        let shelf = &mut self.shelf;
        let mut json = Answer::default();
        let answer = &mut json;
        match operation {
            // `number`: the bytes that the host has, or -1 to read the head alone.
            Op::DecodeHead => {
                return frames::decode_head(request, (number >= 0.0).then_some(number as u64));
            }
            // `number`: the flags, and the dialect as `DecodeHead` gives it in the byte above them.
            Op::FlagNames => frames::flag_names(number as u16, answer),
            Op::EncodeHead => return frames::encode_head(fields),
            Op::DecodeHybrid => return frames::decode_hybrid(request),
            Op::EncodeHybrid => return frames::encode_hybrid(fields),
            // `number`: the length of the whole body.
            Op::DecodeKv => frames::decode_kv(request, number as u64, answer)?,
            Op::EncodeKv => return frames::encode_kv(fields),
            Op::Resolve => messages::resolve_identities(fields, answer)?,
            Op::Dialect => messages::dialect(text()?, answer),
            Op::ParseHello => messages::parse_hello(text()?, answer)?,
            Op::WriteHello => messages::write_hello(fields, answer)?,
            Op::ParseMessage => messages::parse_message(text()?, answer)?,
            Op::WriteMessage => messages::write_message(fields, answer)?,
            Op::ParseFallback => messages::parse_fallback(text()?, answer)?,
            Op::WriteFallback => messages::write_fallback(fields, answer)?,
            Op::Identity => messages::identity(text()?, answer)?,
            Op::ModelHash => messages::model_hash(text()?, answer)?,
            Op::TokenizerHash => messages::tokenizer_hash(text()?, answer)?,
            Op::ParsePacket => packets::parse(text()?, answer)?,
            Op::ValidatePacket => packets::validate(fields, answer)?,
            Op::ExplainPacket => packets::explain(text()?, answer)?,
            Op::BuildPacket => packets::build(fields, answer)?,
            Op::Vocabulary => packets::vocabulary(answer),
            Op::AddTable => shelf.add_table(text()?, answer)?,
            // `number`: the table, as `AddTable` gave it.
            Op::Workflows => rules::workflows(shelf, number as usize, answer)?,
            Op::Call => rules::call(shelf, fields, answer)?,
            Op::AddRules => shelf.add_rules(text()?, answer)?,
            Op::FindRules => rules::find(shelf, fields, answer)?,
            Op::EncodeByRule => rules::encode(shelf, fields, answer)?,
            // `number`: what to let go of.
            Op::Drop => {
                shelf.drop(number as usize);
                answer.null();
            }
            Op::Instruction => rules::instruction(text()?, answer),
        }
        Ok(json.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_own_number() {
        for (number, operation) in (0..).zip(ALL) {
            assert_eq!(operation as u32, number);
        }
        assert_eq!(Operation::from_number(ALL.len() as u32), None);
    }

    #[test]
    fn the_host_has_the_same_list() {
        let host = include_str!("../../src/core.ts");
        let list = host.split_once("export enum Operation {").and_then(|(_, rest)| rest.split_once('}'));
        let names: Vec<&str> =
            list.unwrap().0.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        assert_eq!(names, ALL.map(|operation| format!("{operation:?}")));
    }

    #[test]
    fn every_operation_answers_nonsense_with_an_error_or_an_answer() {
        let mut state = State::default();
        for operation in ALL {
            for request in
                [&b""[..], b"{}", b"\xff\xff\xff\xff", b"AV\x01\x00\xff\xff\xff\xff\0\0\0\0", b"null"]
            {
                for number in [-1.0, 0.0, 1e300, f64::NAN] {
                    let _ = state.answer(operation, request, number);
                }
            }
        }
    }
}
