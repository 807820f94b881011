//! The policies of a job.

use super::*;

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
fn what_may_be_expected_is_refused_beyond_its_ends() {
    let too_little = job()
        .expect_success_within(NANO)
        .expect_start_within(Duration::ZERO)
        .expect_end_within(NANO)
        .expect_at_least(Duration::ZERO);
    let (long, short) = ("1 s to 100 years (36,500 days)", "1 ms to 100 years (36,500 days)");
    assert_eq!(
        faults_of(too_little),
        format!(
            "job \"job\": expect_success_within \"1ns\": it is {long}; choose another value\n\
             job \"job\": expect_start_within \"0s\": it is {long}; choose another value\n\
             job \"job\": expect_end_within \"1ns\": it is {short}; choose another value\n\
             job \"job\": expect_at_least \"0s\": it is {short}; choose another value"
        )
    );
    let too_much = job()
        .expect_success_within(Duration::MAX)
        .expect_start_within(Duration::MAX)
        .expect_end_within(Duration::MAX)
        .expect_at_least(Duration::MAX);
    assert_eq!(faults_of(too_much).matches("100 years").count(), 4);
    let contradiction = job().expect_end_within(secs(1)).expect_at_least(secs(1));
    assert_eq!(
        faults_of(contradiction),
        "job \"job\": expect_at_least \"1s\": it is shorter than expect_end_within; choose another value"
    );
    for time in [callsheet::EXPECT_MIN, callsheet::EXPECT_MAX] {
        assert_eq!(faults_of(job().expect_success_within(time).expect_start_within(time)), "");
        Callsheet::builder().overdue_after(time).check().expect("in range");
    }
    assert_eq!(
        faults_of(job().expect_end_within(callsheet::EXPECT_MAX).expect_at_least(callsheet::EXPECT_RUN_MIN)),
        ""
    );
    for time in [Duration::ZERO, Duration::MAX] {
        let refused = Callsheet::builder().overdue_after(time).check().expect_err("out of range").to_string();
        assert!(refused.starts_with("overdue_after "), "{refused}");
        assert!(refused.contains("it is 1 s to 100 years"), "{refused}");
    }
}
