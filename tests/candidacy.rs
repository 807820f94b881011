//! Who is to lead, and who is not: the application's own check, a resignation on demand, a preference.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use callsheet::{
    Builder, Callsheet, Candidacy, EventKind, Health, HealthReport, Job, MAY_LEAD_TIMEOUT, NodeId, Problem,
    Resign, RunError, StepDownReason, Term, TriggerJob,
    backend::Local,
    port::{Backend, Campaign, ElectError, Elector, Locker, Observation, Renewal, SystemClock},
    schedule::every,
    testkit::{Rig, simulate},
};
use futures_util::{FutureExt, future::BoxFuture};

mod common;
use common::{node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn tick() -> Job {
    Job::new("tick", every(secs(1))).run(async |_| {})
}

fn node() -> Builder {
    node_with([tick()])
}

async fn health(rig: &mut Rig, node: usize) -> HealthReport {
    rig.send(node, Health).await
}

fn lost(rig: &Rig, reason: StepDownReason) -> usize {
    rig.count(|kind| matches!(kind, EventKind::LeadershipLost { why, .. } if *why == reason))
}

fn withdrawn(rig: &Rig, reason: StepDownReason) -> usize {
    rig.count(|kind| matches!(kind, EventKind::CandidacyWithdrawn { why, .. } if *why == reason))
}

fn why(report: &HealthReport) -> Option<StepDownReason> {
    match &report.candidacy {
        Candidacy::Withdrawn { why, .. } => Some(*why),
        _ => None,
    }
}

/// Each tick has run, or one was made up for at the hand-over.
fn assert_ticks(rig: &Rig, due: usize) {
    assert!(rig.started("tick") >= due, "{} of {due}: {}", rig.started("tick"), rig.transcript());
}

#[test]
fn a_leader_that_may_not_lead_hands_over_and_comes_back_when_it_may() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let may = Arc::new(AtomicBool::new(true));
        let asked = may.clone();
        let check = move || {
            let may = asked.load(Ordering::Relaxed);
            async move { may }
        };
        let first = rig.node(node().may_lead(check)).await;
        let second = rig.node(node()).await;
        rig.advance(secs(10)).await;
        assert_eq!(rig.leader(), Some(first));

        may.store(false, Ordering::Relaxed);
        rig.advance(secs(5)).await;

        assert_eq!(rig.leader(), Some(second));
        assert_eq!(lost(rig, StepDownReason::Refused), 1);
        rig.advance(secs(60)).await;
        assert_eq!(withdrawn(rig, StepDownReason::Refused), 1, "it is said once");
        let report = health(rig, first).await;
        assert_eq!(why(&report), Some(StepDownReason::Refused));
        assert!(report.healthy && report.leader == Some(rig.id(second)), "{report:?}");
        assert_ticks(rig, 74);

        rig.kill(second);
        rig.advance(secs(30)).await;
        assert_eq!(rig.leader(), None, "nobody rather than one that may not");
        assert!(!health(rig, first).await.healthy, "nobody leads");

        may.store(true, Ordering::Relaxed);
        rig.advance(secs(5)).await;
        assert_eq!(rig.leader(), Some(first));
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::CandidacyRestored)), 1);
        assert_eq!(health(rig, first).await.candidacy, Candidacy::Stands);
    });
}

