//! Pauses that meet a claim or a lock, and notifications.

use super::*;

const FOR_GOOD: Pause = Pause { until: None, note: None, by: None };

#[tokio::test]
async fn a_claim_that_began_before_a_pause_sees_it() {
    let nodes = Nodes::of("pause-race").await;
    let leader = nodes.open().await;
    let term = leader.leads().await;
    for key in ["job", "key"] {
        let cursor = leader.enrol(enrolment("job", Authority::Term(term))).await;
        due().await;
        let claim = tick(Authority::Term(term), cursor, "job", key);
        // The claim has begun, and waits. It does not wait for long, so the pause is one that waits for no
        // disk.
        let leading = nodes.transaction("SELECT FROM callsheet.leader WHERE scope = $1 FOR UPDATE").await;

        let pause = async {
            nodes.somebody_waits().await;
            let pause = "UPDATE callsheet.names SET paused = true WHERE scope = $1 AND name = 'job'";
            leading.execute(pause, &[&nodes.scope]).await.expect("an answer");
            leading.batch_execute("COMMIT").await.expect("an answer");
        };
        let raced = async { tokio::join!(leader.claim(&claim), pause) };
        let (verdict, ()) = timeout(DEADLINE, raced).await.expect("the claim waits for the leader row");

        assert_eq!(verdict, Verdict::Paused(FOR_GOOD), "{key}");
        assert_eq!(leader.locker.pause(&[name("job")], None).await.expect("an answer"), [true]);
        let verdict = leader.claim(&claim).await;
        let Verdict::Granted { token, .. } = verdict else { panic!("{verdict:?}") };
        leader.ends(&claim, token).await;
    }
}

#[tokio::test]
async fn a_pause_waits_for_a_locked_job_no_longer_than_its_deadline() {
    let nodes = Nodes::of("pause-locked").await;
    let node = nodes.open().await;
    node.enrol(enrolment("job", Authority::Any)).await;
    let jobs = [name("other"), name("job")];
    for (locks, pause, paused) in [
        (
            "UPDATE callsheet.names SET cursor = cursor WHERE scope = $1 AND name = 'job'",
            Some(&FOR_GOOD),
            true,
        ),
        ("SELECT FROM callsheet.names WHERE scope = $1 AND name = 'job' FOR UPDATE", None, false),
    ] {
        let holder = nodes.transaction(locks).await;
        let mut answer = node.locker.pause(&jobs, pause);

        // The other one is changed, so this one was tried.
        let other = "SELECT FROM callsheet.names WHERE scope = $1 AND name = 'other' AND paused = $2";
        let changed = async {
            while nodes.admin.query_opt(other, &[&nodes.scope, &paused]).await.expect("an answer").is_none() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            answer = &mut answer => panic!("the job is locked: {answer:?}"),
            () = changed => {}
        }
        holder.batch_execute("COMMIT").await.expect("an answer");

        assert_eq!(answer.await.expect("an answer"), [true, true]);
    }
    let short = Postgres::new(&nodes.scope, server().url()).lease(Duration::from_secs(1));
    let locker = short.locker();
    locker.open().await.expect("a session opens");
    let _holder =
        nodes.transaction("SELECT FROM callsheet.names WHERE scope = $1 AND name = 'job' FOR UPDATE").await;
    let answer = timeout(DEADLINE, locker.pause(&jobs, None)).await.expect("it has a deadline");
    assert!(matches!(answer, Err(LockError::Timeout)), "{answer:?}");
    let alive = locker.close_lost(1).await;
    assert!(alive.is_ok(), "the session goes on: {alive:?}");
}

