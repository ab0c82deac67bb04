//! The functions that both JavaScript bindings export: `bindings-wasm` to WebAssembly, `bindings-node` to a Node addon.
//!
//! Bytes, text and numbers are passed as they are. A frame's head, which is read and written for every frame, is passed as one
//! row of numbers and one text. Other options and results with several fields are passed as JSON, and serde types describe
//! them in Rust. `js/src` is the JavaScript side, and `js/api.ts` declares the public API.
//!
//! | module | contents |
//! |---|---|
//! | [`frames`] | frames, hybrid payloads, KV-cache headers |
//! | [`row`] | a frame's head as one row |
//! | [`agents`] | model identities, handshake, JSON messages |
//! | [`packets`] | AACP packets |
//! | [`workflows`], [`rules`] | AACP packets from workflow tables and rule sets |
//! | [`argument`] | arguments from JSON, with errors that name the wrong value |
//! | [`fault`] | errors, as the fields of a JavaScript `Error` |
#![forbid(unsafe_code)]

pub mod agents;
pub mod argument;
pub mod fault;
pub mod frames;
pub mod identity;
mod json;
pub mod packets;
pub mod row;
pub mod rules;
mod utf16;
pub mod workflows;

/// Calls the macro `$export` with every function that takes text and returns JSON, as `exportedName = module::function(parameters)`.
#[macro_export]
macro_rules! text_functions {
    ($export:ident) => {
        $export! {
            identityFromConfig = agents::identity_from_config(config);
            modelHash = agents::model_hash(config);
            tokenizerHash = agents::tokenizer_hash(vocabulary);
            dialectOf = agents::dialect_of(version);
            resolve = agents::resolve(local, remote, evidence);
            parseHello = agents::parse_hello(text);
            formatHello = agents::format_hello(hello, capabilities);
            parseJsonMessage = agents::parse_json_message(text);
            formatJsonMessage = agents::format_json_message(message, extra);
            parseFallbackRequest = agents::parse_fallback_request(text);
            parsePacket = packets::parse(text);
            explainPacket = packets::explain(text);
            buildPacket = packets::build(init);
            standardVocabulary = packets::standard_vocabulary();
            describeInstruction = rules::describe_instruction(english);
        }
    };
}
