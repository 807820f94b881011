//! Whether a bell is heard.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
    thread,
};

use super::bell::Bell;

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
