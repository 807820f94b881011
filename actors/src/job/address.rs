//! The addresses of job actors: made when somebody asks for one, gone when nobody holds it any more.
//!
//! The [cast](super::cast) serves its actors by place and generation, and an actor that nobody wants to talk
//! to needs no mailbox. Whoever asks the supervisor for an address gets one at once; its mailbox is on its way
//! to the cast then. A message that comes to it wakes the cast up for that mailbox alone.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context as TaskContext, Poll, Waker},
};

use actix::{
    dev::{Envelope, EnvelopeProxy, MessageResponse, ToEnvelope, channel::AddressReceiver},
    prelude::*,
};
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{actor::JobActor, context::JobContext, record::record_cancelled};
use crate::{
    contained::unharmed,
    core::time::FireTime,
    error::FIRE_TIMES_MAX,
    name::RunId,
    note::{Attribution, says_who_and_why},
};

/// How many messages an address takes before `send` and `try_send` have to wait, as that of any actor.
pub(super) const MAILBOX_CAPACITY: usize = 16;

/// Asks the actor of a job for its next fire times, as [`NextFireTimes`](crate::NextFireTimes) does.
///
/// So many at most; more than [`FIRE_TIMES_MAX`], 1,000, are answered as that many.
/// Fewer mean that the schedule is exhausted, or that the job was removed: then there are none, also while a
/// run of it is in progress.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<DateTime<Utc>>")]
pub struct FireTimes(pub usize);

/// Asks the actor of a job to have its runs stop that are in progress on this node, and answers which they
/// are: as [`CancelRuns`](crate::CancelRuns) does for the jobs that are selected.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "Vec<RunId>")]
pub struct CancelItsRuns {
    asked: Attribution,
}

impl CancelItsRuns {
    /// All of them.
    pub fn new() -> Self {
        Self::default()
    }
}

says_who_and_why!(CancelItsRuns);

impl Handler<FireTimes> for JobActor {
    type Result = Vec<DateTime<Utc>>;

    fn handle(&mut self, FireTimes(count): FireTimes, _: &mut Self::Context) -> Self::Result {
        if self.is_retiring() {
            return Vec::new();
        }
        let fire_times = self.machine.upcoming(self.job.wall(), count.min(FIRE_TIMES_MAX));
        fire_times.into_iter().map(FireTime::instant).collect()
    }
}

impl Handler<CancelItsRuns> for JobActor {
    type Result = Vec<RunId>;

    fn handle(&mut self, CancelItsRuns { asked }: CancelItsRuns, ctx: &mut Self::Context) -> Self::Result {
        let runs = self.cancel_all(ctx);
        let (node, job) = (self.node(), &self.job.definition.name);
        runs.iter().for_each(|run| record_cancelled(node, job, *run, &asked));
        runs
    }
}

/// The mailboxes of a cast, by the place of the actor and a number that none has twice.
#[derive(Default)]
pub(super) struct Mailboxes {
    open: BTreeMap<(u32, u64), Mailbox>,
    opened: u64,
}

struct Mailbox {
    messages: AddressReceiver<JobActor>,
    /// Wakes the cast up for this mailbox.
    bell: Waker,
}

impl Mailboxes {
    /// The actor in this place has one more. `bell` makes what wakes the cast up for the one of this number.
    pub(super) fn open(
        &mut self,
        place: u32,
        messages: AddressReceiver<JobActor>,
        bell: impl FnOnce(u64) -> Waker,
    ) {
        self.opened += 1;
        let bell = bell(self.opened);
        // What came before is not lost, and whatever comes later rings.
        bell.wake_by_ref();
        self.open.insert((place, self.opened), Mailbox { messages, bell });
    }

    /// The next message of a mailbox, if there is one. One without a message of which nobody has the address
    /// any more is closed.
    pub(super) fn next(&mut self, place: u32, number: u64) -> Option<Envelope<JobActor>> {
        let Mailbox { messages, bell } = self.open.get_mut(&(place, number))?;
        // Before the look: whoever sent something and let go of the address after it is heard.
        let is_held = messages.connected();
        let message = Pin::new(messages).poll_next(&mut TaskContext::from_waker(bell));
        if let Poll::Ready(Some(message)) = message {
            // One at a time: others have their turn before the next.
            bell.wake_by_ref();
            return Some(message);
        }
        if !is_held {
            self.open.remove(&(place, number));
        }
        None
    }

