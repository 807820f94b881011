//! What a job does that the store refuses for its data: it skips its ticks, and asks the store nothing.
//!
//! Such ticks are counted when they are skipped. The store's cursor moves over them once it takes the job
//! again:
//!
//! ```text
//! ticks        1 2 3 4 5 6 7
//! the store    1 ✗ · · · 6 7      ✗ refuses the claim of 2; takes the job again before 6
//! this node    1 2 3 4 5 6 7      2 to 5 are skipped as parked; the claim of 6 starts at 1
//! ```
//!
//! What was due before this node came to decide the ticks of a parked job is counted by nobody here. Once the
//! store takes the job again, such ticks are missed as any others.

use chrono::{DateTime, Utc};

use super::{Effect, Effects, JobMachine, Mode, Refusal, Timer};
use crate::{
    core::{
        contract::Breach,
        job::FLUSH_AFTER,
        misfire::Due,
        seldom::Seldom,
        time::{FireTime, Now},
    },
    port::{Authority, SkipReason, Skips},
};

/// How many spans of skipped ticks a job remembers. Those of the oldest are decided anew if there are more.
const SPANS_MAX: usize = 8;

/// The ticks after an instant, up to and including another, were skipped as parked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    after: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Span {
    fn contains(&self, tick: FireTime) -> bool {
        self.after < tick.instant() && tick.instant() <= self.to
    }
}

/// The spans of ticks that were skipped as parked, in their order.
#[derive(Debug, Default)]
pub(super) struct ParkedSpans(Seldom<Span>);

impl ParkedSpans {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn with(&self, tick: FireTime) -> Option<Span> {
        self.0.iter().copied().find(|span| span.contains(tick))
    }

    /// The instant at which the first span begins that does not begin before a tick.
    fn next_after(&self, tick: FireTime) -> Option<DateTime<Utc>> {
        self.0.iter().map(|span| span.after).find(|after| tick.instant() <= *after)
    }

    /// The store knows of everything up to here.
    fn forget_until(&mut self, stored: DateTime<Utc>) {
        self.0.list_mut().retain(|span| span.to > stored);
    }

    /// Ticks were skipped from the first one after an instant.
    fn add(&mut self, after: DateTime<Utc>, to: DateTime<Utc>) {
        let spans = self.0.list_mut();
        if let Some(before) = spans.iter_mut().find(|span| span.to == after) {
            before.to = to;
            return;
        }
        if spans.len() >= SPANS_MAX {
            spans.remove(0);
        }
        let place = spans.partition_point(|span| span.after < after);
        spans.insert(place, Span { after, to });
    }
}

impl JobMachine {
    /// Unless this node has fired the job until now, what was due before `since` is not for it to skip.
    pub(super) fn on_park(&mut self, since: DateTime<Utc>, authority: Authority) {
        let since = match self.mode {
            _ if self.closing.draining => return,
            Mode::Parked { authority: former, .. } if former == authority => return,
            Mode::Firing(_) => self.cursor.stored,
            Mode::Dormant | Mode::Parked { .. } => since,
        };
        self.mode = Mode::Parked { authority, since };
        self.timers.stop(Timer::ClaimLater);
        self.forget_pending_retries();
        self.start_over(self.cursor.stored);
    }

    /// The store refuses what was asked of it last, alone.
    pub(super) fn on_bad_data(&mut self, reason: &str, effects: &mut Effects) {
        // Under another definition it may be taken: whoever resumes the job decides.
        if self.decides_on() {
            if let Mode::Firing(Some(authority)) = self.mode {
                self.mode = Mode::Parked { authority, since: self.cursor.stored };
            }
            self.timers.stop(Timer::ClaimLater);
            self.forget_pending_retries();
            let reason = reason.into();
            self.refuse_callers(&Refusal::Parked { reason }, effects);
        }
        self.start_over(self.cursor.stored);
    }

    /// Skips every tick that is due, from the first one after `since`.
    pub(super) fn skip_parked(
        &mut self,
        now: Now,
        since: DateTime<Utc>,
        effects: &mut Effects,
    ) -> Result<(), Breach> {
        if !self.asked.is_nothing() {
            return Ok(());
        }
        self.cursor.go_on_after(since);
        loop {
            self.refresh_next()?;
            if self.cursor.next.is_none() {
                self.follow_completion()?;
            }
            let Some(first) = self.cursor.due_by(now.wall) else { return Ok(()) };
            if let Some(span) = self.cursor.parked.with(first) {
                // The store may not know yet, but it was said and counted.
                self.cursor.go_on_after(span.to);
                continue;
            }
            let until = self.cursor.parked.next_after(first);
            let after = self.cursor.taken_in;
            let (newest, skips) =
                self.skip_up_to(first, until.map_or(now.wall, |until| until.min(now.wall)))?;
            self.cursor.parked.add(after, newest.instant());
            let (reason, count, at_least) = (SkipReason::Parked, skips.total(), skips.at_least);
            effects.push(Effect::Skipped { first, newest, reason, count, at_least });
            effects.push(Effect::Count { started: 0, skips });
        }
    }

