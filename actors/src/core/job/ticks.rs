//! The ticks: collected when they are due, kept while they wait, then claimed or skipped.

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, Utc};

use super::{
    ActiveRun, Advance, Claim, Effect, Effects, JobMachine, Mode, Start, permit::Claimant, verdicts::HOLD_MAX,
};
use crate::{
    core::{
        contract::Breach,
        misfire::Due,
        policy::{CATCH_UP_PACE, Fires, Misfire, Overlap},
        time::{FireTime, Now, since},
    },
    event::CancelReason,
    name::RunId,
    port::{Advanced, Authority, SkipReason, Skips, TickClaim},
};

/// How long skipped ticks may wait before the cursor is moved over them, so that a job moves it at most once in this
/// time for ticks that nobody runs.
pub const FLUSH_AFTER: Duration = Duration::from_secs(1);

/// A due tick that may still run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) tick: FireTime,
    /// The skipped ticks between it and the one that waits before it, or the stored cursor.
    pub(super) skips: Skips,
    /// The newest of these.
    pub(super) skipped_to: Option<FireTime>,
    /// Those of them that were missed, and of which it is said only when this tick is decided: the store may find that none is
    /// due.
    pub(super) missed: Option<Missed>,
    /// The greatest lateness at which it may run.
    pub(super) window: Duration,
    /// It was said that somebody else holds its key: once, however often it asks.
    pub(super) contended: bool,
}

impl Waiting {
    /// The one that waited before it is missed.
    pub(super) fn follow_missed(&mut self, before: Waiting) {
        let Waiting { tick, mut skips, missed, .. } = before;
        skips.add(SkipReason::Misfire, 1);
        self.skips.extend(&skips);
        self.skipped_to.get_or_insert(tick);
        let earlier = [missed, self.missed].into_iter().flatten();
        let (count, at_least) = earlier
            .fold((1, false), |(count, at_least), more| (count + more.count, at_least | more.at_least));
        let newest = self.missed.map_or(tick, |missed| missed.newest);
        self.missed = Some(Missed { newest, count, at_least });
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Missed {
    newest: FireTime,
    count: u64,
    at_least: bool,
}

/// What is to be done with a tick that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    Start,
    Skip(SkipReason),
    /// Until something happens: the end of a run, the end of a pause.
    Wait,
    /// Until this reading.
    WaitUntil(Duration),
    /// Until the node has a permit for it.
    WaitForPermit,
    /// Until the runs in progress have ended, which are asked to.
    Replace,
}

/// What the store is being asked about the cursor: one thing at a time. Boxed, so that an
/// idle job is small.
#[derive(Debug)]
pub(super) enum Asked {
    Nothing,
    Claim(Box<TickAsked>),
    Advance(Box<AdvanceAsked>),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct AdvanceAsked {
    pub(super) advance: Advance,
    /// `Some` while there is no answer to wait for: when to ask again, for the very same move.
    pub(super) again_at: Option<Duration>,
}

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
    /// The job is paused as far as is known, and no pause was heard of since the claim was made: granted, it says that the pause
    /// is over.
    pub(super) ends_pause: bool,
    /// `Some` while there is no answer to wait for: when to ask again.
    pub(super) again_at: Option<Duration>,
}

impl JobMachine {
    pub(super) fn decide_due(&mut self, now: Now, effects: &mut Effects) {
        let decided = match self.mode {
            _ if self.leaving.is_some() => self.go_on_leaving(now, effects),
            Mode::Dormant => return,
            Mode::Parked { authority: Authority::Term(term), .. } if now.term != Some(term) => {
                return self.suspend();
            }
            Mode::Parked { since, .. } => self.skip_parked(now, since, effects),
            Mode::Firing(_) if !matches!(self.asked, Asked::Nothing) => return self.keep_turn(now),
            Mode::Firing(Some(Authority::Term(term))) if now.term != Some(term) => {
                // Doubt is "not leader". Whoever restores the trust resumes the job from its cursor.
                return self.suspend();
            }
            Mode::Firing(authority) => self.decide_by_schedule(now, authority, effects),
        };
        if let Err(breach) = decided {
            // Nothing that it answers can be trusted. Whoever has mended it resumes the job from its cursor.
            self.suspend();
            effects.push(Effect::Broken(breach));
        }
    }

