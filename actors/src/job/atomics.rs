//! What threads share within a [bell](super::bell).

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(super) use futures_util::task::AtomicWaker;

/// A number of this thread, which no other one of the process has, from 1.
pub(super) fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // While a thread ends, it is nobody.
    NUMBER.try_with(|number| *number).unwrap_or(u64::MAX)
}
