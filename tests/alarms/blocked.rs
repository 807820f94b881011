//! A schedule that hangs, in real time: nobody can be asked for its next fire time.

use std::{
    fmt,
    sync::{Condvar, Mutex},
};

use callsheet::{Callsheet, EventFilter, EventName, port::Schedule};
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

/// Fires every second, and does not answer while it hangs.
#[derive(Clone, Default)]
struct Hanging(Arc<(Mutex<bool>, Condvar)>);

impl Hanging {
    fn set(&self, hangs: bool) {
        *self.0.0.lock().expect("nobody panicked") = hangs;
        self.0.1.notify_all();
    }
}

impl fmt::Debug for Hanging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hanging")
    }
}

impl fmt::Display for Hanging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every second, or never")
    }
}

impl Schedule for Hanging {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let hangs = self.0.0.lock().expect("nobody panicked");
        drop(self.0.1.wait_while(hangs, |hangs| *hangs));
        Period::seconds(1).next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::seconds(1).previous_before(before)
    }
}

#[tokio::test]
async fn a_schedule_that_hangs_stalls_its_job_and_no_alarm() {
    let hanging = Hanging::default();
    let job = |name: &str| Job::new(name, hanging.clone()).expect_start_within(secs(1));
    let fails = Job::new("fails", every(secs(1))).expect_success_within(secs(8));
    let jobs = Callsheet::builder()
        .arbiters(2)
        .job(job("hangs").run(async |_| {}))
        .job(fails.run(async |_| Err::<(), _>("no paper")))
        .start()
        .await
        .expect("it starts");
    let mut starts = jobs.events(EventFilter::new().kinds([EventName::RunStarted]).job("hangs"));
    let mut alarms = jobs.events(EventFilter::new().kinds([EventName::JobOverdue, EventName::JobRecovered]));
    timeout(DEADLINE, starts.next()).await.expect("in time").expect("it runs");

    hanging.set(true);

    // The one whose schedule hangs, and another one later: nothing holds up whoever watches them.
    let mut overdue = Vec::new();
    for _ in 0..2 {
        let event = timeout(DEADLINE, alarms.next()).await.expect("in time").expect("it runs");
        let EventKind::JobOverdue { job, expectation, .. } = event.kind else { panic!("{event}") };
        overdue.push((job.to_string(), expectation));
    }
    overdue.sort();
    let expected = [("fails", Expectation::Success), ("hangs", Expectation::Start)];
    assert_eq!(overdue, expected.map(|(job, what)| (job.to_owned(), what)));
    let health = timeout(DEADLINE, jobs.health()).await.expect("in time").expect("it runs");
    let told = |problem: &Problem| matches!(problem, Problem::Overdue { count: 2, .. });
    assert!(health.problems.iter().any(told), "{health:?}");

    hanging.set(false);
    let event = timeout(DEADLINE, alarms.next()).await.expect("in time").expect("it runs");
    assert!(matches!(&event.kind, EventKind::JobRecovered { job, .. } if job.as_str() == "hangs"), "{event}");
    jobs.shutdown(Duration::ZERO).await;
}
