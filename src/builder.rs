//! From definitions to a running scheduler.

mod tasks;

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    Engine, EngineOptions, Event, EventFilter, Faults, FinishedRun, HistoryOptions, IntoRecipient,
    IntoRunResult, Job, MayLead, OverdueAlarm, Run, SkippedTicks, StartError, WhenFull,
    port::{Backend, Clock, RuntimeSpawner, Spawner, SystemClock},
};

use tokio::task::LocalSet;

use crate::{
    backend::Local,
    handle::Callsheet,
    schedule::{Definition, IntoSchedule, zone_data_version},
};

/// Collects jobs and options. Nothing here fails; [`start`](Self::start) and [`check`](Self::check) report
/// every fault of every definition together.
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    pub(crate) options: EngineOptions,
    pub(crate) backend: Option<Arc<dyn Backend>>,
}

impl Default for Builder {
    fn default() -> Self {
        // Replaced by the backend that is in force when it starts.
        let clock = Arc::new(SystemClock::default());
        Self { options: EngineOptions::new(Arc::new(Local::new(clock))), backend: None }
    }
}

impl Builder {
    /// Adds a job.
    pub fn job(mut self, job: Job) -> Self {
        self.options.jobs.push(job);
        self
    }

    /// Adds jobs.
    pub fn jobs(mut self, jobs: impl IntoIterator<Item = Job>) -> Self {
        self.options.jobs.extend(jobs);
        self
    }

