//! Real models on ONNX Runtime: parity with the Python package, and errors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;
mod contexts;
mod engine;
mod exchange;
mod families;
mod generate;
mod parity;
mod real;
mod refusals;
mod special_tokens;
mod steps;
