//! Up to which instant the ticks of a job are decided, and which tick is the next.

use chrono::{DateTime, Utc};

use super::skipped_spans::SkippedSpans;
use crate::core::time::{FireTime, Now};

/// Up to which instant the ticks of a job are decided, here and in the store, and which tick is the next.
#[derive(Debug)]
pub(super) struct Cursor {
    /// As the store knows it: every tick up to here is accounted for.
    pub(super) stored: DateTime<Utc>,
    /// The newest cursor that the store ever named: it is older only if the store was restored from before.
    seen: DateTime<Utc>,
    /// Every tick up to here was taken in: it is decided, asked for, or waits.
    pub(super) taken_in: DateTime<Utc>,
    /// The first tick after `taken_in`.
    pub(super) next: Option<FireTime>,
    /// The schedule is to be asked for `next`: not while an input is taken in, since it may panic.
    pub(super) next_is_stale: bool,
    /// The question that the store was asked is obsolete. When its answer comes, the job restarts from this
    /// cursor, or from the one in the answer.
    pub(super) restart_from: Option<DateTime<Utc>>,
    /// The end of a run is being recorded, from which the next tick counts.
    pub(super) anchoring: bool,
    /// As many ticks have run as may.
    pub(super) exhausted: bool,
    /// Every run of the job up to this cursor is known to be over: this machine saw one end that excluded all
    /// others.
    pub(super) all_ended: Option<DateTime<Utc>>,
    /// The ticks that do not run, whatever the policies say, and of which the store does not know yet.
    pub(super) spans: SkippedSpans,
}

impl Cursor {
    /// Everything up to an instant is decided.
    pub(super) fn new(instant: DateTime<Utc>) -> Self {
        Self {
            stored: instant,
            seen: DateTime::<Utc>::MIN_UTC,
            taken_in: instant,
            next: None,
            next_is_stale: true,
            restart_from: None,
            anchoring: false,
            exhausted: false,
            all_ended: None,
            spans: SkippedSpans::default(),
        }
    }

    /// The store names a cursor.
    pub(super) fn see(&mut self, cursor: DateTime<Utc>) {
        self.seen = self.seen.max(cursor);
    }

    /// Restarts from a cursor that the store named, or from a newer one from which it was to restart.
    pub(super) fn adopt(&mut self, cursor: DateTime<Utc>) {
        let cursor = self.restart_from.take().map_or(cursor, |newer| newer.max(cursor));
        self.stored = cursor;
        // What this machine has seen decided is not decided again, whatever a store that was restored knows
        // of it.
        self.taken_in = cursor.max(self.seen);
        self.next = None;
        self.next_is_stale = true;
    }

    /// As [`adopt`](Self::adopt), but not before the store has answered what it was asked.
    pub(super) fn adopt_later(&mut self, cursor: DateTime<Utc>) {
        let stored = self.stored;
        self.adopt(cursor);
        self.stored = stored;
        self.restart_from = Some(self.taken_in);
    }

    /// This machine moved the cursor over what did not run.
    pub(super) fn move_to(&mut self, instant: DateTime<Utc>) {
        if self.all_ended == Some(self.stored) {
            self.all_ended = Some(instant);
        }
        self.stored = instant;
    }

    /// What is due up to an instant is decided already.
    pub(super) fn go_on_after(&mut self, instant: DateTime<Utc>) {
        if instant > self.taken_in {
            self.taken_in = instant;
            self.next_is_stale = true;
        }
    }

    /// The next tick, if it is due by an instant.
    pub(super) fn due_by(&self, instant: DateTime<Utc>) -> Option<FireTime> {
        self.next.filter(|next| next.instant() <= instant)
    }

    /// There may be something to decide.
    pub(super) fn has_due(&self, now: Now) -> bool {
        !self.spans.is_empty() || self.due_by(now.wall).is_some()
    }

    /// Another tick may follow: the schedule has one, or has not been asked yet.
    pub(super) fn has_next(&self) -> bool {
        self.next_is_stale || self.next.is_some() && !self.exhausted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::tests::at;

    #[test]
    fn a_restart_goes_back_behind_nothing_that_was_seen_decided() {
        for (seen, restart_from, cursor, stored, decided) in [
            ("00:00", None, "02:00", "02:00", "02:00"),
            ("03:00", None, "02:00", "02:00", "03:00"),
            ("00:00", Some("02:30"), "02:00", "02:30", "02:30"),
            ("00:00", Some("01:30"), "02:00", "02:00", "02:00"),
            ("03:00", Some("02:30"), "02:00", "02:30", "03:00"),
        ] {
            let mut it = Cursor::new(at("01:00"));
            it.see(at(seen));
            it.restart_from = restart_from.map(at);
            (it.next, it.next_is_stale) = (Some(FireTime::new(at("02:00"))), false);

            it.adopt(at(cursor));

            assert_eq!((it.stored, it.taken_in), (at(stored), at(decided)), "{seen} {restart_from:?}");
            assert_eq!((it.next, it.next_is_stale, it.restart_from), (None, true, None));
        }
    }

    #[test]
    fn a_restart_that_waits_leaves_the_stored_cursor_until_it_comes() {
        let mut cursor = Cursor::new(at("01:00"));

        cursor.adopt_later(at("02:00"));
        assert_eq!((cursor.stored, cursor.taken_in), (at("01:00"), at("02:00")));

        cursor.adopt(at("01:30"));
        assert_eq!((cursor.stored, cursor.taken_in), (at("02:00"), at("02:00")));
    }

    #[test]
    fn ended_runs_stay_so_when_the_cursor_moves_over_skipped_ticks() {
        for (all_ended, after) in
            [(None, None), (Some("01:00"), Some("02:00")), (Some("00:30"), Some("00:30"))]
        {
            let mut cursor = Cursor::new(at("01:00"));
            cursor.all_ended = all_ended.map(at);

            cursor.move_to(at("02:00"));

            assert_eq!((cursor.stored, cursor.all_ended), (at("02:00"), after.map(at)));
        }
    }

    #[test]
    fn the_schedule_is_asked_again_only_for_a_later_instant() {
        for (instant, decided, is_stale) in
            [("00:30", "01:00", false), ("01:00", "01:00", false), ("01:30", "01:30", true)]
        {
            let mut cursor = Cursor::new(at("01:00"));
            cursor.next_is_stale = false;

            cursor.go_on_after(at(instant));

            assert_eq!((cursor.taken_in, cursor.next_is_stale), (at(decided), is_stale));
        }
    }

    #[test]
    fn a_tick_follows_unless_the_schedule_or_the_limit_is_at_its_end() {
        for (next, is_stale, exhausted, has_next) in [
            (None, false, false, false),
            (None, true, false, true),
            (None, true, true, true),
            (Some("02:00"), false, false, true),
            (Some("02:00"), false, true, false),
        ] {
            let mut cursor = Cursor::new(at("01:00"));
            cursor.next = next.map(|next| FireTime::new(at(next)));
            (cursor.next_is_stale, cursor.exhausted) = (is_stale, exhausted);

            assert_eq!(cursor.has_next(), has_next, "{next:?} {is_stale} {exhausted}");
        }
    }
}