    fn decide_by_schedule(
        &mut self,
        now: Now,
        authority: Option<Authority>,
        effects: &mut Effects,
    ) -> Result<(), Breach> {
        self.read_schedule()?;
        self.hold_until.take_if(|until| *until <= now.elapsed);
        self.end_pause(now, effects)?;
        self.skip_held_too_long(now, effects);
        // Most steps find nothing due.
        let due = if self.has_due(now) { self.collect(now, effects)? } else { None };
        self.work_off(now, authority, due, effects);
        if self.next.is_none() && self.backlog.is_empty() && matches!(self.asked, Asked::Nothing) {
            self.follow_completion()?;
        }
        self.flush(now, authority, effects);
        Ok(())
    }

    /// While the store moves the cursor, what waits does not lose its turn for one of the node's permits.
    pub(super) fn keep_turn(&mut self, now: Now) {
        let first = self.backlog.front().map(|waiting| self.may_start(now, waiting));
        let may_start = matches!(first, Some(May::Start | May::WaitForPermit));
        self.wants_permit |= may_start && matches!(self.asked, Asked::Advance(_));
    }

    /// A schedule that counts from the end of runs goes on from a tick that was skipped, too.
    pub(super) fn follow_completion(&mut self) -> Result<(), Breach> {
        if self.schedule.counts_from_completion() {
            self.next = self.following(self.decided)?;
        }
        Ok(())
    }

    /// There may be something to take in.
    fn has_due(&self, now: Now) -> bool {
        !self.parked.is_empty() || self.next.is_some_and(|next| next.instant() <= now.wall)
    }

    /// Takes in the ticks that are due. Answers the one that may run at once; others go to the backlog.
    pub(super) fn collect(&mut self, now: Now, effects: &mut Effects) -> Result<Option<Waiting>, Breach> {
        if !self.parked.is_empty() {
            self.pass_parked(now, effects)?;
        }
        self.collect_until(now, now.wall, effects)
    }

    /// As `collect`, of the ticks up to and including an instant.
    pub(super) fn collect_until(
        &mut self,
        now: Now,
        until: DateTime<Utc>,
        effects: &mut Effects,
    ) -> Result<Option<Waiting>, Breach> {
        let Some(next) = self.next.filter(|next| next.instant() <= until) else { return Ok(None) };
        let misfire = self.policies.misfire;
        let due = if self.schedule.counts_from_completion() {
            let admits = |tick: FireTime, following| {
                tick.lateness(now.wall) <= misfire.window(tick, following).max(self.policies.misfire_after)
            };
            Due::first_admitted(&*self.schedule, next, until, admits)?
        } else {
            let keep = match misfire {
                Misfire::All { max, .. } => usize::try_from(max).unwrap_or(usize::MAX),
                Misfire::Auto | Misfire::Latest { .. } | Misfire::Skip => 1,
            };
            Due::collect(&*self.schedule, next, until, keep)?
        };
        self.next = due.following;
        let mut missed = None;
        if let Some(newest) = due.newest_older {
            let (count, at_least) = (due.older, due.at_least);
            match self.pause {
                Some(_) => self.skip_arriving(now, newest, SkipReason::Paused, count, at_least, effects),
                None if self.overlaps() => {
                    self.skip_arriving(now, newest, SkipReason::Overlap, count, at_least, effects);
                }
                None => {
                    self.decided = newest.instant();
                    self.skips.extend(&Skips::new(SkipReason::Misfire, count, at_least));
                    missed = Some(Missed { newest, count, at_least });
                }
            }
        }
        if let ([tick], true) = (&due.newest[..], self.backlog.is_empty()) {
            let window = self.window(*tick, due.following);
            return Ok(self.arrive(now, *tick, window, missed, effects));
        }
        for (nth, tick) in due.newest.iter().enumerate() {
            let window = self.window(*tick, due.newest.get(nth + 1).copied().or(due.following));
            if let Some(waiting) = self.arrive(now, *tick, window, missed.take(), effects) {
                self.backlog.push_back(waiting);
                self.drop_beyond_the_bound(now, effects);
            }
        }
        Ok(None)
    }

