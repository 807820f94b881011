//! Over a store of records: the suite of electors, and what a leader leaves in the store.

#[path = "../records/client.rs"]
#[allow(dead_code, reason = "another program uses all of it")]
mod client;

use std::sync::Arc;

use std::time::Duration;

use callsheet::{
    JobName, LockKey, NodeId, Outcome, Term,
    backend::Elected,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Clock, Completion, ElectError, Election, ElectionOf,
        Elector, Enrolled, Enrolment, Handover, Handovers, Inquiry, LeaderSaid, LeaderView, LockError,
        Locker, Observation, Proof, Renewal, ScheduleIdentity, Session, Verdict,
    },
    testkit::{
        MemoryRecords, VirtualClock,
        conformance::{self, Cluster},
    },
};
use callsheet_actors::{RunIds, adapter::RecordsBackend};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::Notify;

use self::client::Client;
use crate::{START, secs};

/// An election of which something is changed.
struct Odd {
    inner: ElectionOf,
    of: Arc<Changed>,
}

struct Changed {
    inner: Arc<dyn Elector>,
    /// Its terms have no lease.
    leaseless: bool,
    /// What is left in the first term waits for this, and is refused then.
    gate: Option<Notify>,
}

impl Odd {
    fn over(
        store: &MemoryRecords,
        clock: &VirtualClock,
        leaseless: bool,
        gate: Option<Notify>,
    ) -> (Self, Arc<Changed>) {
        let inner = ElectionOf::new(RecordsBackend::new(Arc::new(store.clone()), "elected", secs(5)));
        inner.set_clock(Arc::new(clock.another()));
        let of = Arc::new(Changed { inner: inner.elector(), leaseless, gate });
        (Self { inner, of: of.clone() }, of)
    }
}

impl Election for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn scope(&self) -> Arc<str> {
        self.inner.scope()
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(OddElector(self.of.clone()))
    }

    fn session(&self) -> Option<Arc<dyn Locker>> {
        self.inner.session()
    }

    fn lease(&self) -> Duration {
        self.inner.lease()
    }
}

struct OddElector(Arc<Changed>);

impl Elector for OddElector {
    fn campaign(&self, patience: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        async move {
            let mut answer = self.0.inner.campaign(patience).await?;
            if let Campaign::Won(grant) = &mut answer {
                grant.lease = grant.lease.filter(|_| !self.0.leaseless);
            }
            Ok(answer)
        }
        .boxed()
    }

    fn observe(&self, stands: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        self.0.inner.observe(stands)
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        self.0.inner.renew(term)
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        self.0.inner.resign(term)
    }

    fn handovers(&self) -> Option<&dyn Handovers> {
        Some(self)
    }
}

impl Handovers for OddElector {
    fn newest(&self) -> BoxFuture<'_, Result<Option<Handover>, ElectError>> {
        self.0.inner.handovers().expect("it keeps them").newest()
    }

    fn leave<'a>(&'a self, term: Term, handover: &'a Handover) -> BoxFuture<'a, Result<Renewal, ElectError>> {
        async move {
            let left = self.0.inner.handovers().expect("it keeps them").leave(term, handover).await?;
            match &self.0.gate {
                // The first word of a term is not held.
                Some(gate) if term == Term(1) && handover.said.mark > 0 => {
                    gate.notified().await;
                    Ok(Renewal::Deposed)
                }
                Some(_) | None => Ok(left),
            }
        }
        .boxed()
    }
}

