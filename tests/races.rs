//! Races and odd input: each of these once lost, doubled or leaked something, spun, or stopped the engine.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use actix::Addr;
use callsheet::{
    AddJob, Callsheet, EventKind, FencingToken, Fires, HowDrained, Job, NodeId, Policies, RemoveJobs, RunId,
    Shutdown, SupervisorActor, Term, TriggerJob,
    port::{Authority, Schedule, Verdict},
    schedule::every,
    testkit::{
        Fault, Record, Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};
use callsheet_actors::{
    RunIds,
    core::{
        job::{Effect, Input, JobMachine},
        time::Now,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;

mod common;
use common::{hours, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Ticks that the store's ledger says were decided: what the counters must say as well.
fn committed(rig: &Rig) -> u64 {
    let decided = rig.store().records().into_iter().map(|record| match record {
        Record::Moved { skips, run, .. } => skips.total() + u64::from(run.is_some()),
        Record::Enrolled { .. }
        | Record::Anchored { .. }
        | Record::Retaken { .. }
        | Record::Closed { .. } => 0,
    });
    decided.sum()
}

// Removing a job on a follower.

#[test]
fn a_job_that_is_removed_on_a_follower_goes_on_on_the_leader() {
    simulate(START, async |rig| {
        let job = || Job::new("tick", every(secs(1))).run(async |_| {});
        let leader = rig.node(node_with([job()])).await;
        let follower = rig.node(node_with([job()])).await;
        rig.advance(ms(5_500)).await;
        assert_eq!((rig.leader(), rig.started("tick")), (Some(leader), 5));

        rig.send(follower, RemoveJobs("tick".into())).await.expect("it is there");
        let calls = rig.store().calls();
        rig.advance(secs(10)).await;

        let calls = rig.store().calls() - calls;
        assert_eq!((rig.started("tick"), calls < 100), (15, true), "{calls} calls in 10 s");
    });
}

// A clock that is ahead of the store's by more than the period.

#[test]
fn a_clock_that_is_ahead_does_not_starve_a_job_with_a_shorter_period() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("tick", every(secs(1))).run(async |_| {})])).await;
        rig.set_skew(node, TimeDelta::milliseconds(1_500));

        rig.advance(ms(30_500)).await;

        assert!(rig.started("tick") >= 25, "{} of 30 ticks started", rig.started("tick"));
    });
}

#[test]
fn a_clock_that_is_ahead_skips_no_tick_before_it_is_due() {
    simulate(START, async |rig| {
        let job = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(7)).await);
        let node = rig.node(node_with([job])).await;
        rig.set_skew(node, TimeDelta::seconds(5));

        rig.advance(secs(99)).await;

        assert_eq!(
            rig.counter("callsheet_ticks_total", "outcome=overlap"),
            0,
            "no run is longer than the period"
        );
        assert_eq!(rig.started("long"), 9);
    });
}

// A renewal that is read after the trust ran out.

#[test]
fn a_job_that_saw_the_trust_run_out_fires_again_after_a_late_renewal() {
    simulate(START, async |rig| {
        rig.set_lease(secs(6));
        // Lease 6 s, margin 1.2 s: renewals and beats at 2 s, trust until 4.8 s.
        let node = rig.node(node_with([Job::new("tick", every(secs(3))).run(async |_| {})])).await;
        rig.advance(ms(1_900)).await;
        let id = rig.id(node);
        // The beat is answered, the renewal's answer is under way when the process is stopped.
        rig.store().script(id, [Fault::Stall(ms(0)), Fault::Stall(ms(1_500))]);
        rig.advance(ms(600)).await;

        rig.freeze(node);
        rig.advance(ms(2_600)).await;
        rig.thaw(node);
        rig.advance(secs(30)).await;

        let gained = rig.count(|kind| matches!(kind, EventKind::LeadershipGained { .. }));
        let lost = rig.count(|kind| matches!(kind, EventKind::LeadershipLost { .. }));
        assert!(
            rig.started("tick") >= 9,
            "{} runs, {gained} gained, {lost} lost\n{}",
            rig.started("tick"),
            rig.transcript()
        );
    });
}

