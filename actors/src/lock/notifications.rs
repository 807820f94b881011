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
    port::{News, Session},
};

/// The pause before news are listened for again after the adapter panicked over some.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// How many notifications are handed on before others have their turn: more than wait in any store.
const HEARD_MAX: usize = 10_000;

/// A notification, or the panic of the adapter over one.
type Heard = Result<News, NoAnswer>;

/// The next notification of a session.
type NextNews = Pin<Box<dyn Future<Output = Heard>>>;

/// What a session is told, one after the other.
///
/// The actor polls it by hand, so that it can hand on what there is before it hands on anything else.
pub(super) struct Hearing {
    session: Session,
    next: NextNews,
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
        if actor.hearing.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// An answer of the store that is handed on behind every notification that came before it: otherwise one of an older change would
/// overtake it.
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
        self.hearing = Some(Hearing { session, next: self.next_news(session) });
        ctx.spawn(Hear);
    }

    fn next_news(&self, session: Session) -> NextNews {
        let locker = self.locker.clone();
        let news = caught(async move { locker.news(session).await });
        // Whoever hands on what there is must come to the end of it.
        Box::pin(unconstrained(news))
    }

    /// Hands on what the session was told until now.
    fn hear(&mut self, task: &mut TaskContext<'_>, ctx: &mut Context<Self>) {
        for _ in 0..HEARD_MAX {
            let Some(Hearing { session, next }) = &mut self.hearing else { return };
            let session = *session;
            if self.session != Some(session) {
                self.hearing = None;
                return;
            }
            let Poll::Ready(news) = next.as_mut().poll(task) else { return };
            self.hearing = Some(Hearing { session, next: self.next_news(session) });
            self.on_news(session, news, ctx);
        }
        task.waker().wake_by_ref();
    }

    fn on_news(&mut self, session: Session, news: Heard, ctx: &mut Context<Self>) {
        match news {
            Ok(News::Stop { run }) => {
                if let Some(job) = self.holder(run) {
                    let why = CancelReason::Replaced;
                    job.send(Input::Cancel { run: Some(run), why });
                }
            }
            Ok(News::Pause { job, pause }) => self.report(Report::PauseChanged { job, pause }),
            Ok(News::Missed) => self.report(Report::NotificationsMissed),
            Ok(News::Owed(debt)) => self.report(Report::PendingRetry(debt)),
            // News are hints: claims meet whatever they would have said, those of a paused job after a minute; what is
            // owed is asked for.
            Err(_) => {
                self.hearing = None;
                self.failed(Operation::Notification, &"the adapter panicked");
                return self.listen_again(session, ctx);
            }
        }
        self.node.failures.succeeded(Operation::Notification);
    }

    fn listen_again(&self, session: Session, ctx: &mut Context<Self>) {
        ctx.run_later(LISTEN_AGAIN, move |actor, ctx| {
            if actor.session == Some(session) {
                actor.report(Report::NotificationsMissed);
                actor.listen(session, ctx);
            }
        });
    }
}