    /// The greatest lateness at which a tick may run.
    fn window(&self, tick: FireTime, following: Option<FireTime>) -> Duration {
        self.policies.misfire.window(tick, following).max(self.policies.misfire_after)
    }

    /// One due tick: answers it if it may run, now or later.
    pub(super) fn arrive(
        &mut self,
        now: Now,
        tick: FireTime,
        window: Duration,
        missed: Option<Missed>,
        effects: &mut Effects,
    ) -> Option<Waiting> {
        let admitted = tick.lateness(now.wall) <= window;
        let reason = match self.pause {
            Some(_) if !admitted => Some(SkipReason::Paused),
            Some(_) if self.policies.misfire == Misfire::Skip && !self.checks_pause(now) => {
                Some(SkipReason::Paused)
            }
            Some(_) => None,
            None if self.backlog.is_empty() && self.overlaps() => Some(SkipReason::Overlap),
            None if !admitted => Some(SkipReason::Misfire),
            None => None,
        };
        if self.pause.is_some() && reason.is_some() {
            // Nor do the older ones that wait.
            while let Some(oldest) = self.backlog.pop_front() {
                self.skip_waiting(now, oldest, SkipReason::Paused, effects);
            }
        }
        if let Some(reason) = reason {
            // Said together if it is the same.
            let (count, at_least) = match missed {
                Some(Missed { count, at_least, .. }) if reason == SkipReason::Misfire => (count, at_least),
                Some(_) | None => {
                    announce(missed, effects);
                    (0, false)
                }
            };
            self.decided = tick.instant();
            self.skips.extend(&Skips::new(reason, 1, false));
            effects.push(Effect::Skipped { newest: tick, reason, count: count + 1, at_least });
            self.skipped(now, effects);
            return None;
        }
        let skips = std::mem::take(&mut self.skips);
        let skipped_to = (skips.total() > 0).then(|| FireTime::new(self.decided));
        self.decided = tick.instant();
        Some(Waiting { tick, skips, skipped_to, missed, window, contended: false })
    }

    /// The runs in progress keep a tick from running, and it does not wait for them.
    pub(super) fn overlaps(&self) -> bool {
        match self.policies.overlap {
            // It waits behind what is made up for.
            _ if self.catches_up() => false,
            Overlap::Skip => !self.runs.is_empty(),
            Overlap::Allow(_) => !self.runs.is_empty() && self.free_slot(0).is_none(),
            Overlap::Queue(_) | Overlap::Replace => false,
        }
    }

    /// A run of [`Misfire::All`] that makes up for a missed tick is in progress.
    pub(super) fn catches_up(&self) -> bool {
        let late = |run: &ActiveRun| {
            run.tick.is_some_and(|tick| tick.lateness(run.started_at) > self.policies.misfire_after)
        };
        matches!(self.policies.misfire, Misfire::All { .. }) && self.active_runs().any(late)
    }

    /// How many ticks may wait.
    pub(super) fn room(&self) -> usize {
        let queue = match self.policies.overlap {
            Overlap::Queue(max) => max,
            Overlap::Skip | Overlap::Replace | Overlap::Allow(_) => 1,
        };
        let missed = match self.policies.misfire {
            Misfire::All { max, .. } => max,
            Misfire::Auto | Misfire::Latest { .. } | Misfire::Skip => 1,
        };
        usize::try_from(queue.max(missed)).unwrap_or(usize::MAX)
    }

