//! One value of each variant, and answers that have everything in them.

use super::*;

pub(super) fn misfires() -> Vec<Misfire> {
    every![
        Misfire::Auto => Misfire::Auto,
        Misfire::Latest { .. } => Misfire::Latest { within: Duration::from_hours(1) },
        Misfire::All { .. } => Misfire::All { max: 10, within: Duration::from_millis(1_500) },
        Misfire::Skip => Misfire::Skip,
    ]
}

pub(crate) fn overlaps() -> Vec<Overlap> {
    every![
        Overlap::Skip => Overlap::Skip,
        Overlap::Queue(_) => Overlap::Queue(3),
        Overlap::Replace => Overlap::Replace,
        Overlap::Allow(_) => Overlap::Allow(2),
    ]
}

pub(super) fn fires() -> Vec<Fires> {
    every![Fires::Leader => Fires::Leader, Fires::AnyNode => Fires::AnyNode, Fires::Local => Fires::Local]
}

pub(super) fn on_lost() -> Vec<OnLost> {
    every![OnLost::Record => OnLost::Record, OnLost::Retry => OnLost::Retry]
}

pub(super) fn skip_reasons() -> Vec<SkipReason> {
    every![
        SkipReason::Misfire => SkipReason::Misfire,
        SkipReason::Overlap => SkipReason::Overlap,
        SkipReason::Paused => SkipReason::Paused,
        SkipReason::Concurrency => SkipReason::Concurrency,
        SkipReason::Parked => SkipReason::Parked,
        SkipReason::Removed => SkipReason::Removed,
        SkipReason::Operator => SkipReason::Operator,
        SkipReason::Unproven => SkipReason::Unproven,
        SkipReason::Contended => SkipReason::Contended,
    ]
}

pub(super) fn outcomes() -> Vec<Outcome> {
    every![
        Outcome::Succeeded => Outcome::Succeeded,
        Outcome::Failed => Outcome::Failed,
        Outcome::Panicked => Outcome::Panicked,
        Outcome::TimedOut => Outcome::TimedOut,
        Outcome::Cancelled => Outcome::Cancelled,
        Outcome::Lost => Outcome::Lost,
    ]
}

pub(super) fn phases() -> Vec<RunPhase> {
    every![
        RunPhase::WaitingForPermit => RunPhase::WaitingForPermit,
        RunPhase::Attempting => RunPhase::Attempting,
        RunPhase::WaitingForRetry => RunPhase::WaitingForRetry,
        RunPhase::Stopping => RunPhase::Stopping,
        RunPhase::StillRunning => RunPhase::StillRunning,
    ]
}

pub(super) fn states() -> Vec<JobState> {
    every![
        JobState::Scheduled => JobState::Scheduled,
        JobState::Standby => JobState::Standby,
        JobState::Paused => JobState::Paused,
        JobState::Running => JobState::Running,
        JobState::StillRunning => JobState::StillRunning,
        JobState::Exhausted => JobState::Exhausted,
        JobState::Conflicting => JobState::Conflicting,
        JobState::Parked => JobState::Parked,
        JobState::Broken => JobState::Broken,
        JobState::Unresponsive => JobState::Unresponsive,
        JobState::Removed => JobState::Removed,
    ]
}

pub(super) fn roles() -> Vec<Role> {
    every![Role::Local => Role::Local, Role::Leader => Role::Leader, Role::Follower => Role::Follower]
}

