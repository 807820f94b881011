//! What a job is doing, in one word.

use serde::{Deserialize, Serialize};

use crate::word::words;

/// The state of a job on one node. Where several apply, the first of this table is shown:
///
/// | state | it fires here | why | problem | event | what to do |
/// |---|---|---|---|---|---|
/// | `broken` | no | its actor died too often, or its schedule is wrong | `broken` | `JobBroken` | read `broken`; update or resume it |
/// | `unresponsive` | | its actor did not answer within 1 s | perhaps `stalled` | | find what blocks its thread: a schedule? |
/// | `still_running` | | a run was aborted and does not end | | | find what blocks in the body; restart the process |
/// | `running` | | a run is in progress | | | read `conflicting`, `parked` and `pause` for what else applies |
/// | `parked` | no; on trial its next tick | the store refuses its data, and takes that of other jobs | `parked` | `JobParked` | read `parked`; update it, or mend the store: it is tried about once a minute |
/// | `paused` | no | somebody paused it, or it failed too often | | `JobPaused` | read `pause`; resume it |
/// | `exhausted` | no | no fire time is left, or its limit of runs is reached | | | remove it, or update its schedule |
/// | `conflicting` | no | other nodes declare another overlap policy for its lock key, or use another name of it | `conflicting`, for the policy | `JobConflicting` | read `conflicting`: give the jobs of the key one policy on all nodes, or wait for the last node of the other name |
/// | `standby` | no | another node fires it, or nobody leads | perhaps `no_leader` | | |
/// | `scheduled` | yes | it waits for its next fire time | | | |
/// | `removed` | no | it was removed, and runs of it are in progress | | `JobRemoved` | wait for them, or [cancel](crate::CancelRun) them |
///
/// An exhausted job that is parked is shown as `exhausted`, and a paused one that is conflicting as `paused`.
/// *Held* is no state of a job: it is said of a **tick** that came due during a pause and waits for its end
/// ([`JobStatus::held`](crate::JobStatus::held), `TickHeld`, `callsheet_ticks_held`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobState {
    /// This node waits for its next fire time.
    Scheduled,
    /// Another node, or nobody, fires it.
    Standby,
    /// It does not fire until it is resumed, or until its pause is over.
    Paused,
    /// A run is in progress on this node.
    Running,
    /// A run was aborted and has not ended yet: it blocks, or it cannot be aborted.
    StillRunning,
    /// It has no fire time any more.
    Exhausted,
    /// Other nodes declare another [overlap policy](crate::Overlap) for its lock key, so this node does not
    /// fire it, nor start it when it is triggered. It asks again about every half minute. Or another
    /// [name](crate::Job::formerly) of the job is in use: then it asks again about every 5 s.
    Conflicting,
    /// The store refuses something of it for its data while it takes that of other jobs, so this node neither
    /// fires it nor starts it when it is triggered. It is tried again by itself about a minute after each
    /// refusal (less often if hundreds are parked: ten calls a second are made for all of them), and at once
    /// when it is [updated](crate::UpdateJob) or [resumed](crate::ResumeJobs): it is enrolled. If it was
    /// refused later than that, it is then *on trial*: it is still shown as parked, its next tick or trigger
    /// is claimed, and it is parked no more when the store takes what it had refused. What refuses the data
    /// of everybody, or of the only job of a node, parks nothing: see the guide `database`.
    Parked,
    /// Its actor died too often, or its schedule broke its contract. It does not fire until it is
    /// [resumed](crate::ResumeJobs) or
    /// [updated](crate::UpdateJob).
    Broken,
    /// Its actor did not answer in time.
    Unresponsive,
    /// It was removed from this node, and runs of it are still in progress here. It is not listed.
    Removed,
}

words!(JobState {
    Scheduled: "scheduled",
    Standby: "standby",
    Paused: "paused",
    Running: "running",
    StillRunning: "still_running",
    Exhausted: "exhausted",
    Conflicting: "conflicting",
    Parked: "parked",
    Broken: "broken",
    Unresponsive: "unresponsive",
    Removed: "removed",
});
