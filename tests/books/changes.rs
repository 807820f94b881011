//! Jobs that are changed or removed: what was due before is accounted for.

use super::*;

#[test]
fn a_job_that_has_run_as_often_as_it_may_skips_nothing_when_it_goes() {
    simulate(START, async |rig| {
        let three = |name: &str| Job::new(name, every(secs(1))).limit(3).run(async |_| {});
        let jobs = [three("done").remove_when_done(), three("removed"), three("changed")];
        let node = rig.node(node_with(jobs)).await;
        rig.advance(mins(60)).await;

        rig.send(node, RemoveJobs::new("removed")).await.expect("it is there");
        rig.reschedule(node, "changed", every(mins(60))).await.expect("it is there");
        rig.advance(secs(10)).await;

        assert_eq!(said_of_ticks(rig), (9, 0), "{}", rig.transcript());
        assert_all_that_was_said_is_counted(rig);
    });
}

/// What is done to a job whose ticks before are not accounted for yet.
type Then = fn(Job) -> Option<Job>;

#[test]
fn what_is_changed_twice_is_accounted_for_once_the_store_answers() {
    let then: [Then; 4] = [
        |_| None,
        Some,
        |job| Some(job.fires(Fires::Local)),
        |job| Some(job.overlap(Overlap::Queue(2)).lock_key("another")),
    ];
    for (nth, then) in then.into_iter().enumerate() {
        simulate(START, async |rig| {
            let node = rig.node(node_with([endless()])).await;
            rig.advance(ms(3_250)).await;
            let id = rig.id(node);
            rig.store().script(id, [CallFault::Stall(ms(700))]);

            // The first one moves the cursor, which takes long.
            rig.update(node, due_often(secs(30), 1)).await.expect("it is there");
            rig.advance(ms(50)).await;
            match then(due_often(secs(30), 0)) {
                Some(job) => drop(rig.update(node, job).await.expect("it is there")),
                None => drop(rig.send(node, RemoveJobs::new("job")).await.expect("it is there")),
            }
            rig.advance(ms(740)).await;
            rig.advance(secs(3)).await;
            // Perhaps it is gone.
            let _ = rig.send(node, RemoveJobs::new("job")).await;
            rig.advance(secs(3)).await;

            let (started, skipped) = said_of_ticks(rig);
            assert!(started + skipped >= 16, "{nth}: {}", rig.transcript());
            assert_all_that_was_said_is_counted(rig);
        });
    }
}

#[test]
fn a_job_with_another_policy_and_schedule_accounts_for_what_was_due() {
    let changes: [fn(Job) -> Job; 3] =
        [|job| job.overlap(Overlap::Queue(2)), |job| job.lock_key("another"), |job| job.fires(Fires::Local)];
    for (nth, change) in changes.into_iter().enumerate() {
        simulate(START, async |rig| {
            let node = rig.node(node_with([endless()])).await;
            rig.advance(ms(3_350)).await;

            let other = Job::new("job", every(mins(60))).run(async |_| {});
            rig.update(node, change(other)).await.expect("it is there");
            rig.advance(secs(3)).await;

            assert_eq!(said_of_ticks(rig), (1, 15), "{nth}: {}", rig.transcript());
            assert_all_that_was_said_is_counted(rig);
        });
    }
}

/// Every second, until it stands still for ever.
#[derive(Debug, Clone, Default)]
struct StandsStill(Arc<AtomicBool>);

impl fmt::Display for StandsStill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every second, for a while")
    }
}

impl Schedule for StandsStill {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.0.load(Ordering::Relaxed) { Some(after) } else { Period::seconds(1).next_after(after) }
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::seconds(1).previous_before(before)
    }
}

#[test]
fn a_schedule_that_breaks_as_its_job_is_removed_frees_the_name() {
    simulate(START, async |rig| {
        let schedule = StandsStill::default();
        let node = rig.node(node_with([Job::new("job", schedule.clone()).run(async |_| {})])).await;
        rig.advance(ms(2_500)).await;

        schedule.0.store(true, Ordering::Relaxed);
        rig.send(node, RemoveJobs::new("job")).await.expect("it is there");
        rig.advance(secs(1)).await;
        let added = timeout(mins(1), rig.add(node, due_often(ms(0), 0))).await;
        added.expect("its name is free").expect("it is not there");
        rig.advance(secs(1)).await;

        assert_eq!(rig.started("job"), 2 + 5, "{}", rig.transcript());
        // The rig asks it as well.
        schedule.0.store(false, Ordering::Relaxed);
    });
}

