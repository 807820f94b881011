//! One run, as its body sees it.

use std::{
    any::Any,
    error::Error,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use actix::Message;
use chrono::{DateTime, Utc};
use futures_util::stream::{AbortHandle, AbortRegistration};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tracing::Span;

use crate::{
    core::{
        backfill::BackfillId,
        byte_budget::ByteBudget,
        job::Severity,
        reported::{Reported, Reporting, report_of},
        time::FireTime,
    },
    fault::Fault,
    name::{By, FencingToken, JobName, LockKey, RunId, Term},
    own_threads::OwnThreads,
    port::Clock,
    signal::Signal,
    task_call::TaskCall,
};

/// What a body answers.
pub type RunResult = Result<(), RunError>;

/// Why a run failed: any error, from std, anyhow or a text.
///
/// It does not implement [`Error`] itself, so that `?` converts every type that does.
///
/// ```
/// use callsheet_actors::{RunError, RunResult};
///
/// fn parse(text: &str) -> RunResult {
///     text.parse::<u16>()?;
///     Ok(())
/// }
///
/// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
/// assert_eq!(RunError::from("out of paper").to_string(), "out of paper");
/// ```
///
/// What follows from an error is for the body to say:
///
/// | | the attempt | the run | the job |
/// |---|---|---|---|
/// | any error, by `?` or `into()` | fails | is tried again, if the job has a [`Retry`](crate::Retry) policy with attempts left | goes on |
/// | [`permanent`](Self::permanent) | fails | fails | goes on |
/// | [`stop`](Self::stop) | fails | fails | takes no more ticks |
/// | [`resign`](Self::resign) | fails | fails | goes on; this node leaves the lead to another one |
///
/// ```
/// use callsheet_actors::{RunError, RunResult};
///
/// fn send(address: &str, account_closed: bool) -> RunResult {
///     if account_closed {
///         return Err(RunError::stop("the account is closed"));
///     }
///     if !address.contains('@') {
///         return Err(RunError::permanent(format!("{address:?} is not an address")));
///     }
///     Ok(())
/// }
///
/// assert!(send("nobody", false).unwrap_err().is_permanent());
/// assert!(send("nobody", true).unwrap_err().stops_job());
/// ```
pub struct RunError {
    error: Box<dyn Error + Send + Sync>,
    severity: Severity,
    resigns: bool,
}

impl RunError {
    /// An error that another attempt would meet again: the run fails at once, whatever its retry policy.
    pub fn permanent(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: error.into(), severity: Severity::Permanent, resigns: false }
    }

    /// An error that every later run would meet again: the run fails at once, whatever its retry policy, and
    /// the job takes no more ticks.
    pub fn stop(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: error.into(), severity: Severity::Stop, resigns: false }
    }

    /// An error after which this node should not lead: the run fails at once, whatever its retry policy, and
    /// the node [resigns](crate::Resign), so that the ticks that follow run elsewhere. It does so whether it
    /// leads or not, and if it is alone, it leads again when
    /// [`resign_pause`](crate::EngineOptions::resign_pause) is over.
    pub fn resign(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: error.into(), severity: Severity::Permanent, resigns: true }
    }

    /// The error itself, to be downcast. What came from `anyhow` is wrapped in a type of its own: look for
    /// the cause that is meant along its [`source`](Error::source)s.
    pub fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }

    /// Whether another attempt is in vain: it is [`permanent`](Self::permanent), or [stops](Self::stop) the
    /// job.
    pub fn is_permanent(&self) -> bool {
        self.severity >= Severity::Permanent
    }

    /// Whether the job is to take no more ticks.
    pub fn stops_job(&self) -> bool {
        self.severity == Severity::Stop
    }

    /// Whether this node is to leave the lead to another one.
    pub fn resigns(&self) -> bool {
        self.resigns
    }

    pub(crate) fn severity(&self) -> Severity {
        self.severity
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for RunError {
    fn from(error: E) -> Self {
        Self { error: error.into(), severity: Severity::Transient, resigns: false }
    }
}

/// The error and all of its causes, joined by `: `.
impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut cause = self.error.source();
        for _ in 0..CAUSES_MAX {
            let Some(error) = cause else { return Ok(()) };
            write!(f, ": {error}")?;
            cause = error.source();
        }
        if cause.is_some() { write!(f, ": and more than {CAUSES_MAX} causes") } else { Ok(()) }
    }
}

impl fmt::Debug for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

