//! What every history does.

mod decisions;
mod retention;
mod runs;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{reported::Measure, time::FireTime},
    event::Outcome,
    name::{By, FencingToken, JobName, NodeId, RunId, RunIds, Term},
    port::{
        AskGaps, AttemptRecord, BackfillId, Batch, Decision, DecisionRecord, Decisions, EndedRun, History,
        Holder, JobHistory, JobOperation, JobRecord, LastEnds, OperationRecord, Operations, Pause,
        PauseChange, RecordsOf, Retention, RunHistory, RunOrigin, RunRecord, SkipReason,
    },
};

/// Checks a history that is empty: what is written is answered whole, in order, page by page; one record of a
/// run; the row of a job; what pruning keeps.
///
/// # Panics
///
/// If a check fails.
pub async fn history(history: &dyn History) {
    let check = Check { history, node: NodeId::numbered(7), ids: RunIds::of(NodeId::numbered(7)) };
    check.a_record_is_answered_as_it_was_written().await;
    check.runs_are_answered_page_by_page_the_newest_first().await;
    check.runs_are_selected_by_job_outcome_and_time().await;
    check.runs_are_selected_by_fire_time().await;
    check.there_is_one_record_of_a_run().await;
    check.a_loss_keeps_what_was_known_of_its_run().await;
    check.a_loss_that_is_written_late_does_not_hide_the_retry().await;
    check.the_row_of_a_job_counts_each_run_once().await;
    check.the_last_ends_of_many_jobs_are_those_of_their_rows().await;
    check.the_first_pause_is_kept_until_the_job_is_resumed().await;
    check.a_pause_that_is_over_gives_way_to_the_next_one().await;
    check.a_pause_that_is_written_late_does_not_undo_a_later_resumption().await;
    check.a_decision_that_is_counted_on_takes_the_place_of_the_former_one().await;
    check.decisions_about_all_jobs_are_about_each().await;
    check.operations_are_answered_page_by_page().await;
    check.two_operations_of_one_instant_are_two_records().await;
    check.what_is_old_goes_and_failures_stay_longer().await;
    check.a_run_is_as_old_as_its_end().await;
    check.so_many_runs_of_an_outcome_stay_of_a_job().await;
    check.what_was_dropped_is_told_of_its_time().await;
}

struct Check<'a> {
    history: &'a dyn History,
    node: NodeId,
    ids: RunIds,
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn job(name: &str) -> JobName {
    JobName::new(name).expect("a good name")
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Check<'_> {
    /// A run that was asked for at an instant, and ended so a second later.
    fn run(&self, name: &str, asked_at: DateTime<Utc>, outcome: Outcome) -> RunRecord {
        RunRecord {
            origin: RunOrigin::Tick,
            fire_time: Some(FireTime::new(asked_at)),
            started_at: Some(asked_at),
            ended_at: Some(asked_at + TimeDelta::seconds(1)),
            took: Some(Duration::from_secs(1)),
            outcome: Some(outcome),
            ..RunRecord::new(job(name), self.ids.next(asked_at), self.node)
        }
    }

    async fn write(&self, batch: Batch) {
        self.history.write(&batch).await.expect("it is written");
    }

    async fn write_runs(&self, runs: impl IntoIterator<Item = RunRecord>) {
        self.write(Batch { runs: runs.into_iter().collect(), ..Batch::default() }).await;
    }

    async fn write_decisions(&self, decisions: impl IntoIterator<Item = DecisionRecord>) {
        self.write(Batch { decisions: decisions.into_iter().collect(), ..Batch::default() }).await;
    }

    async fn runs(&self, asked: RunHistory) -> Vec<RunRecord> {
        let page = self.history.runs(&asked).await.expect("an answer");
        assert_eq!(page.next, None, "all of it is one page");
        page.runs
    }

    async fn job(&self, name: &str) -> JobRecord {
        self.history.job(&JobHistory(job(name))).await.expect("an answer").expect("it is known")
    }
}
