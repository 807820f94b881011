//! What becomes of an input that the actor of a job did not live to handle.
//!
//! | the input | another actor has taken the job over | nobody has |
//! |---|---|---|
//! | resumes, suspends, wakes the job | means nothing: whoever starts an actor again also resumes it | the same |
//! | a claim was granted | is handed on | the run ends: it was not started |
//! | a body ended | is handed on | the run ends as its body did |
//! | a permit was granted | is handed on | the permit goes back |
//! | anything else | is handed on | means nothing |

use std::time::Duration;

use crate::{
    core::job::{BodyEnd, BodyEnded, Input, PermitAnswer, RunEnded},
    event::{CancelReason, Outcome},
    name::RunId,
    port::Verdict,
};

/// What becomes of an input.
#[derive(Debug)]
pub(crate) enum Fate {
    /// The actor that has taken the job over gets it.
    HandOn(Input),
    /// The end of a run is to be recorded: nobody else will say it.
    Conclude {
        /// How it ended.
        ended: RunEnded,
        /// Its body ran, with a permit of its own.
        had_body: bool,
    },
    /// A permit is to go back.
    ReleasePermit,
    /// It means nothing any more.
    Nothing,
}

impl Fate {
    /// Of an input to a job which another actor `is_taken_over` by, or nobody.
    pub(crate) fn of(input: Input, is_taken_over: bool) -> Self {
        match input {
            Input::Resume { .. }
            | Input::Park { .. }
            | Input::Suspend
            | Input::Leave { .. }
            | Input::WakeUp
            | Input::ClockMoved
            | Input::Trigger
            | Input::Backfill { .. } => Self::Nothing,
            input if is_taken_over => Self::HandOn(input),
            Input::Claimed { run, verdict: Verdict::Granted { .. } } => {
                let (why, end) = (Some(CancelReason::NotStarted), BodyEnd::Aborted);
                Self::Conclude { ended: ended(run, Outcome::Cancelled, why, end), had_body: false }
            }
            Input::BodyEnded(BodyEnded { run, end, started_at, took }) => {
                let ended = RunEnded { started_at, took, ..ended(run, end.outcome(None), None, end) };
                Self::Conclude { ended, had_body: true }
            }
            Input::Permit(PermitAnswer::Granted) => Self::ReleasePermit,
            Input::Claimed { .. }
            | Input::ClaimRefused { .. }
            | Input::Permit(PermitAnswer::Wait | PermitAnswer::NotAdmitted)
            | Input::Turn
            | Input::Anchored { .. }
            | Input::PendingRetry(_)
            | Input::Pause(_)
            | Input::NotificationsLagged
            | Input::Drain
            | Input::Advanced(_)
            | Input::LockLost { .. }
            | Input::Cancel { .. }
            | Input::Abort => Self::Nothing,
        }
    }
}

fn ended(run: RunId, outcome: Outcome, cancelled: Option<CancelReason>, end: BodyEnd) -> RunEnded {
    let (aborted, recorded) = (false, true);
    RunEnded {
        run,
        facts: None,
        outcome,
        cancelled,
        aborted,
        recorded,
        end,
        started_at: None,
        took: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{core::job::Severity, name::FencingToken, port::Advanced};

    fn run() -> RunId {
        Uuid::from_u128(7).into()
    }

    fn body_ended(end: BodyEnd) -> Input {
        Input::BodyEnded(BodyEnded { run: run(), end, started_at: None, took: Duration::from_secs(3) })
    }

    fn granted() -> Input {
        Input::Claimed { run: run(), verdict: Verdict::Granted { token: FencingToken(1), lost: None } }
    }

    #[test]
    fn what_only_starts_or_stops_an_actor_is_dropped() {
        for is_taken_over in [false, true] {
            let inputs = [Input::WakeUp, Input::Suspend, Input::Trigger, Input::Leave { is_removed: true }];
            for input in inputs {
                assert!(matches!(Fate::of(input, is_taken_over), Fate::Nothing));
            }
        }
    }

    #[test]
    fn whoever_takes_the_job_over_gets_the_rest() {
        let inputs = [
            granted(),
            body_ended(BodyEnd::Returned),
            Input::Permit(PermitAnswer::Granted),
            Input::Permit(PermitAnswer::Wait),
            Input::Advanced(Advanced::Done),
            Input::LockLost { run: run() },
            Input::Pause(None),
            Input::Drain,
        ];
        for input in inputs {
            assert!(matches!(Fate::of(input, true), Fate::HandOn(_)));
        }
    }

    #[test]
    fn a_grant_that_nobody_takes_ends_as_not_started() {
        let Fate::Conclude { ended, had_body } = Fate::of(granted(), false) else { panic!("it ends") };

        assert_eq!((ended.run, ended.outcome, had_body), (run(), Outcome::Cancelled, false));
        assert_eq!((ended.cancelled, ended.recorded), (Some(CancelReason::NotStarted), true));
    }

    #[test]
    fn an_end_that_nobody_takes_is_what_the_body_made_of_it() {
        let failed = BodyEnd::Failed { error: "no paper".into(), severity: Severity::Transient };
        let cases = [
            (BodyEnd::Returned, Outcome::Succeeded),
            (failed, Outcome::Failed),
            (BodyEnd::Panicked("boo".into()), Outcome::Panicked),
            (BodyEnd::Aborted, Outcome::Cancelled),
            (BodyEnd::BetweenAttempts, Outcome::Cancelled),
            (BodyEnd::NotStarted { veto: None }, Outcome::Cancelled),
        ];
        for (end, expected) in cases {
            let Fate::Conclude { ended, had_body } = Fate::of(body_ended(end), false) else {
                panic!("it ends")
            };
            assert_eq!((ended.outcome, had_body, ended.took), (expected, true, Duration::from_secs(3)));
        }
    }

    #[test]
    fn a_permit_that_nobody_takes_goes_back_and_other_answers_mean_nothing() {
        assert!(matches!(Fate::of(Input::Permit(PermitAnswer::Granted), false), Fate::ReleasePermit));
        for input in [Input::Permit(PermitAnswer::Wait), Input::Abort, Input::Advanced(Advanced::Done)] {
            assert!(matches!(Fate::of(input, false), Fate::Nothing));
        }
    }
}
