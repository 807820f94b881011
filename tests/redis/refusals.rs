//! A server, a user or a URL that is of no use is refused, with the cause and the cure, and the password never shows.

use std::time::{Duration, Instant};

use callsheet::{
    backend::Redis,
    port::{Change, Commit, RecordsError, Version},
};
use tokio::net::TcpListener;

use super::{
    SECOND,
    harness::{self, Durability, PASSWORD, Server, server},
    made, one, put, write,
};

/// What opening a session answers.
async fn refusal(url: &str) -> RecordsError {
    let redis = Redis::new("scope", url);
    let shown = format!("{redis:?}");
    let error = redis.records().open(5 * SECOND).await.expect_err(&format!("{shown}: it opens"));
    assert!(
        !shown.contains(PASSWORD) && !format!("{error} {error:?}").contains(PASSWORD),
        "{shown}: {error:?}"
    );
    error
}

async fn refused(url: &str, reason: &str) {
    match refusal(url).await {
        RecordsError::Refused { reason: said } => assert!(said.contains(reason), "{reason}: {said}"),
        other => panic!("{reason}: {other:?}"),
    }
}

async fn unavailable(url: &str, reason: &str) {
    match refusal(url).await {
        RecordsError::Unavailable { reason: said } => assert!(said.contains(reason), "{reason}: {said}"),
        other => panic!("{reason}: {other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    refused(&server().url_with("wrong"), "check the user and the password").await;
    refused(&format!("redis://127.0.0.1:{}", server().port()), "asks for a password, and the URL has none")
        .await;
}

#[tokio::test]
async fn an_eviction_policy_that_deletes_is_refused_by_name() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let server = Server::start_with(&format!("maxmemory-policy {policy}"));
        refused(&server.url(), &format!("maxmemory-policy {policy}")).await;
        server.ask("CONFIG SET maxmemory-policy noeviction");
        Redis::new("scope", server.url()).records().open(5 * SECOND).await.expect("it is fit now");
    }
}

#[tokio::test]
async fn a_replica_is_refused_and_the_primary_beside_it_is_found() {
    let primary = Server::start(Durability::Nothing);
    let replica = Server::replica_of(&primary);
    refused(&replica.url(), "is a replica, which grants nothing; name its primary").await;

    let both = format!("redis://:{PASSWORD}@127.0.0.1:{},127.0.0.1:{}", replica.port(), primary.port());
    Redis::new("scope", both).records().open(5 * SECOND).await.expect("the second one is a primary");
}

#[tokio::test]
async fn a_primary_that_becomes_a_replica_refuses_and_is_left() {
    let [former, other] = [Server::start(Durability::Nothing), Server::start(Durability::Nothing)];
    let both = format!("redis://:{PASSWORD}@127.0.0.1:{},127.0.0.1:{}", former.port(), other.port());
    let records = Redis::new("scope", both).records();
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    former.ask(&format!("REPLICAOF 127.0.0.1 {}", other.port()));

    let late = records.commit(&put("job", version, "two")).await;
    assert!(
        matches!(&late, Err(RecordsError::NotDone { reason }) if reason.contains("is a replica")),
        "{late:?}"
    );
    let there = records.commit(&put("job", version, "two")).await.expect("the other one is a primary");
    assert_eq!(made(&there), None, "it never had what the former one had");
}

