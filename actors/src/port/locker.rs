//! Who may run what.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, join3, ready},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Divergence, KnownHistory, Obstacle, OtherZoneData, ScheduleIdentity};
use crate::{
    core::{
        policy::Overlap,
        storable::storable,
        text::{MARK_MAX, bounded, cut},
        time::FireTime,
    },
    event::Outcome,
    name::{FencingToken, JobName, LockKey, RunId, Term},
    word::words,
};

/// Why a tick did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// Its time passed without a run and the misfire policy does not make up for it.
    Misfire,
    /// A run of the same lock key was in progress.
    Overlap,
    /// The job was paused.
    Paused,
    /// The node runs as many bodies as it may.
    Concurrency,
    /// The store refuses the job for its data: [`JobState::Parked`](crate::JobState::Parked). It is counted by the node that would
    /// have fired it, when it is skipped.
    Parked,
    /// Its job was removed by the leader, or got another schedule, while it was due and not decided.
    Removed,
}

impl SkipReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Misfire, Self::Overlap, Self::Paused, Self::Concurrency, Self::Parked, Self::Removed];
}

words!(SkipReason {
    Misfire: "misfire",
    Overlap: "overlap",
    Paused: "paused",
    Concurrency: "concurrency",
    Parked: "parked",
    Removed: "removed",
});

/// How many ticks were skipped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skips {
    counts: [u32; SkipReason::ALL.len()],
    /// There may have been more: counting stopped at its bound.
    pub at_least: bool,
}

impl Skips {
    /// `count` ticks that were skipped for `reason`.
    pub fn new(reason: SkipReason, count: u64, at_least: bool) -> Self {
        let mut skips = Self { at_least, ..Self::default() };
        skips.add(reason, count);
        skips
    }

    /// Adds `count` ticks that were skipped for `reason`.
    pub fn add(&mut self, reason: SkipReason, count: u64) {
        self.add_to(reason as usize, count);
    }

    /// How many were skipped for `reason`.
    pub fn of(&self, reason: SkipReason) -> u64 {
        self.counts[reason as usize].into()
    }

    /// The same without those that were skipped for `reason`.
    #[must_use]
    pub(crate) fn without(mut self, reason: SkipReason) -> Self {
        self.counts[reason as usize] = 0;
        self
    }

    /// Adds all that `other` counts.
    pub fn extend(&mut self, other: &Self) {
        for (nth, more) in other.counts.into_iter().enumerate() {
            self.add_to(nth, more.into());
        }
        self.at_least |= other.at_least;
    }

    /// How many were skipped in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// A count that is full stays as it is, and is too small.
    fn add_to(&mut self, nth: usize, more: u64) {
        let sum = u64::from(self.counts[nth]).saturating_add(more);
        self.at_least |= sum > u64::from(u32::MAX);
        self.counts[nth] = u32::try_from(sum).unwrap_or(u32::MAX);
    }
}

/// A claim of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The job.
    pub job: JobName,
    /// The key that the run excludes.
    pub key: LockKey,
    /// The run's id, made by the node. Asking again with the same id is the same claim.
    pub run: RunId,
    /// The tick to take; `None` for a manual trigger, which moves no cursor and needs no term.
    pub tick: Option<TickClaim>,
    /// Takes nothing: only says whether this run was granted before, when there was no answer. [`NotGranted`](Verdict::NotGranted)
    /// is final: it is not answered while a former session of the node may still be granted the run.
    pub settle: bool,
    /// This run was lost, and is to go on with its next attempt: it takes its key and the next token, but no tick, and the job
    /// does not owe it any more. Refused as [`NotGranted`](Verdict::NotGranted) if the job does not owe it (any more), or was
    /// withdrawn. Needs no term: one node gets it.
    pub retake: bool,
    /// If the key is busy, its holder is asked to stop, on whichever node: [`News::Stop`].
    pub replace: bool,
    /// How many ticks of the job may run in all, since it was first enrolled.
    pub limit: Option<u64>,
}

impl ClaimRequest {
    /// A claim without a tick, as a manual trigger makes it.
    pub fn new(job: JobName, key: LockKey, run: RunId) -> Self {
        Self { job, key, run, tick: None, settle: false, retake: false, replace: false, limit: None }
    }
}

/// By what right a node decides the ticks of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// It leads: refused as deposed unless this term is the newest one and is not over.
    Term(Term),
    /// Every node that holds the job may: the cursor decides between them.
    Any,
    /// As `Any`, for as long as the leader does not schedule the job: refused while it is marked with a term that is not
    /// over.
    Unled,
}

