//! Code of the application around the runs of a job, and at its skipped ticks.
//!
//! `before` hooks belong to the task of their run. The others are called by a task of their job, one after
//! the other in the order of what they are told, so that nothing waits for them; a bounded number of calls
//! waits. All of them run where bodies run. What they do wrong is contained and counted.

use std::{
    collections::VecDeque,
    fmt,
    mem::take,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, select},
};
use tokio::sync::{oneshot, watch};
use tracing::Instrument;

use crate::{
    byte_budget::{ByteBudget, Charge},
    core::{
        duration::DurationText,
        text::{TEXT_MAX, bounded},
    },
    error::Fault,
    event::{CancelReason, Outcome},
    event_log::Level,
    metrics::{HookFault, HookKind},
    name::JobName,
    node::{JobRef, Node},
    port::SkipReason,
    run::{IntoRunResult, Run, RunResult},
    run_task::message_of,
};

/// How long a hook may take unless told otherwise.
pub const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest time that a hook may be given.
pub const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
const HOOK_TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// The most calls of `after_success`, `after_failure` and `on_skip` hooks that may wait for the hooks of one
/// job. When they are that many, the newest is dropped, and counted.
pub const HOOK_CALLS_MAX: usize = 256;
/// The most bytes of errors in the calls that wait for the hooks of one job, and are under way. When they are
/// that many, the newest call that has an error is dropped, and counted.
pub const HOOK_CALL_BYTES_MAX: usize = 1024 * 1024;
/// The same for the hooks of all jobs of a node.
pub const NODE_HOOK_CALL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A run that ended, for the `after_success` and `after_failure` hooks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndedRun {
    /// The run, as its last attempt saw it.
    pub run: Run,
    /// How it ended.
    pub outcome: Outcome,
    /// The error of the last attempt with its causes, or the message of its panic.
    pub error: Option<Arc<str>>,
    /// Why it was cancelled, if it was.
    pub cancelled: Option<CancelReason>,
    /// How long the body took in its last attempt.
    pub took: Duration,
}

/// Ticks that passed without a run, for the `on_skip` hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedTicks {
    /// The job.
    pub job: JobName,
    /// The newest of them; for a misfire, the tick that runs in their place if there is one.
    pub fire_time: DateTime<Utc>,
    /// Why.
    pub reason: SkipReason,
    /// How many.
    pub count: u64,
    /// There may have been more: counting stopped at its bound.
    pub at_least: bool,
}

type Hook<T> = Arc<dyn Fn(T) -> BoxFuture<'static, RunResult> + Send + Sync>;

/// Hooks in the order in which they were added.
#[derive(Clone, Default)]
pub struct Hooks {
    before: Vec<Hook<Run>>,
    after_success: Vec<Hook<EndedRun>>,
    after_failure: Vec<Hook<EndedRun>>,
    on_skip: Vec<Hook<SkippedTicks>>,
    timeout: Option<Duration>,
}

impl Hooks {
    /// Adds a hook that is called once before the body of each run, and may veto it by an error.
    pub fn before<F, Fut>(&mut self, hook: F)
    where
        F: Fn(Run) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.before.push(boxed(hook));
    }

    /// Adds a hook that is called after each run that succeeded.
    pub fn after_success<F, Fut>(&mut self, hook: F)
    where
        F: Fn(EndedRun) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.after_success.push(boxed(hook));
    }

    /// Adds a hook that is called after each run that started and did not succeed.
    pub fn after_failure<F, Fut>(&mut self, hook: F)
    where
        F: Fn(EndedRun) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.after_failure.push(boxed(hook));
    }

    /// Adds a hook that is called when ticks were skipped.
    pub fn on_skip<F, Fut>(&mut self, hook: F)
    where
        F: Fn(SkippedTicks) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoRunResult,
    {
        self.on_skip.push(boxed(hook));
    }

    /// How long each of these hooks may take.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        let timeout = self.timeout.filter(|it| !(HOOK_TIMEOUT_MIN..=HOOK_TIMEOUT_MAX).contains(it))?;
        let rule = "a hook may take from 1 ms to 1 h";
        Some(Fault::new(
            "hook_timeout",
            DurationText(timeout).to_string(),
            rule,
            "choose a duration in this range, or leave it out for 10 s",
        ))
    }
}