// Timers that spin.

struct Machine {
    machine: JobMachine,
    ids: RunIds,
    start: DateTime<Utc>,
}

const TERM: Term = Term(1);

impl Machine {
    fn every_second() -> Self {
        let start: DateTime<Utc> = START.parse().expect("an instant");
        let machine = JobMachine::new(Arc::new(Period::seconds(1)), Policies::default(), start, false);
        let mut this = Self { machine, ids: RunIds::of(NodeId::numbered(1)), start };
        let authority = Some(Authority::Term(TERM));
        this.step(0, Input::Resume { cursor: start, authority, kept: Box::default() });
        this
    }

    fn now(&self, ms: u64) -> Now {
        let wall = self.start + Duration::from_millis(ms);
        Now { wall, elapsed: Duration::from_millis(ms), term: Some(TERM), spare: self.ids.next(wall) }
    }

    fn step(&mut self, ms: u64, input: Input) -> Vec<Effect> {
        self.machine.step(self.now(ms), input).into_vec()
    }

    fn claim(&mut self, ms: u64) -> RunId {
        let effects = self.step(ms, Input::WakeUp);
        let claim = effects.iter().find_map(|effect| match effect {
            Effect::Claim(claim) => Some(claim.run),
            _ => None,
        });
        claim.unwrap_or_else(|| panic!("no claim: {effects:?}"))
    }

    fn wake_in(&self, ms: u64) -> Option<Duration> {
        self.machine.wake_in(self.now(ms))
    }
}

#[test]
fn a_busy_answer_after_the_leadership_was_lost_arms_no_timer_that_spins() {
    let mut job = Machine::every_second();
    let run = job.claim(1_000);
    job.step(1_001, Input::Suspend);
    job.step(1_002, Input::Claimed { run, verdict: Verdict::Busy { holder: None } });

    // When its timer fires, and ever after, it has nothing to do.
    job.step(2_100, Input::WakeUp);

    assert_eq!(job.wake_in(2_100), None, "a dormant job is woken up again and again, at once");
}

#[test]
fn skips_that_wait_during_a_hold_arm_no_timer_that_spins() {
    let mut job = Machine::every_second();
    let run = job.claim(1_000);
    job.step(1_001, Input::Claimed { run, verdict: Verdict::Busy { holder: None } });
    let run = job.claim(2_000);
    job.step(2_001, Input::Claimed { run, verdict: Verdict::NotYet { wait: secs(5) } });

    job.step(2_100, Input::WakeUp);

    assert!(job.wake_in(2_100) > Some(Duration::ZERO), "{:?}", job.wake_in(2_100));
}

// Odd durations.

#[test]
fn a_shutdown_without_a_deadline_drains() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(5)).await);
        let node = rig.node(node_with([long])).await;
        rig.advance(ms(10_500)).await;

        let asked = rig.supervisor(node).send(Shutdown { deadline: Duration::MAX });
        let report = asked.await;

        assert_eq!(
            report.expect("the supervisor lives").to_string(),
            "drained 1, cancelled 0, aborted 0, left 1 fire time"
        );
    });
}

#[test]
fn a_shutdown_that_never_aborts_drains() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(5)).await);
        let node = rig.node(node_with([long]).shutdown_abort_after(Duration::MAX)).await;
        rig.advance(ms(10_500)).await;

        let asked = rig.supervisor(node).send(Shutdown { deadline: secs(1) });
        let report = asked.await;

        assert_eq!(report.expect("the supervisor lives").cancelled, 1);
    });
}

// Committed moves that nobody counts.

