//! Schedules that panic, or break their contract.

use super::*;

#[test]
fn a_run_of_a_job_that_is_broken_keeps_its_timeout() {
    simulate(START, async |rig| {
        // It dies of what comes after the third second, while the run of the second one goes on.
        let (second, third) = (rig.now() + secs(2), rig.now() + secs(3));
        let schedule = PanickingSchedule::new(Period::seconds(1), third, u32::MAX);
        let bad = Job::new("bad", schedule).timeout(secs(5)).run(move |run: Run| async move {
            if run.fire_time() == Some(second) {
                run.cancelled().await;
            }
        });
        rig.node(node_with([bystander(), bad])).await;

        rig.advance(Duration::from_millis(20_500)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobBroken { .. })), 1);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=timed_out"), 1);
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn a_schedule_that_always_panics_breaks_its_job_and_no_other() {
    simulate(START, async |rig| {
        let third = rig.now() + secs(3);
        let schedule = PanickingSchedule::new(Period::seconds(1), third, u32::MAX);
        let node = rig.node(node_with([bystander(), Job::new("bad", schedule).run(async |_| {})])).await;

        rig.advance(Duration::from_millis(10_500)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobBroken { .. })), 1);
        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), u64::from(RESTARTS_MAX));
        let status = rig.send(node, JobDetails("bad".to_owned())).await.expect("it is still listed");
        assert_eq!(status.state, JobState::Broken);
        let refused = rig.send(node, TriggerJob::new("bad")).await;
        assert!(matches!(refused, Err(TriggerError::Broken { .. })), "{refused:?}");
        assert_eq!(rig.started("bystander"), 10);
        assert_eq!(rig.store().held(), 0);
    });
}

/// Every second; panics while it is out of order.
#[derive(Debug, Clone, Default)]
struct Moody {
    out_of_order: Arc<AtomicBool>,
}

impl Moody {
    fn set_out_of_order(&self, out_of_order: bool) {
        self.out_of_order.store(out_of_order, Ordering::Relaxed);
    }
}

impl fmt::Display for Moody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every second, in a good mood")
    }
}

impl Schedule for Moody {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        assert!(!self.out_of_order.load(Ordering::Relaxed), "a schedule that is out of order");
        Period::seconds(1).next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::seconds(1).previous_before(before)
    }
}

fn broken(kind: &EventKind) -> bool {
    matches!(kind, EventKind::JobBroken { .. })
}

#[test]
fn a_broken_job_that_is_resumed_fires_again_and_loses_no_tick() {
    simulate(START, async |rig| {
        let schedule = Moody::default();
        let bad = |name: &str| Job::new(name, schedule.clone()).run(async |_| {});
        let jobs = [bystander(), bad("led"), bad("local").fires(Fires::Local)];
        let node = rig.node(node_with(jobs)).await;
        rig.advance(Duration::from_millis(3_500)).await;

        for time in 1..=2 {
            schedule.set_out_of_order(true);
            rig.advance(secs(10)).await;
            assert_eq!(rig.count(broken), 2 * time);
            let budget = 2 * u64::from(RESTARTS_MAX);
            assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), budget * time as u64);

            schedule.set_out_of_order(false);
            let revived = rig.send(node, ResumeJobs::new(Selector::All)).await.expect("all is a selector");
            assert_eq!(revived.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["led", "local"]);
            rig.advance(secs(10)).await;
            assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRevived { .. })), 2 * time);
        }

        let again = rig.send(node, ResumeJobs::new(Selector::All)).await;
        assert_eq!(again, Ok(vec![]), "nothing is broken any more");
        let unknown = rig.send(node, ResumeJobs::new("nobody")).await;
        let nobody = SelectError::UnknownJob { name: "nobody".to_owned() };
        assert_eq!(unknown, Err(PauseError::Select(nobody)));
        for job in ["led", "local"] {
            let of_job = format!("name={job}");
            assert_eq!(rig.counter("callsheet_ticks_due_total", &of_job), 43, "each second of {job}");
            // Three before, ten after each time, and one in place of those it missed.
            assert_eq!(rig.started(job), 3 + 2 * 11);
            let status = rig.send(node, JobDetails(job.to_owned())).await.expect("it is there");
            assert_eq!(status.state, JobState::Scheduled);
        }
        assert_eq!(rig.started("bystander"), 43);
    });
}

