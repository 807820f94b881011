//! Bad input: every fault at once, each with the value, the rule and the cure.

use std::time::Duration;

use callsheet::{
    AddError, AddJob, AddJobs, Callsheet, Error, Fault, Job, ListJobs, RemoveJobs, SelectError, Selector,
    StartError, TriggerError, TriggerJob,
    schedule::{cron, every},
    testkit::{fakes::Period, simulate},
};

mod common;
use common::{node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn job(name: impl Into<String>) -> Job {
    Job::new(name, every(secs(1))).run(async |_| {})
}

/// What stands in front of the first line break of each fault.
fn first_lines(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(|fault| fault.to_string().lines().next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_fault_of_every_job_is_reported_together() {
    let builder = Callsheet::builder()
        .job(job(""))
        .job(job("a\nb"))
        .job(job("x".repeat(201)))
        .job(Job::new("zero", every(Duration::ZERO)).run(async |_| {}))
        .job(Job::new("bad-cron", cron("61 * * * *").timezone("Europe/Lisbom")).run(async |_| {}))
        .job(Job::new("never", cron("0 0 30 2 *")).run(async |_| {}))
        .job(
            Job::new("policies", every(secs(1)))
                .timeout(Duration::ZERO)
                .lock_key(" k")
                .tag("")
                .metrics_label("_other")
                .run(async |_| {}),
        )
        .job(job("twice"))
        .job(job("twice"))
        .arbiters(1_000)
        .body_threads(0);

    let faults = builder.check().expect_err("there is something wrong with nearly all of it");

    let said = first_lines(faults.as_slice());
    let expected = [
        r#"job name "": a name is not empty; give it at least one character"#,
        r#"job name "a\nb": a name has no control characters, character 2 is '\n'; remove it"#,
        "job name \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…\": a name has at most 200 bytes, this one has 201; shorten it",
        r#"job "zero": every "0s""#,
        r#"job "bad-cron": cron "61 * * * *""#,
        r#"job "bad-cron": timezone "Europe/Lisbom": `Europe/Lisbom` is not the IANA name of a time zone; write `Europe/Lisbon`"#,
        r#"job "never": cron "0 0 30 2 *""#,
        r#"job "policies": lock key " k": a name neither starts nor ends with white space; trim it"#,
        r#"job "policies": tag "": a name is not empty; give it at least one character"#,
        r#"job "policies": metrics label "_other": labels that begin with `_` are reserved: _other, _once; begin it with another character"#,
        r#"job "policies": timeout "0s": a timeout is at least 1 ms; raise it, or leave it out for no limit"#,
        r#"job name "twice": a job of this name exists; choose another name, or remove that job first"#,
        r#"arbiters "1000": it is at least 1 and at most 256; choose a number in this range"#,
        r#"body_threads "0": it is at least 1 and at most 256; choose a number in this range"#,
    ];
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "said {said}, expected {expected}");
    }
    assert_eq!(said.len(), expected.len(), "{said:#?}");
}

#[tokio::test]
async fn a_start_with_faults_reports_them_and_leaves_nothing_running() {
    let refused = Callsheet::builder().job(job("")).job(job("b\u{0}")).start().await;

    let Err(StartError::Invalid(faults)) = refused else { panic!("it must not start") };
    assert_eq!(faults.as_slice().len(), 2);
}

#[test]
fn a_batch_is_added_whole_or_not_at_all() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("a")])).await;

        let refused = rig.send(node, AddJobs::new(vec![job("b"), job("a"), job("")])).await;
        assert!(
            matches!(&refused, Err(AddError::Invalid(faults)) if faults.as_slice().len() == 2),
            "{refused:?}"
        );
        let refused = rig.send(node, AddJobs::new(vec![job("b"), job("a")])).await;
        assert!(matches!(refused, Err(AddError::Exists(_))), "{refused:?}");
        let refused = rig.send(node, AddJobs::new(vec![job("c"), job("c")])).await;
        assert!(
            matches!(refused, Err(AddError::Invalid(_))),
            "twice in one batch is a fault of the batch: {refused:?}"
        );

        let page = rig.send(node, ListJobs::default()).await;
        assert_eq!(page.jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(rig.add(node, job("b")).await.expect("it is right").job.as_str(), "b");
    });
}

#[test]
fn unknown_jobs_are_said_to_be_unknown() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("a")])).await;

        let refused = rig.send(node, TriggerJob::new("b")).await.expect_err("there is no b");
        assert_eq!(refused, TriggerError::UnknownJob { name: "b".to_owned() });
        assert_eq!(
            refused.to_string(),
            r#"there is no job "b" on this node; list the jobs to see their names"#
        );
        let refused = rig.send(node, RemoveJobs::new("b")).await;
        assert_eq!(refused, Err(SelectError::UnknownJob { name: "b".to_owned() }));
        let none = rig.send(node, RemoveJobs::new(Selector::Tag("b".to_owned()))).await;
        assert_eq!(none, Ok(Vec::new()), "a tag that no job has selects none");
    });
}

#[tokio::test]
async fn after_a_shutdown_every_call_says_so() {
    let jobs = Callsheet::builder().job(job("a")).start().await.expect("it starts");
    jobs.shutdown(secs(1)).await;

    assert_eq!(jobs.add(job("b")).await, Err(Error::Stopped));
    assert_eq!(jobs.trigger("a").await.map(|run| run.triggered()), Err(Error::Stopped));
    assert_eq!(jobs.remove("a").await, Err(Error::Stopped));
    assert!(jobs.supervisor().send(AddJob::new(job("c"))).await.is_err());
    assert_eq!(
        jobs.shutdown(secs(1)).await,
        callsheet::ShutdownReport::default(),
        "asking again is harmless"
    );
}

#[test]
fn a_broken_schedule_of_the_application_is_refused_when_it_is_added() {
    #[derive(Debug)]
    struct Broken(&'static str);
    impl std::fmt::Display for Broken {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }
    impl callsheet::port::Schedule for Broken {
        fn next_after(&self, _: chrono::DateTime<chrono::Utc>) -> Option<chrono::DateTime<chrono::Utc>> {
            assert_ne!(self.0, "panics");
            None
        }
        fn previous_before(&self, _: chrono::DateTime<chrono::Utc>) -> Option<chrono::DateTime<chrono::Utc>> {
            None
        }
    }

    let said =
        |name| Job::new("own", Broken(name)).run(async |_| {}).check().expect_err("it is broken").to_string();

    assert_eq!(
        said("never"),
        r#"job "own": schedule "never": it never fires; give it at least one fire time"#
    );
    assert_eq!(
        said("panics"),
        "job \"own\": schedule \"a type of the application\": it panicked when it was asked for its next fire time; \
         mend its `next_after`, `previous_before`, `identity` or `Display`"
    );
    Job::new("fine", Period::seconds(1)).run(async |_| {}).check().expect("nothing is wrong with this one");
}
