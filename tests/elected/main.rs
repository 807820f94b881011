//! All-or-nothing leadership: claims in the memory of the leader, over an elector alone; and claims in another system
//! than the one that elects. That no tick starts twice is checked after every story: see `Rig::verify`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/log.rs"]
mod log;

mod composed;
mod electors;
mod hand_overs;
mod refusals;
mod told;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use callsheet::{EventKind, Job, SkipReason, schedule::every, testkit::Rig};
use chrono::{DateTime, Utc};

const START: &str = "2026-01-05T00:00:00Z";
const LEASE: Duration = secs(10);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A job with a tick each second.
fn tick() -> Job {
    Job::new("tick", every(secs(1))).run(async |_| {})
}

/// The second of a story in which an instant is.
fn second(instant: DateTime<Utc>) -> i64 {
    let start: DateTime<Utc> = START.parse().expect("an instant");
    (instant - start).num_seconds()
}

/// What became of each tick of a job that has one each `period` seconds.
#[derive(Debug, Default)]
struct Ticks {
    started: BTreeMap<i64, usize>,
    skipped: BTreeMap<i64, SkipReason>,
    /// The session ended when they were claimed, and before they started.
    lost: BTreeSet<i64>,
}

impl Ticks {
    fn of(rig: &Rig, name: &str, period: i64) -> Self {
        let mut ticks = Self::default();
        for recorded in rig.events() {
            match recorded.event.kind {
                EventKind::RunStarted { job, fire_time: Some(tick), .. } if job.as_str() == name => {
                    *ticks.started.entry(second(tick.instant())).or_default() += 1;
                }
                EventKind::RunLost { job, fire_time: Some(tick), .. } if job.as_str() == name => {
                    ticks.lost.insert(second(tick.instant()));
                }
                EventKind::TickSkipped { job, fire_time, reason, count, .. } if job.as_str() == name => {
                    let newest = second(fire_time.instant());
                    let count = i64::try_from(count).expect("few");
                    let skipped = (0..count).map(|nth| (newest - nth * period, reason));
                    ticks.skipped.extend(skipped);
                }
                _ => {}
            }
        }
        ticks
    }

    /// The seconds of the ticks up to and including one of which nothing is known.
    fn missing(&self, period: i64, last: i64) -> Vec<i64> {
        let known = |second: &i64| {
            self.started.contains_key(second)
                || self.skipped.contains_key(second)
                || self.lost.contains(second)
        };
        (1..=last / period).map(|nth| nth * period).filter(|second| !known(second)).collect()
    }

    fn unproven(&self) -> Vec<i64> {
        let unproven = self.skipped.iter().filter(|(_, reason)| **reason == SkipReason::Unproven);
        unproven.map(|(second, _)| *second).collect()
    }
}

fn skips(rig: &Rig, reason: SkipReason) -> usize {
    rig.count(|kind| matches!(kind, EventKind::TickSkipped { reason: other, .. } if *other == reason))
}

fn leaders(rig: &Rig) -> usize {
    rig.count(|kind| matches!(kind, EventKind::LeadershipGained { .. }))
}