impl Drop for Hooks {
    /// As with bodies: what an application's code captured may panic when it is dropped, on whatever thread
    /// that is.
    fn drop(&mut self) {
        let hooks = (
            take(&mut self.before),
            take(&mut self.after_success),
            take(&mut self.after_failure),
            take(&mut self.on_skip),
        );
        if catch_unwind(AssertUnwindSafe(|| drop(hooks))).is_err() {
            tracing::error!(target: "callsheet", "what a hook captured panicked when it was dropped");
        }
    }
}

fn boxed<T, F, Fut>(hook: F) -> Hook<T>
where
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoRunResult,
{
    Arc::new(move |told| hook(told).map(IntoRunResult::into_run_result).boxed())
}

/// What is wrong with a call of a hook, besides an error of its own.
enum Failure {
    Panic(String),
    Timeout(Duration),
}

impl Failure {
    fn fault(&self) -> HookFault {
        match self {
            Self::Panic(_) => HookFault::Panic,
            Self::Timeout(_) => HookFault::Timeout,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(message) => write!(f, "panicked: {message}"),
            Self::Timeout(timeout) => write!(f, "did not return within {}", DurationText(*timeout)),
        }
    }
}

/// Calls a hook, contained and bounded in time.
async fn call<T>(node: &Node, hook: &Hook<T>, timeout: Duration, told: T) -> Result<RunResult, Failure> {
    let hook = hook.clone();
    // It is called inside, so that one that panics before its first await is contained as well.
    let work = AssertUnwindSafe(async move { hook(told).await }).catch_unwind();
    match select(pin!(work), pin!(node.sleep(timeout))).await {
        Either::Left((Ok(result), _)) => Ok(result),
        Either::Left((Err(payload), _)) => Err(Failure::Panic(message_of(&*payload))),
        Either::Right(((), _)) => Err(Failure::Timeout(timeout)),
    }
}

impl JobRef {
    /// The hooks of all jobs, then those of this one, each with the time that it may take.
    fn hooks<T: 'static>(
        &self,
        which: fn(&Hooks) -> &[Hook<T>],
    ) -> impl Iterator<Item = (&Hook<T>, Duration)> {
        let of_all = &self.node.hooks;
        let timeout = of_all.timeout.unwrap_or(HOOK_TIMEOUT_DEFAULT);
        let own = self.definition.hooks.as_deref();
        let own = own.map(|own| (own, own.timeout.unwrap_or(timeout)));
        let each = move |(hooks, timeout)| which(hooks).iter().map(move |hook| (hook, timeout));
        [Some((of_all, timeout)), own].into_iter().flatten().flat_map(each)
    }

    /// Whether anybody is asked before its runs.
    pub(crate) fn has_before_hooks(&self) -> bool {
        self.hooks(|hooks| &hooks.before).next().is_some()
    }

    /// Whether anybody wants to hear how its runs end.
    pub(crate) fn has_after_hooks(&self) -> bool {
        let any = |which| self.hooks::<EndedRun>(which).next().is_some();
        any(|hooks| &hooks.after_success) || any(|hooks| &hooks.after_failure)
    }

    fn hook_failed(&self, hook: HookKind, reason: HookFault, failure: &dyn fmt::Display) {
        self.node.meters.hook_failed(hook, reason);
        let job = &self.definition.name;
        let line = format_args!("a hook of {job} failed: {hook}: {failure}");
        self.node.publisher.log("hook failed", Level::Warn, job, &line);
    }
}

/// Why the body of a run does not start: a veto and its reason, or that the run was told to stop.
pub(crate) type Refused = Option<Arc<str>>;

