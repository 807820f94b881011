//! One-shots: stored, run once on whichever node, kept in the history, and gone from the catalogue when they are done.
//! Those that are far are in the store only.

use callsheet::{
    Decisions, Health, IfStored, Problem, RunHistory,
    chrono::{DateTime, TimeDelta, Utc},
    port::{
        Catalogue, CatalogueChange, Changed, ONE_SHOTS_HELD_BYTES_MAX, ONE_SHOTS_HELD_MAX,
        ONE_SHOTS_HELD_WITHIN, ONE_SHOTS_LINGERING_BYTES_MAX,
    },
};

use super::*;

fn at(rig: &Rig, after: Duration) -> DateTime<Utc> {
    rig.now() + TimeDelta::from_std(after).expect("it is short")
}

/// A reminder that is due so long from now.
fn reminder(rig: &Rig, what: &str, after: Duration) -> Value {
    let mut json = says(what);
    json["schedule"] = json!({"at": [at(rig, after)]});
    json["remove_when_done"] = json!(true);
    json
}

async fn remind(rig: &mut Rig, node: usize, job: &str, after: Duration) {
    let json = reminder(rig, "hello", after);
    put(rig, node, job, json).await;
}

/// The names that are stored.
fn in_store(rig: &Rig) -> Vec<String> {
    let page = rig.store().catalogue().clone();
    let page = futures_util::future::FutureExt::now_or_never(async move {
        page.list(&CatalogueQuery::default()).await.expect("it is in memory")
    });
    page.expect("it is in memory").rows.iter().map(|row| row.job.to_string()).collect()
}

async fn cluster(rig: &mut Rig, done: &Done, nodes: usize) {
    for _ in 0..nodes {
        rig.node(node(done)).await;
    }
    rig.advance(secs(1)).await;
}

#[test]
fn a_one_shot_runs_once_on_one_node_and_is_gone_from_all() {
    simulate(START, async |rig| {
        let done = Done::default();
        cluster(rig, &done, 3).await;

        remind(rig, 1, "soon", mins(5)).await;
        rig.advance(mins(4)).await;
        assert_eq!((held(rig, 0).await, held(rig, 2).await), (vec!["soon".into()], vec!["soon".into()]));
        rig.advance(mins(2)).await;

        assert_eq!(done.take(), ["soon: hello"]);
        for node in 0..3 {
            assert_eq!(held(rig, node).await, [""; 0]);
        }
        assert_eq!(in_store(rig), [""; 0]);
        // The leader writes what it has recorded before it is asked.
        let runs = rig.send(0, RunHistory::new()).await.expect("it is kept").runs;
        assert_eq!(runs.iter().map(|run| run.job.to_string()).collect::<Vec<_>>(), ["soon"]);
    });
}

#[test]
fn a_far_one_shot_is_on_no_node_before_it_is_near() {
    simulate(START, async |rig| {
        let done = Done::default();
        cluster(rig, &done, 2).await;
        for (job, days) in [("in a week", 7), ("in two weeks", 14), ("in a year", 365)] {
            remind(rig, 0, job, hours(24 * days)).await;
        }
        rig.advance(hours(1)).await;
        assert_eq!((held(rig, 0).await.len(), held(rig, 1).await.len()), (0, 0));
        assert_eq!(here(rig, 0, "in a week").await, StoredHere::Far);
        // A node that starts knows as little of them.
        rig.kill(1);
        let third = rig.node(node(&done)).await;
        rig.advance(hours(24 * 7) - hours(1) - ONE_SHOTS_HELD_WITHIN).await;
        assert_eq!(held(rig, third).await, [""; 0]);

        rig.advance(ONE_SHOTS_HELD_WITHIN / 2 + secs(10)).await;
        assert_eq!(held(rig, third).await, ["in a week"], "it is near");
        rig.advance(hours(24 * 8)).await;

        assert_eq!(done.take(), ["in a week: hello", "in two weeks: hello"]);
        assert_eq!(in_store(rig), ["in a year"]);
    });
}

