//! Signals, and the budget of a shutdown.

use super::*;

#[test]
fn a_run_of_2_s_drains_after_sigterm_to_an_actix_web_server() {
    /// As applications do it: with the server's own signal handling, which stops the `System` as well.
    #[actix_web::main]
    async fn main() {
        let (served, end_of_service) = tokio::sync::watch::channel(false);
        let job = Job::new("long", every(OFTEN)).run_with(end_of_service, async |_, mut end_of_service| {
            println!("run started");
            // 2 s from the signal on, however slow the test is to send it.
            end_of_service.wait_for(|served| *served).await?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            println!("run ended");
            RunResult::Ok(())
        });
        let jobs = Callsheet::builder().job(job).start().await.expect("it starts");
        let server = HttpServer::new(App::new).workers(1).bind("127.0.0.1:0").expect("a free port").run();
        let mut server = pin!(server);
        // The first poll sets the signal handlers up.
        assert!(std::future::poll_fn(|task| Poll::Ready(server.as_mut().poll(task).is_pending())).await);
        println!("serving");
        server.await.expect("it serves");
        println!("server ended");
        served.send_replace(true);
        println!("report: {}", jobs.shutdown(LONG).await);
    }

    if env::var_os(ROLE).is_some() {
        return main();
    }
    let mut server = child("signals::a_run_of_2_s_drains_after_sigterm_to_an_actix_web_server");
    // In either order.
    while !["run started", "serving"].iter().all(|said| server.seen.iter().any(|line| line.contains(said))) {
        server.wait_for("");
    }

    server.signal(Signal::TERM);
    server.wait_for("server ended");
    let (code, lines) = server.end();

    let lines: Vec<_> = lines.iter().map(String::as_str).filter(|line| line.starts_with(['r'])).collect();
    assert_eq!(lines, ["run ended", "report: drained 1, cancelled 0, aborted 0"]);
    assert_eq!(code, Some(0));
}

/// The least that fits if runs are aborted at once: 6 s for the jobs.
const LEAST: ShutdownBudget = ShutdownBudget::within(Duration::from_secs(8)).server_timeout(Duration::ZERO);

#[test]
fn a_stream_of_signals_that_ends_counts_as_a_signal() {
    #[tokio::main]
    async fn main() {
        let jobs =
            Callsheet::builder().shutdown_abort_after(Duration::ZERO).start().await.expect("it starts");

        jobs.shutdown_on(futures_util::stream::empty::<()>(), LEAST).expect("it fits").await;

        assert_eq!(jobs.health().await.err(), Some(Error::Stopped));
    }

    promptly(main);
}

#[test]
fn a_stream_of_signals_is_not_polled_after_its_end() {
    #[tokio::main]
    async fn main() {
        let jobs =
            Callsheet::builder().shutdown_abort_after(Duration::ZERO).start().await.expect("it starts");
        // Panics if it is polled after its end.
        let ended = futures_util::stream::unfold((), async |()| None::<((), ())>);

        jobs.shutdown_on(ended, LEAST).expect("it fits").await;

        assert_eq!(jobs.health().await.err(), Some(Error::Stopped));
    }

    promptly(main);
}

#[test]
fn a_budget_that_is_too_small_is_refused_before_anything_stops() {
    #[tokio::main]
    async fn main() {
        let jobs = Callsheet::builder()
            .shutdown_abort_after(Duration::from_millis(1))
            .start()
            .await
            .expect("it starts");

        let refused =
            jobs.shutdown_on(futures_util::stream::empty::<()>(), LEAST).err().expect("it does not fit");

        let shown = refused.to_string();
        assert!(shown.contains("8s") && shown.contains("1ms from cancel to abort"), "{shown}");
        assert!(jobs.health().await.expect("it runs").ready);
        jobs.shutdown(LONG).await;
    }

    promptly(main);
}

/// A schedule that blocks whoever asks it, until it is let go.
#[derive(Debug)]
struct Stuck(Mutex<mpsc::Receiver<()>>);

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stuck")
    }
}

impl Schedule for Stuck {
    fn next_after(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // An error: it is let go.
        let _ = self.0.lock().expect("nobody panicked").recv();
        None
    }

    fn previous_before(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
        None
    }
}

#[test]
fn a_server_may_stop_in_time_though_the_engine_does_not() {
    #[tokio::main]
    async fn main() {
        let jobs =
            Callsheet::builder().shutdown_abort_after(Duration::ZERO).start().await.expect("it starts");
        let (go, wait) = mpsc::channel();
        // The supervisor asks the schedule, and hears nothing more.
        let stuck = Job::new("stuck", Stuck(Mutex::new(wait))).run(async |_| {});
        let added = tokio::spawn({
            let jobs = jobs.clone();
            async move { jobs.add(stuck).await }
        });
        let silent = async { while tokio::time::timeout(OFTEN, jobs.health()).await.is_ok() {} };
        silent.await;

        jobs.shutdown_on(futures_util::stream::empty::<()>(), LEAST).expect("it fits").await;

        assert!(!added.is_finished(), "it is stuck to the end");
        drop(go);
        // Whether it was added before the shutdown matters not.
        let _ = added.await;
        assert_eq!(jobs.shutdown(LONG).await.still_running, 0);
    }

    promptly(main);
}
