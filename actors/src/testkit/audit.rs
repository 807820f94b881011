//! What must hold after each story, and at every instant of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use crate::{
    core::ledger::Record,
    elected::OnUnproven,
    event::EventKind,
    name::{JobName, RunId},
    port::{Schedule, SkipReason},
    testkit::{Recorded, Rig, SharedStore, store::SCOPE},
};

impl Rig {
    /// Checks the promises that hold at every instant.
    ///
    /// * Every move of a cursor starts where the one before ended, and accounts for every tick between by the
    ///   schedule that was in force: at most one claimed, the others skipped with a reason. Moves to the end
    ///   of a run only go forward: what is between does not count.
    /// * No tick is claimed twice, no run starts twice, unless it was lost and taken up again, and none
    ///   without a claim.
    /// * `due = started + skipped` in the metrics; and unless a node lost its session, what they say of a job
    ///   is what the store says.
    /// * Where nodes only [elect](Self::elect_only) a leader by the store: no tick starts twice, unless what is
    ///   unproven runs.
    ///
    /// # Panics
    ///
    /// If one is broken.
    pub fn verify(&mut self) {
        self.verify_cursors();
        self.verify_runs();
        let due = self.counter("callsheet_ticks_due_total", "");
        let decided = self.counter("callsheet_ticks_total", "");
        assert_eq!(due, decided, "due = started + skipped");
        if !self.sessions_lost {
            self.verify_counts();
        }
    }

    fn verify_counts(&mut self) {
        for (backend, store) in self.stores() {
            let backend = backend.map(|name| format!(",backend={name}")).unwrap_or_default();
            self.verify_counts_of(&store, &format!("scope={SCOPE}{backend}"));
        }
    }

    fn verify_counts_of(&self, store: &SharedStore, common: &str) {
        let mut committed: BTreeMap<JobName, u64> = BTreeMap::new();
        for record in store.records() {
            if let Record::Advanced { job, skips, run, .. } = record {
                let counted = skips.without(SkipReason::Parked).total();
                *committed.entry(job).or_default() += counted + u64::from(run.is_some());
            }
        }
        let known = self.definitions.lock();
        for (job, committed) in committed.into_iter().filter(|(job, _)| !known.locals.contains(job)) {
            let label = ("callsheet_ticks_due_total".to_owned(), format!("{common},name={job}"));
            // A job beyond the bound of the label has no counter of its own.
            if let Some(due) = self.counters.get(&label) {
                // Those of a parked job are counted before the store hears of them, if it ever does.
                let parked =
                    ("callsheet_ticks_total".to_owned(), format!("{common},name={job},outcome=parked"));
                let parked = self.counters.get(&parked).copied().unwrap_or_default();
                assert_eq!(
                    *due - parked,
                    committed,
                    "what is counted as due of {job} is what the store has committed"
                );
            }
        }
    }

    /// Every change so far, of one store after the other.
    fn records(&self) -> impl Iterator<Item = Record> {
        self.stores().into_iter().flat_map(|(_, store)| store.records())
    }

    fn verify_cursors(&self) {
        self.stores().iter().for_each(|(_, store)| self.verify_cursors_of(store));
    }

    fn verify_cursors_of(&self, store: &SharedStore) {
        let known = self.definitions.lock();
        let mut cursors: HashMap<JobName, DateTime<Utc>> = HashMap::new();
        let mut in_force: HashMap<JobName, &[Arc<dyn Schedule>]> = HashMap::new();
        for record in store.records() {
            match record {
                Record::Enrolled { job, cursor, schedule } => {
                    in_force.insert(job.clone(), &known.schedules[&(job.clone(), schedule)]);
                    let before = cursors.insert(job.clone(), cursor);
                    assert!(before.is_none_or(|before| before <= cursor), "the cursor of {job} went back");
                }
                Record::Advanced { job, from, to, skips, run, .. } => {
                    let before = cursors.insert(job.clone(), to.instant());
                    assert_eq!(before, Some(from), "a move of {job} starts where the one before ended");
                    let accounted = skips.total() + u64::from(run.is_some());
                    // Not by one that the job had before, or has later.
                    let is_accounted = |schedule: &Arc<dyn Schedule>| {
                        let ticks = ticks_between(&**schedule, from, to.instant());
                        accounted == ticks || (skips.at_least && accounted < ticks)
                    };
                    assert!(
                        in_force[&job].iter().any(is_accounted),
                        "{job}: {accounted} ticks are accounted for in ({from}, {to}], which are not those that there are"
                    );
                }
                Record::Anchored { job, from, to } => {
                    let before = cursors.insert(job.clone(), to);
                    assert_eq!(before, Some(from), "a move of {job} starts where the one before ended");
                    assert!(from < to, "the cursor of {job} went back");
                }
                Record::Renamed { from, to, cursor } => {
                    let before = cursors.get(&from).max(cursors.get(&to)).copied();
                    assert_eq!(before, Some(cursor), "{to} goes on where {from} was");
                    cursors.insert(to.clone(), cursor);
                    if let Some(schedules) = in_force.get(&from).copied() {
                        in_force.insert(to, schedules);
                    }
                }
                Record::LostResumed { .. } | Record::Closed { .. } => {}
            }
        }
    }

