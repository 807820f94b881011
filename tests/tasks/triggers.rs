//! A trigger may carry arguments of its own.

use callsheet::{
    By, CancelReason, EventKind, JobOperation, OnLost, Operations, Origin, Outcome, Retry, RunHistory,
    RunOrigin, TriggerJob,
};

use chrono::{DateTime, Utc};

use super::*;
use crate::common::{mins, starts};

fn with(to: &str) -> TriggerJob {
    TriggerJob::new("report").arguments(&SendReport::to(to))
}

#[test]
fn a_run_has_the_arguments_of_its_trigger_and_the_job_keeps_its_own() {
    simulate(START, async |rig| {
        let done = Done::default();
        let index = rig.node(node(&done, [report("alice")])).await;

        rig.send(index, with("bob")).await.expect("they are right");
        rig.send(index, TriggerJob::new("report")).await.expect("nothing runs");
        rig.advance(hours(1)).await;

        assert_eq!(done.take(), ["report: 2 for bob", "report: 2 for alice", "report: 2 for alice"]);
        let shown = details(rig, index, "report").await.task.expect("it runs one");
        assert_eq!(shown.arguments.as_str(), r#"{"copies":2,"to":"alice"}"#);
    });
}

#[test]
fn each_attempt_of_a_run_has_the_arguments_of_its_trigger() {
    simulate(START, async |rig| {
        let done = Done::default();
        let retry = Retry::attempts(3).initial(secs(1)).jitter(0.0);
        let index = rig.node(node(&done, [report("alice").retry(retry)])).await;

        rig.send(index, with("nobody")).await.expect("they are right");
        rig.advance(mins(1)).await;

        assert_eq!(done.take(), ["report: 2 for nobody", "report: 2 for nobody"]);
    });
}

#[test]
fn a_trigger_with_arguments_that_do_not_fit_starts_nothing() {
    simulate(START, async |rig| {
        let done = Done::default();
        let code = Job::new("code", every(hours(1))).run(async |_| {});
        let index = rig.node(node(&done, [report("alice"), code])).await;
        let table = [
            (
                TriggerJob::new("report").arguments(&json!({"copies": 1})),
                "job \"report\": arguments of task \"send_report\" \"{\\\"copies\\\":1}\": missing field `to`; write them \
                 as the task's JSON Schema says",
            ),
            (
                TriggerJob::new("code").arguments(&json!({"to": "bob"})),
                "job \"code\": arguments \"{\\\"to\\\":\\\"bob\\\"}\": its body is code, which takes no arguments; trigger \
                 it without, or have it run a task",
            ),
        ];
        for (asked, told) in table {
            let refused = rig.send(index, asked).await.map(|run| run.run());

            let error = refused.expect_err(told);
            assert_eq!((error.to_string(), error.kind()), (told.to_owned(), callsheet::ErrorKind::Invalid));
        }
        assert_eq!(done.take(), [""; 0]);
    });
}

#[test]
fn the_history_says_that_a_trigger_carried_arguments_of_its_own() {
    simulate(START, async |rig| {
        let done = Done::default();
        let index = rig.node(node(&done, [report("alice")])).await;
        rig.advance(hours(1)).await;
        let tick: DateTime<Utc> = "2026-01-05T01:00:00Z".parse().expect("an instant");
        let alice = By::new("alice").expect("a good name");

        let own =
            rig.send(index, with("bob").fire_time(tick).by(alice.clone())).await.expect("it starts").run();
        let plain = rig.send(index, TriggerJob::new("report")).await.expect("it starts").run();
        rig.advance(secs(1)).await;

        assert_eq!((own.has_own_arguments(), plain.has_own_arguments()), (true, false));
        let runs = rig.send(index, RunHistory::new()).await.expect("it is kept").runs;
        let origin = |run| runs.iter().find(|record| record.run == run).map(|record| record.origin.clone());
        assert_eq!(origin(own), Some(RunOrigin::Trigger { by: Some(alice), own_arguments: true }));
        assert_eq!(origin(plain), Some(RunOrigin::Trigger { by: None, own_arguments: false }));
        let json = serde_json::to_value(origin(plain)).expect("it is data");
        assert_eq!(json, json!({"kind": "trigger", "by": null}), "what is not there is left out");
        let operations = rig.send(index, Operations::new()).await.expect("it is kept").operations;
        let triggered = operations.iter().filter(|one| one.operation == JobOperation::Triggered);
        let details: Vec<_> = triggered.map(|one| one.detail.as_deref()).collect();
        let told = r#"for 2026-01-05T01:00:00Z, with the arguments {"copies":2,"to":"bob"}"#;
        assert_eq!(details, [None, Some(told)]);

        let explained = rig.send(index, callsheet::Explain::new("report", tick)).await.expect("it is kept");
        let explained = explained.to_string();
        assert!(explained.contains(told), "{explained}");
        assert!(explained.contains("triggered by alice with arguments of its own"), "{explained}");
    });
}

/// The store keeps the run, and not its arguments: with those of the job it would do something else.
#[test]
fn a_lost_run_with_arguments_of_its_own_does_not_go_on() {
    simulate(START, async |rig| {
        let done = Done::default();
        let job = || report("alice").on_lost(OnLost::Retry);
        for _ in 0..2 {
            rig.node(node(&done, [job()])).await;
        }
        rig.advance(secs(1)).await;
        let own = rig.send(1, with("somebody far away")).await.expect("it starts").run();
        rig.advance(mins(1)).await;
        assert_eq!(done.take(), ["report: 2 for somebody far away"]);

        rig.kill(1);
        rig.advance(mins(58)).await;

        assert_eq!(done.take(), [""; 0], "nobody runs it with the job's arguments");
        let lost = |kind: &EventKind| matches!(kind, EventKind::RunLost { run, .. } if *run == own);
        assert_eq!(rig.count(lost), 1);
        let runs = rig.send(0, RunHistory::new()).await.expect("it is kept").runs;
        let outcome = runs.iter().find(|record| record.run == own).and_then(|record| record.outcome);
        assert_eq!(outcome, Some(Outcome::Lost), "nobody cancelled it");
        let closed = |kind: &EventKind| matches!(kind, EventKind::RunCancelled { run, why: CancelReason::NotStarted, .. } if *run == own);
        assert_eq!(rig.count(closed), 1, "its retry is pending no more");
        let lost = rig.send(0, RunHistory::new().outcome(Outcome::Lost)).await.expect("it is kept").runs;
        assert_eq!(lost.iter().map(|record| record.run).collect::<Vec<_>>(), [own]);
        rig.advance(mins(2)).await;
        assert_eq!(done.take(), ["report: 2 for alice"], "the job goes on");
        assert_eq!(starts(rig, "report").len(), 2);
    });
}

#[test]
fn a_body_reads_the_arguments_of_its_trigger_in_its_origin() {
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Shows;

    impl Task for Shows {
        const NAME: &'static str = "shows";
        type State = Done;

        async fn run(self, run: Run, done: Done) -> RunResult {
            if let Origin::Trigger { task, .. } = run.origin() {
                done.note(format!("{task:?}"));
            }
            Ok(())
        }
    }

    simulate(START, async |rig| {
        let done = Done::default();
        let job = Job::new("shows", every(hours(1))).run_task(Shows);
        let index = rig.node(node_with([job]).task::<Shows>(done.clone())).await;

        rig.send(index, TriggerJob::new("shows").arguments(&Shows)).await.expect("it starts");
        rig.send(index, TriggerJob::new("shows")).await.expect("it starts");
        rig.advance(secs(1)).await;

        assert_eq!(done.take(), ["Some(TaskCall { name: \"shows\", arguments: Arguments(null) })", "None"]);
    });
}
