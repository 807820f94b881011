//! What the store answers, and how bodies end.

use super::*;

impl World {
    pub(super) fn answer(&mut self, which: u8, how: u8) {
        if self.questions.is_empty() {
            return;
        }
        let question = self.questions.remove(usize::from(which) % self.questions.len());
        let reason = || "no answer".to_owned();
        let time = self.store_time();
        match question {
            Question::Claim(claim) => {
                let run = claim.run;
                if how % 9 == 8 && !claim.recheck {
                    self.step(Input::ClaimRefused { run, reason: reason() });
                    return;
                }
                let verdict = match how % 8 {
                    0 => Verdict::Unavailable { reason: reason() },
                    1 => {
                        self.store.claim(time, &claim);
                        Verdict::Unavailable { reason: reason() }
                    }
                    2 => Verdict::Locked { holder: self.store.holder(claim.slot) },
                    // One that may have been granted is only settled.
                    7 if !claim.recheck && !self.store.granted.contains_key(&run) => {
                        Verdict::BadData { reason: "bad data".to_owned() }
                    }
                    _ => self.store.claim(time, &claim),
                };
                if let (Verdict::Granted { .. }, Some(grant)) = (&verdict, self.store.granted.get_mut(&run)) {
                    grant.told = true;
                    self.granted.insert(run);
                }
                self.step(Input::Claimed { run, verdict });
            }
            Question::Advance(advance) => {
                let moved = match how % 8 {
                    0 => Advanced::Unavailable { reason: reason() },
                    1 => {
                        self.store.advance(&advance);
                        Advanced::Unavailable { reason: reason() }
                    }
                    2 => Advanced::Locked,
                    7 => Advanced::BadData { reason: "bad data".to_owned() },
                    _ => self.store.advance(&advance),
                };
                self.step(Input::Advanced(moved));
            }
        }
    }

    pub(super) fn record(&mut self, how: u8) {
        if self.completions.is_empty() {
            return;
        }
        let (run, outcome) = self.completions.remove(usize::from(how) % self.completions.len());
        if self.store.granted.remove(&run).is_none() {
            return;
        }
        self.store.closed.insert(run);
        match outcome {
            Outcome::Succeeded => self.store.failures = 0,
            Outcome::Failed | Outcome::Panicked | Outcome::TimedOut => self.store.failures += 1,
            Outcome::Cancelled | Outcome::Lost => {}
        }
        if self.store.from_end {
            self.store.cursor = self.store.cursor.max(self.store_time());
            self.step(Input::Anchored { cursor: Some(self.store.cursor) });
        }
        if self.policies.pause_after.is_some_and(|max| self.store.failures >= max) {
            self.store.failures = 0;
            self.store.pause = Some(Pause::after_failures(1));
            self.step(Input::Pause(self.store.pause.clone()));
        }
    }

    pub(super) fn end(&mut self, which: u8, how: u8) {
        if self.bodies.is_empty() {
            return;
        }
        let nth = usize::from(which) % self.bodies.len();
        let (&run, &attempt) = self.bodies.iter().nth(nth).unwrap();
        let end = match how % 16 {
            0..6 => BodyEnd::Returned,
            6..10 => failure(Severity::Transient),
            10 => failure(Severity::Permanent),
            11 => failure(Severity::Stop),
            12 | 13 => BodyEnd::Panicked("oh".into()),
            14 if attempt == 1 => BodyEnd::NotStarted { veto: None },
            _ => BodyEnd::Aborted,
        };
        self.bodies.remove(&run);
        self.step(ended(run, end));
    }

    pub(super) fn lose_session(&mut self) {
        if self.right == Right::Local {
            return;
        }
        self.completions.clear();
        let granted = std::mem::take(&mut self.store.granted);
        for (run, Grant { tick, losses, .. }) in &granted {
            if self.policies.on_lost == OnLost::Retry && losses + 1 < LOSSES_MAX {
                let retry = PendingRetry { run: *run, fire_time: *tick, named: None, losses: losses + 1 };
                self.store.pending_retries.insert(*run, retry);
            }
        }
        self.store.closed.extend(granted.keys());
        if self.store.from_end && !granted.is_empty() {
            self.store.cursor = self.store.cursor.max(self.store_time());
        }
        for (run, grant) in granted {
            if grant.told {
                self.open.entry(run).and_modify(|lost| *lost = true);
                self.step(Input::LockLost { run });
            }
        }
        for question in std::mem::take(&mut self.questions) {
            let reason = "there is no session".to_owned();
            match question {
                Question::Claim(Claim { run, .. }) => {
                    self.step(Input::Claimed { run, verdict: Verdict::Unavailable { reason } });
                }
                Question::Advance(_) => {
                    self.step(Input::Advanced(Advanced::Unavailable { reason }));
                }
            }
        }
        match self.right {
            Right::Leader => self.trusted = false,
            Right::Any | Right::Leaderless | Right::Local => {
                self.step(Input::Suspend);
            }
        }
    }
}
