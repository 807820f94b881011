//! What a job is expected to do, and whether it does so in time.
//!
//! An [`Alarm`] is told what happens to one job on this node, and what others say of it; asked at an instant,
//! it answers which expectations are not met, since when, and when to ask again.
//!
//! ```text
//! fire time F          F + d                    the tick is run, or skipped by its policy
//!    │ nothing started   │ overdue: start, since F + d │ recovered
//! last success S       S + d                          the next success
//!    │                   │ overdue: success, since S + d │ recovered
//! ```

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    core::{duration::DurationText, outcome::Outcome, time::FireTime},
    name::RunId,
    word::words,
};

/// The shortest time in which a success or a start may be expected.
pub const EXPECT_MIN: Duration = Duration::from_secs(1);
/// The shortest time in which an end may be expected, and the shortest run that may be.
pub const EXPECT_RUN_MIN: Duration = Duration::from_millis(1);
/// The longest time in which anything may be expected: 100 years.
pub const EXPECT_MAX: Duration = Duration::from_hours(24 * 365 * 100);

/// Something that a job is expected to do.
///
/// | | counts from | met by | while it is paused |
/// |---|---|---|---|
/// | `success` | the last success on any node; before the first, from when this node has the job | a run that succeeds, of a tick or triggered | goes on; but of a pause with an end, it counts from that end, or from the resumption before it |
/// | `start` | each fire time that no policy skips | the start of its body | nothing is expected; after it, fire times that come then count |
/// | `end` | the start of the first attempt of each run on this node | the end of that run | goes on |
/// | `at_least` | the start of the last attempt of each run on this node | a run that succeeds and takes as long | goes on |
///
/// A pause without an end does not stop the clock of `success`: one that was forgotten is the silence that it is
/// there for. `start` is met by ticks that the policies [misfire](crate::Misfire) and [overlap](crate::Overlap),
/// or a full node ([`WhenFull::Skip`](crate::WhenFull)), skip; not by those that are skipped since the store
/// refuses the job ([`JobState::Parked`](crate::JobState::Parked)). Once no fire time is left, neither `success`
/// nor `start` is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Expectation {
    /// A run succeeds again in time.
    Success,
    /// A tick that is due is started in time.
    Start,
    /// A run ends in time.
    End,
    /// A run that succeeds takes some time.
    AtLeast,
}

words!(Expectation { Success: "success", Start: "start", End: "end", AtLeast: "at_least" });

impl Expectation {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Success, Self::Start, Self::End, Self::AtLeast];
}

/// How long each expectation of a job leaves it; `None` for what is not expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Expectations {
    pub(crate) success: Option<Duration>,
    pub(crate) start: Option<Duration>,
    pub(crate) end: Option<Duration>,
    pub(crate) at_least: Option<Duration>,
}

impl Expectations {
    /// Nothing is expected.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How long one of them leaves.
    pub(crate) fn within(&self, what: Expectation) -> Option<Duration> {
        match what {
            Expectation::Success => self.success,
            Expectation::Start => self.start,
            Expectation::End => self.end,
            Expectation::AtLeast => self.at_least,
        }
    }

    /// What is wrong with them: the option, its value, and the rule that it breaks.
    pub(crate) fn faults(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut faults = Vec::new();
        let long = "1 s to 100 years (36,500 days)";
        let short = "1 ms to 100 years (36,500 days)";
        let mut check = |value: Option<Duration>, min, what, rule| {
            if let Some(value) = value.filter(|value| !(min..=EXPECT_MAX).contains(value)) {
                faults.push((what, DurationText(value).to_string(), rule));
            }
        };
        check(self.success, EXPECT_MIN, "expect_success_within", long);
        check(self.start, EXPECT_MIN, "expect_start_within", long);
        check(self.end, EXPECT_RUN_MIN, "expect_end_within", short);
        check(self.at_least, EXPECT_RUN_MIN, "expect_at_least", short);
        if let (Some(at_least), Some(end)) = (self.at_least, self.end)
            && at_least >= end
        {
            let rule = "shorter than expect_end_within";
            faults.push(("expect_at_least", DurationText(at_least).to_string(), rule));
        }
        faults
    }
}

/// A pause, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paused {
    /// When it ends by itself.
    pub(crate) until: Option<DateTime<Utc>>,
}

