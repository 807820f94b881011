//! What is recorded of a tick, and what an explanation says of it: the same, whichever history keeps it.

use std::time::Duration;

use callsheet::{
    By, CancelReason, Decision, DecisionRecord, FireTime, Job, JobName, JobOperation, NodeId,
    OperationRecord, Outcome, Overlap, RunId, RunOrigin, RunRecord, SkipReason, port::Batch, schedule::every,
};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// A tick of a job of its own.
pub(crate) struct Told {
    pub(crate) job: Job,
    pub(crate) name: String,
    pub(crate) at: DateTime<Utc>,
    pub(crate) records: Batch,
    /// The answer, in words.
    pub(crate) said: String,
}

/// Writes what is recorded of one tick.
struct Row {
    name: JobName,
    at: DateTime<Utc>,
    node: NodeId,
    records: Batch,
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

impl Row {
    fn run_id(&self) -> RunId {
        RunId::first_at(self.at)
    }

    fn after(&self, seconds: i64) -> DateTime<Utc> {
        self.at + TimeDelta::seconds(seconds)
    }

    fn run(&mut self, outcome: Option<Outcome>, late: i64, change: impl FnOnce(&mut RunRecord)) {
        let mut run = RunRecord::new(self.name.clone(), self.run_id(), self.node);
        (run.origin, run.fire_time) = (RunOrigin::Tick, Some(FireTime::new(self.at)));
        (run.started_at, run.outcome) = (Some(self.after(late)), outcome);
        run.lateness = Duration::from_secs(late.unsigned_abs());
        if outcome.is_some() {
            (run.ended_at, run.took) = (Some(self.after(late + 1)), Some(Duration::from_secs(1)));
        }
        change(&mut run);
        self.records.runs.push(run);
    }

    fn decision(
        &mut self,
        job: Option<JobName>,
        at: DateTime<Utc>,
        decision: Decision,
    ) -> &mut DecisionRecord {
        self.records.decisions.push(DecisionRecord::new(job, at, self.node, decision));
        self.records.decisions.last_mut().expect("it was pushed")
    }

    fn skipped(&mut self, reason: SkipReason, said: Option<&str>, by: Option<&str>, run: Option<RunId>) {
        let (text, by) = (said.map(Into::into), by.and_then(|by| By::new(by).ok()));
        let decision = Decision::Skipped { reason, count: 1, at_least: false, text, by, run };
        let (name, at, tick) = (self.name.clone(), self.after(0), FireTime::new(self.at));
        let record = self.decision(Some(name), at, decision);
        (record.first, record.fire_time) = (Some(tick), Some(tick));
    }

