//! Whether this node leads: campaign, renew, step down. Any doubt is "no".

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use smallvec::SmallVec;

use crate::{
    core::backoff::doubled,
    event::StepDownReason,
    name::Term,
    port::{Campaign, Grant, Lease, Renewal},
};

/// The pause before a campaign or a resignation that got no answer is tried again, doubling up to
/// [`RETRY_MAX`].
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(250);
/// The longest pause before a campaign that got no answer is tried again.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a renewal may at least wait for its answer, if the lease is long enough.
pub(crate) const RENEWAL_ANSWER: Duration = Duration::from_millis(1_550);
/// A node that does not campaign looks so often whether it should, and who leads.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A term is renewed after this part of its lease at the earliest, in hundredths.
pub(crate) const RENEW_MIN: u32 = 33;
/// A term is renewed after this part of its lease at the latest, in hundredths.
pub(crate) const RENEW_MAX: u32 = 49;

/// What the machine is told. Instants are readings of the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// A session with the store is open.
    SessionOpened,
    /// The session with the store is gone.
    SessionLost,
    /// A campaign that started at `started` ended; `None` is "no answer".
    CampaignEnded {
        /// When the attempt started.
        started: Duration,
        /// The answer.
        answer: Option<Campaign>,
    },
    /// A renewal that started at `started` ended; `None` is "no answer".
    RenewalEnded {
        /// The term that was to be renewed.
        term: Term,
        /// When the attempt started.
        started: Duration,
        /// The answer.
        answer: Option<Renewal>,
    },
    /// The store refused a claim of this node: the term is over.
    Deposed {
        /// The term of the claim.
        term: Term,
    },
    /// This node is not fit to lead, and another one may be.
    Unfit {
        /// Why.
        why: StepDownReason,
    },
    /// The node considered whether it is to lead.
    Considered(Objections),
    /// Somebody asked this node not to lead until then, or until another node does.
    StandAside {
        /// The monotonic clock's reading.
        until: Duration,
    },
    /// A timer fired.
    WakeUp,
    /// The node shuts down.
    Resign,
}

/// What a node sees when it considers whether it is to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Objections {
    /// The application says that this node must not lead.
    pub(crate) refused: bool,
    /// Another node leads.
    pub(crate) led: bool,
    /// Another node stands as a candidate, and this one would rather not lead: why.
    pub(crate) yields: Option<StepDownReason>,
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Find out whether this node is to lead.
    Consider,
    /// Ask the store for a term.
    Campaign,
    /// Ask the store to extend the term.
    Renew(Term),
    /// Give the term back to the store.
    Resign(Term),
    /// Say that this node leads, after a leader that went by this time zone data, if that is known; since
    /// when nobody is known to have decided ticks, if the store knows that.
    Gained(Term, Option<Arc<str>>, Option<DateTime<Utc>>),
    /// Say that this node does not lead any more.
    Lost(Term, StepDownReason),
}

/// The effects of one step, in order.
pub(crate) type Effects = SmallVec<[Effect; 2]>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No session, or resigned.
    Idle,
    Considering,
    /// It does not campaign, and looks again then.
    Aside {
        until: Duration,
    },
    Campaigning,
    Waiting {
        until: Duration,
    },
    Leading(Leading),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leading {
    term: Term,
    lease: Option<Lease>,
    /// The trust lasts up to here; `None` is for ever.
    trusted_until: Option<Duration>,
    /// When to renew; `None` while a renewal is under way, and without a lease.
    renew_at: Option<Duration>,
}

/// Decides whether this node leads.
///
/// ```text
/// attempt     |----------------------|            granted late
/// lease       [                            ]      counted from the START of the attempt
/// trust       [                      |==]         margin earlier: a slow success cannot stretch it
/// renewals                 r
/// ```
#[derive(Debug)]
pub(crate) struct ElectionMachine {
    state: State,
    resigned: bool,
    unanswered: u32,
    /// It considers whether it is to lead before it campaigns.
    considers: bool,
    /// It was asked not to campaign until then, or until another node leads.
    aside_until: Option<Duration>,
    /// Since when it has yielded to candidates of whom none leads.
    leaderless_since: Option<Duration>,
    /// For so long at most.
    yields_max: Duration,
}