/// Calls the `before` hooks of a run, up to the first one that vetoes.
pub(crate) async fn admit(job: &Arc<JobRef>, run: &Run) -> Result<(), Refused> {
    let admitted = ask_before(job.clone(), run.clone());
    if !job.definition.body.get().elsewhere() {
        return admitted.await;
    }
    // The task of this run is on the thread of the job's timer, where nothing of the application must run.
    let (reply, answer) = oneshot::channel();
    let span = run.span().clone();
    // Nobody waits for it if the run's task is gone.
    job.node.spawner.spawn(async move { drop(reply.send(admitted.await)) }.instrument(span).boxed());
    answer.await.unwrap_or(Err(None))
}

async fn ask_before(job: Arc<JobRef>, run: Run) -> Result<(), Refused> {
    let all = async {
        for (hook, timeout) in job.hooks(|hooks| &hooks.before) {
            match call(&job.node, hook, timeout, run.clone()).await {
                Ok(Ok(())) => {}
                Ok(Err(veto)) => return Err(Some(bounded(veto, TEXT_MAX).into())),
                Err(failure) => {
                    job.hook_failed(HookKind::Before, failure.fault(), &failure);
                    return Err(Some(format!("a before hook {failure}").into()));
                }
            }
        }
        Ok(())
    };
    match select(pin!(all), pin!(run.cancelled())).await {
        Either::Left((Err(veto), _)) => Err(veto),
        Either::Left((Ok(()), _)) if !run.is_cancelled() => Ok(()),
        // A timeout is tried again, and hooks are called once: it must not get past them in this way.
        Either::Left(_) | Either::Right(_) if run.time_left() == Some(Duration::ZERO) => {
            Err(Some("the before hooks did not return before the timeout of the run".into()))
        }
        Either::Left(_) | Either::Right(_) => Err(None),
    }
}

/// What waits for the hooks of one job; made when something does. All incarnations of the job share it, so
/// that no two hooks run at once when it was changed or its actor was started again.
#[derive(Default)]
pub(crate) struct HookCalls(OnceLock<Arc<Mutex<Calls>>>);

impl HookCalls {
    /// The same queue, for what takes the job over.
    pub(crate) fn share(&self) -> Self {
        Self(OnceLock::from(self.queue().clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.queue().lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> &Arc<Mutex<Calls>> {
        self.0.get_or_init(Arc::default)
    }
}

/// What waits for the hooks of one job.
pub(crate) struct Calls {
    waiting: VecDeque<Call>,
    /// There is a task that makes them.
    working: bool,
    /// The bytes of those that wait, and of the one that is made.
    bytes: Arc<ByteBudget>,
}

impl Default for Calls {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), working: false, bytes: ByteBudget::new(HOOK_CALL_BYTES_MAX) }
    }
}

/// One call of the hooks that the job had when it happened.
struct Call {
    job: Arc<JobRef>,
    told: Told,
    /// Of the job, and of the node.
    charges: Option<[Charge; 2]>,
}

enum Told {
    Ended(Box<EndedRun>),
    Skipped(SkippedTicks),
}

impl Told {
    /// How many bytes its texts take.
    fn text_bytes(&self) -> usize {
        match self {
            Self::Ended(ended) => ended.error.as_ref().map_or(0, |error| error.len()),
            Self::Skipped(_) => 0,
        }
    }
}

impl Call {
    fn hook(&self) -> HookKind {
        match &self.told {
            Told::Ended(ended) if ended.outcome == Outcome::Succeeded => HookKind::AfterSuccess,
            Told::Ended(_) => HookKind::AfterFailure,
            Told::Skipped(_) => HookKind::OnSkip,
        }
    }

    async fn make(self) {
        let kind = self.hook();
        let Self { job, told, charges: _charges } = self;
        match told {
            Told::Ended(ended) => {
                let span = ended.run.span().clone();
                tell(&job, kind, after(ended.outcome), *ended).instrument(span).await;
            }
            Told::Skipped(ticks) => tell(&job, kind, |hooks| &hooks.on_skip, ticks).await,
        }
    }

