//! Former connections of a node: they are ended, and they count.

use super::*;

#[tokio::test]
async fn a_node_whose_former_connections_cannot_be_ended_opens_no_more() {
    let (log, store, runs) = (Log::keep(), Waiting::start().await, Runs::default());
    let jobs = node(store.backend("stuck"), &runs).await;
    runs.go_on().await;

    let (stopped, said) = stand_still(&store, &jobs).await;

    let there = store.served().await;
    assert!(said.contains("pg_stat_activity"), "{said}");
    let named = stopped.pids().iter().map(ToString::to_string).find(|pid| said.contains(pid.as_str()));
    let named = named.expect("it names them");
    sleep(LEASE * 2).await;
    assert_eq!(store.served().await, there);
    // Other tests say it of other processes.
    let says = |line: &&str| line.contains("no further one is opened") && line.contains(&named);
    assert_eq!(log.text().lines().filter(says).count(), 1, "{}", log.text());

    drop(stopped);
    runs.go_on().await;
    jobs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn connections_that_never_answered_count_among_those_that_are_left() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    let jobs = node(store.backend("mute"), &runs).await;
    runs.go_on().await;

    let mut stopped = Frozen::default();
    for pid in store.asked().await {
        stopped.freeze(pid, &store.admin).await;
    }
    // From now on no connection gets an answer to its first question.
    let hold = connect(&store.server.url()).await;
    hold.batch_execute("BEGIN; LOCK TABLE pg_proc IN ACCESS EXCLUSIVE MODE").await.expect("it is locked");
    let said = stand_still_too(&mut stopped, &store, &jobs).await;

    assert!(said.contains(" session "), "{said}");
    hold.batch_execute("ROLLBACK").await.expect("an answer");
    drop(stopped);
    runs.go_on().await;
    jobs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_role_that_acts_as_another_one_takes_no_former_process_for_gone() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    for statement in [
        "CREATE ROLE owner",
        "GRANT owner TO nodes",
        "GRANT CREATE ON DATABASE postgres TO owner",
        "ALTER ROLE nodes SET role = 'owner'",
    ] {
        store.admin.batch_execute(statement).await.expect("an answer");
    }
    let jobs = node(store.backend("acting"), &runs).await;
    runs.go_on().await;

    let (stopped, _) = stand_still(&store, &jobs).await;
    let pids = stopped.pids().clone();
    drop(stopped);

    runs.go_on().await;
    until("gone", async || store.backends().await.iter().all(|(.., pid)| !pids.contains(pid))).await;
    jobs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_user_that_was_changed_takes_no_process_of_the_former_one_for_gone() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    let (rotated, url) = (Arc::new(AtomicBool::new(false)), store.url());
    let asked = rotated.clone();
    let backend = Postgres::url_from("rotated", move || {
        let user = if asked.load(Ordering::SeqCst) { "//rotated:" } else { "//nodes:" };
        let url = url.replace("//nodes:", user);
        async move { Ok::<_, std::io::Error>(url) }
    });
    let jobs = node(backend.lease(LEASE), &runs).await;
    runs.go_on().await;
    for statement in [
        &format!("CREATE ROLE rotated LOGIN PASSWORD '{PASSWORD}'"),
        "GRANT USAGE ON SCHEMA callsheet TO rotated",
        "GRANT ALL ON ALL TABLES IN SCHEMA callsheet TO rotated",
    ] {
        store.admin.batch_execute(statement).await.expect("an answer");
    }
    rotated.store(true, Ordering::SeqCst);

    let (stopped, _) = stand_still(&store, &jobs).await;
    drop(stopped);

    runs.go_on().await;
    jobs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_node_goes_on_with_another_server_once_its_former_one_is_gone() {
    Log::keep();
    let (store, next, runs) = (Waiting::start().await, Waiting::start().await, Runs::default());
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", store.server.port(), next.server.port());
    let backend = Postgres::new("fenced", format!("postgres://nodes:{PASSWORD}@{hosts}/postgres"));
    let jobs = node(backend.lease(LEASE), &runs).await;
    runs.go_on().await;

    let (stopped, _) = stand_still(&store, &jobs).await;
    let of_server = store.server.socket_directory().join("data/postmaster.pid");
    let of_server = std::fs::read_to_string(of_server).expect("it runs");
    let of_server = of_server.lines().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    // At once, as by a fence: nothing hears a cancel request any more.
    kill_process(of_server.expect("a number"), Signal::KILL).expect("it runs");

    runs.go_on().await;
    jobs.shutdown(Duration::from_secs(1)).await;
    drop(stopped);
}

#[tokio::test]
async fn a_session_opened_again_ends_the_former_one_without_a_connection() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    let (jobs, tries) = counted_node(store.backend("frugal"), &runs).await;
    runs.go_on().await;
    let former = store.backends().await;
    let before = tries.load(Ordering::SeqCst);

    let (.., pid) = former.iter().find(|(_, purpose, _)| purpose == "session").expect("it has a session");
    let mut stopped = Frozen::default();
    stopped.freeze(*pid, &store.admin).await;
    // It is given up. From now on it ends when it is ended.
    until("tried", async || tries.load(Ordering::SeqCst) > before).await;
    drop(stopped);
    until("open", async || {
        let backends = store.backends().await;
        let is_new = |purpose: &str| {
            backends.iter().any(|(_, of, pid)| of == purpose && !former.iter().any(|(.., old)| old == pid))
        };
        is_new("session") && is_new("leadership")
    })
    .await;

    let tried = tries.load(Ordering::SeqCst) - before;
    assert_eq!((former.len(), tried), (2, 2), "two connections for two");
    until("gone", async || store.backends().await.iter().all(|(.., there)| there != pid)).await;
    jobs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_node_that_has_ended_connects_no_more_whatever_is_left_of_it() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    let (jobs, tries) = counted_node(store.backend("ended"), &runs).await;
    runs.go_on().await;
    let mut stopped = Frozen::default();
    for pid in store.asked().await {
        stopped.freeze(pid, &store.admin).await;
    }

    jobs.shutdown(Duration::from_secs(1)).await;

    // One attempt may be under way. The next one would begin after five seconds at most.
    sleep(Duration::from_secs(4)).await;
    let tried = tries.load(Ordering::SeqCst);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(tries.load(Ordering::SeqCst), tried);
}
