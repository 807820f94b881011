//! A store in the memory of the process answers a job on the job's own thread: as the suites want it, without
//! the lock actor, and with nothing lost when something panics or the engine ends.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use callsheet::{
    Callsheet, Event, EventKind, Job, Outcome, Overlap, Run, Triggered,
    backend::Local,
    port::{
        Advanced, AtOnce, Backend, ClaimRequest, Clock, ClosedRuns, Completed, Completion, CursorAdvance,
        Elector, Enrolled, Enrolment, Forgotten, Inquiry, LeaderView, LockError, Locker, Notification, Pause,
        PendingRetryOfJob, Session, SystemClock, Verdict,
    },
    schedule::{Schedule, custom, every},
    testkit::{
        VirtualClock,
        conformance::{self, Cluster},
    },
};
use callsheet_actors::{JobName, RunId, Term};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};
use tokio::sync::{Notify, mpsc};

/// The embedded store, of which every claim, end and advance is asked at once, however it is asked.
#[derive(Clone)]
struct Immediate {
    local: Local,
    /// How many claims were asked in batches, by the lock actor.
    in_batches: Arc<AtomicUsize>,
    /// How many were asked at once, by jobs.
    by_jobs: Arc<AtomicUsize>,
    /// The next claim that is asked at once is granted, and then panics.
    panics: Arc<AtomicBool>,
}

impl Immediate {
    fn new(clock: impl Clock) -> Self {
        Self {
            local: Local::new(Arc::new(clock)),
            in_batches: Arc::default(),
            by_jobs: Arc::default(),
            panics: Arc::default(),
        }
    }

    fn claims(&self) -> (usize, usize) {
        (self.in_batches.load(Ordering::Relaxed), self.by_jobs.load(Ordering::Relaxed))
    }
}

impl Backend for Immediate {
    fn name(&self) -> &'static str {
        "immediate"
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
    fn single_node(&self) -> bool {
        true
    }
}

impl AtOnce for Immediate {
    fn claim_now(&self, request: &ClaimRequest) -> Option<(Session, Verdict)> {
        self.by_jobs.fetch_add(1, Ordering::Relaxed);
        let answer = self.local.claim_now(request);
        assert!(!self.panics.swap(false, Ordering::SeqCst), "it is told to panic");
        answer
    }
    fn complete_now(&self, end: &Completion) -> Option<Completed> {
        self.local.complete_now(end)
    }
    fn advance_now(&self, asked: &CursorAdvance) -> Option<Advanced> {
        self.local.advance_now(asked)
    }
}

fn each<'a, T, A: Send + 'a>(
    asked: &'a [T],
    answer: impl FnMut(&T) -> Option<A>,
) -> BoxFuture<'a, Result<Vec<A>, LockError>> {
    let lost = || LockError::SessionLost { reason: "it was closed".to_owned() };
    let answers: Option<Vec<A>> = asked.iter().map(answer).collect();
    ready(answers.ok_or_else(lost)).boxed()
}

impl Locker for Immediate {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        self.local.open()
    }
    fn lost(&self, session: Session) -> BoxFuture<'_, String> {
        self.local.lost(session)
    }
    fn trusts(&self, session: Session) -> bool {
        self.local.trusts(session)
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.local.close()
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
        self.in_batches.fetch_add(requests.len(), Ordering::Relaxed);
        each(requests, |request| Some(self.local.claim_now(request)?.1))
    }
    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        each(ends, |end| self.local.complete_now(end))
    }
    fn at_once(&self) -> Option<&dyn AtOnce> {
        Some(self)
    }
    fn advance<'a>(
        &'a self,
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, Result<Vec<Advanced>, LockError>> {
        each(advances, |asked| self.local.advance_now(asked))
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
    fn forget(&self, term: Term, after: Duration) -> BoxFuture<'_, Result<Forgotten, LockError>> {
        self.local.forget(term, after)
    }
    fn pending_retries(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PendingRetryOfJob>, LockError>> {
        self.local.pending_retries(after, limit)
    }
}

struct OneNode {
    clock: VirtualClock,
    backend: Arc<dyn Backend>,
}

