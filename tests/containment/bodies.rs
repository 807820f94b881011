//! Bodies that panic, and what they captured.

use super::*;

#[test]
fn a_panicking_body_fails_its_run_and_nothing_else() {
    simulate(START, async |rig| {
        let bad = Job::new("bad", every(secs(1))).run(async |_| -> () { panic!("out of {}", "paper") });
        rig.node(node_with([bystander(), bad])).await;

        rig.advance(Duration::from_millis(10_500)).await;

        assert_eq!((rig.started("bad"), rig.started("bystander")), (10, 10));
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=panicked"), 10);
        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 0);
        let messages = rig.count(
            |kind| matches!(kind, EventKind::RunPanicked { message, .. } if &**message == "out of paper"),
        );
        assert_eq!(messages, 10);
    });
}

#[test]
fn a_body_that_panics_before_its_first_await_is_contained_as_well() {
    simulate(START, async |rig| {
        fn body(_: Run) -> std::future::Ready<RunResult> {
            panic!("before there is a future")
        }
        rig.node(node_with([bystander(), Job::new("bad", every(secs(1))).run(body)])).await;

        rig.advance(Duration::from_millis(3_500)).await;

        assert_eq!(rig.counter("callsheet_runs_total", "outcome=panicked"), 3);
        assert_eq!(rig.started("bystander"), 3);
    });
}

#[test]
fn a_local_body_that_panics_is_contained_as_well() {
    simulate(START, async |rig| {
        let bad = Job::new("bad", every(secs(1))).run_local(async |_| -> () { panic!("not Send, not well") });
        rig.node(node_with([bystander(), bad])).await;

        rig.advance(Duration::from_millis(3_500)).await;

        assert_eq!(rig.counter("callsheet_runs_total", "outcome=panicked"), 3);
        assert_eq!(rig.started("bystander"), 3);
    });
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!(
                "as a tokio runtime or a blocking HTTP client does when it is dropped in an async context"
            );
        }
    }
}

fn job_with(state: impl Send + Sync + 'static, name: &str) -> Job {
    let state = Arc::new(state);
    Job::new(name, every(secs(1))).run(move |_| {
        let _ = &state;
        async {}
    })
}

#[test]
fn a_refused_job_whose_state_panics_on_drop_does_not_stop_the_engine() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("same", every(secs(1))).run(async |_| {})])).await;

        let supervisor = rig.supervisor(node);
        let refused = supervisor.send(AddJob::new(job_with(PanicsOnDrop, "same")));
        let _ = refused.await;
        rig.advance(ms(5_500)).await;

        assert!(supervisor.connected(), "the supervisor is dead, and the whole engine with it");
    });
}

#[test]
fn a_refused_job_that_owns_a_runtime_does_not_stop_the_engine() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let callsheet = Callsheet::builder()
            .job(Job::new("same", every(secs(1))).run(async |_| {}))
            .start()
            .await
            .unwrap();
        let own = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        callsheet.add(job_with(own, "same")).await.expect_err("the name is taken");

        let health = callsheet.health().await;

        assert!(health.is_ok(), "the whole engine stopped: {health:?}");
        callsheet.shutdown(Duration::ZERO).await;
    });
}
