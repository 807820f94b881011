//! A schedule that hangs, in real time: nobody can be asked for its next fire time.

use std::{
    fmt,
    sync::{Condvar, Mutex},
    thread,
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

/// Fires every two seconds, and may block, though it does not.
#[derive(Debug)]
struct Custom;

impl fmt::Display for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every two seconds")
    }
}

impl Schedule for Custom {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::seconds(2).next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::seconds(2).previous_before(before)
    }
}

#[tokio::test]
async fn many_schedules_that_may_block_and_are_asked_together_make_no_job_overdue() {
    let job = |nth| Job::new(format!("job{nth}"), Custom).expect_start_within(secs(1)).run(async |_| {});
    let jobs = Callsheet::builder().jobs((0..20).map(job)).start().await.expect("it starts");
    let said = EventFilter::new().kinds([EventName::RunStarted, EventName::JobOverdue]);
    let mut events = jobs.events(said);

    // Between two ticks each is looked at, all at the same instant.
    let mut started = 0;
    while started < 3 * 20 {
        let event = timeout(DEADLINE, events.next()).await.expect("in time").expect("it runs");
        match &event.kind {
            EventKind::RunStarted { .. } => started += 1,
            _ => panic!("{event}"),
        }
    }
    jobs.shutdown(Duration::ZERO).await;
}

/// Answers the threads of jobs, and hangs on the one where the supervisor asks it.
#[derive(Clone, Debug, Default)]
struct HangsElsewhere(Hanging);

impl fmt::Display for HangsElsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every two seconds, if a job asks")
    }
}

impl Schedule for HangsElsewhere {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // One that may block.
        let elsewhere = thread::current().name().is_some_and(|name| name == "callsheet-body");
        if elsewhere { self.0.next_after(after) } else { Period::seconds(2).next_after(after) }
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::seconds(2).previous_before(before)
    }
}

#[tokio::test]
async fn a_job_that_was_given_a_good_schedule_recovers_while_the_former_one_hangs() {
    let hanging = HangsElsewhere::default();
    hanging.0.set(true);
    let job = Job::new("job", hanging.clone()).expect_start_within(secs(1)).run(async |_| {});
    let jobs = Callsheet::builder().job(job).start().await.expect("it starts");
    let mut alarms = jobs.events(EventFilter::new().kinds([EventName::JobOverdue, EventName::JobRecovered]));
    let event = timeout(DEADLINE, alarms.next()).await.expect("in time").expect("it runs");
    assert!(matches!(event.kind, EventKind::JobOverdue { .. }), "{event}");

    let mended = Job::new("job", Custom).expect_start_within(secs(1)).run(async |_| {});
    jobs.update(mended).await.expect("it is known");

    let event = timeout(DEADLINE, alarms.next()).await.expect("in time").expect("it runs");
    assert!(matches!(event.kind, EventKind::JobRecovered { .. }), "{event}");
    hanging.0.set(false);
    jobs.shutdown(Duration::ZERO).await;
}
