//! Control from any node on a real PostgreSQL server: nodes see each other, and what is asked of one holds on all.

#[path = "common/postgres.rs"]
mod harness;

use std::time::Duration;

use callsheet::{
    Builder, Callsheet, ClusterError, Error, EventFilter, EventName, Job, JobState, JobStatus, ListJobs,
    Overlap, WhyUnconfirmed, backend::Postgres, port::Role, schedule::every,
};
use tokio::time::{Instant, sleep, timeout};

use self::harness::{connect, scope, server};

/// What does not happen within this time never does.
const DEADLINE: Duration = Duration::from_secs(120);
/// A request takes some milliseconds; a busy machine takes longer.
const WITHIN: Duration = Duration::from_secs(60);
/// Longer than a busy machine stands still: a node without a session is not asked.
const LEASE: Duration = Duration::from_secs(60);

fn node(scope: &str, name: &str) -> Builder {
    node_in("callsheet", scope, name)
}

fn node_in(schema: &str, scope: &str, name: &str) -> Builder {
    let backend = Postgres::new(scope, server().url()).schema(schema).lease(LEASE);
    Callsheet::builder().backend(backend).node_name(name)
}

/// Starts two nodes, one after the other, each of which sees both.
async fn started(one: Builder, two: Builder) -> [Callsheet; 2] {
    let one = one.start_when_reachable().await.expect("it starts");
    let two = two.start_when_reachable().await.expect("it starts");
    let nodes = [one, two];
    for node in &nodes {
        until("both have a session", async || {
            let seen = node.cluster().within(WITHIN).nodes().await.ok()?;
            (seen.nodes.len() == 2 && seen.unconfirmed.is_empty()).then_some(())
        })
        .await;
    }
    nodes
}

fn long() -> Job {
    Job::new("long", every(Duration::from_hours(24)))
        .overlap(Overlap::Allow(8))
        .run(async |run| run.cancelled().await)
}

async fn two(scope: &str) -> [Callsheet; 2] {
    started(node(scope, "one").job(long()), node(scope, "two").job(long())).await
}

async fn stop(nodes: impl IntoIterator<Item = Callsheet>) {
    for node in nodes {
        node.shutdown(Duration::from_secs(5)).await;
    }
}

/// Asks again until it is so.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = timeout(DEADLINE, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    asked.await.unwrap_or_else(|_| panic!("never: {what}"))
}

#[tokio::test]
async fn a_run_is_cancelled_from_the_node_that_does_not_have_it() {
    let scope = scope("control_cancel");
    let nodes = two(&scope).await;
    for (runs, asks) in [(0, 1), (1, 0), (0, 0)] {
        let triggered = nodes[runs].trigger("long").await.expect("it starts");
        let run = triggered.run();

        let cancelled =
            nodes[asks].by("alice").expect("a name").cluster().within(WITHIN).cancel_run(run).await;

        let cancelled = cancelled.expect("somebody runs it");
        assert_eq!((cancelled.runs.len(), cancelled.unconfirmed.len()), (1, 0), "{cancelled:?}");
        assert_eq!(cancelled.runs[0].run, run);
        timeout(DEADLINE, triggered.finished()).await.expect("it ends");
    }
    stop(nodes).await;
}

#[tokio::test]
async fn runs_of_all_nodes_are_seen_and_cancelled_by_their_job() {
    let scope = scope("control_runs");
    let nodes = two(&scope).await;
    for node in &nodes {
        node.trigger("long").await.expect("it starts");
    }
    let cluster = nodes[0].cluster().within(WITHIN);

    // A job that a busy machine keeps from answering within a second is named, and its run is not listed.
    let active = until("all jobs answer", async || {
        let active = cluster.active_runs().await.expect("all answer");
        active.unconfirmed.is_empty().then_some(active)
    })
    .await;
    let cancelled = cluster.cancel_runs("long").await.expect("it is known");

    assert_eq!((active.count, active.runs.len(), active.unconfirmed.len()), (2, 2, 0));
    assert_eq!(cancelled.runs.len(), 2);
    let mut on: Vec<_> = active.runs.iter().map(|run| &*run.name).collect();
    on.sort_unstable();
    assert_eq!(on, ["one", "two"]);
    until("no run is active", async || {
        (cluster.active_runs().await.expect("all answer").count == 0).then_some(())
    })
    .await;
    stop(nodes).await;
}

