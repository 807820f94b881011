//! Durations and counts at 0, at 1 and at their greatest: each works and does what it says, or is refused
//! with its value, the rule and the cure. Nothing panics, hangs, or takes another value in silence.
//!
//! `bounds_complete.rs` knows what there is; those of a PostgreSQL server are in `postgres_bounds.rs`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    Builder, Callsheet, Error, EventFilter, EventKind, FIRE_TIMES_MAX, Job, JobConfig, JobState, ListJobs,
    Misfire, NextFireTimes, NextFireTimesError, Overlap, PAGE_MAX, PauseJobs, Policies, Retry, RunId,
    RunPhase, SUBSCRIBER_EVENTS_MAX, ShutdownBudget, WhenFull,
    schedule::{self, Definition, PREVIEW_MAX, at, daily, every, monthly, random, weekly},
    testkit::{
        Rig, VirtualClock,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
    uuid::Uuid,
};
use chrono::{DateTime, TimeDelta, Utc, Weekday};

mod common;
use common::{details, hours, mins, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";
const NANO: Duration = Duration::from_nanos(1);
const MILLI: Duration = Duration::from_millis(1);

fn job() -> Job<callsheet::Bodiless> {
    Job::new("job", every(secs(10)))
}

/// What is wrong with a job, a line each.
fn faults_of(job: Job<callsheet::Bodiless>) -> String {
    job.run(async |_| {}).check().err().map(|faults| faults.to_string()).unwrap_or_default()
}

#[test]
fn policies_out_of_range_are_refused_together() {
    let retry = Retry::attempts(0).initial(Duration::ZERO).factor(0.0).max(Duration::ZERO).jitter(-1.0);
    let nothing = job()
        .timeout(Duration::ZERO)
        .hook_timeout(NANO)
        .limit(0)
        .pause_after(0)
        .overlap(Overlap::Queue(0))
        .misfire(Misfire::All { max: 0, within: Duration::ZERO })
        .retry(retry);
    assert_eq!(
        faults_of(nothing),
        "job \"job\": timeout \"0s\": a timeout is at least 1 ms; raise it, or leave it out for no limit\n\
         job \"job\": hook_timeout \"1ns\": a hook may take from 1 ms to 1 h; choose a duration in this range, or leave it out for 10 s\n\
         job \"job\": retry attempts \"0\": it is 1 to 1,000; choose another value\n\
         job \"job\": retry initial \"0s\": it is at least 1 ms; choose another value\n\
         job \"job\": retry factor \"0\": it is 1 to 1,000; choose another value\n\
         job \"job\": retry jitter \"-1\": it is 0 to 1; choose another value\n\
         job \"job\": overlap queue \"0\": it is 1 to 1,000; choose another value\n\
         job \"job\": misfire max \"0\": it is 1 to 1,000; choose another value\n\
         job \"job\": limit \"0\": it is at least 1; choose another value\n\
         job \"job\": pause after failures \"0\": it is at least 1; choose another value"
    );
    let retry = Retry::attempts(u32::MAX).initial(Duration::MAX).factor(f64::MAX).jitter(f64::NAN);
    let too_much = job()
        .hook_timeout(Duration::MAX)
        .overlap(Overlap::Allow(u32::MAX))
        .misfire(Misfire::All { max: u32::MAX, within: Duration::MAX })
        .retry(retry);
    let refused = faults_of(too_much);
    for said in [
        "hook_timeout \"213503982334601d7h15s999ms999us999ns\": a hook may take from 1 ms to 1 h",
        "retry attempts \"4294967295\": it is 1 to 1,000",
        "retry factor \"179769",
        "retry max \"5m\": it is at least the initial pause",
        "retry jitter \"NaN\": it is 0 to 1",
        "overlap allow \"4294967295\": it is 1 to 1,000",
        "misfire max \"4294967295\": it is 1 to 1,000",
    ] {
        assert!(refused.contains(said), "{said}: {refused}");
    }
    assert_eq!(refused.lines().count(), 7, "{refused}");
    assert!(faults_of(job().overlap(Overlap::Queue(u32::MAX))).contains("overlap queue \"4294967295\""));
}

/// What a policy is set to, and how often its job starts in a minute of every ten seconds.
type Set = fn(Job<callsheet::Bodiless>) -> Job<callsheet::Bodiless>;

const POLICIES: &[(&str, Set, usize)] = &[
    ("misfire_after 0", |job| job.misfire_after(Duration::ZERO), 6),
    ("misfire_after 1 ns", |job| job.misfire_after(NANO), 6),
    ("misfire_after MAX", |job| job.misfire_after(Duration::MAX), 6),
    ("timeout 1 ms", |job| job.timeout(MILLI), 6),
    ("timeout MAX", |job| job.timeout(Duration::MAX), 6),
    ("abort_after 0", |job| job.abort_after(Duration::ZERO), 6),
    ("abort_after MAX", |job| job.abort_after(Duration::MAX), 6),
    ("limit 1", |job| job.limit(1), 1),
    ("limit MAX", |job| job.limit(u64::MAX), 6),
    ("pause_after 1", |job| job.pause_after(1), 1),
    ("pause_after MAX", |job| job.pause_after(u32::MAX), 6),
    ("priority MIN", |job| job.priority(i8::MIN), 6),
    ("priority MAX", |job| job.priority(i8::MAX), 6),
    ("queue 1", |job| job.overlap(Overlap::Queue(1)), 6),
    ("queue 1,000", |job| job.overlap(Overlap::Queue(1_000)), 6),
    ("allow 1", |job| job.overlap(Overlap::Allow(1)), 6),
    ("allow 1,000", |job| job.overlap(Overlap::Allow(1_000)), 6),
    ("latest 0", |job| job.misfire(Misfire::Latest { within: Duration::ZERO }), 6),
    ("latest MAX", |job| job.misfire(Misfire::Latest { within: Duration::MAX }), 6),
    ("all 1, 0", |job| job.misfire(Misfire::All { max: 1, within: Duration::ZERO }), 6),
    ("all 1,000, MAX", |job| job.misfire(Misfire::All { max: 1_000, within: Duration::MAX }), 6),
    ("hook_timeout 1 ms", |job| job.hook_timeout(MILLI), 6),
    ("hook_timeout 1 h", |job| job.hook_timeout(hours(1)), 6),
];

#[test]
fn policies_at_their_ends_work() {
    for (what, set, starts) in POLICIES {
        simulate(START, async |rig| {
            let fails = set(job()).run(async |_| Err::<(), _>("no connection"));
            let node = rig.node(node_with([fails])).await;
            rig.advance(mins(1) + MILLI).await;
            assert_eq!(rig.started("job"), *starts, "{what}: {}", rig.transcript());

            // As data they are what they were.
            let policies = details(rig, node, "job").await.policies;
            let text = serde_json::to_string(&policies).expect("it can be written");
            let read: Policies = serde_json::from_str(&text).expect("it can be read");
            assert_eq!(read, policies, "{what}");
            let config = format!("{{\"policies\": {text}}}");
            let config: JobConfig = serde_json::from_str(&config).expect("it can be read");
            assert_eq!(config.policies.over(Policies::default()), policies, "{what}");

            // Whatever waits, or has to be made up for, is soon over.
            rig.shutdown(node, Duration::ZERO).await;
        });
    }
}

/// What an outage leaves behind is decided by the windows, at their ends too.
#[test]
fn misfire_windows_at_their_ends_do_what_they_say() {
    let all = |within| Misfire::All { max: 1_000, within };
    for (misfire, caught_up) in [
        (Misfire::Latest { within: Duration::ZERO }, 0),
        (Misfire::Latest { within: Duration::MAX }, 1),
        (all(Duration::ZERO), 0),
        (all(Duration::MAX), 30),
    ] {
        simulate(START, async |rig| {
            let job = || job().misfire(misfire).misfire_after(Duration::ZERO).run(async |_| {});
            let node = rig.node(node_with([job()])).await;
            rig.advance(secs(5)).await;
            rig.shutdown(node, Duration::ZERO).await;
            // From the tenth second to the 300th there are 30 ticks.
            rig.advance(secs(300)).await;
            rig.node(node_with([job()])).await;
            rig.advance(secs(4)).await;

            assert_eq!(rig.started("job"), caught_up, "{misfire:?}: {}", rig.transcript());
        });
    }
}

#[test]
fn retries_at_their_ends_work() {
    let least = Retry::attempts(2).initial(MILLI).factor(1.0).max(MILLI).jitter(0.0);
    let most = Retry::attempts(1_000).initial(Duration::MAX).factor(1_000.0).max(Duration::MAX).jitter(1.0);
    let steep = Retry::attempts(1_000).initial(MILLI).factor(1_000.0).max(Duration::MAX).jitter(0.0);
    for (retry, expected) in [(Retry::attempts(1), None), (least, None), (most, Some(2)), (steep, Some(5))] {
        simulate(START, async |rig| {
            let fails = job().retry(retry).limit(1).run(async |_| Err::<(), _>("no connection"));
            let node = rig.node(node_with([fails])).await;
            rig.advance(hours(2)).await;

            let status = details(rig, node, "job").await;
            let waits = status.active_runs.first().map(|run| (run.phase, run.attempt));
            assert_eq!(waits, expected.map(|attempt| (RunPhase::WaitingForRetry, attempt)), "{retry:?}");
            let report = rig.shutdown(node, secs(1)).await;
            assert_eq!(report.cancelled, u64::from(expected.is_some()), "{retry:?}");
        });
    }
    for retry in [Retry::attempts(0), least, most, steep, most.factor(f64::INFINITY), least.jitter(f64::NAN)]
    {
        for attempt in [0, 1, u32::MAX] {
            assert!(retry.pause(RunId::from(Uuid::nil()), attempt) <= retry.max);
        }
    }
}

#[test]
fn options_out_of_range_are_refused_together() {
    let refused =
        |builder: Builder| builder.check().err().map(|faults| faults.to_string()).unwrap_or_default();
    let nothing = Callsheet::builder()
        .arbiters(0)
        .body_threads(0)
        .local_body_threads(0)
        .blocking_threads(0)
        .max_concurrent_runs(0)
        .hook_timeout(Duration::ZERO)
        .connect_timeout(NANO)
        .clock_offset_max(Duration::ZERO)
        .forget_after(Duration::ZERO)
        .resign_pause(Duration::ZERO);
    let range = "it is at least 1 and at most 256; choose a number in this range";
    assert_eq!(
        refused(nothing),
        format!(
            "hook_timeout \"0s\": a hook may take from 1 ms to 1 h; choose a duration in this range, or leave it out for 10 s\n\
             arbiters \"0\": {range}\n\
             body_threads \"0\": {range}\n\
             local_body_threads \"0\": {range}\n\
             blocking_threads \"0\": {range}\n\
             max_concurrent_runs \"0\": it is at least 1; raise it, or leave it out for no bound\n\
             connect_timeout \"1ns\": it is at least 1ms; choose a longer time; 10s is the default\n\
             clock_offset_max \"0s\": it is at least 1ms; choose a longer time; 5m is the default\n\
             forget_after \"0s\": it is at least 1h; choose a longer time; 7d is the default\n\
             resign_pause \"0s\": it is at least 1s; choose a longer time; 30s is the default"
        )
    );
    let too_much = Callsheet::builder()
        .arbiters(usize::MAX)
        .body_threads(usize::MAX)
        .local_body_threads(257)
        .blocking_threads(usize::MAX)
        .hook_timeout(Duration::MAX);
    assert_eq!(refused(too_much).matches("it is at least 1 and at most 256").count(), 4);
}

#[test]
fn options_at_their_ends_work() {
    let least = || {
        Callsheet::builder()
            .hook_timeout(MILLI)
            .job_labels_max(0)
            .max_concurrent_runs(1)
            .connect_timeout(mins(1))
            .clock_offset_max(MILLI)
            .forget_after(hours(1))
            .resign_pause(secs(1))
            .shutdown_abort_after(Duration::ZERO)
    };
    let most = || {
        Callsheet::builder()
            .hook_timeout(hours(1))
            .job_labels_max(usize::MAX)
            .max_concurrent_runs(usize::MAX)
            .when_full(WhenFull::Skip)
            .connect_timeout(Duration::MAX)
            .clock_offset_max(Duration::MAX)
            .forget_after(Duration::MAX)
            .resign_pause(Duration::MAX)
            .shutdown_abort_after(Duration::MAX)
    };
    for (options, label) in [(least as fn() -> Builder, "_other"), (most, "job")] {
        simulate(START, async |rig| {
            let node = rig.node(options().job(job().run(async |_| {}))).await;
            // Long enough for the store to look for what it may forget.
            rig.advance(hours(2) + MILLI).await;

            assert_eq!(rig.started("job"), 720);
            assert_eq!(rig.counter("callsheet_runs_total", &format!("name={label}")), 720);
            assert_eq!(rig.shutdown(node, Duration::ZERO).await.aborted, 0);
        });
    }
}

/// On threads of its own, in real time: this is what panicked the engine's thread.
#[tokio::test]
async fn a_start_waits_for_a_millisecond_or_for_ever() {
    let ran = Arc::new(Mutex::new(0));
    let count = async |_, ran: Arc<Mutex<u32>>| *ran.lock().expect("no panic") += 1;
    let jobs = Callsheet::builder()
        .job(job().run_with(ran.clone(), count))
        .connect_timeout(Duration::MAX)
        .shutdown_abort_after(Duration::MAX)
        .start()
        .await
        .expect("it starts");

    jobs.trigger("job").await.expect("it starts").finished().await;
    let report = jobs.shutdown(Duration::MAX).await;

    assert_eq!((report.aborted, *ran.lock().expect("no panic")), (0, 1));
    // What takes longer than that says so; it is no panic, whoever is faster.
    match Callsheet::builder().connect_timeout(MILLI).start().await {
        Ok(jobs) => drop(jobs.shutdown(Duration::ZERO).await),
        Err(error) => assert!(error.to_string().contains("could not be reached"), "{error}"),
    }
}

#[test]
fn a_shutdown_waits_for_as_long_as_it_is_told() {
    // The deadline, the time to abort, and when the body sees its cancellation and its end, in seconds.
    for (deadline, abort_after, expected) in [
        (Duration::ZERO, Duration::ZERO, (0, 0, 1)),
        (NANO, NANO, (0, 0, 1)),
        (secs(3), Duration::MAX, (0, 1, 0)),
        (Duration::MAX, Duration::ZERO, (1, 0, 0)),
        (Duration::MAX, Duration::MAX, (1, 0, 0)),
    ] {
        simulate(START, async |rig| {
            let long = job().limit(1).run(async |_| tokio::time::sleep(hours(48)).await);
            let node = rig.node(node_with([long]).shutdown_abort_after(abort_after)).await;
            rig.advance(secs(11)).await;
            let before = rig.now();

            let report = rig.shutdown(node, deadline).await;

            assert_eq!(
                (report.drained, report.cancelled, report.aborted),
                expected,
                "{deadline:?} {abort_after:?}"
            );
            let took = (rig.now() - before).num_hours();
            assert_eq!(took, if expected.2 == 1 { 0 } else { 47 }, "{deadline:?} {abort_after:?}");
        });
    }
}

#[test]
fn a_shutdown_budget_of_any_length_fits_or_says_why_not() {
    let lengths = [Duration::ZERO, NANO, secs(60), hours(48), Duration::MAX];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let jobs = Callsheet::builder().start_on(&local).await.expect("it starts");
        for total in lengths {
            for share in lengths {
                let budget = ShutdownBudget::within(total).readiness_delay(share).server_timeout(share);
                let shutdown = jobs.shutdown_on(futures_util::stream::pending::<()>(), budget);
                let fits = total > share.saturating_add(share) && total >= secs(60);
                match shutdown {
                    Ok(_) => assert!(fits, "{total:?} {share:?}"),
                    Err(refused) => {
                        let refused = refused.to_string();
                        assert!(
                            !fits && refused.contains("it is at least the sum of its shares"),
                            "{refused}"
                        );
                        assert!(refused.contains("raise it, or lower"), "{refused}");
                    }
                }
            }
        }
        // It begins, and ends, though there is for ever.
        let budget = ShutdownBudget::within(Duration::MAX);
        let now = futures_util::stream::once(std::future::ready(()));
        jobs.shutdown_on(now, budget).expect("it fits").await;
    });
}

