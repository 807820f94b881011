//! The bell once more, made of parts of which loom tries each order in which threads can come to them.

use std::{future::poll_fn, task::Poll};

use loom::{
    future::block_on,
    sync::{Arc, Mutex},
    thread,
};

use self::bell::Bell;

mod atomics {
    use std::task::Waker;

    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    #[derive(Default)]
    pub(super) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(super) fn register(&self, task: &Waker) {
            self.0.register_by_ref(task);
        }

        pub(super) fn wake(&self) {
            self.0.wake();
        }
    }

    loom::thread_local! {
        static NUMBER: std::cell::Cell<u64> = std::cell::Cell::new(0);
    }

    pub(super) fn number_this_thread(number: u64) {
        NUMBER.with(|own| own.set(number));
    }

    pub(super) fn this_thread() -> u64 {
        NUMBER.with(std::cell::Cell::get)
    }
}

#[path = "bell.rs"]
#[allow(clippy::duplicate_mod, reason = "made of other parts")]
mod bell;

/// An inbox with a bell.
#[derive(Default)]
struct Post {
    bell: Bell,
    inbox: Mutex<Vec<u32>>,
}

impl Post {
    fn send(&self, value: u32) {
        self.bell.send(|| {
            let mut inbox = self.inbox.lock().expect("nobody panics");
            inbox.push(value);
            inbox.len() == 1
        });
    }
}

/// Each of these sends what it has, with the bell in hand or not; somebody reads all of it.
fn all_is_read(senders: &'static [(bool, &'static [u32])]) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let post = Arc::new(Post::default());
        for (nth, (holds, values)) in senders.iter().enumerate() {
            let post = post.clone();
            thread::spawn(move || {
                atomics::number_this_thread(nth as u64 + 1);
                let _held = holds.then(|| post.bell.hold());
                values.iter().for_each(|value| post.send(*value));
            });
        }
        let count: usize = senders.iter().map(|(_, values)| values.len()).sum();
        let mut read = Vec::new();
        // Loom says so if this waits for ever.
        block_on(poll_fn(|task| {
            post.bell.listen(task.waker());
            read.append(&mut post.inbox.lock().expect("nobody panics"));
            if read.len() == count { Poll::Ready(()) } else { Poll::Pending }
        }));
    });
}

#[test]
fn nothing_is_left_unread_when_one_holds_the_bell_and_another_does_not() {
    all_is_read(&[(true, &[1, 2]), (false, &[3])]);
}

#[test]
fn nothing_is_left_unread_when_two_want_to_hold_the_bell() {
    all_is_read(&[(true, &[1]), (true, &[2])]);
}
