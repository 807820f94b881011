//! Which one-shots a node holds: those that are near, in the order of when they are due, up to a bound.
//!
//! ```text
//! due   past ······· now ············ near ·························· far
//!       |------ held by the node ------|  its horizon                 in the store only
//! ```
//!
//! Up to its *horizon* a node knows all one-shots. What is stored beyond it is found when it is near: the node asks the
//! store when the next one is due, and then for those within a window. If there are too many, the horizon stands before
//! the last that it holds, and moves on when there is room.
//!
//! One that was due a while ago *lingers*: its run takes long, or it waits for the end of a pause, for its key or for a
//! permit. Those do not take the places of others, up to a bound of their own.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{CATALOGUE_PAGE_MAX, CatalogueRow, DuePage, DueQuery, held::Held};

/// One-shots that are due later than this are in the store only. A node holds the others when half of it is left, or
/// sooner.
pub const ONE_SHOTS_HELD_WITHIN: Duration = Duration::from_mins(15);
/// The most one-shots that a node holds, those that are due first; those that linger are not counted.
pub const ONE_SHOTS_HELD_MAX: usize = 10_000;
/// The most bytes of their definitions.
pub const ONE_SHOTS_HELD_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// The most one-shots that a node holds although they were due a while ago: their runs take long, or they wait. Those
/// beyond it take the places of others.
pub const ONE_SHOTS_LINGERING_MAX: usize = 100_000;
/// The most bytes of their definitions.
pub const ONE_SHOTS_LINGERING_BYTES_MAX: usize = 32 * 1_024 * 1_024;
/// A one-shot lingers when it was due so long ago. Most are decided and gone by then.
const LINGERS_AFTER: TimeDelta = TimeDelta::seconds(10);
/// After so long a node that has no room looks whether there is some.
const ROOM_AGAIN: TimeDelta = TimeDelta::seconds(5);
/// What is due within this time is held beyond these bounds: to let go of it would be to skip it.
const DUE_SOON: TimeDelta = TimeDelta::seconds(30);
/// There is to be room for so many before the store is asked for more.
const ROOM_MIN: usize = ONE_SHOTS_HELD_MAX / 4;
/// A one-shot that is due later is held as any other job: the store is not asked beyond.
const FAR_MAX: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 0) {
    Some(instant) => instant,
    None => DateTime::<Utc>::MAX_UTC,
};

/// When a one-shot is due, and its name. The empty name is that of no job: it stands before all of its instant.
pub(crate) type Place = (DateTime<Utc>, Arc<str>);

/// When the next one-shot beyond the horizon is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Next {
    /// The store is to be asked.
    #[default]
    Unknown,
    At(DateTime<Utc>),
    /// There is none, unless one is stored.
    None,
}

/// The one-shots that a node holds.
#[derive(Debug, Default)]
pub(crate) struct OneShots {
    /// Those that take a place.
    held: Held,
    /// Those that linger.
    lingering: Held,
    /// All of them up to here are known.
    horizon: Option<Place>,
    next: Next,
}

/// What to ask the store about one-shots, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AskDue {
    /// This, now.
    Now(DueQuery),
    /// Not before this instant, unless something is stored or deleted.
    At(DateTime<Utc>),
    /// Nothing, unless something is stored or deleted.
    Never,
}

impl OneShots {
    /// Whether a one-shot that is due then is found by its instant.
    pub(crate) fn can_wait(due_at: DateTime<Utc>) -> bool {
        due_at < FAR_MAX
    }

    /// What to ask at `now`, by the store's clock.
    pub(crate) fn ask(&self, now: DateTime<Utc>) -> AskDue {
        let query = |before, limit| DueQuery { after: self.horizon.clone(), before, limit };
        let within = TimeDelta::from_std(ONE_SHOTS_HELD_WITHIN).unwrap_or(TimeDelta::MAX);
        match self.next {
            // It takes no place to know when.
            Next::Unknown => AskDue::Now(query(FAR_MAX, 1)),
            // Half of a window at a time, and not each of them by itself.
            Next::At(next) if next - within / 2 > now => AskDue::At(next - within / 2),
            Next::At(_) if self.is_full() => AskDue::At(now + ROOM_AGAIN),
            Next::At(_) => AskDue::Now(query(now + within, self.room().min(CATALOGUE_PAGE_MAX))),
            Next::None => AskDue::Never,
        }
    }

