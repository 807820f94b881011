//! Many push, one takes: only the first of many wakes the one who takes.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

/// Values on their way to one reader.
///
/// Waking the reader's thread up is what costs most, so only the value that finds none before it does.
pub(crate) struct Coalesced<T>(Mutex<Option<Vec<T>>>);

impl<T> Default for Coalesced<T> {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl<T> Coalesced<T> {
    /// Adds a value, unless this is closed: then it is dropped. Answers whether the reader is to be woken up.
    #[must_use]
    pub(crate) fn push(&self, value: T) -> bool {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(values) = open.as_mut() else { return false };
        values.push(value);
        values.len() == 1
    }

    /// Takes all values, in the order in which they were pushed. The next one wakes the reader up again.
    pub(crate) fn take(&self) -> Vec<T> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_mut().map(mem::take).unwrap_or_default()
    }

    /// As [`take`](Self::take), into a list that is empty, whose memory is for those that follow.
    pub(crate) fn take_into(&self, taken: &mut Vec<T>) {
        debug_assert!(taken.is_empty(), "what is in it would wait for a second reader");
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(values) = open.as_mut() {
            mem::swap(values, taken);
        }
    }

    /// Keeps memory for no more than so many values, unless more wait.
    pub(crate) fn shrink_to(&self, count: usize) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter_mut().for_each(|values| values.shrink_to(count));
    }

    /// Takes no more values, and drops those that wait.
    pub(crate) fn close(&self) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Only now, when nothing is locked: a value that is dropped may push another one.
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn only_the_first_of_many_wakes_the_reader() {
        let values = Coalesced::default();

        assert_eq!([values.push(1), values.push(2), values.push(3)], [true, false, false]);
        assert_eq!(values.take(), [1, 2, 3]);
        assert!(values.take().is_empty());
        assert!(values.push(4), "the reader has taken all before it");
    }

    #[test]
    fn the_lists_of_reader_and_writers_change_places() {
        let values = Coalesced::default();
        let mut taken = Vec::with_capacity(64);
        let _ = [values.push(1), values.push(2)];

        values.take_into(&mut taken);

        assert_eq!(taken, [1, 2]);
        assert!(values.push(3), "the reader has taken all before it");
        taken.clear();
        values.take_into(&mut taken);
        assert_eq!((taken.as_slice(), taken.capacity()), (&[3][..], 64));
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let values = Coalesced::default();
        (0..1_000).map(|nth| values.push(nth)).for_each(|_| {});
        let mut taken = Vec::new();
        values.take_into(&mut taken);
        taken.clear();
        values.take_into(&mut taken);

        values.shrink_to(8);

        let _ = values.push(1);
        values.take_into(&mut taken);
        assert!(taken.capacity() <= 8, "{}", taken.capacity());
    }

    #[test]
    fn what_is_pushed_after_the_end_is_dropped_and_wakes_nobody() {
        let values = Coalesced::default();
        let [waiting, late] = [Arc::new(()), Arc::new(())];
        let _ = values.push(waiting.clone());

        values.close();

        assert!(!values.push(late.clone()));
        assert_eq!((Arc::strong_count(&waiting), Arc::strong_count(&late)), (1, 1), "nothing is kept");
        assert!(values.take().is_empty());
    }
}