#[tokio::test]
async fn a_primary_that_became_a_replica_answers_nothing_that_may_be_outdated() {
    let [former, other] = [Server::start(Durability::Nothing), Server::start(Durability::Nothing)];
    let clients = [(); 5].map(|()| Redis::new("scope", former.url()).records());
    let [reads, lists, renews, conflicts, guarded] = clients;
    let session = renews.open(60 * SECOND).await.expect("it opens");
    let version = write(&*conflicts, "job", Version::ABSENT, "one").await;
    for records in [&reads, &lists, &guarded] {
        records.read(&[], &[session]).await.expect("it is connected");
    }

    former.ask(&format!("REPLICAOF 127.0.0.1 {}", other.port()));

    let answers = [
        reads.read(&[], &[session]).await.err(),
        lists.list(callsheet::port::RecordKind::Name, None, 10).await.err(),
        renews.renew(session).await.err(),
        conflicts.commit(&put("job", Version(version.0 ^ 1), "two")).await.err(),
        guarded.commit(&Commit { alive: vec![session], ..put("job", version, "two") }).await.err(),
    ];
    for answer in answers {
        let answer = answer.expect("no answer of a replica is believed");
        assert!(
            matches!(&answer, RecordsError::NotDone { reason } if reason.contains("is a replica")),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_sentinel_is_no_server() {
    let primary = Server::start(Durability::Nothing);
    let sentinel = Server::sentinel_of(&primary, 1);

    refused(&format!("redis://127.0.0.1:{}", sentinel.port()), "is a Sentinel; say which primary").await;
    refused(&format!("redis://127.0.0.1:{}?sentinel=other", sentinel.port()), "no primary of that name")
        .await;
    refused(&format!("redis://:{PASSWORD}@127.0.0.1:{}?sentinel=other", primary.port()), "password").await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = listener.local_addr().expect("an address").port();
    let before = Instant::now();
    unavailable(&format!("redis://:{PASSWORD}@127.0.0.1:{silent}"), "did not answer within 1s500ms").await;
    assert!(before.elapsed() < 5 * SECOND, "{:?}", before.elapsed());
    drop(listener);
    unavailable(&format!("redis://:{PASSWORD}@127.0.0.1:{silent}"), "whether the server runs").await;
    unavailable("unix:///nowhere/redis.sock", "whether the server runs").await;
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    refused(&format!("http://{PASSWORD}@h"), "its scheme is one of").await;
}

#[tokio::test]
async fn a_session_of_no_time_is_refused() {
    let records = Redis::new(harness::scope("ttl"), server().url()).records();
    for ttl in [Duration::ZERO, Duration::MAX] {
        let error = records.open(ttl).await.expect_err("no session");
        assert!(
            matches!(&error, RecordsError::Refused { reason } if reason.contains("500ms to 1d")),
            "{error:?}"
        );
    }
}

/// The rights that the documentation of `Redis` names.
const RIGHTS: &str = "+@connection +info +time +exists +get +set +del +pexpire +hget +hmget +hset +hdel +zadd +zrem \
                      +zrangebylex +eval +evalsha +script|load +publish +subscribe";

#[tokio::test]
async fn a_user_needs_the_rights_that_are_documented_and_no_others() {
    let server = Server::start(Durability::Nothing);
    let url = format!("redis://node:{PASSWORD}@127.0.0.1:{}", server.port());
    let set = |keys: &str, rights: &str| {
        let answer = server.ask(&format!("ACL SETUSER node reset on >{PASSWORD} {keys} {rights}"));
        assert!(!answer.contains("ERR"), "{answer}");
    };

    set("~callsheet:{scope}:* &callsheet:{scope}:hints", RIGHTS);
    let records = Redis::new("scope", &url).records();
    let session = records.open(5 * SECOND).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    drop(records.subscribe().await.expect("a subscription"));
    assert_eq!(records.renew(session).await, Ok(true));
    records.list(callsheet::port::RecordKind::Name, None, 10).await.expect("a page");
    let delete = Commit { alive: vec![session], ..one("job", version, Change::Delete) };
    assert_eq!(made(&records.commit(&delete).await.expect("an answer")), Some(Version::ABSENT));
    records.end(session).await.expect("it ends");

    set("~other:* &callsheet:{scope}:hints", RIGHTS);
    refused(&url, "NOPERM").await;
    set("~callsheet:{scope}:* &other", RIGHTS);
    refused(&url, "NOPERM").await;
    for right in ["+info", "+publish", "+script|load"] {
        set("~callsheet:{scope}:* &callsheet:{scope}:hints", &RIGHTS.replace(right, ""));
        refused(&url, "the rights that the documentation of Redis names").await;
    }
    set("~callsheet:{scope}:* &callsheet:{scope}:hints", &RIGHTS.replace("+hset", ""));
    let records = Redis::new("scope", &url).records();
    let late = records.commit(&put("job", Version::ABSENT, "one")).await;
    assert!(matches!(&late, Err(RecordsError::NotDone { reason }) if reason.contains("rights")), "{late:?}");
}

#[tokio::test]
async fn without_a_right_that_a_commit_needs_nothing_of_it_is_written() {
    let server = Server::start(Durability::Nothing);
    let url = format!("redis://node:{PASSWORD}@127.0.0.1:{}", server.port());
    let set = |rights: &str| {
        let to = "~callsheet:{scope}:* &callsheet:{scope}:hints";
        let answer = server.ask(&format!("ACL SETUSER node reset on >{PASSWORD} {to} {rights}"));
        assert!(!answer.contains("ERR"), "{answer}");
    };
    let refused =
        |answer| matches!(answer, Err(RecordsError::NotDone { reason }) if reason.contains("rights"));
    set(RIGHTS);
    let records = Redis::new("scope", &url).records();
    let old = write(&*records, "old", Version::ABSENT, "one").await;
    let names = ["old", "new"].map(super::name);

    for right in ["+hset", "+hdel", "+zadd", "+zrem"] {
        set(&RIGHTS.replace(right, ""));
        let mut both = put("new", Version::ABSENT, "one");
        both.units.extend(one("old", old, Change::Delete).units);
        assert!(refused(records.commit(&both).await), "{right}");

        set(RIGHTS);
        let read = records.read(&names, &[]).await.expect("an answer").records;
        let versions: Vec<_> = read.iter().map(|stored| stored.version).collect();
        assert_eq!(versions, [old, Version::ABSENT], "{right}");
    }
}