    fn room(&self) -> usize {
        ONE_SHOTS_HELD_MAX.saturating_sub(self.held.known())
    }

    /// Nothing more is asked for, until some are gone, or linger.
    fn is_full(&self) -> bool {
        self.room() < ROOM_MIN || self.held.known_bytes() > ONE_SHOTS_HELD_BYTES_MAX / 4 * 3
    }

    /// Since when a one-shot is due that the node does not hold, since it has no room.
    pub(crate) fn behind(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.next {
            Next::At(next) if next <= now && self.is_full() => Some(next),
            Next::At(_) | Next::Unknown | Next::None => None,
        }
    }

    /// Those that were due a while ago make room for others.
    pub(crate) fn set_aside(&mut self, now: DateTime<Utc>) {
        let due_by = now - LINGERS_AFTER;
        while self.lingering.len() < ONE_SHOTS_LINGERING_MAX
            && self.lingering.bytes() < ONE_SHOTS_LINGERING_BYTES_MAX
            && self.held.move_first(due_by, &mut self.lingering)
        {}
    }

    /// Takes in what was answered to a question. Answers the rows up to the new horizon.
    pub(crate) fn answered(&mut self, query: &DueQuery, page: DuePage) -> Vec<CatalogueRow> {
        let DuePage { mut rows, has_more } = page;
        if query.before == FAR_MAX {
            self.next = rows.first().and_then(|row| row.due_at).map_or(Next::None, Next::At);
            return Vec::new();
        }
        let (mut bytes, mut taken) = (self.held.known_bytes(), 0);
        for row in &rows {
            bytes += bytes_of(row);
            // One alone is always taken.
            if taken > 0 && bytes > ONE_SHOTS_HELD_BYTES_MAX {
                break;
            }
            taken += 1;
        }
        let all = taken == rows.len();
        rows.truncate(taken);
        for place in rows.iter().filter_map(place) {
            self.held.see(&place);
            self.lingering.see(&place);
        }
        self.next = Next::Unknown;
        if all && !has_more {
            self.horizon = Some((query.before, "".into()));
        } else if let Some(last) = rows.last().and_then(place) {
            self.horizon = Some(last);
        }
        rows
    }

    /// Whether the node is to know this one-shot; if not, it is to be found when it is near.
    pub(crate) fn is_near(&self, place: &Place) -> bool {
        self.horizon.as_ref().is_some_and(|horizon| place <= horizon)
    }

    /// One is stored that is beyond the horizon.
    pub(crate) fn stored_beyond(&mut self, due_at: DateTime<Utc>) {
        self.next = match self.next {
            Next::Unknown => Next::Unknown,
            Next::At(next) => Next::At(next.min(due_at)),
            Next::None => Next::At(due_at),
        };
    }

    /// The node holds it from now on.
    pub(crate) fn hold(&mut self, row: &CatalogueRow) {
        let Some(place) = place(row) else { return };
        self.lingering.remove(&place);
        self.held.put(place, bytes_of(row));
    }

    /// The node does not hold it any more.
    pub(crate) fn let_go(&mut self, place: &Place) {
        self.held.remove(place);
        self.lingering.remove(place);
    }