#[test]
fn a_broken_job_asked_for_fire_times_keeps_its_run_and_can_be_resumed() {
    simulate(START, async |rig| {
        let schedule = Moody::default();
        let bad = Job::new("bad", schedule.clone())
            .run(async |_| tokio::time::sleep(Duration::from_secs(20)).await);
        let node = rig.node(node_with([bad])).await;
        rig.advance(Duration::from_millis(1_500)).await;
        schedule.set_out_of_order(true);
        rig.advance(secs(5)).await;
        assert_eq!((rig.count(broken), rig.started("bad")), (1, 1));

        for _ in 0..2 {
            let asked = rig.send(node, NextFireTimes { job: "bad".to_owned(), count: 1 }).await;
            assert!(matches!(asked, Err(NextFireTimesError::Unresponsive { .. })), "{asked:?}");
        }
        rig.advance(secs(20)).await;
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 1);
        assert_eq!(rig.count(broken), 1, "it was broken all the time");

        schedule.set_out_of_order(false);
        let revived = rig.send(node, ResumeJobs::new("bad")).await.expect("it is there");
        assert_eq!(revived.len(), 1);
        rig.advance(secs(1)).await;
        assert_eq!(rig.started("bad"), 2);
    });
}

/// Every second; from an instant on it breaks one rule of the contract, until it is mended.
#[derive(Debug, Clone)]
struct Rotten {
    from: DateTime<Utc>,
    rule: Rule,
    mended: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    StandsStill,
    GoesBack,
    SubMillisecond,
}

impl Rotten {
    fn new(from: DateTime<Utc>, rule: Rule) -> Self {
        Self { from, rule, mended: Arc::default() }
    }
}

impl fmt::Display for Rotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every second, for a while")
    }
}

impl Schedule for Rotten {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = Period::seconds(1).next_after(after)?;
        if after < self.from || self.mended.load(Ordering::Relaxed) {
            return Some(next);
        }
        Some(match self.rule {
            Rule::StandsStill => after,
            Rule::GoesBack => self.from - secs(60),
            Rule::SubMillisecond => next + Duration::from_micros(1),
        })
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::seconds(1).previous_before(before)
    }
}

fn reasons(rig: &Rig) -> Vec<String> {
    let reason = |kind| match kind {
        EventKind::JobBroken { reason, .. } => Some(reason.to_string()),
        _ => None,
    };
    rig.events().into_iter().filter_map(|recorded| reason(recorded.event.kind)).collect()
}

#[test]
fn a_schedule_that_breaks_its_contract_breaks_its_job_which_says_why() {
    for (rule, said) in [
        (
            Rule::StandsStill,
            "next_after(2026-01-05T00:00:03Z) answered 2026-01-05T00:00:03Z, which is not later",
        ),
        (
            Rule::GoesBack,
            "next_after(2026-01-05T00:00:03Z) answered 2026-01-04T23:59:03Z, which is not later",
        ),
        (Rule::SubMillisecond, "it answered 2026-01-05T00:00:04.000001Z, which is no whole millisecond"),
    ] {
        for fires in [Fires::Leader, Fires::AnyNode, Fires::Local] {
            simulate(START, async |rig| {
                let schedule = Rotten::new(rig.now() + secs(3), rule);
                // Inside of a schedule of ours, what is no whole millisecond is rounded.
                let inside = rule != Rule::SubMillisecond;
                let jobs = [
                    Job::new("bad", schedule.clone()).fires(fires).run(async |_| {}),
                    Job::new("inside", custom(schedule.clone()).or(every(secs(3600)))).run(async |_| {}),
                ];
                let node = rig.node(node_with(jobs.into_iter().chain([bystander()]))).await;
                rig.advance(Duration::from_millis(10_500)).await;

                let reasons = reasons(rig);
                assert_eq!(reasons.len(), 1 + usize::from(inside), "{reasons:?}");
                assert!(reasons.iter().any(|reason| reason.contains(said)), "{reasons:?}");
                let status = rig.send(node, JobDetails("bad".to_owned())).await.expect("it is still listed");
                assert_eq!((status.state, status.next_fire_time), (JobState::Broken, None));
                assert!(status.broken.is_some_and(|reason| reason.contains(said)));
                let refused = rig.send(node, TriggerJob::new("bad")).await;
                assert!(matches!(refused, Err(TriggerError::Broken { .. })), "{refused:?}");
                let broken = |kind: &EventKind| matches!(kind, EventKind::TickSkipped { .. });
                assert_eq!((rig.started("bad"), rig.count(broken)), (2, 0), "nothing is decided by it");
                assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 0);
                assert_eq!(rig.started("bystander"), 10);

                // Resumed before it is mended, it says so once more; then it goes on from where it stood.
                let resumed = rig.send(node, ResumeJobs::new("bad")).await.expect("it is there");
                assert_eq!(resumed.len(), 1);
                rig.advance(secs(1)).await;
                assert_eq!(self::reasons(rig).len(), 2 + usize::from(inside));
                schedule.mended.store(true, Ordering::Relaxed);
                rig.send(node, ResumeJobs::new(Selector::All)).await.expect("all is a selector");
                rig.advance(secs(2)).await;
                assert_eq!(rig.started("bad"), 5, "one for the ticks that it missed, and two");
                let due = rig.counter("callsheet_ticks_due_total", "name=bad");
                assert_eq!(due, 13, "each second");
            });
        }
    }
}

