//! The options of the scheduler, and what its methods are given.

use super::*;

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
        .hook_timeout(Duration::MAX)
        .error_bytes_max(262_145);
    let refused = refused(too_much);
    assert_eq!(refused.matches("it is at least 1 and at most 256;").count(), 4);
    let quoted = "an error is quoted to at least 256 and at most 262,144 bytes; choose a number in this range; 16,384 is the \
                  default";
    for (pace, shown) in [(0, "0"), (1_000_001, "1,000,001"), (u32::MAX, "4,294,967,295")] {
        let checked = Callsheet::builder().catch_up_per_second(pace).check();
        let cure = "choose a number in this range, or `None` for no bound";
        let expected =
            format!("catch_up_per_second \"{shown}\": it is at least 1 and at most 1,000,000; {cure}");
        assert_eq!(checked.expect_err("out of range").to_string(), expected);
    }
    assert!(refused.contains(&format!("error_bytes_max \"262,145\": {quoted}")), "{refused}");
    for (bytes, shown) in [(0, "0"), (255, "255"), (usize::MAX, "18,446,744,073,709,551,615")] {
        let checked = Callsheet::builder().error_bytes_max(bytes).check();
        let refused = checked.expect_err("out of range").to_string();
        assert_eq!(refused, format!("error_bytes_max \"{shown}\": {quoted}"));
    }
}

#[test]
fn options_at_their_ends_work() {
    let least = || {
        Callsheet::builder()
            .hook_timeout(MILLI)
            .job_labels_max(0)
            .max_concurrent_runs(1)
            .catch_up_per_second(1)
            .connect_timeout(mins(1))
            .clock_offset_max(MILLI)
            .forget_after(hours(1))
            .resign_pause(secs(1))
            .error_bytes_max(256)
            .shutdown_abort_after(Duration::ZERO)
    };
    let most = || {
        Callsheet::builder()
            .hook_timeout(hours(1))
            .job_labels_max(usize::MAX)
            .max_concurrent_runs(usize::MAX)
            .catch_up_per_second(1_000_000)
            .when_full(WhenFull::Skip)
            .connect_timeout(Duration::MAX)
            .clock_offset_max(Duration::MAX)
            .forget_after(Duration::MAX)
            .resign_pause(Duration::MAX)
            .error_bytes_max(262_144)
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
            let long = job().limit(1).run(async |_| tokio::time::sleep(mins(48)).await);
            let node = rig.node(node_with([long]).shutdown_abort_after(abort_after)).await;
            rig.advance(secs(11)).await;
            let before = rig.now();

            let report = rig.shutdown(node, deadline).await;

            assert_eq!(
                (report.drained, report.cancelled, report.aborted),
                expected,
                "{deadline:?} {abort_after:?}"
            );
            let took = (rig.now() - before).num_minutes();
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
        // It waits for longer than an actor sleeps at once.
        let later = Job::new("later", at(rig.now() + hours(25))).run(async |_| {});
        let hourly = Job::new("job", every(hours(1))).run(async |_| {});
        let node = rig.node(node_with([hourly, later])).await;
        let now = rig.now();
        for over in [DateTime::<Utc>::MIN_UTC, now - TimeDelta::nanoseconds(1), now] {
            let refused = rig.send(node, PauseJobs::new("job").until(over)).await;
            let refused = refused.expect_err("it is over").to_string();
            assert!(refused.contains("in the future"), "{refused}");
        }
        rig.send(node, PauseJobs::new("job").until(DateTime::<Utc>::MAX_UTC)).await.expect("it is to come");
        rig.advance(hours(25)).await;
        let status = details(rig, node, "job").await;
        assert_eq!((status.state, rig.started("job")), (JobState::Paused, 0));
        assert_eq!(rig.started("later"), 1);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobPaused { .. })), 1);
    });
}