    /// Those that are too many at `now`, by the store's clock, the last first. The horizon stands before them. Nothing
    /// that is due, or almost, is among them: that is decided, and not skipped.
    pub(crate) fn evict(&mut self, now: DateTime<Utc>) -> Vec<Arc<str>> {
        let soon = now + DUE_SOON;
        let mut evicted = Vec::new();
        while self.held.len() > ONE_SHOTS_HELD_MAX || self.held.bytes() > ONE_SHOTS_HELD_BYTES_MAX {
            let is_last = self.held.len() == 1;
            let Some(last) = self.held.last().filter(|last| !is_last && last.0 > soon) else { break };
            let place = last.clone();
            self.let_go(&place);
            if self.is_near(&place) {
                self.horizon = self.held.last().cloned();
                self.next = Next::At(place.0);
            }
            evicted.push(place.1);
        }
        evicted
    }

    /// All jobs are listed anew: what is not seen again is gone.
    pub(crate) fn walk_anew(&mut self) {
        (self.horizon, self.next) = (None, Next::Unknown);
        self.held.unsee();
        self.lingering.unsee();
    }

    /// Those that are gone: they would have been seen again by now.
    pub(crate) fn gone(&mut self) -> Vec<Arc<str>> {
        let is_gone = |place: &&Place| {
            self.is_near(place)
                || match self.next {
                    Next::Unknown => false,
                    Next::At(next) => place.0 < next,
                    Next::None => true,
                }
        };
        let gone: Vec<_> =
            self.held.unseen().chain(self.lingering.unseen()).filter(is_gone).cloned().collect();
        for place in &gone {
            self.held.see(place);
            self.lingering.see(place);
        }
        gone.into_iter().map(|(_, job)| job).collect()
    }
}

/// Where a row stands among the one-shots, if it is one.
pub(crate) fn place(row: &CatalogueRow) -> Option<Place> {
    row.due_at.map(|due_at| (due_at, row.job.clone()))
}

