//! How many bytes may wait in a queue, beside how many entries.
//!
//! Entries without texts cost nothing here: their number is bounded, and so are their bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The bytes of the texts that wait in one queue.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    used: AtomicUsize,
    max: usize,
}

/// Bytes that wait. Dropped, they wait no more.
#[derive(Debug)]
#[must_use = "dropped, the bytes are free again"]
pub(crate) struct Charge {
    bytes: usize,
    /// `None`: there are no bytes.
    budget: Option<Arc<ByteBudget>>,
}

impl ByteBudget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }

    /// Takes so many bytes, if there is room for all of them.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        if bytes == 0 {
            return Some(Charge { bytes, budget: None });
        }
        // Made before it is known whether there is room: what is refused goes back at once.
        let charge = Charge { bytes, budget: Some(self.clone()) };
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        (used <= self.max).then_some(charge)
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_takes_none() {
        let budget = ByteBudget::new(10);

        let first = budget.charge(6).expect("there is room");
        assert!(budget.charge(5).is_none());
        assert!(budget.charge(usize::MAX).is_none());
        let second = budget.charge(4).expect("there is room");
        assert!(budget.charge(1).is_none());
        drop(first);
        assert_eq!(budget.used(), 4);
        drop(second);

        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn an_entry_without_a_text_finds_room_in_a_full_queue() {
        let budget = ByteBudget::new(1);
        let full = budget.charge(1);

        assert!(full.is_some() && budget.charge(0).is_some());
    }
}
