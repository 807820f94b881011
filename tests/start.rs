//! How a node starts on a store that is not there, or refuses it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use callsheet::{
    Builder, Callsheet, Job, JobName, RunId, StartError, Term,
    backend::Local,
    port::{
        Advanced, Backend, ClaimRequest, ClosedRuns, Completed, Completion, CursorAdvance, Elector, Enrolled,
        Enrolment, Inquiry, LeaderView, LockError, Locker, Notification, Pause, PendingRetryOfJob, Session,
        SystemClock, Verdict,
    },
    schedule::every,
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{task::LocalSet, time::Instant};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A store that refuses to open sessions in ways that are given, and then is the local one.
#[derive(Clone)]
struct Shy {
    local: Local,
    answers: Arc<Mutex<Vec<Option<LockError>>>>,
    asked: Arc<AtomicU32>,
}

impl Shy {
    /// `None` is no answer at all.
    fn new(answers: impl IntoIterator<Item = Option<LockError>>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        let local = Local::new(Arc::new(SystemClock::default()));
        Self { local, answers: Arc::new(Mutex::new(answers)), asked: Arc::default() }
    }
}

impl Backend for Shy {
    fn name(&self) -> &'static str {
        "shy"
    }
    fn scope(&self) -> Arc<str> {
        self.local.scope()
    }
    fn elector(&self) -> Arc<dyn Elector> {
        self.local.elector()
    }
    fn locker(&self) -> Arc<dyn Locker> {
        Arc::new(self.clone())
    }
}

impl Locker for Shy {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.answers.lock().expect("nobody panicked").pop() {
            None => Locker::open(&self.local),
            Some(None) => Box::pin(std::future::pending()),
            Some(Some(error)) => Box::pin(async { Err(error) }),
        }
    }
    fn lost(&self, session: Session) -> BoxFuture<'_, String> {
        Locker::lost(&self.local, session)
    }
    fn trusts(&self, session: Session) -> bool {
        self.local.trusts(session)
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Locker::close(&self.local)
    }
    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        self.local.enrol(jobs)
    }
    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<LeaderView>, LockError>> {
        self.local.inquire(jobs)
    }
    fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
        self.local.withdraw(term, jobs)
    }
    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        self.local.claim(requests)
    }
    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        self.local.complete(ends)
    }
    fn advance<'a>(
        &'a self,
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, Result<Vec<Advanced>, LockError>> {
        self.local.advance(advances)
    }
    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>> {
        self.local.pause(jobs, pause)
    }
    fn next_notification(&self, session: Session) -> BoxFuture<'_, Notification> {
        self.local.next_notification(session)
    }
    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>> {
        self.local.close_lost(limit)
    }

    fn pending_retries(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PendingRetryOfJob>, LockError>> {
        self.local.pending_retries(after, limit)
    }
}

fn unreachable() -> Option<LockError> {
    Some(LockError::Unavailable { reason: "connection refused".to_owned() })
}

fn refused() -> Option<LockError> {
    Some(LockError::Refused { reason: "wrong password; check it".to_owned() })
}

/// A node whose every actor follows the paused clock of the test.
fn node(backend: &Shy) -> Builder {
    let job = Job::new("job", every(Duration::from_secs(1))).run(async |_| {});
    Callsheet::builder().backend(backend.clone()).job(job)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_up_within_the_connect_timeout_is_waited_for() {
    let backend = Shy::new([unreachable(), unreachable()]);
    let local = LocalSet::new();
    local
        .run_until(async {
            let jobs = node(&backend).start_on(&local).await.expect("it starts");

            assert_eq!(backend.asked.load(Ordering::Relaxed), 3);
            assert_eq!(jobs.health().await.expect("it runs").jobs, 1);
            jobs.shutdown(Duration::ZERO).await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_gives_up_after_the_connect_timeout_and_says_why() {
    for answer in [unreachable(), None] {
        let silent = answer.is_none();
        let backend = Shy::new(std::iter::repeat_n(answer, 1_000));
        let local = LocalSet::new();
        local
            .run_until(async {
                let started = Instant::now();

                let error = node(&backend).connect_timeout(Duration::from_secs(7)).start_on(&local).await;

                let error = error.err().expect("it does not start");
                assert!(matches!(error, StartError::Unreachable { backend: "shy", .. }), "{error}");
                let why = if silent { "it did not answer within the deadline" } else { "connection refused" };
                assert_eq!(error.to_string(), format!("the shy store could not be reached: {why}"));
                assert_eq!(started.elapsed().as_secs(), 7);
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_waiting_does_not_cure_is_told_at_once() {
    let backend = Shy::new([refused()]);
    let local = LocalSet::new();
    local
        .run_until(async {
            let error = node(&backend).start_on(&local).await.err().expect("it does not start");

            assert_eq!(error.to_string(), "the shy store refuses this node: wrong password; check it");
            assert_eq!(backend.asked.load(Ordering::Relaxed), 1);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn start_when_reachable_outlasts_everything() {
    let an_hour_of_trouble = std::iter::repeat_n([unreachable(), refused(), None], 60).flatten();
    let backend = Shy::new(an_hour_of_trouble);
    let local = LocalSet::new();
    local
        .run_until(async {
            let jobs = node(&backend).start_on_when_reachable(&local).await.expect("it starts");

            assert_eq!(backend.asked.load(Ordering::Relaxed), 181);
            jobs.shutdown(Duration::ZERO).await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_given_up_stops_asking() {
    let backend = Shy::new(std::iter::repeat_n(unreachable(), 1_000));
    let local = LocalSet::new();
    local
        .run_until(async {
            let start = node(&backend).start_on_when_reachable(&local);
            assert!(tokio::time::timeout(Duration::from_secs(60), start).await.is_err());

            tokio::time::sleep(Duration::from_secs(10)).await;
            let asked = backend.asked.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(600)).await;

            assert_eq!(backend.asked.load(Ordering::Relaxed), asked);
        })
        .await;
}

#[tokio::test]
async fn a_start_on_threads_that_is_given_up_stops_asking() {
    let backend = Shy::new(std::iter::repeat_n(unreachable(), 1_000));
    let start = node(&backend).start_when_reachable();
    assert!(tokio::time::timeout(Duration::from_millis(100), start).await.is_err());

    // It holds the backend for as long as it has threads.
    let stopped = async {
        while Arc::strong_count(&backend.asked) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), stopped).await.expect("it stops");
}

#[test]
fn a_start_that_was_given_up_leaves_no_engine_behind() {
    let runs = Arc::new(AtomicU32::new(0));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let counted = runs.clone();
    runtime.block_on(async {
        let job = Job::new("zombie", every(ms(20))).run_with(counted, async |_, runs: Arc<AtomicU32>| {
            runs.fetch_add(1, Ordering::Relaxed);
        });
        let start = Callsheet::builder().job(job).start();
        // Not a timeout of zero: that one waits for a millisecond, and the engine may have started by then.
        assert!(start.now_or_never().is_none(), "threads cannot have started yet");
        // The body, and what it captured, goes with the engine.
        until("the engine is gone", || Arc::strong_count(&runs) == 1).await;
    });
}

/// Waits for something in real time, for at most half a minute.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(ms(5)).await;
    }
}
