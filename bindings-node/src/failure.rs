//! Errors for JavaScript.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use avp_js_operations::fault::Fault;
use napi::Either;
use napi_derive::napi;

/// An error: the class of the JavaScript `Error`, and its fields.
#[napi(object)]
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The class: one of [`Fault`]'s, `runtime` or `internal`.
    pub kind: String,
    /// The stable code.
    pub code: String,
    /// Offset in bytes or UTF-16 units; `null` if the error has no position.
    pub offset: Option<f64>,
    /// The message.
    pub message: String,
}

/// A value or an error.
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

impl From<napi::Error> for Failure {
    fn from(error: napi::Error) -> Self {
        let internal = || "internal".to_owned();
        Self { kind: internal(), code: internal(), offset: None, message: error.to_string() }
    }
}

/// Runs `act`. A panic, which is a defect, becomes an error: it must not unwind into Node.
pub(crate) fn answered<T>(act: impl FnOnce() -> Result<T, Failure>) -> Answer<T> {
    // Nothing that `act` can leave half done is used again: what JavaScript keeps is read only.
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
        message: format!("the addon panicked and continues: {words}"),
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
