//! Configuration and answers as data.

use std::{collections::BTreeMap, time::Duration};

use callsheet::{Event, HealthReport, JobPage, Policies, ShutdownReport, prelude::*};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

mod common;
use common::secs;

async fn details(job: Job) -> callsheet::JobStatus {
    let name = "mail";
    let jobs = Callsheet::builder().job(job).start().await.expect("it starts");
    let status = jobs.details(name).await.expect("it is there");
    jobs.shutdown(Duration::ZERO).await;
    status
}

#[tokio::test]
async fn a_file_changes_what_it_names_and_nothing_else() {
    let config: JobConfig = toml::from_str(
        r#"
        schedule = "30 4 * * *"
        policies.timeout = "1h 30m"
        policies.overlap.queue = 3
        policies.retry = { attempts = 3 }
        "#,
    )
    .expect("it is right");
    let in_code = || Job::new("mail", every("5m")).timeout(secs(1)).on_lost(OnLost::Retry).priority(3);

    let changed = details(in_code().apply(config.clone()).run(async |_| {})).await;
    let same = details(in_code().apply(JobConfig::default()).run(async |_| {})).await;

    assert_eq!(&*changed.schedule, "cron 30 4 * * * (UTC)");
    let mut policies = Policies::default();
    (policies.on_lost, policies.priority) = (OnLost::Retry, 3);
    (policies.overlap, policies.retry) = (Overlap::Queue(3), Retry::attempts(3));
    policies.timeout = Some(Duration::from_mins(90));
    assert_eq!(changed.policies, policies);
    assert_eq!((&*same.schedule, same.policies.timeout), ("every 5m", Some(secs(1))));

    // It is written as it was read.
    let json = json!({
        "schedule": {"cron": "30 4 * * *"},
        "policies": {
            "overlap": {"queue": 3},
            "timeout": "1h30m",
            "retry": {"attempts": 3, "initial": "1s", "factor": 2.0, "max": "5m", "jitter": 0.2},
        },
    });
    assert_eq!(serde_json::to_value(&config).expect("it is right"), json);
    let again: JobConfig =
        toml::from_str(&toml::to_string(&config).expect("it is right")).expect("it was written");
    assert_eq!(serde_json::to_value(&again).expect("it is right"), json);
    assert_eq!(serde_json::to_value(JobConfig::default()).expect("it is right"), json!({}));
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_path() {
    let table = [
        (
            json!({"shedule": "@daily"}),
            "shedule: unknown field `shedule`, expected one of `schedule`, `backend`, `policies`, `expect`",
        ),
        (
            json!({"policies": {"tiemout": "1s"}}),
            "policies.tiemout: unknown field `tiemout`, expected one of `fires`",
        ),
        (
            json!({"policies": {"timeout": 20}}),
            "policies.timeout: invalid type: integer `20`, expected a duration as text",
        ),
        (
            json!({"policies": {"timeout": "20"}}),
            "policies.timeout: duration \"20\": `20` has no unit; write whole numbers",
        ),
        (
            json!({"policies": {"misfire": {"latest": {"within": "1h", "max": 3}}}}),
            "policies.misfire.latest.max: unknown field `max`, expected `within`",
        ),
        (json!({"policies": {"misfire": {"latest": {}}}}), "policies.misfire.latest: missing field `within`"),
        (json!({"policies": {"retry": {"atempts": 3}}}), "policies.retry.atempts: unknown field `atempts`"),
        (
            json!({"policies": {"retry": 3}}),
            "policies.retry: invalid type: integer `3`, expected a retry policy, such as {\"attempts\": 3}",
        ),
        (
            json!({"policies": {"overlap": 3}}),
            "policies.overlap: invalid type: integer `3`, expected string or map",
        ),
        (
            json!({"policies": {"overlap": "alow"}}),
            "policies.overlap: unknown variant `alow`, expected one of `skip`",
        ),
        (
            json!({"expect": {"succes_within": "26h"}}),
            "expect.succes_within: unknown field `succes_within`, expected one of `success_within`",
        ),
        (json!({"expect": {"at_least": "soon"}}), "expect.at_least: duration \"soon\": "),
        (
            json!({"expect": "26h"}),
            "expect: invalid type: string \"26h\", expected what is expected of a job, such as",
        ),
        (json!({"policies": 3}), "policies: invalid type: integer `3`, expected policies of a job, such as"),
        (
            json!({"task": {"nmae": "mail"}}),
            "task.nmae: unknown field `nmae`, expected `name` or `arguments`",
        ),
        (json!({"task": {"arguments": {}}}), "task: missing field `name`"),
        (json!({"task": "mail"}), "task: invalid type: string \"mail\", expected a task, such as {\"name\":"),
        (
            json!({"schedule": 5}),
            "schedule: invalid type: integer `5`, expected a schedule: a cron expression as text",
        ),
        (
            json!({"schedule": {"any": ["0 9 * * *", {"evry": "5m"}]}}),
            "schedule.any[1].evry: unknown field `evry`, expected one of `cron`",
        ),
        (json!({"schedule": "0 25 * * *"}), "schedule: cron \"0 25 * * *\": column 3: `25` is not an hour"),
        (
            json!("@daily"),
            "invalid type: string \"@daily\", expected a job, such as {\"schedule\": \"0 3 * * *\"",
        ),
    ];
    for (json, expected) in table {
        let error = serde_json::from_value::<JobConfig>(json.clone()).expect_err(expected).to_string();

        assert!(error.starts_with(expected), "{json}: {error}");
        for internal in ["struct ", "Form", "Keys", "PolicyConfig", "ExpectConfig", "TaskCall"] {
            assert!(!error.contains(internal), "{json}: {error}");
        }
    }
    let refused = Job::new("mail", every("5m"))
        .apply::<callsheet::schedule::Definition>(
            serde_json::from_value(json!({"policies": {"overlap": {"queue": 0}}}))
                .expect("the type is right"),
        )
        .run(async |_| {})
        .check()
        .expect_err("a rule is broken");
    assert_eq!(
        refused.to_string(),
        "job \"mail\": overlap queue \"0\": it is 1 to 1,000; choose another value"
    );
}

/// What a client in Rust reads of a service that answers with our types.
#[tokio::test]
async fn a_client_reads_what_a_scheduler_answers() {
    fn read<T: DeserializeOwned + serde::Serialize>(value: &T) -> Value {
        let written = serde_json::to_value(value).expect("it can be written");
        let read: T =
            serde_json::from_value(written.clone()).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(serde_json::to_value(&read).expect("it can be written"), written);
        written
    }
    let job = Job::new("mail", every("1h").jitter("1m")).timeout(secs(90)).run(async |_| {});
    let jobs = Callsheet::builder().job(job).start().await.expect("it starts");
    let mut events = jobs.events(EventFilter::new().kinds([EventName::RunStarted, EventName::RunSucceeded]));

    let triggered = jobs.trigger("mail").await.expect("it starts");
    let started = events.next().await.expect("it runs");
    let succeeded = events.next().await.expect("it ends");
    let page: JobPage = jobs.list(ListJobs::default()).await.expect("it runs");
    let health: HealthReport = jobs.health().await.expect("it runs");
    let added = jobs.add(Job::new("again", every("1h")).run(async |_| {})).await.expect("it is added");
    let report: ShutdownReport = jobs.shutdown(secs(5)).await;

    read(&triggered.triggered());
    assert_eq!(read::<Event>(&started)["lateness"], "0s");
    let took = read::<Event>(&succeeded)["took"].as_str().map(callsheet::schedule::parse_duration);
    assert!(matches!(took, Some(Ok(_))), "{succeeded:?}");
    assert_eq!(read(&page)["jobs"][0]["policies"]["timeout"], "1m30s");
    read(&health);
    assert_eq!(read(&added), json!({"job": "again", "scheduled": "here"}));
    read(&report);
}

/// A map of jobs by name, as a file has it.
#[test]
fn a_file_holds_many_jobs() {
    let file = "mail.schedule = '@hourly'\n[report]\nschedule = { every = '5m' }\n";

    let jobs: BTreeMap<String, JobConfig> = toml::from_str(file).expect("it is right");

    let schedules: Vec<_> =
        jobs.values().map(|config| config.schedule.clone().expect("one").describe()).collect();
    assert_eq!(schedules.len(), 2);
    let error =
        toml::from_str::<BTreeMap<String, JobConfig>>("[report]\npolicies.limit = 'one'").expect_err("wrong");
    assert!(error.to_string().contains("policies.limit: invalid type: string \"one\""), "{error}");
}

#[test]
fn what_a_file_expects_takes_the_place_of_what_the_code_expects_and_the_rest_stays() {
    let job = |file: &str| {
        let config: JobConfig = toml::from_str(file).expect("the types are right");
        let written = toml::to_string(&config).expect("it can be written");
        assert_eq!(toml::from_str::<JobConfig>(&written).expect("it is read back").expect, config.expect);
        let job = Job::new("mail", every("5m"))
            .expect_success_within(Duration::from_nanos(1))
            .expect_end_within(Duration::from_nanos(1))
            .apply(config)
            .run(async |_| {});
        job.check().map_err(|faults| faults.to_string()).err().unwrap_or_default()
    };
    let of_code = |what: &str| format!("job \"mail\": expect_{what}_within \"1ns\"");

    let refused = job("policies.timeout = '20m'");
    assert!(refused.contains(&of_code("success")) && refused.contains(&of_code("end")), "{refused}");
    let refused = job("expect.success_within = '26h'");
    assert!(!refused.contains("success") && refused.contains(&of_code("end")), "{refused}");
    let all = "expect = { success_within = '26h', start_within = '5m', end_within = '2h', at_least = '10s' }";
    assert_eq!(job(all), "");
    for (file, refused) in [
        ("start_within = '999ms'", "job \"mail\": expect_start_within \"999ms\""),
        ("at_least = '3h'", "job \"mail\": expect_at_least \"3h\": it is shorter than expect_end_within"),
    ] {
        let told = job(&format!("expect.success_within = '26h'\nexpect.end_within = '2h'\nexpect.{file}"));
        assert!(told.starts_with(refused), "{told}");
    }
}
