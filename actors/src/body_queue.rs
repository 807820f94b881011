//! Where runs begin: on one of the engine's own threads for bodies, or where the application says.

use std::{
    collections::VecDeque,
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::port::Spawner;

/// What is begun on a thread for bodies.
pub(crate) trait Begin: Send + 'static {
    /// Does what can be done at once. Answers what is left, which is a task of its own.
    fn begin(self) -> Option<BoxFuture<'static, ()>>;

    /// All of it as a task.
    fn task(self) -> BoxFuture<'static, ()>;
}

/// Where runs begin.
pub(crate) enum BodyPlace<T: Begin> {
    /// On the engine's own threads.
    Own(Arc<BodyQueue<T>>),
    /// Where the application says, each as a task.
    Given(Arc<dyn Spawner>),
}

impl<T: Begin> BodyPlace<T> {
    /// Has a run begun.
    pub(crate) fn start(&self, run: T) {
        match self {
            Self::Own(queue) => queue.push(run),
            Self::Given(spawner) => spawner.spawn(run.task()),
        }
    }
}

/// The runs that wait for a thread, and the runners that begin them: as many as there are threads, each a
/// task for the life of the threads. What ends at once costs no task.
///
/// While a run waits, a runner is on its way to it. It is never behind a body that blocks its thread: any
/// thread that is free can take it over. If all runners are busy, another one follows: bodies may have made
/// room for others on their own threads (`tokio::task::block_in_place`), so that there are more threads than
/// runners. It ends when nothing waits, or when two others are on their way.
///
/// A runner begins one run in a turn. What a task starts or wakes up goes next on the thread of that task, and
/// no other thread can take it over before: not behind one more body, which may block.
pub(crate) struct BodyQueue<T> {
    state: Mutex<State<T>>,
    handle: Handle,
}

struct State<T> {
    /// `None` once the threads are gone.
    waiting: Option<VecDeque<T>>,
    /// The runners for which nothing was left.
    idle: Vec<(usize, Waker)>,
    /// How many runners there are for the life of the threads.
    runners: usize,
    /// How many were woken up, or started, and have not begun.
    coming: usize,
}

/// For so many runs memory is kept while none waits.
const KEPT_MAX: usize = 1_024;

impl<T: Begin> BodyQueue<T> {
    /// Of a runtime with so many threads.
    pub(crate) fn on(handle: Handle, threads: usize) -> Arc<Self> {
        let (waiting, idle) = (Some(VecDeque::new()), Vec::with_capacity(threads));
        let state = Mutex::new(State { waiting, idle, runners: threads, coming: threads });
        let queue = Arc::new(Self { state, handle });
        for nth in 0..threads {
            queue.handle.spawn(Runner { queue: queue.clone(), nth: Some(nth), is_idle: false });
        }
        queue
    }

    /// Has it begun on one of the threads. It is dropped if they are gone.
    pub(crate) fn push(self: &Arc<Self>, run: T) {
        let mut state = self.lock();
        let Some(waiting) = &mut state.waiting else {
            drop(state);
            return drop(run);
        };
        waiting.push_back(run);
        let idle = state.idle.pop();
        let starts_another = idle.is_none() && state.coming == 0;
        state.coming += usize::from(idle.is_some() || starts_another);
        drop(state);
        match idle {
            Some((_, runner)) => runner.wake(),
            None if starts_another => self.start_another(),
            None => {}
        }
    }