#[test]
fn a_job_that_its_schedule_broke_fires_again_with_another_one() {
    simulate(START, async |rig| {
        let schedule = Rotten::new(rig.now() + secs(3), Rule::StandsStill);
        let node = rig.node(node_with([Job::new("bad", schedule).run(async |_| {})])).await;
        rig.advance(Duration::from_millis(10_500)).await;
        assert_eq!(reasons(rig).len(), 1);

        rig.update(node, Job::new("bad", every(secs(2))).run(async |_| {})).await.expect("it is there");
        rig.advance(secs(10)).await;

        assert_eq!(rig.started("bad"), 2 + 5);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRevived { .. })), 1);
    });
}

#[test]
fn a_follower_shows_a_broken_schedule_and_a_job_with_one_is_not_added() {
    simulate(START, async |rig| {
        let schedule = Rotten::new(rig.now() + secs(3), Rule::StandsStill);
        let bad = || Job::new("bad", schedule.clone()).run(async |_| {});
        for _ in 0..2 {
            rig.node(node_with([bad()])).await;
        }
        rig.advance(Duration::from_millis(10_500)).await;

        for node in [0, 1] {
            let status = rig.send(node, JobDetails("bad".to_owned())).await.expect("it is there");
            assert_eq!(status.state, JobState::Broken, "node {node}");
            let said = status.broken.expect("it says why");
            assert!(said.contains("which is not later"), "node {node}: {said}");
        }
        let another = Job::new("another", schedule.clone()).run(async |_| {});
        let refused = rig.add(0, another).await.unwrap_err().to_string();
        assert!(refused.contains("it breaks the contract of `Schedule`"), "{refused}");
        let refused = rig.update(0, bad()).await.unwrap_err().to_string();
        assert!(refused.contains("it breaks the contract of `Schedule`"), "{refused}");
    });
}

/// Every second; from an instant on it panics with something that panics when it is dropped.
#[derive(Debug)]
struct Mined {
    from: DateTime<Utc>,
}

struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("a mine"));
    }
}

impl fmt::Display for Mined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every second, mined")
    }
}

impl Schedule for Mined {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after >= self.from {
            std::panic::panic_any(Mine);
        }
        Period::seconds(1).next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::seconds(1).previous_before(before)
    }
}

#[test]
fn a_panic_that_carries_a_panic_ends_one_actor_and_no_other_of_its_thread() {
    simulate(START, async |rig| {
        let mined = Mined { from: rig.now() + secs(3) };
        rig.node(node_with([bystander(), Job::new("bad", mined).run(async |_| {})])).await;

        rig.advance(Duration::from_millis(10_500)).await;

        assert_eq!(rig.count(broken), 1);
        assert_eq!(rig.started("bystander"), 10);
    });
}