/// A node that leads, and its term and session.
async fn lead(backend: &Elected) -> (Term, Session) {
    let session = backend.locker().open().await.expect("a session");
    match backend.elector().campaign(secs(1)).await.expect("an answer") {
        Campaign::Won(grant) => (grant.term, session),
        lost @ Campaign::Lost { .. } => panic!("{lost:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_term_without_a_lease_leaves_only_a_few_seconds_unproven_and_each_proof_more() {
    let clock = clock();
    let store = MemoryRecords::new(Arc::new(clock.clone()));
    let (election, odd) = Odd::over(&store, &clock, true, None);
    let backend = Elected::new(election);
    backend.set_clock(Arc::new(clock.another()));
    let starts_to = async || {
        let newest = odd.inner.handovers().expect("it keeps them").newest().await.expect("an answer");
        newest.and_then(|left| left.starts_to).expect("it may start something") - clock.now()
    };

    let (term, _) = lead(&backend).await;

    assert_eq!(starts_to().await, TimeDelta::seconds(10), "two leases");
    tokio::time::sleep(secs(4)).await;
    let proof = Proof { term: Some(term), overdue_since: None, all_decided: true, catching_up_until: None };
    backend.locker().prove(proof).await.expect("it leads");
    assert_eq!(starts_to().await, TimeDelta::seconds(10));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_late_of_a_term_that_is_over_does_not_end_the_one_after_it() {
    let clock = clock();
    let store = MemoryRecords::new(Arc::new(clock.clone()));
    let (election, odd) = Odd::over(&store, &clock, false, Some(Notify::new()));
    let backend = Elected::new(election);
    backend.set_clock(Arc::new(clock.another()));
    let (first, session) = lead(&backend).await;
    let locker = backend.locker();
    let late = locker.clone();
    let late = tokio::spawn(async move {
        late.prove(Proof {
            term: Some(first),
            overdue_since: None,
            all_decided: true,
            catching_up_until: None,
        })
        .await
    });
    tokio::time::sleep(secs(1)).await;

    locker.discard(session, "the test says so");
    let (_, session) = lead(&backend).await;
    odd.gate.as_ref().expect("there is one").notify_one();
    let late = late.await.expect("it did not panic");

    assert!(late.is_err(), "that term is over: {late:?}");
    assert!(locker.trusts(session), "the new one goes on");
}

#[tokio::test(start_paused = true)]
async fn a_leader_hears_of_no_job_that_it_lacks_and_claims_by_its_term_alone() {
    let clock = clock();
    let store = MemoryRecords::new(Arc::new(clock.clone()));
    let (election, _) = Odd::over(&store, &clock, false, None);
    let backend = Elected::new(election);
    backend.set_clock(Arc::new(clock.another()));
    lead(&backend).await;
    let locker = backend.locker();
    let (job, schedule) =
        (JobName::new("job").expect("a good name"), ScheduleIdentity::of_text("every minute"));

    // Its engine does not know yet that it leads.
    let asked = Inquiry { job: job.clone(), schedule };
    assert_eq!(locker.inquire(&[asked]).await.expect("an answer"), [LeaderView::Scheduled]);
    let of = |authority| Enrolment::new(job.clone(), schedule, authority);
    for authority in [Authority::Leaderless, Authority::Any] {
        assert_eq!(locker.enrol(&[of(authority)]).await.expect("an answer"), [Enrolled::HasLeader]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_when_the_lead_is_not_trusted_any_more_is_lost() {
    let clock = clock();
    let store = MemoryRecords::new(Arc::new(clock.clone()));
    let (election, _) = Odd::over(&store, &clock, false, None);
    let backend = Elected::new(election);
    backend.set_clock(Arc::new(clock.another()));
    lead(&backend).await;
    let locker = backend.locker();
    let (job, key) = (JobName::new("job").expect("a good name"), LockKey::new("key").expect("a good key"));
    let run = RunIds::of(NodeId::random()).next(clock.now());
    let asked = ClaimRequest::new(job.clone(), key.clone(), run);
    let granted = locker.claim(&[asked]).await.expect("it leads");
    let [Verdict::Granted { token, .. }] = granted[..] else { panic!("{granted:?}") };

    // The process stands still: nothing renews, and nobody watches.
    tokio::time::advance(secs(60)).await;

    let end = Completion::new(job, key, run, token, Outcome::Succeeded);
    let ended = locker.complete(&[end]).await;
    assert!(matches!(&ended, Err(LockError::SessionLost { .. })), "another node may run the key: {ended:?}");
}

fn clock() -> VirtualClock {
    VirtualClock::starting_at(START.parse().expect("an instant"))
}

/// Nodes that elect by records in memory.
struct Nodes {
    clock: VirtualClock,
    store: MemoryRecords,
    nodes: Vec<(Arc<dyn Backend>, Arc<Client>)>,
}

impl Cluster for Nodes {
    fn nodes_max(&self) -> usize {
        usize::MAX
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let client = Arc::new(Client::new(self.store.clone(), None));
        let backend = Elected::over(RecordsBackend::new(client.clone(), "elected", secs(5)));
        backend.set_clock(Arc::new(self.clock.another()));
        let backend: Arc<dyn Backend> = Arc::new(backend);
        self.nodes.push((backend.clone(), client));
        async move { backend }.boxed()
    }

    fn kill(&mut self, backend: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        let of = |(node, _): &&(Arc<dyn Backend>, _)| Arc::ptr_eq(node, backend);
        let (_, client) = self.nodes.iter().find(of).expect("a node of this cluster");
        client.opened().into_iter().for_each(|session| self.store.expire(session));
        async {}.boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

#[tokio::test(start_paused = true)]
async fn elected_over_records_is_an_elector() {
    let clock = clock();
    let store = MemoryRecords::new(Arc::new(clock.clone()));

    conformance::elector(&mut Nodes { clock, store, nodes: Vec::new() }).await;
}

#[tokio::test(start_paused = true)]
async fn elected_over_records_cannot_do_what_it_does_not_declare() {
    let clock = clock();
    let store = MemoryRecords::new(Arc::new(clock.clone()));

    conformance::limits(&mut Nodes { clock, store, nodes: Vec::new() }).await;
}

#[tokio::test(start_paused = true)]
async fn a_handover_is_left_by_the_leader_alone_and_outlives_it() {
    let store = MemoryRecords::new(Arc::new(clock()));
    let node = async || {
        let election = ElectionOf::new(RecordsBackend::new(Arc::new(store.clone()), "elected", secs(5)));
        election.session().expect("it needs one").open().await.expect("a session");
        election.elector()
    };
    let win = async |elector: &dyn Elector| match elector.campaign(secs(1)).await.expect("an answer") {
        Campaign::Won(grant) => grant.term,
        lost @ Campaign::Lost { .. } => panic!("{lost:?}"),
    };
    let [first, second] = [node().await, node().await];
    let of = |elector: &Arc<dyn Elector>| elector.clone();
    let term = win(&*first).await;
    let decided_to = START.parse().expect("an instant");
    let said = LeaderSaid::default();
    let handover = Handover { term, decided_to, behind: Vec::new(), starts_to: None, said };
    let newest = async |elector: &Arc<dyn Elector>| {
        let elector = of(elector);
        elector.handovers().expect("it keeps them").newest().await.expect("an answer")
    };
    let leave = async |elector: &Arc<dyn Elector>, term| {
        let elector = of(elector);
        let left = Handover { term, ..handover.clone() };
        elector.handovers().expect("it keeps them").leave(term, &left).await.expect("an answer")
    };
    assert_eq!(newest(&second).await, None);

    assert_eq!(leave(&first, term).await, Renewal::Renewed);
    assert_eq!(newest(&second).await, Some(handover.clone()));
    assert_eq!(leave(&second, term).await, Renewal::Deposed, "it is not its term");

    first.resign(term).await.expect("an answer");
    let next = win(&*second).await;
    assert_eq!(leave(&first, term).await, Renewal::Deposed, "its term is over");
    assert_eq!(newest(&second).await, Some(handover.clone()));
    assert_eq!(leave(&second, next).await, Renewal::Renewed);
    assert_eq!(newest(&first).await.map(|left| left.term), Some(next));
}
