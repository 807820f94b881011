//! What is granted: claims of ticks and keys, and cursors that move over ticks which nobody runs.

use chrono::{DateTime, Utc};

use super::{Barred, Ledger, OpenRun, Record, tell};
use crate::{
    name::{FencingToken, RunId},
    port::{
        Advanced, ClaimRequest, CursorAdvance, LostRun, Notification, PendingRetry, Session, TickClaim,
        Verdict,
    },
};

impl Ledger {
    /// Claims one run for `session`.
    pub fn claim(&mut self, now: DateTime<Utc>, session: Session, request: &ClaimRequest) -> Verdict {
        if let Some(verdict) =
            self.known_of_backfill(session, request).or_else(|| self.known(session, request))
        {
            return verdict;
        }
        if let Some(tick) = &request.tick
            && let Err(verdict) = self.check_tick(now, request, tick)
        {
            return verdict;
        }
        let retry = self.retry(request);
        if request.resume_lost && retry.is_none() {
            return Verdict::NotGranted;
        }
        let lost = match self.free_key(now, request) {
            Ok(lost) => lost.map(Box::new),
            Err(holder) => {
                if request.replace {
                    self.tell_to_stop(holder);
                }
                let own = self.open.get(&holder).is_some_and(|open| open.session == session);
                return Verdict::Busy { holder: Some(holder), own };
            }
        };

        let token = self.grant(now, session, request, retry);
        Verdict::Granted { token, lost }
    }

    /// What a claim of a tick is answered without being granted anew; `None`: it would be granted. Changes nothing.
    pub(crate) fn refusal(
        &self,
        now: DateTime<Utc>,
        session: Session,
        request: &ClaimRequest,
        tick: &TickClaim,
    ) -> Option<Verdict> {
        if let Some(verdict) = self.known(session, request) {
            return Some(verdict);
        }
        if let Err(verdict) = self.check_tick(now, request, tick) {
            return Some(verdict);
        }
        let holder = *self.keys.get(&request.key)?;
        let open = self.open.get(&holder).filter(|open| self.is_live(open.session))?;
        Some(Verdict::Busy { holder: Some(holder), own: open.session == session })
    }

    /// A run of another node has the tick: the cursor follows.
    pub(crate) fn taken_elsewhere(
        &mut self,
        request: &ClaimRequest,
        tick: &TickClaim,
        run: RunId,
    ) -> Verdict {
        let cursor = tick.fire_time.instant();
        match self.jobs.get_mut(&request.job).filter(|row| !row.withdrawn) {
            None => Verdict::Unknown,
            Some(row) if row.cursor == tick.expected => {
                row.cursor = cursor;
                row.run = Some(run);
                Verdict::TakenElsewhere { run, cursor }
            }
            Some(row) => Verdict::Elsewhere { cursor: row.cursor },
        }
    }

    /// The verdict on a run that was granted before, or of which only that is asked.
    fn known(&self, session: Session, request: &ClaimRequest) -> Option<Verdict> {
        match self.open.get(&request.run) {
            Some(open) if open.session == session && open.key == request.key => {
                Some(Verdict::Granted { token: open.token, lost: None })
            }
            // Under a key that was not asked for; or somebody else has taken it up.
            Some(open) if open.session == session || request.resume_lost => Some(Verdict::NotGranted),
            // Whoever takes over closes it.
            Some(_) => Some(Verdict::GrantedBefore),
            None if request.recheck && self.has_ended(request.run) => Some(Verdict::GrantedBefore),
            None if request.recheck => Some(Verdict::NotGranted),
            // One node alone is not left without an answer.
            None if self.shared
                && request.tick.is_none()
                && !request.resume_lost
                && self.has_ended(request.run) =>
            {
                Some(Verdict::GrantedBefore)
            }
            None => None,
        }
    }

    /// Moves the cursor, takes the key, raises the token and opens the run.
    fn grant(
        &mut self,
        now: DateTime<Utc>,
        session: Session,
        request: &ClaimRequest,
        retry: Option<PendingRetry>,
    ) -> FencingToken {
        if let Some(TickClaim { fire_time, expected, skips, .. }) = request.tick {
            if let Some(row) = self.jobs.get_mut(&request.job) {
                row.cursor = fire_time.instant();
                row.run = Some(request.run);
                row.runs += 1;
            }
            let (job, run) = (&request.job, Some(request.run));
            self.record(|| Record::Advanced {
                job: job.clone(),
                from: expected,
                to: fire_time,
                skips,
                run,
                session,
            });
        }
        let mut fire_time = request.tick.map(|tick| tick.fire_time);
        let mut named = request.named;
        if let Some(retry) = retry {
            (fire_time, named) = (retry.fire_time, retry.named);
            if let Some(row) = self.jobs.get_mut(&request.job) {
                row.pending_retries.list_mut().retain(|pending| pending.run != retry.run);
            }
            self.record(|| Record::LostResumed { run: retry.run });
        }
        self.tokens = u64::try_from(now.timestamp_micros()).unwrap_or_default().max(self.tokens + 1);
        let token = FencingToken(self.tokens);
        self.keys.insert(request.key.clone(), request.run);
        let losses = retry.map_or(0, |retry| retry.losses);
        let (job, key) = (request.job.clone(), request.key.clone());
        let open = OpenRun { session, job, key, token, fire_time, named, losses, stops: false };
        self.open.insert(request.run, open);
        self.backfills.run_granted(request.run, retry.is_none().then_some(now));
        token
    }

