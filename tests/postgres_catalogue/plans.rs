//! How the server finds rows among many: it writes down each plan.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use super::*;

/// Each connection writes its plans, with the rows that they read, into the server's log.
const EXPLAINED: &str = "?options=-c%20session_preload_libraries%3Dauto_explain%20-c%20auto_explain.log_min_duration%3D0%20\
                         -c%20auto_explain.log_analyze%3Don%20-c%20auto_explain.log_timing%3Doff%20\
                         -c%20auto_explain.log_format%3Djson";

/// A hundred thousand jobs of two scopes, and some that were deleted. Their versions are given here.
const FILL: &str = "
SET synchronous_commit = off;
ALTER TABLE callsheet.catalogue_jobs DISABLE TRIGGER number_change;
INSERT INTO callsheet.catalogue_jobs (scope, job, version, definition, task, tags, change)
SELECT CASE WHEN n % 2 = 0 THEN 'other' ELSE 'big' END, 'job-' || lpad(n::text, 6, '0'), n,
       CASE WHEN n % 50 > 1 THEN '{\"schedule\":{\"every\":\"1h\"},\"task\":{\"name\":\"say\"}}' END, 'say',
       CASE WHEN n % 5 = 1 THEN '{mail}'::text[] ELSE '{}' END, gen_random_uuid()
FROM generate_series(1, 100000) AS g (n);
ALTER TABLE callsheet.catalogue_jobs ENABLE TRIGGER number_change;
INSERT INTO callsheet.catalogue_versions (scope, version, jobs, deleted) VALUES ('big', 100000, 48000, 2000), ('other', 100000, 48000, 2000);
ANALYZE callsheet.catalogue_jobs";

/// Each part of a plan that reads all of the table, or of an index, or all of a scope.
fn reads_all(plan: &Value, found: &mut Vec<String>) {
    let kind = plan["Node Type"].as_str().unwrap_or_default();
    let table = plan["Relation Name"].as_str().unwrap_or_default();
    let condition = plan["Index Cond"].as_str().unwrap_or_default();
    if table == "catalogue_jobs" && (kind == "Seq Scan" || kind.contains("Index") && condition.is_empty()) {
        found.push(format!("{kind} of {table}"));
    }
    plan["Plans"].as_array().into_iter().flatten().for_each(|part| reads_all(part, found));
}

/// How many rows of the table all parts of a plan looked at.
fn rows_looked_at(plan: &Value) -> u64 {
    let count = |name: &str| plan[name].as_f64().unwrap_or_default();
    let here = match plan["Relation Name"].as_str() {
        Some("catalogue_jobs") => {
            (count("Actual Rows") + count("Rows Removed by Filter")) * count("Actual Loops").max(1.0)
        }
        _ => 0.0,
    };
    let parts = plan["Plans"].as_array();
    here as u64 + parts.into_iter().flatten().map(rows_looked_at).sum::<u64>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_statement_finds_its_rows_by_an_index_among_a_hundred_thousand() {
    const LIMIT: u64 = 100;
    let server = Server::start();
    let (backend, catalogue) = catalogue(&format!("{}{EXPLAINED}", server.url()), "big").await;
    let admin = connect(&server.url()).await;
    admin.batch_execute(FILL).await.expect("it is filled");
    let log = server.socket_directory().join("log");
    let from = log.metadata().expect("there is a log").len();

    for job in ["job-050001", "new"] {
        catalogue.get(&name(job)).await.expect("an answer");
        for change in [put(job, "hello"), CatalogueChange::delete(Uuid::new_v4(), name(job))] {
            assert!(matches!(catalogue.change(&change).await, Ok(Changed::Done(_))));
        }
    }
    let limit = usize::try_from(LIMIT).expect("a number");
    let mut queries = vec![CatalogueQuery::default(); 5];
    queries.iter_mut().for_each(|query| query.limit = limit);
    queries[1].after = Some("job-070000".into());
    queries[2].prefix = Some("job-0800".to_owned());
    queries[3].prefix = Some("nothing".to_owned());
    queries[4].tag = Some("mail".to_owned());
    for query in &queries {
        catalogue.list(query).await.expect("an answer");
    }
    for after in [0, 90_000, 200_000] {
        catalogue.changes(after, limit).await.expect("an answer");
    }
    backend.locker().close().await;

    let mut file = File::open(&log).expect("the server writes a log");
    file.seek(SeekFrom::Start(from)).expect("it is a file");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("it can be read");
    let entries = text.split("  plan:\n").skip(1);
    let plans = entries.filter_map(|one| serde_json::Deserializer::from_str(one).into_iter::<Value>().next());
    let mut seen = 0;
    for explained in plans.map(|plan| plan.expect("a plan is JSON")) {
        let (statement, plan) = (explained["Query Text"].as_str().unwrap_or_default(), &explained["Plan"]);
        if !statement.contains("catalogue_jobs") {
            continue;
        }
        seen += 1;
        let mut found = Vec::new();
        reads_all(plan, &mut found);
        assert!(found.is_empty(), "{found:?}: {statement}\n{plan:#}");
        // A fifth of the jobs has the tag; a twenty-fifth of the rows are of jobs that were deleted.
        let rows = rows_looked_at(plan);
        assert!(rows <= LIMIT * 7, "{rows} rows: {statement}\n{plan:#}");
    }
    assert!(seen >= 14, "only {seen} statements were seen");
}