impl Authority {
    /// The term, if it is one.
    pub fn term(self) -> Option<Term> {
        match self {
            Self::Term(term) => Some(term),
            Self::Any | Self::Unled => None,
        }
    }
}

/// The tick that a claim takes, and what it says of the ticks before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickClaim {
    /// The planned instant; the job's cursor after the claim.
    pub fire_time: FireTime,
    /// The job's cursor before the claim.
    pub expected: DateTime<Utc>,
    /// The ticks between `expected` and `fire_time`, none of which runs.
    pub skips: Skips,
    /// By what right.
    pub authority: Authority,
}

/// The answer to a claim. Each leads to a decision of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The run may start: the cursor moved, the key is held by this node's session, the run is recorded.
    Granted {
        /// Greater than every token granted before for this key. At least the store's time in microseconds since 1970:
        /// greater also than those that a store granted which was made anew, or restored from before.
        token: FencingToken,
        /// The run whose session died while it held the key. It is closed as lost; whoever was granted says so.
        lost: Option<Box<LostRun>>,
    },
    /// No session was granted the run, and none will be: the answer to a claim that settles, and to one that takes up a run
    /// that is not owed.
    NotGranted,
    /// A session that is over was granted the run, so a former one of this node, which made its id: the reply was lost. Its tick is taken
    /// and its cursor was moved. Whoever takes over closes the run as lost, or has closed it. Nothing changed now. The engine
    /// counts the tick, and those that were skipped with it. The run goes on only as a debt.
    GrantedBefore,
    /// The tick has a run already.
    AlreadyRun {
        /// That run.
        run: RunId,
        /// The job's cursor.
        cursor: DateTime<Utc>,
    },
    /// The tick was decided otherwise, or the job was changed: the cursor is not the expected one.
    Moved {
        /// The job's cursor.
        cursor: DateTime<Utc>,
    },
    /// The store does not know the job (any more), or it was withdrawn. Nothing changed: enrol it.
    Unknown,
    /// A live session holds the key. Nothing changed.
    Busy {
        /// The run that holds it, if known.
        holder: Option<RunId>,
    },
    /// A newer term was granted, or this one is over. Nothing changed.
    Deposed {
        /// The newest term.
        term: Term,
    },
    /// The answer to a claim by [`Authority::Unled`]: the leader schedules the job. Nothing changed.
    Led,
    /// The job is paused. Nothing changed. Manual triggers run all the same.
    Paused(Pause),
    /// As many ticks of the job have run as may. Nothing changed.
    Exhausted,
    /// The tick is not due by the store's clock. Nothing changed.
    NotYet {
        /// How long until it is.
        wait: Duration,
    },
    /// Somebody else, perhaps an application's own transaction, has locked what the claim needs at this moment. Nothing
    /// changed: ask again. It is not an overlap yet.
    Locked {
        /// The run that held the key when it was last looked at, if its session lives.
        holder: Option<RunId>,
    },
    /// This claim is refused for its data: see [`LockError::BadData`]. Nothing changed. The job is
    /// parked once something of another job gets through.
    BadData {
        /// What the store says, without passwords or connection strings.
        reason: String,
    },
    /// This claim failed alone, and it is unknown whether it was taken: ask again with the same run id.
    Unavailable {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The job.
    pub job: JobName,
    /// The key that the run held.
    pub key: LockKey,
    /// The run.
    pub run: RunId,
    /// The token that it was granted.
    pub token: FencingToken,
    /// How it ended.
    pub outcome: Outcome,
    /// The job is paused when at least so many of its runs in a row have failed, panicked or timed out, this one included. It
    /// is left as it is if it is paused until it is resumed already. Resuming it starts the count anew.
    pub pause_after: Option<u32>,
    /// The job's cursor moves to the end of the run, in the store's time rounded up to whole milliseconds, and never back: its
    /// next tick follows from there.
    pub from_completion: bool,
}

impl Completion {
    /// An end that pauses nothing and moves no cursor.
    pub fn new(job: JobName, key: LockKey, run: RunId, token: FencingToken, outcome: Outcome) -> Self {
        Self { job, key, run, token, outcome, pause_after: None, from_completion: false }
    }
}

impl Completed {
    /// The end is recorded, and nothing else happened.
    pub const RECORDED: Self = Self::Recorded { cursor: None, pause: None };
}

