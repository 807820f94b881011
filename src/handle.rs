//! The handle of a running scheduler.

mod backfills;
mod cluster;
mod jobs;
mod record;
mod runs;
mod stored;

use std::time::Duration;

use actix::{Addr, Handler};
use callsheet_actors::{
    By, Engine, Event, EventFilter, EventStream, Faults, Health, HealthReport, IntoRecipient, Listen,
    ListenTo, Note, Resign, Routed, ShutdownReport, SupervisorActor,
};

pub use self::cluster::Cluster;
use crate::{builder::Builder, error::Error, settings::Settings};

/// A running scheduler. Cheap to clone; works in any runtime.
///
/// Its methods send messages to the [supervisor](Self::supervisor), which an actor may send itself, by this handle
/// ([`ask`](Self::ask)) or to the supervisor's address:
///
/// | to | method | message |
/// |---|---|---|
/// | add, change and remove jobs | [`add`](Self::add), [`add_all`](Self::add_all), [`update`](Self::update), [`reschedule`](Self::reschedule), [`remove`](Self::remove) | [`AddJob`](crate::AddJob), [`AddJobs`](crate::AddJobs), [`UpdateJob`](crate::UpdateJob), [`RescheduleJob`](crate::RescheduleJob), [`RemoveJobs`](crate::RemoveJobs) |
/// | store jobs as data, for all nodes | [`put`](Self::put), [`put_if`](Self::put_if), [`put_with`](Self::put_with), [`delete`](Self::delete), [`stored`](Self::stored), [`list_stored`](Self::list_stored) | [`PutJob`](crate::PutJob), [`DeleteJob`](crate::DeleteJob), [`StoredDetails`](crate::StoredDetails), [`ListStored`](crate::ListStored) |
/// | override the schedules of jobs of code, on all nodes | [`override_schedule`](Self::override_schedule), [`clear_override`](Self::clear_override) | [`OverrideSchedule`](crate::OverrideSchedule), [`ClearOverride`](crate::ClearOverride) |
/// | pause and resume them, on all nodes | [`pause`](Self::pause), [`pause_with`](Self::pause_with), [`resume`](Self::resume) | [`PauseJobs`](crate::PauseJobs), [`ResumeJobs`](crate::ResumeJobs) |
/// | skip what they missed | [`skip_missed`](Self::skip_missed) | [`SkipMissed`](crate::SkipMissed) |
/// | say who asks, and why | [`by`](Self::by), [`note`](Self::note) | `by` and `note` of each of these |
/// | run a job now; stop runs | [`trigger`](Self::trigger), [`trigger_for`](Self::trigger_for), [`trigger_with`](Self::trigger_with), [`cancel_runs`](Self::cancel_runs), [`cancel_run`](Self::cancel_run) | [`TriggerJob`](crate::TriggerJob), [`CancelRuns`](crate::CancelRuns), [`CancelRun`](crate::CancelRun) |
/// | run what was missed | [`backfill`](Self::backfill), [`preview_backfill`](Self::preview_backfill), [`backfills`](Self::backfills), [`cancel_backfill`](Self::cancel_backfill) | [`Backfill`](crate::Backfill), [`PreviewBackfill`](crate::PreviewBackfill), [`ListBackfills`](crate::ListBackfills), [`CancelBackfill`](crate::CancelBackfill) |
/// | see what jobs do | [`details`](Self::details), [`list`](Self::list), [`next_fire_times`](Self::next_fire_times), [`explain`](Self::explain) | [`JobDetails`](crate::JobDetails), [`ListJobs`](crate::ListJobs), [`NextFireTimes`](crate::NextFireTimes), [`Explain`](crate::Explain) |
/// | see which tasks there are | [`tasks`](Self::tasks) | [`ListTasks`](crate::ListTasks) |
/// | talk to the actor of a job itself | [`job_address`](Self::job_address) | [`JobAddress`](crate::JobAddress) |
/// | see what happened | [`runs`](Self::runs), [`history`](Self::history), [`decisions`](Self::decisions), [`operations`](Self::operations) | [`RunHistory`](crate::RunHistory), [`JobHistory`](crate::JobHistory), [`Decisions`](crate::Decisions), [`Operations`](crate::Operations) |
/// | hear what happens | [`events`](Self::events), [`listen`](Self::listen), [`listen_to`](Self::listen_to) | [`Events`](crate::Events), [`Listen`], [`ListenTo`] |
/// | ask all nodes of the cluster | [`cluster`](Self::cluster) | [`InCluster`](crate::InCluster) |
/// | see how the node is, and leave the lead | [`health`](Self::health), [`resign`](Self::resign) | [`Health`], [`Resign`] |
/// | stop | [`shutdown`](Self::shutdown), [`shutdown_now`](Self::shutdown_now), [`shutdown_on`](Self::shutdown_on) | [`Shutdown`](crate::Shutdown), [`ShutdownNow`](crate::ShutdownNow) |
///
/// Jobs are selected by name, by tag, or all of them: [`Selector`](crate::Selector). Dropping the handle stops nothing:
/// jobs go on until [`shutdown`](Self::shutdown) or the end of the process.
#[derive(Clone)]
pub struct Callsheet {
    pub(crate) engine: Engine,
    /// Who asks.
    pub(crate) by: Option<By>,
    /// Why.
    pub(crate) note: Option<Note>,
}

