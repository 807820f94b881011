//! What somebody does to the table who edits it by hand.

use super::*;

async fn edit(admin: &tokio_postgres::Client, scope: &str, job: &str, definition: &str) {
    let put = "INSERT INTO callsheet.catalogue_jobs (scope, job, definition) VALUES ($1, $2, $3)
               ON CONFLICT (scope, job) DO UPDATE SET definition = excluded.definition";
    admin.execute(put, &[&scope, &job, &definition]).await.expect("an answer");
}

#[tokio::test]
async fn bad_rows_written_by_hand_park_their_jobs_alone_on_all_nodes() {
    let (scope, done) = (scope("bad"), Done::default());
    let nodes = [node(&scope, &done).await, node(&scope, &done).await];
    nodes[0].put("good", &stored(says("hello"))).await.expect("it is right");
    let admin = connect(&server().url()).await;
    let newer = json!({"schedule": {"every": "1h"}, "task": {"name": "say"}, "colour": "blue"}).to_string();
    let huge = format!("{{\"note\": \"{}\"}}", "x".repeat(200_000));
    let table = [
        ("no json", "{", "EOF while parsing an object"),
        ("no object", "5", "expected a stored job"),
        ("newer", &newer, "colour: unknown field `colour`"),
        ("no task", &says("x").to_string().replace("\"say\"", "\"sing\""), "no task of this name"),
        ("arguments", &says("x").to_string().replace("\"x\"", "5"), "what: invalid type: integer `5`"),
        ("tags", &says("x").to_string().replace("{\"sch", "{\"tags\":5,\"sch"), "tags: invalid type"),
        ("nul", &says("x").to_string().replace("\"x\"", "\"\\u0000\""), ""),
        ("huge", &huge, "at most 131,072 bytes"),
        ("bad\u{7}name", &says("x").to_string(), "control characters"),
    ];

    for (job, definition, _) in table {
        edit(&admin, &scope, job, definition).await;
    }

    for node in &nodes {
        // A text with an escape that the server's own type for JSON does not take is one that a node takes.
        holds(node, &["good", "nul"]).await;
        for (job, _, told) in table.iter().filter(|(.., told)| !told.is_empty()) {
            let page = node.list_stored(CatalogueQuery::default()).await.expect("it answers");
            let found = page.jobs.iter().find(|stored| &*stored.job == *job).expect("it is listed");
            let StoredHere::Parked { reason } = &found.here else { panic!("{job}: {found:?}") };
            assert!(reason.contains(told), "{job}: {reason}");
        }
    }
    until("what is good fires", async || done.has("good: hello")).await;
    stop(nodes).await;
}

#[tokio::test]
async fn what_is_edited_by_hand_is_taken_over_by_all_nodes_and_found() {
    let (scope, done) = (scope("edited"), Done::default());
    let nodes = [node(&scope, &done).await, node(&scope, &done).await];
    let admin = connect(&server().url()).await;
    let mut first = says("first");
    first["tags"] = json!(["mail"]);

    edit(&admin, &scope, "job", &first.to_string()).await;
    for node in &nodes {
        holds(node, &["job"]).await;
    }
    let status = nodes[1].stored("job").await.expect("it is stored");
    assert_eq!(status.changed_by.map(|by| by.to_string()).as_deref(), Some(harness::USER));
    let tagged = |tag: &str| {
        let mut query = CatalogueQuery::default();
        (query.tag, query.task) = (Some(tag.to_owned()), Some("say".to_owned()));
        query
    };
    assert_eq!(nodes[0].list_stored(tagged("mail")).await.expect("an answer").jobs.len(), 1);
    until("it fires", async || done.has("job: first")).await;

    edit(&admin, &scope, "job", &says("second").to_string()).await;
    until("the newer one fires", async || done.has("job: second")).await;
    assert_eq!(nodes[0].list_stored(tagged("mail")).await.expect("an answer").jobs, []);

    // Of what somebody has read before.
    let late = nodes[0].put_if("job", &stored(says("late")), Expected::Version(status.version)).await;
    assert_eq!(late.expect_err("it was edited").kind(), ErrorKind::Exists);

    let renamed = "UPDATE callsheet.catalogue_jobs SET job = 'other' WHERE scope = $1";
    let refused = admin.execute(renamed, &[&scope]).await.expect_err("its name stays");
    let message = refused.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
    assert_eq!(message, "a stored job keeps its scope and its name");
    let gone = "DELETE FROM callsheet.catalogue_jobs WHERE scope = $1";
    admin.execute(gone, &[&scope]).await.expect("an answer");
    for node in &nodes {
        holds(node, &[]).await;
    }
    stop(nodes).await;
}

/// Somebody who edits by hand keeps his transaction open.
#[tokio::test]
async fn a_change_waits_for_one_by_hand_and_none_is_lost() {
    let (scope, done) = (scope("waits"), Done::default());
    let node = node(&scope, &done).await;
    let read = node.put("job", &stored(says("first"))).await.expect("it is right").version;
    let mut admin = connect(&server().url()).await;
    let by_hand = admin.transaction().await.expect("an answer");
    let edit = "UPDATE callsheet.catalogue_jobs SET definition = $2 WHERE scope = $1";
    by_hand.execute(edit, &[&scope, &says("by hand").to_string()]).await.expect("an answer");

    let definition = stored(says("late"));
    let late = node.put_if("job", &definition, Expected::Version(read));
    let commits = async {
        let observer = connect(&server().url()).await;
        let waiting = "SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
        until("it waits", async || !observer.query(waiting, &[]).await.expect("an answer").is_empty()).await;
        by_hand.commit().await.expect("an answer");
    };
    let (late, ()) = tokio::join!(late, commits);

    assert_eq!(late.expect_err("the other one came first").kind(), ErrorKind::Exists);
    until("it fires as it was edited", async || done.has("job: by hand")).await;
    stop([node]).await;
}