#[test]
fn more_fire_times_than_may_be_are_refused() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job().run(async |_| {})])).await;
        let ask = |count| NextFireTimes { job: "job".to_owned(), count };
        for count in [0, 1, FIRE_TIMES_MAX] {
            assert_eq!(rig.send(node, ask(count)).await.map(|times| times.len()), Ok(count));
        }
        for count in [FIRE_TIMES_MAX + 1, 1_000_000_000, usize::MAX] {
            let refused = rig.send(node, ask(count)).await;
            assert_eq!(refused, Err(NextFireTimesError::TooMany { count }));
        }
        let error = Error::from(NextFireTimesError::TooMany { count: 1_000_000_000 });
        let said = "1,000,000,000 fire times are more than the 1,000 of one answer; ask for fewer";
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(error.kind(), callsheet::ErrorKind::Invalid);
    });
    let now: DateTime<Utc> = START.parse().expect("an instant");
    for count in [0, 1, PREVIEW_MAX] {
        assert_eq!(every(secs(10)).preview(now, count).expect("it is right").lines().len(), count);
    }
    for count in [PREVIEW_MAX + 1, usize::MAX] {
        let refused = every(secs(10)).preview(now, count).expect_err("so many").to_string();
        let said = format!("preview \"{count}\": a preview has at most 10,000 fire times; ask for fewer");
        assert!(refused.contains(&said), "{refused}");
        assert!(every(secs(10)).preview_in("Europe/Lisbon", now, count).is_err());
    }
}

