//! Compiled schedules.

use std::sync::Arc;

use callsheet_actors::port::Schedule;
use chrono::{DateTime, NaiveDateTime, Utc};

use super::{
    at::Instants,
    calendar::Exclusion,
    civil::{CivilRule, Resolver},
    days::DaysAt,
    every::{AfterCompletion, Interval},
    hash::{Domain, Seed},
    instant,
    pattern::Pattern,
    random::Spread,
};

/// How many fire times in a row may be excluded by calendars, for one answer. More than these, and the
/// schedule answers that there is none: a search that never ends would be worse.
///
/// A fire time that many schedules were asked about counts for more: once, and once more for every sixteen of
/// them.
pub const EXCLUDED_MAX: u32 = 100_000;
/// So many schedules of calendars are asked for the price of one excluded fire time.
const ASKED_PER_COUNT: u32 = 16;

/// A checked definition: the rule, and how listings show it.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) tree: Tree,
    pub(super) text: Box<str>,
}

impl Compiled {
    pub(super) fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let earliest = match self.tree.counts_from_completion() {
            // Not even by the part of a millisecond too early.
            true => instant::ceiling(after) + 1,
            false => instant::following(after),
        };
        let mut budget = Budget::default();
        let first = self.tree.first_from(earliest, &mut budget).and_then(instant::from_millis);
        // What a schedule of the application inside of this one breaks, this one breaks as well: its job says
        // so.
        if budget.contract_broken { Some(after) } else { first }
    }

    pub(super) fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut budget = Budget::default();
        let last =
            self.tree.last_until(instant::preceding(before), &mut budget).and_then(instant::from_millis);
        if budget.contract_broken { Some(before) } else { last }
    }

    /// The rule of the job of this name, if there is something in it that looks random.
    pub(super) fn for_job(&self, job: &str) -> Option<Self> {
        if !self.tree.may_look_random() {
            return None;
        }
        let mut tree = self.tree.clone();
        tree.seed(job).then(|| Self { tree, text: self.text.clone() })
    }
}

/// How many more excluded fire times a question may pass over.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    /// A schedule of the application gave an answer that lies on the wrong side.
    contract_broken: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(EXCLUDED_MAX)
    }
}

impl Budget {
    pub(super) fn of(count: u32) -> Self {
        Self { left: count, contract_broken: false }
    }

    fn take(&mut self, count: u32) -> Option<()> {
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => {
                self.left = 0;
                return None;
            }
        }
        Some(())
    }

    /// Asks the members of a union. One that gives up leaves half of what it was given to those after it, so
    /// that it takes no fire time from them, and the sum stays bounded.
    fn of_each(
        &mut self,
        members: &[Tree],
        ask: impl Fn(&Tree, &mut Self) -> Option<i64>,
    ) -> impl Iterator<Item = i64> {
        members.iter().filter_map(move |member| {
            let before = self.left;
            let answer = ask(member, self);
            if self.left == 0 {
                self.left = before / 2;
            }
            answer
        })
    }
}

/// A rule. All numbers are milliseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Civil(Box<CivilTimes>),
    Interval(Interval),
    /// Counted from the end of the last run.
    AfterCompletion(AfterCompletion),
    Random(Spread),
    At(Instants),
    Any(Box<[Tree]>),
    Custom(Custom),
    Except(Box<Except>),
    Window(Box<Window>),
    Jitter(Box<Jitter>),
}

/// Civil times in a zone.
#[derive(Debug, Clone)]
pub(super) struct CivilTimes {
    pub(super) rule: Times,
    pub(super) resolver: Resolver,
    /// Whether it fires in every hour, and so on both sides of what the clocks skip.
    pub(super) is_every_hour: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Times {
    Pattern(Pattern),
    Days(DaysAt),
}

/// A schedule of the application.
#[derive(Debug, Clone)]
pub(super) struct Custom(pub(super) Arc<dyn Schedule>);

#[derive(Debug, Clone)]
pub(super) struct Except {
    pub(super) of: Tree,
    exclusions: Box<[Exclusion]>,
    /// What one excluded fire time counts for.
    cost: u32,
}

/// The part of a schedule from an instant on, and before another.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) of: Tree,
    /// `i64::MIN` if there is none.
    pub(super) from: i64,
    /// The first instant after the window; `i64::MAX` if there is none.
    pub(super) until: i64,
}

