//! Jobs are changed on all nodes at once, while nodes are cut off, the leader is gone and the server restarts. At the
//! end the catalogue is what was answered, all nodes hold what it has, and each one-shot has run once.

use std::collections::{BTreeMap, BTreeSet};

use callsheet::{
    RunHistory,
    chrono::{TimeDelta, Utc},
};

use super::{
    harness::Stop,
    proxy::{Flow, Proxy},
    *,
};

const NODES: usize = 3;
/// So many changes each node is asked for.
const CHANGES: usize = 60;
const JOBS: usize = 6;

/// What was answered to those who changed jobs.
#[derive(Default)]
struct Answers {
    /// Of each job, the versions that changes made, and whether it was there after them.
    made: BTreeMap<String, BTreeMap<u64, bool>>,
    /// The jobs of which some change may be made or not.
    unknown: BTreeSet<String>,
    one_shots: BTreeSet<String>,
}

/// A change of one of the jobs that all nodes change, or a one-shot.
async fn change(node: &Callsheet, of_node: usize, nth: usize, answers: &Mutex<Answers>) {
    let job = format!("job {}", (nth * 7 + of_node * 3) % JOBS);
    let made = match nth % 5 {
        4 => {
            let shot = format!("shot {of_node} {nth:02}");
            let mut json = says(&shot);
            json["schedule"] = json!({"at": [Utc::now() + TimeDelta::milliseconds(1_500)]});
            json["remove_when_done"] = json!(true);
            if node.put(&shot, &stored(json)).await.is_ok() {
                answers.lock().expect("nobody panicked").one_shots.insert(shot);
            }
            return;
        }
        3 => node.delete(&job).await.map(|version| (version, false)),
        1 => match node.stored(&job).await {
            // What two have read, one of them changes.
            Ok(read) => {
                let definition = yearly(&format!("{of_node} {nth}"));
                let made = node.put_if(&job, &definition, Expected::Version(read.version)).await;
                made.map(|status| (status.version, true))
            }
            Err(_) => return,
        },
        _ => node.put(&job, &yearly(&format!("{of_node} {nth}"))).await.map(|status| (status.version, true)),
    };
    let mut answers = answers.lock().expect("nobody panicked");
    match made {
        Ok((version, is_there)) => {
            let former = answers.made.entry(job.clone()).or_default().insert(version, is_there);
            assert_eq!(former, None, "version {version} of {job} was made twice");
        }
        // Another one came first, or there is none.
        Err(error) if matches!(error.kind(), ErrorKind::Exists | ErrorKind::NotFound) => {}
        Err(_) => drop(answers.unknown.insert(job)),
    }
}

fn yearly(what: &str) -> StoredJob {
    let mut json = says(what);
    json["schedule"] = json!("0 0 1 1 *");
    stored(json)
}

/// A node is cut off, the server restarts, and each node is gone for a while: whoever leads is among them.
async fn disturb(server: &Arc<Server>, proxies: &[Proxy]) {
    let pause = async || sleep(Duration::from_millis(400)).await;
    for (nth, proxy) in proxies.iter().enumerate() {
        pause().await;
        proxy.set(Flow::Stall);
        if nth % 2 == 0 {
            proxy.cut();
        }
        pause().await;
        proxy.set(Flow::Pass);
        proxy.cut();
        if nth == 1 {
            let server = server.clone();
            let restart = move || {
                server.stop(Stop::Fast);
                server.start_again();
            };
            tokio::task::spawn_blocking(restart).await.expect("it restarts");
        }
    }
}

/// What the catalogue has: each job with its version.
async fn in_catalogue(node: &Callsheet) -> BTreeMap<String, u64> {
    let Ok(page) = node.list_stored(CatalogueQuery::default()).await else { return BTreeMap::new() };
    page.jobs.iter().map(|row| (row.job.to_string(), row.version)).collect()
}

async fn in_engine(node: &Callsheet) -> BTreeMap<String, u64> {
    let page = node.list(ListJobs::default()).await.expect("it answers");
    page.jobs.iter().filter_map(|job| Some((job.name.to_string(), job.stored?))).collect()
}

fn check_answers(answers: &Answers, stored: &BTreeMap<String, u64>) {
    for (job, made) in &answers.made {
        let (newest, is_there) = made.last_key_value().expect("one at least");
        let standing = stored.get(job);
        assert!(
            standing.is_none_or(|version| version >= newest),
            "{job}: {standing:?}, and {newest} was made"
        );
        if !answers.unknown.contains(job) {
            assert_eq!(standing, Some(newest).filter(|_| *is_there), "{job}");
        }
    }
    let versions: Vec<_> = answers.made.values().flat_map(BTreeMap::keys).collect();
    let different: BTreeSet<_> = versions.iter().collect();
    assert_eq!(different.len(), versions.len(), "no version twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_catalogue_and_nodes_agree_and_nothing_is_lost_or_doubled() {
    let (server, done) = (Arc::new(Server::start()), Done::default());
    let (mut proxies, mut nodes) = (Vec::new(), Vec::new());
    for _ in 0..NODES {
        let proxy = Proxy::to(server.port()).await;
        let url = server.url().replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
        nodes.push(builder(&url, "chaos", &done).start().await.expect("it starts"));
        proxies.push(proxy);
    }
    let answers = Mutex::new(Answers::default());

    let changes = join_all(nodes.iter().enumerate().map(async |(of_node, node)| {
        for nth in 0..CHANGES {
            change(node, of_node, nth, &answers).await;
        }
    }));
    tokio::join!(changes, disturb(&server, &proxies));

    let answers = answers.into_inner().expect("nobody panicked");
    let is_shot = |stored: &BTreeMap<String, u64>| stored.keys().any(|job| job.starts_with("shot"));
    until("the catalogue answers, and has no one-shot any more", async || {
        let stored = in_catalogue(&nodes[0]).await;
        !stored.is_empty() && !is_shot(&stored)
    })
    .await;
    let stored = in_catalogue(&nodes[0]).await;
    for node in &nodes {
        until("each node holds what the catalogue has", async || in_engine(node).await == stored).await;
    }
    check_answers(&answers, &stored);
    for shot in &answers.one_shots {
        let said = done.0.lock().expect("nobody panicked").iter().filter(|said| said.contains(shot)).count();
        assert!(said <= 1, "{shot} ran {said} times");
        // A node may be cut off between its claim and the start of the body: then the run is lost, and told.
        let runs = async || {
            let asked = RunHistory::new().job(name(shot));
            nodes[0].runs(asked).await.map_or(0, |page| page.runs.len())
        };
        until(&format!("{shot} has a run in the history"), async || said == 1 || runs().await == 1).await;
    }
    assert!(answers.one_shots.len() > NODES, "{:?}", answers.one_shots);
    stop(nodes).await;
}