#[test]
fn skips_whose_reply_was_lost_are_counted_once() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(25)).await);
        let node = rig.node(node_with([long])).await;
        // The tick at 20 s is skipped, and the cursor moved at 21 s.
        rig.advance(ms(20_500)).await;
        let id = rig.id(node);
        rig.store().script(id, [Fault::ReplyLost]);
        rig.advance(secs(30)).await;

        assert_eq!(
            rig.counter("callsheet_coordination_errors_total", "operation=advance"),
            1,
            "the fault hit the move"
        );
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), committed(rig));
    });
}

// A claim that is answered under another session than it was asked.

#[test]
fn a_claim_that_outlived_its_session_leaves_no_key_behind() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("manual", every(hours(24))).run(async |_| {})])).await;
        rig.advance(secs(1)).await;
        let id = rig.id(node);
        rig.store().script(id, [Fault::Stall(secs(2))]);
        let triggered = rig.supervisor(node).send(TriggerJob("manual".to_owned()));
        let triggered = kept(triggered);
        rig.advance(ms(10)).await;

        rig.end_session(node);
        rig.advance(secs(60)).await;

        drop(triggered);
        assert_eq!(rig.store().held(), 0, "the key is held by a live session for ever\n{}", rig.transcript());
    });
}

/// Sends a request now, and keeps it from being cancelled.
fn kept<F: Future + 'static>(request: F) -> std::pin::Pin<Box<dyn Future<Output = F::Output>>> {
    let mut request = Box::pin(request);
    let waker = futures_util::task::noop_waker();
    let _ = request.as_mut().poll(&mut std::task::Context::from_waker(&waker));
    request
}

// An actor that dies while a claim has no answer.

#[test]
fn a_manual_claim_without_an_answer_is_settled_although_the_actor_died() {
    simulate(START, async |rig| {
        let tenth = rig.now() + secs(10);
        let schedule = PanickingSchedule::new(Period::seconds(10), tenth, 1);
        let node = rig.node(node_with([Job::new("bad", schedule).run(async |_| {})])).await;
        // Triggered just before the tick whose follower the schedule panics at.
        rig.advance(ms(9_990)).await;
        let id = rig.id(node);
        rig.store().script(id, [Fault::ReplyLost]);
        rig.send(node, TriggerJob("bad".to_owned())).await.expect_err("its reply is lost");
        rig.advance(secs(60)).await;

        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 1);
        assert_eq!(rig.store().held(), 0, "{}", rig.transcript());
        assert!(rig.started("bad") >= 4, "{}", rig.transcript());
    });
}

// A job that is removed in the moment in which its actor dies.

#[derive(Debug)]
struct RemovesAndPanics {
    period: Period,
    after: DateTime<Utc>,
    done: AtomicBool,
    supervisor: Arc<OnceLock<Addr<SupervisorActor>>>,
}

impl std::fmt::Display for RemovesAndPanics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("removes its job and panics")
    }
}

impl Schedule for RemovesAndPanics {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after >= self.after && !self.done.swap(true, Ordering::Relaxed) {
            self.supervisor.get().expect("set").do_send(RemoveJobs("bad".into()));
            panic!("on purpose");
        }
        self.period.next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.period.previous_before(before)
    }
}

#[test]
fn a_job_that_is_removed_while_its_actor_dies_leaves_nothing_behind() {
    simulate(START, async |rig| {
        let supervisor = Arc::new(OnceLock::new());
        let schedule = Arc::new(RemovesAndPanics {
            period: Period::seconds(1),
            after: rig.now() + secs(3),
            done: AtomicBool::new(false),
            supervisor: supervisor.clone(),
        });
        let kept = Arc::downgrade(&schedule);
        let schedule: Arc<dyn Schedule> = schedule;
        let node = rig.node(node_with([])).await;
        supervisor.set(rig.supervisor(node)).expect("once");
        let supervisor = rig.supervisor(node);
        supervisor
            .send(AddJob(Job::new("bad", schedule).fires(Fires::Local).run(async |_| {})))
            .await
            .expect("an answer")
            .expect("it is right");

        rig.advance(secs(60)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRemoved { .. })), 1);
        assert_eq!(kept.strong_count(), 0, "an actor of a removed job lives on for ever");
    });
}

