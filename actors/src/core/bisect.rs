//! Finds the items for which a store refuses whole batches.
//!
//! A batch that was refused is halved, and each half is asked again, until the bad items stand alone. What is
//! asked for that comes on top of everything else, so it is paced: at most log₂ n of it a second, n being the
//! size of the batch. The largest group goes first: it has the most items that are not to blame. Of those
//! that are as large the oldest does.
//!
//! ```text
//! eight items, ✗ is bad     1 2 ✗ 4 5 6 7 8    refused
//! three a second            1 2 ✗ 4 | 5 6 7 8  refused, done
//!                           1 2 | ✗ 4          done, refused
//!                           ✗ | 4              bad, done
//! ```

use std::{cmp::Reverse, time::Duration};

/// However many groups are added, they are asked as fast as one batch of so many items: ten a second.
const URGENT_MAX: usize = 1_024;

/// The items of refused batches, in groups that are to be asked one by one.
#[derive(Debug)]
pub(crate) struct Bisect<T> {
    /// None is empty.
    groups: Vec<Vec<T>>,
    /// The time between the starts of two groups.
    pace: Duration,
    /// No group starts before this reading.
    not_before: Duration,
}

impl<T> Default for Bisect<T> {
    fn default() -> Self {
        Self { groups: Vec::new(), pace: Duration::ZERO, not_before: Duration::ZERO }
    }
}

impl<T> Bisect<T> {
    /// A batch was refused, by the monotonic reading `now`. Answers its item, if it stood alone: that is the
    /// bad one.
    pub(crate) fn refused(&mut self, now: Duration, mut batch: Vec<T>) -> Option<T> {
        if batch.len() < 2 {
            return batch.pop();
        }
        self.set_pace(now, batch.len());
        let second = batch.split_off(batch.len().div_ceil(2));
        self.groups.extend([batch, second]);
        None
    }

    /// Adds a group that is to be asked by itself: some of its items may be bad.
    pub(crate) fn add(&mut self, now: Duration, group: Vec<T>) {
        if !group.is_empty() {
            // Many small ones are as urgent as one that holds them all.
            self.set_pace(now, group.len().max((self.groups.len() + 1).min(URGENT_MAX)));
            self.groups.push(group);
        }
    }

    /// So many items come at once.
    fn set_pace(&mut self, now: Duration, items: usize) {
        // The first group after all others were done.
        let starts_over = self.groups.is_empty() && now >= self.not_before;
        // Rounded up.
        let pace = Duration::from_secs(1) / ceil_log2(items).max(1) + Duration::from_nanos(1);
        self.pace = if starts_over { pace } else { self.pace.min(pace) };
    }

    /// The group to be asked now, if it is time for one. Whatever becomes of it, it is not kept.
    pub(crate) fn take(&mut self, now: Duration) -> Option<Vec<T>> {
        if now < self.not_before {
            return None;
        }
        let sizes = self.groups.iter().map(Vec::len).enumerate();
        let (largest, _) = sizes.max_by_key(|(at, size)| (*size, Reverse(*at)))?;
        self.not_before = now + self.pace;
        Some(self.groups.remove(largest))
    }

    /// When the next group is to be asked, if there is one.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        (!self.groups.is_empty()).then_some(self.not_before)
    }

    /// Everything that is left, which is not to be asked any more.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        std::mem::take(&mut self.groups).into_iter().flatten()
    }
}

