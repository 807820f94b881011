//! What cannot be read, or run here, is parked with the reason; everything else runs.

use chrono::DateTime;

use super::*;

/// As somebody writes it who edits the store by hand.
fn edit(rig: &Rig, job: &str, definition: &str) {
    let mut row = CatalogueRow::new(job, 0, DateTime::UNIX_EPOCH);
    row.definition = Some(definition.into());
    rig.store().catalogue().write(row);
}

#[test]
fn bad_stored_data_parks_its_job_with_the_reason_and_everything_else_runs() {
    let newer = json!({"schedule": {"every": "1h"}, "task": {"name": "say"}, "colour": "blue"}).to_string();
    let table = [
        ("no json", "{", "EOF while parsing an object"),
        ("newer", &newer, "colour: unknown field `colour`"),
        (
            "no task",
            &says("x").to_string().replace("\"say\"", "\"sing\""),
            "no task of this name is registered",
        ),
        ("arguments", &says("x").to_string().replace("\"x\"", "5"), "what: invalid type: integer `5`"),
        ("schedule", &says("x").to_string().replace("1h", "1x"), "`x` is not a unit"),
        (
            "policy",
            &says("x").to_string().replace("{\"schedule\"", "{\"policies\":{\"limit\":0},\"schedule\""),
            "limit",
        ),
        ("bad\u{7}name", &says("x").to_string(), "control characters"),
    ];
    simulate(START, async |rig| {
        let done = Done::default();
        let index = rig.node(node(&done)).await;
        put(rig, index, "good", says("hello")).await;
        for (job, definition, _) in table {
            edit(rig, job, definition);
        }

        rig.advance(hours(1)).await;

        assert_eq!(
            (done.take(), held(rig, index).await),
            (vec!["good: hello".to_owned()], vec!["good".to_owned()])
        );
        let page = rig.send(index, ListStored::default()).await.expect("it answers");
        for (job, _, told) in table {
            let found = page.jobs.iter().find(|stored| &*stored.job == job).expect("it is listed");
            let StoredHere::Parked { reason } = &found.here else { panic!("{job}: {found:?}") };
            assert!(reason.contains(told), "{job}: {reason}");
        }
        let health = rig.send(index, callsheet::Health).await;
        let told: Vec<_> = health.problems.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|problem| problem.contains("7 stored jobs")), "{told:?}");
    });
}

#[test]
fn a_job_that_is_mended_runs_and_one_that_is_broken_by_hand_stops() {
    simulate(START, async |rig| {
        let done = Done::default();
        let index = rig.node(node(&done)).await;
        put(rig, index, "report", says("hello")).await;

        edit(rig, "report", "{}");
        rig.advance(hours(1)).await;
        assert_eq!((done.take(), held(rig, index).await), (Vec::new(), Vec::new()));

        put(rig, index, "report", says("again")).await;
        rig.advance(hours(1)).await;
        assert_eq!(done.take(), ["report: again"]);
        assert!(rig.send(index, callsheet::Health).await.healthy, "nothing is parked any more");
    });
}

#[test]
fn a_definition_that_is_wrong_is_not_stored() {
    simulate(START, async |rig| {
        let index = rig.node(node(&Done::default())).await;
        let code = Job::new("code", every(hours(1))).run(async |_| {});
        rig.send(index, AddJob::new(code)).await.expect("it is right");
        let mut limit = says("x");
        limit["policies"] = json!({"limit": 0});
        let mut task = says("x");
        task["task"]["name"] = json!("sing");
        for (job, json, told) in [
            ("report", limit, "job \"report\": limit \"0\""),
            ("report", task, "job \"report\": task \"sing\": no task of this name is registered"),
            ("code", says("x"), "job name \"code\": a job of code has this name on this node"),
            (" report", says("x"), "job name \" report\": a name neither starts nor ends with white space"),
        ] {
            let refused = rig.send(index, PutJob::new(job, &stored(json))).await.expect_err(told);

            assert!(refused.to_string().starts_with(told), "{refused}");
            assert_eq!(refused.kind(), ErrorKind::Invalid);
        }
        assert_eq!(rig.send(index, ListStored::default()).await.expect("it answers").jobs, []);
    });
}

#[test]
fn a_job_runs_only_where_its_task_is() {
    simulate(START, async |rig| {
        let done = Done::default();
        let without = rig.node(Callsheet::builder()).await;
        rig.advance(secs(1)).await;
        let with = rig.node(node(&done)).await;

        put(rig, with, "report", says("hello")).await;
        rig.advance(hours(2) + mins(1)).await;

        assert_eq!(rig.store().leader(), Some(rig.id(without)), "it leads, and cannot run it");
        assert!(matches!(here(rig, without, "report").await, StoredHere::Parked { .. }));
        assert_eq!(done.take(), ["report: hello", "report: hello"], "the other one does");
    });
}

#[test]
fn a_job_whose_name_or_key_code_has_runs_once_that_is_free() {
    simulate(START, async |rig| {
        let done = Done::default();
        let code = |name: &str| Job::new(name, every(hours(100))).run(async |_| {});
        let has_name = rig.node(node(&done).job(code("report"))).await;
        rig.advance(secs(1)).await;
        let other = rig.node(node(&done)).await;
        put(rig, other, "report", says("hello")).await;
        rig.advance(secs(1)).await;
        assert!(matches!(here(rig, has_name, "report").await, StoredHere::Parked { .. }));

        rig.send(has_name, RemoveJobs::new("report")).await.expect("it is code");
        rig.advance(secs(1)).await;

        assert_eq!(here(rig, has_name, "report").await, StoredHere::Held);
        assert!(rig.send(has_name, callsheet::Health).await.healthy, "nothing is parked any more");
    });
}
