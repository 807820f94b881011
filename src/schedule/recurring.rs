//! What days, weeks and months have in common.

use std::fmt::Write as _;

use callsheet_actors::Fault;
use chrono::{NaiveDate, NaiveTime};

use super::{
    civil::Resolver,
    compile::CompileContext,
    days::{Days, DaysAt},
    dst::{Fold, Gap},
    input::{Given, Readable, read_all},
    instant,
    tree::{CivilTimes, Compiled, Times, Tree},
};

/// The most times of a day.
const TIMES_MAX: usize = 1_440;

/// How often, and at which times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recurrence {
    pub(super) every: u32,
    pub(super) at: Vec<Given<NaiveTime>>,
}

impl Default for Recurrence {
    fn default() -> Self {
        Self { every: 1, at: Vec::new() }
    }
}

impl Recurrence {
    /// The number of days, weeks or months, and the times; the rest of the faults goes to `faults`.
    pub(super) fn read(&self, kind: &str, max: u32, faults: &mut Vec<Fault>) -> (i64, Vec<NaiveTime>) {
        if !(1..=max).contains(&self.every) {
            let rule = format!("it is a number from 1 to {max} (a hundred years)");
            faults.push(Fault::new(
                format!("{kind}.every"),
                self.every.to_string(),
                rule,
                "choose one of these",
            ));
        }
        let subject = format!("{kind}.at");
        if self.at.len() > TIMES_MAX {
            let rule = format!("a day has at most {TIMES_MAX} times here");
            faults.push(Fault::new(&subject, self.at.len().to_string(), rule, "use `every` or `cron`"));
        }
        let mut times = read_all(&self.at, &subject, faults);
        for time in &times {
            if NaiveTime::read(&time.written()) != Ok(*time) {
                let rule = "a time of day is a whole number of seconds";
                faults.push(Fault::new(&subject, time.to_string(), rule, "round it to seconds"));
            }
        }
        if self.at.is_empty() {
            times.push(NaiveTime::MIN);
        }
        (self.every.into(), times)
    }
}

/// The civil date of the anchor.
pub(super) fn anchor_date(context: &CompileContext) -> NaiveDate {
    let Some(anchor) = context.anchor else {
        return NaiveDate::from_ymd_opt(1970, 1, 1).expect("invariant: this date exists");
    };
    let civil = anchor + context.zone().span_at(anchor).offset;
    let limit = if civil < 0 { NaiveDate::MIN } else { NaiveDate::MAX };
    instant::from_millis(civil).map_or(limit, |civil| civil.date_naive())
}

/// Puts the parts together; `text` is what listings show before the times.
pub(super) fn compiled(context: &CompileContext, days: Days, times: Vec<NaiveTime>, text: &str) -> Compiled {
    let (gap, fold) = (context.gap.unwrap_or(Gap::Shift), context.fold.unwrap_or(Fold::First));
    let resolver = Resolver::new(context.zone(), gap, fold);
    let rule = DaysAt::new(days, times);
    let times: Vec<String> = rule.times().iter().map(Readable::written).collect();
    let mut text = format!("{text} at {} ({})", times.join(", "), in_zone(context));
    if context.anchor.is_some() && days.is_counted() {
        let _ = write!(text, " counted from {}", anchor_date(context));
    }
    Compiled {
        tree: Tree::Civil(Box::new(CivilTimes { rule: Times::Days(rule), resolver, is_every_hour: false })),
        text: text.into(),
    }
}

/// The zone and what was chosen for its changes, as listings show them.
pub(super) fn in_zone(context: &CompileContext) -> String {
    let mut text = context.zone().name().to_owned();
    if let Some(gap) = context.gap {
        let _ = write!(text, ", gap {}", gap.name());
    }
    if let Some(fold) = context.fold {
        let _ = write!(text, ", fold {}", fold.name());
    }
    text
}

/// `daily`, `every 2 days`.
pub(super) fn step_text(every: i64, once: &str, unit: &str) -> String {
    if every == 1 { once.to_owned() } else { format!("every {every} {unit}") }
}
