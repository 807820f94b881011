//! Where bodies begin: none waits for long behind another one, or behind code of other jobs; and a run has ended
//! when nothing of its body is left. On real threads.

use std::{
    fmt,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use callsheet::{
    Callsheet, CancelItsRuns, Job, Outcome, Overlap,
    schedule::{Schedule, at, every},
};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// The thread on which bodies begin that are quick, as far as is known.
const RUNNER: &str = "callsheet-runner";

/// Those of all others.
const BODIES: &str = "callsheet-body";

async fn in_time<T>(awaited: impl Future<Output = T>) -> T {
    timeout(DEADLINE, awaited).await.expect("it ends")
}

/// One job thread, and one for bodies besides the runner.
async fn started(jobs: impl IntoIterator<Item = Job>) -> Callsheet {
    started_with(1, jobs).await
}

async fn started_with(body_threads: usize, jobs: impl IntoIterator<Item = Job>) -> Callsheet {
    let builder = Callsheet::builder().arbiters(1).body_threads(body_threads);
    let builder = builder.shutdown_abort_after(Duration::ZERO);
    in_time(builder.jobs(jobs).start()).await.expect("it starts")
}

/// A job that runs when it is triggered.
fn triggered(name: &str) -> Job<callsheet::Bodiless> {
    Job::new(name, every(Duration::from_secs(24 * 3600)))
}

/// A job whose body says on which thread it begins.
fn says_thread(name: &str) -> (Job, UnboundedReceiver<String>) {
    let (says, said) = unbounded_channel();
    let job = triggered(name).run(move |_| {
        // An error: the test is over.
        let _ = says.send(thread::current().name().unwrap_or_default().to_owned());
        async {}
    });
    (job, said)
}

/// A job that says that it has begun, and blocks its thread until it is told to go on, or the test is over.
fn wall(name: &str) -> (Job, UnboundedReceiver<()>, mpsc::Sender<()>) {
    let (begins, begun) = unbounded_channel();
    let (goes_on, until) = mpsc::channel();
    let until = Mutex::new(until);
    let job = triggered(name).run(move |_| {
        let _ = begins.send(());
        let _ = until.lock().unwrap_or_else(PoisonError::into_inner).recv();
        async {}
    });
    (job, begun, goes_on)
}

async fn run(jobs: &Callsheet, name: &str) -> Outcome {
    let run = in_time(jobs.trigger(name)).await.expect("it is triggered");
    in_time(run.finished()).await
}

async fn shut_down(jobs: &Callsheet) {
    in_time(jobs.shutdown(Duration::ZERO)).await;
}

/// Counts the bodies of which something is left. What is left of one takes its time to be dropped.
struct Left(Arc<AtomicUsize>);

impl Drop for Left {
    fn drop(&mut self) {
        thread::sleep(Duration::from_millis(200));
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn the_next_run_begins_when_nothing_is_left_of_the_body_that_was_aborted() {
    let left = Arc::new(AtomicUsize::new(0));
    let (begins, mut begun) = unbounded_channel();
    let job = triggered("replaced").overlap(Overlap::Replace).abort_after(Duration::ZERO).run(move |_| {
        let of_others = left.fetch_add(1, Ordering::SeqCst);
        let left = Left(left.clone());
        // An error: the test is over.
        let _ = begins.send(of_others);
        async move {
            std::future::pending::<()>().await;
            drop(left);
        }
    });
    // What is left of one body takes one of them.
    let jobs = started_with(2, [job]).await;

    for _ in 0..3 {
        in_time(jobs.trigger("replaced")).await.expect("it is triggered");
        let of_others = in_time(begun.recv()).await.expect("it begins");
        assert_eq!(of_others, 0, "a run began while the body of the one before it was still there");
    }

    shut_down(&jobs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_does_not_wait_behind_a_body_that_blocks_until_its_busy_thread_has_nothing_to_do() {
    let (wall, mut begun, goes_on) = wall("wall");
    let (quick, mut begins) = says_thread("quick");
    let asked = triggered("asked").run(async |_| {});
    let jobs = started([wall, quick, asked]).await;
    let asked = in_time(jobs.job_address("asked")).await.expect("it is there");
    in_time(jobs.trigger("wall")).await.expect("it is triggered");
    in_time(begun.recv()).await.expect("it blocks the runner");

    // From here on the jobs' thread always has more to do than it does in one turn.
    let over = Arc::new(AtomicBool::new(false));
    let more = move || {
        (0..100_000).for_each(|_| asked.do_send(CancelItsRuns::new()));
        asked.send(CancelItsRuns::new())
    };
    let (mut first, mut second) = (more(), more());
    let busy = tokio::spawn({
        let over = over.clone();
        async move {
            while !over.load(Ordering::Relaxed) {
                first.await.expect("it answers");
                (first, second) = (second, more());
            }
            drop(second);
        }
    });
    in_time(jobs.trigger("quick")).await.expect("it is triggered");
    let begins = timeout(DEADLINE, begins.recv()).await;
    over.store(true, Ordering::Relaxed);

    assert_eq!(begins.expect("it begins").as_deref(), Some(BODIES));
    in_time(busy).await.expect("nobody panics");
    drop(goes_on);
    shut_down(&jobs).await;
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

#[tokio::test]
async fn a_body_harms_no_other_by_what_its_panic_carries() {
    let times = Arc::new(Mutex::new(0));
    let count = times.clone();
    let bad = triggered("bad").run(move |_| -> std::future::Ready<()> {
        let times = *count.lock().unwrap_or_else(PoisonError::into_inner);
        resume_unwind(Box::new(Panics(times)))
    });
    let (good, mut begins) = says_thread("good");
    let jobs = started([bad, good]).await;

    for depth in 0..4 {
        *times.lock().unwrap_or_else(PoisonError::into_inner) = depth;
        assert_eq!(run(&jobs, "bad").await, Outcome::Panicked, "{depth}");
        assert_eq!(run(&jobs, "good").await, Outcome::Succeeded, "{depth}");
        in_time(begins.recv()).await.expect("it began");
    }
    let (good, mut begins) = says_thread("another");
    in_time(jobs.add(good)).await.expect("it is added");
    run(&jobs, "another").await;
    assert_eq!(in_time(begins.recv()).await.as_deref(), Some(RUNNER), "the runner is gone");

    shut_down(&jobs).await;
}

/// A job that is not quick, and says on which thread it begins.
fn slow(says: &UnboundedSender<String>) -> Job {
    let says = says.clone();
    triggered("slow").abort_after(Duration::ZERO).run(move |_| {
        // An error: the test is over.
        let _ = says.send(thread::current().name().unwrap_or_default().to_owned());
        thread::sleep(Duration::from_millis(5));
        async {}
    })
}

#[tokio::test]
async fn an_update_forgets_nothing_of_how_long_a_body_takes() {
    let (says, mut begins) = unbounded_channel();
    let jobs = started([slow(&says)]).await;
    run(&jobs, "slow").await;
    assert_eq!(in_time(begins.recv()).await.as_deref(), Some(RUNNER), "nobody knows better");

    in_time(jobs.update(slow(&says))).await.expect("it is updated");
    run(&jobs, "slow").await;

    assert_eq!(in_time(begins.recv()).await.as_deref(), Some(BODIES));
    shut_down(&jobs).await;
}

#[tokio::test]
async fn a_body_that_was_aborted_before_it_began_is_not_taken_for_a_quick_one() {
    let (says, mut begins) = unbounded_channel();
    let (wall, mut begun, goes_on) = wall("wall");
    let jobs = started([wall, slow(&says)]).await;
    run(&jobs, "slow").await;
    assert_eq!(in_time(begins.recv()).await.as_deref(), Some(RUNNER), "nobody knows better");
    // It is not quick, either: from its second run on it is on the one thread for bodies.
    for is_second in [false, true] {
        let run = in_time(jobs.trigger("wall")).await.expect("it is triggered");
        in_time(begun.recv()).await.expect("it blocks");
        if !is_second {
            thread::sleep(Duration::from_millis(5));
            goes_on.send(()).expect("it waits");
            in_time(run.finished()).await;
        }
    }

    let waits = in_time(jobs.trigger("slow")).await.expect("it is triggered");
    in_time(jobs.cancel_runs("slow")).await.expect("it is there");
    // Until it is told to be aborted.
    tokio::time::sleep(Duration::from_millis(100)).await;
    goes_on.send(()).expect("it waits");
    assert_eq!(in_time(waits.finished()).await, Outcome::Cancelled);
    assert!(begins.try_recv().is_err(), "it began");
    run(&jobs, "slow").await;

    assert_eq!(in_time(begins.recv()).await.as_deref(), Some(BODIES));
    shut_down(&jobs).await;
}

/// A rule of an application: every full hour, and at one instant. Asked on a job's thread for what comes after
/// that instant, it waits until it is told to go on.
#[derive(Debug)]
struct Waits {
    at: DateTime<Utc>,
    asked: UnboundedSender<()>,
    until: Mutex<mpsc::Receiver<()>>,
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every full hour, and at {}", self.at)
    }
}

impl Schedule for Waits {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after == self.at && thread::current().name() != Some("callsheet") {
            // An error: the test is over.
            let _ = self.asked.send(());
            let _ = self.until.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
        let hour = after.duration_trunc(TimeDelta::hours(1)).ok()? + TimeDelta::hours(1);
        Some(if after < self.at { hour.min(self.at) } else { hour })
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let before_it = before - TimeDelta::milliseconds(1);
        let hour = before_it.duration_trunc(TimeDelta::hours(1)).ok()?;
        Some(if before > self.at { hour.max(self.at) } else { hour })
    }
}

fn waits(at: DateTime<Utc>) -> (Waits, UnboundedReceiver<()>, mpsc::Sender<()>) {
    let (says, asked) = unbounded_channel();
    let (goes_on, until) = mpsc::channel();
    (Waits { at, asked: says, until: Mutex::new(until) }, asked, goes_on)
}

/// A run begins though the schedule of another job blocks the thread of both, and, perhaps, a body the runner.
async fn begins_beside_a_schedule_that_blocks(runner_is_blocked: bool) {
    let now = Utc::now().duration_trunc(TimeDelta::milliseconds(1)).expect("an instant of our days");
    let [first, second, third] = [500, 800, 1_100].map(|wait| now + TimeDelta::milliseconds(wait));
    let (holds, mut held, holds_on) = waits(first);
    let (hangs, mut hung, hangs_on) = waits(third);
    let (says, mut begins) = unbounded_channel();
    let body = move |_| {
        // An error: the test is over.
        let _ = says.send(());
        async {}
    };
    let (wall, mut begun, goes_on) = wall("wall");
    let jobs = started([
        wall,
        Job::new("holds", holds).run(async |_| {}),
        Job::new("good", at([second])).run(body),
        Job::new("hangs", hangs).run(async |_| {}),
    ])
    .await;
    if runner_is_blocked {
        in_time(jobs.trigger("wall")).await.expect("it is triggered");
        in_time(begun.recv()).await.expect("it blocks");
    }
    // The jobs' thread is held until both are due: they are woken up in one turn, one after the other.
    in_time(held.recv()).await.expect("it is asked");
    while Utc::now() <= third {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(holds_on);
    in_time(hung.recv()).await.expect("it is asked");

    in_time(begins.recv()).await.expect("it begins");

    drop((hangs_on, goes_on));
    shut_down(&jobs).await;
}

#[tokio::test]
async fn a_run_does_not_wait_for_the_schedule_of_another_job() {
    begins_beside_a_schedule_that_blocks(false).await;
}

#[tokio::test]
async fn a_run_waits_neither_for_a_schedule_nor_for_a_body_when_both_block() {
    begins_beside_a_schedule_that_blocks(true).await;
}

/// What an error of a careless application does when somebody wants to read it.
#[derive(Debug)]
struct PanicsWhenRead;

impl fmt::Display for PanicsWhenRead {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        resume_unwind(Box::new("read"));
    }
}

impl std::error::Error for PanicsWhenRead {}

#[tokio::test]
async fn what_panics_after_a_body_is_told_as_a_panic_and_changes_no_abort() {
    let unreadable = triggered("unreadable").run(async |_| Err::<(), _>(PanicsWhenRead));
    let (begins, mut begun) = unbounded_channel();
    let aborted = triggered("aborted").abort_after(Duration::ZERO).run(move |_| {
        // An error: the test is over.
        let _ = begins.send(());
        let left = Panics(2);
        async move {
            std::future::pending::<()>().await;
            drop(left);
        }
    });
    let jobs = started([unreadable, aborted]).await;

    assert_eq!(run(&jobs, "unreadable").await, Outcome::Panicked);
    for _ in 0..2 {
        let run = in_time(jobs.trigger("aborted")).await.expect("it is triggered");
        in_time(begun.recv()).await.expect("it begins");
        in_time(jobs.cancel_runs("aborted")).await.expect("it is there");
        assert_eq!(in_time(run.finished()).await, Outcome::Cancelled);
    }

    shut_down(&jobs).await;
}