/// The answer to a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completed {
    /// The end is recorded and the key is free.
    Recorded {
        /// The job's cursor, if it was to move and the job was ever enrolled. Of an end that was recorded before: as it is now.
        cursor: Option<DateTime<Utc>>,
        /// The job is paused because too many of its runs failed in a row.
        pause: Option<Pause>,
    },
    /// The run was closed by somebody else, or the key has a newer token. Nothing changed.
    Stale,
    /// The store knows neither the key nor the run any more, so that nobody else says what became of it: enrol the job.
    Unknown,
    /// Somebody else has locked the key, or the job, at this moment. Nothing changed: ask again.
    Locked,
    /// It is not known yet what became of this end alone: ask again.
    Unavailable {
        /// Why, without passwords or connection strings.
        reason: String,
    },
}

/// A move of a job's cursor over ticks that nobody runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorMove {
    /// Its own id. A move that is asked again, as its answer was lost, has the same one.
    pub id: Uuid,
    /// The job.
    pub job: JobName,
    /// The cursor before.
    pub expected: DateTime<Utc>,
    /// The cursor after: the newest skipped tick.
    pub to: FireTime,
    /// The ticks between, `to` included.
    pub skips: Skips,
    /// By what right.
    pub authority: Authority,
}

/// The answer to a move of the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Moved {
    /// The cursor moved, now or when the same move was asked before. The store keeps the id of a job's newest move, and looks
    /// at it before it looks at who asks: a node whose term is over asks once more what became of its move.
    Done,
    /// The cursor is not the expected one, or the ticks are not due by the store's clock. Nothing changed.
    Elsewhere {
        /// The job's cursor.
        cursor: DateTime<Utc>,
    },
    /// The store does not know the job (any more), or it was withdrawn. Nothing changed: enrol it.
    Unknown,
    /// A newer term was granted, or this one is over. Nothing changed.
    Deposed {
        /// The newest term.
        term: Term,
    },
    /// The answer to a move by [`Authority::Unled`]: the leader schedules the job. Nothing changed.
    Led,
    /// Somebody else has locked the job's cursor at this moment. Nothing changed: ask again.
    Locked,
    /// This move is refused for its data: see [`LockError::BadData`]. Nothing changed. The job is
    /// parked once something of another job gets through.
    BadData {
        /// What the store says, without passwords or connection strings.
        reason: String,
    },
    /// This move failed alone, and it is unknown whether it was made.
    Unavailable {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
}

/// A job that a node schedules from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enrolment {
    /// The job.
    pub job: JobName,
    /// The identity of its schedule: one that [differs](ScheduleIdentity::differs_from) from the stored one
    /// is a changed schedule. It takes the place of the stored one in any case: so one of another version
    /// does, and the cursor stays.
    pub schedule: ScheduleIdentity,
    /// By what right. Only a term is marked on the job.
    pub authority: Authority,
    /// What its runs exclude.
    pub key: LockKey,
    /// The policy that jobs with this key share: it is declared for as long as the term lasts, or, without one, the session.
    pub overlap: Overlap,
    /// How long this node has held the job with this schedule, by its monotonic clock: a new or changed job, or one that was
    /// withdrawn, owes ticks from then on, in the store's time. Zero: from now on.
    pub held_for: Duration,
    /// What the store's clock read when that was measured, as far as the node knows: what passed since, up to 5 s, counts as well. So the
    /// way to the store takes no tick from the job. `None`: nothing passed.
    pub asked_at: Option<DateTime<Utc>>,
    /// A run of it that is lost is owed another attempt: see [`OwedRun`]. Otherwise none is from now on.
    pub retry_lost: bool,
    /// Its cursor moves to the end of a run that is lost as well: see [`Completion::from_completion`]. A run that is lost to
    /// the job's own next tick moves it no further than that tick.
    pub from_completion: bool,
}

impl Enrolment {
    /// An enrolment of a job without further wishes.
    pub fn new(job: JobName, schedule: ScheduleIdentity, authority: Authority) -> Self {
        Self {
            key: LockKey::from(&job),
            job,
            schedule,
            authority,
            overlap: Overlap::default(),
            held_for: Duration::ZERO,
            asked_at: None,
            retry_lost: false,
            from_completion: false,
        }
    }
}

/// What the store keeps of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// It is paused.
    pub pause: Option<Pause>,
    /// How many of its last runs in a row failed, panicked or timed out, since it was enrolled for the first time, withdrawn or
    /// resumed. Cancelled and lost runs are passed over.
    pub failures: u32,
    /// The runs that were lost and are owed another attempt, the oldest first, at most [`DEBTS_MAX`](crate::DEBTS_MAX).
    pub owed: Vec<OwedRun>,
}

