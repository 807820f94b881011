//! What can have become of an instant, and what is known of it.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    core::{outcome::Outcome, pause::Pause, skip::SkipReason, time::FireTime},
    name::{By, JobName, NodeId, RunId},
    port::{DecisionRecord, NotDue, OperationRecord, RunRecord},
};

/// What became of a job at some instants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanations {
    /// The job.
    pub job: JobName,
    /// Of the instant that was asked about, or of each fire time in the range, in their order; of a range
    /// without one, of its start.
    pub explanations: Vec<Explanation>,
    /// From when on there are more fire times in the range than one answer explains: ask again from there.
    pub next: Option<DateTime<Utc>>,
}

/// What became of a job at an instant, why, and how that is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The job.
    pub job: JobName,
    /// The instant.
    pub at: DateTime<Utc>,
    /// What became of it.
    #[serde(flatten)]
    pub answer: Answer,
    /// What says so, step by step.
    pub evidence: Vec<Evidence>,
}

/// What became of a job at an instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// The job does not fire then.
    NotFireTime {
        /// The fire time before.
        previous: Option<FireTime>,
        /// The fire time after.
        next: Option<FireTime>,
        /// Why, if it is more than the rule itself.
        because: Option<NotDue>,
    },
    /// It ran, and ended.
    Ran {
        /// The run.
        run: RunId,
        /// Where.
        node: NodeId,
        /// When its body started; `None` if it never did.
        started_at: Option<DateTime<Utc>>,
        /// How it ended.
        outcome: Outcome,
        /// How much later than planned it started.
        #[serde(with = "crate::serde::duration")]
        late: Duration,
        /// Why it started late, as far as it is known; empty if it was on time.
        because: Vec<Delay>,
    },
    /// It runs.
    Running {
        /// The run.
        run: RunId,
        /// Where.
        node: NodeId,
        /// Since when.
        started_at: Option<DateTime<Utc>>,
        /// How much later than planned it started.
        #[serde(with = "crate::serde::duration")]
        late: Duration,
        /// Why it started late, as far as it is known; empty if it was on time.
        because: Vec<Delay>,
    },
    /// Its tick was skipped.
    Skipped {
        /// Why.
        reason: SkipReason,
        /// The note of the pause, or of whoever had it skipped, or what the store says that refuses the job, if it
        /// is recorded of this tick.
        text: Option<Arc<str>>,
        /// Who had paused it, or had it skipped, if somebody did who is known.
        by: Option<By>,
        /// The run with which it overlapped, if it is known.
        run: Option<RunId>,
    },
    /// A `before` hook vetoed the run of its tick.
    Vetoed {
        /// The run.
        run: RunId,
        /// What the hook said.
        text: Option<Arc<str>>,
    },
    /// Its node died during the run.
    Lost {
        /// The run.
        run: RunId,
        /// The node.
        node: NodeId,
        /// It is to go on with another attempt.
        is_retried: bool,
    },
    /// It does not run: the job has had as many runs as its [limit](crate::Job::limit) allows.
    Exhausted {
        /// How many.
        limit: u64,
    },
    /// It is not decided yet.
    NotDecided {
        /// Why.
        because: NotDecided,
    },
    /// It is not known.
    NotKnown {
        /// Why.
        because: NotKnown,
    },
}

/// Why a run started late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "delay", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Delay {
    /// Nobody led.
    LeaderGap {
        /// From when on.
        from: DateTime<Utc>,
        /// Until when.
        to: DateTime<Utc>,
    },
    /// The machine slept, or its clock was set.
    ClockStepped {
        /// By how much.
        #[serde(with = "crate::serde::duration")]
        by: TimeDelta,
    },
    /// The job was paused, and its tick was held.
    Paused {
        /// Who resumed it, if it is known.
        resumed_by: Option<By>,
    },
    /// An earlier run of the job had to end first.
    Run {
        /// That run.
        run: RunId,
        /// When it ended.
        ended_at: DateTime<Utc>,
    },
    /// The run was lost before, and went on.
    Lost {
        /// The attempt that is meant, from 1.
        attempt: u32,
    },
    /// Nothing else is recorded, and the node runs at most so many bodies at once: probably it waited
    /// for one of these slots.
    Slot,
    /// Nothing is recorded that would explain it: no node was there, or the machine had no time.
    NotRecorded,
}

/// Why a tick is not decided yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "waits_for", rename_all = "snake_case")]
#[non_exhaustive]
pub enum NotDecided {
    /// It has not come.
    Time,
    /// The job is paused, and holds it: it runs if the job is resumed in time.
    Pause(Pause),
    /// A run of the job is in progress: it waits for its end.
    Run {
        /// That run.
        run: RunId,
    },
    /// Its turn: it was missed, and so were ticks of other jobs, which are made up for at a
    /// [pace](crate::EngineOptions::catch_up_per_second).
    Turn,
    /// The store, or a leader: it is due.
    Store,
    /// A leader: no node is known to lead. The next one decides it, by the misfire policy of the job.
    NoLeader {
        /// Since when.
        since: DateTime<Utc>,
    },
    /// Another node: it decides, and nothing is recorded yet. Skips of a minute are recorded together.
    OtherNode,
}

/// Why it is not known what became of an instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "because_of", rename_all = "snake_case")]
#[non_exhaustive]
pub enum NotKnown {
    /// Nothing is recorded of the job before then.
    BeforeJob {
        /// Since when this node holds it with its schedule.
        since: DateTime<Utc>,
    },
    /// Its run began, and its end is not recorded: its node is dead and nobody has closed the run, or the node could
    /// not write it.
    NoEnd {
        /// The run.
        run: RunId,
        /// The node.
        node: NodeId,
    },
    /// What was recorded then is not kept any more.
    Pruned {
        /// What is older is not kept.
        kept_since: DateTime<Utc>,
    },
    /// Some of the ticks around it were skipped, and it is not recorded which.
    SomeSkipped {
        /// Why.
        reason: SkipReason,
        /// How many.
        count: u64,
        /// There may have been more.
        at_least: bool,
        /// The first of them.
        first: FireTime,
        /// The last of them.
        last: FireTime,
    },
    /// A newer version recorded it, in words that this one does not know.
    NewerVersion {
        /// How its run ended, if it had one.
        outcome: Option<Arc<str>>,
    },
    /// No history is kept.
    NoHistory,
    /// Nothing is recorded, and records of that time were dropped: the history did not take them.
    Dropped {
        /// The node that dropped them.
        node: NodeId,
        /// How many.
        count: u64,
        /// When the first of them was made.
        from: DateTime<Utc>,
        /// When the last of them was.
        to: DateTime<Utc>,
    },
    /// Nothing is recorded: the job was on no node then, or the record was dropped.
    NotRecorded,
}

/// What says what became of an instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Evidence {
    /// The schedule, as this node has it.
    Schedule {
        /// The schedule in words.
        schedule: Arc<str>,
        /// Whether it fires then.
        fires: bool,
    },
    /// A recorded run.
    Run(Box<RunRecord>),
    /// A recorded decision.
    Decision(Box<DecisionRecord>),
    /// A recorded operation.
    Operation(Box<OperationRecord>),
    /// What this node knows of the job now.
    Node {
        /// Everything up to then is decided.
        decided_up_to: DateTime<Utc>,
        /// This node fires it.
        fires: bool,
    },
}