/// How often a batch of so many, at least one, is halved until its items stand alone.
fn ceil_log2(length: usize) -> u32 {
    usize::BITS - (length - 1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Asks for all of it, each call at once when it is time.
    struct Asked {
        bad: BTreeSet<usize>,
        /// In the order in which they were done, and when.
        done: Vec<(usize, Duration)>,
        starts: Vec<Duration>,
    }

    fn ask(length: usize, bad: &BTreeSet<usize>) -> Asked {
        let mut bisect = Bisect::default();
        let mut now = Duration::from_secs(7);
        let mut asked = Asked { bad: BTreeSet::new(), done: Vec::new(), starts: Vec::new() };
        let mut batch: Option<Vec<usize>> = Some((0..length).collect());
        loop {
            if let Some(batch) = batch {
                if batch.iter().any(|item| bad.contains(item)) {
                    asked.bad.extend(bisect.refused(now, batch));
                } else {
                    asked.done.extend(batch.into_iter().map(|item| (item, now)));
                }
            }
            let Some(at) = bisect.wake_at() else { return asked };
            now = now.max(at);
            batch = bisect.take(now);
            asked.starts.push(now);
        }
    }

    #[test]
    fn one_bad_item_is_found_and_keeps_nobody_for_longer_than_two_seconds() {
        for (length, halvings) in [(1, 0), (2, 1), (3, 2), (8, 3), (1_000, 10), (1_024, 10)] {
            for bad in [0, length / 2, length - 1] {
                let asked = ask(length, &BTreeSet::from([bad]));

                assert_eq!((asked.bad, asked.done.len()), (BTreeSet::from([bad]), length - 1), "{length}");
                assert!(asked.starts.len() <= 2 * halvings, "{length}: {}", asked.starts.len());
                let last = asked.done.iter().map(|(_, at)| *at).max().unwrap_or_default();
                assert!(last <= Duration::from_secs(9), "{length}: the last one waits until {last:?}");
            }
        }
    }

    #[test]
    fn the_largest_group_goes_first() {
        let asked = ask(1_024, &BTreeSet::from([1_023]));

        let soon = asked.done.iter().filter(|(_, at)| *at < Duration::from_millis(7_150)).count();
        assert_eq!(soon, 512, "half of them with the second group");
        assert!(asked.done.is_sorted_by_key(|(_, at)| *at));
    }

    #[test]
    fn single_items_go_in_their_order_at_ten_a_second_at_most() {
        let mut bisect = Bisect::default();
        let mut now = Duration::from_secs(7);
        (0..1_000).for_each(|item| bisect.add(now, vec![item]));

        for item in 0..1_000 {
            now = bisect.wake_at().unwrap().max(now);
            assert_eq!(bisect.take(now), Some(vec![item]));
        }

        assert!((Duration::from_secs(99)..Duration::from_secs(110)).contains(&now), "{now:?}");
    }

    #[test]
    fn what_is_left_can_be_given_back() {
        let mut bisect = Bisect::default();
        assert_eq!(bisect.refused(Duration::ZERO, vec![1, 2, 3]), None);
        assert_eq!(bisect.take(Duration::ZERO), Some(vec![1, 2]));
        assert_eq!(bisect.take(Duration::ZERO), None, "not yet");

        assert_eq!(bisect.drain().collect::<Vec<_>>(), [3]);

        assert!(bisect.groups.is_empty() && bisect.wake_at().is_none());
        assert_eq!(bisect.refused(Duration::ZERO, Vec::new()), None);
    }

    proptest! {
        #[test]
        fn every_bad_item_is_found_every_good_one_is_done_and_the_pace_is_kept(
            length in 1_usize..1_100,
            bad in proptest::collection::btree_set(0_usize..1_100, 0..20),
        ) {
            let bad: BTreeSet<_> = bad.into_iter().filter(|item| *item < length).collect();

            let asked = ask(length, &bad);

            prop_assert_eq!(&asked.bad, &bad);
            let done: BTreeSet<_> = asked.done.iter().map(|(item, _)| *item).collect();
            prop_assert_eq!(done.len(), asked.done.len(), "each once");
            prop_assert_eq!(done, (0..length).filter(|item| !bad.contains(item)).collect());
            let most = if length < 2 { 0 } else { ceil_log2(length) as usize };
            for (at, start) in asked.starts.iter().enumerate() {
                let within = asked.starts[at..].iter().filter(|other| **other - *start < Duration::from_secs(1));
                prop_assert!(within.count() <= most, "from {:?} on", start);
            }
        }
    }
}
