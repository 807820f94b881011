//! What becomes of a node whose store does not answer, or forgets.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    DivergedRun, FireTime, JobName, LockKey, NodeId, Outcome, Pause, RunId, Term,
    port::{
        Authority, Backend, Campaign, Change, ClaimRequest, Commit, Completed, Completion, CursorAdvance,
        Divergence, Elector, Enrolled, Enrolment, GrantedRun, Heard, KnownHistory, LockError, Locker,
        Notification, Proof, RecordChange, RecordKind, RecordName, Records, Renewal, ScheduleIdentity, Skips,
        TickClaim, Unit, Verdict,
    },
    testkit::MemoryRecords,
};
use callsheet_actors::{RunIds, adapter::RecordsBackend};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use uuid::Uuid;

use crate::{LEASE, client::Client, least, memory};

const JOBS: usize = 20;

pub(crate) struct Node {
    pub(crate) client: Arc<Client>,
    backend: RecordsBackend,
}

impl Node {
    pub(crate) fn new(store: &MemoryRecords) -> Self {
        let client = Arc::new(Client::new(store.clone(), least()));
        let backend = RecordsBackend::new(client.clone(), "outages", LEASE);
        Self { client, backend }
    }

    pub(crate) fn locker(&self) -> Arc<dyn Locker> {
        self.backend.locker()
    }

    pub(crate) fn elector(&self) -> Arc<dyn Elector> {
        self.backend.elector()
    }

