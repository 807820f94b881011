//! What is wrong is told early: the value, the rule and the cure.

use std::time::Duration;

use callsheet::{
    Callsheet, Error, Job, JobConfig, StartError, UpdateJob, backend::Local, port::SystemClock,
    schedule::every, testkit::simulate,
};

use super::{
    CRITICAL, START,
    common::{obedient, secs},
    each_second, node,
};

fn local() -> Local {
    Local::new(std::sync::Arc::new(SystemClock::default()))
}

/// What the start says.
fn told(builder: callsheet::Builder) -> String {
    builder.check().expect_err("something is wrong").to_string()
}

#[test]
fn a_backend_that_the_node_does_not_have_is_named_with_those_that_it_has() {
    let text = told(node([each_second("invoices").on("critcal")]));
    assert!(text.contains("job \"invoices\": backend \"critcal\""), "{text}");
    assert!(text.contains("a backend of this node: critical") && text.contains("backend_named"), "{text}");

    let none = told(Callsheet::builder().job(each_second("invoices").on(CRITICAL)));
    assert!(none.contains("this node has no named backend"), "{none}");
}

#[test]
fn names_of_backends_are_plain_and_each_is_given_once() {
    let twice = told(node([]).backend_named(CRITICAL, local()));
    assert!(twice.contains("name of a backend \"critical\": a backend of this name exists"), "{twice}");
    let empty = told(node([]).backend_named(" ", local()));
    assert!(empty.contains("it has 1 to 100 bytes"), "{empty}");
    let long = told(node([]).backend_named("x".repeat(101), local()));
    assert!(long.contains("it has 1 to 100 bytes"), "{long}");
    let many = (0..8).fold(node([]), |builder, nth| builder.backend_named(nth.to_string(), local()));
    assert!(told(many).contains("at most 8 named backends"));
}

#[test]
fn a_name_is_that_of_one_job_on_whichever_store() {
    let text = told(node([each_second("report"), each_second("report").on(CRITICAL)]));
    assert!(text.contains("job name \"report\": a job of this name exists on the default backend"), "{text}");

    simulate(START, async |rig| {
        let node = rig.node(node([each_second("rest"), each_second("invoices").on(CRITICAL)])).await;
        let handle = Callsheet::of_rig(rig, node);
        let taken = handle.add(each_second("rest").on(CRITICAL)).await.expect_err("it exists").to_string();
        assert!(taken.contains("exists on the default backend"), "{taken}");
        let taken = handle.add(each_second("invoices")).await.expect_err("it exists").to_string();
        assert!(taken.contains("exists on critical"), "{taken}");

        handle.remove("invoices").await.expect("it is there");
        handle.add(each_second("invoices")).await.expect("the name is free");
        assert_eq!(handle.details("invoices").await.expect("it is there").backend, None);
    });
}

#[test]
fn a_lock_key_is_that_of_jobs_on_one_store() {
    let on = |name: &str| each_second(name).lock_key("ledger");
    let text = told(node([on("rest"), on("invoices").on(CRITICAL)]));
    assert!(text.contains("job \"invoices\": lock key \"ledger\""), "{text}");
    assert!(text.contains("a key excludes within one backend"), "{text}");

    simulate(START, async |rig| {
        let node = rig.node(node([on("rest"), each_second("invoices").on(CRITICAL)])).await;
        let handle = Callsheet::of_rig(rig, node);
        let split = handle.add(on("more").on(CRITICAL)).await.expect_err("the key is elsewhere").to_string();
        assert!(split.contains("lock key \"ledger\""), "{split}");
        let split = handle.update(on("invoices").on(CRITICAL)).await.expect_err("the same").to_string();
        assert!(split.contains("lock key \"ledger\""), "{split}");

        handle.update(each_second("rest")).await.expect("it lets go of the key");
        handle.update(on("invoices").on(CRITICAL)).await.expect("the key is free");
    });
}

#[test]
fn a_job_is_moved_once_its_last_run_has_ended() {
    simulate(START, async |rig| {
        let long = |name: &str| {
            Job::new(name, every(secs(60))).lock_key("ledger").run(async |run| obedient(run, secs(30)).await)
        };
        let node = rig.node(node([long("rest"), each_second("other")])).await;
        let handle = Callsheet::of_rig(rig, node);
        rig.advance(secs(61)).await;
        assert_eq!(rig.started("rest"), 1);

        handle.remove("rest").await.expect("it is there");
        let early = handle.add(long("rest").on(CRITICAL)).await.expect_err("it runs").to_string();
        assert!(early.contains("runs of this key are in progress on the default backend"), "{early}");
        assert!(early.contains("wait until they have ended"), "{early}");
        rig.advance(secs(30)).await;
        handle.add(long("rest").on(CRITICAL)).await.expect("its run has ended");

        rig.advance(secs(61)).await;
        assert_eq!(rig.started("rest"), 2);
    });
}

