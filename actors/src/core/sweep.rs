//! A walk over everything in a sorted map, page by page, in the order of its keys.
//!
//! The map may change between two pages: what is added behind the walk is met by the next one.

use std::{collections::BTreeMap, mem, ops::Bound};

/// How far a walk has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sweep<K> {
    /// Everything up to this key has been met.
    after: Option<K>,
    /// Another page follows the one that was taken last.
    goes_on: bool,
    /// One more walk follows this one, however often it was asked for.
    again: bool,
}

impl<K> Default for Sweep<K> {
    fn default() -> Self {
        Self { after: None, goes_on: false, again: false }
    }
}

impl<K: Ord + Clone> Sweep<K> {
    /// The next entries that are meant, at most so many.
    pub(crate) fn next_page<'a, V>(
        &mut self,
        map: &'a BTreeMap<K, V>,
        len: usize,
        is_meant: impl Fn(&V) -> bool,
    ) -> Vec<(&'a K, &'a V)> {
        let after = self.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let rest = map.range((after, Bound::Unbounded)).filter(|(_, value)| is_meant(value));
        let page: Vec<_> = rest.take(len).collect();
        self.after = page.last().filter(|_| page.len() == len).map(|(key, _)| (*key).clone());
        self.goes_on = self.after.is_some() || mem::take(&mut self.again);
        page
    }

    /// Whether another page follows.
    pub(crate) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// What has been met already is to be met once more, after this walk.
    pub(crate) fn once_more(&mut self) {
        self.again = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(to: u32) -> BTreeMap<u32, bool> {
        (1..=to).map(|number| (number, number % 2 == 0)).collect()
    }

    fn keys(page: Vec<(&u32, &bool)>) -> Vec<u32> {
        page.into_iter().map(|(key, _)| *key).collect()
    }

    #[test]
    fn every_entry_is_met_once_in_order() {
        let (map, mut sweep) = (numbers(5), Sweep::default());

        let pages = [2, 2, 2].map(|len| (keys(sweep.next_page(&map, len, |_| true)), sweep.goes_on()));

        assert_eq!(pages, [(vec![1, 2], true), (vec![3, 4], true), (vec![5], false)]);
        assert_eq!(keys(sweep.next_page(&map, 2, |_| true)), [1, 2], "the next walk");
    }

    #[test]
    fn a_full_last_page_is_followed_by_an_empty_one() {
        let (map, mut sweep) = (numbers(2), Sweep::default());

        assert_eq!(keys(sweep.next_page(&map, 2, |_| true)), [1, 2]);
        assert!(sweep.goes_on(), "it cannot know");
        assert!(sweep.next_page(&map, 2, |_| true).is_empty() && !sweep.goes_on());
    }

    #[test]
    fn a_page_is_full_of_what_is_meant() {
        let (map, mut sweep) = (numbers(9), Sweep::default());

        assert_eq!(keys(sweep.next_page(&map, 3, |is_even| *is_even)), [2, 4, 6]);
        assert_eq!(keys(sweep.next_page(&map, 3, |is_even| *is_even)), [8]);
        assert!(!sweep.goes_on());
    }

    #[test]
    fn what_was_missed_during_a_walk_makes_one_more() {
        let (map, mut sweep) = (numbers(3), Sweep::default());
        assert_eq!(keys(sweep.next_page(&map, 2, |_| true)), [1, 2]);

        sweep.once_more();
        sweep.once_more();

        assert_eq!(
            (keys(sweep.next_page(&map, 2, |_| true)), sweep.goes_on()),
            (vec![3], true),
            "this walk ends first"
        );
        assert_eq!(keys(sweep.next_page(&map, 9, |_| true)), [1, 2, 3]);
        assert!(!sweep.goes_on(), "one more, not two");
    }

    #[test]
    fn what_is_removed_does_not_stop_it() {
        let (mut map, mut sweep) = (numbers(4), Sweep::default());
        assert_eq!(keys(sweep.next_page(&map, 2, |_| true)), [1, 2]);

        map.remove(&2);
        map.remove(&3);

        assert_eq!(keys(sweep.next_page(&map, 2, |_| true)), [4]);
    }
}
