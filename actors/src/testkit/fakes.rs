//! Schedules and bodies that are simple, or misbehave on purpose.

use std::{
    fmt,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use actix::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};

use crate::{event::Event, port::Schedule};

/// Fires at every multiple of a period since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub struct Period(
    /// The period: whole milliseconds, positive.
    pub TimeDelta,
);

impl Period {
    /// Every so many hours.
    ///
    /// # Panics
    ///
    /// If it is not positive, or longer than a `TimeDelta` may be.
    pub fn hours(hours: i64) -> Self {
        Self::positive(TimeDelta::try_hours(hours))
    }

    /// Every so many seconds.
    ///
    /// # Panics
    ///
    /// If it is not positive, or longer than a `TimeDelta` may be.
    pub fn seconds(seconds: i64) -> Self {
        Self::positive(TimeDelta::try_seconds(seconds))
    }

    /// Every so many milliseconds.
    ///
    /// # Panics
    ///
    /// If it is not positive.
    pub fn millis(millis: i64) -> Self {
        Self::positive(TimeDelta::try_milliseconds(millis))
    }

    fn positive(period: Option<TimeDelta>) -> Self {
        let period = period.filter(|period| *period > TimeDelta::zero());
        Self(period.expect("a period is positive, and below 2⁶³ ms; choose another number"))
    }

    fn nth(self, n: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(n.checked_mul(self.0.num_milliseconds())?)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every {}", self.0)
    }
}

impl Schedule for Period {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let n = after.timestamp_millis().div_euclid(self.0.num_milliseconds());
        self.nth(n + 1)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let n = before.timestamp_millis().div_euclid(self.0.num_milliseconds());
        self.nth(n).filter(|at| *at < before).or_else(|| self.nth(n - 1))
    }
}

/// Behaves like a [`Period`], but panics when it is asked for the fire time after one of the first `panics`
/// questions that follow `after`.
#[derive(Debug)]
pub struct PanickingSchedule {
    period: Period,
    after: DateTime<Utc>,
    panics: u32,
    panicked: AtomicU32,
}

impl PanickingSchedule {
    /// Panics `panics` times once it is asked for fire times after `after`.
    pub fn new(period: Period, after: DateTime<Utc>, panics: u32) -> Self {
        Self { period, after, panics, panicked: AtomicU32::new(0) }
    }
}

impl fmt::Display for PanickingSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, panicking", self.period)
    }
}

impl Schedule for PanickingSchedule {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after >= self.after && self.panicked.fetch_add(1, Ordering::Relaxed) < self.panics {
            panic!("a schedule that panics on purpose");
        }
        self.period.next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.period.previous_before(before)
    }
}

/// A listener that takes its time for each event.
#[derive(Debug, Clone, Copy)]
pub struct SlowListener(
    /// How long it takes.
    pub Duration,
);

impl Actor for SlowListener {
    type Context = Context<Self>;
}

impl Handler<Event> for SlowListener {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Event, _: &mut Self::Context) -> Self::Result {
        AtomicResponse::new(Box::pin(tokio::time::sleep(self.0).into_actor(self)))
    }
}

/// A listener that panics on its first event.
#[derive(Debug, Clone, Copy)]
pub struct PanickingListener;

impl Actor for PanickingListener {
    type Context = Context<Self>;
}

impl Handler<Event> for PanickingListener {
    type Result = ();

    fn handle(&mut self, _: Event, _: &mut Self::Context) {
        panic!("a listener that panics on purpose");
    }
}