#[test]
fn a_one_shot_that_is_moved_or_deleted_follows_whether_it_is_near_or_far() {
    simulate(START, async |rig| {
        let done = Done::default();
        cluster(rig, &done, 2).await;
        let (near, far) = (mins(6), hours(48));
        for (job, after) in [("near", near), ("far", far), ("near gone", near), ("far gone", far)] {
            remind(rig, 0, job, after).await;
        }
        rig.advance(secs(10)).await;
        assert_eq!(held(rig, 1).await, ["near", "near gone"]);

        remind(rig, 1, "near", far).await;
        remind(rig, 1, "far", near).await;
        for job in ["near gone", "far gone"] {
            rig.send(1, DeleteJob::new(job)).await.expect("it is stored");
        }
        rig.advance(secs(10)).await;

        assert_eq!((held(rig, 0).await, held(rig, 1).await), (vec!["far".into()], vec!["far".into()]));
        rig.advance(hours(1)).await;
        assert_eq!(done.take(), ["far: hello"]);
        rig.advance(hours(48)).await;
        assert_eq!(done.take(), ["near: hello"]);
        assert_eq!(in_store(rig), [""; 0]);
    });
}

/// Nobody was there when it was due: how late it may be, the misfire rule says.
#[test]
fn a_one_shot_that_is_late_is_run_or_skipped_by_the_misfire_rule() {
    simulate(START, async |rig| {
        let done = Done::default();
        cluster(rig, &done, 2).await;
        remind(rig, 0, "runs", hours(24)).await;
        let mut skips = reminder(rig, "never said", hours(24));
        skips["policies"] = json!({"misfire": "skip"});
        put(rig, 0, "skips", skips).await;

        rig.kill(0);
        rig.kill(1);
        rig.advance(hours(30)).await;
        let late = rig.node(node(&done)).await;
        rig.advance(mins(1)).await;

        assert_eq!(done.take(), ["runs: hello"], "six hours late");
        assert_eq!(in_store(rig), [""; 0]);
        let missed = rig.send(late, Decisions::new()).await.expect("it is kept").decisions;
        let of_job = missed.iter().filter(|one| one.job.is_some());
        let told: Vec<_> = of_job.map(|one| format!("{:?} {:?}", one.job, one.decision)).collect();
        assert!(told.len() == 1 && told[0].contains("skips") && told[0].contains("Misfire"), "{told:?}");
    });
}

#[test]
fn the_same_key_again_replaces_keeps_or_is_refused() {
    simulate(START, async |rig| {
        let done = Done::default();
        cluster(rig, &done, 2).await;
        let mut asked = async |node, what: &str, if_stored| {
            let json = reminder(rig, what, mins(5));
            let change = PutJob::new("key", &stored(json)).if_stored(if_stored);
            let answer = rig.send(node, change).await;
            answer.map(|status| status.definition["task"]["arguments"]["what"].clone())
        };

        assert_eq!(asked(0, "first", IfStored::Refuse).await, Ok(json!("first")));
        assert_eq!(asked(1, "second", IfStored::Keep).await, Ok(json!("first")), "the answer is what stands");
        let refused = asked(1, "third", IfStored::Refuse).await.expect_err("there is one");
        assert_eq!(refused.kind(), ErrorKind::Exists);
        assert_eq!(asked(1, "fourth", IfStored::Replace).await, Ok(json!("fourth")));

        rig.advance(mins(10)).await;
        assert_eq!(done.take(), ["key: fourth"]);
    });
}

#[test]
fn a_one_shot_whose_node_dies_at_any_moment_runs_once_and_goes() {
    for dies_after in [mins(4), mins(5), mins(5) + Duration::from_millis(2), mins(6)] {
        simulate(START, async move |rig| {
            let done = Done::default();
            cluster(rig, &done, 2).await;
            remind(rig, 1, "once", mins(5)).await;
            rig.advance(dies_after).await;

            rig.kill(0);
            rig.advance(hours(2)).await;

            let said = done.take();
            assert!(said.len() <= 1, "{dies_after:?}: {said:?}");
            assert!(rig.started("once") == 1 && in_store(rig).is_empty(), "{dies_after:?}");
        });
    }
}