impl Cluster for OneNode {
    fn nodes_max(&self) -> usize {
        1
    }
    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        ready(self.backend.clone()).boxed()
    }
    fn kill(&mut self, _: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        unreachable!("there is one node")
    }
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_at_once_passes_the_suite_of_lockers() {
    let clock = VirtualClock::starting_at("2026-01-05T00:00:00Z".parse().expect("an instant"));
    let backend = Arc::new(Immediate::new(clock.another()));

    conformance::locker(&mut OneNode { clock, backend }).await;
}

/// Fires that a body has told of.
async fn fires(told: &mut mpsc::UnboundedReceiver<()>, count: usize) {
    for _ in 0..count {
        told.recv().await.expect("the body is there");
    }
}

#[actix::test]
async fn a_job_asks_at_once_and_the_lock_actor_is_not_asked() {
    let backend = Immediate::new(SystemClock::default());
    let (tell, mut told) = mpsc::unbounded_channel();
    let job = Job::new("job", every(Duration::from_millis(5))).run(move |_| {
        // Nobody listens any more once the test has seen enough.
        let _ = tell.send(());
        async {}
    });
    let jobs = Callsheet::builder().backend(backend.clone()).job(job).start().await.expect("it starts");

    fires(&mut told, 20).await;
    jobs.shutdown(Duration::from_secs(5)).await;

    let (in_batches, by_jobs) = backend.claims();
    assert_eq!(in_batches, 0, "the lock actor was asked");
    assert!(by_jobs >= 20, "{by_jobs} claims for 20 runs");
}

/// The end of a run moves the cursor and lets a trigger that waits be claimed, both in one step. In it the schedule
/// panics, when it is asked where to go on: the run that was granted starts all the same, once.
#[actix::test]
async fn what_is_granted_in_a_step_that_panics_runs_once() {
    let backend = Immediate::new(SystemClock::default());
    let armed = Arc::new(AtomicBool::new(false));
    let (tell, mut told) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let waits = release.clone();
    let job = Job::new("job", custom(Fuse { armed: armed.clone() })).overlap(Overlap::Queue(1));
    let job = job.run(move |run: Run| {
        let _ = tell.send(run.id());
        let waits = waits.clone();
        async move { waits.notified().await }
    });
    let jobs = Callsheet::builder().backend(backend.clone()).job(job).start().await.expect("it starts");
    let first = told.recv().await.expect("the body is there");
    let queued = jobs.trigger("job").await.expect("it is queued");
    let Triggered::Queued(second) = queued.triggered() else { panic!("{:?}", queued.triggered()) };

    armed.store(true, Ordering::SeqCst);
    release.notify_one();
    let started = told.recv().await.expect("the body is there");
    release.notify_one();

    assert_eq!((started, queued.finished().await), (second, Outcome::Succeeded));
    assert!(!armed.load(Ordering::SeqCst), "nothing panicked");
    assert_ne!(first, second);
    release.notify_one();
    jobs.shutdown(Duration::from_secs(5)).await;
    while let Ok(other) = told.try_recv() {
        assert_ne!(other, second, "it started twice");
    }
}

/// One second after the end of the last run; panics once, when it is armed.
#[derive(Debug)]
struct Fuse {
    armed: Arc<AtomicBool>,
}

impl fmt::Display for Fuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a second after the end")
    }
}

impl Schedule for Fuse {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        assert!(!self.armed.swap(false, Ordering::SeqCst), "the fuse has blown");
        Some(after + TimeDelta::milliseconds(100))
    }
    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(before - TimeDelta::milliseconds(100))
    }
    fn counts_from_completion(&self) -> bool {
        true
    }
}

/// A store that panics over the first claim, of which nobody knows what became.
#[actix::test]
async fn a_claim_over_which_the_store_panics_is_asked_again() {
    let backend = Immediate::new(SystemClock::default());
    backend.panics.store(true, Ordering::SeqCst);
    let (tell, mut told) = mpsc::unbounded_channel();
    let job = Job::new("job", every(Duration::from_millis(20))).run(move |_| {
        let _ = tell.send(());
        async {}
    });
    let jobs = Callsheet::builder().backend(backend.clone()).job(job).start().await.expect("it starts");

    fires(&mut told, 3).await;

    assert!(!backend.panics.load(Ordering::SeqCst));
    jobs.shutdown(Duration::from_secs(5)).await;
}