#[test]
fn a_page_of_any_length_says_whether_there_is_more() {
    simulate(START, async |rig| {
        let jobs =
            (0..PAGE_MAX + 1).map(|nth| Job::new(format!("job {nth:04}"), every(hours(1))).run(async |_| {}));
        let node = rig.node(node_with(jobs)).await;
        for (limit, on_page) in [(0, PAGE_MAX), (1, 1), (PAGE_MAX, PAGE_MAX), (usize::MAX, PAGE_MAX)] {
            let page = rig.send(node, ListJobs::default().limit(limit)).await;
            assert_eq!(page.jobs.len(), on_page);
            assert_eq!(page.next, Some(format!("job {:04}", on_page - 1)), "there is more");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_buffer_of_any_length_holds_what_the_docs_say() {
    let local = tokio::task::LocalSet::new();
    let story = async {
        let often = Job::new("job", every(MILLI)).run(async |_| {});
        let clock = VirtualClock::starting_at(START.parse().expect("an instant"));
        let jobs = Callsheet::builder().clock(clock).job(often).start_on(&local).await.expect("it starts");
        let ends = [0, 1, 7, usize::MAX];
        let streams = ends.map(|buffer| jobs.events(EventFilter::new().prefix("job").buffer(buffer)));
        // Two events of each run, one each millisecond.
        tokio::time::sleep(secs(9)).await;
        jobs.shutdown(Duration::ZERO).await;

        for (mut events, held) in streams.into_iter().zip([1, 1, 7, SUBSCRIBER_EVENTS_MAX]) {
            assert!(events.dropped() > 0, "{held}");
            let mut read = 0;
            while events.next().await.is_some() {
                read += 1;
            }
            assert_eq!(read, held);
        }
    };
    local.run_until(story).await;
}

#[test]
fn a_pause_until_any_instant_is_one_or_is_refused() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job().run(async |_| {})])).await;
        let now = rig.now();
        for over in [DateTime::<Utc>::MIN_UTC, now - TimeDelta::nanoseconds(1), now] {
            let refused = rig.send(node, PauseJobs::new("job").until(over)).await;
            let refused = refused.expect_err("it is over").to_string();
            assert!(refused.contains("in the future"), "{refused}");
        }
        rig.send(node, PauseJobs::new("job").until(DateTime::<Utc>::MAX_UTC)).await.expect("it is to come");
        rig.advance(hours(24)).await;
        let status = details(rig, node, "job").await;
        assert_eq!((status.state, rig.started("job")), (JobState::Paused, 0));
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobPaused { .. })), 1);
    });
}