    /// Skips the oldest ticks that wait beyond the bound.
    pub(super) fn drop_beyond_the_bound(&mut self, now: Now, effects: &mut Effects) {
        while self.backlog.len() > self.room()
            && let Some(oldest) = self.backlog.pop_front()
        {
            let reason = match self.pause {
                Some(_) => SkipReason::Paused,
                None if !self.runs.is_empty() || self.hold_until.is_some() => SkipReason::Overlap,
                None if self.waits_for_permit() => SkipReason::Concurrency,
                None => SkipReason::Misfire,
            };
            match self.backlog.front_mut() {
                // Said with what was missed before it, once the tick that takes their place is decided.
                Some(following) if reason == SkipReason::Misfire => following.follow_missed(oldest),
                Some(_) | None => self.skip_waiting(now, oldest, reason, effects),
            }
        }
    }

    /// What is to be done with the tick that waits first.
    pub(super) fn may_start(&self, now: Now, waiting: &Waiting) -> May {
        let later = |at: Option<Duration>| at.filter(|at| *at > now.elapsed);
        let late = waiting.tick.lateness(now.wall) > self.policies.misfire_after;
        // A tick asks whether the pause is over only where it would run at once if it is.
        if self.pause.is_some() && !(self.checks_pause(now) && self.runs.is_empty()) {
            return later(self.pause_check_at).map_or(May::Wait, May::WaitUntil);
        }
        let pace = if late { later(self.pace_until) } else { None };
        if let Some(at) = later(self.hold_until).into_iter().chain(pace).max() {
            return May::WaitUntil(at);
        }
        if !self.runs.is_empty() {
            let catches_up =
                self.catches_up() || (late && matches!(self.policies.misfire, Misfire::All { .. }));
            match self.policies.overlap {
                _ if catches_up || self.schedule.counts_from_completion() => return May::Wait,
                Overlap::Skip => return May::Skip(SkipReason::Overlap),
                Overlap::Queue(_) => return May::Wait,
                Overlap::Replace => return May::Replace,
                Overlap::Allow(_) if self.free_slot(0).is_none() => {
                    return May::Skip(SkipReason::Overlap);
                }
                Overlap::Allow(_) => {}
            }
        }
        if self.is_permitted() { May::Start } else { May::WaitForPermit }
    }

    /// Decides what waits, the oldest first, as far as that is possible now.
    pub(super) fn work_off(
        &mut self,
        now: Now,
        authority: Option<Authority>,
        mut first: Option<Waiting>,
        effects: &mut Effects,
    ) {
        while let Some(waiting) = first.take().or_else(|| self.backlog.pop_front()) {
            let run = match self.may_start(now, &waiting) {
                May::Start => {
                    // It is wanted, in this step or in the next one.
                    self.has_permit();
                    self.spend(now)
                }
                May::Skip(reason) => {
                    self.skip_waiting(now, waiting, reason, effects);
                    continue;
                }
                May::WaitForPermit => {
                    self.has_permit();
                    None
                }
                May::Replace => {
                    self.cancel_all(now, CancelReason::Replaced, effects);
                    if self.runs.is_empty() {
                        // None had a body whose end is to be waited for: nothing else would wake the job up.
                        first = Some(waiting);
                        continue;
                    }
                    None
                }
                May::Wait | May::WaitUntil(_) => None,
            };
            let Some(run) = run else {
                self.backlog.push_front(waiting);
                return;
            };
            self.take(now, run, waiting, authority, effects);
            if !matches!(self.asked, Asked::Nothing) {
                break;
            }
        }
        if self.backlog.is_empty() {
            // An idle job keeps no memory for what waits.
            self.backlog = VecDeque::new();
        }
    }