impl ElectionMachine {
    /// A machine without a session. A node that would rather not lead waits at most `yields_max` for a
    /// candidate to lead.
    pub(crate) fn new(yields_max: Duration) -> Self {
        Self {
            state: State::Idle,
            resigned: false,
            unanswered: 0,
            considers: false,
            aside_until: None,
            leaderless_since: None,
            yields_max,
        }
    }

    /// Whether there is anything to consider before a campaign.
    pub(crate) fn set_considers(&mut self, considers: bool) {
        self.considers = considers;
    }

    /// Whether the node was asked not to campaign at `now`.
    pub(crate) fn is_aside(&self, now: Duration) -> bool {
        self.aside_until.is_some_and(|until| now < until)
    }

    /// Feeds one input; `now` is the monotonic clock's reading.
    pub(crate) fn step(&mut self, now: Duration, input: Input) -> Effects {
        let mut effects = Effects::new();
        match input {
            Input::SessionOpened => {
                if self.state == State::Idle && !self.resigned {
                    self.stand(&mut effects);
                }
            }
            Input::SessionLost => {
                self.step_down(StepDownReason::SessionLost, &mut effects);
                self.state = State::Idle;
            }
            Input::CampaignEnded { started, answer } => {
                self.on_campaign_ended(now, started, answer, &mut effects)
            }
            Input::RenewalEnded { term, started, answer } => {
                self.on_renewal_ended(now, term, started, answer, &mut effects)
            }
            Input::Deposed { term } => {
                if self.leading().is_some_and(|leading| leading.term == term) {
                    self.step_down(StepDownReason::Deposed, &mut effects);
                    self.wait(now);
                }
            }
            Input::Unfit { why } => {
                if let Some(term) = self.leading().map(|leading| leading.term) {
                    self.step_down(why, &mut effects);
                    effects.push(Effect::Resign(term));
                    self.wait(now);
                }
            }
            Input::Considered(outlook) => self.on_considered(now, outlook, &mut effects),
            Input::StandAside { until } => self.on_stand_aside(until, &mut effects),
            Input::WakeUp => self.on_wake_up(now, &mut effects),
            Input::Resign => self.on_resign(&mut effects),
        }
        effects
    }

    /// How long until the machine has something to decide; `None` if only an input can change anything.
    pub(crate) fn wake_in(&self, now: Duration) -> Option<Duration> {
        let at = match self.state {
            State::Idle | State::Considering | State::Campaigning => None,
            State::Aside { until } | State::Waiting { until } => Some(until),
            State::Leading(leading) => [leading.renew_at, leading.trusted_until].into_iter().flatten().min(),
        };
        at.map(|at| at.saturating_sub(now))
    }

    /// The term in which this node leads, and up to when that may be trusted (`None`: for ever).
    pub(crate) fn term(&self, now: Duration) -> Option<(Term, Option<Duration>)> {
        let leading = self.leading()?;
        let trusted = leading.trusted_until.is_none_or(|until| now < until);
        trusted.then_some((leading.term, leading.trusted_until))
    }

