//! Who is to lead, and who is not, on a real PostgreSQL server.

#[path = "common/postgres.rs"]
mod harness;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet::{
    Builder, Callsheet, EventFilter, EventKind, EventName, EventStream, Job, StepDownReason,
    backend::Postgres, schedule::every,
};
use tokio::time::timeout;

use self::harness::{scope, server};

/// What does not happen within this time never does.
const DEADLINE: Duration = Duration::from_secs(60);

fn node(scope: &str) -> Builder {
    let backend = Postgres::new(scope, server().url()).lease(Duration::from_secs(2));
    let tick = Job::new("tick", every(Duration::from_millis(100))).run(async |_| {});
    Callsheet::builder().backend(backend).job(tick)
}

/// The changes of leadership on a node from now on.
fn changes(node: &Callsheet) -> EventStream {
    node.events(EventFilter::new().kinds([EventName::LeadershipGained, EventName::LeadershipLost]))
}

async fn gained(changes: &mut EventStream) {
    let next = timeout(DEADLINE, changes.next()).await.expect("in time").expect("it runs");
    assert!(matches!(next.kind, EventKind::LeadershipGained { .. }), "{next}");
}

async fn lost(changes: &mut EventStream, reason: StepDownReason) {
    let next = timeout(DEADLINE, changes.next()).await.expect("in time").expect("it runs");
    assert!(matches!(next.kind, EventKind::LeadershipLost { why, .. } if why == reason), "{next}");
}

/// Waits until a node is known to lead.
async fn leads(node: &Callsheet) {
    let known = timeout(DEADLINE, async {
        while node.health().await.expect("it runs").term.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    known.await.expect("it leads");
}

#[tokio::test]
async fn a_node_that_prefers_not_to_lead_yields_and_leads_alone() {
    let scope = scope("prefers");
    let reluctant = node(&scope).prefer_not_to_lead().start().await.expect("it starts");
    leads(&reluctant).await;
    let mut of_reluctant = changes(&reluctant);

    let willing = node(&scope).start().await.expect("it starts");
    lost(&mut of_reluctant, StepDownReason::Yielded).await;
    leads(&willing).await;

    willing.shutdown(Duration::ZERO).await;
    gained(&mut of_reluctant).await;
    reluctant.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn the_lead_goes_over_when_a_node_resigns_or_may_not_lead() {
    let scope = scope("resigns");
    let may = Arc::new(AtomicBool::new(true));
    let asked = may.clone();
    let check = move || {
        let may = asked.load(Ordering::Relaxed);
        async move { may }
    };
    let first = node(&scope).start().await.expect("it starts");
    leads(&first).await;
    let second = node(&scope).may_lead(check).start().await.expect("it starts");
    let (mut of_first, mut of_second) = (changes(&first), changes(&second));
    let mut stands_again = first.events(EventFilter::new().kinds([EventName::CandidacyRestored]));

    assert!(first.resign().await.expect("it runs"));
    assert_eq!(first.health().await.expect("it runs").term, None, "when it answers it does not lead");
    lost(&mut of_first, StepDownReason::Requested).await;
    gained(&mut of_second).await;
    let stands = timeout(DEADLINE, stands_again.next()).await.expect("in time");
    assert!(stands.is_some(), "it has seen that another node leads");

    may.store(false, Ordering::Relaxed);
    lost(&mut of_second, StepDownReason::Refused).await;
    gained(&mut of_first).await;

    for node in [first, second] {
        node.shutdown(Duration::ZERO).await;
    }
}
