//! What is written is read back, for every variant of everything that is data; and as JSON it is what clients
//! expect.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    ActiveRunStatus, Added, BodyThreads, By, CancelReason, Candidacy, CatchingUp, Event, EventName,
    Expectation, FailingJob, FencingToken, FireTime, Fires, HealthReport, HeldStatus, HowDrained, JobName,
    JobPage, JobState, JobStatus, LastRunStatus, LockKey, Measure, Misfire, NodeId, OnLost, Operation,
    Outcome, OverdueJob, Overlap, Part, Pause, Policies, PolicyConfig, Problem, ProblemJobs, Reported, Retry,
    RunId, RunIds, RunPhase, Scheduled, ShutdownReport, SkipReason, StepDownReason, Tag, Term, Triggered,
    event_log::tests::sample, port::Role,
};

/// One value of each variant. A variant that is not in the list does not compile.
macro_rules! every {
    ($($pattern:pat => $value:expr),+ $(,)?) => {{
        let all = vec![$($value),+];
        let variant = |value: &_| -> usize {
            let mut variant = 0;
            $(if matches!(value, $pattern) { return variant; } variant += 1;)+
            match value { $($pattern => variant),+ }
        };
        let variants: Vec<usize> = all.iter().map(variant).collect();
        assert_eq!(variants, (0..all.len()).collect::<Vec<_>>(), "each value is of its own variant");
        all
    }};
}

mod values;
use self::values::*;
pub(crate) use self::values::{overlaps, problems};

/// The value is the same after it went through JSON, as a text and as a value; answers the JSON.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> Value {
    let text = serde_json::to_string(value).expect("it can be written");
    assert_no_key_twice(&text);
    let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(read, *value, "{text}");
    let json = serde_json::to_value(value).expect("it can be written");
    let read: T = serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(read, *value, "{json}");
    assert_no_parts_of_a_duration(&json);
    json
}

fn all_round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(values: &[T]) {
    values.iter().for_each(|value| drop(round_trip(value)));
}

/// Parsers keep the last of two fields of one name, or refuse both.
fn assert_no_key_twice(text: &str) {
    struct Checked;
    impl<'de> Deserialize<'de> for Checked {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Keys;
            impl<'de> serde::de::Visitor<'de> for Keys {
                type Value = Checked;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("JSON")
                }
                fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
                    Ok(Checked)
                }
                fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
                    Ok(Checked)
                }
                fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
                    Ok(Checked)
                }
                fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
                    Ok(Checked)
                }
                fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
                    Ok(Checked)
                }
                fn visit_unit<E>(self) -> Result<Checked, E> {
                    Ok(Checked)
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
                    while items.next_element::<Checked>()?.is_some() {}
                    Ok(Checked)
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Checked, A::Error> {
                    let mut keys = BTreeSet::new();
                    while let Some((key, _)) = map.next_entry::<String, Checked>()? {
                        assert!(keys.insert(key.clone()), "{key} comes twice");
                    }
                    Ok(Checked)
                }
            }
            deserializer.deserialize_any(Keys)
        }
    }
    let _: Checked = serde_json::from_str(text).expect("it is JSON");
}