    /// The lease of the term in which this node leads.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.leading().and_then(|leading| leading.lease)
    }

    /// Nobody feeds the machine any more: lets go of its term, and answers which it was.
    pub(crate) fn abandon(&mut self) -> Option<Term> {
        let term = self.leading().map(|leading| leading.term);
        self.state = State::Idle;
        term
    }

    fn leading(&self) -> Option<&Leading> {
        match &self.state {
            State::Leading(leading) => Some(leading),
            State::Idle
            | State::Considering
            | State::Aside { .. }
            | State::Campaigning
            | State::Waiting { .. } => None,
        }
    }

    fn on_campaign_ended(
        &mut self,
        now: Duration,
        started: Duration,
        answer: Option<Campaign>,
        effects: &mut Effects,
    ) {
        if self.state != State::Campaigning {
            // The session was lost, or the node resigned, meanwhile: what was won is given back.
            if let Some(Campaign::Won(grant)) = answer {
                effects.push(Effect::Resign(grant.term));
            }
            return;
        }
        match answer {
            Some(Campaign::Won(grant)) => self.on_won(now, started, grant, effects),
            Some(Campaign::Lost { retry_in, .. }) => {
                self.unanswered = 0;
                // A store that did not wait itself is not asked again at once.
                let waited = now.saturating_sub(started);
                let pause = retry_in.max(RETRY_MIN.saturating_sub(waited));
                if pause.is_zero() {
                    self.stand(effects);
                } else {
                    self.state = State::Waiting { until: now.saturating_add(pause) };
                }
            }
            None => self.wait(now),
        }
    }

    fn on_won(&mut self, now: Duration, started: Duration, grant: Grant, effects: &mut Effects) {
        self.unanswered = 0;
        // What was waited before is no part of the attempt.
        let started = started.saturating_add(grant.waited);
        let trusted_until = grant.lease.map(|lease| trusted_until(started, lease));
        if trusted_until.is_some_and(|until| until <= now) {
            // Granted, but too late to be trusted.
            effects.push(Effect::Resign(grant.term));
            self.wait(now);
            return;
        }
        self.state = State::Leading(Leading {
            term: grant.term,
            lease: grant.lease,
            trusted_until,
            renew_at: grant.lease.map(|lease| renew_at(started, lease)),
        });
        effects.push(Effect::Gained(grant.term, grant.former_zone_data, grant.undecided_from));
    }

    fn on_renewal_ended(
        &mut self,
        now: Duration,
        term: Term,
        started: Duration,
        answer: Option<Renewal>,
        effects: &mut Effects,
    ) {
        // First: others may have seen the trust run out before this answer was read, and nothing brings it
        // back.
        self.expire(now, effects);
        let State::Leading(leading) = &mut self.state else { return };
        let Some(lease) = leading.lease.filter(|_| leading.term == term) else { return };
        match answer {
            Some(Renewal::Renewed) => {
                leading.trusted_until = Some(trusted_until(started, lease));
                leading.renew_at = Some(renew_at(started, lease));
                self.expire(now, effects);
            }
            Some(Renewal::Deposed) => {
                self.step_down(StepDownReason::Deposed, effects);
                self.stand(effects);
            }
            None => {
                // Again soon; the trust goes on running out meanwhile.
                leading.renew_at = Some(now.saturating_add(RETRY_MIN));
                self.expire(now, effects);
            }
        }
    }

    fn on_wake_up(&mut self, now: Duration, effects: &mut Effects) {
        self.expire(now, effects);
        match &mut self.state {
            State::Aside { until } | State::Waiting { until } if *until <= now => self.stand(effects),
            State::Leading(leading) => {
                if leading.renew_at.take_if(|at| *at <= now).is_some() {
                    effects.push(Effect::Renew(leading.term));
                }
            }
            State::Idle
            | State::Considering
            | State::Aside { .. }
            | State::Campaigning
            | State::Waiting { .. } => {}
        }
    }

    fn on_considered(&mut self, now: Duration, outlook: Objections, effects: &mut Effects) {
        let Objections { refused, led, yields } = outlook;
        if let State::Leading(Leading { term, .. }) = self.state {
            if let Some(why) = refused.then_some(StepDownReason::Refused).or(yields) {
                self.step_down(why, effects);
                effects.push(Effect::Resign(term));
                self.consider(effects);
            }
            return;
        }
        if self.state != State::Considering {
            return;
        }
        if led && self.aside_until.take().is_some() {
            // It may stand again, and others are to know before it does.
            self.consider(effects);
            return;
        }
        // A candidate who does not come to lead must not keep everybody from it.
        let leaderless_since = *self.leaderless_since.get_or_insert(now);
        if led || yields.is_none() {
            self.leaderless_since = None;
        }
        let waited = !led && now.saturating_sub(leaderless_since) > self.yields_max;
        if self.is_aside(now) || refused || (yields.is_some() && !waited) {
            let look_at = now.saturating_add(LOOK_EVERY);
            let until = self.aside_until.map_or(look_at, |until| look_at.min(until.max(now)));
            self.state = State::Aside { until };
        } else {
            self.aside_until = None;
            self.leaderless_since = None;
            self.campaign(effects);
        }
    }

    fn on_stand_aside(&mut self, until: Duration, effects: &mut Effects) {
        if self.resigned {
            return;
        }
        self.aside_until = Some(until);
        match self.state {
            // Without a session it does not campaign anyway.
            State::Idle => {}
            State::Leading(Leading { term, .. }) => {
                self.step_down(StepDownReason::Requested, effects);
                effects.push(Effect::Resign(term));
                self.consider(effects);
            }
            // What a campaign under way wins is given back.
            State::Considering | State::Aside { .. } | State::Campaigning | State::Waiting { .. } => {
                self.consider(effects);
            }
        }
    }

    fn on_resign(&mut self, effects: &mut Effects) {
        self.resigned = true;
        if let Some(term) = self.leading().map(|leading| leading.term) {
            self.step_down(StepDownReason::Resigned, effects);
            effects.push(Effect::Resign(term));
        }
        self.state = State::Idle;
    }

    /// Steps down if the trust has run out.
    fn expire(&mut self, now: Duration, effects: &mut Effects) {
        let expired =
            self.leading().and_then(|leading| leading.trusted_until).is_some_and(|until| until <= now);
        if expired {
            self.step_down(StepDownReason::TrustExpired, effects);
            self.stand(effects);
        }
    }

    fn step_down(&mut self, why: StepDownReason, effects: &mut Effects) {
        if let Some(leading) = self.leading() {
            effects.push(Effect::Lost(leading.term, why));
            self.state = State::Idle;
        }
    }

    /// Campaigns, at once or after it has considered it.
    fn stand(&mut self, effects: &mut Effects) {
        if self.considers || self.aside_until.is_some() {
            self.consider(effects);
        } else {
            self.campaign(effects);
        }
    }

    fn consider(&mut self, effects: &mut Effects) {
        self.state = State::Considering;
        effects.push(Effect::Consider);
    }

    fn campaign(&mut self, effects: &mut Effects) {
        self.state = State::Campaigning;
        effects.push(Effect::Campaign);
    }

    fn wait(&mut self, now: Duration) {
        let pause = doubled(RETRY_MIN, self.unanswered, RETRY_MAX);
        self.unanswered = self.unanswered.saturating_add(1);
        self.state = State::Waiting { until: now.saturating_add(pause) };
    }
}

/// Rarely, and with time for its answer before the trust is over.
fn renew_at(started: Duration, lease: Lease) -> Duration {
    let of_lease = |hundredths| lease.duration.saturating_mul(hundredths) / 100;
    let trust = lease.duration.saturating_sub(lease.margin);
    // Whoever gives up a third of the lease expects several tries to fail.
    let latest = if lease.margin >= lease.duration / 3 { RENEW_MIN } else { RENEW_MAX };
    let pause = trust.saturating_sub(RENEWAL_ANSWER).clamp(of_lease(RENEW_MIN), of_lease(latest));
    started.saturating_add(pause)
}

/// In whole milliseconds, so that everybody who reads it agrees when it ends.
fn trusted_until(started: Duration, lease: Lease) -> Duration {
    let until = started.saturating_add(lease.duration.saturating_sub(lease.margin));
    Duration::new(until.as_secs(), until.subsec_millis() * 1_000_000)
}

#[cfg(test)]
mod tests;
