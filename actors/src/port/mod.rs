//! What others implement for the engine. Each trait's documentation is its contract; `testkit::conformance`
//! checks it.

mod backend;
mod backfills;
mod body;
mod capabilities;
mod catalogue;
mod clock;
mod control;
mod divergence;
mod election;
mod elector;
mod history;
mod locker;
mod not_due;
mod obstacle;
mod records;
mod schedule;
mod schedule_identity;
mod spawner;
mod tick_votes;
mod zone_data;

pub use crate::core::{
    pause::{PAUSE_NOTE_MAX, Pause},
    skip::{SkipReason, Skips},
};
pub use backend::{Backend, Role};
pub use backfills::{
    BACKFILL_CONCURRENT_MAX, BACKFILL_SPACING_MAX, BACKFILL_TICKS_MAX, BACKFILLS_KEPT_MAX,
    BACKFILLS_OPEN_MAX, BackfillId, BackfillMoved, BackfillProgress, BackfillPut, BackfillState,
    BackfillStatus, Backfills, StoredBackfill,
};
pub use body::Body;
pub(crate) use capabilities::Able;
pub use capabilities::{Capabilities, Capability};
pub use catalogue::{
    CATALOGUE_ASKED_EVERY, CATALOGUE_PAGE_MAX, Catalogue, CatalogueChange, CatalogueChanges, CatalogueError,
    CataloguePage, CatalogueQuery, CatalogueRow, CatalogueTable, Changed, DEFINITION_BYTES_MAX,
    DELETED_KEPT_MAX, DuePage, DueQuery, Expected, Facets, ONE_SHOTS_HELD_BYTES_MAX, ONE_SHOTS_HELD_MAX,
    ONE_SHOTS_HELD_WITHIN, ONE_SHOTS_LINGERING_BYTES_MAX, ONE_SHOTS_LINGERING_MAX, STORED_JOBS_MAX,
};
pub use clock::{CLOCK_LOOK_EVERY, Clock, SystemClock};
pub use control::{
    ANSWER_BYTES_MAX, ANSWERS_BYTES_MAX, AskedNode, Control, ControlError, ControlRequest, ControlTable,
    DESCRIPTION_BYTES_MAX, JobSet, NODES_MAX, NodeAnswer, NodeRow, Posted, REQUEST_BYTES_MAX,
    REQUESTS_OPEN_MAX, TakenRequest, To, VIEWS_OPEN_MAX,
};
pub use divergence::{
    DIVERGED_RUNS_MAX, DivergedRun, Divergence, GRANTED_RUNS_MAX, GrantedRun, KnownHistory,
};
pub use election::{Election, ElectionOf};
pub use elector::{
    Campaign, ElectError, Elector, Grant, HANDOVER_BEHIND_MAX, Handover, Handovers, LeaderSaid, Lease,
    Observation, Renewal,
};
pub use history::{
    ATTEMPTS_RECORDED_MAX, AskGaps, AttemptRecord, Batch, Decision, DecisionPage, DecisionRecord, Decisions,
    DurationCounts, EndedRun, FailedRun, Gaps, HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, History, HistoryError,
    Holder, JobHistory, JobOperation, JobRecord, LAST_ENDS_MAX, LastEnds, MEMORY_BYTES_MIN, MemoryBounds,
    OPEN_RUN_STALE, OperationPage, OperationRecord, Operations, PageStart, PauseChange, RECORDS_DROPPED,
    RETENTION_MAX, RETENTION_MIN, RecordsOf, Retention, RunHistory, RunOrigin, RunPage, RunRecord,
};
pub use locker::{
    AGES_AT_MOST, Advanced, AtOnce, Authority, ClaimRequest, ClosedRuns, Completed, Completion,
    CursorAdvance, Decided, Declaration, Enrolled, EnrolledSchedule, Enrolment, Forgotten, Inquiry,
    LeaderView, LockError, Locker, LostRun, NameUse, Notification, PendingRetry, PendingRetryOfJob, Proof,
    Proved, RoundAnswers, Session, StoredState, TickClaim, Verdict,
};
pub use not_due::NotDue;
pub use obstacle::{OBSTACLES_MAX, Obstacle};
pub use records::{
    Change, Commit, Committed, HINT_BYTES_MAX, HINTS_WAITING_MAX, Heard, HintStream, ListedRecord,
    RECORD_ID_MAX, RecordChange, RecordKind, RecordLimits, RecordName, RecordPage, RecordServer,
    RecordSession, RecordSnapshot, RecordTraits, Records, RecordsError, StoredRecord, Unit, UnitAnswer,
    Version,
};
pub use schedule::{IntoSchedule, Schedule};
pub use schedule_identity::ScheduleIdentity;
pub use spawner::{RuntimeSpawner, Spawner};
pub use tick_votes::{TickVote, TickVoted, TickVotes};
pub use zone_data::{OTHER_ZONE_DATA_MAX, OtherZoneData};