/// A schedule whose fire times are delayed, each by some time that is always the same for it.
#[derive(Debug, Clone)]
pub(super) struct Jitter {
    pub(super) of: Tree,
    pub(super) max: i64,
    /// What no fire time reaches.
    pub(super) until: i64,
    pub(super) seed: Seed,
}

impl Tree {
    /// The first fire time that is not before `earliest`.
    pub(super) fn first_from(&self, earliest: i64, budget: &mut Budget) -> Option<i64> {
        if earliest > instant::RANGE.1 {
            return None;
        }
        let earliest = earliest.max(instant::RANGE.0);
        match self {
            Self::Civil(civil) => civil.resolver.first_from(&civil.rule, earliest),
            Self::Interval(interval) => interval.first_from(earliest),
            Self::AfterCompletion(pause) => pause.first_from(earliest),
            Self::Random(spread) => spread.first_from(earliest),
            Self::At(instants) => instants.first_from(earliest),
            Self::Any(members) => {
                budget.of_each(members, |member, budget| member.first_from(earliest, budget)).min()
            }
            Self::Custom(custom) => custom.first_from(earliest, budget),
            Self::Except(except) => except.first_from(earliest, budget),
            Self::Window(window) => {
                let first = window.of.first_from(earliest.max(window.from), budget)?;
                Some(first).filter(|first| *first < window.until)
            }
            Self::Jitter(jitter) => jitter.first_from(earliest, budget),
        }
    }

    /// The last fire time that is not after `latest`.
    pub(super) fn last_until(&self, latest: i64, budget: &mut Budget) -> Option<i64> {
        if latest < instant::RANGE.0 {
            return None;
        }
        let latest = latest.min(instant::RANGE.1);
        match self {
            Self::Civil(civil) => civil.resolver.last_until(&civil.rule, latest),
            Self::Interval(interval) => interval.last_until(latest),
            // It depends on runs that nobody here knows.
            Self::AfterCompletion(_) => None,
            Self::Random(spread) => spread.last_until(latest),
            Self::At(instants) => instants.last_until(latest),
            Self::Any(members) => {
                budget.of_each(members, |member, budget| member.last_until(latest, budget)).max()
            }
            Self::Custom(custom) => custom.last_until(latest, budget),
            Self::Except(except) => except.last_until(latest, budget),
            Self::Window(window) => {
                let last = window.of.last_until(latest.min(window.until.saturating_sub(1)), budget)?;
                Some(last).filter(|last| *last >= window.from)
            }
            Self::Jitter(jitter) => jitter.last_until(latest, budget),
        }
    }

    /// Whether an instant is a fire time.
    pub(super) fn contains(&self, millis: i64, budget: &mut Budget) -> bool {
        self.first_from(millis, budget) == Some(millis)
    }

    /// The zone, if there is one in which all of it is written.
    pub(super) fn timezone(&self) -> Option<&str> {
        match self {
            Self::Civil(civil) => Some(civil.resolver.zone().name()),
            Self::Interval(_) | Self::AfterCompletion(_) | Self::Random(_) | Self::At(_) => None,
            Self::Any(members) => {
                let first = members.first()?.timezone();
                first.filter(|_| members.iter().all(|member| member.timezone() == first))
            }
            Self::Custom(custom) => custom.0.timezone(),
            Self::Except(except) => except.of.timezone(),
            Self::Window(window) => window.of.timezone(),
            Self::Jitter(jitter) => jitter.of.timezone(),
        }
    }

    /// The milliseconds from each fire time to the next one, if they are always as many.
    pub(super) fn period(&self) -> Option<i64> {
        match self {
            Self::Interval(interval) => Some(interval.period),
            Self::Window(window) => window.of.period(),
            Self::Civil(_)
            | Self::AfterCompletion(_)
            | Self::Random(_)
            | Self::At(_)
            | Self::Any(_)
            | Self::Custom(_)
            | Self::Except(_)
            | Self::Jitter(_) => None,
        }
    }

    /// Whether there is one fire time at most.
    pub(super) fn fires_once(&self) -> bool {
        match self {
            Self::At(instants) => instants.is_one(),
            Self::Window(window) => window.of.fires_once(),
            Self::Except(except) => except.of.fires_once(),
            Self::Jitter(jitter) => jitter.of.fires_once(),
            Self::Custom(custom) => custom.0.fires_once(),
            Self::Civil(_)
            | Self::Interval(_)
            | Self::AfterCompletion(_)
            | Self::Random(_)
            | Self::Any(_) => false,
        }
    }