/// Two jobs share a key. The one tick of the first takes it, and each tick of the second wants it.
#[actix::test]
async fn who_holds_a_key_is_told_to_stop_by_whoever_wants_it() {
    let backend = Immediate::new(SystemClock::default());
    let (tell, mut told) = mpsc::unbounded_channel();
    let job = |name: &str, period: u64| {
        let tell = tell.clone();
        let job = Job::new(name, every(Duration::from_millis(period))).lock_key("shared");
        job.overlap(Overlap::Replace).run(move |run: Run| {
            let tell = tell.clone();
            async move {
                let _ = tell.send((run.job().to_string(), "starts"));
                run.cancelled().await;
                let _ = tell.send((run.job().to_string(), "stops"));
            }
        })
    };
    let builder = Callsheet::builder().backend(backend.clone());
    let jobs = builder.job(job("one", 20).limit(1)).start().await.expect("it starts");
    let mut seen = vec![told.recv().await.expect("the body is there")];

    jobs.add(job("two", 60)).await.expect("it is added");
    for _ in 0..2 {
        seen.push(told.recv().await.expect("the bodies are there"));
    }
    jobs.shutdown(Duration::from_secs(5)).await;

    let [one, two] = ["one", "two"].map(str::to_owned);
    assert_eq!(seen, [(one.clone(), "starts"), (one, "stops"), (two, "starts")]);
    assert_eq!(backend.claims().0, 0, "the lock actor was asked");
}

#[actix::test]
async fn a_run_that_was_granted_at_once_is_found_by_its_id() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let job = Job::new("job", every(Duration::from_millis(5))).run(move |run: Run| {
        let _ = tell.send(run.id());
        async move { run.cancelled().await }
    });
    let backend = Immediate::new(SystemClock::default());
    let jobs = Callsheet::builder().backend(backend).job(job).start().await.expect("it starts");
    let run = told.recv().await.expect("the body is there");

    let found = jobs.cancel_run(run).await.expect("it is in progress");

    assert_eq!(found.as_str(), "job");
    jobs.shutdown(Duration::from_secs(5)).await;
}

#[actix::test]
async fn a_job_that_fails_too_often_is_paused_by_the_end_of_its_run() {
    let job = Job::new("job", every(Duration::from_millis(5))).pause_after(3);
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let job = job.run(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Err::<(), &str>("it fails") }
    });
    let (heard, mut events) = mpsc::unbounded_channel();
    let listener = Listener(heard).start();
    let builder = Callsheet::builder().backend(Immediate::new(SystemClock::default())).listen(listener);
    let jobs = builder.job(job).start().await.expect("it starts");

    let mut failed = 0;
    let pause = loop {
        match events.recv().await.expect("an event") {
            EventKind::RunFailed { .. } => failed += 1,
            EventKind::JobPaused { pause, .. } => break pause,
            _ => {}
        }
    };

    assert_eq!(failed, 3, "the end of the run is said before what it did");
    assert_eq!(pause.note.as_deref(), Some("runs that failed in a row: 3"));
    jobs.shutdown(Duration::from_secs(5)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

/// Hands events on.
struct Listener(mpsc::UnboundedSender<EventKind>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Event> for Listener {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        let _ = self.0.send(event.kind);
    }
}

/// A job whose body never ends is dropped with the engine, and what it holds with it.
#[actix::test]
async fn an_engine_that_ends_keeps_nothing_that_was_granted_at_once() {
    let backend = Immediate::new(SystemClock::default());
    let (held, begun) = (Arc::new(()), Arc::new(Notify::new()));
    let (of_body, begins) = (held.clone(), begun.clone());
    let job = Job::new("job", every(Duration::from_millis(5))).run(move |_| {
        let (_held, begins) = (of_body.clone(), begins.clone());
        async move {
            begins.notify_one();
            std::future::pending::<()>().await;
        }
    });
    let builder = Callsheet::builder().shutdown_abort_after(Duration::from_millis(50));
    let jobs = builder.backend(backend).job(job).start().await.expect("it starts");
    begun.notified().await;

    let report = jobs.shutdown(Duration::from_millis(50)).await;

    assert_eq!(Arc::strong_count(&held), 1, "something keeps the job: {report:?}");
}