#[tokio::test]
async fn a_pause_that_has_waited_in_vain_waits_again() {
    let nodes = Nodes::of("pause-changing").await;
    let node = nodes.open().await;
    node.enrol(enrolment("job", Authority::Any)).await;
    let holder = nodes
        .transaction("UPDATE callsheet.names SET cursor = cursor WHERE scope = $1 AND name = 'job'")
        .await;
    let jobs = [name("job")];
    let mut pause = node.locker.pause(&jobs, Some(&FOR_GOOD));

    let waits_again = async {
        let first = nodes.somebody_waits().await;
        while nodes.somebody_waits().await == first {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        answer = &mut pause => panic!("somebody changes the job: {answer:?}"),
        () = waits_again => {}
    }
    holder.batch_execute("COMMIT").await.expect("an answer");

    assert_eq!(pause.await.expect("an answer"), [true]);
}

/// On a slow disk, by nodes that do nothing else: the row of the job is locked nearly all the time.
#[tokio::test]
async fn a_job_that_never_rests_can_be_paused_and_resumed() {
    const BUSY: usize = 6;
    const CHANGES: usize = 3;
    let nodes = Nodes::of("pause-busy").await;
    let node = nodes.open().await;
    node.enrol(enrolment("job", Authority::Any)).await;
    let slow_disk =
        format!("{}?options=-c%20commit_delay%3D50000%20-c%20commit_siblings%3D0", server().url());
    let mut busy = JoinSet::new();
    for _ in 0..BUSY {
        let other = Node::open(Postgres::new(&nodes.scope, &slow_disk)).await;
        busy.spawn(async move {
            loop {
                let run = manual("job", "job");
                if let Verdict::Granted { token, .. } = other.claim(&run).await {
                    other.ends(&run, token).await;
                }
            }
        });
    }

    for _ in 0..CHANGES {
        for pause in [Some(&FOR_GOOD), None] {
            let changed = node.locker.pause(&[name("job")], pause).await;

            assert_eq!(changed.expect("it gets its turn"), [true]);
        }
    }
    assert!(busy.try_join_next().is_none(), "they were busy all the time");
}

/// Sends notifications to the nodes of a scope, as anybody may who knows the channel.
async fn notify(nodes: &Nodes, payloads: &str) {
    let notify = format!(
        "SELECT pg_notify((SELECT channel FROM callsheet.scopes WHERE scope = $1), payload) FROM ({payloads}) AS p (payload)"
    );
    nodes.admin.query(&notify, &[&nodes.scope]).await.expect("an answer");
}

#[tokio::test]
async fn what_anybody_else_notifies_the_nodes_of_does_them_no_harm() {
    let nodes = Nodes::of("malformed").await;
    let (node, stranger) = (nodes.open().await, Nodes::of("malformed-stranger").await.open().await);
    let [session, of_stranger] = [node.session, stranger.session];
    let garbage = r#"VALUES ('garbage'), (''), ('{"stop": {}}'), ('{"pause": {"job": "", "pause": null}}')"#;

    node.locker.pause(&[name("held")], Some(&FOR_GOOD)).await.expect("an answer");
    notify(&nodes, garbage).await;
    notify(&nodes, r#"VALUES ('{"pause": {"job": "held", "pause": null}}')"#).await;
    notify(&nodes, r#"VALUES ('{"pause": {"job": "unknown", "pause": null}}')"#).await;
    node.locker.pause(&[name("job")], Some(&FOR_GOOD)).await.expect("an answer");

    let heard = async {
        [
            node.locker.next_notification(session).await,
            node.locker.next_notification(session).await,
            node.locker.next_notification(session).await,
        ]
    };
    let heard = timeout(DEADLINE, heard).await.expect("it hears what can be read");
    let held = Notification::PauseChanged { job: name("held"), pause: Some(FOR_GOOD) };
    let paused = Notification::PauseChanged { job: name("job"), pause: Some(FOR_GOOD) };
    assert_eq!(heard, [held.clone(), held, paused], "as the store says");
    stranger.locker.pause(&[name("strange")], Some(&FOR_GOOD)).await.expect("an answer");
    let heard = timeout(DEADLINE, stranger.locker.next_notification(of_stranger)).await.expect("its own");
    let own = Notification::PauseChanged { job: name("strange"), pause: Some(FOR_GOOD) };
    assert_eq!(heard, own, "another scope hears nothing of it");
}

#[tokio::test]
async fn of_too_many_notifications_the_oldest_are_dropped() {
    const SENT: usize = 3_000;
    let nodes = Nodes::of("flood").await;
    let node = nodes.open().await;
    let jobs =
        "INSERT INTO callsheet.names (scope, name) SELECT $1, n::text FROM generate_series(1, 3000) AS n";
    nodes.admin.execute(jobs, &[&nodes.scope]).await.expect("an answer");

    let flood =
        r#"SELECT '{"pause": {"job": "' || n || '", "pause": null}}' FROM generate_series(1, 3000) AS n"#;
    notify(&nodes, flood).await;
    // Whatever was sent before is here once this is.
    node.locker.pause(&[name("job")], Some(&FOR_GOOD)).await.expect("an answer");
    node.locker.pause(&[name("last")], None).await.expect("an answer");

    let mut heard = Vec::new();
    let last = Notification::PauseChanged { job: name("job"), pause: Some(FOR_GOOD) };
    while heard.last() != Some(&last) {
        heard.push(
            timeout(DEADLINE, node.locker.next_notification(node.session))
                .await
                .expect("the newest are kept"),
        );
    }

    assert!(heard.len() < SENT, "{} were kept", heard.len());
    assert!(heard.contains(&Notification::Lagged), "it is told that there was more");
    let newest = Notification::PauseChanged { job: name("3000"), pause: None };
    assert_eq!(heard[heard.len() - 2], newest);
}

#[tokio::test]
async fn who_wants_a_key_reaches_its_holder_on_another_node_and_nobody_else() {
    let nodes = Nodes::of("replace").await;
    let (holder, other) = (nodes.open().await, nodes.open().await);
    let held = manual("job", "key");
    let Verdict::Granted { token, .. } = holder.claim(&held).await else { panic!("not granted") };

    let busy = other.claim(&ClaimRequest { replace: true, ..manual("job", "key") }).await;
    other.locker.pause(&[name("after")], Some(&FOR_GOOD)).await.expect("an answer");

    assert_eq!(busy, Verdict::Busy { holder: Some(held.run), own: false });
    let after = Notification::PauseChanged { job: name("after"), pause: Some(FOR_GOOD) };
    let told = timeout(DEADLINE, holder.locker.next_notification(holder.session)).await.expect("it is told");
    assert_eq!(told, Notification::Stop { run: held.run });
    let told = timeout(DEADLINE, other.locker.next_notification(other.session)).await.expect("it is told");
    assert_eq!(told, after, "the other one has nothing to stop");
    holder.ends(&held, token).await;
}