    /// The tick is to run.
    pub(super) fn take(
        &mut self,
        now: Now,
        run: RunId,
        waiting: Waiting,
        authority: Option<Authority>,
        effects: &mut Effects,
    ) {
        let slot = self.free_slot(0).unwrap_or_default();
        let late_by = waiting.tick.lateness(now.wall);
        if late_by > self.policies.misfire_after {
            self.pace_until = Some(now.elapsed + CATCH_UP_PACE);
        }
        let Some(authority) = authority else {
            self.stored = waiting.tick.instant();
            announce(waiting.missed, effects);
            effects.push(Effect::Count { started: 1, skips: waiting.skips });
            self.count_towards_limit();
            self.start(now, Start { tick: Some(waiting.tick), slot, ..Start::new(run) }, effects);
            return;
        };
        let claim =
            TickClaim { fire_time: waiting.tick, expected: self.stored, skips: waiting.skips, authority };
        self.pledge_permit(Claimant::Tick);
        let ends_pause = self.pause.is_some();
        self.asked = Asked::Claim(Box::new(TickAsked {
            run,
            claim,
            waiting,
            slot,
            late_by,
            only_rechecks: false,
            doubtful: false,
            ends_pause,
            again_at: None,
        }));
        effects.push(Effect::Claim(self.claim_of(run, claim, slot)));
    }

    /// It is unknown whether this run was granted.
    pub(super) fn is_asked_for(&self, run: RunId) -> bool {
        matches!(&self.asked, Asked::Claim(asked) if asked.run == run)
    }

    pub(super) fn claim_of(&self, run: RunId, tick: TickClaim, slot: u32) -> Claim {
        let replace = self.policies.overlap == Overlap::Replace;
        Claim { tick: Some(tick), slot, replace, ..Claim::new(run) }
    }

    /// A job without claims counts for itself.
    pub(super) fn count_towards_limit(&mut self) {
        self.local_runs += 1;
        if self.local_limit_is_reached() {
            self.exhaust();
        }
    }

    pub(super) fn local_limit_is_reached(&self) -> bool {
        self.policies.limit.is_some_and(|limit| self.local_runs >= limit)
    }

    /// No tick runs any more.
    pub(super) fn exhaust(&mut self) {
        self.exhausted = true;
        self.adopt(self.stored);
    }

    pub(super) fn on_advanced(&mut self, now: Now, advanced: Advanced, effects: &mut Effects) {
        let Asked::Advance(asked) = &self.asked else { return };
        let asked = asked.advance;
        self.asked = Asked::Nothing;
        match advanced {
            Advanced::Done => {
                self.unanswered = 0;
                self.move_on(asked.to.instant());
                self.see(self.stored);
            }
            // The store's clock is a little behind this node's reading of it.
            Advanced::Elsewhere { cursor }
                if cursor == asked.expected && since(now.wall, asked.to.instant()) <= HOLD_MAX =>
            {
                let again_at = Some(self.again_at(now));
                self.asked = Asked::Advance(Box::new(AdvanceAsked { advance: asked, again_at }));
                return;
            }
            Advanced::Elsewhere { cursor } => {
                self.see(cursor);
                self.adopt(cursor);
            }
            Advanced::Unknown => self.wait_for_enrolment(now),
            Advanced::Deposed { .. } | Advanced::HasLeader => {
                if self.mode == Mode::Firing(Some(asked.authority)) {
                    self.mode = Mode::Dormant;
                }
                self.adopt(self.stored);
            }
            Advanced::Locked => {
                let again_at = Some(self.again_at(now));
                self.asked = Asked::Advance(Box::new(AdvanceAsked { advance: asked, again_at }));
                return;
            }
            Advanced::BadData { reason } => self.on_bad_data(&reason, effects),
            Advanced::Unavailable { reason } => {
                effects.push(Effect::Unavailable { reason });
                let again_at = Some(self.again_at(now));
                self.asked = Asked::Advance(Box::new(AdvanceAsked { advance: asked, again_at }));
                return;
            }
        }
        self.on_answered();
    }

    /// The end of a run is recorded, and the schedule counts from there.
    pub(super) fn on_anchored(&mut self, cursor: Option<DateTime<Utc>>) {
        self.anchoring = false;
        if let Some(cursor) = cursor.filter(|cursor| *cursor > self.stored)
            && matches!(self.asked, Asked::Nothing)
        {
            self.see(cursor);
            self.move_on(cursor);
            self.adopt(cursor);
        }
    }

