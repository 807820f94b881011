//! The port through a pooler that works.

use std::sync::Arc;

use callsheet::{
    backend::PostgresLease,
    port::{Change, Commit, Committed, RecordChange, RecordKind, Unit, UnitAnswer, Version},
    testkit::conformance::records,
};
use tokio::time::sleep;

use super::{
    SECOND, alive, ask, client,
    harness::{self, Server},
    made, name, one, patient, pooler,
    pooler::Pooler,
    put,
    store::Clients,
    stored, until, write,
};

#[tokio::test]
async fn it_is_a_store_of_records() {
    records(&mut Clients { scope: harness::scope("suite 's größe"), connect: patient }).await;
}

#[tokio::test]
async fn it_is_one_through_a_pooler_with_a_single_connection_and_without_any() {
    let single = Pooler::before(harness::server(), 1);
    for url in [single.url(), harness::server().url()] {
        let connect =
            |scope: &str| PostgresLease::new(scope, &url).schema("single").deadline(5 * SECOND).records();
        records(&mut Clients { scope: harness::scope("single"), connect }).await;
    }
}

#[tokio::test]
async fn nothing_of_a_session_is_left_on_the_server() {
    let scope = harness::scope("nothing");
    let records = client(&scope);
    let session = records.open(60 * SECOND).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    let guarded = Commit { alive: vec![session], ..put("job", version, "two") };
    records.commit(&guarded).await.expect("an answer");

    let left = ask(
        harness::server(),
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = x'68656565'::int; SELECT pid FROM pg_stat_activity \
         WHERE application_name LIKE 'callsheet nothing%' AND state LIKE 'idle in transaction%'",
    );
    assert_eq!(left.await, [] as [&str; 0]);
    // Each process of the pooler's: none has what another one lacks.
    let through = harness::connect(&pooler().url()).await;
    for _ in 0..12 {
        let named = through.simple_query("SELECT name FROM pg_prepared_statements").await.expect("an answer");
        let rows = named.iter().filter(|of| matches!(of, tokio_postgres::SimpleQueryMessage::Row(_))).count();
        assert_eq!(rows, 0, "prepared statements");
        for setting in ["lock_timeout", "idle_in_transaction_session_timeout"] {
            let shown = through.simple_query(&format!("SHOW {setting}")).await.expect("an answer");
            let value = shown.iter().find_map(|of| match of {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            assert_eq!(value, Some("0"), "{setting}");
        }
    }
}

#[tokio::test]
async fn a_renewal_that_waited_across_the_expiry_and_who_finds_it_expired_agree() {
    for round in 0..3 {
        let scope = harness::scope("revived");
        let (renews, looks) = (client(&scope), client(&scope));
        let session = renews.open(SECOND).await.expect("it opens");
        looks.read(&[], &[]).await.expect("it is connected");
        // Somebody locks the row until its time is over: the renewal, which begins before, waits, and so does whoever
        // finds it expired.
        let other = harness::connect(&harness::server().url()).await;
        let lock = format!(
            "BEGIN; SELECT FROM callsheet_lease.sessions WHERE id = {} FOR UPDATE",
            session.0.cast_signed()
        );
        other.batch_execute(&lock).await.expect("it is free");
        let release = async {
            sleep(SECOND + SECOND / 5).await;
            other.batch_execute("ROLLBACK").await.expect("it ends");
        };
        let looking = async {
            sleep(SECOND + SECOND / 20 * round).await;
            alive(&*looks, session).await
        };

        let (renewed, seen, ()) = tokio::join!(renews.renew(session), looking, release);

        let renewed = renewed.expect("an answer");
        assert!(seen || !alive(&*renews, session).await, "who was told that it is gone is told so for ever");
        assert!(seen || renews.renew(session).await == Ok(false), "and so is its owner");
        assert!(renewed || !alive(&*looks, session).await, "who could not renew it is gone for all");
    }
}

#[tokio::test]
async fn a_renewal_waits_for_no_commit_that_its_session_guards() {
    let scope = harness::scope("renewal");
    let records = client(&scope);
    let session = records.open(30 * SECOND).await.expect("it opens");
    let other = harness::connect(&harness::server().url()).await;
    let lock = format!(
        "BEGIN; SELECT FROM callsheet_lease.sessions WHERE id = {} FOR KEY SHARE",
        session.0.cast_signed()
    );
    other.batch_execute(&lock).await.expect("it is free");

    assert_eq!(records.renew(session).await, Ok(true));
    let ended = records.end(session).await;

    assert!(ended.is_err(), "but its end waits: {ended:?}");
    other.batch_execute("ROLLBACK").await.expect("it ends");
    until("ended", async || records.end(session).await.is_ok()).await;
}

#[tokio::test]
async fn sessions_that_are_long_gone_are_deleted_in_portions_when_others_open() {
    let scope = harness::scope("left");
    let records = client(&scope);
    records.open(60 * SECOND).await.expect("it opens, and the tables are there");
    let server = harness::server();
    let old = format!(
        "INSERT INTO callsheet_lease.sessions SELECT convert_to('{scope}', 'UTF8'), nth, 1000000, now() - interval '1 day' \
         FROM generate_series(1, 150) AS nth"
    );
    ask(server, &old).await;
    let locked = harness::connect(&server.url()).await;
    locked
        .batch_execute("BEGIN; SELECT FROM callsheet_lease.sessions WHERE id = 7 FOR UPDATE")
        .await
        .expect("it is free");

    let mut counts = Vec::new();
    for _ in 0..3 {
        records.open(60 * SECOND).await.expect("it opens");
        let count = format!(
            "SELECT count(*) FROM callsheet_lease.sessions WHERE scope = convert_to('{scope}', 'UTF8')"
        );
        counts.extend(ask(server, &count).await);
    }

    // A session that lives and stands between them is looked at as well, and left.
    let left: Vec<u64> = counts.iter().map(|count| count.parse().expect("a number")).collect();
    assert!((88..=92).contains(&left[0]), "64 at a time: {left:?}");
    assert_eq!(left[2], 5, "those that live, and one that is locked, are left: {left:?}");
}

/// Whatever the role or the database is set to.
#[tokio::test]
async fn what_was_answered_is_on_the_disk() {
    let server = Server::start();
    let records = PostgresLease::new("scope", server.url()).records();
    let first = records.open(60 * SECOND).await.expect("it opens, and the tables are there");
    records.end(first).await.expect("it ends");
    let strict = "CREATE FUNCTION strict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                  IF current_setting('synchronous_commit') <> 'on' THEN RAISE 'not on the disk'; END IF; \
                  RETURN NULL; END $$; \
                  CREATE TRIGGER strict AFTER INSERT OR UPDATE OR DELETE ON callsheet_lease.sessions FOR EACH ROW EXECUTE FUNCTION strict(); \
                  CREATE TRIGGER strict AFTER INSERT OR UPDATE OR DELETE ON callsheet_lease.records FOR EACH ROW EXECUTE FUNCTION strict()";
    ask(&server, strict).await;
    ask(&server, "ALTER DATABASE postgres SET synchronous_commit = off").await;

    let records = PostgresLease::new("scope", server.url()).records();
    let session = records.open(60 * SECOND).await.expect("it opens");
    assert_eq!(records.renew(session).await, Ok(true));
    let guarded = Commit { alive: vec![session], ..put("job", Version::ABSENT, "one") };
    records.commit(&guarded).await.expect("an answer");
    records.end(session).await.expect("it ends");
}

#[tokio::test]
async fn what_is_deleted_or_only_compared_leaves_nothing_behind() {
    let scope = harness::scope("behind");
    let records = client(&scope);
    let session = records.open(60 * SECOND).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "here").await;
    let kept = records.commit(&one("absent", Version::ABSENT, Change::Keep)).await.expect("an answer");
    assert_eq!(made(&kept), Some(Version::ABSENT));
    let conflict = records.commit(&put("job", Version::ABSENT, "there")).await.expect("an answer");
    assert_eq!(made(&conflict), None);

    records.commit(&one("job", version, Change::Delete)).await.expect("an answer");
    records.end(session).await.expect("an answer");

    for table in ["records", "sessions"] {
        let left =
            format!("SELECT * FROM callsheet_lease.{table} WHERE scope = convert_to('{scope}', 'UTF8')");
        assert_eq!(ask(harness::server(), &left).await, [] as [&str; 0], "{table}");
    }
}

/// Each rests on the absence of what the other writes: of two at once one comes first, or none.
#[tokio::test]
async fn what_is_kept_absent_is_absent_until_the_commit_is_done() {
    let scope = harness::scope("skew");
    let clients = [client(&scope), client(&scope)];
    for round in 0..40 {
        let ids = [format!("a-{round}"), format!("b-{round}")];
        let commit = |own: &str, other: &str| {
            let change = |id: &str, change| RecordChange { name: name(id), version: Version::ABSENT, change };
            let records = vec![change(own, Change::Put(vec![1])), change(other, Change::Keep)];
            Commit { units: vec![Unit { records, hints: Vec::new() }], ..Commit::default() }
        };
        let commits = [commit(&ids[0], &ids[1]), commit(&ids[1], &ids[0])];
        let (one, two) = tokio::join!(clients[0].commit(&commits[0]), clients[1].commit(&commits[1]));

        let made = [one, two].map(|committed| match committed.expect("an answer") {
            Committed::Units { answers, .. } => matches!(answers.as_slice(), [UnitAnswer::Made { .. }]),
            other => panic!("no guard was given: {other:?}"),
        });
        assert_ne!(made, [true, true], "in round {round}");
        let there =
            [stored(&*clients[1], &ids[0]).await.is_some(), stored(&*clients[0], &ids[1]).await.is_some()];
        assert_eq!(there, made, "in round {round}");
    }
}

#[tokio::test]
async fn a_commit_as_large_as_it_may_be_is_made() {
    let records = PostgresLease::new(harness::scope("large"), pooler().url()).deadline(5 * SECOND).records();
    let limits = records.limits();
    let bytes = limits.commit_bytes / limits.commit_records;
    let per_unit = limits.commit_records / limits.units;
    let mut commit = Commit::default();
    for unit in 0..limits.units {
        let record = |nth| RecordChange {
            name: name(&format!("{unit}/{nth}/{}", "x".repeat(240))),
            version: Version::ABSENT,
            change: Change::Put(vec![b'x'; bytes]),
        };
        commit.units.push(Unit { records: (0..per_unit).map(record).collect(), hints: Vec::new() });
    }

    let committed = records.commit(&commit).await.expect("an answer");

    let Committed::Units { answers, .. } = committed else { panic!("no guards: {committed:?}") };
    assert!(answers.iter().all(|answer| matches!(answer, UnitAnswer::Made { .. })));
    let (mut found, mut after) = (0, None::<Arc<str>>);
    loop {
        let page = records.list(RecordKind::Name, after.as_deref(), usize::MAX).await.expect("a page");
        found += page.records.len();
        after = page.records.last().map(|record| record.id.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(found, limits.commit_records);
}
