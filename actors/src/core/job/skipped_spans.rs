//! Spans of ticks that do not run, whatever the policies say: those that were skipped while the store refused the
//! job, and those that a leader before may have started.
//!
//! ```text
//! parked      counted when they were skipped; the store is to hear of them
//! unproven    counted when they are taken in, as any skipped tick
//! ```

use chrono::{DateTime, Utc};

use super::{Effects, FLUSH_AFTER, JobMachine, Timer};
use crate::{
    core::{
        contract::Breach,
        seldom::Seldom,
        time::{FireTime, Now},
    },
    port::SkipReason,
};

/// How many spans of parked ticks a job remembers. Those of the oldest are decided anew if there are more.
const SPANS_MAX: usize = 8;

/// Ticks after an instant, up to and including another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    after: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    kind: SpanKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpanKind {
    /// They were skipped as parked, and counted.
    Parked,
    /// They are to be skipped as unproven.
    Unproven,
}

impl Span {
    fn contains(&self, tick: FireTime) -> bool {
        self.after < tick.instant() && tick.instant() <= self.to
    }
}

/// The spans of ticks that do not run, in their order.
#[derive(Debug, Default)]
pub(super) struct SkippedSpans(Seldom<Span>);

impl SkippedSpans {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn parked(&self) -> impl Iterator<Item = &Span> {
        self.0.iter().filter(|span| span.kind == SpanKind::Parked)
    }

    /// The span of parked ticks that holds a tick.
    pub(super) fn parked_with(&self, tick: FireTime) -> Option<Span> {
        self.parked().copied().find(|span| span.contains(tick))
    }

    /// The instant at which the first span of parked ticks begins that does not begin before a tick.
    pub(super) fn parked_after(&self, tick: FireTime) -> Option<DateTime<Utc>> {
        self.parked().map(|span| span.after).find(|after| tick.instant() <= *after)
    }

    /// The store knows of everything up to here.
    fn forget_until(&mut self, stored: DateTime<Utc>) {
        self.0.list_mut().retain(|span| span.to > stored);
    }

    /// Ticks were skipped as parked from the first one after an instant.
    pub(super) fn add_parked(&mut self, after: DateTime<Utc>, to: DateTime<Utc>) {
        let spans = self.0.list_mut();
        let goes_on = |span: &&mut Span| span.kind == SpanKind::Parked && span.to == after;
        if let Some(before) = spans.iter_mut().find(goes_on) {
            before.to = to;
            return;
        }
        if spans.len() >= SPANS_MAX {
            spans.remove(0);
        }
        self.insert(Span { after, to, kind: SpanKind::Parked });
    }

    /// The ticks after an instant are unproven up to another one, or none is.
    pub(super) fn set_unproven(&mut self, after: DateTime<Utc>, to: Option<DateTime<Utc>>) {
        if self.0.is_empty() && to.is_none() {
            return;
        }
        self.0.list_mut().retain(|span| span.kind == SpanKind::Parked);
        if let Some(to) = to.filter(|to| *to > after) {
            self.insert(Span { after, to, kind: SpanKind::Unproven });
        }
    }

    fn insert(&mut self, span: Span) {
        let spans = self.0.list_mut();
        let place = spans.partition_point(|other| other.after < span.after);
        spans.insert(place, span);
    }
}

impl JobMachine {
    /// Takes in the ticks of the spans, so that they are not decided by the policies. What is due before each is
    /// decided as any tick.
    pub(super) fn pass_spans(&mut self, now: Now, effects: &mut Effects) -> Result<(), Breach> {
        self.cursor.spans.forget_until(self.cursor.stored);
        let spans = self.cursor.spans.0.to_vec();
        for span in spans {
            if span.after >= now.wall {
                break;
            }
            if let Some(waiting) = self.collect_until(now, span.after, effects)? {
                self.backlog.push_back(waiting);
                self.drop_beyond_the_bound(now, effects);
            }
            match span.kind {
                SpanKind::Parked => {
                    if let Some(first) = self.cursor.due_by(span.to) {
                        let (_, skips) = self.skip_up_to(first, span.to)?;
                        self.backlog.skip_after_all(&skips);
                        self.timers.set_once(Timer::Flush, now.elapsed + FLUSH_AFTER);
                    }
                }
                SpanKind::Unproven => {
                    let until = span.to.min(now.wall);
                    if let Some(first) = self.cursor.due_by(until) {
                        let (unproven, following) = self.due_between(first, until)?;
                        self.cursor.next = following;
                        self.skip_arriving(now, unproven, SkipReason::Unproven, effects);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::tests::at;

    fn spans(spans: &[(&str, &str)]) -> SkippedSpans {
        let mut parked = SkippedSpans::default();
        spans.iter().for_each(|(after, to)| parked.add_parked(at(after), at(to)));
        parked
    }

    fn listed(parked: &SkippedSpans) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
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
                (parked.parked_with(tick).is_some(), parked.parked_after(tick)),
                (is_in, next.map(at)),
                "{tick}"
            );
        }
    }

    #[test]
    fn the_oldest_spans_go_beyond_the_bound_or_once_the_store_knows() {
        let mut parked = SkippedSpans::default();
        for minute in 0..=SPANS_MAX {
            parked.add_parked(at(&format!("01:{:02}", 2 * minute)), at(&format!("01:{:02}", 2 * minute + 1)));
        }
        assert_eq!((parked.0.len(), parked.0[0].after), (SPANS_MAX, at("01:02")));

        parked.forget_until(at("01:15"));

        assert_eq!(listed(&parked), [(at("01:16"), at("01:17"))]);
    }

    #[test]
    fn there_is_one_span_of_unproven_ticks_and_it_parks_nothing() {
        let mut known = spans(&[("01:00", "02:00")]);
        known.set_unproven(at("02:00"), Some(at("04:00")));
        known.add_parked(at("04:00"), at("05:00"));
        assert_eq!(known.0.len(), 3, "it goes on from no unproven one");
        let tick = FireTime::new(at("03:00"));
        assert!(known.parked_with(tick).is_none());
        assert_eq!(known.parked_after(tick), Some(at("04:00")));

        known.set_unproven(at("05:00"), Some(at("06:00")));
        assert_eq!(listed(&known).last(), Some(&(at("05:00"), at("06:00"))));
        known.set_unproven(at("05:00"), Some(at("05:00")));
        assert_eq!(known.0.len(), 2, "there are none");
        let mut none = SkippedSpans::default();
        none.set_unproven(at("01:00"), None);
        assert!(none.is_empty());
    }
}
