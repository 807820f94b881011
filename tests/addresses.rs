//! A job is an actor, and has an address as soon as somebody asks for it.

use std::time::Duration;

use actix::MailboxError;
use callsheet::{
    By, Callsheet, CancelItsRuns, EventKind, FireTimes, Fires, Job, JobAddress, JobName, JobOperation,
    Operations, RemoveJobs, SelectError, TriggerJob, UpdateJob,
    schedule::every,
    testkit::{
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};
use chrono::{DateTime, Utc};

mod common;
use common::{hours, node_with, obedient, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn hourly(name: &str) -> Job {
    Job::new(name, every(hours(1))).run(async |_| tokio::time::sleep(secs(60)).await)
}

#[test]
fn a_message_to_its_address_reaches_the_actor_of_a_job() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([hourly("led"), hourly("local").fires(Fires::Local)])).await;
        for job in ["led", "local"] {
            let address = rig.send(node, JobAddress(job.to_owned())).await.expect("it is there");

            let fire_times = address.send(FireTimes(2)).await.expect("it lives");
            assert_eq!(fire_times, ["2026-01-05T01:00:00Z", "2026-01-05T02:00:00Z"].map(time));
            assert_eq!(address.send(FireTimes(usize::MAX)).await.map(|all| all.len()), Ok(1_000));

            let run = rig.send(node, TriggerJob::new(job)).await.expect("it starts").run();
            let alice = By::new("alice").expect("a good name");
            let stopped = address.recipient().send(CancelItsRuns::new().by(alice.clone())).await;
            assert_eq!(stopped, Ok(vec![run]));
            let asked = Operations::new().job(JobName::new(job).expect("a good name"));
            let newest = rig.send(node, asked).await.expect("it is kept").operations.remove(0);
            assert_eq!((newest.operation, newest.by), (JobOperation::Cancelled, Some(alice)));
            assert_eq!(newest.detail.as_deref(), Some(&*format!("run {run}")));
            rig.advance(secs(10)).await;
            let cancelled =
                |kind: &EventKind| matches!(kind, EventKind::RunCancelled { run: of, .. } if *of == run);
            assert_eq!(rig.count(cancelled), 1, "{job}");
        }
        let unknown = rig.send(node, JobAddress("nobody".to_owned())).await.err();
        assert_eq!(unknown, Some(SelectError::UnknownJob { name: "nobody".to_owned() }));
    });
}

#[test]
fn all_that_is_sent_is_answered_though_its_sender_lets_go_of_the_address() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([hourly("job")])).await;
        let address = rig.send(node, JobAddress("job".to_owned())).await.expect("it is there");

        let answers: Vec<_> = (0..16).map(|count| address.send(FireTimes(count))).collect();
        drop(address);

        for (count, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.await.map(|fire_times| fire_times.len()), Ok(count));
        }
    });
}

#[test]
fn an_address_outlives_an_update_and_is_closed_when_the_job_is_removed() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([hourly("job")])).await;
        let address = rig.send(node, JobAddress("job".to_owned())).await.expect("it is there");

        let daily = Job::new("job", every(hours(24))).run(async |_| {});
        rig.send(node, UpdateJob::new(daily)).await.expect("it is right");
        assert_eq!(address.send(FireTimes(1)).await, Ok(vec![time("2026-01-06T00:00:00Z")]));

        rig.send(node, RemoveJobs::new("job")).await.expect("it is there");
        rig.advance(secs(1)).await;
        assert!(!address.connected());
        assert_eq!(address.send(FireTimes(1)).await, Err(MailboxError::Closed));
    });
}

#[test]
fn a_job_that_was_removed_during_a_run_has_no_fire_times_any_more() {
    simulate(START, async |rig| {
        let long = Job::new("job", every(hours(1))).run_with(hours(2), obedient);
        let node = rig.node(node_with([long])).await;
        let address = rig.send(node, JobAddress("job".to_owned())).await.expect("it is there");
        rig.advance(hours(1) + secs(1)).await;

        rig.send(node, RemoveJobs::new("job")).await.expect("it is there");
        rig.advance(secs(1)).await;

        assert!(address.connected(), "its run goes on");
        assert_eq!(address.send(FireTimes(3)).await, Ok(Vec::new()));
    });
}

#[test]
fn an_address_is_closed_when_the_actor_panics_and_the_next_one_has_another() {
    simulate(START, async |rig| {
        let schedule = PanickingSchedule::new(Period::seconds(1), rig.now() + secs(3), 1);
        let node = rig.node(node_with([Job::new("bad", schedule).run(async |_| {})])).await;
        let address = rig.send(node, JobAddress("bad".to_owned())).await.expect("it is there");
        assert_eq!(address.send(FireTimes(1)).await.map(|all| all.len()), Ok(1));

        rig.advance(secs(5)).await;
        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 1);
        assert_eq!(address.send(FireTimes(1)).await, Err(MailboxError::Closed));

        let address = rig.send(node, JobAddress("bad".to_owned())).await.expect("it is there");
        assert_eq!(address.send(FireTimes(1)).await.map(|all| all.len()), Ok(1));
    });
}

#[tokio::test]
async fn an_address_works_from_other_threads_until_the_engine_stops() {
    let engine = Callsheet::builder()
        .arbiters(2)
        .job(hourly("one"))
        .job(hourly("two"))
        .start()
        .await
        .expect("it starts");
    let mut addresses = Vec::new();
    for job in ["one", "two"] {
        let address = engine.job_address(job).await.expect("it is there");
        let asked = tokio::spawn({
            let address = address.clone();
            async move { address.send(FireTimes(3)).await }
        });
        assert_eq!(asked.await.expect("it does not panic").map(|all| all.len()), Ok(3));
        addresses.push(address);
    }

    engine.shutdown(Duration::ZERO).await;

    for address in addresses {
        assert_eq!(address.send(FireTimes(1)).await, Err(MailboxError::Closed));
    }
}