#[test]
fn a_body_may_measure_any_number() {
    simulate(START, async |rig| {
        let numbers =
            [f64::MIN, -0.0, f64::MIN_POSITIVE, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let body = move |run: Run| async move {
            for (nth, number) in numbers.into_iter().enumerate() {
                run.measure("all", number);
                run.measure(format!("m{nth}"), number);
                run.progress(number);
            }
            run.cancelled().await;
        };
        let node = rig.node(node_with([Job::new("job", at(rig.now() + secs(1))).run(body)])).await;
        rig.advance(secs(2)).await;

        let reported = details(rig, node, "job").await.active_runs.pop().expect("it runs").reported;
        assert_eq!((reported.measure("all"), reported.measures.len()), (Some(f64::MAX), 5));
        assert_eq!(reported.progress, Some(0.0), "the last of them that is a number is below 0");
    });
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

/// What is refused of a lease and a deadline on a store of records where nobody listens.
#[cfg(any(feature = "consul", feature = "etcd", feature = "redis"))]
async fn leases_and_deadlines(
    least: u64,
    records: impl Fn(Duration, Option<Duration>) -> std::sync::Arc<dyn callsheet::port::Records>,
) {
    use callsheet::port::RecordsError;

    let refused = async |lease: Duration, deadline: Option<Duration>| match records(lease, deadline)
        .open(secs(10))
        .await
    {
        Err(RecordsError::Refused { reason }) => reason,
        _ => String::new(),
    };
    for lease in [secs(least), hours(1)] {
        assert_eq!(refused(lease, None).await, "");
    }
    let rule = format!("a lease is at least {least} s and at most 1 h");
    for lease in [Duration::ZERO, secs(least) - NANO, hours(1) + NANO, Duration::MAX] {
        assert!(refused(lease, None).await.contains(&rule), "{lease:?}");
    }
    for (deadline, lease) in [(Duration::from_millis(50), 10), (secs(5), 10), (secs(least) / 2, least)] {
        assert_eq!(refused(secs(lease), Some(deadline)).await, "");
    }
    let rule = "a deadline is at least 50 ms, at most 5 s, and at most half of the lease";
    for (deadline, lease) in
        [(Duration::ZERO, 10), (secs(5) + NANO, 60), (secs(least) / 2 + NANO, least), (Duration::MAX, 3_600)]
    {
        assert!(refused(secs(lease), Some(deadline)).await.contains(rule), "{deadline:?}");
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn the_deadline_of_redis_is_50_ms_to_5_s_and_at_most_half_of_the_lease() {
    use callsheet::backend::Redis;

    leases_and_deadlines(1, |lease, deadline| {
        let mut redis = Redis::new("bounds", "redis://127.0.0.1:1").lease(lease);
        if let Some(deadline) = deadline {
            redis = redis.deadline(deadline);
        }
        redis.records()
    })
    .await;
}

#[cfg(feature = "consul")]
#[tokio::test]
async fn the_deadline_of_consul_is_50_ms_to_5_s_and_at_most_half_of_the_lease() {
    use callsheet::backend::Consul;

    leases_and_deadlines(10, |lease, deadline| {
        let mut consul = Consul::new("bounds", "http://127.0.0.1:1").lease(lease);
        if let Some(deadline) = deadline {
            consul = consul.deadline(deadline);
        }
        consul.records()
    })
    .await;
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn the_deadline_of_etcd_is_50_ms_to_5_s_and_at_most_half_of_the_lease() {
    use callsheet::backend::Etcd;

    leases_and_deadlines(2, |lease, deadline| {
        let mut etcd = Etcd::new("bounds", "http://127.0.0.1:1").lease(lease);
        if let Some(deadline) = deadline {
            etcd = etcd.deadline(deadline);
        }
        etcd.records()
    })
    .await;
}

#[cfg(feature = "kubernetes")]
#[test]
fn the_times_of_a_lease_of_kubernetes_fit_each_other() {
    use callsheet::{backend::Kubernetes, port::Election};

    let refused =
        |node: Kubernetes| node.faults().into_iter().map(|fault| fault.to_string()).collect::<Vec<_>>();
    let node = || Kubernetes::new("bounds");
    let millis = Duration::from_millis;
    for good in [
        node().lease_duration(secs(2)),
        node().lease_duration(hours(1)),
        node().lease_duration(secs(4)).renew_deadline(secs(3)),
        node().renew_deadline(secs(1)).retry_period(millis(100)),
        node().retry_period(secs(5)),
        node().deadline(millis(100)),
        node().deadline(secs(2)),
    ] {
        assert_eq!(refused(good), [""; 0]);
    }
    for (bad, what) in [
        (node().lease_duration(secs(1)), "lease_duration"),
        (node().lease_duration(hours(1) + secs(1)), "lease_duration"),
        (node().lease_duration(secs(2) + NANO), "whole seconds"),
        (node().lease_duration(Duration::MAX), "lease_duration"),
        (node().lease_duration(Duration::ZERO), "lease_duration"),
        (node().lease_duration(secs(4)).renew_deadline(secs(3) + NANO), "renew_deadline"),
        (node().renew_deadline(secs(1) - NANO), "renew_deadline"),
        (node().renew_deadline(Duration::MAX), "renew_deadline"),
        (node().retry_period(millis(100) - NANO), "retry_period"),
        (node().retry_period(secs(5) + NANO), "retry_period"),
        (node().retry_period(Duration::MAX), "retry_period"),
        (node().deadline(millis(100) - NANO), "deadline"),
        (node().deadline(secs(2) + NANO), "deadline"),
        (node().deadline(Duration::MAX), "deadline"),
    ] {
        let text = refused(bad).join("\n");
        assert!(text.contains(what) && text.contains("kubernetes: "), "{what}: {text}");
    }
}

#[tokio::test]
async fn the_history_at_its_ends_works() {
    let mut least = HistoryOptions::default();
    (least.memory.runs, least.memory.decisions, least.memory.operations) = (1, 1, 1);
    (least.memory.jobs, least.memory.bytes) = (2, MEMORY_BYTES_MIN);
    (least.retention.runs_for, least.retention.failures_for) = (RETENTION_MIN, RETENTION_MIN);
    (least.retention.decisions_for, least.retention.operations_for) = (RETENTION_MIN, RETENTION_MIN);
    (least.retention.runs_per_job, least.queue, least.queue_bytes) = (1, HISTORY_QUEUE_MIN, 65_536);
    let mut most = HistoryOptions::default();
    (most.memory.runs, most.memory.decisions, most.memory.operations) = (usize::MAX, usize::MAX, usize::MAX);
    (most.memory.jobs, most.memory.bytes) = (usize::MAX, usize::MAX);
    (most.retention.runs_for, most.retention.failures_for) = (RETENTION_MAX, RETENTION_MAX);
    (most.retention.decisions_for, most.retention.operations_for) = (RETENTION_MAX, RETENTION_MAX);
    (most.retention.runs_per_job, most.queue, most.queue_bytes) = (u64::MAX, usize::MAX, usize::MAX);
    for (history, kept) in [(least, 1), (most, 3)] {
        let job = Job::new("job", every(hours(1))).run(async |_| {});
        let jobs = Callsheet::builder().job(job).history(history).start().await.expect("it starts");
        for _ in 0..3 {
            jobs.trigger("job").await.expect("it starts").finished().await;
            jobs.pause("job").await.expect("it is paused");
            jobs.resume("job").await.expect("it is resumed");
        }

        let page = jobs.runs(RunHistory::new()).await.expect("an answer");

        assert_eq!(page.runs.len(), kept);
        jobs.shutdown(Duration::ZERO).await;
    }
    let mut nothing = HistoryOptions::default();
    (nothing.memory.runs, nothing.memory.decisions, nothing.memory.operations) = (0, 0, 0);
    (nothing.memory.jobs, nothing.memory.bytes, nothing.retention.runs_per_job) = (1, 0, 0);
    (nothing.retention.runs_for, nothing.retention.failures_for) = (Duration::ZERO, Duration::MAX);
    (nothing.retention.decisions_for, nothing.retention.operations_for) = (Duration::ZERO, Duration::MAX);
    (nothing.queue, nothing.queue_bytes) = (0, 0);
    let faults = Callsheet::builder().history(nothing).check().expect_err("all of it is wrong");
    assert_eq!(faults.clone().into_vec().len(), 12, "{faults}");
}

#[tokio::test]
async fn a_cluster_is_asked_within_its_ends_and_for_any_number_of_runs() {
    let job =
        Job::new("job", every(hours(1))).overlap(Overlap::Allow(3)).run(async |run| run.cancelled().await);
    let jobs = Callsheet::builder().job(job).start().await.expect("it starts");
    for _ in 0..3 {
        jobs.trigger("job").await.expect("it starts");
    }
    for wrong in
        [Duration::ZERO, NANO, Duration::from_millis(99), Duration::from_millis(60_001), Duration::MAX]
    {
        let error = jobs.cluster().within(wrong).nodes().await.expect_err("out of range");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let range = "nodes have at least 100ms and at most 1m to answer; choose a time in this range; 5s is the default";
        assert!(error.to_string().ends_with(range), "{error}");
    }
    for right in [CLUSTER_WITHIN_MIN, CLUSTER_WITHIN_MAX] {
        jobs.cluster().within(right).nodes().await.expect("in range");
    }
    for (limit, length) in [(0, 3), (1, 1), (2, 2), (3, 3), (ACTIVE_RUNS_MAX, 3), (usize::MAX, 3)] {
        let runs = jobs.ask(ActiveRuns::default().limit(limit)).await.expect("an answer");
        assert_eq!((runs.runs.len(), runs.count), (length, 3), "{limit}");
    }
    jobs.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_page_of_history_of_any_length_says_whether_there_is_more() {
    let job = Job::new("job", every(hours(1))).run(async |_| {});
    let jobs = Callsheet::builder().job(job).start().await.expect("it starts");
    for _ in 0..3 {
        jobs.trigger("job").await.expect("it starts").finished().await;
    }
    for (limit, length, more) in
        [(0, 3, false), (1, 1, true), (2, 2, true), (3, 3, false), (usize::MAX, 3, false)]
    {
        let page = jobs.runs(RunHistory::new().limit(limit)).await.expect("an answer");
        assert_eq!((page.runs.len(), page.next.is_some()), (length, more), "{limit}");
        jobs.decisions(Decisions::new().limit(limit)).await.expect("an answer");
        jobs.operations(Operations::new().limit(limit)).await.expect("an answer");
    }
    jobs.shutdown(Duration::ZERO).await;
}

#[test]
fn backfills_at_their_ends_work_and_beyond_are_refused() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job().run(async |_| {})])).await;
        // Of a job that fires every ten seconds: 1,000 fire times, the last at the start of the story.
        let to: DateTime<Utc> = START.parse().expect("an instant");
        let range = |ticks: i64| Backfill::new("job", to - TimeDelta::seconds(10 * (ticks - 1)), to);
        for (refused, subject) in [
            (range(1).max_concurrent(0), "max_concurrent"),
            (range(1).max_concurrent(u32::MAX), "max_concurrent"),
            (range(1).spacing(Duration::MAX), "spacing"),
            (range(1).max_ticks(0), "max_ticks"),
            (range(1).max_ticks(usize::MAX), "max_ticks"),
            (range(1_001), "range"),
            (range(2).max_ticks(1), "range"),
            (Backfill::new("job", DateTime::<Utc>::MIN_UTC, to), "range"),
            (Backfill::new("job", DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC), "to"),
        ] {
            let error = rig.send(node, refused).await.expect_err("out of range").to_string();
            assert!(error.contains(&format!("job \"job\": {subject} \"")), "{error}");
        }
        for (works, ticks) in [
            (range(1_000).max_concurrent(BACKFILL_CONCURRENT_MAX), 1_000),
            (range(1).max_ticks(1).again(true).spacing(BACKFILL_SPACING_MAX), 1),
            (range(1).again(true).spacing(NANO), 1),
        ] {
            let kept = rig.send(node, works).await.expect("in range");
            assert_eq!(kept.ticks, ticks);
        }
        rig.advance(hours(1)).await;
        let backfills = rig.send(node, ListBackfills::default()).await.expect("an answer");
        assert!(backfills.iter().all(|one| one.state == BackfillState::Finished), "{backfills:?}");
    });
}
