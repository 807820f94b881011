//! Operators override the schedules of jobs of code: on all nodes, across deploys, until they clear it.

use callsheet::{
    ClearOverride, EventKind, JobName, OverrideSchedule, PauseJobs, ResumeJobs, ScheduleOverride,
    port::{Catalogue, CatalogueChange, Changed},
};

use super::*;

/// The job of code, by the schedule of this version of the code.
fn cleanup(code: Duration) -> Builder {
    node_with([Job::new("cleanup", every(code)).run(async |_| {})]).task::<Say>(Done::default())
}

fn by_alice(period: Duration) -> OverrideSchedule {
    OverrideSchedule::new("cleanup", &Definition::from(every(period)))
        .by(callsheet::By::new("alice").expect("a good name"))
}

async fn overridden(rig: &mut Rig, node: usize) -> Option<ScheduleOverride> {
    rig.send(node, JobDetails("cleanup".to_owned())).await.expect("it is there").overridden
}

/// How often it started since `before` it had.
async fn starts_within(rig: &mut Rig, time: Duration) -> usize {
    let before = rig.started("cleanup");
    rig.advance(time).await;
    rig.started("cleanup") - before
}

#[test]
fn an_override_holds_on_all_nodes_and_across_deploys_until_it_is_cleared() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(cleanup(hours(1))).await;
        }
        rig.advance(mins(90)).await;

        let made = rig.send(1, by_alice(hours(3))).await.expect("it is right");
        rig.advance(secs(1)).await;
        for node in [0, 1] {
            assert_eq!(overridden(rig, node).await.as_ref(), Some(&made), "within a second");
        }
        let words = made.to_string();
        assert_eq!(words, "code says every 1h, override by alice since 2026-01-05T01:30:00.003Z: every 3h");
        assert_eq!(starts_within(rig, hours(6)).await, 2);

        // A rolling deploy of code with another schedule.
        for node in [0, 1] {
            rig.kill(node);
            rig.node(cleanup(hours(2))).await;
            assert_eq!(starts_within(rig, hours(6)).await, 2);
        }
        let shown = overridden(rig, 3).await.expect("it is overridden");
        assert_eq!((&*shown.code, shown.version, shown.since), ("every 2h", made.version, made.since));

        rig.send(2, ClearOverride::new("cleanup")).await.expect("it is overridden");
        rig.advance(secs(1)).await;
        assert_eq!((overridden(rig, 2).await, overridden(rig, 3).await), (None, None));
        assert_eq!(starts_within(rig, hours(6)).await, 3, "by the code");
    });
}

/// The cursor goes on: nothing that the code says is looked at before the override is known.
#[test]
fn a_node_that_starts_fires_nothing_by_code_before_it_knows_the_overrides() {
    simulate(START, async |rig| {
        rig.node(cleanup(mins(10))).await;
        rig.advance(mins(1)).await;
        rig.send(0, by_alice(hours(24))).await.expect("it is right");
        rig.advance(hours(1)).await;
        let enrolled = |rig: &Rig| {
            let records = rig.store().records();
            records.iter().filter(|record| format!("{record:?}").starts_with("Enrolled")).count()
        };
        let before = (enrolled(rig), rig.started("cleanup"));

        rig.store().set_latency(secs(2));
        rig.kill(0);
        rig.node(cleanup(mins(10))).await;
        rig.advance(hours(20)).await;

        assert_eq!((enrolled(rig), rig.started("cleanup")), before, "it goes on by the override");
        assert_eq!(starts_within(rig, hours(4)).await, 1);
    });
}

#[test]
fn a_pause_and_an_override_both_survive_a_restart_of_all_nodes() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(cleanup(hours(1))).await;
        }
        rig.advance(secs(1)).await;
        rig.send(0, by_alice(hours(2))).await.expect("it is right");
        rig.send(0, PauseJobs::new("cleanup")).await.expect("it is there");

        rig.kill(0);
        rig.kill(1);
        rig.node(cleanup(hours(1))).await;
        assert_eq!(starts_within(rig, hours(8)).await, 0, "it is paused");
        rig.send(2, ResumeJobs::new("cleanup")).await.expect("it is there");
        rig.advance(mins(1)).await;

        assert_eq!(starts_within(rig, hours(8)).await, 4, "every 2h");
    });
}

#[test]
fn of_two_who_override_at_once_one_is_told() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(cleanup(hours(1))).await;
        }
        rig.advance(secs(1)).await;

        let first = rig.send(0, by_alice(hours(2))).await.expect("it came first");
        let late = rig.send(1, by_alice(hours(5))).await.expect_err("the other one came first");
        rig.advance(secs(1)).await;

        assert_eq!(late.kind(), ErrorKind::Exists);
        assert_eq!(overridden(rig, 1).await, Some(first));
        let newer = rig.send(1, by_alice(hours(5))).await.expect("it knows what stands");
        rig.advance(secs(1)).await;
        assert_eq!(overridden(rig, 0).await, Some(newer));
    });
}