    /// Sets where nodes coordinate. Default: [`Local`], this process alone.
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.backend = Some(Arc::new(backend));
        self
    }

    /// Adds a backend for the jobs that choose it by this name with [`Job::on`]: jobs that need another store than the
    /// rest. Default: none; at most 8 ([`NAMED_BACKENDS_MAX`](crate::NAMED_BACKENDS_MAX)).
    ///
    /// On each backend this node has an engine with a session, an election, a clock offset, a history and threads of
    /// its own: what holds of a store holds of the jobs on it, whatever becomes of the others. The handle finds the
    /// backend of a job. The guide to [backends](crate::guide::backends) says what is shared.
    ///
    /// The name has 1 to 100 bytes without control characters.
    ///
    /// ```
    /// use callsheet::{backend::Local, port::SystemClock, prelude::*};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // An application has `Postgres::new(..)` here, and `Redis::new(..)` as its backend.
    /// let critical = Local::new(std::sync::Arc::new(SystemClock::default()));
    /// let jobs = Callsheet::builder()
    ///     .backend_named("critical", critical)
    ///     .job(Job::new("invoices", cron("0 3 * * *")).on("critical").run(async |_| {}))
    ///     .job(Job::new("cleanup", cron("0 4 * * *")).run(async |_| {}))
    ///     .start()
    ///     .await?;
    ///
    /// assert_eq!(jobs.details("invoices").await?.backend.as_deref(), Some("critical"));
    /// assert_eq!(jobs.details("cleanup").await?.backend, None);
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn backend_named(mut self, name: impl Into<Arc<str>>, backend: impl Backend) -> Self {
        self.options.named.push((name.into(), Arc::new(backend)));
        self
    }

    /// Sets what people call this node: at most 200 bytes without control characters. Default: it has no name.
    ///
    /// The log, the [health](crate::HealthReport::name) and what the store keeps of its session show it. It decides
    /// nothing: nodes of one name are different nodes.
    pub fn node_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.options.node_name = name.into();
        self
    }

    /// Adds an actor that hears every event, from the first on. One that does not keep up loses events, and
    /// they are counted; see [`SUBSCRIBER_EVENTS_MAX`](crate::SUBSCRIBER_EVENTS_MAX). Default: none.
    pub fn listen(self, listener: impl IntoRecipient<Event>) -> Self {
        self.listen_to(EventFilter::new(), listener)
    }

    /// Adds an actor that hears the events that pass a filter, from the first on. Default: none.
    pub fn listen_to(mut self, filter: EventFilter, listener: impl IntoRecipient<Event>) -> Self {
        self.options.listeners.push((filter, listener.into_recipient()));
        self
    }

    /// Adds a hook that is called once before the body of each run of every job. The hooks of the job itself
    /// come after it.
    ///
    /// It runs in the task of the run, where bodies run, and returns nothing or a `Result`. An error vetoes
    /// the run. So does a hook that panics, or that takes longer than the [hook timeout](Self::hook_timeout):
    /// it is there to protect something, so it fails closed. Its time counts as the run's: the timeout of the
    /// job is running.
    ///
    /// A run that is vetoed ends as cancelled, with the reason in
    /// [`RunCancelled`](crate::EventKind::RunCancelled). Its tick is claimed and done.
    pub fn before<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Run) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.options.hooks.before.add(hook);
        self
    }

    /// Adds a hook that is called after each run of every job that succeeded. The lock key of the run is free
    /// by then.
    ///
    /// It delays nothing, and changes nothing. An error that it returns, a panic, and taking longer than the
    /// [hook timeout](Self::hook_timeout) are logged, and counted in `callsheet_hooks_failed_total`.
    ///
    /// The calls of one job are made one after the other. Up to [`HOOK_CALLS_MAX`](crate::HOOK_CALLS_MAX)
    /// wait, with errors of up to [`HOOK_CALL_BYTES_MAX`](crate::HOOK_CALL_BYTES_MAX) bytes; the others are
    /// dropped, and counted. A shutdown waits for them until its deadline.
    pub fn after_success<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(FinishedRun) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.options.hooks.after_success.add(hook);
        self
    }

    /// Adds a hook that is called after each run of every job that started and failed, panicked, timed out or
    /// was cancelled.
    ///
    /// It is not called for an attempt that is followed by another one. Otherwise it is as
    /// [`after_success`](Self::after_success).
    pub fn after_failure<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(FinishedRun) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.options.hooks.after_failure.add(hook);
        self
    }

    /// Adds a hook that is called when ticks of any job were skipped on this node. Otherwise it is as
    /// [`after_success`](Self::after_success).
    pub fn on_skip<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(SkippedTicks) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.options.hooks.on_skip.add(hook);
        self
    }

    /// Adds a hook that is called when any job does not do in time what is [expected](crate::Expectation) of it:
    /// on each node that has the job. Otherwise it is as [`after_success`](Self::after_success).
    pub fn on_overdue<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(OverdueAlarm) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.options.hooks.on_overdue.add(hook);
        self
    }

    /// Sets how long each hook may take, unless its job says otherwise; 1 ms to 1 h. Default: 10 s. A hook
    /// that blocks its thread is noticed when it returns.
    pub fn hook_timeout(mut self, timeout: Duration) -> Self {
        self.options.hooks.set_timeout(timeout);
        self
    }

    /// Sets the number of threads for job actors and their timers, 1 to 256. Default: the number of
    /// processors, at most 4. [`start_on`](Self::start_on) uses none.
    pub fn arbiters(mut self, threads: usize) -> Self {
        self.options.arbiters = threads;
        self
    }

    /// Sets the number of threads of the engine's own runtime for bodies, 1 to 256. Default: the number of
    /// processors.
    ///
    /// One thread more is for bodies that are quick: a job's body begins there if it was over within 20 µs when
    /// it ran last, or has not run yet. If it blocks that thread, those behind it go elsewhere after 4 ms.
    pub fn body_threads(mut self, threads: usize) -> Self {
        self.options.body_threads = threads;
        self
    }

    /// Sets the number of threads for bodies that are not `Send`, 1 to 256. Default: 1.
    pub fn local_body_threads(mut self, threads: usize) -> Self {
        self.options.local_body_threads = threads;
        self
    }

    /// Sets the greatest number of threads for bodies that [block](crate::Job::run_blocking), 1 to 256.
    /// Default: 64 ([`BLOCKING_THREADS_DEFAULT`](crate::BLOCKING_THREADS_DEFAULT)).
    ///
    /// They are started when they are needed, and end after 10 s without work. After
    /// [`start_on`](Self::start_on) they are those of the caller's runtime, and this bounds nothing.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.options.blocking_threads = threads;
        self
    }

    /// Runs bodies on this runtime. Default: one of the engine's own. Connections that a body opens die with
    /// the runtime that they were opened on.
    pub fn bodies_on(self, runtime: tokio::runtime::Handle) -> Self {
        self.spawner(RuntimeSpawner::new(runtime))
    }

    /// Runs bodies where this spawner says. Default: a runtime of the engine's own.
    pub fn spawner(mut self, spawner: impl Spawner) -> Self {
        self.options.spawner = Some(Arc::new(spawner));
        self
    }

    /// Sets the clocks. Default: the operating system's. They are compared when the system says that
    /// one was set, and now and then: see [`Clock::next_look`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.options.clock = Arc::new(clock);
        self
    }

    /// Sets the greatest number of `name` labels in metrics that are in use at once. Default: 1,000. Jobs
    /// that find none free share the label `_other`.
    ///
    /// The jobs that the scheduler starts with take theirs first and keep them. Others take what is free when
    /// they are added, and free it when they are removed. Series stay in a recorder for ever, so there are at
    /// most four times as many labels in the life of a process; a job that is added again goes on with its
    /// series. Jobs that fire once share `_once`. [`Job::metrics_label`] groups jobs under one label.
    pub fn job_labels_max(mut self, names: usize) -> Self {
        self.options.job_labels_max = names;
        self
    }

    /// Sets how many bytes of a body's error with its causes, of the message of a panic, and of the veto of a hook
    /// are quoted: in events, and in what hooks are told. From 256 to 262,144. Default: 16,384
    /// ([`ERROR_BYTES_DEFAULT`](crate::ERROR_BYTES_DEFAULT)).
    ///
    /// A longer one is cut, and `… (cut at 16,384 bytes)` behind it says so. The whole text is never built. While
    /// the errors of runs that have ended, and whose ends the store has not recorded yet, take 16 MiB of a node
    /// ([`WAITING_ERROR_BYTES_MAX`](crate::WAITING_ERROR_BYTES_MAX)), further ones are cut at 256 bytes.
    pub fn error_bytes_max(mut self, bytes: usize) -> Self {
        self.options.error_bytes_max = bytes;
        self
    }

    /// Expects that each tick of every job starts within this time of its fire time, 1 s to 100 years, unless a
    /// policy skips it: else the job is overdue, on each node that has it. Default: nothing is expected. A job may
    /// have [its own time](crate::Job::expect_start_within). See the guide to
    /// [alerts](crate::guide::alerts).
    pub fn overdue_after(mut self, time: Duration) -> Self {
        self.options.overdue_after = Some(time);
        self
    }

    /// Sets the time between cancelling and aborting the runs that did not drain at shutdown. Default: 5 s. 0
    /// aborts them at once; [`Duration::MAX`] never does.
    pub fn shutdown_abort_after(mut self, time: Duration) -> Self {
        self.options.shutdown_abort_after = time;
        self
    }

    /// Sets how many runs may be in progress on this node at once, at least 1. Default: no bound. Others
    /// [wait](Self::when_full). The pauses between the attempts of a run do not count.
    pub fn max_concurrent_runs(mut self, runs: usize) -> Self {
        self.options.max_concurrent_runs = Some(runs);
        self
    }

    /// Sets what happens to a tick or a trigger that finds
    /// [as many runs in progress](Self::max_concurrent_runs) as may be. Default: it waits.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.options.when_full = when_full;
        self
    }

    /// Sets how many missed ticks this node makes up for in a second, so that the jobs that come back together
    /// after a downtime do not start together; 1 to 1,000,000, `None` is no bound. Default: 1,000
    /// ([`CATCH_UP_PER_SECOND_DEFAULT`](crate::CATCH_UP_PER_SECOND_DEFAULT)).
    ///
    /// A tick that is late by more than [`misfire_after`](crate::Job::misfire_after) when this node begins to decide
    /// its job's ticks, when the machine wakes up, or when the pause of its job ends, waits for its turn; the one
    /// whose [misfire window](crate::Misfire) ends soonest is first, one without an end last. If the window ends
    /// meanwhile, or before it gets a permit, it is skipped, with the reason `misfire`. Unless each missed tick is to
    /// run ([`Misfire::All`](crate::Misfire::All)), the next tick on time takes its place. A tick on time waits for
    /// nobody's turn, and neither does one that is late because the node is busy. Turns that are less than 10 ms
    /// apart are given together.
    ///
    /// The leader claims the ticks of all [`Leader`](crate::Fires::Leader) jobs, so its pace is that of the
    /// cluster. Of [`AnyNode`](crate::Fires::AnyNode) jobs, of those that the leader does not have, and of
    /// [`Local`](crate::Fires::Local) ones, each node has its own pace: n nodes start up to n times as many.
    /// [`HealthReport::catching_up`](crate::HealthReport::catching_up) says how many jobs wait.
    ///
    /// # By when it is the turn of a tick
    ///
    /// The jobs that ask within 30 s of the first of them have one bound. It is fixed when these 30 s are over: the
    /// time that all who wait then take at this pace, and a second. What asks later and comes first, since its window
    /// ends sooner, does not move it. Within the bound a tick is not overdue. Beyond it, its alarm goes off, and it is
    /// [`TicksUndecided`](crate::Problem::TicksUndecided) in the health; other nodes hear of it from the leader. If it
    /// happens, more is missed than the pace makes up for: raise it.
    pub fn catch_up_per_second(mut self, ticks: impl Into<Option<u32>>) -> Self {
        self.options.catch_up_per_second = ticks.into();
        self
    }

    /// Sets how long [`start`](Self::start) waits for the store, at least 1 ms. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = Some(timeout);
        self
    }

    /// Sets how far this node's wall clock may be from the store's if it is to lead, at least 1 ms. Default:
    /// 5 min.
    ///
    /// Ticks are decided in the store's time, whatever this node's clock says. A clock that is further off is
    /// broken, and bodies read it as well: the node then leaves the lead to others, and says so. More than 1
    /// s is logged as a warning. The metric is `callsheet_clock_offset_seconds`.
    pub fn clock_offset_max(mut self, offset: Duration) -> Self {
        self.options.clock_offset_max = offset;
        self
    }

    /// Adds a check of the application's own whether this node may lead. Default: none.
    ///
    /// It is asked before the node campaigns, and again with each renewal of its term. A leader that hears a
    /// no resigns at once, and no tick is lost. A check that panics, or takes longer than 2 s
    /// ([`MAY_LEAD_TIMEOUT`](crate::MAY_LEAD_TIMEOUT)), says no. It runs where bodies run, and delays
    /// nothing.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// use callsheet::prelude::*;
    ///
    /// static IN_MAINTENANCE: AtomicBool = AtomicBool::new(false);
    ///
    /// let builder = Callsheet::builder().may_lead(async || !IN_MAINTENANCE.load(Ordering::Relaxed));
    /// # assert!(builder.check().is_ok());
    /// ```
    pub fn may_lead<F, Fut>(mut self, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        self.options.may_lead = Some(MayLead::new(check));
        self
    }

    /// Lets this node lead only while no other node stands as a candidate. Default: off.
    ///
    /// If another one stands, this one does not campaign, and resigns if it leads. It is a preference, not a
    /// refusal: alone, or among others that prefer the same, it leads.
    pub fn prefer_not_to_lead(mut self) -> Self {
        self.options.prefer_not_to_lead = true;
        self
    }

    /// Sets how long this node does not campaign after it was asked to [resign](Callsheet::resign), at least
    /// 1 s. Default: 30 s. It campaigns earlier if another node leads before.
    pub fn resign_pause(mut self, pause: Duration) -> Self {
        self.options.resign_pause = pause;
        self
    }

    /// Sets how long the name of a job or a lock key stays in the store once nobody uses it, at least 1 h.
    /// Default: 7 days.
    ///
    /// A name is out of use when it was removed, or when no node has held it while somebody led. Time counts
    /// only while somebody leads, so a cluster that is off forgets nothing. What has an open run, a pending
    /// retry or a pause is kept. Forgetting opens no tick again and lowers no token; a job that comes back
    /// later has ticks from then on. Nodes of one scope should be told the same.
    pub fn forget_after(mut self, after: Duration) -> Self {
        self.options.forget_after = after;
        self
    }

    /// Sets whether a history is kept, where, and how much of it: see [`HistoryOptions`]. Default: where the
    /// backend keeps one. [`Local`] keeps the newest runs and decisions in memory; `Postgres` keeps them in
    /// tables beside those that it decides by.
    ///
    /// Nothing ever waits for it: what it does not take in time is dropped, and counted in
    /// `callsheet_history_dropped_total`.
    ///
    /// ```
    /// use callsheet::{HistoryOptions, prelude::*};
    ///
    /// let mut history = HistoryOptions::default();
    /// history.memory.runs = 1_000;
    /// let builder = Callsheet::builder().history(history);
    /// # assert!(builder.check().is_ok());
    /// ```
    pub fn history(mut self, history: HistoryOptions) -> Self {
        self.options.history = history;
        self
    }

    /// Checks the options and the definitions of all jobs.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once.
    pub fn check(&self) -> Result<(), Faults> {
        let mut faults = self.options.check().map_err(Faults::into_vec).err().unwrap_or_default();
        faults.extend(self.backend.iter().flat_map(|backend| backend.faults()));
        Faults::check(faults)
    }

    /// Starts the engine. Works in any runtime and in none: the engine has threads of its own.
    ///
    /// Returns when the store has opened a session and every job is added. A store that cannot be reached is
    /// tried again until the [connect timeout](Self::connect_timeout) is over.
    ///
    /// # Errors
    ///
    /// [`StartError`]: everything that is wrong with the definitions at once, or why the engine could not
    /// start. [`StartError::Refused`] comes at once: waiting would not help.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what was started, without waiting for it.
    pub async fn start(self) -> Result<Callsheet, StartError> {
        Engine::start(self.into()).await.map(Callsheet::new)
    }

    /// Starts every actor on a `LocalSet` of the caller, and no thread. Jobs fire only while the local set
    /// runs: by [`run_until`](LocalSet::run_until), [`block_on`](LocalSet::block_on), or by awaiting it.
    /// Bodies run on the runtime of the caller, unless there is a [spawner](Self::spawner); the options that
    /// say how many threads there are mean nothing.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use callsheet::prelude::*;
    /// use tokio::task::LocalSet;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalSet::new();
    /// let hello = Job::new("hello", every(Duration::from_millis(10))).run(async |_| println!("hello"));
    /// let jobs = Callsheet::builder().job(hello).start_on(&local).await?;
    /// let stopped = async {
    ///     tokio::time::sleep(Duration::from_millis(25)).await;
    ///     jobs.shutdown(Duration::from_secs(1)).await
    /// };
    /// println!("{}", local.run_until(stopped).await);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start); [`StartError::NoRuntime`] outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what was started, without waiting for it.
    pub async fn start_on(self, local: &LocalSet) -> Result<Callsheet, StartError> {
        Engine::start_on(local, self.into()).await.map(Callsheet::new)
    }

    /// As [`start`](Self::start), but keeps trying for as long as the store cannot be reached or refuses this
    /// node. Each attempt that fails is logged as a warning with its reason, with pauses of up to 5 s
    /// between.
    ///
    /// # Errors
    ///
    /// [`StartError`], but never [`Unreachable`](StartError::Unreachable) or
    /// [`Refused`](StartError::Refused).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what was started, without waiting for it.
    pub async fn start_when_reachable(mut self) -> Result<Callsheet, StartError> {
        self.options.connect_timeout = None;
        self.start().await
    }

    /// As [`start_on`](Self::start_on), but keeps trying as
    /// [`start_when_reachable`](Self::start_when_reachable) does.
    ///
    /// # Errors
    ///
    /// [`StartError`], but never [`Unreachable`](StartError::Unreachable) or
    /// [`Refused`](StartError::Refused).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what was started, without waiting for it.
    pub async fn start_on_when_reachable(mut self, local: &LocalSet) -> Result<Callsheet, StartError> {
        self.options.connect_timeout = None;
        self.start_on(local).await
    }
}

/// What the engine is made of, for those who start it otherwise: the test kit's rig.
impl From<Builder> for EngineOptions {
    fn from(Builder { mut options, backend }: Builder) -> Self {
        options.zone_data = zone_data_version().into();
        options.backend = backend.unwrap_or_else(|| Arc::new(Local::new(options.clock.clone())));
        options.schedule_reader = Some(Arc::new(|json| {
            let schedule: Definition = serde_json::from_value(json).map_err(|error| error.to_string())?;
            schedule.into_schedule().map_err(|faults| faults.to_string())
        }));
        options
    }
}
