//! What is committed without the standby, or cut short.

use super::*;

#[tokio::test]
async fn connections_stay_few_while_the_standby_is_lost_and_none_is_left() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(node(store.backend("lost"), &runs).await);
    }
    runs.go_on().await;

    store.lose_standby().await;
    let (away_until, mut most) = (Instant::now() + AWAY, 0);
    while Instant::now() < away_until {
        let mut of_nodes: BTreeMap<String, i64> = BTreeMap::new();
        for (node, ..) in store.backends().await {
            *of_nodes.entry(node).or_default() += 1;
        }
        most = of_nodes.values().copied().max().unwrap_or_default().max(most);
        sleep(Duration::from_millis(50)).await;
    }

    assert!(most <= CONNECTIONS_MAX, "{most} connections of one node");
    // Others are served.
    connect(&store.server.url()).await.batch_execute("SELECT").await.expect("an answer");
    let last = nodes.pop().expect("a node");
    let id = last.health().await.expect("it runs").node.as_uuid().simple().to_string();
    last.shutdown(Duration::from_secs(1)).await;
    let of_last = async || {
        let backends = store.backends().await;
        backends
            .into_iter()
            .filter(|(node, ..)| id.starts_with(node))
            .map(|(_, purpose, _)| purpose)
            .collect()
    };
    // The server lets a process go a moment after the connection that ended the others was closed.
    let left: Vec<_> = of_last().await;
    assert!(left.iter().all(|purpose| purpose == "cleanup"), "{left:?}");
    until("gone", async || of_last().await == Vec::<String>::new()).await;

    store.find_standby().await;
    runs.go_on().await;
    until("as before", async || store.backends().await.len() == 2 * nodes.len()).await;
    for node in nodes {
        node.shutdown(Duration::from_secs(1)).await;
    }
    let ticks = runs.all();
    assert_eq!(ticks.iter().collect::<BTreeSet<_>>().len(), ticks.len(), "twice: {ticks:?}");
}

fn manual(key: &str) -> ClaimRequest {
    let run = RunId::from(NodeId::random().as_uuid());
    ClaimRequest::new(JobName::new("manual").expect("a name"), LockKey::new(key).expect("a key"), run)
}

#[tokio::test]
async fn what_was_committed_without_the_standby_is_not_believed() {
    Log::keep();
    let store = Waiting::start().await;
    let backend = store.backend("believed");
    let (locker, elector) = (backend.locker(), backend.elector());
    let open = async || {
        store.find_standby().await;
        until("open", async || locker.open().await.is_ok()).await;
    };
    let led = async || {
        open().await;
        let answer = elector.campaign(Duration::MAX).await.expect("an answer");
        let Campaign::Won(grant) = answer else { panic!("{answer:?}") };
        grant.term
    };

    open().await;
    store.lose_standby().await;
    let asked = [manual("claimed")];
    let (claimed, ()) = tokio::join!(locker.claim(&asked), async {
        store.cut_short(store.waiting("session").await).await;
    });
    assert!(claimed.is_err(), "a claim: {claimed:?}");

    open().await;
    let claim = manual("ended");
    let verdicts = locker.claim(std::slice::from_ref(&claim)).await.expect("an answer");
    let [Verdict::Granted { token, .. }] = verdicts[..] else { panic!("{verdicts:?}") };
    let (job, key) = (JobName::new("manual").expect("a name"), LockKey::new("ended").expect("a key"));
    let end = Completion::new(job, key, claim.run, token, Outcome::Succeeded);
    store.lose_standby().await;
    let (ended, ()) = tokio::join!(locker.complete(std::slice::from_ref(&end)), async {
        store.cut_short(store.waiting("session").await).await;
    });
    assert!(ended.is_err(), "an end: {ended:?}");

    let term = led().await;
    store.lose_standby().await;
    let (renewed, ()) = tokio::join!(elector.renew(term), async {
        store.cut_short(store.waiting("leadership").await).await;
    });
    assert!(renewed.is_err(), "a renewal: {renewed:?}");

    open().await;
    store.lose_standby().await;
    let (granted, ()) = tokio::join!(elector.campaign(Duration::MAX), async {
        store.cut_short(store.waiting("leadership").await).await;
    });
    assert!(granted.is_err(), "a grant: {granted:?}");
    store.find_standby().await;
    locker.close().await;
}

#[tokio::test]
async fn what_was_cut_short_and_lost_with_the_server_runs_once_all_the_same() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    let standby = Server::standby_of(&store.server);
    store.set("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    let followed = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'";
    until("followed", async || store.admin.query_opt(followed, &[]).await.expect("an answer").is_some())
        .await;
    let url = format!(
        "postgres://nodes:{PASSWORD}@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write&connect_timeout=2",
        store.server.port(),
        standby.port()
    );
    let jobs = node(Postgres::new("promoted", url).lease(LEASE), &runs).await;
    runs.go_on().await;

    standby.stop(Stop::Immediate);
    let former = store.waiting("session").await;
    let is_there = async || store.backends().await.iter().any(|(.., pid)| *pid == former);
    until("ended", async || !is_there().await).await;
    let claimed = "SELECT fire_time::text FROM callsheet.names WHERE name = 'job' AND scope = 'promoted'";
    let committed: Option<String> = store.admin.query_one(claimed, &[]).await.expect("a job").get(0);
    let before = runs.all();
    let Waiting { server, .. } = store;
    server.stop(Stop::Immediate);
    standby.start_again();
    let admin = connect(&standby.url()).await;
    admin.batch_execute("SELECT pg_promote()").await.expect("an answer");
    admin.batch_execute("SET synchronous_commit = local").await.expect("an answer");
    for statement in ["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"] {
        admin.batch_execute(statement).await.expect("an answer");
    }

    until("run", async || runs.all().len() >= before.len() + 3).await;
    jobs.shutdown(Duration::from_secs(1)).await;
    let ticks = runs.all();
    assert_eq!(ticks.iter().collect::<BTreeSet<_>>().len(), ticks.len(), "twice: {ticks:?}");
    // The one of which only the former server knew, and every one since, is decided.
    assert!(committed.is_some(), "nothing was cut short");
}

/// An authority, and a certificate for `localhost` that it signed, with its key.
fn certificates() -> (String, String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
    (authority, params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
}

#[tokio::test]
async fn what_waits_is_cancelled_over_tls_by_a_role_without_a_place_for_more() {
    Log::keep();
    let (authority, certificate, key) = certificates();
    let server = Server::start_with(|data| {
        data.write("server.crt", &certificate);
        data.write("server.key", &key);
        data.prepend("postgresql.conf", "ssl = on");
    });
    let store = Waiting::on(server).await;
    let url = store.url().replace("127.0.0.1", "localhost") + "?sslmode=verify-full";
    let backend = Postgres::new("tls", url).root_certificates(&authority).lease(LEASE);
    let locker = backend.locker();
    locker.open().await.expect("a session opens");
    let encrypted =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'nodes'";
    assert!(store.admin.query_one(encrypted, &[]).await.expect("an answer").get::<_, bool>(0));

    store.admin.batch_execute("ALTER ROLE nodes CONNECTION LIMIT 0").await.expect("an answer");
    store.lose_standby().await;
    let claimed = locker.claim(&[manual("key")]).await;

    assert!(claimed.is_err(), "{claimed:?}");
    until("cancelled", async || store.backends().await.is_empty()).await;
}
