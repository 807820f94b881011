//! The store's side, and the node's permits.

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Question {
    Claim(Claim),
    Advance(Advance),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) slot: u32,
    pub(super) token: FencingToken,
    pub(super) tick: Option<FireTime>,
    pub(super) losses: u32,
    /// The node got the answer.
    pub(super) told: bool,
}

/// The store's side.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) period: i64,
    pub(super) from_end: bool,
    pub(super) policies: Policies,
    /// Ticks are counted from here on.
    pub(super) base: DateTime<Utc>,
    pub(super) cursor: DateTime<Utc>,
    /// The newest move.
    pub(super) moved: Option<Uuid>,
    pub(super) accounted: u64,
    /// How many ticks were claimed since the job was known.
    pub(super) claimed: u64,
    pub(super) term: u64,
    pub(super) led: bool,
    pub(super) pause: Option<Pause>,
    pub(super) failures: u32,
    pub(super) pending_retries: BTreeMap<RunId, PendingRetry>,
    pub(super) foreign: BTreeMap<u32, RunId>,
    pub(super) granted: BTreeMap<RunId, Grant>,
    /// The runs that have ended or were lost.
    pub(super) closed: BTreeSet<RunId>,
    pub(super) tokens: u64,
}

impl Store {
    pub(super) fn holder(&self, slot: u32) -> Option<RunId> {
        let own = self.granted.iter().find(|(_, grant)| grant.slot == slot).map(|(run, _)| *run);
        own.or_else(|| self.foreign.get(&slot).copied())
    }

    pub(super) fn refused(&self, authority: Authority) -> Option<Result<Term, ()>> {
        match authority {
            Authority::Term(term) if term.0 != self.term => Some(Ok(Term(self.term))),
            Authority::Leaderless if self.led => Some(Err(())),
            Authority::Term(_) | Authority::Any | Authority::Leaderless => None,
        }
    }

    pub(super) fn claim(&mut self, time: DateTime<Utc>, claim: &Claim) -> Verdict {
        if let Some(grant) = self.granted.get(&claim.run) {
            return Verdict::Granted { token: grant.token, lost: None };
        }
        if claim.recheck {
            return Verdict::NotGranted;
        }
        // Whatever was closed goes on only as a debt.
        if claim.tick.is_none() && !claim.resume_lost && self.closed.contains(&claim.run) {
            return Verdict::GrantedBefore;
        }
        let retry = self.pending_retries.get(&claim.run).copied().filter(|_| claim.resume_lost);
        if claim.resume_lost && retry.is_none() {
            return Verdict::NotGranted;
        }
        if let Some(tick) = &claim.tick {
            match self.refused(tick.authority) {
                Some(Ok(term)) => return Verdict::Deposed { term },
                Some(Err(())) => return Verdict::HasLeader,
                None => {}
            }
            if let Some(pause) = self.pause.clone().filter(|pause| pause.until.is_none_or(|at| at > time)) {
                return Verdict::Paused(pause);
            }
            if tick.expected != self.cursor {
                return Verdict::Elsewhere { cursor: self.cursor };
            }
            if self.policies.limit.is_some_and(|limit| self.claimed >= limit) {
                return Verdict::Exhausted;
            }
            if let Ok(wait) = (tick.fire_time.instant() - time).to_std()
                && !wait.is_zero()
            {
                return Verdict::NotYet { wait };
            }
        }
        if let Some(holder) = self.holder(claim.slot) {
            return Verdict::Busy { holder: Some(holder), own: false };
        }
        if let Some(tick) = &claim.tick {
            self.claimed += 1;
            self.account(tick.fire_time, 1, &tick.skips);
        }
        // Only that settles it.
        retry.and_then(|retry| self.pending_retries.remove(&retry.run));
        self.tokens += 1;
        let token = FencingToken(self.tokens);
        let tick = claim.tick.map(|tick| tick.fire_time).or(retry.and_then(|retry| retry.fire_time));
        let losses = retry.map_or(0, |retry| retry.losses);
        self.granted.insert(claim.run, Grant { slot: claim.slot, token, tick, losses, told: false });
        Verdict::Granted { token, lost: None }
    }

    pub(super) fn advance(&mut self, advance: &Advance) -> Advanced {
        if self.moved == Some(advance.id) {
            return Advanced::Done;
        }
        match self.refused(advance.authority) {
            Some(Ok(term)) => return Advanced::Deposed { term },
            Some(Err(())) => return Advanced::HasLeader,
            None => {}
        }
        if advance.expected == self.cursor {
            self.account(advance.to, 0, &advance.skips);
            self.moved = Some(advance.id);
            return Advanced::Done;
        }
        Advanced::Elsewhere { cursor: self.cursor }
    }

    /// Every tick up to the cursor is claimed or skipped, once.
    pub(super) fn account(&mut self, to: FireTime, started: u64, skips: &Skips) {
        assert!(to.instant() > self.cursor, "the cursor went back from {} to {to}", self.cursor);
        self.cursor = to.instant();
        self.accounted += started + skips.total();
        if self.from_end {
            return;
        }
        let ticks = ticks(self.base, self.cursor, self.period);
        if skips.at_least {
            assert!(self.accounted <= ticks, "{} of {ticks} ticks", self.accounted);
            self.accounted = ticks;
        }
        assert_eq!(self.accounted, ticks, "the ticks up to {to} by {started} and {skips:?}");
    }
}

/// The node's permits, as this job sees them.
#[derive(Debug)]
pub(super) struct Permits {
    pub(super) limited: bool,
    pub(super) waits: bool,
    pub(super) free: u32,
    pub(super) others: u32,
    pub(super) held: u32,
    pub(super) waiting: bool,
    pub(super) on_its_way: bool,
}

impl Permits {
    pub(super) fn ask(&mut self) -> PermitAnswer {
        assert!(self.limited && !self.waiting && !self.on_its_way, "a job asks once: {self:?}");
        if self.free > 0 {
            self.free -= 1;
            self.held += 1;
            return PermitAnswer::Granted;
        }
        self.waiting = self.waits;
        if self.waits { PermitAnswer::Wait } else { PermitAnswer::NotAdmitted }
    }

    pub(super) fn release(&mut self) {
        assert!(self.held > 0, "a permit that was not held was given back");
        self.held -= 1;
        self.put_back();
    }

    pub(super) fn put_back(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.on_its_way = true;
            self.held += 1;
        } else {
            self.free += 1;
        }
    }
}
