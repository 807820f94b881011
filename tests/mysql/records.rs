//! The port on a server that works.

use std::{sync::Arc, time::Duration};

use callsheet::{
    backend::Mysql,
    port::{Change, Commit, Committed, RecordChange, RecordKind, Unit, UnitAnswer, Version},
    testkit::conformance::records,
};
use tokio::time::sleep;

use super::{SECOND, alive, client, harness, made, one, patient, put, store::Clients, stored, until, write};

#[tokio::test]
async fn it_is_a_store_of_records() {
    records(&mut Clients { scope: harness::scope("suite"), connect: patient }).await;
}

/// What a server, a database or a user may be set to, as far from what a connection needs as it can be.
const ADVERSE: &str = "sql_mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,NO_AUTO_VALUE_ON_ZERO,IGNORE_SPACE\n\
     character-set-server=latin1\ncollation-server=latin1_german2_ci\nautocommit=0\ndefault-time-zone=+05:30\n\
     transaction-isolation=SERIALIZABLE\ncompletion_type=CHAIN\nsql_safe_updates=1\n\
     default-storage-engine=MyISAM\ninnodb_lock_wait_timeout=50\nlower_case_table_names=1\n\
     max_allowed_packet=4M\nlog-bin=binlog\nbinlog_format=MIXED\nserver-id=1";

#[tokio::test]
async fn it_is_one_over_a_socket_of_a_server_with_other_settings() {
    let server = harness::Server::start_with(ADVERSE);
    server.ask("SET GLOBAL tx_read_only = 1, GLOBAL sql_select_limit = 1");
    let (user, password, database) = (harness::USER, harness::PASSWORD, harness::DATABASE);
    let url = format!("mysql://{user}:{password}@/{database}?socket={}", server.socket().display());

    let connect = |scope: &str| Mysql::new(scope, &url).deadline(5 * SECOND).records();
    records(&mut Clients { scope: harness::scope("größe 's"), connect }).await;
}

#[tokio::test]
async fn a_record_that_was_deleted_and_written_again_is_another_one() {
    let records = client(&harness::scope("aba"));
    let mut seen = Vec::new();
    for _ in 0..20 {
        let version = write(&*records, "job", Version::ABSENT, "the same").await;
        assert!(!seen.contains(&version), "no version comes twice");
        for old in &seen {
            let late = records.commit(&one("job", *old, Change::Delete)).await.expect("an answer");
            assert_eq!(made(&late), None, "what was read before the deletion is outdated");
        }
        seen.push(version);
        let deleted = records.commit(&one("job", version, Change::Delete)).await.expect("an answer");
        assert_eq!(made(&deleted), Some(Version::ABSENT));
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
        let (of, id) = (scope.clone(), session.0);
        let blocked = std::thread::spawn(move || {
            harness::server().ask(&format!(
                "START TRANSACTION; SELECT id FROM callsheet_sessions WHERE scope = '{of}' AND id = {id} FOR UPDATE; DO SLEEP(1.2); COMMIT"
            ))
        });
        let locked = "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'DO SLEEP(1.2)'";
        until("locked", async || harness::server().ask(locked).trim() != "0").await;
        let looking = async {
            sleep(SECOND + SECOND / 20 * round).await;
            alive(&*looks, session).await
        };

        let (renewed, seen) = tokio::join!(renews.renew(session), looking);

        blocked.join().expect("it ends");
        let renewed = renewed.expect("an answer");
        assert!(seen || !alive(&*renews, session).await, "who was told that it is gone is told so for ever");
        assert!(seen || renews.renew(session).await == Ok(false), "and so is its owner");
        assert!(renewed || !alive(&*looks, session).await, "who could not renew it is gone for all");
    }
}

#[tokio::test]
async fn sessions_that_are_long_gone_are_deleted_in_portions_when_others_open() {
    let scope = harness::scope("left");
    let records = client(&scope);
    records.open(60 * SECOND).await.expect("it opens, and the tables are there");
    let server = harness::server();
    server.ask(&format!(
        "INSERT INTO callsheet_sessions SELECT '{scope}', seq, 1000000, UTC_TIMESTAMP(6) - INTERVAL 1 DAY FROM seq_1_to_150"
    ));
    let count = || server.ask(&format!("SELECT COUNT(*) FROM callsheet_sessions WHERE scope = '{scope}'"));

    let mut counts = Vec::new();
    for _ in 0..3 {
        records.open(60 * SECOND).await.expect("it opens");
        counts.push(count().trim().parse::<u32>().expect("a number"));
    }

    assert_eq!(counts, [88, 25, 4], "64 at a time, and those that live are left");
}

#[tokio::test]
async fn a_scope_sweeps_around_a_session_that_somebody_has_locked() {
    let scope = harness::scope("locked");
    let records = client(&scope);
    records.open(60 * SECOND).await.expect("it opens, and the tables are there");
    harness::server().ask(&format!(
        "INSERT INTO callsheet_sessions SELECT '{scope}', seq, 1000000, UTC_TIMESTAMP(6) - INTERVAL 1 DAY FROM seq_1_to_3"
    ));
    let lock = format!(
        "START TRANSACTION; SELECT id FROM callsheet_sessions WHERE scope = '{scope}' AND id = 2 FOR UPDATE; DO SLEEP(3.1)"
    );
    let locked = std::thread::spawn(move || harness::server().ask(&lock));
    let sleeps = "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'DO SLEEP(3.1)'";
    until("locked", async || harness::server().ask(sleeps).trim() != "0").await;

    records.open(60 * SECOND).await.expect("it waits for nobody");

    let left = harness::server()
        .ask(&format!("SELECT id FROM callsheet_sessions WHERE scope = '{scope}' AND id < 4"));
    assert_eq!(left.trim(), "2");
    locked.join().expect("it ends");
}

#[tokio::test]
async fn what_is_deleted_or_only_compared_leaves_nothing_behind() {
    let scope = harness::scope("nothing");
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
        let left = harness::server().ask(&format!("SELECT * FROM callsheet_{table} WHERE scope = '{scope}'"));
        assert_eq!(left, "", "{table}");
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
            let change =
                |id: &str, change| RecordChange { name: super::name(id), version: Version::ABSENT, change };
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
    let records = Mysql::new(harness::scope("large"), harness::server().url()).deadline(5 * SECOND).records();
    let limits = records.limits();
    let bytes = limits.commit_bytes / limits.commit_records;
    let per_unit = limits.commit_records / limits.units;
    let mut commit = Commit::default();
    for unit in 0..limits.units {
        let record = |nth| RecordChange {
            name: super::name(&format!("{unit}/{nth}/{}", "x".repeat(240))),
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

#[tokio::test]
async fn a_session_lasts_as_long_as_it_was_opened_for() {
    let scope = harness::scope("ttl");
    let records = client(&scope);
    records.open(Duration::from_micros(1_234_567)).await.expect("it opens");
    let ttl = harness::server().ask(&format!(
        "SELECT ttl, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires) BETWEEN 1 AND 1234567 FROM callsheet_sessions \
         WHERE scope = '{scope}'"
    ));
    assert_eq!(ttl, "1234567\t1\n");
}
