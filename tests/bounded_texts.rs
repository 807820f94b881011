//! One mistake in thousands of jobs, and a megabyte where a name was wanted, make no long message.

use std::{
    fmt::{Debug, Display},
    panic::panic_any,
};

use callsheet::{
    Callsheet, EventKind, Faults, Job, NextFireTimes, PauseJobs, RemoveJobs, RunError, StartError,
    TriggerJob,
    schedule::{Definition, at, calendar, cron, daily, every, monthly, parse_duration, weekly},
    testkit::simulate,
};

mod common;
use common::{node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";
/// The longest message that anybody reads to its end.
const MESSAGE_MAX: usize = 16 * 1024;
/// An event names some hundred causes of an error.
const EVENT_MAX: usize = 17 * 1024;

/// A megabyte, of characters that take more room when they are quoted.
fn hostile() -> String {
    "1\u{1}é\"\\\n* ".repeat(100_000)
}

fn assert_short(what: &str, said: &(impl Display + Debug)) {
    for shown in [said.to_string(), format!("{said:?}"), format!("{said:#?}")] {
        assert!(shown.len() < MESSAGE_MAX, "{what}: {} bytes: {}", shown.len(), &shown[..200]);
    }
}

#[tokio::test]
async fn one_mistake_in_4096_jobs_is_one_line() {
    let wrong = |nth: usize| Job::new(format!("job-{nth}"), cron("61 * * * *")).run(async |_| {});

    let refused = Callsheet::builder().jobs((0..4_096).map(wrong)).start().await;

    let error = refused.err().expect("nothing of it is right");
    assert!(error.to_string().ends_with("; and 4,095 more like it"), "{error}");
    assert!(error.to_string().len() < 500, "{error}");
    assert!(format!("{error:?}").len() < 500, "{error:?}");
    let StartError::Invalid(faults) = error else { panic!("{error}") };
    assert_eq!(faults.as_slice().len(), 4_096, "the data keeps all");
}

#[test]
fn a_megabyte_in_a_definition_makes_no_long_message() {
    let long = hostile();
    let job = |name: &str| Job::new(name, every(secs(1)));

    let checked: [(&str, Result<(), Faults>); 14] = [
        ("name", job(&long).run(async |_| {}).check()),
        ("key", job("a").lock_key(&*long).run(async |_| {}).check()),
        ("tag", job("a").tag(&*long).run(async |_| {}).check()),
        ("cron", cron(&*long).check()),
        ("cron of one word", cron("*".repeat(1_000_000)).check()),
        ("cron zone", cron(format!("CRON_TZ={} * * * * *", "x".repeat(1_000_000))).check()),
        ("zone", cron("* * * * *").timezone(&*long).check()),
        ("every", every(&*long).check()),
        ("jitter", every(secs(1)).jitter(&*long).check()),
        ("daily", daily().at(&*long).check()),
        ("weekly", weekly().on([&*long]).check()),
        ("monthly", monthly().on([1]).at(&*long).check()),
        ("at", at([&*long]).check()),
        ("calendar", every(secs(1)).except(calendar(&*long).dates([&*long])).check()),
    ];
    for (what, checked) in checked {
        assert_short(what, &checked.expect_err(what));
    }
    assert_short("duration", &parse_duration(&long).expect_err("it is no duration"));
    let quoted = serde_json::to_string(&long).expect("a text");
    for key in ["cron", "every", "at", "timezone", "daily", "no key"] {
        let json = format!("{{\"{key}\": {quoted}, {quoted}: 1}}");
        assert_short(key, &json.parse::<Definition>().expect_err(key));
    }
}

#[test]
fn a_megabyte_in_a_call_makes_no_long_answer() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("a", every(secs(1))).run(async |_| {})])).await;
        let long = hostile();

        assert_short("trigger", &rig.send(node, TriggerJob::new(&long)).await.expect_err("unknown"));
        assert_short("remove", &rig.send(node, RemoveJobs::new(long.as_str())).await.expect_err("unknown"));
        let next = NextFireTimes { job: long.clone(), count: 1 };
        assert_short("fire times", &rig.send(node, next).await.expect_err("unknown"));
        let pause = PauseJobs::new("a").note(long);
        assert_short("note", &rig.send(node, pause).await.expect_err("too long"));
    });
}

#[test]
fn a_megabyte_out_of_a_body_makes_no_long_event() {
    #[derive(Debug)]
    struct Circle;
    impl Display for Circle {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&hostile())
        }
    }
    impl std::error::Error for Circle {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&Circle)
        }
    }
    simulate(START, async |rig| {
        let every_hour = |name: &str| Job::new(name, every(secs(3_600)));
        let jobs = [
            every_hour("fails").run(async |_| Err::<(), _>(RunError::from(hostile()))),
            every_hour("circle").run(async |_| Err::<(), _>(Circle)),
            every_hour("panics").run(async |_| {
                if true {
                    panic_any(hostile())
                }
            }),
            every_hour("vetoed").before(async |_| Err::<(), _>(hostile())).run(async |_| {}),
        ];
        rig.node(node_with(jobs)).await;

        // The ends are said once the store has recorded them.
        rig.advance(secs(3_601)).await;

        let events: Vec<_> = rig.events().into_iter().map(|recorded| recorded.event.kind).collect();
        for event in &events {
            let length = event.to_string().len();
            assert!(length < EVENT_MAX, "{}: {length} bytes", event.name());
        }
        let cut = |kind: &EventKind| {
            matches!(kind, EventKind::RunFailed { error: text, .. }
                | EventKind::RunPanicked { message: text, .. }
                | EventKind::RunCancelled { reason: Some(text), .. } if text.ends_with("… (cut at 16,384 bytes)"))
        };
        assert_eq!(events.iter().filter(|event| cut(event)).count(), 4, "{events:?}");
    });
}
