//! Projections and transfers between committed models, against records of the Python package.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../../avp-runtime-ort/tests/runtime/common.rs"]
mod common;
mod projection;
mod records;
