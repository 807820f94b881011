//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// The pause is shortened by up to this part of it, so that not all nodes come at once.
const JITTER_PART: u32 = 4;

/// The pause after `failures` in a row: `min` after none, then twice the one before, up to `max`.
pub(crate) fn doubled(min: Duration, failures: u32, max: Duration) -> Duration {
    min.saturating_mul(1 << failures.min(16)).min(max)
}

/// Pauses that double from a shortest to a longest one, each shortened a little by chance.
///
/// ```text
/// failures in a row   1    2     3     4         5
/// 250 ms to 2 s       250  500   1000  2000      2000    at most, and three quarters of it at least
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    seed: u64,
    failures: u32,
}

impl Backoff {
    /// From `min` to `max`. Two nodes differ by their seeds; one and the same answers the same pauses.
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, seed, failures: 0 }
    }

    /// It failed once more: how long to wait.
    pub fn failed(&mut self) -> Duration {
        let pause = doubled(self.min, self.failures, self.max);
        self.failures = self.failures.saturating_add(1);
        let thousandths = u32::try_from(mixed(self.seed, self.failures) % 1_000).unwrap_or_default();
        pause - pause / JITTER_PART * thousandths / 1_000
    }

    /// It did not fail.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// SplitMix64, of Steele, Lea and Flood: neighbours differ in about half of their bits.
fn mixed(seed: u64, count: u32) -> u64 {
    let mut mixed = seed.wrapping_add(u64::from(count).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const MIN: Duration = Duration::from_millis(250);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn each_pause_is_twice_the_one_before_up_to_the_longest() {
        let pauses = [0, 1, 2, 4, 5, 40, u32::MAX].map(|failures| doubled(MIN, failures, MAX).as_millis());

        assert_eq!(pauses, [250, 500, 1_000, 4_000, 5_000, 5_000, 5_000]);
    }

    #[test]
    fn the_pauses_grow_up_to_the_longest_and_start_anew_after_a_success() {
        let mut backoff = Backoff::new(MIN, MAX, 7);
        let most = [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000].map(Duration::from_millis);

        for most in most {
            let pause = backoff.failed();
            assert!(pause <= most && pause >= most * 3 / 4, "{pause:?} of {most:?}");
        }
        for _ in 0..100 {
            backoff.failed();
        }
        assert!(backoff.failed() <= MAX);

        backoff.succeeded();
        assert!(backoff.failed() <= MIN);
    }

    #[test]
    fn no_two_nodes_come_at_the_same_instant() {
        let first: HashSet<_> = (0..100).map(|seed| Backoff::new(MIN, MAX, seed).failed()).collect();

        assert!(first.len() > 80, "{}", first.len());
    }
}
