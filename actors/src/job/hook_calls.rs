//! The calls of hooks.
//!
//! `before` hooks belong to the task of their run. The others are called by a task of their job, one after
//! the other in the order of what they are told, so that nothing waits for them; a bounded number of calls
//! waits. All of them run where bodies run. What they do wrong is contained and counted.

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    mem::take,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use tokio::sync::{oneshot, watch};
use tracing::Instrument;

use super::handle::JobHandle;
use crate::{
    contained::panic_text,
    core::{
        byte_budget::{ByteBudget, Charge},
        duration::DurationText,
        end_text::EndText,
    },
    event::Outcome,
    event_log::Level,
    hooks::{
        FinishedRun, HOOK_CALL_BYTES_MAX, HOOK_CALLS_MAX, HOOK_TIMEOUT_DEFAULT, Hook, Hooks, OverdueAlarm,
        SkippedTicks,
    },
    metrics::{HookFault, HookKind},
    name::JobName,
    node::Node,
    run::{Run, RunResult},
};

/// What is wrong with a call of a hook, besides an error of its own.
enum Failure {
    Panic(Box<dyn Any + Send>),
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
            Self::Panic(payload) => write!(f, "panicked: {}", panic_text(&**payload)),
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
        Either::Left((Err(payload), _)) => Err(Failure::Panic(payload)),
        Either::Right(((), _)) => Err(Failure::Timeout(timeout)),
    }
}

impl JobHandle {
    /// The hooks of all jobs, then those of this one, each with the time that it may take.
    fn hooks<T: 'static>(
        &self,
        which: fn(&Hooks) -> &[Hook<T>],
    ) -> impl Iterator<Item = (&Hook<T>, Duration)> {
        let of_all = &self.host.hooks;
        let timeout = of_all.timeout.unwrap_or(HOOK_TIMEOUT_DEFAULT);
        let own = self.definition.hooks();
        let own = own.map(|own| (own, own.timeout.unwrap_or(timeout)));
        let each = move |(hooks, timeout)| which(hooks).iter().map(move |hook| (hook, timeout));
        [Some((of_all, timeout)), own].into_iter().flatten().flat_map(each)
    }

    /// Whether anybody is asked before its runs.
    pub(super) fn has_before_hooks(&self) -> bool {
        self.hooks(|hooks| &hooks.before).next().is_some()
    }

    /// Whether anybody wants to hear how its runs end.
    pub(super) fn has_after_hooks(&self) -> bool {
        let any = |which| self.hooks::<FinishedRun>(which).next().is_some();
        any(|hooks| &hooks.after_success) || any(|hooks| &hooks.after_failure)
    }

    fn hook_failed(&self, hook: HookKind, reason: HookFault, failure: &dyn fmt::Display) {
        self.node().meters.hook_failed(hook, reason);
        let job = &self.definition.name;
        let line = format_args!("a hook of {job} failed: {hook}: {failure}");
        self.node().publisher.log("hook failed", Level::Warn, job, &line);
    }
}

/// Why the body of a run does not start: a veto and its reason, or that the run was told to stop.
pub(super) type NotAdmitted = Option<EndText>;

/// Calls the `before` hooks of a run, up to the first one that vetoes.
pub(super) async fn admit(job: &Arc<JobHandle>, run: &Run) -> Result<(), NotAdmitted> {
    let admitted = ask_before(job.clone(), run.clone());
    if !job.definition.body.get().elsewhere() {
        return admitted.await;
    }
    // The task of this run is on the thread of the job's timer, where nothing of the application must run.
    let (reply, answer) = oneshot::channel();
    let span = run.span().clone();
    // Nobody waits for it if the run's task is gone.
    job.node().spawner.spawn(async move { drop(reply.send(admitted.await)) }.instrument(span).boxed());
    answer.await.unwrap_or(Err(None))
}