    /// This machine moved the cursor over what did not run.
    fn move_on(&mut self, to: DateTime<Utc>) {
        if self.all_ended == Some(self.stored) {
            self.all_ended = Some(to);
        }
        self.stored = to;
    }

    /// Decides that `count` ticks up to `newest`, which come after everything that waits, do not run.
    pub(super) fn skip_arriving(
        &mut self,
        now: Now,
        newest: FireTime,
        reason: SkipReason,
        count: u64,
        at_least: bool,
        effects: &mut Effects,
    ) {
        self.decided = newest.instant();
        effects.push(Effect::Skipped { newest, reason, count, at_least });
        self.skips.extend(&Skips::new(reason, count, at_least));
        self.skipped(now, effects);
    }

    /// Decides that a tick, which waited before everything that waits now, does not run.
    pub(super) fn skip_waiting(
        &mut self,
        now: Now,
        waiting: Waiting,
        reason: SkipReason,
        effects: &mut Effects,
    ) {
        announce(waiting.missed, effects);
        effects.push(Effect::Skipped { newest: waiting.tick, reason, count: 1, at_least: false });
        let mut skips = waiting.skips;
        skips.add(reason, 1);
        match self.backlog.front_mut() {
            Some(following) => {
                following.skips.extend(&skips);
                following.skipped_to.get_or_insert(waiting.tick);
            }
            None => self.skips.extend(&skips),
        }
        self.skipped(now, effects);
    }

    /// Ticks were skipped: the cursor is to move over them, soon.
    pub(super) fn skipped(&mut self, now: Now, effects: &mut Effects) {
        if self.policies.fires != Fires::Local {
            self.flush_at.get_or_insert(now.elapsed + FLUSH_AFTER);
            return;
        }
        // Nobody else keeps a cursor.
        let (skips, to) = self.first_skips();
        if let Some(to) = to {
            self.stored = to.instant();
            effects.push(Effect::Count { started: 0, skips });
        }
    }

    /// Takes the skips that come first, before anything that waits, and the newest of these ticks.
    pub(super) fn first_skips(&mut self) -> (Skips, Option<FireTime>) {
        match self.backlog.front_mut() {
            Some(first) => (std::mem::take(&mut first.skips), first.skipped_to.take()),
            None => {
                let skips = std::mem::take(&mut self.skips);
                (skips, (skips.total() > 0).then(|| FireTime::new(self.decided)))
            }
        }
    }

    /// Moves the cursor over skipped ticks, if that is due.
    pub(super) fn flush(&mut self, now: Now, authority: Option<Authority>, effects: &mut Effects) {
        let due = self.flush_at.is_some_and(|at| at <= now.elapsed);
        let (Some(authority), true, Asked::Nothing) = (authority, due, &self.asked) else { return };
        self.flush_at = None;
        if let (skips, Some(to)) = self.first_skips() {
            self.advance(now, to, skips, authority, effects);
        }
        if self.backlog.iter().skip(1).any(|waiting| waiting.skipped_to.is_some()) || self.skips.total() > 0 {
            self.flush_at = Some(now.elapsed + FLUSH_AFTER);
        }
    }

    /// Has the store move the cursor over skipped ticks.
    pub(super) fn advance(
        &mut self,
        now: Now,
        to: FireTime,
        skips: Skips,
        authority: Authority,
        effects: &mut Effects,
    ) {
        let advance = Advance { id: now.spare.as_uuid(), expected: self.stored, to, skips, authority };
        self.asked = Asked::Advance(Box::new(AdvanceAsked { advance, again_at: None }));
        effects.push(Effect::Advance(advance));
    }
}

/// Says that ticks were missed.
pub(super) fn announce(missed: Option<Missed>, effects: &mut Effects) {
    if let Some(Missed { newest, count, at_least }) = missed {
        effects.push(Effect::Skipped { newest, reason: SkipReason::Misfire, count, at_least });
    }
}
