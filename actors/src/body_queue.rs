//! Where runs begin: on the engine's own threads for bodies, or where the application says.
//!
//! Most bodies are over at once: to make a task of each, and to wake a thread up for it, would cost more than they
//! do. So one runner, on a thread of its own, begins one after the other. It is there for those that are quick, as
//! far as is known: a body that waited, or took its time, is a task from the beginning when it runs again.
//!
//! Nobody knows before whether a body blocks its thread, or whether one that runs for the first time is quick. If
//! a run has waited for [`STALL`], and fewer have begun meanwhile than if all were quick, those that wait become
//! tasks, and so does what comes until the runner goes on.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    task::coop::has_budget_remaining,
    time::{Instant, sleep_until},
};

use crate::{contained::unharmed, port::Spawner};

/// A body that took longer than this is not quick.
pub(crate) const QUICK_MAX: Duration = Duration::from_micros(20);

/// The longest time that a run waits behind bodies that are not quick, besides what a timer takes.
pub(crate) const STALL: Duration = Duration::from_millis(4);

/// No more runs than this wait for the runner: what comes then is a task.
const WAITING_MAX: usize = 4_096;

/// For so many runs memory is kept while none waits.
const KEPT_MAX: usize = 1_024;

/// So many runs begin before others of the runner's thread have their turn.
const RUNS_A_TURN: usize = 64;

/// What is begun on a thread for bodies.
pub(crate) trait Begin: Send + 'static {
    /// Does what can be done at once. Answers what is left, which is a task of its own.
    fn begin(self) -> Option<BoxFuture<'static, ()>>;

    /// All of it as a task.
    fn task(self) -> BoxFuture<'static, ()>;

    /// It is over at once, as far as is known.
    fn is_quick(&self) -> bool;
}

/// Where runs begin.
pub(crate) enum BodyPlace<T: Begin> {
    /// On the engine's own threads.
    Own(Arc<BodyQueue<T>>),
    /// Where the application says, each as a task.
    Given(Arc<dyn Spawner>),
}

impl<T: Begin> BodyPlace<T> {
    /// Has a run begun: at once as a task, or together with others, by [`start_all`](Self::start_all).
    pub(crate) fn start(&self, run: T, together: &mut Vec<T>) {
        match self {
            Self::Own(_) if run.is_quick() => together.push(run),
            Self::Own(queue) => queue.spawn(run),
            Self::Given(spawner) => spawner.spawn(run.task()),
        }
    }

    /// Has these begun, in their order. Answers what is to be [watched](Self::watch) if one of them waits
    /// behind another.
    pub(crate) fn start_all(&self, together: &mut Vec<T>) -> Option<Watch> {
        match self {
            Self::Own(queue) => queue.push_all(together),
            Self::Given(spawner) => {
                together.drain(..).for_each(|run| spawner.spawn(run.task()));
                None
            }
        }
    }

    /// Sees to it that no run waits for long behind bodies that are not quick. Answers when this is to be done
    /// again, unless nothing of what was watched waits any more.
    pub(crate) fn watch(&self, watch: &mut Watch) -> Option<Instant> {
        match self {
            Self::Own(queue) => queue.watch(watch),
            Self::Given(_) => None,
        }
    }
}

impl<T: Begin> BodyPlace<T> {
    /// Has these watched by another thread: who watched them is about to do what may block.
    pub(crate) fn hand_over(&self, watch: Watch) {
        match self {
            Self::Own(queue) => queue.hand_over(watch),
            Self::Given(_) => {}
        }
    }
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
        runner.spawn(Runner(queue.clone()));
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

/// Begins the runs that wait, one after the other.
struct Runner<T: Begin>(Arc<BodyQueue<T>>);

impl<T: Begin> Future for Runner<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let queue = &self.0;
        let _entered = queue.bodies.enter();
        for _ in 0..RUNS_A_TURN {
            let Some(run) = queue.next(task.waker()) else { return Poll::Pending };
            // What panics in it, it contains itself; but the runner is not lost over a fault.
            if let Some(rest) = unharmed(|| run.begin()).flatten() {
                queue.bodies.spawn(rest);
            }
            if !has_budget_remaining() {
                // The next one would find nothing ready.
                break;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Its thread ends.
impl<T: Begin> Drop for Runner<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.runner = RunnerState::Gone;
        let waiting = state.take_all();
        drop(state);
        // Only now, when nothing is locked: what is dropped tells its job.
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        panic::resume_unwind,
        sync::mpsc::{Receiver, Sender, channel},
        thread,
    };

    use futures_util::FutureExt;
    use tokio::{
        runtime::{Builder, Runtime},
        sync::oneshot,
        task::{block_in_place, yield_now},
    };

    use super::*;

    type Work = Box<dyn FnOnce() -> Option<BoxFuture<'static, ()>> + Send>;

    struct Fake(Work);

    impl Begin for Fake {
        fn begin(self) -> Option<BoxFuture<'static, ()>> {
            (self.0)()
        }

        fn task(self) -> BoxFuture<'static, ()> {
            async {
                if let Some(rest) = self.begin() {
                    rest.await;
                }
            }
            .boxed()
        }

