//! The names of the series, and what a scraper is told of each.

use metrics::Unit;

pub(super) const JOBS: &str = "callsheet_jobs";
pub(super) const TICKS_DUE: &str = "callsheet_ticks_due_total";
pub(super) const TICKS: &str = "callsheet_ticks_total";
pub(super) const TICKS_HELD: &str = "callsheet_ticks_held";
pub(super) const TICKS_ELSEWHERE: &str = "callsheet_ticks_elsewhere_total";
pub(super) const JOB_OVERDUE: &str = "callsheet_job_overdue";
pub(super) const JOB_LAST_SUCCESS: &str = "callsheet_job_last_success_timestamp_seconds";
pub(super) const JOB_LAST_RUN: &str = "callsheet_job_last_run_timestamp_seconds";
pub(super) const JOB_NEXT_FIRE: &str = "callsheet_job_next_fire_timestamp_seconds";
pub(super) const JOB_FAILURES: &str = "callsheet_job_consecutive_failures";
pub(super) const JOB_STATE: &str = "callsheet_job_state";
pub(super) const JOB_PAUSED: &str = "callsheet_job_paused";
pub(super) const JOB_RUNNING_SINCE: &str = "callsheet_job_running_since_timestamp_seconds";
pub(super) const BACKFILL_REMAINING: &str = "callsheet_backfill_remaining";
pub(super) const JOB_INFO: &str = "callsheet_job_info";
pub(super) const WAITING_TICKS: &str = "callsheet_waiting_ticks";
pub(super) const CATCHING_UP: &str = "callsheet_catching_up_jobs";
pub(super) const OLDEST_UNDECIDED: &str = "callsheet_oldest_undecided_tick_seconds";
pub(super) const LEADER_OVERDUE: &str = "callsheet_leader_overdue";
pub(super) const JOB_SET_DRIFT: &str = "callsheet_job_set_drift";
pub(super) const BUILD_INFO: &str = "callsheet_build_info";
pub(super) const RUNS: &str = "callsheet_runs_total";
pub(super) const RUN_RETRIES: &str = "callsheet_run_retries_total";
pub(super) const RUN_DURATION: &str = "callsheet_run_duration_seconds";
pub(super) const TICK_LATENESS: &str = "callsheet_tick_lateness_seconds";
pub(super) const RUNS_IN_PROGRESS: &str = "callsheet_runs_in_progress";
pub(super) const LEADER: &str = "callsheet_leader";
pub(super) const CANDIDATE: &str = "callsheet_candidate";
pub(super) const TERM: &str = "callsheet_term";
pub(super) const LEADERSHIP_CHANGES: &str = "callsheet_leadership_changes_total";
pub(super) const CLOCK_OFFSET: &str = "callsheet_clock_offset_seconds";
pub(super) const STORE_ROUND_TRIP: &str = "callsheet_store_round_trip_seconds";
pub(super) const CLOCK_STEPS: &str = "callsheet_clock_steps_total";
pub(super) const SNAPSHOT_AGE: &str = "callsheet_store_snapshot_age_seconds";
pub(super) const CLAIM_DURATION: &str = "callsheet_claim_duration_seconds";
pub(super) const LOCKS_HELD: &str = "callsheet_locks_held";
pub(super) const LOCKS_LOST: &str = "callsheet_locks_lost_total";
pub(super) const HISTORIES_DIVERGED: &str = "callsheet_histories_diverged_total";
pub(super) const COORDINATION_ERRORS: &str = "callsheet_coordination_errors_total";
pub(super) const EVENTS_DROPPED: &str = "callsheet_events_dropped_total";
pub(super) const HISTORY_DROPPED: &str = "callsheet_history_dropped_total";
pub(super) const HOOKS_FAILED: &str = "callsheet_hooks_failed_total";
pub(super) const JOB_ACTOR_RESTARTS: &str = "callsheet_job_actor_restarts_total";

