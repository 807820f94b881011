//! What the nodes of a rig said, in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use chrono::SecondsFormat;

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

    /// One line per event: `01:00:00.000 n1 RunStarted …`.
    pub fn transcript(&self) -> String {
        let line = |Recorded { node, event }: &Recorded| {
            let at = event.at.to_rfc3339_opts(SecondsFormat::Millis, true);
            format!("{} {node} {}\n", &at[11..23], event.kind)
        };
        self.lock().iter().map(line).collect()
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