/// A job that is not to fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Until when, by the store's clock; `None`: until it is resumed.
    pub until: Option<DateTime<Utc>>,
    /// Why, in the words of whoever paused it, at most [`PAUSE_NOTE_MAX`] bytes.
    pub note: Option<String>,
}

impl Pause {
    /// Until the job is resumed.
    pub fn until_resumed() -> Self {
        Self { until: None, note: None }
    }

    /// Until an instant, by the store's clock, or until the job is resumed before. The instant is in the future: others are refused.
    pub fn until(instant: DateTime<Utc>) -> Self {
        Self { until: Some(instant), note: None }
    }

    /// Says why, for those who wonder: at most [`PAUSE_NOTE_MAX`] bytes. Longer ones are refused.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// Of a job whose runs failed so often in a row.
    pub fn after_failures(failures: u32) -> Self {
        Self { until: None, note: Some(format!("runs that failed in a row: {failures}")) }
    }

    /// Of a job whose body said that it is to stop for good.
    pub fn stopped_by(error: &str) -> Self {
        let note = format_args!("stopped by its body: {}", storable(error));
        Self { until: None, note: Some(bounded(note, PAUSE_NOTE_MAX - MARK_MAX)) }
    }

    /// As it is kept, whoever wrote it into the store: of a note that is too long, the start.
    pub(crate) fn cut(mut self) -> Self {
        if let Some(note) = self.note.as_mut().filter(|note| note.len() > PAUSE_NOTE_MAX) {
            cut(note, PAUSE_NOTE_MAX - MARK_MAX);
        }
        self
    }
}

/// The longest note of a pause, in bytes.
pub const PAUSE_NOTE_MAX: usize = 1_000;

/// A run that was lost and is to go on with its next attempt: a debt of its job. It is settled once the run is taken up, by a
/// claim that [retakes](ClaimRequest::retake) it, and forgiven if the job is withdrawn, or is enrolled without
/// [`retry_lost`](Enrolment::retry_lost). Nothing else ends it: not the end of another run of the job.
///
/// A job owes at most [`DEBTS_MAX`](crate::DEBTS_MAX) runs: of more, the oldest runs stay lost. A run that was lost
/// [`LOSSES_MAX`](crate::LOSSES_MAX) times is owed no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwedRun {
    /// The run.
    pub run: RunId,
    /// The tick, unless it was a manual trigger.
    pub fire_time: Option<FireTime>,
    /// How often it was lost, from 1.
    pub losses: u32,
}

/// A run that a job owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debt {
    /// The job.
    pub job: JobName,
    /// The run.
    pub owed: OwedRun,
}

/// Something that another node did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum News {
    /// A run of this node holds a key that somebody wants to take in its place: it is to stop.
    Stop {
        /// The run.
        run: RunId,
    },
    /// A job was paused or resumed.
    Pause {
        /// The job.
        job: JobName,
        /// As the store says when this is handed on; `None`: it is not paused.
        pause: Option<Pause>,
    },
    /// A run was closed as lost, and its job owes it.
    Owed(Debt),
    /// There was more news than a session keeps, and the oldest were dropped: whatever they would have said stands in the
    /// store.
    Missed,
}

/// The answer to an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// The job's row is marked with the term.
    Done {
        /// Every tick up to here is decided. For a new job its creation, for a changed schedule the change, as the node that
        /// enrols it knows it and in the store's time; it never goes back.
        cursor: DateTime<Utc>,
        /// What else is kept of it.
        kept: Box<Kept>,
    },
    /// A newer term was granted, or this one is over. Nothing changed.
    Deposed {
        /// The newest term.
        term: Term,
    },
    /// The answer to an enrolment by [`Authority::Unled`]: the leader schedules the job. Nothing changed.
    Led,
    /// Somebody else, who lives, declares another overlap policy for the key. This session declares none for it any more, and
    /// the job is not marked with its term.
    Conflict {
        /// That policy, as the store keeps it.
        declared: String,
    },
    /// Somebody else has locked the job or the key at this moment. Nothing changed: ask again.
    Locked,
}

/// The overlap policy that a job is to have for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The job.
    pub job: JobName,
    /// Its key.
    pub key: LockKey,
    /// The policy.
    pub overlap: Overlap,
}

/// A job as a node holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// The job.
    pub job: JobName,
    /// The identity of its schedule.
    pub schedule: ScheduleIdentity,
}