    /// Of claims that are kept in the leader's memory the store knows nothing.
    fn verify_elected(&self, on_unproven: OnUnproven) {
        let mut ticks = HashSet::new();
        for Recorded { node, event } in self.events() {
            if let EventKind::RunStarted { job, fire_time: Some(tick), token: Some(_), attempt: 1, .. } =
                event.kind
            {
                let is_first = ticks.insert((job.clone(), tick));
                let may_repeat = on_unproven == OnUnproven::Run;
                assert!(
                    is_first || may_repeat,
                    "tick {tick} of {job} started twice, the second time on {node}"
                );
            }
        }
    }

    /// One name for all those that a job had.
    fn names_of_one_job(&self) -> HashMap<JobName, JobName> {
        let mut same: HashMap<JobName, JobName> = HashMap::new();
        for record in self.records() {
            if let Record::Renamed { from, to, .. } = record {
                let first = same.get(&from).unwrap_or(&from).clone();
                let other = same.get(&to).unwrap_or(&to).clone();
                same.values_mut().filter(|name| **name == other).for_each(|name| *name = first.clone());
                same.extend([from, to].map(|name| (name, first.clone())));
            }
        }
        same
    }

    fn verify_runs(&self) {
        if let Some(on_unproven) = self.elects_only {
            return self.verify_elected(on_unproven);
        }
        let mut claimed: HashSet<RunId> = HashSet::new();
        let mut ticks = HashSet::new();
        let mut resumed: HashMap<RunId, usize> = HashMap::new();
        let same = self.names_of_one_job();
        for record in self.records() {
            match record {
                Record::Advanced { job, to, run: Some(run), .. } => {
                    let is_first = ticks.insert((same.get(&job).unwrap_or(&job).clone(), to));
                    assert!(is_first, "tick {to} of {job} was claimed twice");
                    claimed.insert(run);
                }
                Record::LostResumed { run } => *resumed.entry(run).or_default() += 1,
                Record::Advanced { .. }
                | Record::Enrolled { .. }
                | Record::Renamed { .. }
                | Record::Anchored { .. }
                | Record::Closed { .. } => {}
            }
        }
        let mut started: HashMap<RunId, usize> = HashMap::new();
        let mut attempts = HashSet::new();
        for Recorded { node, event } in self.events() {
            let EventKind::RunStarted { job, run, fire_time, token, attempt, .. } = event.kind else {
                continue;
            };
            let once = attempts.insert((run, attempt));
            assert!(once, "attempt {attempt} of run {run} of {job} started twice, the second time on {node}");
            let starts = started.entry(run).or_default();
            *starts += 1;
            let most = 1 + resumed.get(&run).copied().unwrap_or_default();
            assert!(*starts <= most, "run {run} of {job} started {starts} times, the last time on {node}");
            let unclaimed = fire_time.is_some() && token.is_some() && !claimed.contains(&run);
            assert!(!unclaimed, "run {run} of {job} started on {node} without a claim");
        }
    }
}

fn ticks_between(schedule: &dyn Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
    let mut tick = schedule.next_after(from);
    let mut count = 0;
    while let Some(at) = tick.filter(|at| *at <= to) {
        count += 1;
        tick = schedule.next_after(at);
    }
    count
}
