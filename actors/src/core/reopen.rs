//! How long a node waits before it tries once more to open a session.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::name::NodeId;

/// The bounds of the pause before a store that was away is asked again: a store that is back has its nodes back within a second.
pub const AWAY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(750));
/// The longest pause before a store is asked again that refuses the node: somebody has to change something first.
pub const REFUSED_MAX: Duration = Duration::from_secs(2);

/// The pause before attempt `nth`, from 0. Nodes differ in it, so that they do not all come at once.
pub fn pause(node: NodeId, nth: u32, refused: bool) -> Duration {
    let (least, most) = AWAY;
    let most = if refused { most.saturating_mul(1 << nth.min(8)).min(REFUSED_MAX) } else { most };
    let share = hashed(node, nth) % 1_000;
    // Whole milliseconds: far more than there are nodes.
    least + Duration::from_millis((most - least).as_millis() as u64 * share / 1_000)
}

fn hashed(node: NodeId, nth: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (node, nth).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(node: u128, refused: bool) -> Vec<u128> {
        (0..50).map(|nth| pause(NodeId::numbered(node), nth, refused).as_millis()).collect()
    }

    #[test]
    fn a_store_that_was_away_is_asked_again_within_less_than_a_second() {
        for node in 1..20 {
            assert!(pauses(node, false).iter().all(|pause| (250..750).contains(pause)));
            assert!(pauses(node, true).iter().all(|pause| (250..2_000).contains(pause)));
        }
    }

    #[test]
    fn nodes_do_not_come_at_once_and_no_node_is_always_last() {
        let first: Vec<_> = (1..=100).map(|node| pauses(node, false)[0]).collect();
        for bucket in 0..5 {
            let (from, to) = (250 + bucket * 100, 350 + bucket * 100);
            let count = first.iter().filter(|pause| (from..to).contains(*pause)).count();
            assert!((8..=35).contains(&count), "{count} of 100 nodes come from {from} to {to} ms");
        }
        for node in 1..20 {
            let pauses = pauses(node, false);
            let mean = pauses.iter().sum::<u128>() / pauses.len() as u128;
            assert!((420..=580).contains(&mean), "{mean}");
        }
    }
}