#[test]
fn a_node_that_was_cut_off_takes_over_what_was_overridden_and_cleared() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        for _ in 0..3 {
            rig.node(cleanup(hours(1))).await;
        }
        rig.advance(secs(1)).await;
        let made = rig.send(1, by_alice(hours(3))).await.expect("it is right");
        rig.advance(secs(1)).await;

        rig.cut_off(2);
        rig.send(1, ClearOverride::new("cleanup")).await.expect("it is overridden");
        rig.advance(mins(5)).await;
        assert_eq!(overridden(rig, 2).await, Some(made), "it knows no better");
        rig.reconnect(2);
        rig.advance(secs(10)).await;

        assert_eq!(overridden(rig, 2).await, None);
    });
}

#[test]
fn an_override_that_no_node_has_a_job_for_is_shown_until_it_is_cleared() {
    simulate(START, async |rig| {
        rig.node(cleanup(hours(1))).await;
        rig.advance(secs(1)).await;
        rig.send(0, by_alice(hours(3))).await.expect("it is right");
        assert_eq!(here(rig, 0, "cleanup").await, StoredHere::Overrides);

        rig.kill(0);
        let other = rig.node(node_with([])).await;
        rig.advance(secs(5)).await;

        assert_eq!(here(rig, other, "cleanup").await, StoredHere::NoJob);
        rig.send(other, ClearOverride::new("cleanup")).await.expect("it is overridden");
        let gone = rig.send(other, StoredDetails("cleanup".to_owned())).await.expect_err("it is gone");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn what_code_says_may_change_beneath_an_override_and_its_words_with_it() {
    simulate(START, async |rig| {
        let index = rig.node(cleanup(hours(1))).await;
        rig.advance(secs(1)).await;
        rig.send(index, by_alice(hours(3))).await.expect("it is right");
        let code = |period| Job::new("cleanup", every(period)).tag("new").run(async |_| {});

        rig.update(index, code(hours(2))).await.expect("it is right");
        let details = rig.send(index, JobDetails("cleanup".to_owned())).await.expect("it is there");
        let words = details.overridden.expect("it is overridden");
        assert_eq!((&*words.code, &*details.schedule, details.tags.len()), ("every 2h", "every 3h", 1));

        rig.send(index, RemoveJobs::new("cleanup")).await.expect("it is there");
        assert_eq!(here(rig, index, "cleanup").await, StoredHere::NoJob);
        rig.add(index, code(hours(4))).await.expect("it is right");
        let words = overridden(rig, index).await.expect("it is overridden");
        assert_eq!((&*words.code, &*words.schedule), ("every 4h", "every 3h"));
        assert_eq!(starts_within(rig, hours(6)).await, 2);
    });
}

#[test]
fn what_cannot_be_overridden_is_refused_with_the_cure() {
    simulate(START, async |rig| {
        let index = rig.node(cleanup(hours(1))).await;
        rig.advance(secs(1)).await;
        put(rig, index, "report", says("x")).await;
        let to = |job: &str, json: Value| OverrideSchedule::new(job, &json);

        for (asked, told) in [
            (to("nothing", json!("@hourly")), "this node has no job of code \"nothing\""),
            (to("report", json!("@hourly")), "a stored job has this name; put its new definition"),
            (to("cleanup", json!("0 0 30 2 *")), "there is no such day in any year"),
            (to("cleanup", json!({"at": ["2020-01-01T00:00:00Z"]})), "choose another schedule"),
            (to("cleanup", json!(7)), "schedule"),
        ] {
            let error = rig.send(index, asked).await.expect_err("it is wrong").to_string();
            assert!(error.contains(told), "{error}");
        }
        let error = rig.send(index, ClearOverride::new("cleanup")).await.expect_err("there is none");
        assert_eq!(error.kind(), ErrorKind::NotFound);

        rig.send(index, by_alice(hours(3))).await.expect("it is right");
        let reschedule = RescheduleJob::new("cleanup", every(hours(2)));
        let error = rig.send(index, reschedule).await.expect_err("it is overridden").to_string();
        assert!(error.contains("an operator has overridden its schedule"), "{error}");
        let store = PutJob::new("cleanup", &stored(says("x")));
        let error = rig.send(index, store).await.expect_err("its name is taken").to_string();
        assert!(error.contains("clear that first (ClearOverride)"), "{error}");
        let error = rig.send(index, DeleteJob::new("cleanup")).await.expect_err("it is no stored job");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn an_override_that_cannot_be_read_is_parked_and_the_job_goes_on_by_code() {
    simulate(START, async |rig| {
        let index = rig.node(cleanup(hours(1))).await;
        rig.advance(secs(1)).await;
        rig.send(index, by_alice(hours(5))).await.expect("it is right");
        let edited = |definition: &str| {
            let mut row = CatalogueRow::new("cleanup", 0, callsheet::chrono::DateTime::UNIX_EPOCH);
            row.definition = Some(definition.into());
            row
        };

        rig.store().catalogue().write(edited(r#"{"override": {"schedule": "61 * * * *"}}"#));
        rig.advance(secs(1)).await;

        let StoredHere::Parked { reason } = here(rig, index, "cleanup").await else { panic!("it is parked") };
        assert!(reason.contains("clear the override (ClearOverride)"), "{reason}");
        assert_eq!(overridden(rig, index).await, None);
        assert_eq!(starts_within(rig, hours(4)).await, 4);
        rig.send(index, by_alice(hours(2))).await.expect("it may be overridden anew");
        assert_eq!(starts_within(rig, hours(4)).await, 2);
    });
}

#[test]
fn each_override_and_clearance_is_an_operation_in_the_history() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(cleanup(hours(1))).await;
        }
        rig.advance(secs(1)).await;
        let why = callsheet::Note::new("quiet hours").expect("a good note");

        let made = rig.send(0, by_alice(hours(3)).note(why.clone())).await.expect("it is right");
        rig.advance(secs(1)).await;
        rig.send(0, ClearOverride::new("cleanup")).await.expect("it is overridden");
        rig.advance(secs(1)).await;

        assert_eq!(made.note, Some(why));
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobUpdated { .. })), 4, "on both nodes");
        rig.send(1, Operations::new()).await.expect("it is kept");
        let kept = rig.send(0, Operations::new()).await.expect("it is kept").operations;
        let told: Vec<_> = kept.iter().rev().map(|one| one.operation).collect();
        assert_eq!(told, [JobOperation::Overridden, JobOperation::OverrideCleared], "once each");
        assert!(kept[1].detail.as_deref().is_some_and(|detail| detail.contains("quiet hours")));
    });
}

/// Stores something, of which no node has heard when it answers.
async fn store(rig: &Rig, job: &str, json: Value) -> u64 {
    let change =
        CatalogueChange::put(uuid::Uuid::new_v4(), JobName::new(job).expect("a good name"), json.to_string());
    match rig.store().catalogue().clone().change(&change).await {
        Ok(Changed::Done(row)) => row.version,
        other => panic!("{other:?}"),
    }
}

/// The nodes have other code: on one of them the name is free.
#[test]
fn a_node_that_has_not_heard_of_an_override_neither_replaces_nor_deletes_it() {
    for asked in ["put", "put that version", "delete", "delete that version"] {
        simulate(START, async move |rig| {
            rig.node(cleanup(hours(1))).await;
            rig.node(node(&Done::default())).await;
            rig.advance(secs(2)).await;
            let overrides = json!({"override": {"schedule": {"every": "3h"}}});
            let version = store(rig, "cleanup", overrides).await;

            let put = || PutJob::new("cleanup", &stored(says("x")));
            let delete = || DeleteJob::new("cleanup");
            let expected = Expected::Version(version);
            let refused = match asked {
                "put" => rig.send(1, put()).await.map(drop),
                "put that version" => rig.send(1, put().expecting(expected)).await.map(drop),
                "delete" => rig.send(1, delete()).await.map(drop),
                _ => rig.send(1, delete().expecting(expected)).await.map(drop),
            };
            rig.advance(secs(2)).await;

            let refused = refused.expect_err(asked);
            let kind = if asked.starts_with("put") { ErrorKind::Invalid } else { ErrorKind::NotFound };
            assert_eq!(refused.kind(), kind, "{asked}: {refused}");
            assert_eq!(overridden(rig, 0).await.map(|one| one.version), Some(version), "{asked}");
        });
    }
}

#[test]
fn a_node_that_has_not_heard_of_a_stored_job_does_not_override_it() {
    for any in [false, true] {
        simulate(START, async move |rig| {
            rig.node(cleanup(hours(1))).await;
            rig.advance(secs(2)).await;
            let version = store(rig, "cleanup", says("x")).await;

            let asked = if any { by_alice(hours(3)).expecting(Expected::Any) } else { by_alice(hours(3)) };
            let refused = rig.send(0, asked).await.expect_err("a job has the name");

            let kind = if any { ErrorKind::Invalid } else { ErrorKind::Exists };
            assert_eq!(refused.kind(), kind, "{refused}");
            let row = rig.send(0, StoredDetails("cleanup".to_owned())).await.expect("it is stored");
            assert_eq!(row.version, version);
        });
    }
}

/// Whoever changes what he has not read changes what stands.
#[test]
fn a_change_of_what_a_node_has_not_heard_of_takes_its_place() {
    simulate(START, async |rig| {
        let done = Done::default();
        rig.node(node(&done)).await;
        rig.advance(secs(2)).await;
        for job in ["replaced", "deleted"] {
            store(rig, job, says("old")).await;
        }

        put(rig, 0, "replaced", says("new")).await;
        rig.advance(secs(2)).await;
        store(rig, "deleted", says("newer")).await;
        rig.send(0, DeleteJob::new("deleted")).await.expect("it is stored");
        rig.advance(mins(90)).await;

        assert_eq!(done.take(), ["replaced: new"]);
    });
}
