//! What waits for the runner, and for whom it does not wait.

use std::{
    future::poll_fn,
    panic::resume_unwind,
    sync::{
        Barrier,
        mpsc::{Receiver, Sender, channel},
    },
    task::Poll,
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
        while watch.as_mut().and_then(|watch| self.queue.watch(watch)).is_some() {
            thread::yield_now();
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

/// A net under a wait for what never comes.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn those_that_are_not_quick_do_not_begin_one_after_the_other() {
    let threads = Threads::new(2);
    let (begun, told) = channel();
    // Each goes on when another one is there as well.
    let two = Arc::new(Barrier::new(2));
    let run = |_| {
        let (begun, two) = (begun.clone(), two.clone());
        now(move || {
            begun.send(thread::current().name() == Some(RUNNER)).unwrap();
            two.wait();
        })
    };

    threads.push_all_watched((0..100).map(run).collect());

    let on_runner = (0..100).filter(|_| told.recv_timeout(DEADLINE).expect("it begins")).count();
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

    let before = Instant::now();
    threads.push([waits(until), says(1, &begun)]);
    let pushed_at = Instant::now();
    while pushed_at.elapsed().is_zero() {
        thread::yield_now();
    }

    let (least, seen) = (pushed_at.elapsed(), threads.queue.longest_wait());
    assert!((least..=before.elapsed()).contains(&seen), "{seen:?}");
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
