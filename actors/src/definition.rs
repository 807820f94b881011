//! What a job is: its name, schedule, policies and body.

mod checked;
mod of_task;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

pub(crate) use self::checked::Definition;
use crate::{
    body::{ActorBody, BlockingBody, FunctionBody, LocalBody},
    core::{
        alarm::Expectations,
        policy::{Fires, Misfire, OnLost, Overlap, Policies, Retry},
    },
    error::{Fault, Faults},
    hooks::{FinishedRun, Hooks, OverdueAlarm, SkippedTicks},
    port::{Body, IntoSchedule, Schedule},
    recipient::IntoRecipient,
    run::{IntoRunResult, Run},
    task::TaskCall,
};

/// The most tags of one job.
pub const TAGS_MAX: usize = 32;

/// A job that has no body yet.
#[derive(Debug, Clone, Copy)]
pub struct Bodiless;

/// The definition of a job. `Job::new` starts one, a `run…` method gives it its body.
///
/// Nothing here fails: what is wrong with the definition is said, all at once, by [`check`](Job::check) and
/// by whoever the job is added to.
///
/// ```
/// # use callsheet_actors::{Job, port::{IntoSchedule, Schedule}};
/// # fn hello(schedule: impl IntoSchedule) -> Job {
/// Job::new("hello", schedule)
///     .tag("greeting")
///     .timeout(std::time::Duration::from_secs(10))
///     .run(async |run| println!("{run:?}"))
/// # }
/// ```
#[derive(Clone)]
pub struct Job<B = SharedBody> {
    name: String,
    former_name: Option<String>,
    lock_key: Option<String>,
    tags: Vec<String>,
    metrics_label: Option<String>,
    backend: Option<Arc<str>>,
    schedule: Result<Arc<dyn Schedule>, Faults>,
    policies: Policies,
    hooks: Option<Box<Hooks>>,
    expected: Expectations,
    remove_when_done: bool,
    /// It takes the place of the body.
    task: Option<Box<Result<TaskCall, Fault>>>,
    body: B,
}

impl Job<Bodiless> {
    /// A job with default policies.
    ///
    /// The name is 1 to 200 bytes without control characters, unique within the scope.
    pub fn new(name: impl Into<String>, schedule: impl IntoSchedule) -> Self {
        let name = name.into();
        Self {
            schedule: schedule_of(&name, schedule),
            name,
            former_name: None,
            lock_key: None,
            tags: Vec::new(),
            metrics_label: None,
            backend: None,
            policies: Policies::default(),
            hooks: None,
            expected: Expectations::default(),
            remove_when_done: false,
            task: None,
            body: Bodiless,
        }
    }

    /// Runs an async closure or function, on the threads for bodies. It returns nothing or a `Result`.
    ///
    /// A closure that captures state is not `Fn` when it is `async move`: use [`run_with`](Self::run_with).
    pub fn run<F, Fut>(self, body: F) -> Job
    where
        // The compiler quotes these lines where a body does not meet them.
        F: Fn(Run) -> Fut + Send + Sync + 'static, // does it use a variable from outside? give it to `run_with`
        Fut: Future + Send + 'static,              // is something in it not `Send`? use `run_local`
        Fut::Output: IntoRunResult,
    {
        self.body(Arc::new(FunctionBody(body)))
    }

    /// Runs an async function with a state, which is cloned for each run.
    pub fn run_with<S, F, Fut>(self, state: S, body: F) -> Job
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(Run, S) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static, // is something in it not `Send`? use `run_local`
        Fut::Output: IntoRunResult,
    {
        self.run(move |run| body(run, state.clone()))
    }

    /// Runs an async closure or function whose futures are not `Send`. They are made and polled on arbiters
    /// of their own, each a single thread: a body that blocks delays the other local bodies.
    pub fn run_local<F, Fut>(self, body: F) -> Job
    where
        F: Fn(Run) -> Fut + Send + Sync + 'static,
        Fut: Future + 'static,
        Fut::Output: IntoRunResult,
    {
        self.body(Arc::new(LocalBody::new(body)))
    }

