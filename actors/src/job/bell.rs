//! The bell of a cast: wakes its thread up, once for all that a sender has in hand.

// Named by where this file stands: a test tries all interleavings of its steps with other ones.
use super::atomics::{AtomicBool, AtomicU64, AtomicWaker, Ordering, this_thread};

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
        // Before it is let go of: whatever the next holder leaves unsaid is for that one to say.
        let unsaid = bell.unsaid.swap(false, Ordering::SeqCst);
        bell.held_by.store(0, Ordering::SeqCst);
        if unsaid {
            bell.ring();
        }
    }
}