/// More causes of an error than this are not shown: somebody's chain is a circle.
const CAUSES_MAX: usize = 1_024;

/// What a body, or a hook, may return: nothing, or a `Result` whose error converts into a [`RunError`].
#[diagnostic::on_unimplemented(
    message = "a body or a hook cannot return `{Self}`",
    label = "it returns `{Self}`",
    note = "it returns `()`, or a `Result<(), E>` whose error is of std, of anyhow, a text or a `RunError`",
    note = "to drop a value, end it with `;`, or with `.map(drop)` behind a `Result`"
)]
pub trait IntoRunResult {
    /// The result of the run.
    fn into_run_result(self) -> RunResult;
}

impl IntoRunResult for () {
    fn into_run_result(self) -> RunResult {
        Ok(())
    }
}

impl<E: Into<RunError>> IntoRunResult for Result<(), E> {
    fn into_run_result(self) -> RunResult {
        self.map_err(Into::into)
    }
}

/// Why there is a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The schedule: the tick at this fire time.
    Tick(FireTime),
    /// Somebody triggered the job.
    Trigger {
        /// Who, if it is known.
        by: Option<By>,
        /// The fire time that the run [names](crate::TriggerJob::fire_time), without being its tick.
        fire_time: Option<FireTime>,
        /// The arguments that the trigger [gives](crate::TriggerJob::arguments) to the run, in the place of those of
        /// its job, with the task that the job ran then: for it alone they are.
        task: Option<Arc<TaskCall>>,
    },
    /// A [backfill](crate::Backfill): the run is one of its own, and no tick.
    Backfill {
        /// Which one.
        backfill: BackfillId,
        /// For which fire time.
        fire_time: FireTime,
        /// Who asked for the backfill, if it is known.
        by: Option<By>,
    },
}

impl Origin {
    /// Somebody triggered the job, and nothing more is known.
    pub(crate) const UNKNOWN: Self = Self::Trigger { by: None, fire_time: None, task: None };
}

/// One run, as its body sees it. Cheap to clone; also the message that an actor body gets.
#[derive(Clone, Message)]
#[rtype(result = "RunResult")]
pub struct Run(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) id: RunId,
    pub(crate) job: JobName,
    pub(crate) key: LockKey,
    pub(crate) origin: Origin,
    pub(crate) attempt: u32,
    pub(crate) term: Option<Term>,
    pub(crate) token: Option<FencingToken>,
    pub(crate) deadline: Option<Duration>,
    /// It is to stop.
    pub(crate) cancellation: Signal<CancellationToken>,
    /// Its body is to be dropped.
    pub(crate) abort: Signal<AbortHandle>,
    pub(crate) span: Span,
    /// What its body says of it; made when it says something.
    pub(crate) reporting: OnceLock<Box<Mutex<Reporting>>>,
    pub(crate) shared: Arc<SharedParts>,
}

/// What all runs of a node have in common.
pub(crate) struct SharedParts {
    pub(crate) clock: Arc<dyn Clock>,
    /// Where bodies run that are not `Send`, or that block.
    pub(crate) own_threads: OwnThreads,
    /// What the store gives to runs.
    pub(crate) extension: Option<Arc<dyn Any + Send + Sync>>,
    /// The bytes of what bodies say of their runs.
    pub(crate) reported_bytes: Arc<ByteBudget>,
    /// Who hears what bodies say.
    pub(crate) outlet: Box<dyn ReportOutlet>,
}

/// Hears what bodies say of their runs.
pub(crate) trait ReportOutlet: Send + Sync {
    /// A run has said something.
    fn said(&self);

    /// How far a run is, from 0 to 1: at most once in [`PROGRESS_PACE`](crate::PROGRESS_PACE).
    fn progressed(&self, job: &JobName, run: RunId, progress: f64);

    /// Something that was said of a run is not kept.
    fn refused(&self, job: &JobName, run: RunId, fault: &Fault);
}

impl Run {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The id of the run, unique for ever.
    pub fn id(&self) -> RunId {
        self.0.id
    }

    /// The job.
    pub fn job(&self) -> &JobName {
        &self.0.job
    }

    /// The lock key: what the run excludes while it is in progress.
    pub fn lock_key(&self) -> &LockKey {
        &self.0.key
    }

