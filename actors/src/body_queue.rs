//! Where runs begin: on the engine's own threads for bodies, or where the application says.
//!
//! Most bodies are over at once: to make a task of each, and to wake a thread up for it, would cost more than they
//! do. So one runner, on a thread of its own, begins one after the other. It is there for those that are quick, as
//! far as is known: a body that waited, or took its time, is a task from the beginning when it runs again.
//!
//! Nobody knows before whether a body blocks its thread, or whether one that runs for the first time is quick. If
//! a run has waited for [`STALL`], and fewer have begun meanwhile than if all were quick, those that wait become
//! tasks, and so does what comes until the runner goes on.

mod place;
mod runner;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

pub(crate) use self::place::BodyPlace;
use self::runner::Runner;

/// A body that took longer than this is not quick.
pub(crate) const QUICK_MAX: Duration = Duration::from_micros(20);

/// The longest time that a run waits behind bodies that are not quick, besides what a timer takes.
pub(crate) const STALL: Duration = Duration::from_millis(4);

/// No more runs than this wait for the runner: what comes then is a task.
const WAITING_MAX: usize = 4_096;

/// For so many runs memory is kept while none waits.
const KEPT_MAX: usize = 1_024;

/// What is begun on a thread for bodies.
pub(crate) trait Begin: Send + 'static {
    /// Does what can be done at once. Answers what is left, which is a task of its own.
    fn begin(self) -> Option<BoxFuture<'static, ()>>;

    /// All of it as a task.
    fn task(self) -> BoxFuture<'static, ()>;

    /// It is over at once, as far as is known.
    fn is_quick(&self) -> bool;
}

/// Where it is seen for how long runs wait for the runner.
pub(crate) trait RunnerQueue: Send + Sync {
    /// For how long the first of those that wait behind another has waited.
    fn longest_wait(&self) -> Duration;
}

/// Runs that may wait behind bodies that are not quick.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The number of the last of them.
    last: u64,
    /// When they were looked at last, and how many had begun then.
    looked: Progress,
}

/// How many had begun at an instant.
#[derive(Debug, Clone, Copy)]
struct Progress {
    at: Instant,
    begun: u64,
}

impl Watch {
    /// Others came behind them.
    pub(crate) fn extend(&mut self, others: &Self) {
        self.last = others.last;
    }
}

/// The runs that wait for the runner.
pub(crate) struct BodyQueue<T> {
    state: Mutex<State<T>>,
    /// Where bodies go on that are not over at once, and whatever they start.
    ///
    /// It is another runtime than the runner's. What a task of a runtime starts or wakes up goes next on the
    /// thread of that task, and no other thread can take it over before: it would wait behind the next body.
    bodies: Handle,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// Those of them that wait behind others, by when they came.
    batches: VecDeque<Batch>,
    /// How many have begun, or become tasks, of all that were ever put here.
    begun: u64,
    /// The number of the last one that a task on the threads for bodies watches, while there is that task.
    handed_over: Option<u64>,
    runner: RunnerState,
}

/// Runs that came together, and wait behind others or behind each other.
struct Batch {
    /// The number of the last of them.
    last: u64,
    came: Progress,
}

impl<T> State<T> {
    /// The first of those of which not all have begun.
    fn first_batch(&mut self) -> Option<&Batch> {
        while self.batches.front().is_some_and(|batch| batch.last <= self.begun) {
            self.batches.pop_front();
        }
        self.batches.front()
    }

    /// Those that came last wait behind others, or behind each other.
    fn note_batch(&mut self) -> Watch {
        // Those that have begun make room.
        self.first_batch();
        let last = self.begun + self.waiting.len() as u64;
        let came = Progress { at: Instant::now(), begun: self.begun };
        self.batches.push_back(Batch { last, came });
        Watch { last, looked: came }
    }

    /// They are not for the runner any more.
    fn take_all(&mut self) -> VecDeque<T> {
        let waiting = std::mem::take(&mut self.waiting);
        self.begun += waiting.len() as u64;
        self.batches.clear();
        waiting
    }
}

enum RunnerState {
    /// Nothing is left for it.
    Idle(Waker),
    /// It begins runs, or is about to.
    Begins,
    /// A body that is not quick has its thread.
    Stalled,
    /// Its thread is gone.
    Gone,
}