        fn is_quick(&self) -> bool {
            true
        }
    }

    /// Over at once.
    fn now(work: impl FnOnce() + Send + 'static) -> Fake {
        Fake(Box::new(|| {
            work();
            None
        }))
    }

    /// The name of the runner's thread.
    const RUNNER: &str = "runner";

    struct Threads {
        queue: Arc<BodyQueue<Fake>>,
        /// The runner's, and that of bodies.
        runtimes: [Runtime; 2],
    }

    impl Threads {
        /// Bodies go on on so many.
        fn new(count: usize) -> Self {
            let runtime = |count, name| {
                Builder::new_multi_thread().worker_threads(count).thread_name(name).build().unwrap()
            };
            let runtimes = [runtime(1, RUNNER), runtime(count, "bodies")];
            let queue = BodyQueue::on(runtimes[0].handle(), runtimes[1].handle().clone());
            Self { queue, runtimes }
        }

        /// Has these begun, one right behind the other.
        fn push<const N: usize>(&self, runs: [Fake; N]) {
            // Nobody watches: what waits behind one that blocks waits.
            self.queue.push_all(&mut Vec::from(runs));
        }

        /// Has it begun, and sees to it that it does not wait for long.
        fn push_watched(&self, run: Fake) {
            self.push_all_watched(vec![run]);
        }

        fn push_all_watched(&self, mut runs: Vec<Fake>) {
            let mut watch = self.queue.push_all(&mut runs);
            while let Some(at) = watch.as_mut().and_then(|watch| self.queue.watch(watch)) {
                thread::sleep(at.saturating_duration_since(Instant::now()));
            }
        }
    }

    fn says(number: usize, to: &Sender<usize>) -> Fake {
        let to = to.clone();
        now(move || to.send(number).unwrap())
    }

    /// Goes on when the other end is dropped.
    fn waits(until: Receiver<()>) -> Fake {
        now(move || {
            let _ = until.recv();
        })
    }

    #[test]
    fn all_begin_in_their_order() {
        let threads = Threads::new(1);
        let (begun, told) = channel();

        (0..500).for_each(|number| threads.push([2 * number, 2 * number + 1].map(|both| says(both, &begun))));

        assert!(told.iter().take(1_000).eq(0..1_000));
    }

    #[test]
    fn what_is_not_over_at_once_goes_on_as_a_task() {
        let threads = Threads::new(1);
        let (begun, told) = channel();
        let later = begun.clone();
        let twice = Fake(Box::new(move || {
            let rest = async move {
                yield_now().await;
                later.send(2).unwrap();
            };
            Some(rest.boxed())
        }));

        threads.push([twice, says(1, &begun)]);

        let mut both: Vec<_> = told.iter().take(2).collect();
        both.sort_unstable();
        assert_eq!(both, [1, 2]);
    }

    /// Nothing waits behind what does not go on before it is told to, whether it comes before that begins, or
    /// after it.
    fn nothing_waits_behind(count: usize, wait: fn(&Receiver<()>)) {
        let threads = Threads::new(count);
        let (begun, told) = channel();
        let (begins, has_begun) = channel();
        let (goes_on, waits) = channel::<()>();

        threads.push_watched(now(move || {
            begins.send(()).unwrap();
            wait(&waits);
        }));
        (0..100).for_each(|number| threads.push_watched(says(number, &begun)));
        assert_eq!(told.iter().take(100).count(), 100);
        has_begun.recv().unwrap();
        (0..100).for_each(|number| threads.push_watched(says(number, &begun)));
        assert_eq!(told.iter().take(100).count(), 100);

        drop(goes_on);
        // The runner is there again.
        while matches!(threads.queue.lock().runner, RunnerState::Stalled) {
            thread::yield_now();
        }
        threads.push([says(100, &begun)]);
        assert_eq!(told.recv(), Ok(100));
    }

    #[test]
    fn nothing_waits_behind_what_blocks_its_thread() {
        nothing_waits_behind(2, |waits| {
            let _ = waits.recv();
        });
    }

    #[test]
    fn nothing_waits_behind_what_makes_room_on_its_thread() {
        nothing_waits_behind(1, |waits| {
            let _ = block_in_place(|| waits.recv());
        });
    }

    #[test]
    fn those_that_are_not_quick_do_not_begin_one_after_the_other() {
        let threads = Threads::new(2);
        let (begun, told) = channel();
        let run = |_| {
            let begun = begun.clone();
            now(move || {
                begun.send(thread::current().name() == Some(RUNNER)).unwrap();
                thread::sleep(STALL / 2);
            })
        };

        threads.push_all_watched((0..100).map(run).collect());

        let on_runner = told.iter().take(100).filter(|on_runner| *on_runner).count();
        assert!(
            on_runner < 50,
            "{on_runner} of 100 waited for each other though other threads had nothing to do"
        );
    }

    #[test]
    fn what_waits_for_the_runner_is_seen_to_wait() {
        let threads = Threads::new(1);
        let (begun, told) = channel();
        let (goes_on, until) = channel::<()>();
        assert_eq!(threads.queue.longest_wait(), Duration::ZERO);

        threads.push([waits(until), says(1, &begun)]);
        let pushed_at = Instant::now();
        thread::sleep(STALL);

        assert!(threads.queue.longest_wait() >= pushed_at.elapsed().min(STALL));
        drop(goes_on);
        assert_eq!(told.recv(), Ok(1));
        assert_eq!(threads.queue.longest_wait(), Duration::ZERO);
    }

    #[test]
    fn no_more_than_so_many_wait_for_the_runner() {
        let threads = Threads::new(1);
        let (begun, told) = channel();
        let (goes_on, until) = channel::<()>();
        threads.push([waits(until)]);

        let mut runs: Vec<_> = (0..WAITING_MAX + 100).map(|number| says(number, &begun)).collect();
        threads.queue.push_all(&mut runs);

        // The runner may have taken the one that waits, or not yet.
        assert!(told.iter().take(100).all(|number| number >= WAITING_MAX - 1));
        drop(goes_on);
    }

    #[test]
    fn what_goes_on_as_a_task_does_not_wait_behind_what_blocks_the_runner() {
        let threads = Threads::new(1);
        let (begun, told) = channel();
        let (goes_on, until) = channel::<()>();
        // What is left of it wakes itself up once.
        let twice = Fake(Box::new(move || {
            let mut is_woken = false;
            let rest = poll_fn(move |task| {
                if std::mem::replace(&mut is_woken, true) {
                    begun.send(2).unwrap();
                    return Poll::Ready(());
                }
                task.waker().wake_by_ref();
                Poll::Pending
            });
            Some(rest.boxed())
        }));

        threads.push([twice, waits(until)]);

        assert_eq!(told.recv(), Ok(2));
        drop(goes_on);
    }

    #[test]
    fn what_a_body_starts_does_not_wait_behind_what_blocks_the_runner() {
        let threads = Threads::new(1);
        let (begun, told) = channel();
        let (goes_on, until) = channel::<()>();
        let starts = now(move || {
            tokio::spawn(async move { begun.send(3).unwrap() });
        });

        threads.push([starts, waits(until)]);

        assert_eq!(told.recv(), Ok(3));
        drop(goes_on);
    }

    #[test]
    fn what_a_body_wakes_up_does_not_wait_behind_what_blocks_the_runner() {
        let threads = Threads::new(1);
        let (begun, told) = channel();
        let (goes_on, until) = channel::<()>();
        let (wakes, woken) = oneshot::channel();
        threads.runtimes[1].spawn(async move { begun.send(woken.await.unwrap()).unwrap() });

        threads.push([now(move || wakes.send(4).unwrap()), waits(until)]);

        assert_eq!(told.recv(), Ok(4));
        drop(goes_on);
    }

    /// Panics once more for each time that it is dropped.
    struct Panics(u8);

    impl Drop for Panics {
        fn drop(&mut self) {
            if let Some(less) = self.0.checked_sub(1) {
                resume_unwind(Box::new(Panics(less)));
            }
        }
    }

    #[test]
    fn the_runner_is_not_lost_over_a_fault_nor_over_what_it_carries() {
        let threads = Threads::new(1);
        let (begun, told) = channel();

        threads.push([0, 1, 2].map(|times| now(move || resume_unwind(Box::new(Panics(times))))));
        threads.push([says(1, &begun)]);

        assert_eq!(told.recv(), Ok(1));
    }

    #[test]
    fn what_waits_when_the_threads_end_is_dropped_and_so_is_what_comes_later() {
        // Nobody turns it: nothing begins.
        let runtime = Builder::new_current_thread().build().unwrap();
        let queue = BodyQueue::on(runtime.handle(), runtime.handle().clone());
        let (begun, told) = channel();
        queue.push_all(&mut vec![says(1, &begun)]);

        drop(runtime);
        queue.push_all(&mut vec![says(2, &begun)]);

        drop(begun);
        assert_eq!(told.iter().count(), 0, "neither is kept, and neither began");
    }
}