/// How a job stands on this node at the end of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// This node decides its ticks.
    pub(crate) fires: bool,
    /// The store refuses it: what is skipped is skipped by no policy.
    pub(crate) is_parked: bool,
    /// All ticks up to here are decided.
    pub(crate) cursor: DateTime<Utc>,
    /// The first tick that was granted and waits for a permit.
    pub(crate) granted: Option<FireTime>,
    pub(crate) paused: Option<Paused>,
    /// As many ticks have run as may.
    pub(crate) is_exhausted: bool,
}

/// What became overdue, or is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) expectation: Expectation,
    pub(crate) since: DateTime<Utc>,
    pub(crate) is_overdue: bool,
}

/// How much later than it is expected a start may be noticed to be missing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slack {
    /// What passes until a node hears of what another one decides.
    pub(crate) elsewhere: Duration,
    /// By when a missed tick is to have begun that waits for its turn, on this node or another one. It is fixed once
    /// all have asked whom one gap left behind: those that overtake it later do not move it.
    pub(crate) turn_by: Option<DateTime<Utc>>,
}

/// The answer of an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// What the history says has to be known first.
    AskHistory,
    /// This has changed.
    Known(Vec<Change>),
}

/// What is known of one job, and what is overdue of it.
#[derive(Debug)]
pub(crate) struct Alarm {
    expected: Expectations,
    /// Since when this node has the job.
    since: DateTime<Utc>,
    /// When a run succeeded last, as far as it is known.
    success: Option<DateTime<Utc>>,
    /// The end of a pause that was announced with an end: success counts from it.
    excused: Option<DateTime<Utc>>,
    /// The history was asked for the last success.
    is_rearmed: bool,
    /// Each tick up to here was started, or skipped by a policy.
    decided: DateTime<Utc>,
    /// Ticks whose runs were let start, and whose bodies have not begun.
    starting: Vec<(RunId, FireTime)>,
    /// The first tick that was granted and waits for a permit.
    granted: Option<FireTime>,
    /// Runs whose bodies have begun, and when.
    running: Vec<(RunId, DateTime<Utc>)>,
    /// When the last run ended, if it took less than it should.
    hasty: Option<DateTime<Utc>>,
    paused: Option<Paused>,
    /// As the history says; counts while this node does not decide the ticks.
    paused_elsewhere: Option<Paused>,
    is_exhausted: bool,
    fires: bool,
    /// Since when each is overdue.
    overdue: [Option<DateTime<Utc>>; Expectation::ALL.len()],
    /// When it is asked next.
    look_at: Option<DateTime<Utc>>,
    /// Somebody was told that it is to be asked.
    told: bool,
}

impl Alarm {
    /// Of a job that this node has from `now` on.
    pub(crate) fn new(expected: Expectations, now: DateTime<Utc>) -> Self {
        Self {
            expected,
            since: now,
            success: None,
            excused: None,
            is_rearmed: false,
            decided: now,
            starting: Vec::new(),
            granted: None,
            running: Vec::new(),
            hasty: None,
            paused: None,
            paused_elsewhere: None,
            is_exhausted: false,
            fires: false,
            overdue: [None; Expectation::ALL.len()],
            look_at: None,
            told: false,
        }
    }

    /// The job has another definition from `now` on.
    pub(crate) fn redefine(&mut self, expected: Expectations, is_rescheduled: bool, now: DateTime<Utc>) {
        if is_rescheduled || self.expected.start.is_none() {
            self.decided = self.decided.max(now);
        }
        if self.expected.at_least != expected.at_least {
            self.hasty = None;
        }
        self.is_exhausted = false;
        self.expected = expected;
    }

    /// How the job stands. Answers whether somebody is to be told that it is to be asked, as do the others.
    pub(crate) fn stands(&mut self, standing: Standing, now: DateTime<Utc>) -> bool {
        let Standing { fires, is_parked, cursor, granted, paused, is_exhausted } = standing;
        let changes = self.fires != fires || self.paused != paused;
        if self.paused != paused {
            self.pause_ends(self.paused, now);
        }
        if fires {
            let elsewhere = self.paused_elsewhere.take();
            self.pause_ends(elsewhere, now);
            if !is_parked {
                self.decided = self.decided.max(cursor);
            }
        }
        (self.fires, self.paused, self.granted, self.is_exhausted) = (fires, paused, granted, is_exhausted);
        self.tell(changes)
    }

