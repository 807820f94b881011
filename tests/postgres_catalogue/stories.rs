//! One-shots and overrides from beginning to end: across the death of a node, and a restart of all.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use callsheet::{
    Job, RunHistory,
    chrono::{TimeDelta, Utc},
    port::Role,
    schedule::every,
};

use super::{
    proxy::{Flow, Proxy},
    *,
};

/// Says its name once, soon.
fn reminder(job: &str) -> StoredJob {
    let mut json = says(job);
    json["schedule"] = json!({"at": [Utc::now() + TimeDelta::seconds(2)]});
    json["remove_when_done"] = json!(true);
    stored(json)
}

/// Asks a node for so many reminders, and answers what they will say.
async fn remind(node: &Callsheet, prefix: &str, count: usize) -> Vec<String> {
    let mut said = Vec::new();
    for nth in 0..count {
        let job = format!("{prefix} {nth:02}");
        node.put(&job, &reminder(&job)).await.expect("it is right");
        said.push(format!("{job}: {job}"));
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_one_shot_runs_once_though_the_node_that_runs_them_is_gone() {
    const EACH: usize = 20;
    let (scope, done) = (scope("one-shots"), Done::default());
    let proxy = Proxy::to(server().port()).await;
    let url = server().url().replace(&format!(":{}/", server().port()), &format!(":{}/", proxy.port()));
    let first = builder(&url, &scope, &done).start().await.expect("it starts");
    let leads = async |node: &Callsheet| node.health().await.expect("it answers").role == Role::Leader;
    until("the first one leads", async || leads(&first).await).await;
    let second = node(&scope, &done).await;

    let mut expected = remind(&second, "before", EACH).await;
    until("the first one has run them", async || expected.iter().all(|said| done.has(said))).await;
    let names = async |node: &Callsheet| {
        let page = node.list_stored(CatalogueQuery::default()).await.expect("it answers");
        page.jobs.iter().map(|row| row.job.to_string()).collect::<Vec<_>>()
    };
    until("their rows are gone", async || names(&second).await.is_empty()).await;
    // It is gone for the server, and for the other node.
    proxy.set(Flow::Stall);
    proxy.cut();
    expected.extend(remind(&second, "after", EACH).await);
    until("the second one has run the others", async || expected.iter().all(|said| done.has(said))).await;
    until("their rows are gone as well", async || names(&second).await.is_empty()).await;

    let mut said = BTreeMap::<_, usize>::new();
    for one in done.0.lock().expect("nobody panicked").iter() {
        *said.entry(one.clone()).or_default() += 1;
    }
    let once: BTreeMap<_, _> = expected.iter().map(|said| (said.clone(), 1)).collect();
    assert_eq!(said, once);
    assert!(leads(&second).await);
    // What the first one has yet to write of its runs comes once it reaches the server again.
    proxy.set(Flow::Pass);
    let runs =
        async |job: &str| second.runs(RunHistory::new().job(name(job))).await.expect("it is kept").runs.len();
    until("each run is in the history", async || runs("before 00").await == 1 && runs("after 00").await == 1)
        .await;
    stop([first, second]).await;
}

/// A job of code that counts its runs.
fn cleanup(scope: &str, hours: u64, runs: &Arc<AtomicUsize>) -> Builder {
    let job =
        Job::new("cleanup", every(Duration::from_hours(hours))).run_with(runs.clone(), async |_, runs| {
            runs.fetch_add(1, Ordering::SeqCst);
        });
    builder(&server().url(), scope, &Done::default()).job(job)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_holds_across_a_restart_of_all_nodes_with_other_code() {
    let (scope, runs) = (scope("override"), Arc::new(AtomicUsize::new(0)));
    let start = async |hours| {
        let start = async || cleanup(&scope, hours, &runs).start().await.expect("it starts");
        [start().await, start().await]
    };
    let shown = async |node: &Callsheet| node.details("cleanup").await.expect("it is there").overridden;
    let fires = async |why: &str| {
        let before = runs.load(Ordering::SeqCst);
        until(why, async || runs.load(Ordering::SeqCst) > before + 2).await;
    };
    let nodes = start(1).await;

    let schedule = every(Duration::from_millis(200));
    let made = nodes[1].override_schedule("cleanup", schedule).await.expect("it is right");
    fires("it fires by the override").await;
    for node in &nodes {
        until("each node shows it", async || shown(node).await.as_ref() == Some(&made)).await;
    }
    stop(nodes).await;

    let nodes = start(2).await;
    fires("it fires by the override after a restart").await;
    for node in &nodes {
        until("each node shows it with the new code", async || {
            shown(node).await.is_some_and(|one| &*one.code == "every 2h" && one.version == made.version)
        })
        .await;
    }

    nodes[0].clear_override("cleanup").await.expect("it is overridden");
    for node in &nodes {
        until("no node shows it", async || shown(node).await.is_none()).await;
    }
    let stored = nodes[1].list_stored(CatalogueQuery::default()).await.expect("it answers");
    assert_eq!(stored.jobs, []);
    stop(nodes).await;
}

/// As a restore from a backup does, or a fail-over to a replica that was behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_that_was_set_back_is_read_anew() {
    let (scope, done) = (scope("set back"), Done::default());
    let nodes = [node(&scope, &done).await, node(&scope, &done).await];
    for job in ["a", "b", "c"] {
        nodes[0].put(job, &stored(says("old"))).await.expect("it is right");
    }
    for node in &nodes {
        holds(node, &["a", "b", "c"]).await;
    }

    let mut admin = connect(&server().url()).await;
    let restore = admin.transaction().await.expect("an answer");
    restore.batch_execute("SET LOCAL session_replication_role = replica").await.expect("no trigger fires");
    let gone = "DELETE FROM callsheet.catalogue_jobs WHERE scope = $1 AND job <> 'a'";
    restore.execute(gone, &[&scope]).await.expect("an answer");
    let before =
        "UPDATE callsheet.catalogue_jobs SET definition = $2, change = gen_random_uuid() WHERE scope = $1";
    restore.execute(before, &[&scope, &says("restored").to_string()]).await.expect("an answer");
    let versions = "UPDATE callsheet.catalogue_versions SET version = 1, jobs = 1 WHERE scope = $1";
    restore.execute(versions, &[&scope]).await.expect("an answer");
    restore.commit().await.expect("an answer");
    // It has version 2: the nodes know of version 3.
    let (backend, catalogue) = catalogue(&server().url(), &scope).await;
    let made = catalogue.change(&put("d", "new")).await.expect("an answer");
    assert!(matches!(made, Changed::Done(row) if row.version == 2));

    for node in &nodes {
        holds(node, &["a", "d"]).await;
    }
    until("what was restored fires", async || done.has("a: restored") && done.has("d: new")).await;
    backend.locker().close().await;
    stop(nodes).await;
}
