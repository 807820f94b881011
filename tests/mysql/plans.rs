//! How the server finds rows: by an index, and no more of them than it is asked for, however many there are.

use std::fs;

use callsheet::{
    backend::Mysql,
    port::{Change, Commit, RecordChange, RecordKind, RecordName, Unit, Version},
};

use super::{SECOND, harness::Server, made, name, one, write};

/// The server writes down each statement with its plan.
const EXPLAINS: &str = "slow_query_log=1\nlong_query_time=0\nlog_slow_verbosity=query_plan,explain\nlog_slow_rate_limit=1\n\
                        log_slow_min_examined_row_limit=0";
/// How many records and sessions there are that nobody asks for.
const OLD: u32 = 30_000;

/// A statement that was made.
#[derive(Debug)]
struct Made {
    text: String,
    examined: u64,
    /// The table, the kind of access, and the index, of each step.
    steps: Vec<[String; 3]>,
}

/// Reads the log of the server.
fn read(log: &str) -> Vec<Made> {
    let (mut all, mut examined, mut steps) = (Vec::new(), 0, Vec::new());
    for line in log.lines() {
        if line.starts_with("# Query_time:") {
            let count = line.split("Rows_examined: ").nth(1).and_then(|rest| rest.split_whitespace().next());
            examined = count.and_then(|count| count.parse().ok()).expect("a count");
        } else if let Some(step) = line.strip_prefix("# explain: ") {
            let columns: Vec<_> = step.split('\t').collect();
            if columns.first() != Some(&"id") {
                // Id, kind of SELECT, table, kind of access, possible keys, key.
                steps.push([columns[2], columns[3], columns[5]].map(str::to_owned));
            }
        } else if !line.starts_with('#') && !line.starts_with("SET timestamp") && line.contains("callsheet_")
        {
            all.push(Made { text: line.to_owned(), examined, steps: std::mem::take(&mut steps) });
        } else if !line.starts_with('#') {
            steps.clear();
        }
    }
    all
}

fn ids(prefix: &str, count: usize) -> Vec<RecordName> {
    (0..count).map(|nth| name(&format!("{prefix}{nth}"))).collect()
}

#[tokio::test]
async fn every_statement_reads_only_the_rows_that_it_is_about() {
    let server = Server::start_with(EXPLAINS);
    let records = Mysql::new("scope", server.url()).records();
    records.open(600 * SECOND).await.expect("it opens, and the tables are there");
    for scope in ["other", "scope"] {
        server.ask(&format!(
            "INSERT INTO callsheet_records SELECT '{scope}', CONCAT('name/old-', seq), 7, 'x' FROM seq_1_to_{OLD};
             INSERT INTO callsheet_sessions SELECT '{scope}', seq + 1000, 1000000, UTC_TIMESTAMP(6) - INTERVAL 1 DAY FROM seq_1_to_{OLD}"
        ));
    }
    server.ask(
        "ANALYZE TABLE callsheet_records, callsheet_sessions; SET GLOBAL slow_query_log_file = 'plans.log'",
    );

    let session = records.open(600 * SECOND).await.expect("it opens, and sweeps");
    let other = records.open(600 * SECOND).await.expect("it opens");
    assert_eq!(records.renew(session).await, Ok(true));
    let leader = RecordName::only(RecordKind::Leader);
    let lead = RecordChange { name: leader, version: Version::ABSENT, change: Change::Put(vec![1]) };
    let lead = Commit {
        alive: vec![session, other],
        leader: Some(Version::ABSENT),
        server: None,
        units: vec![Unit { records: vec![lead], hints: Vec::new() }],
    };
    let leader = made(&records.commit(&lead).await.expect("an answer")).expect("nobody leads");
    for round in [1, 64, 1_024] {
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
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    records.commit(&one("job", version, Change::Delete)).await.expect("an answer");
    let page = records.list(RecordKind::Name, Some("old-2"), 10).await.expect("a page");
    assert_eq!(page.records.len(), 10);
    // Expired, and so deleted.
    records.read(&[], &[callsheet::port::RecordSession(20_000)]).await.expect("an answer");
    records.end(other).await.expect("it ends");

    let log = fs::read_to_string(server.directory().join("data/plans.log")).expect("the log");
    let all = read(&log);
    for what in [
        "FOR UPDATE",
        "IN SHARE MODE",
        "UNION ALL",
        "DELETE gone",
        "SKIP LOCKED",
        "ORDER BY name LIMIT",
        "UPDATE callsheet_sessions",
        "DELETE FROM callsheet_sessions",
    ] {
        assert!(all.iter().any(|made| made.text.contains(what)), "{what} was made\n{log}");
    }
    for made in all {
        // As many as it names, or finds on a page, twice: a DELETE and a lock look at each a second time.
        let most = 2 * 1_024 + 16;
        assert!(made.examined <= most, "{} rows: {made:?}", made.examined);
        for [table, access, key] in &made.steps {
            let on_table = ["callsheet_records", "callsheet_sessions", "gone"].contains(&&**table);
            let by_index =
                ["const", "ref", "eq_ref", "range", "ref_or_null"].contains(&&**access) && key != "NULL";
            assert!(!on_table || by_index || access == "NULL", "{access} by {key} on {table}: {made:?}");
        }
    }
}
