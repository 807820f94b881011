//! A shutdown ends though a schedule of the application blocks the scheduler's thread, on real threads.

use std::{
    fmt,
    future::Future,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use callsheet::{Callsheet, Error, Job, SHUTDOWN_END_MAX, schedule::Schedule};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use tokio::{sync::mpsc, time::timeout};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

async fn in_time<T>(awaited: impl Future<Output = T>) -> T {
    timeout(DEADLINE, awaited).await.expect("it ends")
}

/// On the scheduler's thread it waits for the test.
#[derive(Debug)]
struct Blocks {
    asked: mpsc::UnboundedSender<()>,
    release: Mutex<Receiver<()>>,
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("when the test says so")
    }
}

impl Schedule for Blocks {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if thread::current().name() == Some("callsheet") {
            // An error: the test is over.
            let _ = self.asked.send(());
            let _ = self.release.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
        Some(after + TimeDelta::hours(1))
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(before - TimeDelta::hours(1))
    }
}

/// A scheduler whose thread is blocked until the sender is dropped.
async fn blocked() -> (Callsheet, Sender<()>) {
    let (say, mut asked) = mpsc::unbounded_channel();
    let (release, released) = channel();
    let builder = Callsheet::builder().shutdown_abort_after(Duration::ZERO);
    let jobs = builder.start().await.expect("it starts");
    let schedule = Blocks { asked: say, release: Mutex::new(released) };
    let adds = jobs.clone();
    tokio::spawn(async move { adds.add(Job::new("blocks", schedule).run(async |_| {})).await });
    in_time(asked.recv()).await.expect("the schedule is asked");
    (jobs, release)
}

#[tokio::test]
async fn a_shutdown_ends_though_a_schedule_blocks_the_schedulers_thread() {
    let (jobs, release) = blocked().await;

    let both = async { tokio::join!(jobs.shutdown(Duration::ZERO), jobs.shutdown_now()) };
    let (in_order, at_once) = timeout(SHUTDOWN_END_MAX + DEADLINE, both).await.expect("it ends");

    for report in [in_order, at_once] {
        assert!(report.unanswered);
        assert_eq!((report.drained, report.cancelled, report.aborted, report.still_running), (0, 0, 0, 0));
        let text = "the scheduler's thread did not answer, so that nothing is known of the runs";
        assert_eq!(report.to_string(), text);
    }
    // It stops as it was told to, once it can.
    drop(release);
    assert!(!in_time(jobs.shutdown(Duration::ZERO)).await.unanswered);
    assert_eq!(jobs.health().await.err(), Some(Error::Stopped));
}

#[tokio::test]
async fn a_shutdown_that_nobody_waits_for_goes_on_when_the_thread_can() {
    let (jobs, release) = blocked().await;
    let mut events = jobs.events(callsheet::EventFilter::new());
    assert!(jobs.shutdown(Duration::ZERO).now_or_never().is_none());

    drop(release);

    // They end with the engine.
    in_time(async { while events.next().await.is_some() {} }).await;
    assert_eq!(in_time(jobs.health()).await.err(), Some(Error::Stopped));
}