#[test]
fn a_done_one_shot_that_cannot_be_deleted_is_deleted_later_and_not_run_again() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        let done = Done::default();
        cluster(rig, &done, 2).await;
        remind(rig, 0, "once", mins(5)).await;
        rig.advance(mins(5) + Duration::from_millis(3)).await;
        assert_eq!(done.take(), ["once: hello"]);

        rig.cut_off(0);
        rig.advance(mins(10)).await;
        rig.reconnect(0);
        rig.advance(mins(10)).await;

        assert_eq!((done.take(), in_store(rig)), (Vec::new(), Vec::new()));
    });
}

#[test]
fn what_no_node_can_run_once_stays_and_hinders_no_other() {
    simulate(START, async |rig| {
        let done = Done::default();
        cluster(rig, &done, 1).await;
        let row = |nth: usize| {
            let mut row = CatalogueRow::new(format!("bad {nth:04}"), 0, rig.now());
            row.definition = Some(says("x").to_string().replace("\"say\"", "\"sing\"").into());
            row.due_at = Some(at(rig, mins(1)));
            row
        };
        (0..1_500).for_each(|nth| rig.store().catalogue().write(row(nth)));
        remind(rig, 0, "good", mins(2)).await;

        rig.advance(mins(5)).await;

        assert_eq!(done.take(), ["good: hello"]);
        assert_eq!(in_store(rig).len(), CatalogueQuery::default().rows_max(), "the first page of them");
        assert!(matches!(here(rig, 0, "bad 0000").await, StoredHere::Parked { .. }));
    });
}

#[test]
fn what_is_removed_when_done_fires_on_the_leader() {
    simulate(START, async |rig| {
        let done = Done::default();
        cluster(rig, &done, 1).await;
        let mut any = reminder(rig, "x", mins(5));
        any["policies"] = json!({"fires": "any_node"});
        let mut past = reminder(rig, "x", mins(5));
        past["schedule"] = json!({"at": ["2020-01-01T00:00:00Z"]});

        for (json, told) in [(any, "fires on the leader; leave policies.fires out"), (past, "passed")] {
            let error = rig.send(0, PutJob::new("job", &stored(json))).await.expect_err("it is wrong");
            assert!(error.to_string().contains(told), "{error}");
        }
    });
}

/// Rows as people write them, or files keep them: nothing but the definition says when they are due.
#[test]
fn a_one_shot_that_was_due_before_any_node_had_it_runs_late_before_it_goes() {
    simulate(START, async |rig| {
        let done = Done::default();
        cluster(rig, &done, 2).await;
        let (was_due, is_due) = (rig.now() - TimeDelta::hours(2), rig.now() - TimeDelta::milliseconds(5));
        for (job, due_at) in [("by hand", was_due), ("just before", is_due)] {
            let mut json = says("late");
            json["schedule"] = json!({"at": [due_at]});
            json["remove_when_done"] = json!(true);
            let mut row = CatalogueRow::new(job, 0, rig.now());
            row.definition = Some(json.to_string().into());
            row.due_at = Some(due_at).filter(|_| job == "just before");
            rig.store().catalogue().write(row);
        }

        rig.advance(mins(5)).await;

        let mut said = done.take();
        said.sort();
        assert_eq!(said, ["by hand: late", "just before: late"]);
        assert_eq!(in_store(rig), [""; 0]);
    });
}