    /// Whether a schedule of the application is asked that may block.
    pub(super) fn may_block(&self) -> bool {
        match self {
            Self::Any(members) => members.iter().any(Self::may_block),
            Self::Window(window) => window.of.may_block(),
            Self::Except(except) => {
                except.of.may_block() || except.exclusions.iter().any(Exclusion::may_block)
            }
            Self::Jitter(jitter) => jitter.of.may_block(),
            Self::Custom(custom) => custom.0.may_block(),
            Self::Civil(_) | Self::Interval(_) | Self::AfterCompletion(_) | Self::Random(_) | Self::At(_) => {
                false
            }
        }
    }

    /// Whether fire times count from the end of the last run. What can look at several fire times of a
    /// schedule in a row refuses such ones.
    pub(super) fn counts_from_completion(&self) -> bool {
        match self {
            Self::AfterCompletion(_) => true,
            Self::Window(window) => window.of.counts_from_completion(),
            Self::Custom(custom) => custom.0.counts_from_completion(),
            Self::Civil(_)
            | Self::Interval(_)
            | Self::Random(_)
            | Self::At(_)
            | Self::Any(_)
            | Self::Except(_)
            | Self::Jitter(_) => false,
        }
    }

    /// How many layers of jitter lie within each other. Each asks the one below several times.
    pub(super) fn jitter_depth(&self) -> usize {
        match self {
            Self::Civil(_)
            | Self::Interval(_)
            | Self::AfterCompletion(_)
            | Self::Random(_)
            | Self::At(_)
            | Self::Custom(_) => 0,
            Self::Any(members) => members.iter().map(Self::jitter_depth).max().unwrap_or(0),
            Self::Except(except) => {
                let of_calendars = except.exclusions.iter().flat_map(Exclusion::ticks);
                of_calendars.map(Self::jitter_depth).fold(except.of.jitter_depth(), usize::max)
            }
            Self::Window(window) => window.of.jitter_depth(),
            Self::Jitter(jitter) => jitter.of.jitter_depth() + 1,
        }
    }

    /// How many rules it is made of.
    fn size(&self) -> usize {
        match self {
            Self::Civil(_)
            | Self::Interval(_)
            | Self::AfterCompletion(_)
            | Self::Random(_)
            | Self::At(_)
            | Self::Custom(_) => 1,
            Self::Any(members) => members.iter().map(Self::size).sum(),
            Self::Except(except) => {
                except.of.size()
                    + except.exclusions.iter().flat_map(Exclusion::ticks).map(Self::size).sum::<usize>()
            }
            Self::Window(window) => window.of.size(),
            Self::Jitter(jitter) => jitter.of.size(),
        }
    }

    /// Whether there may be something in it that looks random. To look is cheaper than to copy it.
    fn may_look_random(&self) -> bool {
        match self {
            Self::Civil(_) | Self::Interval(_) | Self::AfterCompletion(_) | Self::At(_) => false,
            Self::Window(window) => window.of.may_look_random(),
            Self::Any(members) => members.iter().any(Self::may_look_random),
            Self::Random(_) | Self::Custom(_) | Self::Except(_) | Self::Jitter(_) => true,
        }
    }

    /// Takes the job's name as the seed of what looks random; says whether there is such a thing.
    fn seed(&mut self, job: &str) -> bool {
        match self {
            Self::Civil(_) | Self::Interval(_) | Self::AfterCompletion(_) | Self::At(_) => false,
            Self::Random(spread) => spread.seed(job),
            Self::Any(members) => members.iter_mut().fold(false, |any, member| member.seed(job) | any),
            Self::Custom(custom) => match custom.0.for_job(job) {
                Some(schedule) => {
                    custom.0 = schedule;
                    true
                }
                None => false,
            },
            Self::Except(except) => {
                let of_calendars = except.exclusions.iter_mut().flat_map(Exclusion::ticks_mut);
                of_calendars.fold(except.of.seed(job), |any, ticks| ticks.seed(job) | any)
            }
            Self::Window(window) => window.of.seed(job),
            Self::Jitter(jitter) => {
                jitter.seed = Seed::of(job);
                jitter.of.seed(job);
                true
            }
        }
    }
}