    /// The actor in this place is no more: whoever sends it something is told so. What is dropped unread may
    /// panic, and harms nobody.
    pub(super) fn close(&mut self, place: u32) {
        while let Some((number, _)) = self.open.range((place, 0)..=(place, u64::MAX)).next() {
            let number = *number;
            let mailbox = self.open.remove(&number);
            unharmed(|| drop(mailbox));
        }
    }
}

/// A message on its way to the actor of a job, by its address.
struct Posted<M: Message> {
    message: Option<M>,
    reply: Option<oneshot::Sender<M::Result>>,
}

impl<M> ToEnvelope<JobActor, M> for JobContext
where
    JobActor: Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, reply: Option<oneshot::Sender<M::Result>>) -> Envelope<JobActor> {
        Envelope::with_proxy(Box::new(Posted { message: Some(message), reply }))
    }
}

impl<M> EnvelopeProxy<JobActor> for Posted<M>
where
    JobActor: Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, actor: &mut JobActor, ctx: &mut JobContext) {
        let given_up = self.reply.as_ref().is_some_and(oneshot::Sender::is_closed);
        if let Some(message) = self.message.take().filter(|_| !given_up) {
            <JobActor as Handler<M>>::handle(actor, message, ctx).handle(ctx, self.reply.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::resume_unwind,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use actix::dev::channel::channel;

    use super::*;

    #[derive(Default)]
    struct Knocks(AtomicUsize);

    impl Wake for Knocks {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Knocks {
        fn heard(&self) -> bool {
            self.0.swap(0, Ordering::SeqCst) > 0
        }
    }

    fn opened(mailboxes: &mut Mailboxes, place: u32) -> (Addr<JobActor>, Arc<Knocks>) {
        let (address, mailbox) = channel(MAILBOX_CAPACITY);
        let knocks = Arc::<Knocks>::default();
        mailboxes.open(place, mailbox, |_| knocks.clone().into());
        (Addr::new(address), knocks)
    }

    #[test]
    fn a_mailbox_knocks_for_each_message_and_is_closed_when_nobody_has_its_address() {
        let mut mailboxes = Mailboxes::default();
        let (address, knocks) = opened(&mut mailboxes, 7);
        assert!(knocks.heard() && mailboxes.next(7, 1).is_none() && !knocks.heard());

        address.do_send(CancelItsRuns::new());
        address.do_send(CancelItsRuns::new());
        for _ in 0..2 {
            assert!(knocks.heard() && mailboxes.next(7, 1).is_some());
        }
        assert!(knocks.heard() && mailboxes.next(7, 1).is_none() && !knocks.heard());

        address.do_send(CancelItsRuns::new());
        drop(address);
        assert!(knocks.heard() && mailboxes.next(7, 1).is_some(), "what was sent before is heard");
        assert!(knocks.heard() && mailboxes.next(7, 1).is_none());
        assert!(mailboxes.open.is_empty());
    }

    #[test]
    fn an_actor_that_is_gone_closes_its_mailboxes_and_no_others() {
        let mut mailboxes = Mailboxes::default();
        let addresses = [3, 4, 3, 5].map(|place| opened(&mut mailboxes, place).0);

        mailboxes.close(3);

        assert_eq!(addresses.each_ref().map(Addr::connected), [false, true, false, true]);
        assert_eq!(mailboxes.open.len(), 2);
    }

    /// Nobody handles it.
    #[derive(Message)]
    #[rtype(result = "()")]
    struct PanicsUnread;

    impl Drop for PanicsUnread {
        fn drop(&mut self) {
            resume_unwind(Box::new("unread"));
        }
    }

    impl Handler<PanicsUnread> for JobActor {
        type Result = ();

        fn handle(&mut self, _: PanicsUnread, _: &mut JobContext) {}
    }

    #[test]
    fn a_message_that_panics_when_it_is_dropped_unread_keeps_no_mailbox_open() {
        let mut mailboxes = Mailboxes::default();
        let addresses = [3, 3].map(|place| opened(&mut mailboxes, place).0);
        addresses[0].do_send(PanicsUnread);

        mailboxes.close(3);

        assert_eq!(addresses.each_ref().map(Addr::connected), [false, false]);
    }
}