#[test]
fn a_job_stays_on_the_store_that_it_was_added_to() {
    simulate(START, async |rig| {
        let node = rig.node(node([each_second("rest"), each_second("invoices").on(CRITICAL)])).await;
        let handle = Callsheet::of_rig(rig, node);
        for moved in [each_second("rest").on(CRITICAL), each_second("invoices")] {
            let error = handle.update(moved).await.expect_err("it stays");
            let text = error.to_string();
            assert!(text.contains("stays on the backend that it was added to"), "{text}");
            assert!(text.contains("remove it and add it again"), "{text}");
        }
        let unknown = handle.update(each_second("rest").on("critcal")).await.expect_err("there is none");
        assert!(unknown.to_string().contains("a backend of this node: critical"), "{unknown}");
        handle
            .update(Job::new("invoices", every(secs(2))).on(CRITICAL).run(async |_| {}))
            .await
            .expect("it stays");

        handle.remove("rest").await.expect("it is there");
        handle.add(each_second("rest").on(CRITICAL)).await.expect("the name is free");
        rig.advance(secs(5)).await;
        assert!(rig.counter("callsheet_ticks_total", "name=rest,backend=critical") > 0);
    });
}

#[test]
fn an_actor_of_one_store_refuses_jobs_of_another() {
    simulate(START, async |rig| {
        let node = rig.node(node([each_second("rest")])).await;
        let refused = rig.send(node, UpdateJob::new(each_second("rest").on(CRITICAL))).await;
        let text = refused.expect_err("it is not this actor's").to_string();
        assert!(text.contains("this actor has the jobs on the default backend"), "{text}");
        let added = rig.add(node, each_second("invoices").on(CRITICAL)).await;
        let text = added.expect_err("it is not this actor's").to_string();
        assert!(text.contains("send it by the handle"), "{text}");
    });
}

#[test]
fn jobs_for_several_stores_are_added_all_or_none() {
    simulate(START, async |rig| {
        let node = rig.node(node([each_second("invoices").on(CRITICAL)])).await;
        let handle = Callsheet::of_rig(rig, node);
        let bad = [
            vec![each_second("new"), each_second("invoices").on(CRITICAL)],
            vec![each_second("new"), each_second("other").on(CRITICAL).timeout(Duration::ZERO)],
            vec![each_second("new").on(CRITICAL), each_second("other").on("critcal")],
            vec![each_second("same"), each_second("same").on(CRITICAL)],
        ];
        for jobs in bad {
            let error = handle.add_all(jobs).await.expect_err("one of them is wrong");
            assert!(matches!(error, Error::Add(_)), "{error}");
            let listed = handle.list(callsheet::ListJobs::default()).await.expect("it runs").jobs;
            assert_eq!(listed.len(), 1, "{error}");
        }
        handle
            .add_all([each_second("new"), each_second("other").on(CRITICAL)])
            .await
            .expect("the names are free");
    });
}

#[test]
fn a_file_names_the_backend_of_a_job() {
    let config: JobConfig = serde_json::from_str(r#"{"backend": "critical"}"#).expect("it is one");
    assert_eq!(config.backend.as_deref(), Some(CRITICAL));
    assert_eq!(serde_json::to_string(&config).expect("it is data"), r#"{"backend":"critical"}"#);

    let from_code = each_second("rest").on("critcal");
    node([from_code.apply(config)]).check().expect("the file corrects it");
    let wrong =
        serde_json::from_str::<JobConfig>(r#"{"backend": 3}"#).expect_err("it is no name").to_string();
    assert!(wrong.contains("backend"), "{wrong}");
}

#[tokio::test]
async fn a_node_starts_on_all_of_its_stores_or_not_at_all() {
    let elsewhere = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = elsewhere.clone();
    let job = Job::new("rest", every(Duration::from_millis(10))).run(move |_| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async {}
    });
    let refuses = callsheet::testkit::SharedStore::new(callsheet::testkit::VirtualClock::starting_at(
        START.parse().expect("an instant"),
    ));
    refuses.refuse([callsheet::Operation::Open], "it is not for you");
    let backend = refuses.backend(
        callsheet::NodeId::random(),
        callsheet::testkit::VirtualClock::starting_at(START.parse().expect("an instant")),
    );

    let started = Callsheet::builder()
        .job(job)
        .backend_named(CRITICAL, backend)
        .connect_timeout(Duration::from_millis(200))
        .start()
        .await;

    let Err(error) = started else { panic!("it started") };
    assert!(matches!(error, StartError::Refused { .. } | StartError::Unreachable { .. }), "{error}");
    let ran = elsewhere.load(std::sync::atomic::Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(elsewhere.load(std::sync::atomic::Ordering::Relaxed), ran, "nothing is left running");
}