/// What the leader does with a job that another node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It schedules it, by the same schedule; or by one whose identity is of another version, which counts as
    /// the same.
    Scheduled,
    /// It schedules a job of this name by a schedule that [differs](ScheduleIdentity::differs_from).
    OtherSchedule,
    /// It does not hold it.
    NotHeld,
    /// Nobody leads.
    NoLeader,
}

/// A run whose session died before it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRun {
    /// The job.
    pub job: JobName,
    /// The run.
    pub run: RunId,
    /// The tick, unless it was a manual trigger.
    pub fire_time: Option<FireTime>,
    /// It is owed another attempt, by whichever node fires the job and takes it up.
    pub owed: Option<OwedRun>,
}

/// What a search for runs of dead sessions closed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClosedRuns {
    /// The runs, each of them closed as lost by this call.
    pub lost: Vec<LostRun>,
    /// The search is not over: ask again at once.
    pub more: bool,
}

/// How much was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// How many names.
    pub names: usize,
    /// There may be more: ask again soon.
    pub more: bool,
}

/// The longest time between two calls of [`Locker::forget`] that a store ages by: what is longer counts as a time
/// without a leader.
pub const AGES_AT_MOST: Duration = Duration::from_secs(180);

/// One life of the connection to the store. Whatever is held is held by a session and goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session(pub u64);

