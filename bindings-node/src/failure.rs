//! What an `Error` in JavaScript is made of.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use avp_js_operations::fault::Fault;
use napi::Either;
use napi_derive::napi;

/// A failure: the class of the `Error`, and what it holds.
#[napi(object)]
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Which class of error: those of the operations, `runtime` or `internal`.
    pub kind: String,
    /// A stable name.
    pub code: String,
    /// Where, in bytes or UTF-16 units; `null` where that has no meaning.
    pub offset: Option<f64>,
    /// A sentence for people.
    pub message: String,
}

/// A value, or why there is none.
pub(crate) type Answer<T> = Either<T, Failure>;

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self {
            kind: fault.kind.to_owned(),
            code: fault.code.to_owned(),
            offset: fault.offset.map(|offset| offset as f64),
            message: fault.message,
        }
    }
}

impl From<avp_core::DecodeError> for Failure {
    fn from(error: avp_core::DecodeError) -> Self {
        Fault::from(error).into()
    }
}

/// Runs `act` and gives its answer. A panic, which is a defect, becomes a failure: it must not unwind into Node.
pub(crate) fn answered<T>(act: impl FnOnce() -> Result<T, Failure>) -> Answer<T> {
    // What `act` leaves half done is put away by its caller: see `requests`.
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(value)) => Either::A(value),
        Ok(Err(failure)) => Either::B(failure),
        Err(panic) => Either::B(internal(&*panic)),
    }
}

fn internal(panic: &(dyn Any + Send)) -> Failure {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Failure {
        kind: "internal".to_owned(),
        code: "internal".to_owned(),
        offset: None,
        message: format!("the addon failed, and goes on: {words}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_internal_failure_with_its_words() {
        for act in [|| panic!("static"), || panic!("made of {}", 2)] {
            let Either::B(failure) = answered::<()>(act) else { unreachable!() };
            assert_eq!((&*failure.kind, &*failure.code), ("internal", "internal"));
            assert!(["static", "made of 2"].iter().any(|words| failure.message.ends_with(words)));
        }
    }
}
