//! Runtimes that it starts in, and runtimes of bodies.

use super::*;

/// What every program does: start, see a job run twice, stop.
async fn a_job_runs_twice_and_the_engine_stops() {
    let (ran, mut runs) = channel::unbounded_channel();

    let jobs = Callsheet::builder().job(reporting("hello", ran)).start().await.expect("it starts");

    assert_eq!(runs.recv().await.as_deref(), Some("hello"));
    assert_eq!(runs.recv().await.as_deref(), Some("hello"));
    let report = jobs.shutdown(LONG).await;
    assert_eq!((report.cancelled, report.aborted, report.still_running), (0, 0, 0));
    // Nothing is left that could run it.
    while runs.recv().await.is_some() {}
}

#[test]
fn it_starts_from_an_actix_web_main() {
    #[actix_web::main]
    async fn main() {
        a_job_runs_twice_and_the_engine_stops().await;
    }

    promptly(main);
}

#[test]
fn it_starts_from_a_tokio_main() {
    #[tokio::main]
    async fn main() {
        a_job_runs_twice_and_the_engine_stops().await;
    }

    promptly(main);
}

#[test]
fn it_starts_from_a_tokio_main_on_the_current_thread() {
    #[tokio::main(flavor = "current_thread")]
    async fn main() {
        a_job_runs_twice_and_the_engine_stops().await;
    }

    promptly(main);
}

#[test]
fn it_starts_from_a_plain_main() {
    fn main() {
        futures_executor::block_on(a_job_runs_twice_and_the_engine_stops());
    }

    promptly(main);
}

#[test]
fn it_starts_on_the_callers_local_set_and_stays_on_its_thread() {
    async fn main(local: &LocalSet) {
        let (ran, mut runs) = channel::unbounded_channel();
        let job = Job::new("here", every(OFTEN)).run_with(ran, async |_, ran| {
            // An error: the test has seen enough.
            let _ = ran.send(thread::current().id());
        });
        let before = threads();

        let jobs = Callsheet::builder().job(job).start_on(local).await.expect("it starts");

        assert_eq!(runs.recv().await, Some(thread::current().id()));
        assert_eq!(threads(), before, "it started threads");
        assert_eq!(jobs.shutdown(LONG).await.aborted, 0);
    }

    // Alone in a process: other tests start threads.
    in_a_child("runtimes::it_starts_on_the_callers_local_set_and_stays_on_its_thread", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = LocalSet::new();
        local.block_on(&runtime, main(&local));
        let local = LocalSet::new();
        actix_web::rt::System::new().block_on(local.run_until(main(&local)));
    });
}

#[test]
fn a_local_set_outside_a_runtime_is_refused_without_a_panic() {
    // Alone in a process: the hook is everybody's.
    in_a_child("runtimes::a_local_set_outside_a_runtime_is_refused_without_a_panic", || {
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("{panic}");
            std::process::abort();
        }));

        let local = LocalSet::new();
        let refused = futures_executor::block_on(Callsheet::builder().start_on(&local));

        let Err(error @ StartError::NoRuntime) = refused else {
            panic!("it started, or {:?}", refused.err())
        };
        assert!(error.to_string().contains("call it inside one, or call start"), "{error}");
    });
}

#[test]
fn one_handle_works_in_several_runtimes_at_once() {
    promptly(|| {
        let (ran, mut runs) = channel::unbounded_channel();
        let jobs = futures_executor::block_on(Callsheet::builder().start()).expect("it starts");
        let add = |name: &'static str| {
            let (jobs, ran) = (jobs.clone(), ran.clone());
            async move { jobs.add(reporting(name, ran)).await.map(|added| added.job.to_string()) }
        };
        let (actix, tokio, plain) = (add("actix"), add("tokio"), add("plain"));

        let threads = [
            thread::spawn(|| actix_web::rt::System::new().block_on(actix)),
            thread::spawn(|| tokio::runtime::Runtime::new().expect("a runtime").block_on(tokio)),
            thread::spawn(|| futures_executor::block_on(plain)),
        ];

        let added = threads.map(|thread| thread.join().expect("no panic").expect("it is added"));
        assert_eq!(added, ["actix", "tokio", "plain"]);
        // The runtimes are gone; the jobs are not.
        for name in added {
            while runs.blocking_recv().expect("they run") != name {}
        }
        futures_executor::block_on(jobs.shutdown(LONG));
    });
}

#[test]
fn two_engines_in_one_process_are_strangers() {
    #[actix_web::main]
    async fn main() {
        let ((ran_1, mut runs_1), (ran_2, mut runs_2)) =
            (channel::unbounded_channel(), channel::unbounded_channel());
        let first = Callsheet::builder().job(reporting("same name", ran_1)).start().await.expect("it starts");
        let second =
            Callsheet::builder().job(reporting("same name", ran_2)).start().await.expect("it starts");
        runs_1.recv().await.expect("it runs");
        runs_2.recv().await.expect("it runs");
        let (node_1, node_2) =
            (first.health().await.map(|it| it.node), second.health().await.map(|it| it.node));
        assert_ne!(node_1.expect("it answers"), node_2.expect("it answers"));

        first.remove("same name").await.expect("it is removed");
        first.shutdown(LONG).await;

        while runs_1.recv().await.is_some() {}
        while runs_2.try_recv().is_ok() {}
        runs_2.recv().await.expect("it goes on");
        second.shutdown(LONG).await;
    }

    promptly(main);
}
