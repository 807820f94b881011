//! How values are written as data.

pub mod duration;
#[cfg(test)]
pub(crate) mod tests;