#[test]
fn a_check_that_hangs_or_panics_is_a_no_and_delays_nothing() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let mood = Arc::new(AtomicU8::new(0));
        let asked = mood.clone();
        let check = move || {
            let mood = asked.load(Ordering::Relaxed);
            async move {
                match mood {
                    0 => true,
                    1 => pending().await,
                    _ => panic!("the check panics"),
                }
            }
        };
        let first = rig.node(node().may_lead(check)).await;
        let second = rig.node(node()).await;
        rig.advance(secs(10)).await;
        assert_eq!(rig.leader(), Some(first));

        mood.store(2, Ordering::Relaxed);
        rig.advance(secs(5)).await;
        assert_eq!(rig.leader(), Some(second), "a panic is a no");
        mood.store(0, Ordering::Relaxed);
        rig.advance(secs(5)).await;
        rig.kill(second);
        rig.advance(secs(5)).await;
        assert_eq!(rig.leader(), Some(first), "a panic is contained");

        let third = rig.node(node()).await;
        mood.store(1, Ordering::Relaxed);
        rig.advance(secs(5) + MAY_LEAD_TIMEOUT).await;
        assert_eq!(rig.leader(), Some(third), "silence is a no");
        assert_eq!(lost(rig, StepDownReason::Refused), 2);
        rig.advance(secs(60)).await;
        assert_eq!(withdrawn(rig, StepDownReason::Refused), 2, "each is said once");
        assert_ticks(rig, 85);
    });
}

#[test]
fn a_node_alone_is_refused_by_its_own_application_and_its_health_says_so() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let only = rig.node(node().may_lead(async || false)).await;
        rig.advance(secs(20)).await;

        assert_eq!((rig.leader(), rig.started("tick")), (None, 0));
        let report = health(rig, only).await;
        assert_eq!((report.healthy, why(&report)), (false, Some(StepDownReason::Refused)));
        assert!((rig.gauge("callsheet_candidate", "")).abs() < f64::EPSILON);
    });
}

#[test]
fn a_node_that_resigns_does_not_lead_when_it_answers_and_loses_no_tick() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let first = rig.node(node()).await;
        let second = rig.node(node()).await;
        rig.advance(secs(10)).await;
        assert_eq!(rig.leader(), Some(first));

        assert!(rig.send(first, Resign).await, "it led");

        assert_ne!(rig.leader(), Some(first));
        assert!(!rig.send(first, Resign).await, "it does not lead any more");
        rig.advance(secs(1)).await;
        assert_eq!(rig.leader(), Some(second));
        rig.advance(secs(60)).await;
        assert_eq!(lost(rig, StepDownReason::Requested), 1);
        assert_eq!(rig.leader(), Some(second), "a resignation changes hands once");
        assert_eq!(health(rig, first).await.candidacy, Candidacy::Stands, "another one leads");
        assert_ticks(rig, 71);

        rig.kill(second);
        rig.advance(secs(2)).await;
        assert_eq!(rig.leader(), Some(first), "it may lead after another one has");
    });
}

#[test]
fn a_node_that_resigned_alone_leads_again_after_the_pause() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let only = rig.node(node().resign_pause(secs(20))).await;
        rig.advance(secs(10)).await;

        assert!(rig.send(only, Resign).await);
        rig.advance(secs(19)).await;
        assert_eq!(rig.leader(), None);
        let report = health(rig, only).await;
        assert_eq!((report.healthy, why(&report)), (false, Some(StepDownReason::Requested)));
        rig.advance(secs(2)).await;

        assert_eq!(rig.leader(), Some(only));
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::CandidacyRestored)), 1);
    });
}

#[test]
fn a_body_that_resigns_fails_and_its_node_leads_no_more() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let critical =
            || Job::new("critical", every(Duration::from_hours(24))).retry(callsheet::Retry::attempts(5));
        let fails = critical().run(async |_| Err::<(), _>(RunError::resign("the disk is gone")));
        let first = rig.node(node_with([tick(), fails])).await;
        let second = rig.node(node_with([tick(), critical().run(async |_| {})])).await;
        rig.advance(secs(10)).await;
        assert_eq!(rig.leader(), Some(first));

        rig.send(first, TriggerJob::new("critical")).await.expect("it starts");
        rig.advance(secs(2)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::RunFailed { .. })), 1, "it is not tried again");
        assert_eq!(rig.leader(), Some(second));
        assert_eq!(lost(rig, StepDownReason::Requested), 1);
    });
}

