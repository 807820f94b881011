//! Something that is said once, and whoever is to hear it, in either order.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering, fence},
};

/// Something that may be said once. Who hears it is made only when it is needed.
pub(crate) struct Signal<T> {
    given: AtomicBool,
    listener: OnceLock<T>,
}

impl<T> Default for Signal<T> {
    fn default() -> Self {
        Self { given: AtomicBool::new(false), listener: OnceLock::new() }
    }
}

impl<T> Signal<T> {
    /// Says it, and tells the listener if there is one. Saying it twice is harmless if telling it twice is.
    pub(crate) fn give(&self, tell: impl FnOnce(&T)) {
        self.given.store(true, Ordering::Release);
        // Either this sees the listener, or whoever makes it sees that it was said.
        fence(Ordering::SeqCst);
        self.listener.get().map(tell);
    }

    /// Whether it was said.
    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    /// The listener, made if it is not there, and told what was said before.
    pub(crate) fn heard_by(&self, make: impl FnOnce() -> T, tell: impl FnOnce(&T)) -> &T {
        let listener = self.listener.get_or_init(make);
        fence(Ordering::SeqCst);
        if self.is_given() {
            tell(listener);
        }
        listener
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Barrier},
        thread,
    };

    use super::*;

    fn tell(told: &AtomicBool) {
        told.store(true, Ordering::Relaxed);
    }

    #[test]
    fn a_listener_hears_what_was_said_before_it_came() {
        let signal = Signal::default();
        assert!(!signal.is_given());

        signal.give(tell);

        assert!(signal.is_given());
        assert!(signal.heard_by(AtomicBool::default, tell).load(Ordering::Relaxed));
    }

    #[test]
    fn a_listener_hears_what_is_said_after_it_came() {
        let signal = Signal::default();
        assert!(!signal.heard_by(AtomicBool::default, tell).load(Ordering::Relaxed));

        signal.give(tell);

        assert!(signal.heard_by(|| panic!("there is one"), |_| {}).load(Ordering::Relaxed));
    }

    #[test]
    fn a_listener_that_comes_just_then_hears_it() {
        for _ in 0..2_000 {
            let signal = Arc::new(Signal::default());
            let both = Arc::new(Barrier::new(2));
            let (other, at) = (signal.clone(), both.clone());
            let gives = thread::spawn(move || {
                at.wait();
                other.give(tell);
            });
            both.wait();
            signal.heard_by(AtomicBool::default, tell);
            gives.join().unwrap();

            assert!(signal.heard_by(AtomicBool::default, |_| {}).load(Ordering::Relaxed));
        }
    }
}