/// What is wrong with a schedule; nothing if it fires.
fn wrong<K>(definition: Definition<K>) -> String
where
    Definition<K>: Into<Definition> + Clone,
{
    let fires =
        |_| definition.preview(START.parse().expect("an instant"), 3).map(|preview| preview.lines().len());
    match definition.check().and_then(fires) {
        Ok(lines) => {
            assert!(lines > 0, "it fires");
            String::new()
        }
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn periods_are_a_millisecond_to_a_hundred_years() {
    let century = secs(36_525 * 86_400);
    for period in [MILLI, century] {
        assert_eq!(wrong(every(period)), "");
        assert_eq!(wrong(random(MILLI, period)), "");
        assert_eq!(wrong(every(secs(10)).jitter(period)), "");
    }
    let (zero, nano, long) =
        ("a period is not zero", "a period is at least 1 ms", "a period is at most a hundred years");
    let max = "213503982334601d7h15s999ms999us999ns";
    for (period, text, rule) in [
        (Duration::ZERO, "0s", zero),
        (NANO, "1ns", nano),
        (Duration::MAX, max, long),
        (century + MILLI, "36525d1ms", long),
    ] {
        for (subject, refused) in [
            ("every", wrong(every(period))),
            ("random.min", wrong(random(period, period))),
            ("random.max", wrong(random(MILLI, period))),
            ("jitter", wrong(every(secs(10)).jitter(period))),
        ] {
            let rule = if subject == "jitter" { rule.replace("a period", "jitter") } else { rule.to_owned() };
            assert!(
                refused.contains(&format!("{subject} \"{text}\": {rule}")),
                "{subject} {text}: {refused}"
            );
        }
    }
    // As they are written, zero has two texts and one meaning.
    for text in ["0s", "0ns", "0m"] {
        assert_eq!(schedule::parse_duration(text), Ok(Duration::ZERO));
        assert_eq!(wrong(every(text)), format!("every \"{text}\": {zero}; write a period of at least 1 ms"));
    }
}

#[test]
fn every_so_many_days_weeks_and_months() {
    let from = "2026-01-31T00:00:00Z";
    for (one, most, refused) in [
        (
            wrong(daily().every(1)),
            wrong(daily().every(36_525).starting_at(from)),
            [0, 36_526, u32::MAX].map(|n| wrong(daily().every(n))),
        ),
        (
            wrong(weekly().on([Weekday::Mon]).every(1)),
            wrong(weekly().on([Weekday::Mon]).every(5_217).starting_at(from)),
            [0, 5_218, u32::MAX].map(|n| wrong(weekly().every(n))),
        ),
        (
            wrong(monthly().on([1]).every(1)),
            wrong(monthly().on([1]).every(1_200).starting_at(from)),
            [0, 1_201, u32::MAX].map(|n| wrong(monthly().every(n))),
        ),
    ] {
        assert_eq!((one, most), (String::new(), String::new()));
        for (fault, value) in refused.iter().zip(["\"0\"", "5", "4294967295"]) {
            assert!(fault.contains(value) || fault.contains("36526") || fault.contains("1201"), "{fault}");
            assert!(
                fault.contains("at most") || fault.contains("from 1") || fault.contains("at least"),
                "{fault}"
            );
        }
    }
    for day in [1, 31, -1, -31] {
        assert_eq!(wrong(monthly().on([day])), "");
    }
    for day in [0, 32, -32, i32::MIN, i32::MAX] {
        let refused = wrong(monthly().on([day]));
        assert!(refused.contains(&format!("\"{day}\"")), "{refused}");
    }
    for instant in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        // The one is over, the other is to come or out of range: either way there is an answer.
        let _ = at(instant).preview(START.parse().expect("an instant"), 3);
    }
}

#[cfg(feature = "postgres")]
#[test]
fn the_lease_of_postgres_is_a_second_to_an_hour() {
    use callsheet::backend::Postgres;

    let refused = |lease| {
        let postgres = Postgres::new("bounds", "postgres://localhost/x").lease(lease);
        let checked = Callsheet::builder().backend(postgres).check();
        checked.err().map(|faults| faults.to_string()).unwrap_or_default()
    };
    for lease in [secs(1), hours(1)] {
        assert_eq!(refused(lease), "");
    }
    for (lease, text) in [
        (Duration::ZERO, "0s"),
        (NANO, "1ns"),
        (Duration::from_millis(999), "999ms"),
        (hours(1) + NANO, "1h1ns"),
        (Duration::MAX, "213503982334601d7h15s999ms999us999ns"),
    ] {
        let expected = format!(
            "postgres: lease \"{text}\": a lease is at least 1 s and at most 1 h; choose another one; 5 s is the default"
        );
        assert_eq!(refused(lease), expected);
    }
}

/// What a story panics with.
fn panic_of(story: impl AsyncFnOnce(&mut Rig)) -> String {
    let panicked = catch_unwind(AssertUnwindSafe(|| simulate(START, story))).expect_err("it panics");
    panicked.downcast_ref::<String>().cloned().expect("a text")
}

#[test]
fn a_rig_refuses_what_it_cannot_simulate() {
    let far = "a virtual clock moves by at most a hundred years (36525d) at once";
    let refused = [
        panic_of(async |rig| rig.advance(Duration::MAX).await),
        panic_of(async |rig| rig.suspend(TimeDelta::MAX)),
        panic_of(async |rig| rig.set_store_skew(TimeDelta::MIN)),
        panic_of(async |rig| rig.store().set_latency(Duration::MAX)),
        panic_of(async |rig| {
            let node = rig.node(node_with([])).await;
            rig.set_skew(node, TimeDelta::MAX);
        }),
    ];
    for refused in refused {
        assert!(refused.starts_with(far), "{refused}");
    }
    for lease in [Duration::ZERO, NANO, Duration::MAX] {
        let refused = panic_of(async move |rig| {
            rig.set_lease(lease);
            rig.node(node_with([])).await;
        });
        assert!(
            refused.contains("a lease is at least 1 s and at most a day; choose another one"),
            "{refused}"
        );
    }
    simulate(START, async |rig| {
        rig.advance(Duration::ZERO).await;
        rig.advance(NANO).await;
        rig.advance(secs(36_525 * 86_400)).await;
        rig.set_lease(secs(1));
        rig.store().set_latency(Duration::ZERO);
        let node = rig.node(node_with([job().run(async |_| {})])).await;
        rig.set_skew(node, TimeDelta::nanoseconds(1));
        rig.suspend(TimeDelta::zero());
        rig.advance(mins(1)).await;
        assert!((5..=6).contains(&rig.started("job")));
    });
}

#[test]
fn a_clock_drifts_by_any_number() {
    for ppm in [i32::MIN, -1, 0, 1, i32::MAX] {
        simulate(START, async |rig| {
            let node = rig.node(node_with([job().run(async |_| {})])).await;
            rig.set_drift(node, ppm);
            rig.advance(mins(1) + MILLI).await;

            // The store's time decides, whatever the clock says.
            assert!(rig.started("job") <= 6, "{ppm}");
            rig.shutdown(node, Duration::ZERO).await;
        });
    }
}

#[test]
fn a_fake_period_is_positive() {
    for number in [0, -1, i64::MIN, i64::MAX] {
        for make in [Period::hours, Period::seconds] {
            assert!(catch_unwind(|| make(number)).is_err(), "{number}");
        }
    }
    assert!(catch_unwind(|| Period::millis(0)).is_err());
    for period in [Period::millis(1), Period::millis(i64::MAX)] {
        let after = START.parse().expect("an instant");
        for panics in [0, u32::MAX] {
            let never_asked_after = DateTime::<Utc>::MAX_UTC;
            let schedule = PanickingSchedule::new(period, never_asked_after, panics);
            // There may be none, as it is beyond what a date can say.
            let _ = callsheet::schedule::Schedule::next_after(&schedule, after);
        }
    }
}