    /// Runs a function that blocks: it computes, or waits for files, for processes, for a synchronous client.
    ///
    /// It runs on a bounded number of threads of its own kind, and delays no other body. While all of them
    /// are busy, its run waits for one, and its [timeout](Self::timeout) is running.
    ///
    /// It cannot be aborted, since nobody can take a function off its thread. It may look at
    /// [`Run::is_cancelled`] now and then. After an abort the run keeps its lock key and is shown as
    /// [still running](crate::JobState::StillRunning) until the function returns; one whose function has not
    /// begun by then ends at once. A shutdown leaves behind what does not return.
    pub fn run_blocking<F, R>(self, body: F) -> Job
    where
        F: Fn(Run) -> R + Send + Sync + 'static,
        R: IntoRunResult + 'static,
    {
        self.body(Arc::new(BlockingBody::new(body)))
    }

    /// Sends each [`Run`] to an actor of the application, which answers when it is done.
    ///
    /// It cannot be aborted: after an abort the run keeps its lock key until the actor answers. An actor that
    /// stopped or panicked has a closed mailbox for good; each run then fails with
    /// [`ActorGone`](crate::ActorGone).
    pub fn run_actor(self, actor: impl IntoRecipient<Run>) -> Job {
        self.body(Arc::new(ActorBody(actor.into_recipient())))
    }

    /// Runs anything that implements the port [`Body`].
    pub fn body(self, body: Arc<dyn Body>) -> Job {
        self.with_body(SharedBody(Some(body)))
    }

    pub(crate) fn with_body(self, body: SharedBody) -> Job {
        let Self {
            name,
            former_name,
            lock_key,
            tags,
            metrics_label,
            backend,
            schedule,
            policies,
            hooks,
            expected,
            remove_when_done,
            task,
            body: Bodiless,
        } = self;
        Job {
            name,
            former_name,
            lock_key,
            tags,
            metrics_label,
            backend,
            schedule,
            policies,
            hooks,
            expected,
            remove_when_done,
            task,
            body,
        }
    }
}

/// The schedule of the job of this name.
fn schedule_of(name: &str, schedule: impl IntoSchedule) -> Result<Arc<dyn Schedule>, Faults> {
    schedule.into_schedule().map(|schedule| schedule.for_job(name).unwrap_or(schedule))
}

/// A body that is shared by the definition and the runs of a job.
///
/// What an application's body captured is dropped with it, on whatever thread holds the last share. A panic
/// there (a runtime that is dropped in async code, say) is contained, so that it takes no actor along.
#[derive(Clone, Default)]
pub struct SharedBody(Option<Arc<dyn Body>>);

impl SharedBody {
    pub(crate) fn get(&self) -> &dyn Body {
        self.0.as_deref().expect("invariant: a job that was checked has a body until it is dropped")
    }
}

impl Drop for SharedBody {
    fn drop(&mut self) {
        let body = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(body))).is_err() {
            tracing::error!(target: "callsheet", "what the body of a job captured panicked when it was dropped");
        }
    }
}

impl<B> Job<B> {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name of its backend; `None` is the default one.
    pub(crate) fn backend(&self) -> Option<&str> {
        self.backend.as_deref()
    }

    pub(crate) fn set_schedule(&mut self, schedule: impl IntoSchedule) {
        self.schedule = schedule_of(&self.name, schedule);
    }

    pub(crate) fn policies_mut(&mut self) -> &mut Policies {
        &mut self.policies
    }

    pub(crate) fn expected_mut(&mut self) -> &mut Expectations {
        &mut self.expected
    }

    pub(crate) fn set_task(&mut self, task: Result<TaskCall, Fault>) {
        self.task = Some(Box::new(task));
    }

    /// Sets which nodes fire the job. Default: [`Fires::Leader`].
    #[must_use]
    pub fn fires(mut self, fires: Fires) -> Self {
        self.policies.fires = fires;
        self
    }

