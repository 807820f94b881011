//! The engine and the ports of Callsheet.

mod error;
pub mod port;

pub use error::{Fault, Faults};