/// The control of the test above: it passes.
#[test]
fn a_job_that_is_removed_leaves_nothing_behind() {
    simulate(START, async |rig| {
        let schedule: Arc<dyn Schedule> = Arc::new(Period::seconds(1));
        let kept = Arc::downgrade(&schedule);
        let node = rig.node(node_with([])).await;
        let supervisor = rig.supervisor(node);
        let job = Job::new("good", schedule).fires(Fires::Local).run(async |_| {});
        supervisor.send(AddJob(job)).await.expect("an answer").expect("it is right");
        rig.advance(secs(10)).await;
        rig.send(node, RemoveJobs("good".into())).await.expect("it is there");

        rig.advance(secs(10)).await;

        assert_eq!(kept.strong_count(), 0);
    });
}

// Drop of what an application's body captured.

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!(
                "as a tokio runtime or a blocking HTTP client does when it is dropped in an async context"
            );
        }
    }
}

fn job_with(state: impl Send + Sync + 'static, name: &str) -> Job {
    let state = Arc::new(state);
    Job::new(name, every(secs(1))).run(move |_| {
        let _ = &state;
        async {}
    })
}

#[test]
fn a_refused_job_whose_state_panics_on_drop_does_not_stop_the_engine() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("same", every(secs(1))).run(async |_| {})])).await;

        let supervisor = rig.supervisor(node);
        let refused = supervisor.send(AddJob(job_with(PanicsOnDrop, "same")));
        let _ = refused.await;
        rig.advance(ms(5_500)).await;

        assert!(supervisor.connected(), "the supervisor is dead, and the whole engine with it");
    });
}

#[test]
fn a_refused_job_that_owns_a_runtime_does_not_stop_the_engine() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let callsheet = Callsheet::builder()
            .job(Job::new("same", every(secs(1))).run(async |_| {}))
            .start()
            .await
            .unwrap();
        let own = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        callsheet.add(job_with(own, "same")).await.expect_err("the name is taken");

        let health = callsheet.health().await;

        assert!(health.is_ok(), "the whole engine stopped: {health:?}");
        callsheet.shutdown(Duration::ZERO).await;
    });
}

// A wall clock that steps forward, or a machine that slept.

#[test]
fn a_clock_that_stepped_forward_is_noticed_before_the_old_timer_ends() {
    simulate(START, async |rig| {
        let daily = Job::new("daily", every(hours(24))).fires(Fires::Local).run(async |_| {});
        let node = rig.node(node_with([daily])).await;
        rig.advance(secs(10)).await;

        rig.set_skew(node, TimeDelta::hours(23));
        rig.advance(hours(1) + secs(60)).await;

        assert_eq!(rig.started("daily"), 1, "its time came a minute ago by the wall clock");
    });
}

// One run, one outcome.

#[test]
fn a_run_whose_lock_was_lost_is_counted_once() {
    simulate(START, async |rig| {
        let long = || Job::new("long", every(secs(3600))).run(async |run| run.cancelled().await);
        rig.node(node_with([long()])).await;
        rig.node(node_with([long()])).await;
        rig.advance(secs(3601)).await;
        assert_eq!(rig.started("long"), 1);

        rig.end_session(0);
        rig.advance(secs(120)).await;

        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 1);
        let ended = rig.counter("callsheet_runs_total", "");
        assert_eq!(
            ended,
            1,
            "one run was started, so many ended; lost: {}",
            rig.counter("callsheet_runs_total", "outcome=lost")
        );
    });
}

// An answer to the renewal of a former term.

