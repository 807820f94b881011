//! Names that are out of use.

use std::time::Duration;

/// The longest time between two calls of [`Locker::forget`](super::Locker::forget) that a store ages by: what
/// is longer counts as a time without a leader.
pub const AGES_AT_MOST: Duration = Duration::from_secs(180);

/// How much was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// How many names.
    pub names: usize,
    /// There may be more: ask again soon.
    pub more: bool,
}