    /// What was skipped while the store refused the job is not decided again, but the store is to hear of it.
    /// What is due before is decided as any tick.
    pub(super) fn pass_parked(&mut self, now: Now, effects: &mut Effects) -> Result<(), Breach> {
        self.cursor.parked.forget_until(self.cursor.stored);
        let parked = self.cursor.parked.0.to_vec();
        for span in parked {
            if span.after >= now.wall {
                break;
            }
            if let Some(waiting) = self.collect_until(now, span.after, effects)? {
                self.backlog.push_back(waiting);
                self.drop_beyond_the_bound(now, effects);
            }
            if let Some(first) = self.cursor.due_by(span.to) {
                let (_, skips) = self.skip_up_to(first, span.to)?;
                self.backlog.skip_after_all(&skips);
                self.timers.set_once(Timer::Flush, now.elapsed + FLUSH_AFTER);
            }
        }
        Ok(())
    }

    /// Takes the ticks from the `first` one that is undecided. Answers the newest of them, and their number.
    fn skip_up_to(&mut self, first: FireTime, until: DateTime<Utc>) -> Result<(FireTime, Skips), Breach> {
        let schedule = &*self.schedule;
        // Of one that counts from the end of runs, nobody knows the newest tick without those before it.
        let due = if schedule.counts_from_completion() {
            Due::first_admitted(schedule, first, until, |_, _| false)?
        } else {
            Due::collect(schedule, first, until, 1)?
        };
        let newest = due.newest.last().copied().unwrap_or(first);
        self.cursor.taken_in = newest.instant();
        self.cursor.next = due.following;
        Ok((newest, Skips::new(SkipReason::Parked, due.older + 1, due.at_least)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::tests::at;

    fn spans(spans: &[(&str, &str)]) -> ParkedSpans {
        let mut parked = ParkedSpans::default();
        spans.iter().for_each(|(after, to)| parked.add(at(after), at(to)));
        parked
    }

    fn listed(parked: &ParkedSpans) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
        parked.0.iter().map(|span| (span.after, span.to)).collect()
    }

    #[test]
    fn spans_stand_in_their_order_and_one_that_goes_on_is_one() {
        for (added, known) in [
            (&[("01:00", "02:00"), ("02:00", "03:00")][..], &[("01:00", "03:00")][..]),
            (&[("04:00", "05:00"), ("01:00", "02:00")], &[("01:00", "02:00"), ("04:00", "05:00")]),
        ] {
            let known: Vec<_> = known.iter().map(|(after, to)| (at(after), at(to))).collect();
            assert_eq!(listed(&spans(added)), known);
        }
    }

    #[test]
    fn a_span_holds_the_ticks_after_its_start_up_to_its_end() {
        let parked = spans(&[("01:00", "02:00"), ("04:00", "05:00")]);

        for (tick, is_in, next) in [
            ("00:30", false, Some("01:00")),
            ("01:00", false, Some("01:00")),
            ("01:30", true, Some("04:00")),
            ("02:00", true, Some("04:00")),
            ("03:00", false, Some("04:00")),
            ("05:00", true, None),
        ] {
            let tick = FireTime::new(at(tick));
            assert_eq!(
                (parked.with(tick).is_some(), parked.next_after(tick)),
                (is_in, next.map(at)),
                "{tick}"
            );
        }
    }

    #[test]
    fn the_oldest_spans_go_beyond_the_bound_or_once_the_store_knows() {
        let mut parked = ParkedSpans::default();
        for minute in 0..=SPANS_MAX {
            parked.add(at(&format!("01:{:02}", 2 * minute)), at(&format!("01:{:02}", 2 * minute + 1)));
        }
        assert_eq!((parked.0.len(), parked.0[0].after), (SPANS_MAX, at("01:02")));

        parked.forget_until(at("01:15"));

        assert_eq!(listed(&parked), [(at("01:16"), at("01:17"))]);
    }
}