async fn ask_before(job: Arc<JobHandle>, run: Run) -> Result<(), NotAdmitted> {
    let say = |text: &dyn fmt::Display| Some(job.host.end_texts.take(text));
    let all = async {
        for (hook, timeout) in job.hooks(|hooks| &hooks.before) {
            match call(job.node(), hook, timeout, run.clone()).await {
                Ok(Ok(())) => {}
                Ok(Err(veto)) => return Err(say(&veto)),
                Err(failure) => {
                    job.hook_failed(HookKind::Before, failure.fault(), &failure);
                    return Err(say(&format_args!("a before hook {failure}")));
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
            Err(say(&"the before hooks did not return before the timeout of the run"))
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
struct Calls {
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
    job: Arc<JobHandle>,
    told: Told,
    /// Of the job, and of the node.
    charges: Option<[Charge; 2]>,
}

enum Told {
    Ended(Box<FinishedRun>),
    Skipped(SkippedTicks),
    Overdue(OverdueAlarm),
}

impl Told {
    /// How many bytes its texts take.
    fn text_bytes(&self) -> usize {
        match self {
            Self::Ended(ended) => ended.error.as_ref().map_or(0, |error| error.len()),
            Self::Skipped(_) | Self::Overdue(_) => 0,
        }
    }
}

impl Call {
    fn hook(&self) -> HookKind {
        match &self.told {
            Told::Ended(ended) if ended.outcome == Outcome::Succeeded => HookKind::AfterSuccess,
            Told::Ended(_) => HookKind::AfterFailure,
            Told::Skipped(_) => HookKind::OnSkip,
            Told::Overdue(_) => HookKind::OnOverdue,
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
            Told::Overdue(alarm) => tell(&job, kind, |hooks| &hooks.on_overdue, alarm).await,
        }
    }

    fn dropped(&self, why: &dyn fmt::Display) {
        self.job.hook_failed(self.hook(), HookFault::Dropped, why);
    }
}

async fn tell<T: Clone + 'static>(job: &JobHandle, kind: HookKind, which: fn(&Hooks) -> &[Hook<T>], told: T) {
    for (hook, timeout) in job.hooks(which) {
        match call(job.node(), hook, timeout, told.clone()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => job.hook_failed(kind, HookFault::Error, &error),
            Err(failure) => job.hook_failed(kind, failure.fault(), &failure),
        }
    }
}

/// The hooks that hear of a run that ended so.
fn after(outcome: Outcome) -> fn(&Hooks) -> &[Hook<FinishedRun>] {
    match outcome {
        Outcome::Succeeded => |hooks| &hooks.after_success,
        Outcome::Failed | Outcome::Panicked | Outcome::TimedOut | Outcome::Cancelled | Outcome::Lost => {
            |hooks| &hooks.after_failure
        }
    }
}

/// A run ended.
pub(super) fn ended(job: &Arc<JobHandle>, ended: FinishedRun) {
    if job.hooks(after(ended.outcome)).next().is_some() {
        enqueue(job, Told::Ended(Box::new(ended)));
    }
}

/// Ticks were skipped.
pub(super) fn skipped(job: &Arc<JobHandle>, ticks: impl FnOnce(JobName) -> SkippedTicks) {
    if job.hooks(|hooks| &hooks.on_skip).next().is_some() {
        enqueue(job, Told::Skipped(ticks(job.definition.name.clone())));
    }
}

/// The job did not do in time what is expected of it.
pub(crate) fn overdue(job: &Arc<JobHandle>, alarm: impl FnOnce(JobName) -> OverdueAlarm) {
    if job.hooks(|hooks| &hooks.on_overdue).next().is_some() {
        enqueue(job, Told::Overdue(alarm(job.definition.name.clone())));
    }
}

fn enqueue(job: &Arc<JobHandle>, told: Told) {
    let mut call = Call { job: job.clone(), told, charges: None };
    let mut calls = job.hook_calls.lock();
    let dropped = if calls.waiting.len() >= HOOK_CALLS_MAX {
        Some("too many calls wait for the hooks of this job")
    } else {
        let bytes = call.told.text_bytes();
        let charges = calls.bytes.charge(bytes).zip(job.host.hook_call_bytes.charge(bytes));
        call.charges = charges.map(|(of_job, of_node)| [of_job, of_node]);
        call.charges.is_none().then_some("the errors of the calls that wait for hooks take too many bytes")
    };
    if let Some(why) = dropped {
        drop(calls);
        return call.dropped(&why);
    }
    calls.waiting.push_back(call);
    if take_over(&mut calls) {
        drop(calls);
        let worker =
            Worker { job: job.clone(), making: None, done: false, _alive: job.host.hooking.subscribe() };
        job.node().spawner.spawn(worker.work().boxed());
    }
}

/// Whether nobody makes the calls yet.
fn take_over(calls: &mut Calls) -> bool {
    !std::mem::replace(&mut calls.working, true)
}

/// Makes the calls of one job, until there are none.
struct Worker {
    job: Arc<JobHandle>,
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
