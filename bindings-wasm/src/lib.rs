//! The WebAssembly module of the npm package `avp-wasm`.
//!
//! `cargo xtask npm` runs `wasm-bindgen` over it; `js/src/seam-wasm.ts` imports the result. Payloads stay in the caller's
//! memory and pass through a fixed window, except those of hybrid frames, whose chunks are found by reading all of them.
//!
//! | part | contents |
//! |---|---|
//! | `avp-js-operations` | the functions that both JavaScript bindings export |
//! | `avp-wasm-crc` | CRC-32 of a payload that passes through a window |

use std::cell::RefCell;

use avp_core::{Compression, FrameHead, compress_stream, decompress_stream};
use avp_js_operations::{
    agents,
    fault::Fault,
    frames::{self, Peeked},
    packets,
    row::Row,
    rules, workflows,
};
use avp_wasm_crc::{WINDOW_LEN, Window};
use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;

/// Exports a function that takes text and returns JSON under its JavaScript name.
macro_rules! export {
    ($($name:ident = $module:ident::$function:ident($($argument:ident),*);)*) => {$(
        #[doc = concat!("See `avp_js_operations::", stringify!($module), "::", stringify!($function), "`.")]
        ///
        /// # Errors
        /// A [`Fault`] as JSON.
        #[wasm_bindgen]
        pub fn $name($($argument: &str),*) -> Result<String, JsValue> {
            avp_js_operations::$module::$function($($argument),*).map_err(thrown)
        }
    )*};
}

avp_js_operations::text_functions!(export);

thread_local! {
    static WINDOW: RefCell<Window> = RefCell::default();
}

#[wasm_bindgen(raw_module = "../metadata.js")]
extern "C" {
    /// Makes the object of a frame's head.
    #[wasm_bindgen(js_name = headOf)]
    fn head_of(numbers: &[f64], text: &str) -> JsValue;
}

/// See [`frames::decode_head`].
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(js_name = decodeHead)]
pub fn decode_head(bytes: &[u8], frame_length: Option<f64>) -> Result<JsValue, JsValue> {
    let head = frames::decode_head(bytes, frame_length.map(|length| length as u64)).map_err(thrown)?;
    Ok(object_of(&head))
}

/// See [`frames::peek_head`]. The result is a head, or the number of bytes that the frame needs first.
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(js_name = peekHead)]
pub fn peek_head(bytes: &[u8], frame_limit: f64) -> Result<JsValue, JsValue> {
    Ok(match frames::peek_head(bytes, frame_limit as u64).map_err(thrown)? {
        Peeked::Head(head) => object_of(&head),
        Peeked::Needed(needed) => needed.into(),
    })
}

/// See [`frames::encode_head`].
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(js_name = encodeHead)]
pub fn encode_head(text: &str, numbers: &[f64], body_length: f64, crc: u32) -> Result<Vec<u8>, JsValue> {
    frames::encode_head(text, numbers, body_length, crc).map_err(thrown)
}

/// See [`agents::format_fallback_request`].
#[wasm_bindgen(js_name = formatFallbackRequest)]
pub fn format_fallback_request(session_id: String, reason: String, perplexity_score: f64) -> String {
    agents::format_fallback_request(session_id, reason, perplexity_score)
}

/// See [`packets::validate`].
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(js_name = validatePacket)]
pub fn validate_packet(text: &str, options: Option<String>) -> Result<Option<String>, JsValue> {
    packets::validate(text, options.as_deref()).map_err(thrown)
}

/// See [`frames::decode_hybrid`].
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(js_name = decodeHybrid)]
pub fn decode_hybrid(payload: &[u8]) -> Result<String, JsValue> {
    frames::decode_hybrid(payload).map_err(thrown)
}

/// See [`frames::encode_hybrid`].
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(js_name = encodeHybrid)]
pub fn encode_hybrid(
    kinds: &[i32],
    lengths: &[f64],
    confidences: &[f32],
    data: &[u8],
) -> Result<Vec<u8>, JsValue> {
    frames::encode_hybrid(kinds, lengths, confidences, data).map_err(thrown)
}

/// See [`frames::decode_kv`].
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(js_name = decodeKv)]
pub fn decode_kv(header: &[u8], body_length: f64) -> Result<String, JsValue> {
    frames::decode_kv(header, body_length as u64).map_err(thrown)
}

/// See [`frames::encode_kv`].
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(js_name = encodeKv)]
pub fn encode_kv(shape: &str, tensor_lengths: &[f64]) -> Result<Vec<u8>, JsValue> {
    frames::encode_kv(shape, tensor_lengths).map_err(thrown)
}

/// The CRC-32 of `bytes` after bytes whose CRC-32 is `previous`.
#[wasm_bindgen]
pub fn crc32(bytes: &Uint8Array, previous: u32) -> u32 {
    let window_len = WINDOW_LEN as u32;
    WINDOW.with_borrow_mut(|window| {
        let (mut crc, mut at) = (previous, 0);
        while at < bytes.length() {
            let len = window_len.min(bytes.length() - at);
            bytes.subarray(at, at + len).copy_to(&mut window.data_mut()[..len as usize]);
            if bytes.length() - at >= 2 * window_len {
                window.pass(crc);
            } else {
                crc = window.update(crc, len as usize);
            }
            at += len;
        }
        crc
    })
}