#[test]
fn an_answer_about_a_former_term_does_not_depose_the_new_one() {
    simulate(START, async |rig| {
        rig.set_lease(secs(6));
        let node = rig.node(node_with([])).await;
        rig.advance(ms(1_900)).await;
        let id = rig.id(node);
        // The renewal of term 1 at 2 s reaches the store at 6.5 s: after the trust (4.8 s) and the lease (6 s).
        rig.store().script(id, [Fault::Stall(ms(0)), Fault::Stall(ms(4_500))]);
        rig.advance(secs(30)).await;

        let lost: Vec<_> = rig
            .events()
            .into_iter()
            .filter_map(|recorded| match recorded.event.kind {
                EventKind::LeadershipLost { term, why } => Some((term.0, why)),
                _ => None,
            })
            .collect();
        assert_eq!(lost.len(), 1, "{lost:?}\n{}", rig.transcript());
    });
}

// A start that nobody waited for.

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
    let deadline = std::time::Instant::now() + secs(30);
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(ms(5)).await;
    }
}

// The report of a shutdown.

#[test]
fn a_local_body_that_had_to_be_aborted_is_reported_as_aborted() {
    simulate(START, async |rig| {
        let stubborn =
            Job::new("stubborn", every(secs(10))).run_local(async |_| std::future::pending::<()>().await);
        let node = rig.node(node_with([stubborn])).await;
        rig.advance(ms(10_500)).await;

        let report = rig.shutdown(node, secs(1)).await;

        let how: Vec<_> = report.stopped.iter().map(|(_, _, how)| *how).collect();
        assert_eq!(how, [HowDrained::Aborted]);
    });
}

// A shutdown while the store is down.

#[test]
fn a_shutdown_with_nothing_running_does_not_wait_for_an_unanswered_claim() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let node = rig.node(node_with([Job::new("tick", every(secs(1))).run(async |_| {})])).await;
        rig.advance(ms(5_500)).await;
        rig.cut_off(node);
        rig.advance(secs(20)).await;
        let before = rig.now();

        let report = rig.shutdown(node, hours(1)).await;

        let took = rig.now() - before;
        assert!(took < TimeDelta::seconds(60), "took {took}, {report:?}");
    });
}

// The embedded store keeps the keys of an engine that was shut down.

#[tokio::test]
async fn closing_the_embedded_store_frees_what_is_held() {
    use callsheet::{
        backend::Local,
        port::{Backend, ClaimRequest, SystemClock},
    };
    let local = Local::new(Arc::new(SystemClock::default()));
    let locker = local.locker();
    locker.open().await.unwrap();
    let ids = RunIds::of(NodeId::random());
    let (job, key) = (callsheet::JobName::new("job").unwrap(), callsheet::LockKey::new("job").unwrap());
    let claim = || ClaimRequest::new(job.clone(), key.clone(), ids.next(Utc::now()));
    assert!(matches!(
        locker.claim(&[claim()]).await.unwrap()[0],
        Verdict::Granted { token: FencingToken(_), .. }
    ));
    locker.close().await;
    locker.open().await.unwrap();

    let again = locker.claim(&[claim()]).await.unwrap();

    assert!(matches!(again[0], Verdict::Granted { .. }), "{again:?}");
}

// A store adapter that panics once.

mod panicking_store {
    use callsheet::{
        JobName,
        backend::Local,
        port::{
            Backend, ClaimRequest, ClosedRuns, Completed, Completion, CursorMove, Debt, Elector, Enrolled,
            Enrolment, Inquiry, LockError, Locker, Moved, News, Pause, Session, Standing, Verdict,
        },
    };
    use futures_util::future::BoxFuture;

    use super::*;

    #[derive(Clone)]
    pub(super) struct Panicking {
        pub(super) local: Local,
        pub(super) claims: Arc<AtomicU32>,
        pub(super) losses: Arc<AtomicU32>,
    }

    impl Backend for Panicking {
        fn name(&self) -> &'static str {
            "panicking"
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

