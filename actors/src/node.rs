//! What the actors of one node share, and what is no actor: its id, clocks, leadership, meters, spawner.

mod clocks;
mod leadership;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{
    runtime,
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    clocks::{ClockMoves, ClockOffset},
    leadership::{KnownLeader, Leadership},
};
use crate::{
    body_watch::BodyWatch,
    candidacy::Candidacy,
    core::time::Now,
    event::EventKind,
    event_log::Level,
    failing::Failing,
    failure_log::FailureLog,
    fault::Fault,
    history::Recorder,
    listener::Publisher,
    metrics::Meters,
    name::{JobName, NodeId, RunId, RunIds},
    overdue::Overdue,
    placement::JobThreads,
    port::{Clock, Locker, Spawner},
    run::ReportOutlet,
};

/// What the actors of one node share.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// What people call it; empty if it has no name.
    pub(crate) name: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The version of the time zone data by which fire times are computed; empty if it is not known.
    pub(crate) zone_data: Arc<str>,
    pub(crate) run_ids: RunIds,
    pub(crate) leadership: Leadership,
    /// Who leads, if it is another node.
    pub(crate) leader: KnownLeader,
    /// Whether this node stands as a candidate. Only the election actor writes it.
    pub(crate) candidacy: Mutex<Candidacy>,
    /// Whether bodies start.
    pub(crate) bodies: BodyWatch,
    pub(crate) failures: FailureLog,
    pub(crate) failing: Failing,
    pub(crate) overdue: Overdue,
    pub(crate) clock_offset: ClockOffset,
    pub(crate) clock_moves: ClockMoves,
    pub(crate) publisher: Publisher,
    /// Where what happened is kept.
    pub(crate) recorder: Recorder,
    pub(crate) meters: Arc<Meters>,
    pub(crate) spawner: Arc<dyn Spawner>,
    /// What is asked without the lock actor: whether a session is still trusted, and what it measured last.
    pub(crate) locker: Arc<dyn Locker>,
    pub(crate) job_threads: JobThreads,
    /// The engine has stopped: nobody answers any more.
    pub(crate) over: CancellationToken,
    /// The runtime of the supervisor, whose timer bounds what runs on threads that may have none.
    pub(crate) timers: runtime::Handle,
}

/// What bodies say of their runs is recorded, and told to whoever listens.
impl ReportOutlet for Arc<Node> {
    fn said(&self) {
        self.recorder.has_news();
    }

    fn progressed(&self, job: &JobName, run: RunId, progress: f64) {
        self.publisher.publish_routine(|| EventKind::RunProgressed { job: job.clone(), run, progress });
    }

    fn refused(&self, job: &JobName, run: RunId, fault: &Fault) {
        let line = format_args!("something that {job} said of its run {run} is left out: {fault}");
        self.publisher.log("report refused", Level::Warn, job, &line);
    }
}

impl Node {
    /// A number by which this node differs from others.
    pub(crate) fn seed(&self) -> u64 {
        self.id.as_uuid().as_u64_pair().1
    }

    /// Whether this node stands as a candidate.
    pub(crate) fn candidacy(&self) -> Candidacy {
        self.candidacy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The readings of this instant.
    pub(crate) fn now(&self) -> Now {
        self.readings(self.clock.now(), self.clock.elapsed())
    }

    /// The readings of this instant, the wall clock's as the store's would be.
    pub(crate) fn now_in_store(&self) -> Now {
        self.in_store_at(self.clock.elapsed())
    }

    /// As [`now_in_store`](Self::now_in_store), of the instant at which the monotonic clock read this.
    pub(crate) fn in_store_at(&self, elapsed: Duration) -> Now {
        self.readings(self.clock_offset.store_time(elapsed), elapsed)
    }

    fn readings(&self, wall: DateTime<Utc>, elapsed: Duration) -> Now {
        Now { wall, elapsed, term: self.leadership.term(elapsed), spare: self.run_ids.next(wall) }
    }

    /// What the store's clock reads at this instant, as far as it is known.
    pub(crate) fn store_time(&self) -> DateTime<Utc> {
        self.clock_offset.store_time(self.clock.elapsed())
    }

    /// Sleeps by the engine's own timer, wherever it is polled.
    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        let _entered = self.timers.enter();
        sleep(duration)
    }

    /// Reads what the session measured last: how much the node's wall clock is ahead of the store's. Answers
    /// whether the store's clock has moved against the monotonic one.
    #[must_use]
    pub(crate) fn measure_store_clock(&self) -> bool {
        let ahead = self.locker.clock_ahead();
        self.meters.clock_offset.set(ahead.as_seconds_f64());
        let (wall, elapsed) = self.clock.read();
        self.clock_offset.set(ahead, wall, elapsed)
    }
}