/// Hands out claims, in order and in batches.
///
/// Every call takes effect as a whole before the next one made on the same session. It belongs to the session that was
/// open when it was made: if that one is lost meanwhile, the answer is [`LockError::SessionLost`], and nothing is taken
/// in the name of a later one. Answers come one per request, in
/// the order of the requests; an answer is not an error. One bad request fails alone.
///
/// Sessions: [`open`](Self::open) starts one; while it lives this node holds what it claimed. When it dies, its keys can be
/// taken over by others, completions of its runs are refused, and [`lost`](Self::lost) resolves.
pub trait Locker: Send + Sync + 'static {
    /// Opens a session, after the former one was lost or for the first time.
    ///
    /// # Errors
    ///
    /// * [`LockError::Unavailable`], [`LockError::Timeout`]: no session is open; ask again later.
    /// * [`LockError::Refused`]: no session is open, and none will be until somebody changes something.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no session open.
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>>;

    /// Resolves when `session` is lost, or at once if it is lost already, with the reason, which is logged: what happened, and
    /// the cure where there is one, without passwords or connection strings.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    fn lost(&self, session: Session) -> BoxFuture<'_, String>;

    /// Whether this node may still start what `session` was granted: whether nobody else may have been granted it
    /// meanwhile, as far as this node's monotonic clock tells.
    ///
    /// Asked on the body's thread right before each attempt of a run, so that a process that was frozen between the
    /// grant and the body starts nothing when it goes on. Answers at once, without I/O. `false` for a session that is lost,
    /// or that was followed by another one.
    fn trusts(&self, session: Session) -> bool;

    /// Waits until it may be worthwhile to ask again what a node asks now and then, because it may not have been
    /// told: whether the leader holds its jobs, which runs are lost, by which time zone data others go.
    ///
    /// Default: `period` from now. A store that knows of every change may wait for one, and answer a whole number of
    /// periods after the call.
    fn next_look(&self, period: Duration) -> BoxFuture<'_, ()> {
        async move { tokio::time::sleep(period).await }.boxed()
    }

    /// How much the wall clock of this node is ahead of the store's (negative: behind), as the last round trip measured
    /// it. The engine decides by the store's time what is due. Default: not at all, for a store that uses the node's clock.
    fn clock_ahead(&self) -> TimeDelta {
        TimeDelta::zero()
    }

    /// How long a round trip to the store takes at present: what the shortest of the last few took. Answers at once, without I/O.
    /// Default: it is not known, as for a store in the same process.
    fn round_trip(&self) -> Option<Duration> {
        None
    }

    /// For how long one snapshot, of anybody, has made the store keep dead versions of rows, as this session has seen
    /// it; zero while none has. Answers at once, without I/O. Default: zero, for a store whose claims cost the same
    /// however old a snapshot is.
    fn snapshot_age(&self) -> Duration {
        Duration::ZERO
    }

    /// What is in the way of the session at present, as the last round trips found it: at most
    /// [`OBSTACLES_MAX`](super::OBSTACLES_MAX). Answers at once, without I/O. Default: nothing, for a store in which nobody can hold
    /// anything for longer than a lease.
    fn obstacles(&self) -> Vec<Obstacle> {
        Vec::new()
    }

    /// Ends the session and frees what it holds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it unknown whether the session ended.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Marks jobs as scheduled under a term and answers their cursors. Declares the overlap policies of their keys: of several
    /// that are enrolled at once with one key and different policies, on however many nodes, those with one policy are.
    /// One's own declarations, of this session and of its terms, stand in nobody's own way.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: ask again, it does no harm.
    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>>;

    /// Answers, for each, the overlap policy that others who live declare for the key, if it is another one, and unless the
    /// leader, another node, schedules the job. Changes nothing: the enrolment decides. Default: none, for a store of one node.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it is not known.
    fn conflicts<'a>(
        &'a self,
        asked: &'a [Declaration],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, LockError>> {
        ready(Ok(vec![None; asked.len()])).boxed()
    }

    /// This session, and its term, declare no policy for these keys any more. Default: nothing, for a store of one node.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: some may still be declared, until the engine asks again, or the term or the session
    /// ends.
    fn retract<'a>(&'a self, _: &'a [LockKey]) -> BoxFuture<'a, Result<(), LockError>> {
        ready(Ok(())).boxed()
    }

    /// The versions of the time zone data by which the nodes of other open sessions go, if they differ from
    /// [this node's](super::Backend::set_zone_data) and are known: each once, at most [`OTHER_ZONE_DATA_MAX`](super::OTHER_ZONE_DATA_MAX) of them. Asked once
    /// a minute. Default: none, for a store of one node.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it is not known.
    fn other_zone_data(&self) -> BoxFuture<'_, Result<Vec<OtherZoneData>, LockError>> {
        ready(Ok(Vec::new())).boxed()
    }

    /// What of a node's own history the store does not know: it is another store than the one that granted it, or one that was put
    /// in its place without its last commits. Asked once in each session but the first one, and again of the runs that were answered.
    /// Changes nothing. Default: nothing, for a store that ends with the process.
    ///
    /// # Errors
    ///
    /// Any: it is not known.
    fn compare<'a>(&'a self, _: &'a KnownHistory) -> BoxFuture<'a, Result<Divergence, LockError>> {
        ready(Ok(Divergence::default())).boxed()
    }

    /// Answers what the leader, whoever it is, does with `jobs`, as it stands now. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it is not known.
    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<Standing>, LockError>>;

    /// Says, as the leader of `term`, that jobs were removed on purpose. Their cursors are kept as a lower bound for a job
    /// of the same name: a node that holds it all the time goes on from there. If the term is over, nothing changes: its successor decides which jobs there are. A job that
    /// somebody else has locked stays enrolled, which does no harm.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: the jobs may still stand as enrolled, which does no harm.
    fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>>;

    /// Pauses jobs for all nodes, or resumes them, and tells every node: [`News::Pause`]. A job that the store does not know
    /// can be paused: it is when it is enrolled. Once it is answered, no tick of a paused job is granted. Who resumes a job
    /// starts the count of its failures anew. A pause until an instant that is over by the store's clock resumes. Answers which jobs were changed by it: one that was paused alike, or
    /// was not paused when it is resumed, was not.
    ///
    /// # Errors
    ///
    /// * [`LockError::Timeout`]: it is unknown which were changed; ask again, it does no harm. Perhaps somebody else has locked
    ///   one all the time.
    /// * [`LockError::SessionLost`]: as well.
    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>>;

    /// The next thing that another node, or this one, did and that concerns this session; pending for ever once the session is
    /// lost. News are hints: one may be lost, and whatever it says stands in the store, where a claim meets it. If so many wait
    /// that the oldest are dropped, [`News::Missed`] comes in their place.
    ///
    /// Where anybody else could forge what nodes are told, the store is asked before it is believed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing that a later call would have answered.
    fn news(&self, session: Session) -> BoxFuture<'_, News>;

    /// Proves that this node could claim, by doing what a claim does without claiming anything: whatever would refuse a claim
    /// (missing tables or rights, a read-only store, a full disk) is to refuse this as well. The store must know the term of a
    /// leader. It keeps what the leader says, and answers what leaders said last. Asked about once a lease, and four times a lease
    /// while no leader says that what is due is decided. Default: nothing, for a store of one node.
    ///
    /// # Errors
    ///
    /// Any: a claim would probably fail.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`LockError::Timeout`].
    fn prove(&self, proof: Proof) -> BoxFuture<'_, Result<Proved, LockError>> {
        ready(Ok(Proved::new(proof.overdue_since, Some(Duration::ZERO)))).boxed()
    }

    /// Claims each run in `requests`, in one round trip, without waiting for other holders.
    ///
    /// A claim that this session was granted already and has not completed is granted again, with the same token.
    /// One that only settles is [`GrantedBefore`](Verdict::GrantedBefore) or [`NotGranted`](Verdict::NotGranted) otherwise, and
    /// nothing changes. One without a tick whose run has ended or was lost is `GrantedBefore`, unless it
    /// [retakes](ClaimRequest::retake) it. A claim of a tick may be refused for another reason although its run was granted
    /// before: then the engine settles it.
    /// At most one claim per job and one per key is granted in a batch; the second is `Busy`.
    ///
    /// # Errors
    ///
    /// * [`LockError::Timeout`]: no answer within the deadline. It is unknown which claims were taken; ask again with
    ///   the same run ids.
    /// * [`LockError::SessionLost`]: everything that this node held is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`LockError::Timeout`].
    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>>;

    /// Records the ends of runs and frees their keys. An end that was recorded already is recorded, by whichever session.
    /// [`Stale`](Completed::Stale) is final: it is not answered while a former session of the node may still record the end.
    ///
    /// # Errors
    ///
    /// * [`LockError::Timeout`]: it is unknown which were recorded; ask again, it does no harm.
    /// * [`LockError::SessionLost`]: none will be; whoever takes over closes the runs as lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`LockError::Timeout`].
    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>>;

    /// Frees the keys of runs whose ends the store refuses for their data, one by one: nothing else of these ends is kept, and a run
    /// of which its store keeps no end is in none of its lists. A key that was freed before, also if it has been claimed since, is
    /// [`Recorded`](Completed::Recorded), unless the run was closed as lost. Otherwise as [`complete`](Self::complete), which is the default,
    /// for a store that refuses no end.
    fn release<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        self.complete(ends)
    }

    /// Moves cursors over ticks that nobody runs.
    ///
    /// # Errors
    ///
    /// As for [`claim`](Self::claim).
    fn advance<'a>(&'a self, moves: &'a [CursorMove]) -> BoxFuture<'a, Result<Vec<Moved>, LockError>>;

    /// Completes, claims and moves, as three calls do that are made one after the other in this order: a key that is
    /// freed can be claimed at once. What is empty is not asked. Default: these three calls, side by side; a store whose
    /// commits are dear makes it one.
    ///
    /// # Cancel safety
    ///
    /// As for the three calls.
    fn round<'a>(
        &'a self,
        ends: &'a [Completion],
        claims: &'a [ClaimRequest],
        moves: &'a [CursorMove],
    ) -> BoxFuture<'a, RoundAnswers> {
        async move {
            let (ended, claimed, moved) = join3(
                unless_empty(ends, |ends| self.complete(ends)),
                unless_empty(claims, |claims| self.claim(claims)),
                unless_empty(moves, |moves| self.advance(moves)),
            )
            .await;
            RoundAnswers { ended, claimed, moved }
        }
        .boxed()
    }

    /// Closes, as lost, up to `limit` open runs of dead sessions, and frees their keys. It may search for a bounded time only, and says
    /// whether there may be more. Any node may ask; each run is closed once. Every node is told what is owed from now on:
    /// [`News::Owed`], as it is when a claim takes the key of a dead session.
    ///
    /// # Errors
    ///
    /// As for [`claim`](Self::claim).
    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>>;

    /// This node holds these jobs: they are not to be [forgotten](Self::forget), unless they were withdrawn. Asked
    /// again and again; what was held within the last `fresh` of the store's [age](Self::forget) may stay as it is.
    /// Jobs that somebody else has locked are left for the next time. Default: nothing, for a store of one node, whose
    /// jobs are enrolled and withdrawn by that node alone.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: ask again, it does no harm.
    fn hold<'a>(&'a self, _: &'a [JobName], _fresh: Duration) -> BoxFuture<'a, Result<(), LockError>> {
        ready(Ok(())).boxed()
    }

    /// Forgets, as the leader of `term`, names of jobs and lock keys that were withdrawn, or not held, enrolled or
    /// claimed by any node, for as long as `after`; not one that has an open run, a pending retry, a pause that is not
    /// over, or whose policy is declared by anybody who lives. Time counts only while somebody leads: a store that
    /// nobody uses does not age. It may work for a bounded time only, and says whether there may be more.
    ///
    /// Nothing of a name is kept. One that is made anew owes no tick up to the newest cursor that was ever forgotten,
    /// and its tokens are greater than any that was: no tick is opened again, and no token lowered. If the term is
    /// over, nothing changes. Default: nothing is ever forgotten.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: some may be forgotten; ask again, it does no harm.
    fn forget(&self, _: Term, _after: Duration) -> BoxFuture<'_, Result<Forgotten, LockError>> {
        ready(Ok(Forgotten::default())).boxed()
    }

    /// The runs that jobs owe, in the order of the runs: up to `limit` of those `after` a run, or the first ones. Fewer than
    /// `limit` answers mean that there are no more. Changes nothing. This is how a node learns of what it was not told.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it is not known.
    fn debts(&self, after: Option<RunId>, limit: usize) -> BoxFuture<'_, Result<Vec<Debt>, LockError>>;
}