    impl Locker for Panicking {
        fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
            Locker::open(&self.local)
        }
        fn lost(&self, session: Session) -> BoxFuture<'_, String> {
            if self.losses.fetch_add(1, Ordering::Relaxed) == 0 {
                return Box::pin(async {
                    tokio::time::sleep(ms(100)).await;
                    panic!("a bug of the adapter");
                });
            }
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
        fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<Standing>, LockError>> {
            self.local.inquire(jobs)
        }
        fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
            self.local.withdraw(term, jobs)
        }
        fn claim<'a>(
            &'a self,
            requests: &'a [ClaimRequest],
        ) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
            match self.claims.fetch_add(1, Ordering::Relaxed) {
                2 => panic!("a bug of the adapter"),
                4 => return Box::pin(async { Ok(Vec::new()) }),
                _ => {}
            }
            self.local.claim(requests)
        }
        fn complete<'a>(
            &'a self,
            ends: &'a [Completion],
        ) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
            self.local.complete(ends)
        }
        fn advance<'a>(&'a self, moves: &'a [CursorMove]) -> BoxFuture<'a, Result<Vec<Moved>, LockError>> {
            self.local.advance(moves)
        }
        fn pause<'a>(
            &'a self,
            jobs: &'a [JobName],
            pause: Option<&'a Pause>,
        ) -> BoxFuture<'a, Result<Vec<bool>, LockError>> {
            self.local.pause(jobs, pause)
        }
        fn news(&self, session: Session) -> BoxFuture<'_, News> {
            self.local.news(session)
        }
        fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>> {
            self.local.close_lost(limit)
        }

        fn debts(&self, after: Option<RunId>, limit: usize) -> BoxFuture<'_, Result<Vec<Debt>, LockError>> {
            self.local.debts(after, limit)
        }
    }
}

#[tokio::test]
async fn a_store_that_panics_or_answers_too_little_is_recovered_from() {
    use callsheet::{backend::Local, port::SystemClock};
    let local = Local::new(Arc::new(SystemClock::default()));
    let backend = panicking_store::Panicking { local, claims: Arc::default(), losses: Arc::default() };
    let runs = Arc::new(AtomicU32::new(0));
    let job = Job::new("tick", every(ms(50))).run_with(runs.clone(), async |_, runs: Arc<AtomicU32>| {
        runs.fetch_add(1, Ordering::Relaxed);
    });
    let callsheet = Callsheet::builder().backend(backend).job(job).start().await.unwrap();

    until("it runs again and again", || runs.load(Ordering::Relaxed) > 10).await;

    assert!(callsheet.health().await.unwrap().healthy);
    callsheet.shutdown(Duration::ZERO).await;
}

// A shutdown in the moment in which a job actor dies.

#[derive(Debug)]
struct ShutsDownAndPanics {
    period: Period,
    after: DateTime<Utc>,
    done: AtomicBool,
    supervisor: Arc<OnceLock<Addr<SupervisorActor>>>,
}

impl std::fmt::Display for ShutsDownAndPanics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("shuts down and panics")
    }
}

impl Schedule for ShutsDownAndPanics {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after >= self.after && !self.done.swap(true, Ordering::Relaxed) {
            self.supervisor.get().expect("set").do_send(Shutdown { deadline: secs(60) });
            panic!("on purpose");
        }
        self.period.next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.period.previous_before(before)
    }
}

#[test]
fn a_shutdown_waits_for_the_run_of_an_actor_that_has_just_died() {
    simulate(START, async |rig| {
        let supervisor = Arc::new(OnceLock::new());
        let schedule = ShutsDownAndPanics {
            period: Period::seconds(10),
            after: rig.now() + secs(20),
            done: AtomicBool::new(false),
            supervisor: supervisor.clone(),
        };
        let job = Job::new("bad", schedule).run(async |_| tokio::time::sleep(secs(15)).await);
        let node = rig.node(node_with([job])).await;
        supervisor.set(rig.supervisor(node)).expect("once");

        rig.advance(secs(60)).await;

        let transcript = rig.transcript();
        let finished = rig.count(|kind| matches!(kind, EventKind::ShutdownFinished { drained: 1, .. }));
        assert_eq!(finished, 1, "{transcript}");
    });
}
