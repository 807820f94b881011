//! What the nodes of a rig said, in order.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::prelude::*;

use crate::event::Event;

/// An event and the name of the node that said it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// `n1`, `n2` …
    pub node: String,
    /// The event.
    pub event: Event,
}

/// Keeps every event of several nodes, in the order of arrival.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Recorded>>>);

impl Recorder {
    /// What was recorded so far.
    pub fn events(&self) -> Vec<Recorded> {
        self.lock().clone()
    }

    /// One line per event: `01:00:00.000 n1 RunStarted …`. If they are of more than one day, a line with the
    /// date stands before the first one, and wherever it changes.
    pub fn transcript(&self) -> String {
        let recorded = self.lock();
        let day = |Recorded { event, .. }: &Recorded| event.at.date_naive();
        let is_of_one_day = recorded.iter().map(day).collect::<HashSet<_>>().len() <= 1;
        let days = recorded.chunk_by(|one, next| is_of_one_day || day(one) == day(next));
        let mut transcript = String::new();
        for events in days {
            if let (Some(first), false) = (events.first(), is_of_one_day) {
                transcript += &format!("{}\n", day(first));
            }
            for Recorded { node, event } in events {
                transcript += &format!("{} {node} {}\n", event.at.format("%T%.3f"), event.kind);
            }
        }
        transcript
    }

    /// An actor on the current arbiter or local set that records what the node of this name says.
    pub fn listen(&self, node: &str) -> Recipient<Event> {
        RecorderActor { node: node.to_owned(), recorder: self.clone() }.start().recipient()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct RecorderActor {
    node: String,
    recorder: Recorder,
}

impl Actor for RecorderActor {
    type Context = Context<Self>;
}

impl Handler<Event> for RecorderActor {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        self.recorder.lock().push(Recorded { node: self.node.clone(), event });
    }
}
