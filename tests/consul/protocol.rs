//! What the adapter makes of the protocol: how many operations, what conflicts, and what is left behind.

use callsheet::{
    backend::Consul,
    port::{Change, Commit, Committed, Heard, RecordChange, Unit, UnitAnswer, Version},
};
use futures_util::StreamExt;

use super::{
    SECOND, SOON, alive,
    harness::{Agent, Manner},
    made, name, one, put, telling, until, write,
};

/// A unit that writes two new records.
fn pair(at: usize) -> Unit {
    pair_of("", at)
}

fn pair_of(group: &str, at: usize) -> Unit {
    let record = |id: String| RecordChange {
        name: name(&id),
        version: Version::ABSENT,
        change: Change::Put(b"x".to_vec()),
    };
    Unit {
        records: vec![record(format!("{group}{at}")), record(format!("{group}{at} too"))],
        hints: Vec::new(),
    }
}

#[tokio::test]
async fn servers_that_take_64_operations_are_asked_for_as_many() {
    for operations in [64, 128] {
        let agent = Agent::start_with(Manner { operations, ..Manner::default() });
        let records = Consul::new("scope", agent.url()).records();
        let session = records.open(10 * SECOND).await.expect("it opens");
        let mut commit = Commit { alive: vec![session], ..Commit::default() };
        commit.units = (0..60).map(pair).collect();

        let committed = records.commit(&commit).await.expect("an answer");

        let Committed::Units { answers, .. } = committed else { panic!("{committed:?}") };
        assert!(answers.iter().all(|answer| matches!(answer, UnitAnswer::Made { .. })), "{operations}");
        assert_eq!(agent.keys().len(), 121, "{operations}");
    }
}

#[tokio::test]
async fn units_that_fail_are_left_out_and_the_rest_is_done() {
    let agent = Agent::start();
    let records = Consul::new("scope", agent.url()).records();
    for at in [3, 17, 59] {
        write(&*records, &format!("{at}"), Version::ABSENT, "there").await;
    }
    let commit = Commit { units: (0..60).map(pair).collect(), ..Commit::default() };

    let committed = records.commit(&commit).await.expect("an answer");

    let Committed::Units { answers, .. } = committed else { panic!("{committed:?}") };
    let failed = answers.iter().enumerate().filter(|(_, answer)| **answer == UnitAnswer::Conflict);
    assert_eq!(failed.map(|(at, _)| at).collect::<Vec<_>>(), [3, 17, 59]);
    assert_eq!(agent.keys().len(), 3 + 2 * 57);
}

#[tokio::test]
async fn a_session_that_is_ended_leaves_nothing_and_no_lock_delay() {
    let agent = Agent::start();
    let records = Consul::new("scope", agent.url()).records();
    let session = records.open(10 * SECOND).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    assert_eq!((agent.sessions(), agent.keys().len()), (1, 2));

    records.commit(&one("job", version, Change::Delete)).await.expect("an answer");
    records.end(session).await.expect("an answer");

    assert_eq!((agent.sessions(), agent.keys()), (0, Vec::new()));
    records.open(10 * SECOND).await.expect("another one opens at once");
}

#[tokio::test]
async fn whoever_opens_and_renews_need_not_be_the_same() {
    let agent = Agent::start();
    let [one, other] = [(); 2].map(|()| Consul::new("scope", agent.url()).records());
    let session = one.open(10 * SECOND).await.expect("it opens");

    assert_eq!(other.renew(session).await, Ok(true));
    assert_eq!(other.end(session).await, Ok(()));
    assert_eq!(one.renew(session).await, Ok(false));
    assert!(!alive(&*one, session).await);
}

#[tokio::test]
async fn a_client_keeps_few_keys_of_what_it_tells_and_whoever_was_too_slow_hears_of_a_gap() {
    let agent = Agent::start();
    let [tells, listens] = [(); 2].map(|()| Consul::new("scope", agent.url()).records());
    let mut hints = listens.subscribe().await.expect("a subscription");
    tells.commit(&telling("first")).await.expect("an answer");
    let mut next =
        async || tokio::time::timeout(SOON, hints.next()).await.expect("soon").expect("it goes on");
    assert_eq!(next().await, Heard::Hint(b"first".as_slice().into()));

    // Nothing is answered to the listener, and the ring goes round.
    let before = agent.keys().len();
    for _ in 0..100 {
        tells.commit(&telling("again")).await.expect("an answer");
    }
    tells.commit(&telling("last")).await.expect("an answer");

    assert!(agent.keys().len() <= before + 31, "{:?}", agent.keys());
    while next().await != Heard::Hint(b"last".as_slice().into()) {}
}

#[tokio::test]
async fn a_guard_that_fails_between_two_transactions_leaves_the_rest_undone() {
    let agent = Agent::start_with(Manner { operations: 64, ..Manner::default() });
    let [records, other] = [(); 2].map(|()| Consul::new("scope", agent.url()).records());
    // So that it knows how many operations there may be.
    let many = Commit { units: (100..160).map(pair).collect(), ..Commit::default() };
    records.commit(&many).await.expect("an answer");
    for round in 0..20 {
        let session = records.open(10 * SECOND).await.expect("it opens");
        let group = format!("round {round}, ");
        let units = (0..60).map(|at| pair_of(&group, at)).collect();
        let commit = Commit { alive: vec![session], units, ..Commit::default() };
        let (committed, ended) =
            futures_util::future::join(records.commit(&commit), other.end(session)).await;
        ended.expect("an answer");
        match committed.expect("an answer") {
            Committed::Dead(dead) => assert_eq!(dead, session),
            Committed::Units { answers, .. } => {
                let made = answers.iter().filter(|answer| matches!(answer, UnitAnswer::Made { .. })).count();
                let found = agent.keys().iter().filter(|key| key.contains(&group)).count();
                assert_eq!(found, 2 * made, "what was answered was done, and nothing else");
            }
            Committed::LeaderMoved | Committed::OtherServer => panic!("there is no such guard"),
        }
    }
}

#[tokio::test]
async fn an_agent_that_restarts_its_servers_is_asked_again() {
    let agent = Agent::start();
    let records = Consul::new("scope", agent.url()).records();
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    agent.set(Manner { led: false, ..Manner::default() });
    let away = records.commit(&put("job", version, "two")).await;
    assert!(
        matches!(&away, Err(callsheet::port::RecordsError::Unavailable { reason }) if reason.contains("No cluster leader")),
        "{away:?}"
    );
    agent.set(Manner::default());
    until("back", async || records.read(&[], &[]).await.is_ok()).await;
    let again = records.commit(&put("job", version, "two")).await.expect("an answer");
    assert!(made(&again).is_some());
}
