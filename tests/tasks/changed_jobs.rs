//! Arguments of a trigger are for the task that its job ran when they were given.

use callsheet::{Outcome, Overlap, Retry, RunHistory, RunId, TriggerJob};

use super::*;
use crate::common::mins;

/// Reads whatever it is given, and does something else with it.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Purge {
    #[serde(default)]
    copies: u32,
}

impl Task for Purge {
    const NAME: &'static str = "purge";
    type State = Done;

    async fn run(self, _: Run, done: Done) -> RunResult {
        done.note(format!("purged {}", self.copies));
        Ok(())
    }
}

/// A job, before it is said what it runs, whose runs wait: five minutes before their second attempt, and one for
/// another.
fn waiting() -> Job<Bodiless> {
    let retry = Retry::attempts(2).initial(mins(5)).jitter(0.0);
    Job::new("report", every(hours(24))).overlap(Overlap::Queue(5)).retry(retry)
}

/// How a run ended, and why.
async fn end(rig: &mut Rig, node: usize, run: RunId) -> (Option<Outcome>, Option<String>) {
    let runs = rig.send(node, RunHistory::new()).await.expect("it is kept").runs;
    let record = runs.into_iter().find(|record| record.run == run).expect("it is recorded");
    (record.outcome, record.error.map(|error| error.to_string()))
}

#[test]
fn arguments_of_a_trigger_never_reach_what_its_job_runs_since() {
    let named = |name: &str| Some(format!("task {name:?}"));
    let table = [
        (waiting().run_task(Purge { copies: 9 }), named("purge")),
        (waiting().run(async |_| {}), Some("code".to_owned())),
        (waiting().run_task(SendReport::to("carol")), None),
    ];
    for (changed, runs_since) in table {
        simulate(START, async |rig| {
            let done = Done::default();
            let job = waiting().run_task(SendReport::to("alice"));
            let index = rig.node(node(&done, [job]).task::<Purge>(done.clone())).await;
            let own = |to: &str| TriggerJob::new("report").arguments(&SendReport::to(to));
            let retried = rig.send(index, own("nobody")).await.expect("it starts").run();
            let queued = rig.send(index, own("bob")).await.expect("it waits").run();
            let plain = rig.send(index, TriggerJob::new("report")).await.expect("it waits").run();
            rig.advance(mins(1)).await;
            assert_eq!(done.take(), ["report: 2 for nobody"], "the first attempt");

            rig.send(index, UpdateJob::new(changed.clone())).await.expect("it is right");
            rig.advance(mins(30)).await;

            let ran = done.take();
            assert_eq!(
                end(rig, index, plain).await,
                (Some(Outcome::Succeeded), None),
                "it has none of its own"
            );
            let Some(runs_since) = &runs_since else {
                assert_eq!(ran, ["report: 2 for nobody", "report: 2 for bob", "report: 2 for carol"]);
                return;
            };
            let expected: &[&str] = if runs_since == "code" { &[] } else { &["purged 9"] };
            assert_eq!(ran, expected, "the one without");
            for (run, to) in [(retried, "nobody"), (queued, "bob")] {
                let why = format!(
                    "own arguments of the run \"{{\\\"copies\\\":2,\\\"to\\\":\\\"{to}\\\"}}\": they are for task \
                     \"send_report\", and the job was changed to run {runs_since}; trigger it again, with arguments \
                     for what it runs now"
                );
                assert_eq!(end(rig, index, run).await, (Some(Outcome::Failed), Some(why)));
            }
        });
    }
}