    fn dropped(&self, why: &dyn fmt::Display) {
        self.job.hook_failed(self.hook(), HookFault::Dropped, why);
    }
}

async fn tell<T: Clone + 'static>(
    job: &JobRef,
    kind: HookKind,
    which: fn(&Hooks) -> &[Hook<T>],
    told: T,
) {
    for (hook, timeout) in job.hooks(which) {
        match call(&job.node, hook, timeout, told.clone()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => job.hook_failed(kind, HookFault::Error, &error),
            Err(failure) => job.hook_failed(kind, failure.fault(), &failure),
        }
    }
}

/// The hooks that hear of a run that ended so.
fn after(outcome: Outcome) -> fn(&Hooks) -> &[Hook<EndedRun>] {
    match outcome {
        Outcome::Succeeded => |hooks| &hooks.after_success,
        Outcome::Failed | Outcome::Panicked | Outcome::TimedOut | Outcome::Cancelled | Outcome::Lost => {
            |hooks| &hooks.after_failure
        }
    }
}

/// A run ended.
pub(crate) fn ended(job: &Arc<JobRef>, ended: EndedRun) {
    if job.hooks(after(ended.outcome)).next().is_some() {
        enqueue(job, Told::Ended(Box::new(ended)));
    }
}

/// Ticks were skipped.
pub(crate) fn skipped(job: &Arc<JobRef>, ticks: impl FnOnce(JobName) -> SkippedTicks) {
    if job.hooks(|hooks| &hooks.on_skip).next().is_some() {
        enqueue(job, Told::Skipped(ticks(job.definition.name.clone())));
    }
}

fn enqueue(job: &Arc<JobRef>, told: Told) {
    let mut call = Call { job: job.clone(), told, charges: None };
    let mut calls = job.hook_calls.lock();
    let refused = if calls.waiting.len() >= HOOK_CALLS_MAX {
        Some("too many calls wait for the hooks of this job")
    } else {
        let bytes = call.told.text_bytes();
        let charges = calls.bytes.charge(bytes).zip(job.node.hook_call_bytes.charge(bytes));
        call.charges = charges.map(|(of_job, of_node)| [of_job, of_node]);
        call.charges.is_none().then_some("the errors of the calls that wait for hooks take too many bytes")
    };
    if let Some(why) = refused {
        drop(calls);
        return call.dropped(&why);
    }
    calls.waiting.push_back(call);
    if take_over(&mut calls) {
        drop(calls);
        let worker =
            Worker { job: job.clone(), making: None, done: false, _alive: job.node.hooking.subscribe() };
        job.node.spawner.spawn(worker.work().boxed());
    }
}

/// Whether nobody makes the calls yet.
fn take_over(calls: &mut Calls) -> bool {
    !std::mem::replace(&mut calls.working, true)
}

/// Makes the calls of one job, until there are none.
struct Worker {
    job: Arc<JobRef>,
    /// The hook that is being called.
    making: Option<HookKind>,
    done: bool,
    /// A shutdown waits for it.
    _alive: watch::Receiver<()>,
}

impl Worker {
    async fn work(mut self) {
        while let Some(call) = self.next() {
            call.make().await;
        }
    }

    fn next(&mut self) -> Option<Call> {
        let mut calls = self.job.hook_calls.lock();
        let next = calls.waiting.pop_front();
        calls.working = next.is_some();
        self.done = next.is_none();
        self.making = next.as_ref().map(Call::hook);
        next
    }
}

impl Drop for Worker {
    /// If its runtime refused or dropped it, what waits is lost, and whoever comes next starts anew.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut calls = self.job.hook_calls.lock();
        calls.working = false;
        let lost = take(&mut calls.waiting);
        drop(calls);
        let why = &"the runtime of the bodies dropped it";
        if let Some(hook) = self.making {
            self.job.hook_failed(hook, HookFault::Dropped, why);
        }
        lost.iter().for_each(|call| call.dropped(why));
    }
}