    /// A pause is over by `now`.
    fn pause_ends(&mut self, pause: Option<Paused>, now: DateTime<Utc>) {
        let Some(Paused { until }) = pause else { return };
        let ended = until.map_or(now, |until| until.min(now));
        self.decided = self.decided.max(ended);
        if until.is_some() {
            self.excused = self.excused.max(Some(ended));
        }
    }

    /// The run of a tick was let start.
    pub(crate) fn starts(&mut self, run: RunId, tick: Option<FireTime>) {
        if let Some(tick) = tick.filter(|_| self.expected.start.is_some()) {
            self.starting.push((run, tick));
        }
    }

    /// The body of a run began.
    pub(crate) fn began(&mut self, run: RunId, now: DateTime<Utc>) -> bool {
        self.starting.retain(|(starting, _)| *starting != run);
        let Some(end) = self.expected.end.filter(|_| self.running.iter().all(|(known, _)| *known != run))
        else {
            return self.tell(false);
        };
        self.running.push((run, now));
        let due = later(now, end);
        self.tell(self.look_at.is_none_or(|look_at| due < look_at))
    }

    /// A run ended, after its last attempt took so long.
    pub(crate) fn ended(&mut self, run: RunId, outcome: Outcome, took: Duration, now: DateTime<Utc>) -> bool {
        self.starting.retain(|(starting, _)| *starting != run);
        self.running.retain(|(running, _)| *running != run);
        let mut is_hasty = false;
        if outcome == Outcome::Succeeded {
            self.success = self.success.max(Some(now));
            is_hasty = self.expected.at_least.is_some_and(|at_least| took < at_least);
            self.hasty = is_hasty.then_some(now);
        }
        self.tell(is_hasty)
    }

    /// A policy skipped ticks, up to this one.
    pub(crate) fn skipped(&mut self, newest: FireTime) -> bool {
        self.decided = self.decided.max(newest.instant());
        self.tell(false)
    }

    /// A leader, or the history, said that all that was due by then is decided.
    pub(crate) fn leader_decided(&mut self, by: DateTime<Utc>) {
        if !self.fires {
            self.decided = self.decided.max(by);
        }
    }

    /// What the history says of the job.
    pub(crate) fn history_says(
        &mut self,
        success: Option<DateTime<Utc>>,
        paused: Option<Paused>,
        now: DateTime<Utc>,
    ) {
        self.success = self.success.max(success);
        if !self.fires && self.paused_elsewhere != paused {
            let before = std::mem::replace(&mut self.paused_elsewhere, paused);
            self.pause_ends(before, now);
        }
    }

    fn tell(&mut self, wants: bool) -> bool {
        let wants = wants || self.is_overdue();
        wants && !std::mem::replace(&mut self.told, true)
    }

