//! A store that fails over to a server which lacks the newest writes of the one before: what a node that lives was
//! granted is granted to nobody else.

use std::{sync::Arc, time::Duration};

use callsheet::{
    FireTime, JobName, LockKey, NodeId, Term,
    port::{Authority, ClaimRequest, RecordKind, RecordName, Records, Renewal, Skips, TickClaim, Verdict},
    testkit::{MemoryRecords, VirtualClock},
};
use callsheet_actors::RunIds;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::sleep;

use crate::outages::{Node, cursor};

/// Longer than any node may take to find another server.
const ALL_HAVE_FOUND_IT: Duration = Duration::from_secs(10);

/// Two nodes that know a job, and a tick of it that is due.
struct Stage {
    store: MemoryRecords,
    first: Node,
    second: Node,
    ids: RunIds,
    job: JobName,
    began: DateTime<Utc>,
    tick: FireTime,
}

impl Stage {
    async fn new() -> Self {
        let clock = VirtualClock::starting_at("2026-01-01T00:00:00Z".parse().expect("an instant"));
        let store = MemoryRecords::new(Arc::new(clock));
        let (first, second) = (Node::new(&store), Node::new(&store));
        first.locker().open().await.expect("a session");
        second.locker().open().await.expect("a session");
        let job = JobName::new("job").expect("a name");
        let began = cursor(&first, &job, Authority::Any).await;
        assert_eq!(cursor(&second, &job, Authority::Any).await, began);
        let tick = FireTime::new(began + TimeDelta::minutes(10));
        Self { store, first, second, ids: RunIds::of(NodeId::numbered(1)), job, began, tick }
    }

    async fn claim(&self, node: &Node, tick: FireTime, authority: Authority) -> Verdict {
        self.claim_from(node, self.began, tick, authority).await
    }

    async fn claim_from(
        &self,
        node: &Node,
        expected: DateTime<Utc>,
        tick: FireTime,
        authority: Authority,
    ) -> Verdict {
        let run = self.ids.next(Utc::now());
        let mut request = ClaimRequest::new(self.job.clone(), LockKey::from(&self.job), run);
        let skips = Skips::default();
        request.tick = Some(TickClaim { fire_time: tick, expected, skips, authority });
        let verdicts = node.locker().claim(&[request]).await.expect("an answer");
        verdicts.into_iter().next().expect("one verdict")
    }

    /// What a node is told of the tick that is due.
    async fn asks(&self, node: &Node, authority: Authority) -> Verdict {
        self.claim(node, self.tick, authority).await
    }

    fn knows(&self, verdict: &Verdict) -> bool {
        *verdict == Verdict::Elsewhere { cursor: self.tick.instant() }
    }

    /// The store as it is now, without the sessions.
    fn without_sessions(&self) -> callsheet_actors::adapter::RecordTable {
        let mut copied = self.store.copy();
        copied.expire(Duration::MAX);
        copied
    }
}

fn is_granted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Granted { .. })
}

