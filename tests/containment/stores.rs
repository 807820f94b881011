//! Stores that are down, and adapters that panic.

use super::*;

#[test]
fn a_store_that_is_down_for_a_minute_is_unhealthy_then_recovered_from() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let node = rig.node(node_with([bystander()])).await;
        rig.advance(Duration::from_millis(10_500)).await;

        rig.cut_off(node);
        rig.advance(secs(60)).await;
        let health = rig.send(node, Health).await;
        assert!(!health.healthy && !health.problems.is_empty(), "{health:?}");
        assert_eq!(health.term, None);
        rig.reconnect(node);
        rig.advance(secs(30)).await;

        let health = rig.send(node, Health).await;
        assert!(health.healthy, "{health:?}");
        let due = rig.counter("callsheet_ticks_due_total", "name=bystander");
        assert_eq!(due, 100, "every tick of the outage is accounted for");
        assert!(rig.counter("callsheet_ticks_total", "outcome=misfire") > 50);
    });
}

#[test]
fn a_call_of_the_elector_that_panics_when_it_is_given_up_harms_nothing() {
    simulate(START, async |rig| {
        // Longer than a call may take, so that the call is given up while the node leads.
        rig.set_lease(secs(30));
        let node = rig.node(node_with([bystander()])).await;
        rig.advance(secs(5)).await;
        assert_eq!(rig.leader(), Some(node));

        rig.store().panic_when_given_up([Operation::Renew]);
        rig.advance(secs(35)).await;

        let lost = |why: StepDownReason| move |kind: &EventKind| matches!(kind, EventKind::LeadershipLost { why: said, .. } if *said == why);
        assert_eq!(rig.count(lost(StepDownReason::Died)), 0);
        assert_eq!(rig.count(lost(StepDownReason::TrustExpired)), 1, "no renewal was answered");
        rig.store().panic_when_given_up([]);
        rig.advance(secs(60)).await;
        let health = rig.send(node, Health).await;
        assert!(health.healthy && rig.leader() == Some(node), "{health:?}");
    });
}

mod panicking_store {
    use callsheet::{
        JobName,
        backend::Local,
        port::{
            Advanced, Backend, ClaimRequest, ClosedRuns, Completed, Completion, CursorAdvance, Elector,
            Enrolled, Enrolment, Inquiry, LeaderView, LockError, Locker, Notification, Pause,
            PendingRetryOfJob, Session, Verdict,
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
        fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<LeaderView>, LockError>> {
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

/// Waits for something in real time, for at most half a minute.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + secs(30);
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(ms(5)).await;
    }
}