fn bytes_of(row: &CatalogueRow) -> usize {
    row.job.len() + row.definition.as_ref().map_or(0, |definition| definition.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn row(job: &str, due: i64) -> CatalogueRow {
        let definition = Some("{}".into());
        CatalogueRow { definition, due_at: Some(at(due)), ..CatalogueRow::new(job, 1, at(0)) }
    }

    /// A store of one-shots, which answers what is asked.
    fn answer(store: &[CatalogueRow], query: &DueQuery) -> DuePage {
        let mut rows: Vec<_> = store.iter().filter_map(|row| Some((place(row)?, row.clone()))).collect();
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        let is_asked =
            |place: &Place| place.0 < query.before && query.after.as_ref().is_none_or(|after| place > after);
        let mut rows = rows.into_iter().filter(|(place, _)| is_asked(place)).map(|(_, row)| row);
        let page = rows.by_ref().take(query.limit).collect();
        DuePage::of(page, rows.next().is_some())
    }

    /// Asks until there is nothing more to ask at this minute. Answers how often it asked.
    fn keep(machine: &mut OneShots, store: &[CatalogueRow], minute: i64) -> usize {
        let mut asked = 0;
        while let AskDue::Now(query) = machine.ask(at(minute)) {
            asked += 1;
            assert!(asked < 100, "it ends");
            let rows = machine.answered(&query, answer(store, &query));
            rows.iter().for_each(|row| machine.hold(row));
        }
        asked
    }

    fn held(machine: &OneShots) -> Vec<&str> {
        machine.held.names()
    }

    #[test]
    fn what_is_far_is_asked_for_when_it_is_near_and_not_before() {
        let store = [row("a", 5), row("b", 5), row("c", 14), row("d", 100), row("e", 525_600)];
        let mut machine = OneShots::default();

        keep(&mut machine, &store, 0);
        assert_eq!(held(&machine), ["a", "b", "c"]);
        // Half of a window before the next one.
        let next = at(100) - TimeDelta::seconds(450);
        assert_eq!(machine.ask(at(0)), AskDue::At(next));
        assert_eq!(keep(&mut machine, &store, 92), 0);

        keep(&mut machine, &store, 93);
        assert_eq!(held(&machine), ["a", "b", "c", "d"]);
        assert!(matches!(machine.ask(at(93)), AskDue::At(when) if when > at(525_000)));
    }

    #[test]
    fn a_node_asks_for_nothing_where_there_are_none() {
        let mut machine = OneShots::default();
        assert_eq!(keep(&mut machine, &[], 0), 1, "once");

        assert_eq!(machine.ask(at(1_000_000)), AskDue::Never);
        machine.stored_beyond(at(1_000_500));
        assert!(matches!(machine.ask(at(1_000_000)), AskDue::At(_)), "unless one is stored");
    }

    #[test]
    fn what_is_stored_before_the_horizon_is_to_be_known_and_what_is_beyond_is_not() {
        let store = [row("far", 100)];
        let mut machine = OneShots::default();
        keep(&mut machine, &store, 0);
        assert!(
            !machine.is_near(&(at(5), "x".into())),
            "nothing was near, so nothing is known but when the next is"
        );

        machine.stored_beyond(at(5));
        let store = [row("far", 100), row("x", 5)];
        keep(&mut machine, &store, 0);

        assert_eq!(held(&machine), ["x"]);
        assert!(machine.is_near(&(at(14), "y".into())) && !machine.is_near(&(at(15), "y".into())));
    }

    #[test]
    fn of_too_many_the_first_are_held_and_the_others_when_there_is_room() {
        let name = |nth: usize| format!("shot {nth:05}");
        let store: Vec<_> = (0..ONE_SHOTS_HELD_MAX + 1_000).map(|nth| row(&name(nth), 5)).collect();
        let mut machine = OneShots::default();
        keep(&mut machine, &store, 0);
        let known = machine.held.len();
        assert!((ONE_SHOTS_HELD_MAX - ROOM_MIN..=ONE_SHOTS_HELD_MAX).contains(&known), "{known}");
        assert_eq!(machine.ask(at(0)), AskDue::At(at(0) + ROOM_AGAIN), "there is little room");

        // Those that come before them take the places of the last.
        let before: Vec<_> =
            (0..=ONE_SHOTS_HELD_MAX - known).map(|nth| row(&format!("before {nth}"), 1)).collect();
        before.iter().for_each(|row| machine.hold(row));
        assert_eq!(machine.evict(at(0)), [name(known - 1).into()]);
        assert!(!machine.is_near(&(at(5), name(known - 1).into())));
        assert!(machine.is_near(&(at(5), name(known - 2).into())));

        store[..5_000].iter().chain(&before).filter_map(place).for_each(|place| machine.let_go(&place));
        keep(&mut machine, &store[5_000..], 0);
        assert_eq!(
            held(&machine),
            store[5_000..].iter().map(|row| &*row.job).collect::<Vec<_>>(),
            "all of them"
        );
    }

    #[test]
    fn large_ones_are_held_up_to_a_bound_of_their_bytes() {
        let large = |nth: i64| {
            let definition = Some("x".repeat(super::super::DEFINITION_BYTES_MAX).into());
            CatalogueRow { definition, ..row(&format!("large {nth:03}"), nth % 10) }
        };
        let store: Vec<_> = (0..500).map(large).collect();
        let mut machine = OneShots::default();

        keep(&mut machine, &store, 0);

        assert!(
            machine.held.bytes() <= ONE_SHOTS_HELD_BYTES_MAX && machine.held.len() > 90,
            "{}",
            machine.held.len()
        );
        assert_eq!(machine.ask(at(0)), AskDue::At(at(0) + ROOM_AGAIN));
    }

    #[test]
    fn what_is_not_seen_again_when_all_is_listed_anew_is_gone() {
        let mut machine = OneShots::default();
        keep(&mut machine, &[row("a", 1), row("b", 2), row("c", 3)], 0);

        machine.walk_anew();
        keep(&mut machine, &[row("a", 1), row("c", 3), row("d", 4)], 0);

        assert_eq!(machine.gone(), [Arc::from("b")]);
        assert!(machine.gone().is_empty(), "once");
        assert_eq!(held(&machine), ["a", "b", "c", "d"], "until it is let go of");
        assert_eq!(machine.held.known(), 4);
    }

    #[test]
    fn large_ones_are_seen_again_before_any_of_them_is_taken_as_gone() {
        let large = |nth: i64| {
            let definition = Some("x".repeat(super::super::DEFINITION_BYTES_MAX).into());
            CatalogueRow { definition, ..row(&format!("large {nth:03}"), nth / 10) }
        };
        let store: Vec<_> = (0..110).map(large).collect();
        let mut machine = OneShots::default();
        keep(&mut machine, &store, 0);
        assert!(machine.held.bytes() > ONE_SHOTS_HELD_BYTES_MAX / 4 * 3, "there is little room");

        machine.walk_anew();
        assert!(machine.gone().is_empty(), "nothing was asked yet");
        keep(&mut machine, &store[1..], 0);

        assert_eq!(machine.gone(), [Arc::from("large 000")]);
    }

    #[test]
    fn what_is_due_or_almost_is_held_though_it_is_too_many() {
        let mut machine = OneShots::default();
        let count = ONE_SHOTS_HELD_MAX + 10;
        (0..count).for_each(|nth| machine.hold(&row(&format!("due {nth:05}"), 5)));

        assert!(machine.evict(at(6)).is_empty() && machine.evict(at(5)).is_empty());
        assert_eq!(machine.held.len(), count);
        assert_eq!(machine.evict(at(4)).len(), 10, "a minute before");
    }

    /// They are paused, or busy, or run for long.
    #[test]
    fn those_that_do_not_end_make_room_for_others_after_a_while() {
        let mut machine = OneShots::default();
        let name = |nth: usize| format!("stuck {nth:05}");
        let mut store: Vec<_> = (0..ONE_SHOTS_HELD_MAX).map(|nth| row(&name(nth), 5)).collect();
        store.push(row("good", 6));
        keep(&mut machine, &store, 4);
        assert!(machine.ask(at(5)) == AskDue::At(at(5) + ROOM_AGAIN) && machine.behind(at(5)).is_some());

        machine.set_aside(at(5) + LINGERS_AFTER);
        keep(&mut machine, &store, 6);

        assert_eq!(held(&machine).last(), Some(&"good"));
        assert_eq!(machine.held.len() + machine.lingering.len(), store.len());
        assert_eq!(machine.behind(at(60)), None);
    }

    #[test]
    fn those_that_linger_are_bounded_and_then_it_is_said_since_when_others_are_due() {
        let mut machine = OneShots::default();
        (0..=ONE_SHOTS_LINGERING_MAX).for_each(|nth| machine.hold(&row(&format!("stuck {nth:06}"), 1)));
        machine.set_aside(at(2));
        assert_eq!((machine.held.len(), machine.lingering.len()), (1, ONE_SHOTS_LINGERING_MAX));

        let store: Vec<_> = (0..ONE_SHOTS_HELD_MAX).map(|nth| row(&format!("more {nth:05}"), 3)).collect();
        keep(&mut machine, &store, 2);
        machine.set_aside(at(4));

        assert_eq!((machine.behind(at(2)), machine.behind(at(4))), (None, Some(at(3))));
        assert_eq!(machine.ask(at(4)), AskDue::At(at(4) + ROOM_AGAIN), "it looks again");
        for nth in 0..5_000 {
            machine.let_go(&(at(1), format!("stuck {nth:06}").into()));
        }
        machine.set_aside(at(4));
        keep(&mut machine, &store, 4);
        assert_eq!((machine.behind(at(4)), held(&machine).last()), (None, Some(&"more 09999")));
    }

    #[test]
    fn one_that_lingers_and_is_not_seen_again_is_gone() {
        let mut machine = OneShots::default();
        keep(&mut machine, &[row("a", 1), row("b", 1)], 0);
        machine.set_aside(at(2));
        assert_eq!(machine.lingering.names(), ["a", "b"]);

        machine.walk_anew();
        keep(&mut machine, &[row("a", 1)], 2);

        assert_eq!(machine.gone(), [Arc::from("b")]);
    }
}