/// What a node says when it proves that it could claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proof {
    /// The term in which it leads, once it knows of all its jobs whether something is due. `None` for a follower, and for a leader
    /// that does not know yet: they say nothing.
    pub term: Option<Term>,
    /// Since when a tick of a job that it leads is due and not decided, if one has been for longer than a lease.
    pub overdue_since: Option<DateTime<Utc>>,
    /// Since when the first tick is due that is not decided, however short that is. `None`: all that is due is decided.
    pub undecided_since: Option<DateTime<Utc>>,
}

/// What leaders said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Proved {
    /// Since when a tick is due and not decided, as the leader of the present term said, if there is one.
    pub overdue_since: Option<DateTime<Utc>>,
    /// How long ago, by the store's clock, all was decided that was due: when the leader of any term said so last, or since when
    /// the tick is due that it [said](Proof::undecided_since) is not. A term that begins changes nothing. `None`: none said it yet.
    pub decided_ago: Option<Duration>,
}

impl Proved {
    /// What leaders said.
    pub fn new(overdue_since: Option<DateTime<Utc>>, decided_ago: Option<Duration>) -> Self {
        Self { overdue_since, decided_ago }
    }
}

/// The answers to what was asked in one round.
#[derive(Debug, Clone)]
pub struct RoundAnswers {
    /// As [`Locker::complete`] answers.
    pub ended: Result<Vec<Completed>, LockError>,
    /// As [`Locker::claim`] answers.
    pub claimed: Result<Vec<Verdict>, LockError>,
    /// As [`Locker::advance`] answers.
    pub moved: Result<Vec<Moved>, LockError>,
}

