//! What an application names without naming our dependencies, and the prelude.

use callsheet::{chrono::TimeDelta, prelude::*, schedule::Definition};

/// The versions in the documentation are those that the packages ask for.
#[test]
fn the_docs_name_the_versions_that_must_match() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().expect("it is TOML");
    let asked = |name: &str| {
        let asked = &manifest["workspace"]["dependencies"][name];
        let version = asked.as_str().or_else(|| asked.get("version")?.as_str()).expect("a version");
        version.split('.').map(str::to_owned).collect::<Vec<_>>()
    };
    let rows = include_str!("../src/lib.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
    let rows: Vec<_> = rows.filter_map(|row| row.split_once("` | ")).collect();
    assert_eq!(rows.len(), 12, "{rows:?}");

    for (name, rest) in rows {
        let (version, _) = rest.split_once(" |").expect("a version");
        let named: Vec<_> = version.split('.').map(str::to_owned).collect();
        // A change of the first number that is not zero is a breaking one.
        let breaking = asked(name).iter().position(|number| number != "0").expect("a version") + 1;
        assert_eq!(named, asked(name)[..breaking], "{name}");
    }
}

#[test]
fn signatures_are_named_through_the_crate_alone() {
    fn recipient(actor: callsheet::actix::Recipient<Event>) -> impl callsheet::IntoRecipient<Event> {
        actor
    }
    fn token(run: &Run) -> callsheet::CancellationToken {
        run.cancellation()
    }
    fn span(run: &Run) -> &callsheet::tracing::Span {
        run.span()
    }
    fn id(run: &Run) -> callsheet::uuid::Uuid {
        run.id().as_uuid()
    }
    struct Nothing;
    impl callsheet::port::Body for Nothing {
        fn start(&self, _: Run) -> callsheet::BoxFuture<'static, RunResult> {
            Box::pin(async { Ok(()) })
        }
    }
    #[cfg(feature = "prometheus")]
    fn shown(handle: callsheet::metrics::PrometheusHandle) -> callsheet::metrics::Prometheus {
        callsheet::metrics::Prometheus::with_handle(handle)
    }
    #[cfg(feature = "prometheus")]
    let _ = shown;
    let _ = (recipient, token, span, id);
    let zone = callsheet::chrono_tz::Europe::Lisbon;
    let job = Job::new("nothing", cron("0 9 * * *").timezone(zone)).body(std::sync::Arc::new(Nothing));

    job.check().expect("it is right");
}

#[test]
fn the_prelude_holds_what_services_use() {
    let filter = EventFilter::new().kinds([EventName::RunFailed, EventName::RunLost]);
    let schedule = any([random("1m", "5m").into(), cron("0 9 * * *").into()]);
    let job = Job::new("either", schedule).apply(JobConfig::default()).run(async |_| {});

    job.check().expect("it is right");
    let _ = (filter, Health, [JobState::Paused], [Outcome::Lost], ErrorKind::Busy);
}

#[test]
fn definitions_and_fire_times_convert() {
    let schedules = [Definition::from(cron("0 9 * * *")), Definition::from(every("5m"))];
    assert_eq!(
        schedules.map(|schedule| schedule.describe().expect("it is right")),
        ["at 09:00 (UTC)", "every 5m"]
    );
    assert_eq!(
        Definition::from(Definition::from(daily())).describe().expect("it is right"),
        "every day at 00:00 (UTC)"
    );

    let instant = callsheet::chrono::DateTime::UNIX_EPOCH + TimeDelta::microseconds(1_500);
    let fire_time = callsheet::FireTime::from(instant);
    assert_eq!(callsheet::chrono::DateTime::from(fire_time).timestamp_micros(), 1_000);
}
