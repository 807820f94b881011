//! How the server finds rows: by an index, and no more of them than it is asked for, however many there are.

use callsheet::{
    backend::PostgresLease,
    port::{Change, Commit, RecordChange, RecordKind, RecordName, RecordSession, Records, Unit, Version},
};

use super::{SECOND, ask, harness::Server, made, name, one, pooler::Pooler, until, write};

/// How many records and sessions there are that nobody asks for.
const OLD: u32 = 30_000;
/// All rows of both tables that were read so far: without an index, and by one.
const READ: &str = "SELECT coalesce(sum(seq_tup_read), 0) || ' ' || coalesce(sum(idx_tup_fetch), 0) || ' ' || \
                    coalesce(sum(idx_scan), 0) FROM pg_stat_user_tables WHERE schemaname = 'callsheet_lease'";

/// As [`READ`] answers, once the server has counted all.
async fn read(server: &Server) -> [u64; 3] {
    let mut seen = Vec::new();
    loop {
        ask(server, "SELECT pg_stat_force_next_flush()").await;
        // Other processes tell what they counted when they have been idle for a while.
        tokio::time::sleep(SECOND + SECOND / 2).await;
        let now = ask(server, READ).await;
        if now == seen {
            let counts: Vec<u64> = now[0].split(' ').map(|count| count.parse().expect("a number")).collect();
            return counts.try_into().expect("three numbers");
        }
        seen = now;
    }
}

fn ids(prefix: &str, count: usize) -> Vec<RecordName> {
    (0..count).map(|nth| name(&format!("{prefix}{nth}"))).collect()
}

/// No index is written for a renewal, so that many of them under an old snapshot do not slow down those that follow.
#[tokio::test]
async fn a_renewal_writes_no_index() {
    let server = Server::start();
    let records = PostgresLease::new("scope", server.url()).records();
    let session = records.open(600 * SECOND).await.expect("it opens");

    for _ in 0..40 {
        assert_eq!(records.renew(session).await, Ok(true));
    }

    // A process of the server tells what it has counted when it ends.
    drop(records);
    let count = async |what: &str| {
        ask(&server, &format!("SELECT {what} FROM pg_stat_user_tables WHERE relname = 'sessions'")).await
    };
    until("counted", async || count("n_tup_upd").await == ["40"]).await;
    assert_eq!(count("n_tup_hot_upd").await, ["40"], "renewals that wrote no index");
}

/// By the plans of tables of which the server has counted nothing, and of those that it has counted.
#[tokio::test]
async fn every_statement_reads_only_the_rows_that_it_is_about() {
    for counted in [false, true] {
        let server = Server::start();
        let pooler = Pooler::before(&server, 4);
        let records = PostgresLease::new("scope", pooler.url()).records();
        records.open(600 * SECOND).await.expect("it opens, and the tables are there");
        fill(&server, counted).await;
        let before = read(&server).await;

        let written = ask_everything(&*records).await;

        let after = read(&server).await;
        let [scanned, fetched, scans] = [0, 1, 2].map(|at| after[at] - before[at]);
        assert_eq!(scanned, 0, "rows that were read without an index, counted: {counted}");
        // Each record is looked at when its place is held, locked, and written; and 64 sessions are swept, twice.
        let most = 8 * written + 1_000;
        assert!(scans > 0 && fetched < most, "{fetched} rows in {scans} scans, counted: {counted}");
    }
}

/// Puts records and sessions of two scopes there that nobody asks for.
async fn fill(server: &Server, counted: bool) {
    for table in ["records", "sessions"] {
        ask(server, &format!("ALTER TABLE callsheet_lease.{table} SET (autovacuum_enabled = off)")).await;
    }
    for scope in ["other", "scope"] {
        ask(
            server,
            &format!(
                "INSERT INTO callsheet_lease.records SELECT '{scope}', convert_to('name/old-' || nth, 'UTF8'), 7, 'x' \
                 FROM generate_series(1, {OLD}) AS nth;
                 INSERT INTO callsheet_lease.sessions SELECT '{scope}', nth + 1000, 1000000, now() - interval '1 day' \
                 FROM generate_series(1, {OLD}) AS nth;"
            ),
        )
        .await;
    }
    if counted {
        ask(server, "ANALYZE callsheet_lease.records, callsheet_lease.sessions").await;
    }
}

/// Makes every call, with as many records as there may be; answers how many records it has written.
async fn ask_everything(records: &dyn Records) -> u64 {
    let session = records.open(600 * SECOND).await.expect("it opens, and sweeps");
    let other = records.open(600 * SECOND).await.expect("it opens");
    assert_eq!(records.renew(session).await, Ok(true));
    let leader = RecordName::only(RecordKind::Leader);
    let lead = RecordChange { name: leader, version: Version::ABSENT, change: Change::Put(vec![1]) };
    let lead = Commit {
        leader: Some(Version::ABSENT),
        units: vec![Unit { records: vec![lead], hints: Vec::new() }],
        ..Commit::default()
    };
    let committed = records.commit(&lead).await.expect("an answer");
    let leader = made(&committed).expect("nobody leads");
    let rounds = [1, 64, 1_024];
    for round in rounds {
        let change = |name| RecordChange { name, version: Version::ABSENT, change: Change::Put(vec![1]) };
        let unit = |name| Unit { records: vec![change(name)], hints: Vec::new() };
        let units = ids(&format!("new-{round}-"), round).into_iter().map(unit).collect();
        let commit = Commit { alive: vec![session, other], leader: Some(leader), server: None, units };
        records.commit(&commit).await.expect("an answer");
        records.read(&ids("old-", (round - 1).min(200)), &[session]).await.expect("an answer");
        let stale = ids("old-", round).into_iter().map(unit).collect();
        let conflicts = Commit { alive: vec![session], leader: Some(leader), server: None, units: stale };
        records.commit(&conflicts).await.expect("an answer");
    }
    let version = write(records, "job", Version::ABSENT, "one").await;
    records.commit(&one("job", version, Change::Delete)).await.expect("an answer");
    let page = records.list(RecordKind::Name, Some("old-2"), 10).await.expect("a page");
    assert_eq!(page.records.len(), 10);
    // Expired, and so deleted.
    records.read(&[], &[RecordSession(20_000)]).await.expect("an answer");
    records.end(other).await.expect("it ends");
    until("the server is well", async || records.renew(session).await == Ok(true)).await;
    rounds.iter().sum::<usize>() as u64
}
