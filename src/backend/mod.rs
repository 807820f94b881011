//! Where nodes coordinate.

mod local;

pub use local::Local;