/// More of them are due at once than a node holds, and than there are removed jobs whose cursors are kept.
#[test]
fn more_one_shots_than_a_node_holds_run_all_the_same() {
    simulate(START, async |rig| {
        let done = Done::default();
        cluster(rig, &done, 2).await;
        let count = ONE_SHOTS_HELD_MAX * 9 / 4;
        let (text, due) = (reminder(rig, "x", mins(10)).to_string(), at(rig, mins(10)));
        let catalogue = rig.store().catalogue().clone();
        for nth in 0..count {
            let job = callsheet::JobName::new(format!("shot {nth:05}")).expect("a good name");
            let change = CatalogueChange::put(uuid::Uuid::new_v4(), job, &*text).due_at(Some(due));
            assert!(matches!(catalogue.change(&change).await, Ok(Changed::Done(_))));
        }
        rig.advance(mins(9)).await;
        let gauge = rig.gauge("callsheet_jobs", "");
        assert!(gauge <= (2 * ONE_SHOTS_HELD_MAX) as f64, "{gauge} on two nodes");

        rig.advance(mins(30)).await;

        let mut said = done.take();
        said.sort();
        said.dedup();
        assert_eq!((said.len(), in_store(rig).len()), (count, 0));
    });
}

/// Its runs do not end.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Hang {
    text: String,
}

impl Task for Hang {
    const NAME: &'static str = "hang";
    type State = ();

    async fn run(self, _: Run, (): ()) -> RunResult {
        std::future::pending().await
    }
}

fn hang(nth: usize) -> callsheet::JobName {
    callsheet::JobName::new(format!("hangs {nth:05}")).expect("a good name")
}

/// So many that are due in a minute, and do not end.
async fn hang_in_a_minute(rig: &Rig, count: usize, text: &str) {
    let task = json!({"name": "hang", "arguments": {"text": text}});
    let due = at(rig, mins(1));
    let json = json!({"schedule": {"at": [due]}, "task": task, "remove_when_done": true}).to_string();
    for nth in 0..count {
        let change = CatalogueChange::put(uuid::Uuid::new_v4(), hang(nth), &*json).due_at(Some(due));
        let changed = rig.store().catalogue().clone().change(&change).await;
        assert!(matches!(changed, Ok(Changed::Done(_))));
    }
}

#[test]
fn thousands_of_one_shots_that_do_not_end_stop_no_other() {
    simulate(START, async |rig| {
        let done = Done::default();
        rig.node(node(&done).task::<Hang>(())).await;
        rig.advance(secs(1)).await;
        hang_in_a_minute(rig, ONE_SHOTS_HELD_MAX * 4 / 5, "").await;
        for (job, after) in [("at once", mins(1)), ("later", mins(3))] {
            remind(rig, 0, job, after).await;
        }

        rig.advance(mins(5)).await;

        assert_eq!(done.take(), ["at once: hello", "later: hello"]);
        assert_eq!(rig.started(hang(0).as_str()), 1);
    });
}

#[test]
fn one_shots_for_which_a_node_has_no_room_are_a_problem_until_they_run() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        let done = Done::default();
        rig.node(node(&done).task::<Hang>(())).await;
        rig.advance(secs(1)).await;
        let text = "x".repeat(65_000);
        let count = (ONE_SHOTS_LINGERING_BYTES_MAX + ONE_SHOTS_HELD_BYTES_MAX) / text.len();
        hang_in_a_minute(rig, count, &text).await;
        remind(rig, 0, "waits", mins(2)).await;
        let since = at(rig, mins(1));

        rig.advance(mins(5)).await;

        let behind = async |rig: &mut Rig| {
            let problems = rig.send(0, Health).await.problems;
            problems.into_iter().find_map(|problem| match problem {
                Problem::OneShotsBehind { since } => Some(since),
                _ => None,
            })
        };
        let told = behind(rig).await.expect("it is told");
        assert!((told - since).abs() < TimeDelta::seconds(1), "{told}, and not {since}");
        assert_eq!(done.take(), [""; 0]);

        for nth in 0..count / 2 {
            let change = CatalogueChange::delete(uuid::Uuid::new_v4(), hang(nth));
            let changed = rig.store().catalogue().clone().change(&change).await;
            assert!(matches!(changed, Ok(Changed::Done(_))));
        }
        rig.advance(mins(1)).await;

        assert_eq!((done.take(), behind(rig).await), (vec!["waits: hello".into()], None));
    });
}
