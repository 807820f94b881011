//! Looks for changes while somebody listens, four times a second, whatever happens.

use std::{future::pending, sync::Arc, time::Duration};

use actix_web::{rt, web::Data};
use callsheet_actors::{Event, EventFilter, EventStream};
use futures_util::future::LocalBoxFuture;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    View,
    changes::{JobsChanged, RunsChanged, SHOWN},
};
use crate::{
    console::{Shared, board::Snapshot, view::Overview},
    error::Error,
};

/// How often changes are sent.
const PACE: Duration = Duration::from_millis(250);
/// How often the jobs are looked at when nothing happens: time passes, and other nodes fire.
const IDLE_PACE: Duration = Duration::from_secs(5);
/// How long changes are looked for when nobody listens any more.
const LINGER: Duration = Duration::from_secs(30);
/// How many events may wait until they are looked at; of more the newest are lost.
const EVENTS_WAITING_MAX: usize = 4_096;

/// Sees to it that somebody looks for changes.
pub(crate) fn see_to_it(shared: &Data<Shared>) {
    if shared.hub.begin_to_pump() {
        let guard = Guard((**shared).clone());
        rt::spawn(async move {
            let events = guard.0.jobs.events(EventFilter::new().buffer(EVENTS_WAITING_MAX));
            pump(&guard.0, events).await;
        });
    }
}

/// However it ends, also with the worker that it was begun on.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.hub.end_to_pump();
        self.0.hub.close();
    }
}

/// What was sent last.
struct Sent {
    snapshot: Arc<Snapshot>,
    overview: Option<Overview>,
}

impl From<Arc<Snapshot>> for Sent {
    /// What whoever connects has read.
    fn from(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, overview: None }
    }
}

/// A look at the jobs that is on its way.
type Look<'a> = LocalBoxFuture<'a, Result<Arc<Snapshot>, Error>>;

async fn looked(look: &mut Option<Look<'_>>) -> Result<Arc<Snapshot>, Error> {
    match look {
        Some(look) => look.await,
        None => pending().await,
    }
}

async fn pump(shared: &Shared, mut events: EventStream) {
    let Ok(first) = shared.board.snapshot().await else { return };
    let (mut sent, mut runs, mut lost) = (Sent::from(first), RunsChanged::default(), 0);
    shared.hub.begun();
    let (mut has_changed, mut looked_at, mut heard_at) = (true, Instant::now(), Instant::now());
    let mut look: Option<Look<'_>> = None;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => {
                    has_changed = true;
                    if is_shown(&event) {
                        runs.add(event);
                    }
                }
                // The scheduler has stopped.
                None => return,
            },
            // Events are read meanwhile, however long it takes.
            snapshot = looked(&mut look) => {
                look = None;
                let Ok(snapshot) = snapshot else { return };
                // A look that is not new enough: the next one sees it.
                has_changed |= snapshot.looked_at() < looked_at;
                send(shared, snapshot, &mut sent);
            }
            _ = pace.tick() => {
                let now = Instant::now();
                if shared.hub.clients() > 0 {
                    heard_at = now;
                } else if now - heard_at > LINGER {
                    return;
                }
                if events.dropped() > lost {
                    lost = events.dropped();
                    (has_changed, runs) = (true, RunsChanged::default());
                    shared.hub.reset(Some(View::Runs), "more happened at once than could be told");
                } else if !runs.is_empty() {
                    shared.hub.publish(View::Runs, &std::mem::take(&mut runs));
                }
                if look.is_none() && (has_changed || now - looked_at > IDLE_PACE) {
                    (has_changed, looked_at) = (false, now);
                    look = Some(Box::pin(shared.board.snapshot()));
                }
            }
        }
    }
}

fn is_shown(event: &Event) -> bool {
    SHOWN.contains(&event.kind.name())
}

fn send(shared: &Shared, snapshot: Arc<Snapshot>, sent: &mut Sent) {
    if sent.overview.is_some() && Arc::ptr_eq(&sent.snapshot, &snapshot) {
        return;
    }
    match JobsChanged::between(&sent.snapshot.rows, &snapshot.rows) {
        Some(changed) if changed.is_too_much() => {
            shared.hub.reset(Some(View::Jobs), "many jobs have changed at once");
        }
        Some(changed) => shared.hub.publish(View::Jobs, &changed),
        None => {}
    }
    let overview = Overview::of(&snapshot.health, snapshot.rows.values(), snapshot.as_of);
    if sent.overview.as_ref().is_none_or(|before| !overview.is_as(before)) {
        shared.hub.publish(View::Overview, &overview);
    }
    *sent = Sent { snapshot, overview: Some(overview) };
}

#[cfg(test)]
mod tests {
    use callsheet_actors::{Job, Run};
    use serde_json::{Value, json};

    use super::{super::Views, *};
    use crate::{
        console::{Console, Decided},
        handle::Callsheet,
        schedule::every,
    };

    /// What an event of a stream says: its name and its data.
    fn said(frame: &[u8]) -> (String, Value) {
        let text = std::str::from_utf8(frame).expect("it is text");
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).expect("it has one");
        (field("event: ").to_owned(), serde_json::from_str(field("data: ")).expect("it is JSON"))
    }

    #[actix_rt::test]
    async fn events_that_were_lost_tell_to_read_the_runs_again() {
        let job = Job::new("often", every(Duration::from_hours(1))).run(async |_: Run| {});
        let jobs = Callsheet::builder().job(job).start().await.expect("it is good");
        let Console { decided: Decided(shared), .. } = Console::new(jobs.clone()).anyone_may_read();
        let run = async || jobs.trigger("often").await.expect("it runs").finished().await;
        let mut client = shared.hub.subscribe(Views([false, false, true]), None).expect("there is room");
        // Nobody reads it yet, and few events may wait: more than one run has, and fewer than some.
        let events = jobs.events(EventFilter::new().buffer(16));
        while events.dropped() == 0 {
            run().await;
        }

        let told = async {
            let mut next = async || said(&client.frames.recv().await.expect("it goes on"));
            assert_eq!(next().await.0, "reset", "it is connected");
            let lost = next().await;
            assert_eq!((lost.0.as_str(), &lost.1["views"]), ("reset", &json!(["runs"])), "{}", lost.1);
            // What happens then is told as before.
            run().await;
            let after = next().await;
            assert_eq!(after.0, "runs");
            assert_eq!(after.1["runs"][0]["job"], "often", "{}", after.1);
        };
        tokio::select! {
            () = pump(&shared, events) => panic!("the scheduler goes on"),
            () = told => {}
        }
        jobs.shutdown(Duration::from_secs(5)).await;
    }
}