    fn ran(&self, late: i64, why: &str, ended: &str) -> String {
        format!(
            "it ran as run {} on node {} from {}{why}, and {ended}",
            self.run_id(),
            self.node,
            text(self.after(late))
        )
    }
}

type Tell = fn(&mut Row) -> String;

const OUTCOMES: [(&str, Tell); 7] = [
    ("succeeded", |row| {
        row.run(Some(Outcome::Succeeded), 0, |_| {});
        row.ran(0, "", "succeeded")
    }),
    ("failed", |row| {
        row.run(Some(Outcome::Failed), 0, |run| run.error = Some("no paper".into()));
        row.ran(0, "", "failed")
    }),
    ("panicked", |row| {
        row.run(Some(Outcome::Panicked), 0, |_| {});
        row.ran(0, "", "panicked")
    }),
    ("timed-out", |row| {
        row.run(Some(Outcome::TimedOut), 0, |_| {});
        row.ran(0, "", "timed out")
    }),
    ("cancelled", |row| {
        row.run(Some(Outcome::Cancelled), 0, |run| run.cancelled = Some(CancelReason::Requested));
        row.ran(0, "", "was cancelled")
    }),
    ("vetoed", |row| {
        row.run(Some(Outcome::Cancelled), 0, |run| {
            (run.cancelled, run.error) = (Some(CancelReason::Vetoed), Some("maintenance".into()));
        });
        format!("a before hook vetoed run {}: maintenance", row.run_id())
    }),
    ("running", |row| {
        row.run(None, 0, |_| {});
        format!("it runs as run {} on node {} from {}", row.run_id(), row.node, text(row.at))
    }),
];

const LOSSES: [(&str, Tell); 2] =
    [("lost", |row| lost(row, false)), ("lost-and-retried", |row| lost(row, true))];

fn lost(row: &mut Row, is_retried: bool) -> String {
    row.run(Some(Outcome::Lost), 0, |_| {});
    let (name, run, at) = (row.name.clone(), row.run_id(), row.after(60));
    row.decision(Some(name), at, Decision::RunLost { run, is_retried });
    let then = if is_retried { "it is to go on elsewhere" } else { "it is not retried" };
    format!("node {} died during run {run}, and {then}", row.node)
}

/// Ten minutes late.
const LATE: i64 = 600;

const DELAYS: [(&str, Tell); 7] = [
    ("leader-gap", |row| {
        let (from, to) = (row.after(-60), row.after(LATE - 2));
        row.decision(None, to, Decision::LeaderGap { from, to });
        late(row, &format!("nobody led from {} to {}", text(from), text(to)))
    }),
    ("clock-stepped", |row| {
        let at = row.after(LATE - 60);
        row.decision(None, at, Decision::ClockStepped { by: TimeDelta::minutes(9) });
        late(row, "the machine slept or its clock was set, 9m ahead")
    }),
    ("resumed", |row| {
        let mut resumed =
            OperationRecord::new(row.name.clone(), JobOperation::Resumed, row.after(LATE - 1), row.node);
        resumed.by = By::new("bob").ok();
        row.records.operations.push(resumed);
        late(row, "it was paused until it was resumed by bob")
    }),
    ("waited", |row| {
        let before = RunId::first_at(row.after(-3_600));
        let mut run = RunRecord::new(row.name.clone(), before, row.node);
        (run.origin, run.outcome) = (RunOrigin::Tick, Some(Outcome::Succeeded));
        run.fire_time = Some(FireTime::new(row.after(-3_600)));
        (run.started_at, run.ended_at) = (Some(row.after(-3_600)), Some(row.after(LATE - 1)));
        row.records.runs.push(run);
        let until = text(row.after(LATE - 1));
        late(row, &format!("run {before} of the job was in progress until {until}"))
    }),
    ("retried", |row| {
        row.run(Some(Outcome::Succeeded), LATE, |run| run.attempt = 2);
        row.ran(LATE, ", 10m late: its node died, and this was attempt 2", "succeeded")
    }),
    // Two of three ticks were skipped, and the one between them was not.
    ("behind-skips", |row| {
        let decision = Decision::Skipped {
            reason: SkipReason::Misfire,
            count: 2,
            at_least: false,
            text: None,
            by: None,
            run: None,
        };
        let (name, at) = (row.name.clone(), row.after(1));
        let (first, last) = (FireTime::new(row.after(-3_600)), FireTime::new(row.after(3_600)));
        let record = row.decision(Some(name), at, decision);
        (record.first, record.fire_time) = (Some(first), Some(last));
        let run = RunId::first_at(row.after(LATE));
        row.run(Some(Outcome::Succeeded), LATE, |late| late.run = run);
        format!(
            "it ran as run {run} on node {} from {}, 10m late: no cause is recorded: no node was there, or it had no \
             processor time, and succeeded",
            row.node,
            text(row.after(LATE))
        )
    }),
    ("no-cause", |row| late(row, "no cause is recorded: no node was there, or it had no processor time")),
];

fn late(row: &mut Row, why: &str) -> String {
    row.run(Some(Outcome::Succeeded), LATE, |_| {});
    row.ran(LATE, &format!(", 10m late: {why}"), "succeeded")
}

const SKIPS: [(&str, Tell); 9] = [
    ("misfire", |row| {
        row.skipped(SkipReason::Misfire, None, None, None);
        "skipped: it was too late for its misfire policy".to_owned()
    }),
    ("overlap", |row| {
        let run = RunId::first_at(row.after(-1));
        row.skipped(SkipReason::Overlap, None, None, Some(run));
        format!("skipped: run {run} of the same lock key was in progress")
    }),
    ("paused", |row| {
        row.skipped(SkipReason::Paused, Some("the disk is full"), Some("alice"), None);
        "skipped: the job was paused by alice: the disk is full".to_owned()
    }),
    // A node may hear of a pause before it hears who asked for it.
    ("paused-by-the-operation", |row| {
        let mut paused =
            OperationRecord::new(row.name.clone(), JobOperation::Paused, row.after(-60), row.node);
        (paused.by, paused.note) = (By::new("alice").ok(), Some("the disk is full".into()));
        row.records.operations.push(paused);
        row.skipped(SkipReason::Paused, Some("the disk is full"), None, None);
        "skipped: the job was paused by alice: the disk is full".to_owned()
    }),
    ("concurrency", |row| {
        row.skipped(SkipReason::Concurrency, None, None, None);
        "skipped: the node ran as many bodies as it may".to_owned()
    }),
    ("parked", |row| {
        row.skipped(SkipReason::Parked, Some("too long"), None, None);
        "skipped: the store refused the job for its data: too long".to_owned()
    }),
    ("removed", |row| {
        row.skipped(SkipReason::Removed, None, None, None);
        "skipped: the job was removed, or got another schedule, before it was decided".to_owned()
    }),
    ("unproven", |row| {
        row.skipped(SkipReason::Unproven, None, None, None);
        "skipped: another node may have started it: the lead changed, or the servers have forgotten their votes"
            .to_owned()
    }),
    ("some-skipped", |row| {
        let reason = SkipReason::Overlap;
        let decision =
            Decision::Skipped { reason, count: 2, at_least: false, text: None, by: None, run: None };
        let (name, at) = (row.name.clone(), row.after(3_600));
        let (first, last) = (FireTime::new(row.after(-3_600)), FireTime::new(row.after(3_600)));
        let record = row.decision(Some(name), at, decision);
        (record.first, record.fire_time) = (Some(first), Some(last));
        format!(
            "not known: 2 of the ticks from {first} to {last} were skipped for overlap, and it is not recorded whether \
             this was one of them"
        )
    }),
];

const NOTHING: [(&str, Tell); 3] = [
    ("no-fire-time", |row| {
        let (before, after) = (FireTime::new(row.at), FireTime::new(row.after(3_600)));
        row.at += TimeDelta::minutes(7);
        format!("it does not fire then; the fire times beside it are {before} and {after}")
    }),
    ("not-recorded", |row| {
        let added = OperationRecord::new(row.name.clone(), JobOperation::Added, row.after(-7_200), row.node);
        row.records.operations.push(added);
        "not known: nothing is recorded: no node had the job then, or the record was dropped".to_owned()
    }),
    ("dropped", |row| {
        let (from, to) = (row.after(-30), row.after(90));
        row.decision(None, to, Decision::RecordsDropped { count: 7, from, to });
        let (node, from, to) = (row.node, text(from), text(to));
        format!(
            "not known: node {node} dropped 7 records from {from} to {to}, and one of them may have told it"
        )
    }),
];

/// Every reason that is read from records. The ticks end a few hours before `now`, three hours apart.
pub(crate) fn table(now: DateTime<Utc>) -> Vec<Told> {
    let hour = now.timestamp() / 3_600 * 3_600;
    let newest = DateTime::from_timestamp(hour, 0).expect("an instant") - TimeDelta::hours(4);
    let all = OUTCOMES.iter().chain(&LOSSES).chain(&DELAYS).chain(&SKIPS).chain(&NOTHING);
    all.zip(0..)
        .map(|((name, tell), nth)| {
            let at = newest - TimeDelta::hours(3 * nth);
            let job = JobName::new(*name).expect("a good name");
            let mut row = Row { name: job, at, node: NodeId::numbered(7), records: Batch::default() };
            let said = tell(&mut row);
            let job = Job::new(*name, every(Duration::from_hours(1))).overlap(Overlap::Queue(3));
            Told {
                job: job.run(async |_| {}),
                name: (*name).to_owned(),
                at: row.at,
                records: row.records,
                said,
            }
        })
        .collect()
}
