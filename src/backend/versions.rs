//! Versions of records that come once.

use std::sync::atomic::{AtomicU64, Ordering};

use callsheet_actors::port::Version;

use super::random::random;

/// Versions that no record of any node ever had: each is a mixed number of a sequence that begins anywhere.
pub(super) struct Versions(AtomicU64);

impl Versions {
    /// A sequence of its own.
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(random()))
    }

    /// One that is not [`Version::ABSENT`].
    pub(super) fn next(&self) -> Version {
        loop {
            let count = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mut mixed = (count ^ (count >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            if mixed != 0 {
                return Version(mixed);
            }
        }
    }
}
