//! What an application says to the supervisor.

mod backfill;
mod catalogue;
mod cluster;
mod jobs;
mod pausing;
mod questions;
mod runs;
mod selector;
mod trigger;

pub(crate) use self::cluster::{CanAsk, ClusterCall, together};
pub use self::{
    backfill::{Backfill, BackfillPreview, CancelBackfill, ListBackfills, PreviewBackfill},
    catalogue::{
        ClearOverride, DeleteJob, IfStored, ListStored, OverrideSchedule, PutJob, StoredDetails, StoredHere,
        StoredPage, StoredStatus,
    },
    cluster::{
        ACTIVE_RUNS_MAX, ActiveRun, ActiveRuns, CLUSTER_WITHIN_DEFAULT, CLUSTER_WITHIN_MAX,
        CLUSTER_WITHIN_MIN, CancelledRun, CancelledRuns, ChangedJobs, DetailsInCluster, HeldBy, InCluster,
        JobInCluster, NodeList, NodeNow, NodeStatus, Nodes, PageInCluster, RunOnNode, RunsInCluster,
        RunsOnNode, StoredInCluster, TriggeredOn,
    },
    jobs::{AddJob, AddJobs, Added, RemoveJobs, RescheduleJob, UpdateJob},
    pausing::{PauseJobs, ResumeJobs, SkipMissed, SkippedMissed},
    questions::{JobAddress, JobDetails, JobPage, ListJobs, ListTasks, NextFireTimes, PAGE_MAX},
    runs::{CancelRun, CancelRuns},
    selector::Selector,
    trigger::TriggerJob,
};

use std::time::Duration;

use actix::Message;

use crate::{drain::ShutdownReport, health::HealthReport};

/// Asks how the node is.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "HealthReport")]
pub struct Health;

/// Asks this node to leave the lead to another one, and answers whether it led. When it answers, the node
/// does not lead. It does not campaign again before another node leads, or
/// [`resign_pause`](crate::EngineOptions::resign_pause) is over. Its runs go on, under their keys; no tick is
/// lost.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "bool")]
pub struct Resign;

/// Stops the engine: no tick is armed any more, the term is given up, runs may end until `deadline` has
/// passed, are then cancelled, and aborted
/// [`shutdown_abort_after`](crate::EngineOptions::shutdown_abort_after) later. Answers when it is over.
/// Asking twice is harmless; the first deadline holds. A body that waits for the answer is itself a run that
/// drains: it is cancelled when the deadline has passed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ShutdownReport")]
pub struct Shutdown {
    /// How long runs may drain; `Duration::MAX`: as long as they take.
    pub deadline: Duration,
}

/// Says that a shutdown is to come: from now on the node is not ready, so that load balancers leave it out.
/// Jobs go on.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct AnnounceShutdown;

/// Stops the engine at once: what runs is cancelled and aborted without a wait, also in a shutdown that is
/// under way. Answers when it is over.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ShutdownReport")]
pub struct ShutdownNow;
