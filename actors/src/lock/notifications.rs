//! How the lock actor hears what its session is told, and in which order it hands it on.

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use actix::prelude::*;
use tokio::task::unconstrained;

use super::{actor::LockActor, report::Report};
use crate::{
    contained::{NoAnswer, caught},
    core::{job::Input, operation::Operation},
    event::CancelReason,
    port::{Notification, Session},
};

/// The pause before the next notification is awaited after the adapter panicked over one.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// How many notifications are handed on before others have their turn: more than wait in any store.
const HEARD_MAX: usize = 10_000;

/// A notification, or the panic of the adapter over one.
type Heard = Result<Notification, NoAnswer>;

/// The next notification of a session.
type NextNotification = Pin<Box<dyn Future<Output = Heard>>>;

/// What a session is told, one after the other.
///
/// The actor polls it by hand, so that it can hand on what there is before it hands on anything else.
pub(super) struct NotificationStream {
    session: Session,
    next: NextNotification,
}

/// Hands on what the session is told.
struct Hear;

impl ActorFuture<LockActor> for Hear {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut LockActor,
        ctx: &mut Context<LockActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        actor.hear(task, ctx);
        if actor.notifications.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// An answer of the store that is handed on behind every notification that came before it: otherwise one of
/// an older change would overtake it.
pub(super) struct HeardFirst<T>(Pin<Box<dyn Future<Output = T>>>);

impl<T> HeardFirst<T> {
    pub(super) fn new(answer: impl Future<Output = T> + 'static) -> Self {
        Self(Box::pin(answer))
    }
}

impl<T> ActorFuture<LockActor> for HeardFirst<T> {
    type Output = T;

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut LockActor,
        ctx: &mut Context<LockActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<T> {
        let answer = ready!(self.0.as_mut().poll(task));
        actor.hear(task, ctx);
        Poll::Ready(answer)
    }
}

impl LockActor {
    /// Hears what other nodes and this one did, for as long as the session lives.
    pub(super) fn listen(&mut self, session: Session, ctx: &mut Context<Self>) {
        self.notifications = Some(NotificationStream { session, next: self.next_notification(session) });
        ctx.spawn(Hear);
    }

    fn next_notification(&self, session: Session) -> NextNotification {
        let locker = self.locker.clone();
        let notification = caught(async move { locker.next_notification(session).await });
        // Whoever hands on what there is must come to the end of it.
        Box::pin(unconstrained(notification))
    }

    /// Hands on what the session was told until now.
    fn hear(&mut self, task: &mut TaskContext<'_>, ctx: &mut Context<Self>) {
        for _ in 0..HEARD_MAX {
            let Some(NotificationStream { session, next }) = &mut self.notifications else { return };
            let session = *session;
            if self.session != Some(session) {
                self.notifications = None;
                return;
            }
            let Poll::Ready(notification) = next.as_mut().poll(task) else { return };
            self.notifications = Some(NotificationStream { session, next: self.next_notification(session) });
            self.on_notification(session, notification, ctx);
        }
        task.waker().wake_by_ref();
    }

    fn on_notification(&mut self, session: Session, notification: Heard, ctx: &mut Context<Self>) {
        match notification {
            Ok(Notification::Stop { run }) => {
                if let Some(job) = self.held.holder(run) {
                    let why = CancelReason::Replaced;
                    job.send(Input::Cancel { run: Some(run), why });
                }
            }
            Ok(Notification::PauseChanged { job, pause }) => self.report(Report::PauseChanged { job, pause }),
            Ok(Notification::Lagged) => self.report(Report::NotificationsLagged),
            Ok(Notification::BackfillsChanged) => self.report(Report::BackfillsChanged),
            Ok(Notification::PendingRetry(pending)) => self.report(Report::PendingRetry(pending)),
            // Notifications are hints: a claim meets what they would have said, that of a paused job after a
            // minute; pending retries are asked for.
            Err(_) => {
                self.notifications = None;
                self.failed(Operation::Notification, &"the adapter panicked");
                return self.listen_again(session, ctx);
            }
        }
        self.node.failures.succeeded(Operation::Notification);
    }

    fn listen_again(&self, session: Session, ctx: &mut Context<Self>) {
        ctx.run_later(LISTEN_AGAIN, move |actor, ctx| {
            if actor.session == Some(session) {
                actor.report(Report::NotificationsLagged);
                actor.listen(session, ctx);
            }
        });
    }
}
