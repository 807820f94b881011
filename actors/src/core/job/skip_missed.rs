//! What an operator has skipped: everything that was due by an instant, and is not decided.
//!
//! The cursor moves over it as over every other skip. A tick that the store is being asked about is decided by the
//! answer: until then the operator has to ask again, as what follows it may be decided anew.

use chrono::{DateTime, Utc};

use super::{Effect, Effects, JobMachine, Mode, Timer, backlog::Missed};
use crate::{
    core::{
        contract::Breach,
        misfire::Due,
        policy::Fires,
        time::{FireTime, Now},
    },
    port::{Authority, SkipReason, Skips},
};

/// What is skipped, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// These are from now on; the store does not know yet.
    Now(Missed),
    /// Nothing is left, and the store knows it.
    Decided {
        /// What this node had skipped last was decided by another one before.
        in_vain: bool,
    },
}

/// Why nothing was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSkipped {
    /// This node does not decide the ticks of the job, or nobody can.
    NotDecidedHere,
    /// The store is being asked about a tick that is meant, or about the cursor before one.
    Asked,
}

impl JobMachine {
    /// Skips what was due by an instant and is not decided. Answers what that is.
    pub(crate) fn skip_missed(
        &mut self,
        now: Now,
        until: DateTime<Utc>,
        effects: &mut Effects,
    ) -> Result<Skipped, NotSkipped> {
        match self.mode {
            Mode::Dormant => return Err(NotSkipped::NotDecidedHere),
            Mode::Firing(Some(Authority::Term(term))) if now.term != Some(term) => {
                return Err(NotSkipped::NotDecidedHere);
            }
            // They are skipped already.
            Mode::Parked { .. } => return Ok(Skipped::Decided { in_vain: false }),
            Mode::Firing(_) => {}
        }
        let skipped = self.skip_due_by(now, until.min(now.wall), effects);
        skipped.unwrap_or_else(|breach| {
            // As when it decides.
            self.suspend();
            effects.push(Effect::Broken(breach));
            Err(NotSkipped::NotDecidedHere)
        })
    }

    fn skip_due_by(
        &mut self,
        now: Now,
        until: DateTime<Utc>,
        effects: &mut Effects,
    ) -> Result<Result<Skipped, NotSkipped>, Breach> {
        let is_meant = |tick: FireTime| tick.instant() <= until;
        if !self.asked.is_nothing() {
            // The answer may move the cursor, or name another one, from which all is decided anew.
            let is_decided = self.cursor.stored >= until;
            return Ok(if is_decided { Ok(self.nothing_left()) } else { Err(NotSkipped::Asked) });
        }
        self.refresh_next()?;
        if !self.cursor.spans.is_empty() {
            self.pass_spans(now, effects)?;
        }
        // The schedule is asked before anything is changed: it may panic.
        let due = self.cursor.due_by(until).map(|first| self.due_between(first, until)).transpose()?;
        let mut skipped: Option<Missed> = None;
        let mut skip = |more: Missed| skipped = Some(skipped.map_or(more, |skipped| skipped.with(more)));
        while self.backlog.front().is_some_and(|first| is_meant(first.tick))
            && let Some(mut first) = self.backlog.pop_front()
        {
            if let Some(missed) = first.missed.take() {
                first.skips = first.skips.moved(SkipReason::Misfire, SkipReason::Operator, missed.count);
                skip(missed);
            }
            skip(Missed::one(first.tick));
            self.backlog.skip_before_all(first, SkipReason::Operator);
        }
        if let Some((missed, following)) = due {
            self.cursor.next = following;
            self.cursor.taken_in = missed.newest.instant();
            self.backlog.skip_after_all(&Skips::new(SkipReason::Operator, missed.count, missed.at_least));
            skip(missed);
        }
        let Some(skipped) = skipped else {
            if self.timers.is_set(Timer::Flush) {
                // What was skipped before is not known to the store yet.
                self.timers.set(Timer::Flush, now.elapsed);
                return Ok(Err(NotSkipped::Asked));
            }
            return Ok(Ok(self.nothing_left()));
        };
        self.asked.skips();
        self.skipped(now, effects);
        if self.policies.fires != Fires::Local {
            // Whoever asked waits for it.
            self.timers.set(Timer::Flush, now.elapsed);
        }
        Ok(Ok(Skipped::Now(skipped)))
    }

    fn nothing_left(&self) -> Skipped {
        Skipped::Decided { in_vain: self.asked.has_skipped_in_vain() }
    }

    /// The ticks from one that is due to an instant, and the one after them.
    pub(super) fn due_between(
        &self,
        first: FireTime,
        until: DateTime<Utc>,
    ) -> Result<(Missed, Option<FireTime>), Breach> {
        // Of one that counts from the end of runs, nobody knows the newest tick without those before it.
        let due = if self.schedule.counts_from_completion() {
            Due::first_admitted(&*self.schedule, first, until, |_, _| false)?
        } else {
            Due::collect(&*self.schedule, first, until, 1)?
        };
        let newest = due.newest.last().copied().unwrap_or(first);
        let missed = Missed { first, newest, count: due.older + 1, at_least: due.at_least };
        Ok((missed, due.following))
    }
}