impl CivilRule for Times {
    fn first_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        match self {
            Self::Pattern(pattern) => pattern.first_from(from),
            Self::Days(days) => days.first_from(from),
        }
    }

    fn last_until(&self, until: NaiveDateTime) -> Option<NaiveDateTime> {
        match self {
            Self::Pattern(pattern) => pattern.last_until(until),
            Self::Days(days) => days.last_until(until),
        }
    }
}

// A schedule of the application may break the contract: what it answers is rounded to milliseconds, and an
// answer that lies on the wrong side counts as none, so that no search here runs in circles. The budget tells
// whoever asked.
impl Custom {
    fn first_from(&self, earliest: i64, budget: &mut Budget) -> Option<i64> {
        let before = instant::from_millis(earliest - 1).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let first = self.0.next_after(before).map(instant::ceiling)?;
        budget.contract_broken |= first < earliest;
        Some(first).filter(|first| *first >= earliest)
    }

    fn last_until(&self, latest: i64, budget: &mut Budget) -> Option<i64> {
        let after = instant::from_millis(latest + 1).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let last = self.0.previous_before(after).map(instant::ceiling)?;
        budget.contract_broken |= last > latest;
        Some(last).filter(|last| *last <= latest)
    }
}

impl Except {
    /// The calendar that leaves an instant out.
    pub(super) fn left_out_by(&self, millis: i64) -> Option<&str> {
        let mut budget = Budget::default();
        let by = self.exclusions.iter().find(|exclusion| exclusion.over_at(millis, &mut budget).is_some());
        by.map(Exclusion::name)
    }

    pub(super) fn new(of: Tree, exclusions: Box<[Exclusion]>) -> Self {
        let asked: usize = exclusions.iter().flat_map(Exclusion::ticks).map(Tree::size).sum();
        let asked = u32::try_from(asked).unwrap_or(u32::MAX);
        Self { of, exclusions, cost: asked / ASKED_PER_COUNT + 1 }
    }

    fn first_from(&self, mut earliest: i64, budget: &mut Budget) -> Option<i64> {
        loop {
            let first = self.of.first_from(earliest, budget)?;
            let over = self.exclusions.iter().filter_map(|exclusion| exclusion.over_at(first, budget)).max();
            let Some(over) = over else { return Some(first) };
            budget.take(self.cost)?;
            earliest = over;
        }
    }

    fn last_until(&self, mut latest: i64, budget: &mut Budget) -> Option<i64> {
        loop {
            let last = self.of.last_until(latest, budget)?;
            let since = self.exclusions.iter().filter_map(|exclusion| exclusion.since(last, budget)).min();
            let Some(since) = since else { return Some(last) };
            budget.take(self.cost)?;
            latest = since.saturating_sub(1);
        }
    }
}

impl Jitter {
    // A fire time stays before the one that follows, so the order is that of the planned ones, and the answer
    // to any question is one of two neighbours.

    fn first_from(&self, earliest: i64, budget: &mut Budget) -> Option<i64> {
        let started = self.of.last_until(earliest.saturating_sub(1), budget);
        if let Some(delayed) = started.map(|planned| self.delayed(planned, budget))
            && delayed >= earliest
        {
            return Some(delayed);
        }
        let planned = self.of.first_from(earliest, budget)?;
        Some(self.delayed(planned, budget))
    }

    fn last_until(&self, latest: i64, budget: &mut Budget) -> Option<i64> {
        let planned = self.of.last_until(latest, budget)?;
        let delayed = self.delayed(planned, budget);
        if delayed <= latest {
            return Some(delayed);
        }
        let planned = self.of.last_until(planned - 1, budget)?;
        Some(self.delayed(planned, budget))
    }

    /// The fire time of a planned one.
    pub(super) fn delayed(&self, planned: i64, budget: &mut Budget) -> i64 {
        let next = self.of.first_from(planned + 1, budget).unwrap_or(i64::MAX);
        let max = self.max.min(next.min(self.until).saturating_sub(planned + 1));
        planned + self.seed.number(Domain::Jitter, planned, max)
    }

    /// The planned time of a fire time.
    pub(super) fn planned(&self, fire_time: i64, budget: &mut Budget) -> Option<i64> {
        self.of.last_until(fire_time, budget)
    }
}