/// Each tick before `end` has started once, or was said to be skipped once; and is counted once. For stories
/// at whose end the job is removed, so that no skip waits to be counted.
fn assert_ticks_are_in_somebodys_hands(rig: &mut Rig, end: DateTime<Utc>, story: &str) {
    let start: DateTime<Utc> = START.parse().expect("an instant");
    let mut hands: BTreeMap<DateTime<Utc>, Vec<String>> = BTreeMap::new();
    for recorded in rig.events() {
        match recorded.event.kind {
            EventKind::RunStarted { fire_time: Some(at), .. } => {
                hands.entry(at.instant()).or_default().push("started".to_owned());
            }
            EventKind::TickSkipped { fire_time, reason, count, .. } => {
                for nth in 0..u32::try_from(count).expect("few") {
                    let at = fire_time.instant() - PERIOD * nth;
                    hands.entry(at).or_default().push(reason.as_str().to_owned());
                }
            }
            _ => {}
        }
    }
    let ticks = (1..).map(|nth| start + PERIOD * nth).take_while(|tick| *tick < end);
    for tick in ticks {
        let held = hands.get(&tick).map_or(0, Vec::len);
        assert_eq!(held, 1, "{story}, {tick}: {:?}: {}", hands.get(&tick), rig.transcript());
    }
    assert_eq!(rig.counter("callsheet_ticks_due_total", ""), hands.len() as u64, "{story}");
    assert_eq!(rig.counter("callsheet_ticks_total", ""), hands.len() as u64, "{story}");
}

/// What is done to a job again and again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    RemovedAndAdded,
    RemovedAndAddedAsAnother,
    Updated,
}

#[test]
fn a_job_that_is_changed_in_a_loop_leaves_no_tick_in_nobodys_hands() {
    let changes = [Change::RemovedAndAdded, Change::RemovedAndAddedAsAnother, Change::Updated];
    for change in changes {
        for (on_leader, takes, every_ms) in [
            (true, 0, 270),
            (true, 0, 199),
            (true, 0, 7),
            (true, 500, 270),
            (true, 500, 1_700),
            (false, 0, 270),
            (false, 500, 270),
        ] {
            let story = format!("{change:?}, leader {on_leader}, {takes} ms, every {every_ms} ms");
            simulate(START, async |rig| {
                let leader = rig.node(node_with([due_often(ms(takes), 0)])).await;
                let follower = rig.node(node_with([due_often(ms(takes), 0)])).await;
                rig.advance(secs(2)).await;
                assert_eq!(rig.leader(), Some(leader));
                let node = if on_leader { leader } else { follower };
                // Those of the follower have the same ticks.
                for variant in 1..=(20_000 / every_ms).min(60) {
                    let variant = if on_leader && change != Change::RemovedAndAdded { variant } else { 0 };
                    if change == Change::Updated {
                        rig.update(node, due_often(ms(takes), variant)).await.expect("it is there");
                    } else {
                        rig.send(node, RemoveJobs::new("job")).await.expect("it is there");
                        rig.add(node, due_often(ms(takes), variant)).await.expect("it is not");
                    }
                    rig.advance(ms(every_ms)).await;
                }
                rig.advance(ms(2_401)).await;
                let end = rig.now();
                rig.send(leader, RemoveJobs::new("job")).await.expect("it is there");
                rig.advance(secs(1)).await;

                assert_ticks_are_in_somebodys_hands(rig, end, &story);
            });
        }
    }
}

#[test]
fn a_tick_while_a_job_was_removed_is_owed_by_nobody() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([due_often(ms(0), 0)])).await;
        rig.advance(ms(1_100)).await;

        rig.send(node, RemoveJobs::new("job")).await.expect("it is there");
        rig.advance(ms(500)).await;
        rig.add(node, due_often(ms(0), 0)).await.expect("it is not");
        rig.advance(ms(500)).await;

        assert_eq!(rig.started("job"), 5 + 2, "not at 1.2 s, 1.4 s and 1.6 s: {}", rig.transcript());
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 7);
    });
}
