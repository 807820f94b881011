//! The bell of a cast: wakes its thread up, once for all that a sender has in hand.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::task::AtomicWaker;

/// Wakes a task up for what is sent to it.
#[derive(Default)]
pub(super) struct Bell {
    task: AtomicWaker,
    /// The thread that rings only when it is through, by its number; 0 if there is none.
    held_by: AtomicU64,
    /// It has sent something since, and has not rung.
    unsaid: AtomicBool,
}

impl Bell {
    /// The task that is woken up.
    pub(super) fn listen(&self, task: &std::task::Waker) {
        self.task.register(task);
    }

    pub(super) fn ring(&self) {
        self.task.wake();
    }

    /// Sends something, which answers whether it is the first that waits, and rings for it.
    pub(super) fn send(&self, send: impl FnOnce() -> bool) {
        let held_by = self.held_by.load(Ordering::Acquire);
        if held_by != 0 && held_by == this_thread() {
            // Before it is sent: whoever sends something after it rings for both.
            self.unsaid.store(true, Ordering::SeqCst);
            send();
        } else if send() || self.unsaid.load(Ordering::SeqCst) {
            // Only the holder says that it is said: it may be about to send more.
            self.ring();
        }
    }

    /// What this thread sends rings once, when this is dropped; others ring as before. Does nothing while
    /// somebody holds the bell.
    pub(super) fn hold(&self) -> BellHold<'_> {
        let held = self.held_by.compare_exchange(0, this_thread(), Ordering::SeqCst, Ordering::SeqCst);
        BellHold(held.is_ok().then_some(self))
    }
}

/// See [`Bell::hold`].
pub(super) struct BellHold<'a>(Option<&'a Bell>);

impl Drop for BellHold<'_> {
    fn drop(&mut self) {
        let Some(bell) = self.0 else { return };
        bell.held_by.store(0, Ordering::SeqCst);
        if bell.unsaid.swap(false, Ordering::SeqCst) {
            bell.ring();
        }
    }
}

/// A number of this thread, which no other one of the process has, from 1.
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // While a thread ends, it is nobody.
    NUMBER.try_with(|number| *number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicUsize},
        task::Wake,
        thread,
    };

    use super::*;

    #[derive(Default)]
    struct Rung(AtomicUsize);

    impl Wake for Rung {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether a bell has rung since this was asked last.
    struct Listener(Arc<Rung>);

    impl Listener {
        fn of(bell: &Bell) -> Self {
            let listener = Self(Arc::default());
            listener.heard(bell);
            listener
        }

        fn heard(&self, bell: &Bell) -> bool {
            bell.listen(&self.0.clone().into());
            self.0.0.swap(0, Ordering::SeqCst) > 0
        }
    }

    #[test]
    fn the_first_that_waits_rings() {
        let bell = Bell::default();
        let listener = Listener::of(&bell);

        bell.send(|| true);
        assert!(listener.heard(&bell));
        bell.send(|| false);
        assert!(!listener.heard(&bell));
    }

    #[test]
    fn whoever_holds_it_rings_at_the_end_of_each_hold_if_there_is_anything() {
        let bell = Bell::default();
        let listener = Listener::of(&bell);
        for _ in 0..2 {
            let held = bell.hold();
            bell.send(|| true);
            bell.send(|| false);
            assert!(!listener.heard(&bell));
            drop(held);
            assert!(listener.heard(&bell));
        }

        drop(bell.hold());

        assert!(!listener.heard(&bell));
    }

    #[test]
    fn a_hold_within_another_ends_nothing() {
        let bell = Bell::default();
        let listener = Listener::of(&bell);
        let held = bell.hold();

        drop(bell.hold());
        bell.send(|| true);

        assert!(!listener.heard(&bell));
        drop(held);
        assert!(listener.heard(&bell));
    }

    #[test]
    fn others_ring_while_it_is_held_also_for_what_the_holder_has_sent() {
        let bell = Bell::default();
        let listener = Listener::of(&bell);
        let held = bell.hold();
        let send = |first: bool| thread::scope(|scope| scope.spawn(|| bell.send(|| first)).join().is_ok());

        assert!(send(true));
        assert!(listener.heard(&bell));
        bell.send(|| true);
        assert!(send(false), "it is not the first that waits");
        assert!(listener.heard(&bell));

        drop(held);
        assert!(listener.heard(&bell), "the holder may have sent more while others rang");
    }
}
