//! Who listens, and what they were sent last.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::web::Bytes;
use callsheet_actors::uuid::Uuid;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{View, Views};
use crate::console::{STREAMS_MAX, problem::Problem};

/// How many frames wait for one client: a client that lets more wait is too slow.
const CLIENT_FRAMES_MAX: usize = 64;
/// How many frames are kept for clients that come back.
const KEPT_FRAMES_MAX: usize = 512;
/// How many bytes these may have.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The largest frame, in bytes: in the place of a larger one all is to be read again.
const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Who listens, and what they were sent last.
pub(crate) struct Hub(Mutex<State>);

struct State {
    /// Of this process: ids of another one mean nothing here.
    epoch: String,
    number: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    /// Each open stream has one, also a stream that is not sent anything any more.
    seat: Arc<()>,
    /// Somebody looks for changes.
    is_pumping: bool,
    /// It is known what changes are told from: whoever reads everything now misses none of them.
    has_begun: bool,
}

struct Kept {
    number: u64,
    view: Option<View>,
    frame: Bytes,
}

struct Client {
    views: Views,
    frames: mpsc::Sender<Bytes>,
    is_slow: Arc<AtomicBool>,
}

/// What a client is to be sent.
pub(crate) struct Subscription {
    /// What it missed.
    pub(crate) missed: VecDeque<Bytes>,
    pub(crate) frames: mpsc::Receiver<Bytes>,
    /// It lets too much wait.
    pub(crate) is_slow: Arc<AtomicBool>,
    /// The stream counts as open as long as its connection has this.
    _seat: Arc<()>,
}

impl Default for Hub {
    fn default() -> Self {
        Self(Mutex::new(State {
            epoch: Uuid::new_v4().simple().to_string(),
            number: 0,
            kept: VecDeque::new(),
            bytes: 0,
            clients: BTreeMap::new(),
            next_client: 0,
            seat: Arc::default(),
            is_pumping: false,
            has_begun: false,
        }))
    }
}

/// The names of all views.
const ALL: [&str; 3] = [View::Overview.as_str(), View::Jobs.as_str(), View::Runs.as_str()];

#[derive(Serialize)]
struct Reset<'a> {
    reason: &'a str,
    /// What is to be read again.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    views: &'a [&'static str],
}

/// An event for one client.
pub(crate) fn notice(event: &str, reason: &'static str) -> String {
    let views: &[_] = if event == "reset" { &ALL } else { &[] };
    let data = serde_json::to_string(&Reset { reason, views }).unwrap_or_default();
    format!("event: {event}\ndata: {data}\n\n")
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more client, which has seen everything up to `last`, if it says so.
    pub(crate) fn subscribe(&self, views: Views, last: Option<&str>) -> Result<Subscription, Problem> {
        let mut state = self.state();
        state.forget_the_gone();
        // Itself is not a stream.
        if Arc::strong_count(&state.seat) > STREAMS_MAX {
            return Err(Problem::too_many("as many streams are open as may be"));
        }
        let missed = match last {
            Some(last) => state.missed(views, last),
            // What it reads from now on is as new as what it is told of.
            None if state.has_begun => VecDeque::from([state.begin_again("connected")]),
            None => VecDeque::new(),
        };
        let (sender, frames) = mpsc::channel(CLIENT_FRAMES_MAX);
        let is_slow = Arc::<AtomicBool>::default();
        let id = state.next_client;
        state.next_client += 1;
        state.clients.insert(id, Client { views, frames: sender, is_slow: is_slow.clone() });
        Ok(Subscription { missed, frames, is_slow, _seat: state.seat.clone() })
    }

    /// Sends something to all who listen to this view; serialised once.
    pub(crate) fn publish(&self, view: View, data: &impl Serialize) {
        let Ok(data) = serde_json::to_string(data) else { return };
        if data.len() > FRAME_BYTES_MAX {
            return self.reset(Some(view), "too much has changed at once");
        }
        self.state().send(Some(view), view.as_str(), &data);
    }

    /// Tells all who listen to this view, or to any, to read everything again.
    pub(crate) fn reset(&self, view: Option<View>, reason: &'static str) {
        let one = view.map(|view| [view.as_str()]);
        let views = one.as_ref().map_or(ALL.as_slice(), |one| one.as_slice());
        let data = serde_json::to_string(&Reset { reason, views }).unwrap_or_default();
        self.state().send(view, "reset", &data);
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        self.state().clients.clear();
    }

    /// Whether it is now up to the caller to look for changes.
    pub(crate) fn begin_to_pump(&self) -> bool {
        !std::mem::replace(&mut self.state().is_pumping, true)
    }

    /// It is known what changes are told from.
    pub(crate) fn begun(&self) {
        self.state().has_begun = true;
        self.reset(None, "connected");
    }

    /// Nobody looks for changes any more; what follows is not known to follow.
    pub(crate) fn end_to_pump(&self) {
        let mut state = self.state();
        state.is_pumping = false;
        state.has_begun = false;
        state.kept.clear();
        state.bytes = 0;
        // Whoever comes back with an id of before has missed something.
        state.epoch = Uuid::new_v4().simple().to_string();
    }

    /// How many listen.
    pub(crate) fn clients(&self) -> usize {
        let mut state = self.state();
        state.forget_the_gone();
        state.clients.len()
    }
}

impl State {
    fn forget_the_gone(&mut self) {
        self.clients.retain(|_, client| !client.frames.is_closed());
    }

    /// Tells one client to read everything again, and where it is then.
    fn begin_again(&self, reason: &'static str) -> Bytes {
        format!("id: {}-{}\n{}", self.epoch, self.number, notice("reset", reason)).into()
    }