    /// Sets what happens to a tick during a run of the same lock key. Default: [`Overlap::Skip`].
    #[must_use]
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.policies.overlap = overlap;
        self
    }

    /// Sets what happens to ticks whose time passed without a run. Default: [`Misfire::Auto`], one catch-up
    /// run within half the time to the tick after it.
    #[must_use]
    pub fn misfire(mut self, misfire: Misfire) -> Self {
        self.policies.misfire = misfire;
        self
    }

    /// Sets what happens to a run whose node died. Default: [`OnLost::Record`].
    #[must_use]
    pub fn on_lost(mut self, on_lost: OnLost) -> Self {
        self.policies.on_lost = on_lost;
        self
    }

    /// Sets the lateness up to which a tick is on time. Default: 1 s. The policy [`misfire`](Self::misfire)
    /// decides what becomes of a tick that is later.
    #[must_use]
    pub fn misfire_after(mut self, lateness: Duration) -> Self {
        self.policies.misfire_after = lateness;
        self
    }

    /// Sets what happens when an attempt of a run fails. Default: it is not tried again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.policies.retry = retry;
        self
    }

    /// Sets how long an attempt of a run may take, at least 1 ms. Default: no limit. It is then cancelled,
    /// and aborted [`abort_after`](Self::abort_after) later.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.policies.timeout = Some(timeout);
        self
    }

    /// Sets the time between cancelling a run and aborting it. Default: 5 s. 0 aborts it at once;
    /// [`Duration::MAX`] never does.
    #[must_use]
    pub fn abort_after(mut self, time: Duration) -> Self {
        self.policies.abort_after = time;
        self
    }

    /// Sets how many ticks run in all, counted in the whole cluster, at least 1. Default: no limit. The job
    /// is then exhausted. Skipped ticks and manual triggers do not count.
    #[must_use]
    pub fn limit(mut self, runs: u64) -> Self {
        self.policies.limit = Some(runs);
        self
    }

    /// Pauses the job after so many runs in a row that failed, panicked or timed out, at least 1. Default:
    /// never. Cancelled and lost runs are passed over.
    #[must_use]
    pub fn pause_after(mut self, failures: u32) -> Self {
        self.policies.pause_after = Some(failures);
        self
    }

    /// Sets who goes first when more runs want to start than their node may run at once: the greater.
    /// Default: 0.
    #[must_use]
    pub fn priority(mut self, priority: i8) -> Self {
        self.policies.priority = priority;
        self
    }

    /// Removes the job once it is done. Default: it stays, as [exhausted](crate::JobState::Exhausted).
    ///
    /// It is done when no fire time is left (its schedule is exhausted, or its [limit](Self::limit) of runs
    /// is reached), every due tick is decided, and its last run has ended, however it did, after all of its
    /// attempts. [`JobRemoved`](crate::EventKind::JobRemoved) says so.
    ///
    /// For jobs that are added at runtime and fire once: their names are free again. A node removes the job
    /// from itself only, in its process, and only while it fires the job. Another node that has the job
    /// keeps it until it comes to fire it.
    ///
    /// A job with a limit that is done is done on every node: the copies that nodes had before its last tick
    /// go on with its count, find that it is reached, and are removed as well. A job that is added later
    /// begins a new count, unless such a copy, or [`Fires::AnyNode`], keeps the former one in the store:
    /// until it is forgotten ([`forget_after`](crate::EngineOptions::forget_after)).
    ///
    /// With [`OnLost::Retry`] only the node on which the last run ended removes the job. Every other node
    /// keeps it, as exhausted, so that the run goes on there if it is lost. Nor is the job removed where its
    /// node cannot know that no run is in progress elsewhere: if it skipped the last tick and ran nothing of
    /// the job since it began to fire it, or under [`Overlap::Allow`] with more than one slot. What is kept
    /// so stays until [`RemoveJobs`](crate::RemoveJobs) removes it or its process ends.
    ///
    /// ```
    /// # use callsheet_actors::{Job, port::IntoSchedule};
    /// # fn reminder(in_an_hour: impl IntoSchedule) -> Job {
    /// Job::new("reminder 17", in_an_hour).metrics_label("reminder").remove_when_done().run(async |_| { /* … */ })
    /// # }
    /// ```
    #[must_use]
    pub fn remove_when_done(mut self) -> Self {
        self.remove_when_done = true;
        self
    }

    /// Puts the job on a backend of this [name](crate::EngineOptions::named) instead of the default one: a job that
    /// needs another store than the rest. Default: the default backend.
    ///
    /// There it has its leader, its cursor, its lock key and its history. It stays there: a definition that names
    /// another backend does not take its place.
    #[must_use]
    pub fn on(mut self, backend: impl Into<Arc<str>>) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// Says which name the job had before, so that it goes on as the same job. Default: it is another job than those of
    /// other names.
    ///
    /// The store moves what it keeps of the job from the former name to this one, at once: how far its ticks are
    /// decided, how many ran, its pause, its failures in a row, its pending retries, and its fencing token. While
    /// another node fires the job under the former name, or a run of that name goes on, this one waits: it is
    /// [`Conflicting`](crate::JobState::Conflicting) and says who fires the other one. It asks again about every 5 s.
    /// A node that still has the former name waits in the same way while this one is fired; once nobody fires it, that
    /// node takes everything back. So a tick runs under one of the two names, also while a new version is rolled out or
    /// back.
    ///
    /// Leave it in until no node has the former name any more, nor could be started with it. A node has no job of the
    /// former name beside this one, and no other job that had it. What is not moved: the history of its runs,
    /// backfills, an operator's schedule, metrics. The former name is one on the same [backend](Self::on). The backend
    /// needs [`Renames`](crate::port::Capability::Renames): PostgreSQL and the embedded one have it.
    ///
    /// ```
    /// # use callsheet_actors::{Job, port::IntoSchedule};
    /// # fn sweep(nightly: impl IntoSchedule) -> Job {
    /// Job::new("sweep", nightly).formerly("cleanup").run(async |_| { /* … */ })
    /// # }
    /// ```
    #[must_use]
    pub fn formerly(mut self, name: impl Into<String>) -> Self {
        self.former_name = Some(name.into());
        self
    }

    /// Sets the lock key, 1 to 200 bytes, by which runs exclude each other. Default: the job's name. Jobs
    /// with the same key do not overlap, on any node, and share one overlap policy: see [`Overlap`].
    #[must_use]
    pub fn lock_key(mut self, key: impl Into<String>) -> Self {
        self.lock_key = Some(key.into());
        self
    }

    /// Adds a label by which jobs are selected together, at most 32 ([`TAGS_MAX`]). Default: none.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Sets the label `name` of its metrics: 1 to 200 bytes as a name has, not beginning with `_`. Jobs of
    /// one label share their series, so thousands that come and go need one: `reminder`.
    ///
    /// Default: the job's name; of a job that fires once (at one instant, or with a [limit](Self::limit) of
    /// 1) `_once`, which all of these share. Where no label is free, it is `_other`.
    #[must_use]
    pub fn metrics_label(mut self, label: impl Into<String>) -> Self {
        self.metrics_label = Some(label.into());
        self
    }

    /// Adds a hook that is called once before the body of each run. The hooks of all jobs come first.
    ///
    /// It runs in the task of the run, where bodies run, and returns nothing or a `Result`. An error vetoes
    /// the run. So does a hook that panics, or that takes longer than the [hook timeout](Self::hook_timeout):
    /// it is there to protect something, so it fails closed. Its time counts as the run's: the timeout of the
    /// job is running.
    ///
    /// A run that is vetoed ends as cancelled, with the reason in
    /// [`RunCancelled`](crate::EventKind::RunCancelled). Its tick is claimed and done.
    #[must_use]
    pub fn before<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Run) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.hooks.get_or_insert_default().before.add(hook);
        self
    }

    /// Adds a hook that is called after each run that succeeded. Its lock key is free by then.
    ///
    /// It delays nothing, and changes nothing. An error that it returns, a panic, and taking longer than the
    /// [hook timeout](Self::hook_timeout) are logged, and counted in `callsheet_hooks_failed_total`.
    ///
    /// The calls of one job are made one after the other. Up to [`HOOK_CALLS_MAX`](crate::HOOK_CALLS_MAX)
    /// wait, with errors of up to [`HOOK_CALL_BYTES_MAX`](crate::HOOK_CALL_BYTES_MAX) bytes; the others are
    /// dropped, and counted. A shutdown waits for them until its deadline.
    #[must_use]
    pub fn after_success<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(FinishedRun) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.hooks.get_or_insert_default().after_success.add(hook);
        self
    }

    /// Adds a hook that is called after each run that started and failed, panicked, timed out or was
    /// cancelled.
    ///
    /// It is not called for an attempt that is followed by another one. Otherwise it is as
    /// [`after_success`](Self::after_success).
    #[must_use]
    pub fn after_failure<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(FinishedRun) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.hooks.get_or_insert_default().after_failure.add(hook);
        self
    }

    /// Adds a hook that is called when ticks were skipped on this node. Otherwise it is as
    /// [`after_success`](Self::after_success).
    #[must_use]
    pub fn on_skip<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(SkippedTicks) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.hooks.get_or_insert_default().on_skip.add(hook);
        self
    }

    /// Adds a hook that is called when the job does not do in time what is [expected](crate::Expectation) of
    /// it: on each node that has the job. Otherwise it is as [`after_success`](Self::after_success).
    #[must_use]
    pub fn on_overdue<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(OverdueAlarm) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.hooks.get_or_insert_default().on_overdue.add(hook);
        self
    }

    /// Sets how long each hook of this job may take, 1 ms to 1 h. Default: that of the scheduler, 10 s. A
    /// hook that blocks its thread is noticed when it returns.
    #[must_use]
    pub fn hook_timeout(mut self, timeout: Duration) -> Self {
        self.hooks.get_or_insert_default().set_timeout(timeout);
        self
    }

    /// Expects that a run succeeds again within this time of the last success, 1 s to 100 years. Default: not
    /// expected. Before the first success it counts from when this node has the job, and with a history that
    /// outlives the process from the last success that it knows. See [`Expectation`](crate::Expectation).
    #[must_use]
    pub fn expect_success_within(mut self, time: Duration) -> Self {
        self.expected.success = Some(time);
        self
    }

    /// Expects that the body of a tick starts within this time of its fire time, 1 s to 100 years, unless a
    /// policy skips the tick. Default: [`overdue_after`](crate::EngineOptions::overdue_after) of the engine. A
    /// node that does not fire the job notices it no sooner than two leases and the [time of a
    /// call](crate::CALL_DEADLINE) after the fire time. See [`Expectation`](crate::Expectation).
    #[must_use]
    pub fn expect_start_within(mut self, time: Duration) -> Self {
        self.expected.start = Some(time);
        self
    }

    /// Expects that each run ends within this time of its start, with all its attempts, 1 ms to 100 years.
    /// Default: not expected. It ends nothing: see [`timeout`](Self::timeout). Only the node that runs it
    /// notices. See [`Expectation`](crate::Expectation).
    #[must_use]
    pub fn expect_end_within(mut self, time: Duration) -> Self {
        self.expected.end = Some(time);
        self
    }

    /// Expects that a run which succeeds takes at least this time, 1 ms to 100 years, and less than
    /// [`expect_end_within`](Self::expect_end_within): one that is over at once may have done nothing.
    /// Default: not expected. Only the node that ran it notices. See [`Expectation`](crate::Expectation).
    #[must_use]
    pub fn expect_at_least(mut self, time: Duration) -> Self {
        self.expected.at_least = Some(time);
        self
    }
}