impl RoundAnswers {
    /// The same error to all.
    pub fn failed(error: &LockError) -> Self {
        Self { ended: Err(error.clone()), claimed: Err(error.clone()), moved: Err(error.clone()) }
    }
}

async fn unless_empty<'a, T, A>(
    items: &'a [T],
    ask: impl FnOnce(&'a [T]) -> BoxFuture<'a, Result<Vec<A>, LockError>>,
) -> Result<Vec<A>, LockError> {
    if items.is_empty() { Ok(Vec::new()) } else { ask(items).await }
}

/// Why a locker did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// No session was opened, and waiting may help: the store is not there, or is not ready. Nothing was asked, nothing
    /// is held.
    #[error("{reason}")]
    Unavailable {
        /// What happened and, after `"; "`, what would mend it, without passwords or connection strings.
        reason: String,
    },
    /// No session was opened: the store refuses this node, and asking again does not help until somebody changes
    /// something. Nothing was asked, nothing is held.
    #[error("{reason}")]
    Refused {
        /// What is refused and, after `"; "`, what would mend it, without passwords or connection strings.
        reason: String,
    },
    /// No answer within the deadline: what was asked may have been done or not.
    #[error("the store did not answer within the deadline")]
    Timeout,
    /// The store refuses something in this call for its data: a text, a number or an instant that it cannot keep, or a rule of its
    /// own that an item breaks. Nothing was done for the bad item, nor for those that the store takes together with it; for others
    /// of the call it may have been: asking again with the same ids does no harm.
    ///
    /// The engine halves the call until the bad item stands alone, and parks the job of that item once
    /// something of another job gets through. Not for what concerns every call: that is
    /// [`NotDone`](Self::NotDone).
    #[error("the store refuses its data: {reason}")]
    BadData {
        /// What the store says, without passwords or connection strings.
        reason: String,
    },
    /// The store refuses whatever it is asked, or cannot do it just now: rights, a full disk, a read-only server. What was asked was
    /// not done, or only in part: asking again with the same ids does no harm. No item is to blame.
    #[error("{reason}")]
    NotDone {
        /// What the store says and, after `"; "`, what would mend it, without passwords or connection strings.
        reason: String,
    },
    /// The session is over, and with it everything that this node held.
    #[error("the session with the store is lost: {reason}")]
    SessionLost {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
}