impl Callsheet {
    /// Begins the definition of a scheduler, with every option at its default.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Begins the definition of a scheduler as the variables `CALLSHEET_…` of this process say: the guide to
    /// [settings](crate::guide::settings) has them. To look at them, or to have a scope unless they name one, read
    /// them into [`Settings`].
    ///
    /// ```no_run
    /// use callsheet::prelude::*;
    ///
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// // CALLSHEET_SCOPE=billing CALLSHEET_DATABASE_URL=postgres://… makes it a node of a cluster.
    /// let job = Job::new("hello", every("5s")).run(async |_| println!("hello"));
    /// let jobs = Callsheet::from_env()?.job(job).start().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the variables, at once, by their names, without their secrets.
    pub fn from_env() -> Result<Builder, Faults> {
        Settings::builder_from_env()
    }

    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, by: None, note: None }
    }

    /// The handle of a node of a rig, for functions of an application that take one: everything works as it
    /// does outside, on virtual time. The guide to [tests](crate::guide::testing) has an example.
    ///
    /// A frozen node answers when it goes on; one that was killed, [`Error::Stopped`].
    #[cfg(feature = "testkit")]
    pub fn of_rig(rig: &crate::testkit::Rig, node: crate::testkit::NodeIndex) -> Self {
        Self::new(rig.engine(node))
    }

    /// Returns the actor behind this handle, for messages. With [named backends](Builder::backend_named) it is that of
    /// the default one, which knows no other jobs: [`ask`](Self::ask) asks all.
    pub fn supervisor(&self) -> &Addr<SupervisorActor> {
        self.engine.supervisor()
    }

    /// A handle of the same scheduler that says who asks: each job that is added, changed, paused, resumed,
    /// triggered, cancelled or removed by it carries this name, in events, in the job's pause and in the
    /// origin of the run. Give it the user whom the application has authenticated.
    ///
    /// ```
    /// use callsheet::{prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("sweep", every(std::time::Duration::from_mins(5))).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    ///
    /// jobs.by("alice")?.pause("sweep").await?;
    ///
    /// let pause = jobs.details("sweep").await?.pause.expect("it is paused");
    /// assert_eq!(pause.by.ok_or("nobody")?.as_str(), "alice");
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::By`] if the name is empty, longer than [`NAME_MAX`](crate::NAME_MAX) bytes, holds a control
    /// character, or starts or ends with white space.
    pub fn by(&self, who: impl AsRef<str>) -> Result<Self, Error> {
        let by = By::new(who).map_err(Error::By)?;
        Ok(Self { by: Some(by), ..self.clone() })
    }

    /// A handle of the same scheduler that says why: the history keeps this note with each job that is added,
    /// changed, paused, resumed, triggered, cancelled or removed by it. It is the note of a pause that has none
    /// of its own.
    ///
    /// ```
    /// use callsheet::{Operations, prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("sweep", every(std::time::Duration::from_mins(5))).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    ///
    /// jobs.by("alice")?.note("the report is wrong")?.trigger("sweep").await?;
    ///
    /// let newest = &jobs.operations(Operations::new()).await?.operations[0];
    /// assert_eq!(newest.note.as_deref(), Some("the report is wrong"));
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Note`] if the note is empty or longer than [`PAUSE_NOTE_MAX`](crate::PAUSE_NOTE_MAX) bytes.
    pub fn note(&self, note: impl AsRef<str>) -> Result<Self, Error> {
        let note = Note::new(note).map_err(Error::Note)?;
        Ok(Self { note: Some(note), ..self.clone() })
    }

    /// Adds an actor that hears every event from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not add the listener.
    pub async fn listen(&self, listener: impl IntoRecipient<Event>) -> Result<(), Error> {
        self.ask(Listen(listener.into_recipient())).await
    }

    /// Adds an actor that hears the events that pass a filter, from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not add the listener.
    pub async fn listen_to(
        &self,
        filter: EventFilter,
        listener: impl IntoRecipient<Event>,
    ) -> Result<(), Error> {
        self.ask(ListenTo { filter, listener: listener.into_recipient() }).await
    }

    /// A stream of the events that pass a filter: every one that is published after this returns, and perhaps
    /// some that are on their way. What is published while the scheduler starts is for [`Builder::listen`].
    /// It ends when the scheduler has stopped, after the last event; at once, if it has stopped already.
    ///
    /// ```
    /// use callsheet::{EventFilter, EventName, prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("hourly", every(std::time::Duration::from_hours(1))).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    /// let mut ends = jobs.events(EventFilter::new().kinds([EventName::RunSucceeded,
    /// EventName::RunFailed]).job("hourly"));
    ///
    /// let run = jobs.trigger("hourly").await?.run();
    /// let event = ends.next().await.expect("it runs");
    /// assert!(matches!(event.kind, EventKind::RunSucceeded { run: id, .. } if id == run));
    ///
    /// jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// assert_eq!(ends.next().await, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self, filter: EventFilter) -> EventStream {
        self.engine.events(filter)
    }

    /// Leaves the lead to another node, and answers whether this one led: see [`Resign`]. When it returns,
    /// this node does not lead. It does not campaign again before another node leads, or the
    /// [pause](Builder::resign_pause) is over.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not resign.
    pub async fn resign(&self) -> Result<bool, Error> {
        self.ask(Resign).await
    }

    /// Answers how this node is: live, ready, healthy, and what is wrong.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn health(&self) -> Result<HealthReport, Error> {
        self.ask(Health).await
    }

    /// Stops: no tick is armed any more, leadership is given up, runs may end until `deadline` has passed
    /// ([`Duration::MAX`]: as long as they take), are then cancelled, and aborted
    /// [`shutdown_abort_after`](crate::Builder::shutdown_abort_after) later (5 s by default). Returns when
    /// every thread of the engine has ended. The report says what became of each run, and which fire times
    /// are left to other nodes.
    ///
    /// A schedule, or other code of the application, that blocks the scheduler's thread does not block this
    /// call: it ends [`SHUTDOWN_END_MAX`](crate::SHUTDOWN_END_MAX) after the runs were to be aborted, with a
    /// report that is [unanswered](ShutdownReport::unanswered). The scheduler stops when that code returns.
    /// Not so on a `LocalSet` of the caller ([`start_on`](crate::Builder::start_on)), whose thread is the
    /// scheduler's.
    ///
    /// Idempotent: whoever asks again waits for the same end and gets the same report.
    ///
    /// A body that waits for it waits for its own end: it is one of the runs that drain, so it is cancelled
    /// when the deadline has passed, and aborted `shutdown_abort_after` later. To stop the scheduler from a
    /// body, leave the waiting to a task of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        self.engine.shutdown(deadline).await
    }

    /// Stops at once: what runs is cancelled and aborted without a wait, also in a
    /// [`shutdown`](Self::shutdown) that is under way. The store is told all the same, so that other nodes
    /// take over; one that does not answer is waited for 3 s at most. Returns when every thread of the engine
    /// has ended, with the same report.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown_now(&self) -> ShutdownReport {
        self.engine.shutdown_now().await
    }

    /// Sends a message to the supervisor, whichever [backend](Builder::backend_named) it concerns, and waits for the
    /// answer. What concerns the node goes to the supervisors of all backends, whose answers are put together.
    ///
    /// ```
    /// use callsheet::{JobDetails, prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("sweep", every(std::time::Duration::from_mins(5))).run(async |_| {});
    /// let jobs = Callsheet::builder().job(job).start().await?;
    ///
    /// assert!(jobs.ask(JobDetails("sweep".to_owned())).await?.is_some());
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// That of the method of this handle that sends such a message.
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, Error>
    where
        M: Routed,
        SupervisorActor: Handler<M>,
    {
        self.engine.ask(message).await.map_err(|_| Error::Stopped)
    }
}