    /// Why there is a run.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The planned instant, also of a run of a backfill; of a manual trigger the one that it
    /// [names](crate::TriggerJob::fire_time), `None` if it names none.
    pub fn fire_time(&self) -> Option<DateTime<Utc>> {
        match self.0.origin {
            Origin::Tick(fire_time) | Origin::Backfill { fire_time, .. } => Some(fire_time.instant()),
            Origin::Trigger { fire_time, .. } => fire_time.map(FireTime::instant),
        }
    }

    /// The number of the try within the run, from 1.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The term under which a tick was claimed; `None` for a manual trigger and for a job without claims.
    pub fn term(&self) -> Option<Term> {
        self.0.term
    }

    /// The fencing token: greater than that of every run granted before for the same lock key. `None` for a
    /// job without claims.
    pub fn token(&self) -> Option<FencingToken> {
        self.0.token
    }

    /// How much time is left until the timeout; `None` without one, zero when it has passed.
    pub fn time_left(&self) -> Option<Duration> {
        self.0.deadline.map(|deadline| deadline.saturating_sub(self.clock().elapsed()))
    }

    /// Resolves when the run is to stop: its time is over, its lock is lost, or the engine shuts down. A body
    /// that ignores it is dropped at its first `.await` [`abort_after`](crate::Job::abort_after) later.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.cancellation_token().cancelled()
    }

    /// Whether the run is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancellation.is_given()
    }

    /// The token behind [`cancelled`](Self::cancelled), to hand on. Cancelling it by oneself does not end the
    /// run.
    pub fn cancellation(&self) -> CancellationToken {
        self.cancellation_token().child_token()
    }

    /// Made when somebody wants to wait for it: few bodies do.
    fn cancellation_token(&self) -> &CancellationToken {
        self.0.cancellation.heard_by(CancellationToken::new, CancellationToken::cancel)
    }

    /// The span of this attempt, by which the lines of a log tell the run that they belong to; disabled if no
    /// subscriber wants it, which costs nothing. Its target is `callsheet::run`, its name `run`, its level
    /// INFO, and it has no parent. That of a run which was triggered [follows
    /// from](tracing::Span::follows_from) the span in which [`TriggerJob::new`](crate::TriggerJob::new) was called;
    /// of several attempts, that of the first.
    ///
    /// | field | type | |
    /// |---|---|---|
    /// | `job` | text | the job |
    /// | `run` | text | the [id](Self::id) of the run |
    /// | `attempt` | `u64` | the [attempt](Self::attempt) |
    /// | `fire_time` | text, RFC 3339 | the [fire time](Self::fire_time); absent for a manual trigger |
    /// | `node` | text | the id of the node |
    /// | `term` | `u64` | the [term](Self::term), if there is one |
    /// | `token` | `u64` | the [fencing token](Self::token), if there is one |
    /// | `outcome` | text | recorded when the attempt has ended: an [`Outcome`](crate::Outcome), as [`as_str`](crate::Outcome::as_str) says it |
    ///
    /// Bodies and hooks run inside it, those that block and those that are not `Send` as well. An actor that
    /// does the work, a thread and a task that a body starts enter it themselves:
    ///
    /// ```
    /// use actix::prelude::*;
    /// use callsheet_actors::{Run, RunResult};
    /// use tracing::Instrument;
    ///
    /// struct Mailer;
    ///
    /// impl Actor for Mailer {
    ///     type Context = Context<Self>;
    /// }
    ///
    /// impl Handler<Run> for Mailer {
    ///     type Result = ResponseFuture<RunResult>;
    ///
    ///     fn handle(&mut self, run: Run, _: &mut Self::Context) -> Self::Result {
    ///         let span = run.span().clone();
    ///         let work = async move {
    ///             tracing::info!("sending");
    ///             Ok(())
    ///         };
    ///         Box::pin(work.instrument(span))
    ///     }
    /// }
    /// ```
    ///
    /// It closes when the last clone of this `Run` is dropped.
    pub fn span(&self) -> &Span {
        &self.0.span
    }

    /// Says what the run did, in words: `run.report("1,204 rows")`. The last report stands; of a long one the
    /// first [`REPORT_CHARS_MAX`](crate::REPORT_CHARS_MAX) characters are kept.
    ///
    /// It is shown in the [status](crate::ActiveRunStatus::reported) of the job while the run is in progress,
    /// and told to the hooks after it ([`reported`](Self::reported) of
    /// [`FinishedRun::run`](crate::FinishedRun::run)). Each attempt begins without one, so what stands at the
    /// end is what the last attempt said. What is said once the body has ended changes nothing.
    ///
    /// A body never fails for what it says of itself. What cannot be kept is left out, and the log says why,
    /// once for each attempt: more than [`REPORTED_BYTES_MAX`](crate::REPORTED_BYTES_MAX) on one node.
    ///
    /// ```
    /// use callsheet_actors::Run;
    ///
    /// async fn import(run: Run) {
    ///     let files = ["a.csv", "b.csv"];
    ///     for nth in 0..files.len() {
    ///         // …
    ///         run.progress((nth + 1) as f64 / files.len() as f64);
    ///     }
    ///     run.measure("rows", 1_204.0);
    ///     run.report(format_args!("1,204 rows of {} files", files.len()));
    /// }
    /// ```
    pub fn report(&self, text: impl fmt::Display) {
        // Before anything is locked: the text is code of the application.
        let text = report_of(text);
        self.say(|said| said.report(&text, &self.0.shared.reported_bytes));
    }

    /// Says what the run did, in a number: `run.measure("rows", 1204.0)`. The last number of a name stands.
    ///
    /// Kept and shown as a [report](Self::report). Left out, and said in the log: a number that is not
    /// finite, a measure beyond the first [`MEASURES_MAX`](crate::MEASURES_MAX), a name that is empty, longer
    /// than [`NAME_MAX`](crate::NAME_MAX) bytes or has control characters.
    pub fn measure(&self, name: impl AsRef<str>, value: f64) {
        self.say(|said| said.measure(name.as_ref(), value, &self.0.shared.reported_bytes));
    }

    /// Says how far the run is: `run.progress(0.4)`, from 0 to 1; what lies outside counts as the nearer end.
    ///
    /// Kept and shown as a [report](Self::report), published as [`RunProgressed`](crate::EventKind::RunProgressed) and
    /// written to the history, each at most once a second. Left out, and said in the log: what is not a number.
    pub fn progress(&self, progress: f64) {
        let mut published = None;
        self.say(|said| {
            published = said.progress(self.clock().elapsed(), progress)?;
            Ok(())
        });
        if let Some(progress) = published {
            self.0.shared.outlet.progressed(self.job(), self.id(), progress);
        }
    }

    /// What the body said of this attempt so far.
    pub fn reported(&self) -> Reported {
        let said = self.0.reporting.get();
        said.map(|said| said.lock().unwrap_or_else(PoisonError::into_inner).reported()).unwrap_or_default()
    }

    /// How often the body said something in this attempt.
    pub(crate) fn said(&self) -> u32 {
        let said = self.0.reporting.get();
        said.map_or(0, |said| said.lock().unwrap_or_else(PoisonError::into_inner).said())
    }

    fn say(&self, say: impl FnOnce(&mut Reporting) -> Result<(), Fault>) {
        let mut said =
            self.0.reporting.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner);
        match say(&mut said) {
            Ok(()) => {
                said.count();
                drop(said);
                self.0.shared.outlet.said();
            }
            Err(fault) if said.is_first_refused() => {
                drop(said);
                self.0.shared.outlet.refused(self.job(), self.id(), &fault);
            }
            Err(_) => {}
        }
    }

    /// What the store gives to runs, if it is of this type; for traits that extend runs with what only one
    /// store can do.
    pub fn extension<T: Any>(&self) -> Option<&T> {
        self.0.shared.extension.as_ref()?.downcast_ref()
    }

    /// The run is to stop.
    pub(crate) fn cancel(&self) {
        self.0.cancellation.give(CancellationToken::cancel);
    }

    /// The body is to be dropped.
    pub(crate) fn abort(&self) {
        self.0.abort.give(AbortHandle::abort);
    }

    /// The body was to be dropped.
    pub(crate) fn is_aborted(&self) -> bool {
        self.0.abort.is_given()
    }

    /// Ends the body, for the one who runs it: the first who asks.
    pub(crate) fn take_abort(&self) -> Option<AbortRegistration> {
        let mut taken = None;
        let pair = || {
            let (handle, registration) = AbortHandle::new_pair();
            taken = Some(registration);
            handle
        };
        self.0.abort.heard_by(pair, AbortHandle::abort);
        taken
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.shared.clock
    }

    pub(crate) fn own_threads(&self) -> &OwnThreads {
        &self.0.shared.own_threads
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("job", &self.0.job)
            .field("origin", &self.0.origin)
            .field("id", &format_args!("{}", self.0.id))
            .field("token", &self.0.token.map(|token| token.0))
            .finish_non_exhaustive()
    }
}