/// Tells what each is.
pub(super) fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};

    gauge!(JOBS, Unit::Count, "Jobs that this node has");
    counter!(TICKS_DUE, Unit::Count, "Ticks that were decided: the sum of callsheet_ticks_total");
    counter!(TICKS, Unit::Count, "Ticks by what became of them: started, or the reason of the skip");
    gauge!(TICKS_HELD, Unit::Count, "Ticks that are due and wait for the end of a pause");
    counter!(
        TICKS_ELSEWHERE,
        Unit::Count,
        "Ticks that another node claimed before this one, of jobs that any node may fire"
    );
    gauge!(
        JOB_OVERDUE,
        Unit::Count,
        "1 while the job does not do what is expected of it, else 0; of jobs that share a label, how many"
    );
    gauge!(JOB_LAST_SUCCESS, Unit::Seconds, "When a run succeeded last, in seconds since the epoch");
    gauge!(JOB_LAST_RUN, Unit::Seconds, "When a run ended last, in seconds since the epoch");
    gauge!(JOB_NEXT_FIRE, Unit::Seconds, "The next fire time, in seconds since the epoch; 0: none");
    gauge!(JOB_FAILURES, Unit::Count, "Runs in a row that failed");
    gauge!(
        JOB_STATE,
        Unit::Count,
        "1 for the state of the job on this node, 0 for those in which it was before"
    );
    gauge!(JOB_PAUSED, Unit::Count, "1 while the job is paused, else 0");
    gauge!(
        JOB_RUNNING_SINCE,
        Unit::Seconds,
        "When the first of the runs in progress on this node started, in seconds since the epoch; 0: none"
    );
    gauge!(
        BACKFILL_REMAINING,
        Unit::Count,
        "Runs of backfills that have not ended, as the leader knows; 0 on other nodes"
    );
    gauge!(JOB_INFO, Unit::Count, "1 with the schedule of the job, 0 with a former one");
    gauge!(WAITING_TICKS, Unit::Count, "Ticks and triggers that wait on this node for their turn");
    gauge!(CATCHING_UP, Unit::Count, "Jobs of this node whose missed ticks wait for their turn");
    gauge!(
        OLDEST_UNDECIDED,
        Unit::Seconds,
        "How long ago the first tick was due that this node asked the store about in vain, or that was missed and waits; 0: none"
    );
    gauge!(
        LEADER_OVERDUE,
        Unit::Count,
        "1 while the leader, another node, says that ticks are due and not decided, else 0"
    );
    gauge!(JOB_SET_DRIFT, Unit::Count, "Other nodes that have other jobs in their code than this one");
    gauge!(BUILD_INFO, Unit::Count, "1, with the versions of the library and of the time zone data");
    counter!(RUNS, Unit::Count, "Runs that ended, by outcome");
    counter!(RUN_RETRIES, Unit::Count, "Attempts of runs that failed and were followed by another one");
    histogram!(RUN_DURATION, Unit::Seconds, "From the start of a body to its end");
    histogram!(TICK_LATENESS, Unit::Seconds, "From a tick's fire time to the start of its body");
    gauge!(RUNS_IN_PROGRESS, Unit::Count, "Runs whose body has not ended");
    gauge!(LEADER, Unit::Count, "1 while this node leads, else 0");
    gauge!(CANDIDATE, Unit::Count, "1 while this node leads or is a candidate, else 0");
    gauge!(TERM, Unit::Count, "The newest term that this node won");
    counter!(LEADERSHIP_CHANGES, Unit::Count, "How often this node gained or lost leadership");
    gauge!(
        CLOCK_OFFSET,
        Unit::Seconds,
        "How much this node's clock is ahead of the store's; negative: behind"
    );
    gauge!(STORE_ROUND_TRIP, Unit::Seconds, "The shortest of the last three round trips to the store");
    counter!(CLOCK_STEPS, Unit::Count, "How often this node found that its clock was set or had drifted");
    gauge!(
        SNAPSHOT_AGE,
        Unit::Seconds,
        "Age of the oldest snapshot, which keeps the store from removing dead row versions"
    );
    histogram!(CLAIM_DURATION, Unit::Seconds, "One round trip of claims to the store");
    gauge!(LOCKS_HELD, Unit::Count, "Lock keys that runs of this node hold");
    counter!(LOCKS_LOST, Unit::Count, "Lock keys whose session was lost during the run");
    counter!(
        HISTORIES_DIVERGED,
        Unit::Count,
        "How often the store no longer knew what it had granted to this node"
    );
    counter!(
        COORDINATION_ERRORS,
        Unit::Count,
        "Calls to the store that failed or got no answer, by operation"
    );
    counter!(EVENTS_DROPPED, Unit::Count, "Events that a listener missed because it did not keep up");
    counter!(HISTORY_DROPPED, Unit::Count, "Records of history that were not written");
    counter!(HOOKS_FAILED, Unit::Count, "Calls of hooks that failed, by hook and reason");
    counter!(JOB_ACTOR_RESTARTS, Unit::Count, "Job actors that died and were started again");
}