impl<T: Begin> BodyQueue<T> {
    /// With a runner on a runtime of one thread, on which nothing else is. Bodies go on elsewhere.
    pub(crate) fn on(runner: &Handle, bodies: Handle) -> Arc<Self> {
        let state = State {
            waiting: VecDeque::new(),
            batches: VecDeque::new(),
            begun: 0,
            handed_over: None,
            runner: RunnerState::Begins,
        };
        let queue = Arc::new(Self { state: Mutex::new(state), bodies });
        runner.spawn(Runner::of(queue.clone()));
        queue
    }

    /// Has these begun. Answers what is to be watched if one of them waits behind another.
    fn push_all(&self, runs: &mut Vec<T>) -> Option<Watch> {
        let mut state = self.lock();
        let room = match state.runner {
            RunnerState::Idle(_) | RunnerState::Begins => WAITING_MAX.saturating_sub(state.waiting.len()),
            RunnerState::Stalled | RunnerState::Gone => 0,
        };
        let count = runs.len().min(room);
        state.waiting.extend(runs.drain(..count));
        let idle = match std::mem::replace(&mut state.runner, RunnerState::Begins) {
            RunnerState::Idle(runner) if count > 0 => Some(runner),
            former => {
                state.runner = former;
                None
            }
        };
        // One for which the runner is woken up waits behind nothing.
        let waits = count > 1 || count == 1 && idle.is_none();
        let watched = waits.then(|| state.note_batch());
        drop(state);
        // Before the runner is woken up: it is for others to see to these.
        runs.drain(..).for_each(|run| self.spawn(run));
        idle.into_iter().for_each(Waker::wake);
        watched
    }

    fn watch(&self, watch: &mut Watch) -> Option<Instant> {
        let mut state = self.lock();
        if state.begun >= watch.last {
            return None;
        }
        let now = Progress { at: Instant::now(), begun: state.begun };
        let came = state.first_batch()?.came;
        // The runner had something to do all the time since.
        let since = if came.at > watch.looked.at { came } else { watch.looked };
        let took = now.at.saturating_duration_since(since.at);
        if took < STALL {
            return Some(since.at + STALL);
        }
        let quick = took.as_nanos() / QUICK_MAX.as_nanos();
        if u128::from(now.begun - since.begun) >= quick {
            watch.looked = now;
            return Some(now.at + STALL);
        }
        let waiting = state.take_all();
        if matches!(state.runner, RunnerState::Begins) {
            // Until it comes back for the next one.
            state.runner = RunnerState::Stalled;
        }
        drop(state);
        waiting.into_iter().for_each(|run| self.spawn(run));
        None
    }

    fn hand_over(self: &Arc<Self>, mut watch: Watch) {
        let mut state = self.lock();
        if let Some(last) = &mut state.handed_over {
            *last = watch.last.max(*last);
            return;
        }
        state.handed_over = Some(watch.last);
        drop(state);
        let queue = self.clone();
        self.bodies.spawn(async move {
            loop {
                while let Some(at) = queue.watch(&mut watch) {
                    sleep_until(at).await;
                }
                let mut state = queue.lock();
                match state.handed_over {
                    // Others were handed over meanwhile.
                    Some(last) if last > state.begun => watch.last = last,
                    Some(_) | None => {
                        state.handed_over = None;
                        return;
                    }
                }
            }
        });
    }

    /// As a task.
    fn spawn(&self, run: T) {
        self.bodies.spawn(run.task());
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing begins any more.
    fn runner_is_gone(&self) {
        let mut state = self.lock();
        state.runner = RunnerState::Gone;
        let waiting = state.take_all();
        drop(state);
        // Only now, when nothing is locked: what is dropped tells its job.
        drop(waiting);
    }

    /// The next run. If there is none, the runner is idle from now on.
    fn next(&self, runner: &Waker) -> Option<T> {
        let mut state = self.lock();
        let run = state.waiting.pop_front();
        state.begun += u64::from(run.is_some());
        state.runner = match run {
            Some(_) => RunnerState::Begins,
            None => {
                state.waiting.shrink_to(KEPT_MAX);
                state.batches.clear();
                state.batches.shrink_to(KEPT_MAX);
                RunnerState::Idle(runner.clone())
            }
        };
        run
    }
}

impl<T: Begin> RunnerQueue for BodyQueue<T> {
    fn longest_wait(&self) -> Duration {
        let mut state = self.lock();
        state.first_batch().map(|batch| batch.came.at.elapsed()).unwrap_or_default()
    }
}