#[tokio::test]
async fn a_job_of_another_node_is_triggered_paused_and_seen() {
    let scope = scope("control_elsewhere");
    let [has_it, asks] = started(node(&scope, "has it").job(long()), node(&scope, "asks")).await;
    let cluster = asks.by("alice").expect("a name").cluster().within(WITHIN);

    let triggered = cluster.trigger("long").await.expect("somebody has it");
    let paused = cluster.pause("long").await.expect("it is known");
    // Of a job that a busy machine keeps from answering within a second neither runs nor the pause are known.
    let answers = |job: &JobStatus| job.state != JobState::Unresponsive;
    let details = until("the job answers", async || {
        cluster.details("long").await.ok().filter(|details| answers(&details.job.job))
    })
    .await;
    let paused_there =
        until("the job answers", async || has_it.details("long").await.ok().filter(answers)).await;
    let page = cluster.list(ListJobs::default()).await.expect("all answer");

    assert_eq!(&*triggered.name, "has it");
    assert_eq!((paused.jobs.len(), paused.unconfirmed.len()), (1, 0));
    assert_eq!(details.job.on[0].active_runs[0].run, triggered.triggered.run());
    assert!(paused_there.pause.is_some());
    assert_eq!(page.jobs.len(), 1);
    cluster.cancel_run(triggered.triggered.run()).await.expect("it runs");
    stop([asks, has_it]).await;
}

#[tokio::test]
async fn nodes_are_listed_from_the_sessions_with_what_they_say() {
    let scope = scope("control_nodes");
    let nodes = two(&scope).await;
    for (asked, node) in nodes.iter().enumerate() {
        let list = until("each has said which jobs it has, and one leads", async || {
            let list = node.cluster().within(WITHIN).nodes().await.expect("an answer");
            let leads = list.nodes.iter().filter(|node| node.role == Role::Leader).count() == 1;
            (leads && list.nodes.iter().all(|node| node.code_jobs.is_some())).then_some(list)
        })
        .await;

        assert_eq!(list.unconfirmed, []);
        let names: Vec<_> = list.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, ["one", "two"]);
        for (nth, node) in list.nodes.iter().enumerate() {
            assert_eq!(node.is_asked, nth == asked);
            assert_eq!(&*node.version, env!("CARGO_PKG_VERSION"));
            assert_eq!(node.code_jobs, list.nodes[0].code_jobs, "the same code");
            assert!(node.seen_at.is_some() && node.now.is_some_and(|now| now.jobs == 1), "{node:?}");
        }
    }
    stop(nodes).await;
}

