//! Which faults, in which order: each of them once, or as many as fit into a time, as a seed says.

use std::time::Duration;

use super::faults::Fault;

/// Faults of a campaign.
pub(crate) struct Faults {
    random: Random,
    /// The rest of a bag that holds each fault once.
    bag: Vec<Fault>,
}

impl Faults {
    /// Each once, and again, in an order that follows from the seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self { random: Random(seed), bag: Vec::new() }
    }

    /// The next one, and how long to wait before it.
    pub(crate) fn next(&mut self) -> (Fault, Duration) {
        if self.bag.is_empty() {
            self.bag = Fault::survived();
        }
        let at = self.random.below(self.bag.len());
        let pause = Duration::from_millis(self.random.below(1_000) as u64);
        (self.bag.swap_remove(at), pause)
    }
}

/// Numbers that follow from a seed alone (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

#[test]
fn a_seed_is_replayed() {
    let of = |seed| {
        let mut faults = Faults::of(seed);
        (0..100).map(|_| faults.next()).collect::<Vec<_>>()
    };

    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
    let all = Fault::survived();
    let first = &of(7)[..all.len()];
    assert!(all.iter().all(|fault| first.iter().any(|(one, _)| one == fault)));
}