fn is_held(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::NotYet { .. })
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_one_node_ran_is_granted_to_no_new_leader_after_a_fail_over() {
    let stage = Stage::new().await;
    let Stage { store, first, second, job, .. } = &stage;
    let term = first.wins().await.expect("nobody leads");
    cursor(first, job, Authority::Term(term)).await;
    let copied = stage.without_sessions();
    assert!(is_granted(&stage.asks(first, Authority::Term(term)).await));

    store.fail_over(copied);
    // The other one is faster.
    second.locker().open().await.expect("a session");
    let term = second.wins().await.expect("the term is over");
    cursor(second, job, Authority::Term(term)).await;
    let at_once = stage.asks(second, Authority::Term(term)).await;
    assert!(is_held(&at_once), "{at_once:?}");
    sleep(Duration::from_secs(3)).await;
    first.locker().open().await.expect("a session");

    let later = stage.asks(second, Authority::Term(term)).await;
    assert!(stage.knows(&later), "{later:?}");
    for _ in 0..ALL_HAVE_FOUND_IT.as_secs() {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(second.elector().renew(term).await.expect("an answer"), Renewal::Renewed);
    }
    let later = stage.asks(second, Authority::Term(term)).await;
    assert!(stage.knows(&later), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_any_node_fires_is_not_granted_again_though_all_sessions_live_on() {
    let stage = Stage::new().await;
    let Stage { store, first, second, .. } = &stage;
    let copied = store.copy();
    assert!(is_granted(&stage.asks(first, Authority::Any).await));

    store.fail_over(copied);
    let at_once = stage.asks(second, Authority::Any).await;
    assert!(is_held(&at_once), "{at_once:?}");
    // The first one asks for nothing: it finds the other server when it renews its session.
    sleep(ALL_HAVE_FOUND_IT).await;

    let later = stage.asks(second, Authority::Any).await;
    assert!(stage.knows(&later), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tick_of_which_nobody_who_lives_knows_is_granted_once_all_had_the_time() {
    let stage = Stage::new().await;
    let Stage { store, second, .. } = &stage;
    store.fail_over(stage.store.copy());

    assert!(is_held(&stage.asks(second, Authority::Any).await));
    sleep(ALL_HAVE_FOUND_IT).await;
    let later = stage.asks(second, Authority::Any).await;
    assert!(is_granted(&later), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_is_due_after_the_fail_over_waits_for_nothing() {
    let stage = Stage::new().await;
    let Stage { store, second, .. } = &stage;
    store.fail_over(stage.store.copy());
    assert!(is_held(&stage.asks(second, Authority::Any).await));

    sleep(Duration::from_secs(2)).await;
    // The job was known for an hour.
    let later = FireTime::new(stage.began + TimeDelta::hours(1) + TimeDelta::milliseconds(1_500));
    let verdict = stage.claim(second, later, Authority::Any).await;

    assert!(is_granted(&verdict), "{verdict:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_term_goes_on_waits_for_nothing() {
    let stage = Stage::new().await;
    let Stage { store, first, job, .. } = &stage;
    let term = first.wins().await.expect("nobody leads");
    cursor(first, job, Authority::Term(term)).await;

    store.fail_over(stage.store.copy());

    let verdict = stage.asks(first, Authority::Term(term)).await;
    assert!(is_granted(&verdict), "{verdict:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_after_the_fail_over_waits_as_the_others_do() {
    let stage = Stage::new().await;
    let Stage { store, first, .. } = &stage;
    let copied = store.copy();
    assert!(is_granted(&stage.asks(first, Authority::Any).await));

    store.fail_over(copied);
    let new = Node::new(store);
    new.locker().open().await.expect("a session");
    let at_once = stage.asks(&new, Authority::Any).await;
    assert!(is_held(&at_once), "{at_once:?}");
    sleep(ALL_HAVE_FOUND_IT).await;

    let later = stage.asks(&new, Authority::Any).await;
    assert!(stage.knows(&later), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgot_everything_is_told_where_its_jobs_were() {
    let stage = Stage::new().await;
    let Stage { store, first, second, job, .. } = &stage;
    assert!(is_granted(&stage.asks(first, Authority::Any).await));

    store.fail_over(callsheet_actors::adapter::RecordTable::default());
    second.locker().open().await.expect("a session");
    // It knows the job, and nothing of the tick.
    let from = cursor(second, job, Authority::Any).await;
    let at_once = stage.claim_from(second, from, stage.tick, Authority::Any).await;
    assert!(is_held(&at_once), "{at_once:?}");
    first.locker().open().await.expect("a session");

    assert_eq!(cursor(second, job, Authority::Any).await, stage.tick.instant());
    let name = RecordName::new(RecordKind::Name, "job");
    assert!(store.read(&[name], &[]).await.expect("an answer").records[0].version.is_present());
}

/// What a node does with a server that it has not met falls under that server's rules, also if the change comes between
/// the look and the commit.
#[tokio::test(start_paused = true)]
async fn a_commit_that_another_server_would_make_is_planned_again() {
    let stage = Stage::new().await;
    let Stage { store, first, second, .. } = &stage;
    let copied = store.copy();
    assert!(is_granted(&stage.asks(first, Authority::Any).await));
    second.client.fails_over_before_a_commit(copied);

    let verdict = stage.asks(second, Authority::Any).await;

    assert!(is_held(&verdict), "{verdict:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_server_of_a_scope_holds_nothing_back() {
    let stage = Stage::new().await;

    let verdict = stage.asks(&stage.second, Authority::Any).await;
    assert!(is_granted(&verdict), "{verdict:?}");
    let _: Option<Term> = stage.second.wins().await;
}