    /// It was granted before, and closed: only a pending retry says whether it goes on.
    fn has_ended(&self, run: RunId) -> bool {
        self.lost.contains(&run) || self.closed.iter().any(|(closed, _)| *closed == run)
    }

    /// The pending retry that a claim resumes.
    fn retry(&self, request: &ClaimRequest) -> Option<PendingRetry> {
        let row = self.jobs.get(&request.job).filter(|_| request.resume_lost)?;
        row.pending_retries.iter().find(|pending| pending.run == request.run).copied()
    }

    fn tell_to_stop(&mut self, run: RunId) {
        let session = self.open.get(&run).map(|open| open.session);
        if let Some(cut) = &mut self.cut {
            // Who is told looks whether it is so.
            if let Some(open) = self.open.get_mut(&run) {
                open.stops = true;
            }
            cut.told.push((session, Notification::Stop { run }));
        } else if let Some(told) = session.and_then(|session| self.live.get_mut(&session)) {
            tell(told, Notification::Stop { run });
            self.told = true;
        }
    }

    fn check_tick(
        &self,
        now: DateTime<Utc>,
        request: &ClaimRequest,
        tick: &TickClaim,
    ) -> Result<(), Verdict> {
        self.check_authority(&request.job, tick.authority).map_err(|barred| match barred {
            Barred::Deposed(term) => Verdict::Deposed { term },
            Barred::HasLeader => Verdict::HasLeader,
        })?;
        if let Ok(wait) = (tick.fire_time.instant() - now).to_std()
            && !wait.is_zero()
        {
            return Err(Verdict::NotYet { wait });
        }
        let row = self.jobs.get(&request.job).filter(|row| !row.withdrawn).ok_or(Verdict::Unknown)?;
        if row.cursor != tick.expected {
            let cursor = row.cursor;
            return Err(match row.run {
                Some(run) if cursor == tick.fire_time.instant() => Verdict::AlreadyRun { run, cursor },
                _ => Verdict::Elsewhere { cursor },
            });
        }
        if let Some(wait) = self.hold {
            return Err(Verdict::NotYet { wait });
        }
        if let Some(pause) = row.pause(now) {
            return Err(Verdict::Paused(pause.clone()));
        }
        if request.limit.is_some_and(|limit| row.runs >= limit) {
            return Err(Verdict::Exhausted);
        }
        Ok(())
    }

    /// Takes the key from a dead holder, which is closed as lost.
    fn free_key(&mut self, now: DateTime<Utc>, request: &ClaimRequest) -> Result<Option<LostRun>, RunId> {
        let Some(holder) = self.keys.get(&request.key).copied() else { return Ok(None) };
        let Some(open) = self.open.get(&holder) else { return Ok(None) };
        if self.is_live(open.session) {
            return Err(holder);
        }
        // A tick of the job itself moves its cursor.
        let anchors = request.tick.is_none() || open.job != request.job;
        Ok(self.close_as_lost(now, holder, anchors))
    }

    /// Moves a cursor over ticks that nobody runs.
    pub fn advance(&mut self, session: Session, asked: &CursorAdvance, now: DateTime<Utc>) -> Advanced {
        if self.jobs.get(&asked.job).is_some_and(|row| row.newest_advance == Some(asked.id)) {
            return Advanced::Done;
        }
        match self.check_authority(&asked.job, asked.authority) {
            Ok(()) => {}
            Err(Barred::Deposed(term)) => return Advanced::Deposed { term },
            Err(Barred::HasLeader) => return Advanced::HasLeader,
        }
        let due = asked.to.instant() <= now;
        match self.jobs.get_mut(&asked.job).filter(|row| !row.withdrawn) {
            None => Advanced::Unknown,
            Some(row) if due && row.cursor == asked.expected => {
                row.cursor = asked.to.instant();
                row.run = None;
                row.newest_advance = Some(asked.id);
                let CursorAdvance { job, expected: from, to, skips, .. } = asked.clone();
                self.record(|| Record::Advanced { job, from, to, skips, run: None, session });
                Advanced::Done
            }
            Some(row) => Advanced::Elsewhere { cursor: row.cursor },
        }
    }
}
