//! The functions that both JavaScript bindings export, and compression and checksums of payloads in place.

use avp_core::{Compression, FrameHead, compress_body, decompress_body};
use avp_js_operations::{
    agents,
    fault::Outcome,
    frames::{self, Peeked},
    packets,
    row::Row,
    rules, workflows,
};
use napi::{
    JsValue as _,
    bindgen_prelude::{Either, Env, Float64ArraySlice, FnArgs, Function, Uint8Array, Unknown},
};
use napi_derive::napi;

use crate::failure::{Answer, answered};

/// Exports a function that takes text and returns JSON under its JavaScript name.
macro_rules! export {
    ($($name:ident = $module:ident::$function:ident($($argument:ident),*);)*) => {$(
        #[doc = concat!("See `avp_js_operations::", stringify!($module), "::", stringify!($function), "`.")]
        #[allow(non_snake_case, reason = "the exported name")]
        #[napi]
        pub fn $name($($argument: String),*) -> Answer<String> {
            answer(|| avp_js_operations::$module::$function($(&$argument),*))
        }
    )*};
}

avp_js_operations::text_functions!(export);

/// `headOf` in `js/src/metadata.ts`, which makes the object of a frame's head.
type HeadOf<'a> = Function<'a, FnArgs<(Unknown<'a>, String)>, Unknown<'a>>;

fn object_of<'a>(env: &Env, head_of: &HeadOf<'a>, head: &FrameHead<'_>) -> napi::Result<Unknown<'a>> {
    let Row { numbers, text } = Row::of(head);
    head_of.call((Float64ArraySlice::copy_from(env, numbers)?.to_unknown(), text).into())
}

/// See [`frames::decode_head`].
#[napi]
pub fn decode_head<'a>(
    env: &'a Env,
    head_of: HeadOf<'a>,
    bytes: &'a [u8],
    frame_length: Option<f64>,
) -> Answer<Unknown<'a>> {
    answered(|| {
        let head = frames::decode_head(bytes, frame_length.map(|length| length as u64))?;
        Ok(object_of(env, &head_of, &head)?)
    })
}

/// See [`frames::peek_head`]. The result is a head, or the number of bytes that the frame needs first.
#[napi]
pub fn peek_head<'a>(
    env: &'a Env,
    head_of: HeadOf<'a>,
    bytes: &'a [u8],
    frame_limit: f64,
) -> Answer<Either<f64, Unknown<'a>>> {
    answered(|| {
        Ok(match frames::peek_head(bytes, frame_limit as u64)? {
            Peeked::Head(head) => Either::B(object_of(env, &head_of, &head)?),
            Peeked::Needed(needed) => Either::A(needed as f64),
        })
    })
}

/// See [`frames::encode_head`].
#[napi]
pub fn encode_head(text: String, numbers: &[f64], body_length: f64, crc: u32) -> Answer<Uint8Array> {
    answer(|| frames::encode_head(&text, numbers, body_length, crc).map(Uint8Array::new))
}

/// See [`agents::format_fallback_request`].
#[napi]
pub fn format_fallback_request(session_id: String, reason: String, perplexity_score: f64) -> Answer<String> {
    answer(|| Ok(agents::format_fallback_request(session_id, reason, perplexity_score)))
}

/// See [`packets::validate`].
#[napi]
pub fn validate_packet(text: String, options: Option<String>) -> Answer<Option<String>> {
    answer(|| packets::validate(&text, options.as_deref()))
}

/// See [`frames::decode_hybrid`].
#[napi]
pub fn decode_hybrid(payload: &[u8]) -> Answer<String> {
    answer(|| frames::decode_hybrid(payload))
}

/// See [`frames::encode_hybrid`].
#[napi]
pub fn encode_hybrid(kinds: &[i32], lengths: &[f64], confidences: &[f32], data: &[u8]) -> Answer<Uint8Array> {
    answer(|| frames::encode_hybrid(kinds, lengths, confidences, data).map(Uint8Array::new))
}

/// See [`frames::decode_kv`].
#[napi]
pub fn decode_kv(header: &[u8], body_length: f64) -> Answer<String> {
    answer(|| frames::decode_kv(header, body_length as u64))
}

/// See [`frames::encode_kv`].
#[napi]
pub fn encode_kv(shape: String, tensor_lengths: &[f64]) -> Answer<Uint8Array> {
    answer(|| frames::encode_kv(&shape, tensor_lengths).map(Uint8Array::new))
}

/// The CRC-32 of `bytes` after bytes whose CRC-32 is `previous`.
#[napi]
pub fn crc32(bytes: &[u8], previous: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(previous);
    hasher.update(bytes);
    hasher.finalize()
}

/// Decompresses a body that starts at `offset` in its frame to at most `limit` bytes.
#[napi]
pub fn unpack(body: &[u8], limit: f64, offset: f64) -> Answer<Uint8Array> {
    // A float becomes the nearest integer that there is.
    answer(|| Ok(decompress_body(body, limit as usize, offset as usize)?.into()))
}

/// Compresses a payload.
#[napi]
pub fn pack(payload: &[u8]) -> Answer<Uint8Array> {
    answer(|| Ok(compress_body(payload, Compression::Fast).into()))
}

/// See [`workflows::Workflows`].
#[napi]
#[derive(Debug)]
pub struct Workflows(workflows::Workflows);

/// See [`workflows::Workflows::new`].
#[napi]
pub fn load_workflows(table: Option<String>) -> Answer<Workflows> {
    answer(|| workflows::Workflows::new(table.as_deref()).map(Workflows))
}

#[napi]
impl Workflows {
    /// See [`workflows::Workflows::list`].
    #[napi]
    pub fn list(&self) -> Answer<String> {
        answer(|| self.0.list())
    }

    /// See [`workflows::Workflows::encode`].
    #[napi]
    pub fn encode(&self, workflow: String, call: String, args: String, options: String) -> Answer<String> {
        answer(|| self.0.encode(&workflow, &call, &args, &options))
    }
}

/// See [`rules::Rules`].
#[napi]
#[derive(Debug)]
pub struct Rules(rules::Rules);

/// See [`rules::Rules::new`].
#[napi]
pub fn load_rules(text: String) -> Answer<Rules> {
    answer(|| rules::Rules::new(&text).map(Rules))
}

#[napi]
impl Rules {
    /// See [`rules::Rules::summary`].
    #[napi]
    pub fn summary(&self) -> Answer<String> {
        answer(|| self.0.summary())
    }

    /// See [`rules::Rules::find`].
    #[napi]
    pub fn find(&self, query: String, options: String) -> Answer<String> {
        answer(|| self.0.find(&query, &options))
    }

    /// See [`rules::Rules::encode`].
    #[napi]
    pub fn encode(&self, instruction: String, options: String) -> Answer<String> {
        answer(|| self.0.encode(&instruction, &options))
    }
}

fn answer<T>(act: impl FnOnce() -> Outcome<T>) -> Answer<T> {
    answered(|| act().map_err(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_goes_on_from_another() {
        assert_eq!(crc32(b"456789", crc32(b"123", 0)), avp_core::crc32(b"123456789"));
    }
}
