//! The `avp` program, run as a user's shell would.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod aacp;
mod attacks;
mod bench;
mod calibrate;
mod chat;
mod common;
mod context;
mod demo;
mod doctor;
mod generate;
mod handover;
mod inspect;
mod kv;
mod prepare;
mod protocol;
#[cfg(unix)]
mod readme;
mod real;
mod rosetta;
mod serve;
mod server;
mod sign;
mod transfer;
mod web_pages;