    /// The term that it wins at once; `None`: another node leads.
    pub(crate) async fn wins(&self) -> Option<Term> {
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

/// Jobs that this node has, as the leader or without one.
fn enrolment(job: &JobName, authority: Authority) -> Enrolment {
    let mut enrolment = Enrolment::new(job.clone(), ScheduleIdentity::of_text("a schedule"), authority);
    // For a long time.
    enrolment.known_for = Duration::from_secs(3_600);
    enrolment
}

pub(crate) async fn cursor(node: &Node, job: &JobName, authority: Authority) -> DateTime<Utc> {
    let enrolled = node.locker().enrol(&[enrolment(job, authority)]).await.expect("an answer");
    match &enrolled[..] {
        [Enrolled::Done { cursor, .. }] => *cursor,
        other => panic!("it is not enrolled: {other:?}"),
    }
}

async fn claim(node: &Node, job: &JobName, tick: FireTime, expected: DateTime<Utc>) -> (RunId, Verdict) {
    let run = RunIds::of(NodeId::numbered(1)).next(Utc::now());
    let mut request = ClaimRequest::new(job.clone(), LockKey::from(job), run);
    request.tick =
        Some(TickClaim { fire_time: tick, expected, skips: Skips::default(), authority: Authority::Any });
    let verdicts = node.locker().claim(&[request]).await.expect("an answer");
    (run, verdicts.into_iter().next().expect("one verdict"))
}

/// Takes the store back to what it was.
async fn restore(store: &MemoryRecords, was: &[(RecordName, Vec<u8>)]) {
    for (name, bytes) in was {
        overwrite(store, name.clone(), Change::Put(bytes.clone())).await;
    }
}

async fn copy(store: &MemoryRecords, names: &[RecordName]) -> Vec<(RecordName, Vec<u8>)> {
    let read = store.read(names, &[]).await.expect("an answer");
    names.iter().cloned().zip(read.records.into_iter().map(|record| record.bytes)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_a_node_knows_to_be_decided_is_not_granted_again_by_a_store_that_forgot_it() {
    let store = memory();
    let node = Node::new(&store);
    node.locker().open().await.expect("a session");
    let job = JobName::new("job").expect("a name");
    let name = RecordName::new(RecordKind::Name, "job");
    let began = cursor(&node, &job, Authority::Any).await;
    let before = copy(&store, std::slice::from_ref(&name)).await;
    let tick = FireTime::new(began + TimeDelta::minutes(10));
    let (_, granted) = claim(&node, &job, tick, began).await;
    assert!(matches!(granted, Verdict::Granted { .. }), "{granted:?}");

    restore(&store, &before).await;

    let (_, again) = claim(&node, &job, tick, began).await;
    assert!(matches!(again, Verdict::Elsewhere { cursor } if cursor == tick.instant()), "{again:?}");
    assert_eq!(cursor(&node, &job, Authority::Any).await, tick.instant());
    // It is in the store again, for others.
    let other = Node::new(&store);
    other.locker().open().await.expect("a session");
    assert_eq!(cursor(&other, &job, Authority::Any).await, tick.instant());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_a_store_forgot_owes_no_tick_that_the_node_knows_to_be_decided() {
    let store = memory();
    let node = Node::new(&store);
    node.locker().open().await.expect("a session");
    let job = JobName::new("job").expect("a name");
    let began = cursor(&node, &job, Authority::Any).await;
    let tick = FireTime::new(began + TimeDelta::minutes(10));
    claim(&node, &job, tick, began).await;

    overwrite(&store, RecordName::new(RecordKind::Name, "job"), Change::Delete).await;

    let next = FireTime::new(tick.instant() + TimeDelta::minutes(1));
    let (_, unknown) = claim(&node, &job, next, tick.instant()).await;
    assert_eq!(unknown, Verdict::Unknown);
    assert_eq!(cursor(&node, &job, Authority::Any).await, tick.instant());
}

#[tokio::test(start_paused = true)]
async fn what_a_store_forgot_is_named_and_the_cursors_are_written_forward() {
    let store = memory();
    let node = Node::new(&store);
    node.locker().open().await.expect("a session");
    let term = node.wins().await.expect("nobody leads");
    let [ran, skipped] = ["ran", "skipped"].map(|name| JobName::new(name).expect("a name"));
    let names = [
        RecordName::only(RecordKind::Leader),
        RecordName::new(RecordKind::Name, "ran"),
        RecordName::new(RecordKind::Name, "skipped"),
    ];
    let [of_ran, of_skipped] =
        [cursor(&node, &ran, Authority::Any).await, cursor(&node, &skipped, Authority::Any).await];
    let before = copy(&store, &names).await;
    let tick = FireTime::new(of_ran + TimeDelta::minutes(10));
    let (run, verdict) = claim(&node, &ran, tick, of_ran).await;
    let Verdict::Granted { token, .. } = verdict else { panic!("{verdict:?}") };
    let to = FireTime::new(of_skipped + TimeDelta::minutes(20));
    let advance = CursorAdvance {
        id: Uuid::new_v4(),
        job: skipped.clone(),
        expected: of_skipped,
        to,
        skips: Skips::default(),
        authority: Authority::Any,
    };
    node.locker().advance(&[advance]).await.expect("an answer");
    let granted =
        GrantedRun { job: ran.clone(), key: LockKey::from(&ran), run, fire_time: Some(tick), token };
    let known = KnownHistory { term: Some(term), runs: vec![granted.clone()] };
    let same = node.locker().compare(&known).await.expect("an answer");
    assert_eq!(same, Divergence::default(), "the store knows everything");

    restore(&store, &before).await;
    let divergence = node.locker().compare(&known).await.expect("an answer");

    assert_eq!(divergence, Divergence { term: None, runs: vec![DivergedRun::new(&granted)] });
    // Another node sees what the first one wrote.
    let other = Node::new(&store);
    other.locker().open().await.expect("a session");
    assert_eq!(cursor(&other, &ran, Authority::Any).await, tick.instant());
    assert_eq!(cursor(&other, &skipped, Authority::Any).await, to.instant());
}

#[tokio::test(start_paused = true)]
async fn an_end_whose_answer_was_lost_is_recorded_though_nine_runs_of_the_key_ended_since() {
    let store = memory();
    let node = Node::new(&store);
    let other = Node::new(&store);
    for node in [&node, &other] {
        node.locker().open().await.expect("a session");
    }
    let ids = RunIds::of(NodeId::numbered(1));
    let job = JobName::new("often").expect("a name");
    let claim = async |node: &Node| {
        let request = ClaimRequest::new(job.clone(), LockKey::from(&job), ids.next(Utc::now()));
        let verdicts = node.locker().claim(std::slice::from_ref(&request)).await.expect("an answer");
        let [Verdict::Granted { token, .. }] = verdicts[..] else { panic!("{verdicts:?}") };
        Completion::new(job.clone(), LockKey::from(&job), request.run, token, Outcome::Succeeded)
    };
    let end = claim(&node).await;
    node.client.answer_only(0);
    node.locker().complete(std::slice::from_ref(&end)).await.expect_err("no answer");
    node.client.answer_all();
    for _ in 0..9 {
        let of_other = claim(&other).await;
        other.locker().complete(&[of_other]).await.expect("an answer");
    }

    let again = node.locker().complete(std::slice::from_ref(&end)).await.expect("an answer");

    assert!(matches!(again[..], [Completed::Recorded { .. }]), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_believed_only_if_the_record_says_so() {
    let store = memory();
    let (holder, other) = (Node::new(&store), Node::new(&store));
    let session = holder.locker().open().await.expect("a session");
    other.locker().open().await.expect("a session");
    let ids = RunIds::of(NodeId::numbered(1));
    let job = JobName::new("job").expect("a name");
    let request = || ClaimRequest::new(job.clone(), LockKey::from(&job), ids.next(Utc::now()));
    let held = request();
    holder.locker().claim(std::slice::from_ref(&held)).await.expect("an answer");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (told, locker) = (heard.clone(), holder.locker());
    tokio::spawn(async move {
        loop {
            let notification = locker.next_notification(session).await;
            told.lock().expect("nobody panicked").push(notification);
        }
    });

    let name = RecordName::new(RecordKind::Name, "job");
    let before = copy(&store, std::slice::from_ref(&name)).await;
    let mut hints = store.subscribe().await.expect("a subscription");

    let mut replaces = request();
    replaces.replace = true;
    let verdicts = other.locker().claim(&[replaces]).await.expect("an answer");
    assert!(matches!(verdicts[..], [Verdict::Busy { .. }]), "{verdicts:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*heard.lock().expect("nobody panicked"), [Notification::Stop { run: held.run }]);

    // As whoever may publish hints, and nothing else.
    let Some(Heard::Hint(forged)) = hints.next().await else { panic!("a hint") };
    restore(&store, &before).await;
    let unit = Unit { records: Vec::new(), hints: vec![forged] };
    store.commit(&Commit { units: vec![unit], ..Commit::default() }).await.expect("it is told");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(heard.lock().expect("nobody panicked").len(), 1, "nobody asked for it");
}
