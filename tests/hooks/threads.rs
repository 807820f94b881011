//! Where hooks run, and what drops them.

use super::*;

/// The thread on which a hook or a body is.
fn thread() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

#[actix::test]
async fn hooks_of_an_actors_job_run_where_bodies_run() {
    let (told, mut threads) = tokio::sync::mpsc::unbounded_channel();
    let (before, after) = (told.clone(), told);
    let job = hourly("print")
        .before(move |_| {
            before.send(thread()).expect("the test goes on");
            std::future::ready(())
        })
        .after_success(move |_| {
            after.send(thread()).expect("the test goes on");
            std::future::ready(())
        })
        .run_actor(Printer(std::rc::Rc::default()).start());
    let jobs = node_with([job]).start().await.expect("it starts");

    jobs.trigger("print").await.expect("nothing runs");

    for hook in ["before", "after_success"] {
        let thread = tokio::time::timeout(secs(60), threads.recv()).await.expect("it is called");
        assert_eq!(thread.as_deref(), Some("callsheet-body"), "{hook}");
    }
    jobs.shutdown(secs(60)).await;
}

#[test]
fn hooks_are_bounded_in_time_on_a_runtime_that_has_no_timer() {
    let bodies = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let handle = bodies.handle().clone();
    let caller = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");

    caller.block_on(async {
        let job = hourly("report")
            .before(async |_| pending::<()>().await)
            .hook_timeout(Duration::from_millis(10))
            .run(async |_| {});
        let jobs = node_with([job]).bodies_on(handle).start().await.expect("it starts");
        let mut events = jobs.events(EventFilter::new().kinds([EventName::RunCancelled]));

        jobs.trigger("report").await.expect("nothing runs");

        let event = tokio::time::timeout(secs(60), events.next()).await.expect("it ends").expect("an event");
        assert!(event.to_string().ends_with("vetoed: a before hook did not return within 10ms"), "{event}");
        jobs.shutdown(secs(60)).await;
    });
}

/// Refuses one task when it is told to.
struct Refusing {
    refuses: Arc<AtomicBool>,
    runtime: tokio::runtime::Handle,
}

impl Spawner for Refusing {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if !self.refuses.swap(false, Ordering::Relaxed) {
            self.runtime.spawn(task);
        }
    }
}

#[actix::test]
async fn a_runtime_that_drops_a_call_of_a_hook_does_not_end_the_calls() {
    let (told, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let after = move |ended: FinishedRun| {
        told.send(ended.run.id()).expect("the test goes on");
        std::future::ready(())
    };
    let printer = Printer(std::rc::Rc::default()).start();
    let job = hourly("print").after_success(after.clone()).after_failure(after).run_actor(printer);
    let refuses = Arc::new(AtomicBool::new(false));
    let refusing = Refusing { refuses: refuses.clone(), runtime: tokio::runtime::Handle::current() };
    let jobs = node_with([job]).spawner(refusing).start().await.expect("it starts");
    let mut ends =
        jobs.events(EventFilter::new().kinds([EventName::RunSucceeded, EventName::RunFailed]).job("print"));

    // Before it leads it asks by a task whether bodies start.
    while jobs.health().await.expect("it runs").term.is_none() {
        tokio::task::yield_now().await;
    }
    refuses.store(true, Ordering::Relaxed);
    jobs.trigger("print").await.expect("nothing runs");
    ends.next().await.expect("the first run ends");
    let second = jobs.trigger("print").await.expect("nothing runs");

    let called = tokio::time::timeout(secs(60), calls.recv()).await.expect("it is called");
    assert_eq!(called, Some(second.run()), "the call for the first run is lost");
    jobs.shutdown(secs(60)).await;
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a hook's captured state panics on purpose");
        }
    }
}

#[test]
fn what_a_hook_captured_may_panic_when_its_job_is_gone() {
    simulate(START, async |rig| {
        let bomb = Bomb;
        let job = hourly("report").before(move |_| {
            let _captured = &bomb;
            std::future::ready(())
        });
        let bystander = Job::new("bystander", every(secs(1))).run(async |_| {});
        let node = rig.node(node_with([job.run(async |_| {}), bystander])).await;

        rig.send(node, RemoveJobs::new("report")).await.expect("it is there");
        rig.advance(Duration::from_millis(10_500)).await;

        assert_eq!(rig.started("bystander"), 10);
        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 0);
    });
}
