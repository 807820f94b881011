//! Any sequence of inputs keeps the machine's promises.
//!
//! The machine walks through a little world: a store that keeps a cursor, keys and pauses and loses some of
//! its answers, a node that hands out permits, bodies that end in every way, clocks that step, a schedule
//! that panics and so kills the actor at any moment. The promises are checked after every step. In the end
//! the world calms down: whatever is due must be decided, and after a drain nothing is left.

mod answers;
mod calm;
mod checks;
mod moves;
mod store;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use proptest::prelude::*;
use uuid::Uuid;

use self::{moves::*, store::*, world::*};
use super::{
    super::{
        backlog::Waiting,
        permit::{Claimant, PermitState},
        ticks::May,
    },
    *,
};

/// Wake-ups in a row that come at once and do nothing.
const IDLE_WAKE_UPS_MAX: u32 = 3;
/// Wake-ups in a row that come at once: one for each tick of a window of five minutes that finds a full node.
const SETTLE_TURNS_MAX: u32 = 10_000;
/// Turns of the world until everything that is due must be decided, or everything must be over.
const CALM_TURNS_MAX: u32 = 2_000;
/// After so many of them the machine hears what its job owes.
const PENDING_RETRIES_EVERY: u32 = 100;

/// On what basis the job fires in this walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Leader,
    Any,
    Leaderless,
    Local,
}

fn rights() -> impl Strategy<Value = Right> {
    prop_oneof![4 => Just(Right::Leader), 2 => Just(Right::Any), 1 => Just(Right::Leaderless), 2 => Just(Right::Local)]
}

fn permits() -> impl Strategy<Value = Permits> {
    (0u32..4, any::<bool>()).prop_map(|(free, waits)| Permits {
        limited: free > 0,
        waits,
        free,
        others: 0,
        held: 0,
        waiting: false,
        on_its_way: false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_machine_keeps_its_promises(
        (right, policies, moves) in rights()
            .prop_flat_map(|right| (Just(right), policies(right), moves(right))),
        period in periods(),
        from_end in proptest::bool::weighted(0.2),
        permits in permits(),
    ) {
        let mut world = World::new(right, policies, period, from_end, permits);
        world.resume();
        for one in moves {
            world.make(one);
        }
        world.calm_down();
        if !world.drained {
            world.everything_due_is_decided();
        }
        world.everything_ends();
    }
}
