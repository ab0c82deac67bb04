//! The exports: what the host calls, in numbers.
//!
//! The host may write to an address that it was given until its next call, and read there after it.
#![expect(
    unsafe_code,
    reason = "exported names and imported functions are unsafe to declare; no pointer is followed here"
)]

use std::cell::RefCell;

use avp_js_operations::{
    fault::{Fault, Outcome},
    operation::{Operation, State},
};
use avp_wasm_crc::{WINDOW_LEN, Window};

use crate::zstd;

/// A buffer that has grown beyond this is let go once its request is answered.
const KEPT: usize = 1 << 20;

#[derive(Default)]
struct Machine {
    state: State,
    request: Vec<u8>,
    answer: Vec<u8>,
    window: Window,
}

thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::default();
}

// SAFETY: the host defines both with these types (`js/src/seam-wasm.ts`), and touches only the bytes named.
#[link(wasm_import_module = "host")]
unsafe extern "C" {
    /// Writes at most `len` next bytes of the input to `to`, and returns how many; 0 at the end.
    safe fn pull(to: usize, len: usize) -> usize;
    /// Takes `len` bytes of the output from `from`.
    safe fn push(from: usize, len: usize);
}

/// Makes room for a request of `len` bytes, and returns where; 0 where there is no room.
// SAFETY: no other export has this name; so for those below.
#[unsafe(no_mangle)]
extern "C" fn reserve(len: usize) -> usize {
    with(|machine| {
        machine.request.clear();
        if machine.request.try_reserve_exact(len).is_err() {
            return 0;
        }
        machine.request.resize(len, 0);
        machine.request.as_mut_ptr().addr()
    })
}

/// Answers the request in the buffer, and returns 0, or 1 where the answer is an error.
#[unsafe(no_mangle)]
extern "C" fn call(operation: u32, number: f64) -> u32 {
    with(|machine| {
        let Machine { state, request, .. } = machine;
        let outcome = match Operation::from_number(operation) {
            Some(operation) => state.answer(operation, request, number),
            None => Err(Fault::bad_request()),
        };
        machine.finish(outcome)
    })
}

/// Where the answer is.
#[unsafe(no_mangle)]
extern "C" fn answer() -> usize {
    with(|machine| machine.answer.as_ptr().addr())
}

/// How long the answer is.
#[unsafe(no_mangle)]
extern "C" fn answer_len() -> usize {
    with(|machine| machine.answer.len())
}

/// Where the window for checksums is.
#[unsafe(no_mangle)]
extern "C" fn window() -> usize {
    with(|machine| machine.window.data_mut().as_mut_ptr().addr())
}

/// How many bytes the window takes.
#[unsafe(no_mangle)]
extern "C" fn window_len() -> usize {
    WINDOW_LEN
}

/// The CRC-32 of what came before, whose sum is `crc`, and the first `len` bytes of the window.
#[unsafe(no_mangle)]
extern "C" fn crc32(crc: u32, len: usize) -> u32 {
    with(|machine| machine.window.update(crc, len))
}

/// Takes a full window that another full one follows; the next sum counts it.
#[unsafe(no_mangle)]
extern "C" fn crc32_pass(crc: u32) {
    with(|machine| machine.window.pass(crc));
}

/// Unpacks what the host lets it pull, and pushes at most `limit` bytes; 0, or 1 where the answer is an error.
#[unsafe(no_mangle)]
extern "C" fn unpack(limit: f64, offset: f64) -> u32 {
    // A float becomes the nearest integer that there is.
    let outcome = zstd::unpack(limit as usize, offset as usize, &mut pulled, &mut pushed);
    with(|machine| machine.finish(outcome.map(|()| Vec::new()).map_err(Fault::from)))
}

/// Packs the `len` bytes that the host lets it pull, and pushes the result.
#[unsafe(no_mangle)]
extern "C" fn pack(len: f64) {
    // The host gives the bytes that it announced.
    let _ = zstd::pack(len as u64, &mut pulled, &mut pushed);
}

impl Machine {
    fn finish(&mut self, outcome: Outcome<Vec<u8>>) -> u32 {
        if self.request.capacity() > KEPT {
            self.request = Vec::new();
        }
        let is_error = outcome.is_err();
        self.answer = outcome.unwrap_or_else(Fault::into_bytes);
        is_error.into()
    }
}

/// No export calls another, and the host calls none while one runs but through `pull` and `push`, which hold nothing.
fn with<T>(act: impl FnOnce(&mut Machine) -> T) -> T {
    MACHINE.with_borrow_mut(act)
}

fn pulled(buffer: &mut [u8]) -> usize {
    pull(buffer.as_mut_ptr().addr(), buffer.len())
}

fn pushed(bytes: &[u8]) {
    push(bytes.as_ptr().addr(), bytes.len());
}