/// Nowhere are the seconds and nanoseconds of a duration written as numbers.
fn assert_no_parts_of_a_duration(json: &Value) {
    match json {
        Value::Object(fields) => {
            assert!(!fields.contains_key("secs") && !fields.contains_key("nanos"), "{json}");
            fields.values().for_each(assert_no_parts_of_a_duration);
        }
        Value::Array(items) => items.iter().for_each(assert_no_parts_of_a_duration),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn run() -> RunId {
    RunIds::of(NodeId::numbered(1)).next(at("2026-01-01T00:00:00Z"))
}

fn job(name: &str) -> JobName {
    JobName::new(name).expect("a good name")
}

#[test]
fn every_event_is_read_back() {
    for name in EventName::ALL {
        let kind = sample(*name);
        assert_eq!(kind.name(), *name);
        let event = Event { at: at("2026-01-01T00:00:00.123456Z"), node: NodeId::numbered(7), kind };
        let json = round_trip(&event);
        assert_eq!(json["event"], round_trip(name), "an event has the name that filters have");
        assert_eq!(json["node"], json!(NodeId::numbered(7)), "{json}");
    }
    all_round_trip(&every![
        CancelReason::TimedOut => CancelReason::TimedOut,
        CancelReason::LockLost => CancelReason::LockLost,
        CancelReason::Requested => CancelReason::Requested,
        CancelReason::Replaced => CancelReason::Replaced,
        CancelReason::Shutdown => CancelReason::Shutdown,
        CancelReason::Dropped => CancelReason::Dropped,
        CancelReason::NotStarted => CancelReason::NotStarted,
        CancelReason::Vetoed => CancelReason::Vetoed,
    ]);
    all_round_trip(&every![
        StepDownReason::Resigned => StepDownReason::Resigned,
        StepDownReason::Deposed => StepDownReason::Deposed,
        StepDownReason::TrustExpired => StepDownReason::TrustExpired,
        StepDownReason::SessionLost => StepDownReason::SessionLost,
        StepDownReason::ClockOffset => StepDownReason::ClockOffset,
        StepDownReason::Stalled => StepDownReason::Stalled,
        StepDownReason::Refused => StepDownReason::Refused,
        StepDownReason::Requested => StepDownReason::Requested,
        StepDownReason::Yielded => StepDownReason::Yielded,
        StepDownReason::BodiesBlocked => StepDownReason::BodiesBlocked,
        StepDownReason::Died => StepDownReason::Died,
    ]);
    all_round_trip(&outcomes());
    all_round_trip(&skip_reasons());
}

#[test]
fn every_problem_is_read_back() {
    let since = at("2026-01-01T00:00:00Z");
    let bare = [
        Problem::NoSession { reason: None, since },
        Problem::OperationFailing {
            operation: Operation::Open,
            reason: String::new(),
            cure: None,
            since,
            last: since,
            count: 1,
        },
    ];
    for problem in problems().into_iter().chain(bare) {
        let json = round_trip(&problem);
        assert_eq!(json["problem"], problem.name());
        assert!(json["reason"].is_string() && json["cure"].is_string(), "{json}");
    }
    all_round_trip(&Operation::ALL);
    all_round_trip(&Part::ALL);
    let candidacies = every![
        Candidacy::Stands => Candidacy::Stands,
        Candidacy::Reluctant => Candidacy::Reluctant,
        Candidacy::Withdrawn { .. } =>
            Candidacy::Withdrawn { why: StepDownReason::Requested, reason: "it was asked to".into(), since },
    ];
    for (role, candidacy) in roles().into_iter().zip(candidacies.into_iter().cycle()) {
        let report = HealthReport {
            node: NodeId::numbered(1),
            name: "web-1".into(),
            backend: "postgres".into(),
            role,
            term: Some(Term(u64::MAX)),
            leader: Some(NodeId::numbered(2)),
            candidacy,
            zone_data: "2026f".into(),
            jobs: 3,
            live: true,
            ready: false,
            healthy: false,
            problems: problems(),
            warning: Some("every node runs every job".into()),
            catching_up: Some(CatchingUp { jobs: 3, until: since }),
            named: BTreeMap::new(),
        };
        round_trip(&report);
        round_trip(&report.clone().with_named([("critical".into(), report)]));
    }
}

#[test]
fn every_policy_is_read_back() {
    all_round_trip(&fires());
    all_round_trip(&overlaps());
    all_round_trip(&misfires());
    all_round_trip(&on_lost());
    all_round_trip(&[Policies::default(), policies()]);

    let json = serde_json::to_value(policies()).expect("it can be written");
    assert_eq!(
        json,
        json!({
            "fires": "any_node",
            "overlap": {"queue": 3},
            "misfire": {"all": {"max": 10, "within": "1h"}},
            "on_lost": "retry",
            "misfire_after": "1s500ms",
            "retry": {"attempts": 3, "initial": "2s", "factor": 1.5, "max": "1m", "jitter": 0.5},
            "timeout": "1h30m",
            "abort_after": "0s",
            "limit": 1_000,
            "pause_after": 5,
            "priority": -1,
        })
    );
    // What a file may name is what policies have.
    let config: PolicyConfig = serde_json::from_value(json.clone()).expect("the same keys");
    assert_eq!(serde_json::to_value(config).expect("it can be written"), json);
    assert_eq!(config.over(Policies::default()), policies());
    assert_eq!(PolicyConfig::default().over(policies()), policies());
}

#[test]
fn every_answer_is_read_back() {
    all_round_trip(&phases());
    let pages = JobPage { jobs: states().into_iter().map(status).collect(), next: Some("mail".into()) };
    round_trip(&pages);
    round_trip(&JobStatus {
        timezone: None,
        next_fire_time: None,
        pause: None,
        conflicting: None,
        parked: None,
        broken: None,
        held: None,
        ..status(JobState::Standby)
    });
    for scheduled in every![
        Scheduled::Here => Scheduled::Here,
        Scheduled::ByLeader => Scheduled::ByLeader,
        Scheduled::NoLeader => Scheduled::NoLeader,
        Scheduled::WithoutLeader => Scheduled::WithoutLeader,
        Scheduled::OtherSchedule => Scheduled::OtherSchedule,
        Scheduled::Unknown { .. } => Scheduled::Unknown { reason: "no answer".into() },
    ] {
        round_trip(&Added { job: job("mail"), scheduled });
    }
    all_round_trip(&every![
        Triggered::Started(_) => Triggered::Started(run()),
        Triggered::Queued(_) => Triggered::Queued(run()),
    ]);
    let how = every![
        HowDrained::Drained => HowDrained::Drained,
        HowDrained::Cancelled => HowDrained::Cancelled,
        HowDrained::Aborted => HowDrained::Aborted,
    ];
    round_trip(&ShutdownReport {
        drained: 1,
        cancelled: 2,
        aborted: 3,
        still_running: 4,
        stopped: how.into_iter().map(|how| (job("mail"), run(), how)).collect(),
        stuck: vec![job("mail")],
        given_to_others: 5,
        left: vec![(job("mail"), FireTime::new(at("2026-01-01T00:00:00Z")))],
        unanswered: true,
    });
}

/// A browser keeps 53 bits of a number. Terms and tokens are any number of a store: PostgreSQL's are
/// microseconds since 1970, which need 51 of them.
#[test]
fn terms_and_tokens_keep_their_digits_in_browsers() {
    assert_eq!(round_trip(&Term(u64::MAX)), json!("18446744073709551615"));
    assert_eq!(round_trip(&FencingToken(9_007_199_254_740_993)), json!("9007199254740993"));
    let read = |json: Value| serde_json::from_value::<FencingToken>(json).map_err(|error| error.to_string());
    assert_eq!(read(json!(42)), Ok(FencingToken(42)));
    for wrong in [json!("x"), json!(-1), json!("-1"), json!(1.5), json!(null)] {
        let error = read(wrong).expect_err("it is no number of 64 bits");
        assert!(error.ends_with("expected a number of 64 bits as text, such as \"42\""), "{error}");
    }
}

#[test]
fn durations_are_texts_and_read_back() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct All {
        #[serde(with = "crate::serde::duration")]
        plain: Duration,
        #[serde(with = "crate::serde::duration", default)]
        optional: Option<Duration>,
        #[serde(with = "crate::serde::duration")]
        signed: TimeDelta,
    }
    let all = |plain, optional, signed| All { plain, optional, signed };
    for value in [
        all(Duration::ZERO, None, TimeDelta::zero()),
        all(Duration::MAX, Some(Duration::MAX), TimeDelta::MAX),
        all(Duration::from_nanos(1), Some(Duration::ZERO), TimeDelta::MIN),
    ] {
        round_trip(&value);
    }
    let json = serde_json::to_value(all(
        Duration::from_secs(20),
        Some(Duration::from_mins(90)),
        -TimeDelta::seconds(5),
    ));
    assert_eq!(
        json.expect("it can be written"),
        json!({"plain": "20s", "optional": "1h30m", "signed": "-5s"})
    );

    let read = |json: Value| serde_json::from_value::<All>(json).expect_err("it is wrong").to_string();
    assert_eq!(
        read(json!({"plain": 20, "signed": "1s"})),
        "invalid type: integer `20`, expected a duration as text, such as \"20s\" or \"1h30m\""
    );
    let units = "write whole numbers with the units w, d, h, m, s and ms, largest first, for example `1h30m`";
    assert_eq!(
        read(json!({"plain": "1s", "optional": "20", "signed": "1s"})),
        format!("duration \"20\": `20` has no unit; {units}")
    );
    assert_eq!(read(json!({"plain": "1s", "signed": format!("{}ms", u64::MAX)})), "it is longer than 2⁶³ ms");
}

#[test]
fn no_name_is_read_that_could_not_be_made() {
    let error = serde_json::from_value::<JobName>(json!(" a")).expect_err("it is wrong").to_string();

    assert_eq!(error, "job name \" a\": a name neither starts nor ends with white space; trim it");
    assert!(serde_json::from_value::<LockKey>(json!("a\u{1f}1")).is_err());
    let fire_time: FireTime = serde_json::from_value(json!("2026-01-01T00:00:00.0009Z")).expect("a time");
    assert_eq!(fire_time.instant(), at("2026-01-01T00:00:00Z"), "whole milliseconds");
}
