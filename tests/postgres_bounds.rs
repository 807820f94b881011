//! Durations, counts and instants at their ends, as a PostgreSQL server is told of them: each works, or is
//! refused early with a named fault. Nothing hangs, and nothing overflows in SQL.

#[path = "common/postgres.rs"]
mod harness;

use std::{future::Future, net::TcpListener, time::Duration};

use callsheet::{
    Builder, JobName, JobStatus, StartError,
    backend::Postgres,
    port::{Authority, Backend, Campaign, Enrolled, Enrolment, ScheduleIdentity},
    prelude::*,
};
use chrono::{DateTime, SubsecRound, Utc};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use self::harness::{scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
/// What waits for a state looks this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_hours(1);

async fn in_time<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    timeout(DEADLINE, awaited).await.unwrap_or_else(|_| panic!("{what} hangs"))
}

/// What a job is, once it is in a state.
async fn once(node: &Callsheet, state: JobState) -> JobStatus {
    let looked = async {
        loop {
            let status = node.details("job").await.expect("there is one");
            if status.state == state {
                return status;
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    in_time(&format!("{state:?}"), looked).await
}

/// Starts a node, and runs a job of it by hand: the server has granted a claim, and recorded its end.
async fn works(what: &str, backend: Postgres, options: impl FnOnce(Builder) -> Builder) {
    let job = Job::new("job", every("1h")).run(async |_| {});
    let node = options(Callsheet::builder().backend(backend).job(job)).start();
    let node = in_time(what, node).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let outcome = in_time(what, node.trigger("job").await.expect(what).finished()).await;
    assert_eq!(outcome, Outcome::Succeeded, "{what}");
    in_time(what, node.shutdown(Duration::ZERO)).await;
}

/// Each run is counted by the store as long as its job has a limit, and each failure as long as it has a
/// pause.
#[tokio::test]
async fn the_greatest_counts_are_never_reached() {
    let fails = async |_| Err::<(), _>("no connection");
    let job = Job::new("job", every("1h")).limit(u64::MAX).pause_after(u32::MAX).run(fails);
    let backend = Postgres::new(scope("counts"), server().url());
    let node = Callsheet::builder().backend(backend).job(job).start().await.expect("it starts");

    // What the store knows of it was read before the first run.
    once(&node, JobState::Scheduled).await;
    for _ in 0..3 {
        let run = node.trigger("job").await.expect("it starts");
        assert_eq!(in_time("a run", run.finished()).await, Outcome::Failed);
    }

    let status = once(&node, JobState::Scheduled).await;
    assert_eq!((status.pause, status.failures), (None, 3));
    node.shutdown(Duration::ZERO).await;
}

/// The server's last instant is later than ours, and whole microseconds.
#[tokio::test]
async fn a_pause_until_the_last_instant_is_kept_by_the_store() {
    let scope = scope("pause");
    let start = async || {
        let job = Job::new("job", every("1h")).run(async |_| {});
        let backend = Postgres::new(&scope, server().url());
        Callsheet::builder().backend(backend).job(job).start().await.expect("it starts")
    };
    let node = start().await;
    let paused = node.pause_with("job", Pause::until(DateTime::<Utc>::MAX_UTC)).await.expect("it is to come");
    assert_eq!(paused.len(), 1);
    node.shutdown(Duration::ZERO).await;

    let node = start().await;
    let status = once(&node, JobState::Paused).await;
    let until = status.pause.and_then(|pause| pause.until);
    assert_eq!(until, Some(DateTime::<Utc>::MAX_UTC.trunc_subsecs(6)));
    assert_eq!(node.resume("job").await.expect("it is paused").len(), 1);
    let run = node.trigger("job").await.expect("it starts");
    assert_eq!(in_time("a run", run.finished()).await, Outcome::Succeeded);
    node.shutdown(Duration::ZERO).await;
}

/// A leader that forgets nothing until the end of time: what is as old as can be stays.
#[tokio::test]
async fn names_are_forgotten_at_once_or_never() {
    let backend = Postgres::new(scope("forget"), server().url());
    let locker = backend.locker();
    locker.open().await.expect("a session opens");
    let Ok(Campaign::Won(grant)) = backend.elector().campaign(Duration::MAX).await else {
        panic!("nobody else leads")
    };
    let job = JobName::new("job").expect("a name");
    let enrolment = Enrolment::new(job.clone(), ScheduleIdentity::of_text("a schedule"), Authority::Any);
    let enrolled = locker.enrol(&[enrolment]).await.expect("an answer");
    assert!(matches!(enrolled[..], [Enrolled::Done { .. }]), "{enrolled:?}");
    locker.retract(&[(&job).into()]).await.expect("an answer");

    locker.keep_names(std::slice::from_ref(&job), Duration::MAX).await.expect("it may stay as it is");
    let never = locker.forget(grant.term, Duration::MAX).await.expect("nothing is as old");
    assert_eq!((never.names, never.more), (0, false));
    let at_once = locker.forget(grant.term, Duration::ZERO).await.expect("it is out of use");
    assert_eq!(at_once.names, 1);
}

#[tokio::test]
async fn a_node_of_any_forget_after_and_connect_timeout_works() {
    for (what, forget_after, connect_timeout) in
        [("the least", HOUR, DEADLINE), ("the greatest", Duration::MAX, Duration::MAX)]
    {
        let backend = Postgres::new(scope("options"), server().url());
        let options = |builder: Builder| builder.forget_after(forget_after).connect_timeout(connect_timeout);
        works(what, backend, options).await;
    }
    // Who is faster is open; it is an answer either way.
    let backend = Postgres::new(scope("options"), server().url());
    let start = Callsheet::builder().backend(backend).connect_timeout(Duration::from_millis(1)).start();
    match in_time("a start of a millisecond", start).await {
        Ok(node) => drop(node.shutdown(Duration::ZERO).await),
        Err(error) => assert!(matches!(error, StartError::Unreachable { .. }), "{error}"),
    }
}

/// What is not positive is as if it was left out.
#[tokio::test]
async fn a_connect_timeout_of_the_url_may_be_any_whole_number() {
    let with = |seconds: &str| format!("{}?connect_timeout={seconds}", server().url());
    for seconds in ["-9223372036854775808", "-1", "0", "1", "9223372036854775807"] {
        works(seconds, Postgres::new(scope("url"), with(seconds)), |builder| builder).await;
    }
    for seconds in ["9223372036854775808", "-9223372036854775809", "0.5", ""] {
        let backend = Postgres::new(scope("url"), with(seconds));
        let refused =
            Callsheet::builder().backend(backend).check().expect_err("it is out of range").to_string();
        assert!(
            refused.contains("its parameter `connect_timeout` has a value that the driver knows"),
            "{refused}"
        );
    }
}

/// It takes the connection, and says nothing.
#[tokio::test]
async fn a_silent_server_is_given_up_however_long_the_url_waits() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("an address").port();
    for seconds in ["0", "9223372036854775807"] {
        let url = format!("postgres://me@127.0.0.1:{port}/db?connect_timeout={seconds}");
        let start = Callsheet::builder()
            .backend(Postgres::new(scope("silent"), url))
            .connect_timeout(Duration::from_secs(1))
            .start();
        let refused = in_time("the start", start).await.err();
        assert!(matches!(refused, Some(StartError::Unreachable { .. })), "{seconds}: {refused:?}");
    }
}

/// Ticks are granted to a leader that holds on to its lease, and the next one need not wait for its end.
#[tokio::test]
async fn a_node_with_the_least_or_the_greatest_lease_fires() {
    for lease in [Duration::from_secs(1), HOUR] {
        let scope = scope("lease");
        for turn in ["the first node", "its successor"] {
            let (say, mut ran) = mpsc::unbounded_channel();
            let job = Job::new("job", every("100ms")).run_with(say, async |_, ran| {
                // An error: the test is over.
                let _ = ran.send(());
            });
            let backend = Postgres::new(&scope, server().url()).lease(lease);
            let node = Callsheet::builder().backend(backend).job(job).start().await.expect("it starts");
            in_time(turn, ran.recv()).await.expect("the job lives");
            node.shutdown(Duration::MAX).await;
        }
    }
}