/// Decompresses a body that starts at `offset` in its frame to at most `limit` bytes. Body and payload are in pieces.
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(unchecked_return_type = "Uint8Array[]")]
pub fn unpack(body: Vec<Uint8Array>, limit: f64, offset: f64) -> Result<Array, JsValue> {
    // The pieces are collected by JavaScript: references to them would grow the module's memory.
    let (mut source, payload) = (Source::new(body), Array::new());
    // A float becomes the nearest integer that there is.
    let (limit, offset) = (limit as usize, offset as usize);
    decompress_stream(
        limit,
        offset,
        |buffer| Ok(source.read(buffer)),
        |piece| {
            payload.push(&Uint8Array::from(piece));
            Ok(())
        },
    )
    .map_err(thrown)?;
    Ok(payload)
}

/// Compresses a payload of `length` bytes. Payload and body are in pieces.
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(unchecked_return_type = "Uint8Array[]")]
pub fn pack(payload: Vec<Uint8Array>, length: f64) -> Result<Array, JsValue> {
    let (mut source, body) = (Source::new(payload), Array::new());
    compress_stream(
        Compression::Fast,
        length as u64,
        |buffer| Ok(source.read(buffer)),
        |piece| {
            body.push(&Uint8Array::from(piece));
            Ok(())
        },
    )
    .map_err(thrown)?;
    Ok(body)
}

/// See [`workflows::Workflows`].
#[wasm_bindgen]
#[derive(Debug)]
pub struct Workflows(workflows::Workflows);

/// See [`workflows::Workflows::new`].
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(js_name = loadWorkflows)]
pub fn load_workflows(table: Option<String>) -> Result<Workflows, JsValue> {
    workflows::Workflows::new(table.as_deref()).map(Workflows).map_err(thrown)
}

#[wasm_bindgen]
impl Workflows {
    /// See [`workflows::Workflows::list`].
    ///
    /// # Errors
    /// A [`Fault`] as JSON.
    pub fn list(&self) -> Result<String, JsValue> {
        self.0.list().map_err(thrown)
    }

    /// See [`workflows::Workflows::encode`].
    ///
    /// # Errors
    /// A [`Fault`] as JSON.
    pub fn encode(&self, workflow: &str, call: &str, args: &str, options: &str) -> Result<String, JsValue> {
        self.0.encode(workflow, call, args, options).map_err(thrown)
    }
}

/// See [`rules::Rules`].
#[wasm_bindgen]
#[derive(Debug)]
pub struct Rules(rules::Rules);

/// See [`rules::Rules::new`].
///
/// # Errors
/// A [`Fault`] as JSON.
#[wasm_bindgen(js_name = loadRules)]
pub fn load_rules(text: &str) -> Result<Rules, JsValue> {
    rules::Rules::new(text).map(Rules).map_err(thrown)
}

#[wasm_bindgen]
impl Rules {
    /// See [`rules::Rules::summary`].
    ///
    /// # Errors
    /// A [`Fault`] as JSON.
    pub fn summary(&self) -> Result<String, JsValue> {
        self.0.summary().map_err(thrown)
    }

    /// See [`rules::Rules::find`].
    ///
    /// # Errors
    /// A [`Fault`] as JSON.
    pub fn find(&self, query: &str, options: &str) -> Result<String, JsValue> {
        self.0.find(query, options).map_err(thrown)
    }

    /// See [`rules::Rules::encode`].
    ///
    /// # Errors
    /// A [`Fault`] as JSON.
    pub fn encode(&self, instruction: &str, options: &str) -> Result<String, JsValue> {
        self.0.encode(instruction, options).map_err(thrown)
    }
}

/// Reads one piece after another.
struct Source {
    /// The last piece is the next to read.
    pieces: Vec<Uint8Array>,
    /// Bytes of that piece that have been read.
    at: u32,
}

impl Source {
    fn new(mut pieces: Vec<Uint8Array>) -> Self {
        pieces.reverse();
        Self { pieces, at: 0 }
    }

    /// Copies the next bytes to `buffer` and returns how many there are; 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        while let Some(piece) = self.pieces.last() {
            let rest = piece.length() - self.at;
            if rest > 0 {
                let len = rest.min(u32::try_from(buffer.len()).unwrap_or(u32::MAX));
                piece.subarray(self.at, self.at + len).copy_to(&mut buffer[..len as usize]);
                self.at += len;
                return len as usize;
            }
            self.pieces.pop();
            self.at = 0;
        }
        0
    }
}

fn object_of(head: &FrameHead<'_>) -> JsValue {
    let row = Row::of(head);
    head_of(&row.numbers, &row.text)
}

/// What `js/src/seam-wasm.ts` makes an `Error` of.
fn thrown(fault: Fault) -> JsValue {
    serde_json::to_string(&fault).unwrap_or_default().into()
}