    /// A runner beyond those that are there for the life of the threads.
    fn start_another(self: &Arc<Self>) {
        self.handle.spawn(Runner { queue: self.clone(), nth: None, is_idle: false });
        // On a thread of the runtime, what is started last is what only that thread can go on with.
        self.handle.spawn(ready(()));
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins the runs that wait.
struct Runner<T: Begin> {
    queue: Arc<BodyQueue<T>>,
    /// Its number; `None` if it is one beyond the others.
    nth: Option<usize>,
    /// Nothing was left for it.
    is_idle: bool,
}

impl<T: Begin> Runner<T> {
    /// It has come.
    fn arrive(&mut self) {
        let mut state = self.queue.lock();
        let State { idle, coming, .. } = &mut *state;
        let was_idle = std::mem::take(&mut self.is_idle);
        let uncalled = idle.iter().position(|(other, _)| was_idle && self.nth == Some(*other));
        match uncalled {
            Some(at) => drop(idle.swap_remove(at)),
            None => *coming -= 1,
        }
    }

    /// The next run, unless the runner is idle from now on, or over.
    fn next(&mut self, waker: &Waker) -> Option<T> {
        let mut state = self.queue.lock();
        let State { waiting, idle, coming, .. } = &mut *state;
        let waiting = waiting.as_mut()?;
        let Some(run) = waiting.pop_front() else {
            waiting.shrink_to(KEPT_MAX);
            if let Some(nth) = self.nth {
                idle.push((nth, waker.clone()));
                self.is_idle = true;
            }
            return None;
        };
        // This one may be busy for long.
        if !waiting.is_empty() && *coming == 0 {
            *coming += 1;
            drop(state);
            self.queue.start_another();
        }
        Some(run)
    }

    /// Whether it comes again after others had their turn.
    fn comes_again(&self) -> bool {
        let mut state = self.queue.lock();
        let waits = state.waiting.as_ref().is_some_and(|waiting| !waiting.is_empty());
        let comes = self.nth.is_some() || waits && state.coming < 2;
        state.coming += usize::from(comes);
        comes
    }
}

impl<T: Begin> Future for Runner<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        self.arrive();
        let Some(run) = self.next(task.waker()) else {
            return if self.is_idle { Poll::Pending } else { Poll::Ready(()) };
        };
        // What panics in it, it contains itself; but no runner is lost over a fault.
        let rest = catch_unwind(AssertUnwindSafe(|| run.begin()));
        if let Ok(Some(rest)) = rest {
            self.queue.handle.spawn(rest);
        }
        if self.comes_again() {
            task.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

/// The first ones end with the threads.
impl<T: Begin> Drop for Runner<T> {
    fn drop(&mut self) {
        if self.nth.is_none() {
            return;
        }
        let mut state = self.queue.lock();
        state.runners -= 1;
        let waiting = if state.runners == 0 { state.waiting.take() } else { None };
        drop(state);
        // Only now, when nothing is locked: what is dropped tells its job.
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::mpsc::{Receiver, Sender, channel},
    };

    use futures_util::FutureExt;
    use tokio::{
        runtime::{Builder, Runtime},
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
            unreachable!("the engine has threads of its own")
        }
    }

    /// Over at once.
    fn now(work: impl FnOnce() + Send + 'static) -> Fake {
        Fake(Box::new(|| {
            work();
            None
        }))
    }

    fn threads(count: usize) -> (Runtime, Arc<BodyQueue<Fake>>) {
        let runtime = Builder::new_multi_thread().worker_threads(count).build().unwrap();
        let queue = BodyQueue::on(runtime.handle().clone(), count);
        (runtime, queue)
    }

    fn says(number: usize, to: &Sender<usize>) -> Fake {
        let to = to.clone();
        now(move || to.send(number).unwrap())
    }

    #[test]
    fn one_thread_begins_all_in_their_order() {
        let (_runtime, queue) = threads(1);
        let (begun, told) = channel();

        (0..500).for_each(|number| queue.push(says(number, &begun)));

        assert!(told.iter().take(500).eq(0..500));
    }

    #[test]
    fn what_is_not_over_at_once_goes_on_as_a_task() {
        let (_runtime, queue) = threads(1);
        let (begun, told) = channel();
        let later = begun.clone();

        queue.push(Fake(Box::new(move || {
            let rest = async move {
                yield_now().await;
                later.send(2).unwrap();
            };
            Some(rest.boxed())
        })));
        queue.push(says(1, &begun));

        let mut both: Vec<_> = told.iter().take(2).collect();
        both.sort_unstable();
        assert_eq!(both, [1, 2]);
    }

    /// Nothing waits behind what does not go on before it is told to, whether it comes before that begins, or
    /// after it.
    fn nothing_waits_behind(count: usize, wait: fn(&Receiver<()>)) {
        let (_runtime, queue) = threads(count);
        let (begun, told) = channel();
        let (begins, has_begun) = channel();
        let (goes_on, waits) = channel::<()>();

        queue.push(now(move || {
            begins.send(()).unwrap();
            wait(&waits);
        }));
        (0..100).for_each(|number| queue.push(says(number, &begun)));
        assert_eq!(told.iter().take(100).count(), 100);
        has_begun.recv().unwrap();
        (0..100).for_each(|number| queue.push(says(number, &begun)));
        assert_eq!(told.iter().take(100).count(), 100);

        drop(goes_on);
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

    /// What is left of it wakes itself up once.
    fn twice(done: &Sender<usize>) -> Fake {
        let done = done.clone();
        Fake(Box::new(move || {
            let mut is_woken = false;
            let rest = poll_fn(move |task| {
                if std::mem::replace(&mut is_woken, true) {
                    done.send(2).unwrap();
                    return Poll::Ready(());
                }
                task.waker().wake_by_ref();
                Poll::Pending
            });
            Some(rest.boxed())
        }))
    }

    #[test]
    fn what_goes_on_as_a_task_does_not_wait_behind_what_blocks_its_thread() {
        let (_runtime, queue) = threads(2);
        let (begun, told) = channel();
        let (goes_on, waits) = channel::<()>();
        let (first, first_waits) = channel::<()>();
        // Both begin on the other thread: this one is busy until the second has begun.
        queue.push(now(move || {
            let _ = first_waits.recv();
        }));
        queue.push(twice(&begun));
        queue.push(now(move || {
            drop(first);
            let _ = waits.recv();
        }));

        assert_eq!(told.recv(), Ok(2));

        drop(goes_on);
    }

    #[test]
    fn what_a_body_starts_does_not_wait_behind_what_blocks_its_thread() {
        let (runtime, queue) = threads(2);
        let (begun, told) = channel();
        let (goes_on, waits) = channel::<()>();
        let (first, first_waits) = channel::<()>();
        let handle = runtime.handle().clone();
        queue.push(now(move || {
            let _ = first_waits.recv();
        }));
        queue.push(now(move || {
            handle.spawn(async move { begun.send(3).unwrap() });
        }));
        queue.push(now(move || {
            drop(first);
            let _ = waits.recv();
        }));

        assert_eq!(told.recv(), Ok(3));

        drop(goes_on);
    }

    #[test]
    fn no_thread_is_lost_over_a_fault() {
        let (_runtime, queue) = threads(1);
        let (begun, told) = channel();

        queue.push(now(|| std::panic::resume_unwind(Box::new("a fault"))));
        queue.push(says(1, &begun));

        assert_eq!(told.recv(), Ok(1));
    }

    #[test]
    fn what_waits_when_the_threads_end_is_dropped_and_so_is_what_comes_later() {
        // Nobody turns it: nothing begins.
        let runtime = Builder::new_current_thread().build().unwrap();
        let queue = BodyQueue::on(runtime.handle().clone(), 2);
        let (begun, told) = channel();
        queue.push(says(1, &begun));

        drop(runtime);
        queue.push(says(2, &begun));

        drop(begun);
        assert_eq!(told.iter().count(), 0, "neither is kept, and neither began");
    }
}