    /// What a client has missed that has seen everything up to `last`.
    fn missed(&self, views: Views, last: &str) -> VecDeque<Bytes> {
        let number = last.split_once('-').filter(|(epoch, _)| *epoch == self.epoch);
        let number = number.and_then(|(_, number)| number.parse::<u64>().ok());
        let first = self.kept.front().map_or(self.number + 1, |kept| kept.number);
        match number {
            Some(number) if number <= self.number && number + 1 >= first => {
                let of_client = |kept: &&Kept| kept.view.is_none_or(|view| views.have(view));
                let missed = self.kept.iter().filter(|kept| kept.number > number).filter(of_client);
                missed.map(|kept| kept.frame.clone()).collect()
            }
            _ => VecDeque::from([self.begin_again("what was missed is not kept any more")]),
        }
    }

    fn send(&mut self, view: Option<View>, event: &str, data: &str) {
        self.number += 1;
        let frame =
            Bytes::from(format!("id: {}-{}\nevent: {event}\ndata: {data}\n\n", self.epoch, self.number));
        self.bytes += frame.len();
        self.kept.push_back(Kept { number: self.number, view, frame: frame.clone() });
        while self.kept.len() > KEPT_FRAMES_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.frame.len();
        }
        self.clients.retain(|_, client| {
            if view.is_some_and(|view| !client.views.have(view)) {
                return true;
            }
            match client.frames.try_send(frame.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    client.is_slow.store(true, Ordering::Release);
                    false
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EVERY: Views = Views([true; 3]);

    fn text(frame: Option<Bytes>) -> String {
        String::from_utf8(frame.map(|frame| frame.to_vec()).unwrap_or_default()).expect("it is text")
    }

    fn last_id(frame: &str) -> String {
        frame.lines().find_map(|line| line.strip_prefix("id: ")).expect("it has one").to_owned()
    }

    #[test]
    fn a_client_that_comes_back_gets_what_it_missed_and_nothing_twice() {
        let hub = Hub::default();
        let mut first = hub.subscribe(EVERY, None).expect("there is room");
        (1..=3).for_each(|number| hub.publish(View::Jobs, &json!(number)));
        let seen = last_id(&text(first.frames.try_recv().ok()));

        let back = hub.subscribe(EVERY, Some(&seen)).expect("there is room");
        let of_runs = hub.subscribe(Views([false, false, true]), Some(&seen)).expect("there is room");

        let missed: Vec<_> = back.missed.into_iter().map(|frame| text(Some(frame))).collect();
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert!(missed[0].ends_with("data: 2\n\n") && missed[1].ends_with("data: 3\n\n"), "{missed:?}");
        assert!(of_runs.missed.is_empty(), "it wants none of these");
    }

    #[test]
    fn a_client_that_was_away_for_too_long_reads_everything_again() {
        let hub = Hub::default();
        hub.publish(View::Jobs, &json!(0));
        let mut first = hub.subscribe(EVERY, None).expect("there is room");
        hub.publish(View::Jobs, &json!(0));
        let seen = last_id(&text(first.frames.try_recv().ok()));
        drop(first);
        (0..=KEPT_FRAMES_MAX).for_each(|number| hub.publish(View::Jobs, &json!(number)));

        for last in [seen.as_str(), "elsewhere-7", "nonsense", ""] {
            let back = hub.subscribe(EVERY, Some(last)).expect("there is room");
            assert!(text(back.missed.front().cloned()).contains("\nevent: reset\n"), "{last}");
        }
        assert!(hub.state().kept.len() <= KEPT_FRAMES_MAX);
    }

    #[test]
    fn a_slow_client_is_dropped_and_told_and_the_others_are_not() {
        let hub = Hub::default();
        let slow = hub.subscribe(EVERY, None).expect("there is room");
        let mut quick = hub.subscribe(EVERY, None).expect("there is room");

        for number in 0..=CLIENT_FRAMES_MAX {
            hub.publish(View::Runs, &json!(number));
            assert!(quick.frames.try_recv().is_ok());
        }

        assert!(slow.is_slow.load(Ordering::Acquire));
        assert!(!quick.is_slow.load(Ordering::Acquire));
        assert_eq!(hub.clients(), 1);
    }

    #[test]
    fn no_more_clients_are_taken_than_may_be() {
        let hub = Hub::default();
        let mut clients: Vec<_> =
            (0..STREAMS_MAX).map(|_| hub.subscribe(EVERY, None).expect("there is room")).collect();
        assert_eq!(hub.subscribe(EVERY, None).err().map(|problem| problem.status), Some(429));

        clients.pop();

        assert!(hub.subscribe(EVERY, None).is_ok(), "one has left");
    }

    #[test]
    fn a_client_that_is_not_sent_anything_any_more_counts_until_its_stream_is_gone() {
        let hub = Hub::default();
        let mut clients: Vec<_> =
            (0..STREAMS_MAX).map(|_| hub.subscribe(EVERY, None).expect("there is room")).collect();
        (0..=CLIENT_FRAMES_MAX).for_each(|number| hub.publish(View::Runs, &json!(number)));
        assert_eq!(hub.clients(), 0, "none of them reads");

        assert_eq!(hub.subscribe(EVERY, None).err().map(|problem| problem.status), Some(429));
        clients.pop();

        assert!(hub.subscribe(EVERY, None).is_ok(), "its stream is gone");
    }

    #[test]
    fn a_frame_that_is_too_large_tells_to_read_again() {
        let hub = Hub::default();
        let mut client = hub.subscribe(EVERY, None).expect("there is room");

        hub.publish(View::Jobs, &json!("x".repeat(FRAME_BYTES_MAX)));

        assert!(text(client.frames.try_recv().ok()).contains("event: reset\n"));
    }
}
