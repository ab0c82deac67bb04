//! What every binding is asked, and payloads where they lie.

use std::cell::RefCell;

use avp_core::{Compression, compress_body, decompress_body};
use avp_js_operations::{
    fault::Fault,
    operation::{Operation, State},
};
use napi::{
    Either,
    bindgen_prelude::{Uint8Array, Uint8ArraySlice},
};
use napi_derive::napi;

use crate::failure::{Answer, Failure, answered};

/// What is kept between requests, for one thread of JavaScript.
#[derive(Default)]
struct Kept {
    state: State,
    /// Counts the states: what was kept in an earlier one is gone.
    generation: u32,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Answers a request with JSON.
#[napi]
pub fn ask(operation: u32, request: &[u8], number: f64) -> Answer<String> {
    on_state(|state| {
        let answer = run(state, operation, request, number)?;
        String::from_utf8(answer).map_err(|_| Fault::bad_request().into())
    })
}

/// Answers a request whose answer is bytes.
#[napi]
pub fn ask_bytes(operation: u32, request: &[u8]) -> Answer<Uint8Array> {
    on_state(|state| run(state, operation, request, 0.0).map(Uint8Array::new))
}

/// Answers a request whose answer is numbers, and says how many bytes they are. They are written to `room` where it has
/// enough of it.
#[napi]
pub fn ask_numbers(
    operation: u32,
    request: &[u8],
    number: f64,
    mut room: Uint8ArraySlice<'_>,
) -> Answer<f64> {
    on_state(|state| {
        let numbers = run(state, operation, request, number)?;
        // SAFETY: `js/src/seam-node.ts` made this memory for answers: no request lies in it, and no other thread has it.
        let room = unsafe { room.as_mut() };
        if let Some(room) = room.get_mut(..numbers.len()) {
            room.copy_from_slice(&numbers);
        }
        Ok(numbers.len() as f64)
    })
}

/// Which state requests are answered from now.
#[napi]
pub fn generation() -> u32 {
    KEPT.with_borrow(|kept| kept.generation)
}

/// The CRC-32 of what came before, whose sum is `previous`, and `bytes`.
#[napi]
pub fn crc32(bytes: &[u8], previous: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(previous);
    hasher.update(bytes);
    hasher.finalize()
}

/// Unpacks a body that starts at `offset` in its frame, to at most `limit` bytes.
#[napi]
pub fn unpack(body: &[u8], limit: f64, offset: f64) -> Answer<Uint8Array> {
    // A float becomes the nearest integer that there is.
    answered(|| Ok(decompress_body(body, limit as usize, offset as usize)?.into()))
}

/// Packs a payload into a body.
#[napi]
pub fn pack(payload: &[u8]) -> Answer<Uint8Array> {
    answered(|| Ok(compress_body(payload, Compression::Fast).into()))
}

fn run(state: &mut State, operation: u32, request: &[u8], number: f64) -> Result<Vec<u8>, Failure> {
    let operation = Operation::from_number(operation).ok_or_else(Fault::bad_request)?;
    Ok(state.answer(operation, request, number)?)
}

/// A state that panicked is put away whole, and the next request gets a new one.
fn on_state<T>(act: impl FnOnce(&mut State) -> Result<T, Failure>) -> Answer<T> {
    KEPT.with_borrow_mut(|kept| {
        let answer = answered(|| act(&mut kept.state));
        if matches!(&answer, Either::B(failure) if failure.kind == "internal") {
            *kept = Kept { state: State::default(), generation: kept.generation.wrapping_add(1) };
        }
        answer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_panic_there_is_a_new_state_and_it_answers() {
        let before = generation();
        assert!(matches!(on_state::<()>(|_| panic!("a defect")), Either::B(_)));
        assert_eq!(generation(), before + 1);
        let dialect = ask(Operation::Dialect as u32, b"0.2.1", 0.0);
        assert!(matches!(dialect, Either::A(json) if json == "\"0.2\""));
    }

    #[test]
    fn a_number_that_names_no_operation_is_refused() {
        let Either::B(failure) = ask(u32::MAX, b"", 0.0) else { panic!("answered") };
        assert_eq!(failure.code, "bad_request");
    }

    #[test]
    fn a_checksum_goes_on_from_another() {
        assert_eq!(crc32(b"456789", crc32(b"123", 0)), avp_core::crc32(b"123456789"));
    }
}
