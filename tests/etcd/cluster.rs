//! Three servers of which one fails: the others go on, and nobody believes the one.

use std::{sync::Arc, time::Duration};

use callsheet::{
    backend::Etcd,
    port::{Commit, Committed, Heard, Records, RecordsError, Version},
};
use futures_util::StreamExt;

use super::{SECOND, SOON, harness::Cluster, made, put, stored, telling, until, write};

/// A client that knows only one of the servers.
fn of(cluster: &Cluster, server: usize) -> Arc<dyn Records> {
    Etcd::new("scope", cluster.servers[server].url()).records()
}

fn others(than: usize) -> Vec<usize> {
    (0..3).filter(|at| *at != than).collect()
}

/// Writes until it is done.
async fn goes_on(records: &dyn Records, id: &str) {
    let written = async || {
        let commit = put(id, Version::ABSENT, "later");
        matches!(records.commit(&commit).await, Ok(Committed::Units { .. }))
    };
    until("written", written).await;
}

#[tokio::test]
async fn when_the_leader_is_killed_nothing_is_lost_and_a_session_lives_on() {
    let cluster = Cluster::start();
    let records = Etcd::new("scope", cluster.url()).records();
    let session = records.open(20 * SECOND).await.expect("it opens");
    let mut hints = records.subscribe().await.expect("a subscription");
    let mut version = Version::ABSENT;
    for round in 0..2 {
        version = write(&*records, "job", version, &round.to_string()).await;
        let leader = cluster.leader().await;
        cluster.servers[leader].kill();
        until("renewed", async || records.renew(session).await == Ok(true)).await;
        assert_eq!(stored(&*records, "job").await, Some(round.to_string()));
        cluster.start_again(leader);
    }

    let told = async || records.commit(&telling("after all")).await.is_ok();
    until("told", told).await;
    loop {
        let heard = tokio::time::timeout(SOON, hints.next()).await.expect("soon").expect("it goes on");
        if heard == Heard::Hint(b"after all".as_slice().into()) {
            break;
        }
        // The watch may have been opened again only after that.
        records.commit(&telling("after all")).await.expect("an answer");
    }
}

#[tokio::test]
async fn a_leader_that_was_frozen_is_not_believed_when_it_goes_on() {
    let cluster = Cluster::start();
    let leader = cluster.leader().await;
    let (former, newer) = (of(&cluster, leader), Etcd::new("scope", cluster.url()).records());
    let version = write(&*former, "job", Version::ABSENT, "one").await;
    let (ends, lives) = (former.open(3 * SECOND).await.expect("it opens"), newer.open(60 * SECOND).await);
    let lives = lives.expect("it opens");

    cluster.servers[leader].freeze();
    cluster.leader_of(&others(leader)).await;
    goes_on(&*newer, "meanwhile").await;
    let version = {
        let committed = newer.commit(&put("job", version, "two")).await.expect("an answer");
        made(&committed).expect("the others are a majority")
    };
    until("expired", async || newer.read(&[], &[ends]).await.is_ok_and(|read| read.alive == [false])).await;
    cluster.servers[leader].thaw();

    // Whatever it answers from its first breath on is so.
    for _ in 0..40 {
        if let Ok(read) = former.read(&[super::name("job")], &[ends, lives]).await {
            assert_eq!((read.records[0].version, read.alive), (version, vec![false, true]));
        }
        let renewed = former.renew(ends).await;
        assert!(!matches!(renewed, Ok(true)), "it has long ended");
        let guarded = Commit { alive: vec![ends], ..put("late", Version::ABSENT, "") };
        let late = former.commit(&guarded).await;
        assert!(late.is_err() || late == Ok(Committed::Dead(ends)), "{late:?}");
        let none = former.commit(&Commit { alive: vec![ends], ..Commit::default() }).await;
        assert!(none.is_err() || none == Ok(Committed::Dead(ends)), "a commit without units: {none:?}");
        tokio::time::sleep(SECOND / 40).await;
    }
    until("together again", async || former.renew(lives).await == Ok(true)).await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_answers_nothing_that_may_be_outdated() {
    let cluster = Cluster::start();
    let leader = cluster.leader().await;
    let short = Duration::from_millis(500);
    let lonely = Etcd::new("scope", cluster.servers[leader].url()).deadline(short).records();
    let session = lonely.open(60 * SECOND).await.expect("it opens");
    let version = write(&*lonely, "job", Version::ABSENT, "one").await;

    cluster.cut_off(Some(leader));
    // Also while it still believes that it leads.
    for _ in 0..5 {
        let guards = Commit { alive: vec![session], ..Commit::default() };
        let answers = [
            lonely.read(&[super::name("job")], &[session]).await.err(),
            lonely.list(callsheet::port::RecordKind::Name, None, 10).await.err(),
            lonely.renew(session).await.err(),
            lonely.commit(&guards).await.err(),
            lonely.commit(&Commit { alive: vec![session], ..put("job", version, "lonely") }).await.err(),
            lonely.end(session).await.err(),
            lonely.open(10 * SECOND).await.err(),
        ];
        for (at, answer) in answers.into_iter().enumerate() {
            let answer = answer.unwrap_or_else(|| panic!("call {at} was answered by one that is cut off"));
            assert!(
                !matches!(answer, RecordsError::Refused { .. }),
                "call {at}: it may come back: {answer:?}"
            );
        }
    }

    cluster.leader_of(&others(leader)).await;
    let together = of(&cluster, others(leader)[0]);
    // A server that has lost its leader lets nobody in for a moment, and is slow for another one.
    let found = std::cell::RefCell::new(None);
    until("let in", async || {
        let snapshot = together.read(&[super::name("job")], &[session]).await.ok();
        *found.borrow_mut() = snapshot;
        found.borrow().is_some()
    })
    .await;
    let found = found.into_inner().expect("it is let in");
    assert_eq!(found.records[0].bytes, b"one");
    assert_eq!(found.alive, [true], "its lease began anew with the new leader");
    cluster.cut_off(None);
    until("together again", async || lonely.renew(session).await == Ok(true)).await;
    let after = lonely.commit(&put("job", version, "two")).await.expect("an answer");
    assert!(made(&after).is_some(), "what it could not do was not done later");
}

#[tokio::test]
async fn a_node_goes_on_to_a_server_that_is_not_cut_off() {
    let cluster = Cluster::start();
    let records = Etcd::new("scope", cluster.url()).records();
    let session = records.open(20 * SECOND).await.expect("it opens");
    for member in 0..3 {
        cluster.cut_off(Some(member));
        until("renewed", async || records.renew(session).await == Ok(true)).await;
        goes_on(&*records, &format!("without {member}")).await;
        cluster.cut_off(None);
    }
    for member in 0..3 {
        cluster.servers[member].freeze();
        until("renewed", async || records.renew(session).await == Ok(true)).await;
        goes_on(&*records, &format!("while {member} stands still")).await;
        cluster.servers[member].thaw();
        cluster.servers[member].wait();
    }
}
