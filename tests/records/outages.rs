//! What becomes of a node whose store does not answer, or forgets.

use std::{sync::Arc, time::Duration};

use callsheet::{
    JobName, LockKey, NodeId, Pause, Term,
    port::{
        Authority, Backend, Campaign, Change, ClaimRequest, Commit, Elector, Enrolled, Enrolment, LockError,
        Locker, Notification, Proof, RecordChange, RecordKind, RecordName, Records, Renewal,
        ScheduleIdentity, Unit, Verdict,
    },
    testkit::MemoryRecords,
};
use callsheet_actors::{RunIds, adapter::RecordsBackend};

use crate::{LEASE, client::Client, least, memory};

const JOBS: usize = 20;

struct Node {
    client: Arc<Client>,
    backend: RecordsBackend,
}

impl Node {
    fn new(store: &MemoryRecords) -> Self {
        let client = Arc::new(Client::new(store.clone(), least()));
        let backend = RecordsBackend::new(client.clone(), "outages", LEASE);
        Self { client, backend }
    }

    fn locker(&self) -> Arc<dyn Locker> {
        self.backend.locker()
    }

    fn elector(&self) -> Arc<dyn Elector> {
        self.backend.elector()
    }

    /// The term that it wins at once; `None`: another node leads.
    async fn wins(&self) -> Option<Term> {
        match self.elector().campaign(Duration::ZERO).await.expect("an answer") {
            Campaign::Won(grant) => Some(grant.term),
            Campaign::Lost { .. } => None,
        }
    }
}

/// Writes over a record behind the back of all nodes.
async fn overwrite(store: &MemoryRecords, name: RecordName, change: Change) {
    let read = store.read(std::slice::from_ref(&name), &[]).await.expect("an answer");
    let records = vec![RecordChange { name, version: read.records[0].version, change }];
    let commit = Commit { units: vec![Unit { records, hints: Vec::new() }], ..Commit::default() };
    store.commit(&commit).await.expect("it is written");
}

#[tokio::test(start_paused = true)]
async fn a_campaign_that_was_not_answered_keeps_nobody_from_the_lead() {
    let node = Node::new(&memory());
    node.locker().open().await.expect("a session");
    node.client.answer_only(0);
    node.elector().campaign(Duration::ZERO).await.expect_err("no answer");
    node.client.answer_all();

    assert_eq!(node.wins().await, Some(Term(2)));
}

#[tokio::test(start_paused = true)]
async fn a_term_that_could_not_be_resigned_ends_before_the_next_campaign() {
    let node = Node::new(&memory());
    node.locker().open().await.expect("a session");
    let term = node.wins().await.expect("nobody leads");
    node.client.answer_only(0);
    node.elector().resign(term).await.expect_err("no answer");
    node.client.answer_all();

    assert_eq!(node.wins().await, Some(Term(2)));
}

#[tokio::test(start_paused = true)]
async fn of_two_leaders_of_one_number_the_one_in_the_record_leads() {
    let store = memory();
    let (former, present) = (Node::new(&store), Node::new(&store));
    for node in [&former, &present] {
        node.locker().open().await.expect("a session");
    }
    let term = former.wins().await.expect("nobody leads");
    // A fail-over loses it.
    overwrite(&store, RecordName::only(RecordKind::Leader), Change::Delete).await;
    assert_eq!(present.wins().await, Some(term));
    let name = JobName::new("job").expect("a name");
    let enrolment =
        || Enrolment::new(name.clone(), ScheduleIdentity::of_text("a schedule"), Authority::Term(term));

    let of_former = former.locker().enrol(&[enrolment()]).await.expect("an answer");
    let of_present = present.locker().enrol(&[enrolment()]).await.expect("an answer");

    assert!(matches!(of_former[..], [Enrolled::Deposed { .. }]), "{of_former:?}");
    assert!(matches!(of_present[..], [Enrolled::Done { .. }]), "{of_present:?}");
    assert_eq!(former.elector().renew(term).await.expect("an answer"), Renewal::Deposed);
    assert_eq!(present.elector().renew(term).await.expect("an answer"), Renewal::Renewed);
}

#[tokio::test(start_paused = true)]
async fn every_lost_run_is_told_once_though_a_search_fails_on_its_way() {
    let store = memory();
    let (dead, finder) = (Node::new(&store), Node::new(&store));
    for node in [&dead, &finder] {
        node.locker().open().await.expect("a session");
    }
    let ids = RunIds::of(NodeId::numbered(1));
    let claims: Vec<_> = (0..JOBS)
        .map(|number| {
            let job = JobName::new(format!("job-{number}")).expect("a name");
            ClaimRequest::new(job.clone(), LockKey::from(&job), ids.next(chrono::Utc::now()))
        })
        .collect();
    let verdicts = dead.locker().claim(&claims).await.expect("an answer");
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Granted { .. })), "{verdicts:?}");
    dead.client.opened().into_iter().for_each(|session| store.expire(session));

    finder.client.answer_only(JOBS / 2);
    finder.locker().close_lost(JOBS).await.expect_err("no answer");
    finder.client.answer_all();
    let mut told: Vec<_> = Vec::new();
    loop {
        let closed = finder.locker().close_lost(7).await.expect("an answer");
        assert!(closed.lost.len() <= 7);
        told.extend(closed.lost.into_iter().map(|lost| lost.run));
        if !closed.more {
            break;
        }
    }

    told.sort();
    let mut runs: Vec<_> = claims.iter().map(|claim| claim.run).collect();
    runs.sort();
    // Of the one commit that was made and not answered nobody knows.
    assert_eq!(told.len(), JOBS - 1, "each is told once");
    assert!(told.iter().all(|run| runs.contains(run)));
    told.dedup();
    assert_eq!(told.len(), JOBS - 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_stops_when_a_newer_one_has_raised_the_format() {
    let store = memory();
    let node = Node::new(&store);
    let session = node.locker().open().await.expect("a session");
    node.locker().prove(Proof::default()).await.expect("it can write");
    // A map of one entry, `format`, with the number 2, in MessagePack.
    let newer = Change::Put(b"\x81\xa6format\x02".to_vec());
    overwrite(&store, RecordName::only(RecordKind::Format), newer).await;

    let proved = node.locker().prove(Proof::default()).await;

    assert!(
        matches!(&proved, Err(LockError::Refused { reason }) if reason.contains("format 2")),
        "{proved:?}"
    );
    assert!(!node.locker().trusts(session));
    let opened = node.locker().open().await;
    assert!(matches!(&opened, Err(LockError::Refused { .. })), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_holds_up_no_other_notification() {
    let store = memory();
    let (teller, listener) = (Node::new(&store), Node::new(&store));
    teller.locker().open().await.expect("a session");
    let session = listener.locker().open().await.expect("a session");
    let [first, second] = ["first", "second"].map(|name| JobName::new(name).expect("a name"));
    let pause = Pause::until_resumed();
    for job in [&first, &second] {
        teller.locker().pause(std::slice::from_ref(job), Some(&pause)).await.expect("an answer");
    }
    overwrite(&store, RecordName::new(RecordKind::Name, "first"), Change::Put(b"not a row".to_vec())).await;

    let locker = listener.locker();
    let told = tokio::time::timeout(Duration::from_secs(60), locker.next_notification(session)).await;

    let told = told.expect("something is told");
    assert!(matches!(&told, Notification::PauseChanged { job, .. } if *job == second), "{told:?}");
}
