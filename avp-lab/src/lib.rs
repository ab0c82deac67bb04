#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod agent;
pub mod bench;
pub mod demo;
mod mode;
mod model;
mod statistics;
mod table;
mod world;

pub use mode::{Handed, Mode};
pub use model::embedded_model;