#[tokio::test]
async fn a_node_without_a_session_is_not_asked_and_one_that_lost_it_is_named() {
    let scope = scope("control_lost");
    // A schema of its own: the lock of a whole table would keep the nodes of other tests from asking each other.
    let in_it = |name| node_in("locked", &scope, name).job(long());
    let nodes = started(in_it("one"), in_it("two")).await;
    let client = connect(&server().url()).await;
    let cluster = nodes[0].cluster().within(WITHIN);
    // Whoever locks the row keeps the node from taking the request.
    let hold = "BEGIN; LOCK TABLE locked.request_nodes IN SHARE ROW EXCLUSIVE MODE";
    client.batch_execute(hold).await.expect("it is locked");
    let asked = Instant::now();
    let error = match cluster.clone().within(Duration::from_secs(1)).cancel_runs("long").await {
        Err(Error::Cluster(error)) => error,
        other => panic!("nobody can be asked: {other:?}"),
    };
    assert!(matches!(error, ClusterError::Unavailable { .. }), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(10));
    client.batch_execute("ROLLBACK").await.expect("it is free");

    let killed = "SELECT pg_terminate_backend(pid) FROM locked.sessions WHERE scope = $1 AND name = 'two'";
    let asks = cluster.clone();
    let runs = nodes[1].trigger("long").await.expect("it starts").run();
    client.execute(killed, &[&scope]).await.expect("it is ended");
    let answer = asks.cancel_run(runs).await;
    match answer {
        // It was ended before it was asked, and its run with it; or while it was.
        Err(Error::Cluster(ClusterError::UnknownRun { .. })) => {}
        Ok(cancelled) if cancelled.runs.is_empty() => {
            assert_eq!(cancelled.unconfirmed[0].why, WhyUnconfirmed::SessionOver);
        }
        other => panic!("{other:?}"),
    }
    let rows = "SELECT count(*) FROM locked.requests WHERE scope = $1";
    until("what was asked is deleted", async || {
        let row = client.query_one(rows, &[&scope]).await.expect("an answer");
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    stop(nodes).await;
}

#[tokio::test]
async fn rows_that_somebody_writes_harm_nobody() {
    let scope = scope("control_hostile");
    let nodes = two(&scope).await;
    let client = connect(&server().url()).await;
    let write = "
        WITH request AS (
            INSERT INTO callsheet.requests (scope, request, asked_node, body, asked_by, note, deadline)
            SELECT $1, gen_random_uuid(), gen_random_uuid(), body, repeat('x', 100000), '', now() + interval '1 minute'
            FROM unnest(array_fill('{'::text, ARRAY[70]) || ARRAY['', '{', '{\"ask\": \"explode\"}', repeat('{\"a\":', 100000), repeat('x', 3000000)]) AS a (body)
            RETURNING request
        )
        INSERT INTO callsheet.request_nodes (scope, node, request, name)
        SELECT $1, s.node, request, s.name FROM request, callsheet.sessions s WHERE s.scope = $1";
    client.execute(write, &[&scope]).await.expect("it is written");
    let channel = client.query_one("SELECT channel FROM callsheet.scopes WHERE scope = $1", &[&scope]).await;
    let channel: String = channel.expect("it is there").get(0);
    for payload in [r#"{"asked": {}}"#, r#"{"answered": {"node": "x"}}"#, r#"{"asked": 7}"#] {
        client.execute("SELECT pg_notify($1, $2)", &[&channel, &payload]).await.expect("it is sent");
    }

    let unanswered = "SELECT count(*) FROM callsheet.request_nodes WHERE scope = $1 AND answer IS NULL";
    until("each is answered", async || {
        let row = client.query_one(unanswered, &[&scope]).await.expect("an answer");
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    let odd = "SELECT count(*) FROM callsheet.request_nodes WHERE scope = $1 AND answer NOT LIKE '%unable%'";
    assert_eq!(client.query_one(odd, &[&scope]).await.expect("an answer").get::<_, i64>(0), 0);
    client
        .execute("DELETE FROM callsheet.requests WHERE scope = $1", &[&scope])
        .await
        .expect("they are deleted");
    let list = nodes[0].cluster().within(WITHIN).nodes().await.expect("an answer");
    assert_eq!((list.nodes.len(), list.unconfirmed.len()), (2, 0), "the nodes go on");
    stop(nodes).await;
}

#[tokio::test]
async fn nodes_of_different_code_are_said_within_two_looks() {
    let scope = scope("control_drift");
    let [one, two] = started(node(&scope, "one").job(long()), node(&scope, "two")).await;
    let mut drifts = one.events(EventFilter::new().kinds([EventName::JobSetDrift]));

    // A node looks once a minute, and says what it sees twice.
    let drift = timeout(DEADLINE * 4, drifts.next()).await.expect("in time").expect("it runs");

    assert!(drift.to_string().contains("deploy the same code on all nodes"), "{drift}");
    stop([one, two]).await;
}
