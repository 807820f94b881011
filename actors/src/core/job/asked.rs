//! What the store is asked about the ticks and the cursor of a job: one thing at a time.

use std::{cell::Cell, time::Duration};

use super::{
    Advance,
    backlog::Waiting,
    verdicts::{ASK_AGAIN_MAX, ASK_AGAIN_MIN},
};
use crate::{
    core::{backoff::doubled, time::FireTime},
    name::RunId,
    port::{SkipReason, TickClaim},
};

/// What the store is asked, and how often it was asked in vain.
#[derive(Debug, Default)]
pub(super) struct Asked {
    question: Option<Question>,
    /// How often in a row the store did not answer, or did not decide.
    unanswered: u32,
    /// What somebody had skipped here last was decided by another node.
    skipped_in_vain: bool,
}

/// Boxed, so that an idle job is small.
#[derive(Debug)]
enum Question {
    Claim(Box<TickAsked>),
    Advance(Box<Advance>),
}

thread_local! {
    /// The memory of the last claim that was answered on this thread: a store in this process answers within the
    /// step that asks it, and so one is enough for all jobs.
    static ROOM: Cell<Option<Box<TickAsked>>> = const { Cell::new(None) };
}

/// The claim of a tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct TickAsked {
    pub(super) run: RunId,
    pub(super) claim: TickClaim,
    pub(super) waiting: Waiting,
    pub(super) slot: u32,
    /// How late the tick was when it was asked for first.
    pub(super) late_by: Duration,
    /// It is asked only what became of an earlier claim.
    pub(super) only_rechecks: bool,
    /// An earlier claim got no answer, and may have been granted.
    pub(super) doubtful: bool,
    /// The job is paused as far as is known, and no pause was heard of since the claim was made: granted, it
    /// says that the pause is over.
    pub(super) ends_pause: bool,
}

impl Asked {
    pub(super) fn is_nothing(&self) -> bool {
        self.question.is_none()
    }

    /// The claim that is open.
    pub(super) fn claim(&self) -> Option<&TickAsked> {
        match &self.question {
            Some(Question::Claim(asked)) => Some(asked),
            Some(Question::Advance(_)) | None => None,
        }
    }

    pub(super) fn claim_mut(&mut self) -> Option<&mut TickAsked> {
        match &mut self.question {
            Some(Question::Claim(asked)) => Some(asked),
            Some(Question::Advance(_)) | None => None,
        }
    }

    /// The move of the cursor that is open.
    pub(super) fn advance(&self) -> Option<&Advance> {
        match &self.question {
            Some(Question::Advance(asked)) => Some(asked),
            Some(Question::Claim(_)) | None => None,
        }
    }

    /// The newest tick that the answer decides.
    pub(super) fn tick(&self) -> Option<FireTime> {
        match self.question.as_ref()? {
            Question::Claim(asked) => Some(asked.claim.fire_time),
            Question::Advance(asked) => Some(asked.to),
        }
    }

    pub(super) fn ask_claim(&mut self, asked: TickAsked) {
        // A thread that ends keeps none.
        let boxed = match ROOM.try_with(Cell::take).unwrap_or_default() {
            Some(mut room) => {
                *room = asked;
                room
            }
            None => Box::new(asked),
        };
        self.question = Some(Question::Claim(boxed));
    }

    pub(super) fn ask_advance(&mut self, asked: Advance) {
        self.question = Some(Question::Advance(Box::new(asked)));
    }

    /// The question is answered, or is asked no more.
    pub(super) fn close(&mut self) {
        if let Some(Question::Claim(room)) = self.question.take() {
            let _ = ROOM.try_with(|kept| kept.set(Some(room)));
        }
    }

    /// The store has not answered, or not decided, what it was asked last.
    pub(super) fn is_in_vain(&self) -> bool {
        self.unanswered > 0
    }

    /// Somebody has ticks skipped: whether another node decides them is to be seen.
    pub(super) fn skips(&mut self) {
        self.skipped_in_vain = false;
    }

    /// Another node has decided what the question was to decide.
    pub(super) fn decided_elsewhere(&mut self, advance: &Advance) {
        self.skipped_in_vain |= advance.skips.of(SkipReason::Operator) > 0;
    }

    pub(super) fn has_skipped_in_vain(&self) -> bool {
        self.skipped_in_vain
    }

    /// The store decided something.
    pub(super) fn on_decided(&mut self) {
        self.unanswered = 0;
    }

    /// The store did not answer, or did not decide. How long until it is asked again.
    pub(super) fn back_off(&mut self) -> Duration {
        let pause = doubled(ASK_AGAIN_MIN, self.unanswered, ASK_AGAIN_MAX);
        self.unanswered = self.unanswered.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::job::{backlog::CatchUpTurn, tests::at},
        name::{NodeId, RunIds},
        port::{Authority, Skips},
    };

    #[test]
    fn one_thing_is_asked_at_a_time() {
        let (wall, tick) = (at("01:00"), FireTime::new(at("02:00")));
        let (run, skips, authority) =
            (RunIds::of(NodeId::numbered(1)).next(wall), Skips::default(), Authority::Any);
        let claim = TickClaim { fire_time: tick, expected: wall, skips, authority };
        let (window, turn) = (Duration::ZERO, CatchUpTurn::NotNeeded);
        let waiting = Waiting { tick, skips, skipped_to: None, missed: None, window, contended: false, turn };
        let (late_by, only_rechecks, doubtful, ends_pause) = (Duration::ZERO, false, false, false);
        let mut asked = Asked::default();
        assert_eq!((asked.is_nothing(), asked.tick()), (true, None));

        asked.ask_claim(TickAsked {
            run,
            claim,
            waiting,
            slot: 0,
            late_by,
            only_rechecks,
            doubtful,
            ends_pause,
        });
        assert_eq!((asked.claim().map(|asked| asked.run), asked.advance()), (Some(run), None));
        assert_eq!((asked.is_nothing(), asked.tick()), (false, Some(tick)));

        let advance = Advance { id: run.as_uuid(), expected: wall, to: tick, skips, authority };
        asked.ask_advance(advance);
        assert_eq!((asked.claim().is_some(), asked.advance()), (false, Some(&advance)));
        assert_eq!((asked.is_nothing(), asked.tick()), (false, Some(tick)));

        asked.close();
        assert!(asked.is_nothing());
    }

    #[test]
    fn the_pause_between_questions_doubles_until_the_store_decides() {
        let mut asked = Asked::default();
        let pauses = [(); 8].map(|()| asked.back_off().as_millis());
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert!(asked.is_in_vain());

        asked.on_decided();

        assert!(!asked.is_in_vain());
        assert_eq!(asked.back_off(), ASK_AGAIN_MIN);
    }
}