pub(crate) fn problems() -> Vec<Problem> {
    let since = at("2026-01-01T00:00:00.123Z");
    let jobs = || ProblemJobs { first: vec![job("a"), job("b")], count: 7 };
    every![
        Problem::Stalled { .. } => Problem::Stalled { part: Part::Jobs, since },
        Problem::ShuttingDown => Problem::ShuttingDown,
        Problem::NoSession { .. } => Problem::NoSession { reason: Some("connection refused".into()), since },
        Problem::StoreSilent { .. } => Problem::StoreSilent { since },
        Problem::Obstructed { .. } => Problem::Obstructed { reason: "it is held".into(), cure: "end it".into(), since },
        Problem::LeaseTooShort { .. } => Problem::LeaseTooShort { reason: "a round trip takes 1s".into(), since },
        Problem::NoLeader { .. } => Problem::NoLeader { since },
        Problem::OperationFailing { .. } => Problem::OperationFailing {
            operation: Operation::Claim,
            reason: "permission denied".into(),
            cure: Some("grant it".into()),
            since,
            last: at("2026-01-01T00:00:10Z"),
            count: 3,
        },
        Problem::TicksUndecided { .. } => Problem::TicksUndecided { jobs: jobs(), since },
        Problem::TicksUndecidedOnLeader { .. } => Problem::TicksUndecidedOnLeader { since },
        Problem::Overdue { .. } => Problem::Overdue {
            jobs: vec![OverdueJob { job: job("a"), expectation: Expectation::Success, since }],
            count: 7,
        },
        Problem::Failing { .. } => Problem::Failing {
            jobs: vec![FailingJob { job: job("a"), failures: 3, since }],
            count: 7,
        },
        Problem::Undecided { .. } => Problem::Undecided { since },
        Problem::Broken { .. } => Problem::Broken { jobs: jobs() },
        Problem::Parked { .. } => Problem::Parked { jobs: jobs() },
        Problem::StoredParked { .. } => Problem::StoredParked { jobs: jobs() },
        Problem::OneShotsBehind { .. } => Problem::OneShotsBehind { since },
        Problem::Conflicting { .. } => Problem::Conflicting { jobs: jobs() },
        Problem::BodiesBlocked { .. } => Problem::BodiesBlocked { threads: BodyThreads::Local, since },
    ]
}

pub(super) fn policies() -> Policies {
    Policies {
        fires: Fires::AnyNode,
        overlap: Overlap::Queue(3),
        misfire: Misfire::All { max: 10, within: Duration::from_hours(1) },
        on_lost: OnLost::Retry,
        misfire_after: Duration::from_millis(1_500),
        retry: Retry {
            attempts: 3,
            initial: Duration::from_secs(2),
            factor: 1.5,
            max: Duration::from_mins(1),
            jitter: 0.5,
        },
        timeout: Some(Duration::from_mins(90)),
        abort_after: Duration::ZERO,
        limit: Some(1_000),
        pause_after: Some(5),
        priority: -1,
    }
}

pub(super) fn active_run() -> ActiveRunStatus {
    ActiveRunStatus {
        run: run(),
        fire_time: None,
        started_at: at("2026-01-01T00:00:00.123456789Z"),
        attempt: 2,
        phase: RunPhase::Stopping,
        cancelled: Some(CancelReason::Requested),
        reported: Reported {
            report: Some("1,204 rows".into()),
            measures: vec![Measure::new("rows", 1_204.5)],
            progress: Some(0.25),
        },
    }
}

pub(super) fn status(state: JobState) -> JobStatus {
    JobStatus {
        scheduled: Some(crate::Scheduled::OtherSchedule),
        name: job("mail"),
        backend: Some("critical".into()),
        schedule: "every 5m".into(),
        timezone: Some("Europe/Lisbon".into()),
        lock_key: LockKey::new("smtp").expect("a good name"),
        tags: vec![Tag::new("slow").expect("a good name")],
        policies: policies(),
        state,
        next_fire_time: Some(FireTime::new(at("2026-01-01T00:05:00Z"))),
        pause: Some(Pause::until(at("2026-01-02T00:00:00Z")).note("maintenance").by(By::new("alice").ok())),
        active_runs: vec![active_run()],
        former_runs: vec![ActiveRunStatus {
            phase: RunPhase::Attempting,
            cancelled: None,
            reported: Reported::default(),
            ..active_run()
        }],
        waiting: 4,
        last_runs: vec![LastRunStatus {
            run: run(),
            outcome: Outcome::TimedOut,
            started_at: at("2026-01-01T00:00:00Z"),
            took: Duration::from_micros(1_500),
        }],
        failures: 1,
        conflicting: Some("another policy".into()),
        parked: Some("its name".into()),
        broken: Some("it panicked".into()),
        held: Some(HeldStatus {
            count: 2,
            oldest: FireTime::new(at("2026-01-01T00:00:00Z")),
            newest: FireTime::new(at("2026-01-01T00:05:00Z")),
            reason: SkipReason::Paused,
        }),
        task: Some(crate::TaskCall::new("send", crate::Arguments::of(&[1]).expect("they are short"))),
        stored: Some(7),
        overridden: Some(crate::ScheduleOverride {
            code: "every 1h".into(),
            schedule: "every 5m".into(),
            by: By::new("alice").ok(),
            since: at("2026-01-01T00:00:00Z"),
            note: crate::Note::new("quiet hours").ok(),
            version: 8,
        }),
    }
}