#[test]
fn a_node_that_prefers_not_to_lead_yields_to_one_that_does_not() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let reluctant = rig.node(node().prefer_not_to_lead()).await;
        rig.advance(secs(10)).await;
        assert_eq!(rig.leader(), Some(reluctant), "alone it leads");
        assert_eq!(health(rig, reluctant).await.candidacy, Candidacy::Reluctant);

        let willing = rig.node(node()).await;
        rig.advance(secs(6)).await;
        assert_eq!(rig.leader(), Some(willing));
        assert_eq!(lost(rig, StepDownReason::Yielded), 1);
        rig.advance(secs(120)).await;
        assert_eq!(rig.leader(), Some(willing), "the lead changes hands once");
        let report = health(rig, reluctant).await;
        assert!(report.healthy && why(&report) == Some(StepDownReason::Yielded), "{report:?}");

        rig.kill(willing);
        rig.advance(secs(2)).await;
        assert_eq!(rig.leader(), Some(reluctant), "there is nobody else");
        assert_ticks(rig, 136);
    });
}

#[test]
fn nodes_that_all_prefer_not_to_lead_have_a_leader() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let first = rig.node(node().prefer_not_to_lead()).await;
        let second = rig.node(node().prefer_not_to_lead()).await;
        rig.advance(secs(60)).await;
        assert_eq!(rig.leader(), Some(first));

        rig.kill(first);
        rig.advance(secs(2)).await;

        assert_eq!(rig.leader(), Some(second));
        assert_eq!(lost(rig, StepDownReason::Yielded), 0);
    });
}

#[test]
fn a_willing_node_that_may_not_lead_keeps_nobody_from_it() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let reluctant = rig.node(node().prefer_not_to_lead()).await;
        rig.node(node().may_lead(async || false)).await;

        rig.advance(secs(60)).await;

        assert_eq!(rig.leader(), Some(reluctant));
        assert!(lost(rig, StepDownReason::Yielded) <= 1, "{}", rig.transcript());
    });
}

/// A store that has not noticed that a former session of this node is over: for whoever asks, the node leads.
#[derive(Clone)]
struct Unaware {
    node: NodeId,
    local: Local,
}

impl Backend for Unaware {
    fn name(&self) -> &'static str {
        "unaware"
    }

    fn scope(&self) -> Arc<str> {
        "unaware".into()
    }

    fn node(&self) -> Option<NodeId> {
        Some(self.node)
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(self.clone())
    }

    fn locker(&self) -> Arc<dyn Locker> {
        self.local.locker()
    }

    fn lease(&self) -> Duration {
        secs(1)
    }
}

impl Elector for Unaware {
    fn campaign(&self, _: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        let retry_in = Duration::from_millis(20);
        async move { Ok(Campaign::Lost { leader: Some(self.node), retry_in }) }.boxed()
    }

    fn observe(&self, _: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        async move { Ok(Observation::default()) }.boxed()
    }

    fn renew(&self, _: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        async move { Ok(Renewal::Deposed) }.boxed()
    }

    fn resign(&self, _: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        async move { Ok(()) }.boxed()
    }
}

#[tokio::test]
async fn a_node_that_only_the_store_takes_for_the_leader_has_none() {
    let local = Local::new(Arc::new(SystemClock::default()));
    let backend = Unaware { node: NodeId::random(), local };
    let jobs = Callsheet::builder().backend(backend).job(tick()).start().await.expect("it starts");

    let report = tokio::time::timeout(secs(30), async {
        loop {
            let report = jobs.health().await.expect("it runs");
            assert_eq!(report.leader, None, "it does not lead, and nobody else does");
            if !report.healthy {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });

    let report = report.await.expect("it is unhealthy a lease after its start");
    assert!(report.problems.iter().any(|it| matches!(it, Problem::NoLeader { .. })), "{report:?}");
    jobs.shutdown(secs(5)).await;
}