    /// Anything is overdue.
    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.iter().any(Option::is_some)
    }

    /// The instant after which the schedule is to be asked for the next fire time, and the tick that is
    /// known to come before that, if there is one.
    pub(crate) fn due_after(&mut self, now: DateTime<Utc>) -> (DateTime<Utc>, Option<FireTime>) {
        self.pause_at(now);
        let starting = self.starting.iter().map(|(_, tick)| *tick).min();
        (self.decided, [starting, self.granted].into_iter().flatten().min())
    }

    /// The pause at an instant, unless it is over by then.
    fn pause_at(&mut self, now: DateTime<Utc>) -> Option<Paused> {
        for paused in [self.paused, self.paused_elsewhere] {
            if paused.is_some_and(|paused| paused.until.is_some_and(|until| until <= now)) {
                self.pause_ends(paused, now);
            }
        }
        let lasts = |paused: &Paused| paused.until.is_none_or(|until| now < until);
        self.paused.filter(lasts).or(self.paused_elsewhere.filter(lasts))
    }

    /// When each expectation is not met any more, as far as it is known.
    fn deadlines(
        &mut self,
        now: DateTime<Utc>,
        due: Option<FireTime>,
        slack: Slack,
    ) -> [Option<Deadline>; Expectation::ALL.len()] {
        let pause = self.pause_at(now);
        let Self { expected, running, hasty, is_exhausted, .. } = &*self;
        let announced = self.excused.max(pause.and_then(|pause| pause.until));
        let from = self.success.unwrap_or(self.since);
        let from = announced.map_or(from, |announced| announced.max(from));
        let due = due.filter(|_| !is_exhausted);
        let success =
            expected.success.filter(|_| due.is_some()).map(|within| Deadline::at(later(from, within)));
        let start = due.filter(|_| pause.is_none()).zip(expected.start).map(|(due, within)| {
            let said = later(due.instant(), within);
            let elsewhere = later(due.instant(), slack.elsewhere);
            let noticed = if self.fires { said } else { said.max(elsewhere) };
            // What the pace explains is not overdue by it; what is so already stays so until it starts.
            let turn_by = slack.turn_by.filter(|_| self.overdue[Expectation::Start as usize].is_none());
            Deadline { said, noticed: turn_by.map_or(noticed, |turn_by| noticed.max(turn_by)) }
        });
        let first = running.iter().map(|(_, began)| *began).min();
        let end = first.zip(expected.end).map(|(began, within)| Deadline::at(later(began, within)));
        [success, start, end, hasty.map(Deadline::at)]
    }

    /// What has changed by `now`. `due` is the first tick that is not decided. What concerns other nodes is only said once
    /// the history was asked.
    pub(crate) fn judge(
        &mut self,
        now: DateTime<Utc>,
        due: Option<FireTime>,
        slack: Slack,
        is_asked: bool,
    ) -> Judgement {
        let deadlines = self.deadlines(now, due, slack);
        let is_over = |deadline: Option<Deadline>| deadline.filter(|deadline| deadline.noticed <= now);
        let asks = |what: Expectation| match what {
            Expectation::Success | Expectation::Start => {
                is_over(deadlines[what as usize]).is_some() || self.overdue[what as usize].is_some()
            }
            Expectation::End | Expectation::AtLeast => false,
        };
        let is_unsure =
            self.paused_elsewhere.is_some() || self.expected.success.is_some() && !self.is_rearmed;
        if !is_asked && (is_unsure || Expectation::ALL.into_iter().any(asks)) {
            return Judgement::AskHistory;
        }
        (self.told, self.is_rearmed) = (false, true);
        let mut changes = Vec::new();
        for (expectation, deadline) in Expectation::ALL.into_iter().zip(deadlines) {
            let overdue = &mut self.overdue[expectation as usize];
            match (*overdue, is_over(deadline)) {
                (None, Some(Deadline { said: since, .. })) => {
                    *overdue = Some(since);
                    changes.push(Change { expectation, since, is_overdue: true });
                }
                (Some(since), None) => {
                    *overdue = None;
                    changes.push(Change { expectation, since, is_overdue: false });
                }
                (None, None) | (Some(_), Some(_)) => {}
            }
        }
        let ahead = deadlines.into_iter().flatten().map(|deadline| deadline.noticed).filter(|at| *at > now);
        let pause_ends = [self.paused, self.paused_elsewhere].into_iter().flatten();
        let pause_ends = pause_ends.filter_map(|pause| pause.until).filter(|until| *until > now);
        self.look_at = ahead.chain(pause_ends).min();
        Judgement::Known(changes)
    }

    /// When it is to be asked next, if nothing happens before; what is overdue, or paused elsewhere, is looked
    /// at again after `again`.
    pub(crate) fn look_at(&self, now: DateTime<Utc>, again: Duration) -> Option<DateTime<Utc>> {
        let waits = self.is_overdue() || self.paused_elsewhere.is_some();
        [self.look_at, waits.then(|| later(now, again))].into_iter().flatten().min()
    }

    /// What is overdue, and since when.
    pub(crate) fn overdue(&self) -> impl Iterator<Item = (Expectation, DateTime<Utc>)> {
        let since = Expectation::ALL.into_iter().zip(self.overdue);
        since.filter_map(|(expectation, since)| Some((expectation, since?)))
    }
}

/// When an expectation is not met any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deadline {
    said: DateTime<Utc>,
    /// When this node can know it.
    noticed: DateTime<Utc>,
}

impl Deadline {
    fn at(said: DateTime<Utc>) -> Self {
        Self { said, noticed: said }
    }
}

fn later(instant: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by)
        .ok()
        .and_then(|by| instant.checked_add_signed(by))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests;
