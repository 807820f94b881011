//! What others implement for the engine.

mod schedule;

pub use schedule::{IntoSchedule, Schedule};
