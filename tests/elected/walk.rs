//! Leaders that die, freeze, resign, are cut off and have wrong clocks, in any order: nothing starts twice, and what
//! does not start is accounted for.

use callsheet::{Resign, backend::OnUnproven, testkit::simulate};
use chrono::TimeDelta;

use crate::{LEASE, START, Ticks, common::node_with, secs, tick};

/// A generator of numbers that repeats itself: the constants are Knuth's.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn whatever_becomes_of_leaders_no_tick_starts_twice_and_none_is_missing() {
    for seed in 0..40 {
        simulate(START, async |rig| {
            let mut numbers = Numbers(seed);
            rig.set_lease(LEASE);
            rig.elect_only(OnUnproven::Skip);
            if seed % 2 == 0 {
                rig.store().hide_clock();
            }
            for _ in 0..3 {
                rig.node(node_with([tick()])).await;
            }
            rig.advance(secs(5)).await;
            let mut nodes = vec![0, 1, 2];
            for _ in 0..12 {
                rig.advance(std::time::Duration::from_millis(1_000 + numbers.below(20_000))).await;
                let Some(leader) = rig.leader() else { continue };
                match numbers.below(8) {
                    0 if nodes.len() < 8 => {
                        rig.kill(leader);
                        nodes.retain(|node| *node != leader);
                        nodes.push(rig.node(node_with([tick()])).await);
                    }
                    1 => {
                        rig.freeze(leader);
                        rig.advance(std::time::Duration::from_millis(numbers.below(30_000))).await;
                        rig.thaw(leader);
                    }
                    2 => {
                        rig.cut_off(leader);
                        rig.advance(std::time::Duration::from_millis(numbers.below(30_000))).await;
                        rig.reconnect(leader);
                    }
                    3 => _ = rig.send(leader, Resign).await,
                    4 => rig.end_session(leader),
                    5 => {
                        // While it resigns, perhaps.
                        rig.send(leader, Resign).await;
                        rig.cut_off(leader);
                        rig.advance(std::time::Duration::from_millis(numbers.below(30_000))).await;
                        rig.reconnect(leader);
                    }
                    6 => {
                        // It may win again, and again.
                        for _ in 0..3 {
                            rig.end_session(leader);
                            rig.advance(std::time::Duration::from_millis(numbers.below(600))).await;
                        }
                    }
                    _ => {
                        // Clocks only go forward here: a tick of which the clock was set back is not due again.
                        let ahead = i64::try_from(numbers.below(3_000)).expect("it is small");
                        rig.set_skew(leader, TimeDelta::milliseconds(ahead));
                    }
                }
            }
            for node in nodes {
                rig.set_skew(node, TimeDelta::zero());
            }
            rig.advance(secs(60)).await;

            let last = crate::second(rig.now()) - 5;
            let ticks = Ticks::of(rig, "tick", 1);
            assert_eq!(ticks.missing(1, last), [0; 0], "seed {seed}");
        });
    }
}
