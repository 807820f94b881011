//! A random walk: a store, leaders that die at any step, answers that are lost, and one backfill.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Asked, BackfillEffect, BackfillId, BackfillInput, BackfillMachine, BackfillProgress, BackfillState,
    Moved, StoredBackfill,
};
use crate::{
    core::{outcome::Outcome, time::FireTime},
    name::{JobName, NodeId, RunId, RunIds},
};

const STEPS: usize = 2_000;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// What the store and the jobs know, and what is on its way to them.
struct World {
    row: StoredBackfill,
    now: Duration,
    machine: BackfillMachine,
    pending: Vec<BackfillEffect>,
    /// How often each run was granted, and when it started.
    granted: BTreeMap<RunId, Duration>,
    ended: BTreeMap<RunId, Outcome>,
    /// Runs that the present leader started, whose ends it hears.
    heard: BTreeMap<RunId, u32>,
    chance: Chance,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let from: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let ticks = i64::try_from(chance.below(12) + 1).unwrap();
        let fire_times: Arc<_> =
            (0..ticks).map(|nth| FireTime::new(from + TimeDelta::hours(nth))).collect::<Vec<_>>().into();
        let id = BackfillId::new(RunIds::of(NodeId::numbered(1)).next(from));
        let row = StoredBackfill::new(id, JobName::new("job").unwrap(), (from, from), fire_times);
        let max_concurrent = u32::try_from(chance.below(3) + 1).unwrap();
        let spacing = Duration::from_secs(if chance.one_in(2) { 0 } else { 5 });
        let row = StoredBackfill { max_concurrent, spacing, ..row };
        let machine = BackfillMachine::new(row.clone(), Duration::ZERO, seed);
        let (granted, ended, heard) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { row, now: Duration::ZERO, machine, pending: Vec::new(), granted, ended, heard, chance }
    }

    fn feed(&mut self, input: BackfillInput) {
        let effects = self.machine.step(self.now, input);
        self.pending.extend(effects);
    }

    /// The leader dies with all that is on its way to it; what was sent may still arrive.
    fn take_over(&mut self) {
        for effect in std::mem::take(&mut self.pending) {
            if let BackfillEffect::Ask { run, .. } = effect
                && self.chance.one_in(2)
            {
                self.grant(run);
            }
        }
        self.heard.clear();
        let seed = self.chance.below(u64::MAX);
        self.machine = BackfillMachine::new(self.read(), self.now, seed);
        self.feed(BackfillInput::WakeUp);
    }

    /// The row, as the store answers it.
    fn read(&self) -> StoredBackfill {
        let since_start = self.granted.values().max().map(|last| self.now - *last);
        StoredBackfill { since_start, ..self.row.clone() }
    }

    /// Whether the run starts by this.
    fn grant(&mut self, run: RunId) -> bool {
        if self.granted.contains_key(&run) {
            return false;
        }
        let in_progress = self.granted.keys().filter(|run| !self.ended.contains_key(run)).count();
        assert!(in_progress < self.row.max_concurrent as usize, "too many at a time");
        if let Some(last) = self.granted.values().max() {
            assert!(*last + self.row.spacing <= self.now, "too soon after the one before");
        }
        self.granted.insert(run, self.now);
        true
    }

    fn write(&mut self, next: BackfillProgress) -> Moved {
        if self.row.progress.revision + 1 != next.revision || !self.row.is_running() {
            return Moved::Elsewhere(Some(Box::new(self.read())));
        }
        for nth in &self.row.progress.in_flight {
            let gone = !next.in_flight.contains(nth);
            assert!(
                !gone || self.ended.contains_key(&self.row.id.run(*nth)),
                "{nth} is let go before its end"
            );
        }
        self.row.progress = next;
        Moved::Done
    }

    fn perform(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let at = usize::try_from(self.chance.below(self.pending.len() as u64)).unwrap();
        match self.pending.remove(at) {
            BackfillEffect::Move(next) => {
                let lost = self.chance.below(6);
                let moved = if lost == 0 { Moved::Unknown } else { self.write(next.clone()) };
                if lost == 1 {
                    self.feed(BackfillInput::Moved(Moved::Unknown));
                } else {
                    self.feed(BackfillInput::Moved(moved));
                }
            }
            BackfillEffect::Ask { nth, run, .. } => {
                let answer = if self.granted.contains_key(&run) {
                    Asked::RanBefore { outcome: self.ended.get(&run).copied() }
                } else if self.chance.one_in(4) {
                    Asked::NotNow
                } else {
                    self.grant(run);
                    self.heard.insert(run, nth);
                    Asked::Started
                };
                self.feed(BackfillInput::Asked { nth, answer });
            }
            BackfillEffect::Over(state) => assert_eq!(state, self.row.progress.state),
            BackfillEffect::Stop => panic!("nobody deposed it"),
        }
    }

    fn end_a_run(&mut self) {
        let in_progress: Vec<_> =
            self.granted.keys().filter(|run| !self.ended.contains_key(run)).copied().collect();
        let Some(run) = in_progress.first() else { return };
        let outcome = Outcome::ALL[usize::try_from(self.chance.below(6)).unwrap()];
        self.ended.insert(*run, outcome);
        if let Some(nth) = self.heard.remove(run) {
            self.feed(BackfillInput::Ended { nth, outcome });
        }
    }

    fn walk(mut self, seed: u64) -> usize {
        self.feed(BackfillInput::WakeUp);
        let mut take_overs = 0;
        for _ in 0..STEPS {
            match self.chance.below(12) {
                0..=4 => self.perform(),
                5..=7 => self.end_a_run(),
                8 if self.chance.one_in(3) => {
                    self.take_over();
                    take_overs += 1;
                }
                9 => self.feed(BackfillInput::Read(self.read())),
                _ => {
                    let jump = Duration::from_millis(self.chance.below(8_000));
                    self.now = self.machine.wakes_at().unwrap_or(self.now).max(self.now + jump);
                    self.feed(BackfillInput::WakeUp);
                }
            }
        }
        assert_eq!(self.row.progress.state, BackfillState::Finished, "seed {seed}");
        assert_eq!(self.granted.len(), self.row.fire_times.len(), "seed {seed}: each once");
        assert_eq!(self.ended.len(), self.granted.len(), "seed {seed}");
        let failed = self.ended.values().filter(|outcome| **outcome != Outcome::Succeeded).count();
        assert_eq!(self.row.progress.failed as usize, failed, "seed {seed}: whoever saw the ends");
        take_overs
    }
}

#[test]
fn each_fire_time_runs_once_whoever_dies_whenever() {
    let take_overs: usize = (0..500).map(|seed| World::new(seed).walk(seed)).sum();

    assert!(take_overs > 1_000, "the walk meets what it is about: {take_overs}");
}
