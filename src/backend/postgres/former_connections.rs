//! Connections that this node has given up, and whose server processes may still be there.
//!
//! A process that waits for its synchronous standby does not notice that its client is gone. It keeps its
//! locks and its place among the server's connections. So it is sent the protocol's cancel request, which
//! needs no such place, and then ended by the next connection that the node makes, or, if it makes none, by
//! one that does nothing else. A process is known by the name of its connection, by its number, once it has
//! answered something, and, where this role is shown that, by its start: the number may have been given to
//! another one since.
//!
//! ```text
//! given up                     cancel request   100 ms   the node's next connection ends it, if it is there
//! no such within 5 s, or
//! somebody waits for it        connect, end it, look until it is gone   again after 0.5 s … 5 s
//! closed by the other side     the node's next connection ends it, if it is there
//! not let in yet               not counted: the server drops it after its authentication_timeout
//! the server does not hear     no connection to end them is tried: the next session may find another server, where they are not
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use callsheet_actors::{adapter::Backoff, port::LockError};
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{
    CancelToken, Client, Error, Row,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    connection::{Connected, connect},
    failure::unavailable,
    loss::{EndOnDrop, Ending},
    settings::{Purpose, Settings},
};

/// How many former processes of a node may be left when it opens a session: those of two sessions. Each has
/// two connections.
pub(super) const FORMER_MAX: usize = 4;
/// How long a session that is to be opened waits for one of them to go.
const ROOM_WAIT: Duration = Duration::from_secs(2);
/// How long the end of a node waits for all of them to go.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// How long the server may take to take a cancel request.
const CANCEL_MAX: Duration = Duration::from_secs(1);
/// How long it may take to let in the connection that ends others.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long the server may take to end processes, or to answer which are left.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// After which pause it is looked whether a process is left that was sent a cancel request.
const CANCELLED_PAUSE: Duration = Duration::from_millis(100);
/// How long the node's next connection is waited for: longer than the pauses between its attempts to open a
/// session.
const NEXT_MAX: Duration = Duration::from_secs(5);
/// How often, and for how long, one connection looks whether those that it ended are gone.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_millis(500);
/// The bounds of the pause before the next attempt.
const AGAIN_MIN: Duration = Duration::from_millis(500);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Ends those of these processes ($1 numbers and $3 starts, as far as they are known, $2 beginnings of the
/// names of their connections, $4 as whom they were made) that this role may end. Answers the places of all
/// that are still there. It commits nothing, so it waits for no standby.
///
/// Whose number and name every role is shown; the start only some are, so one that is not shown differs from
/// none. Anybody may take any name: without a number only a process of the same user counts.
const END_FORMER: &str = "
SELECT f.place,
       CASE WHEN (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))
                 AND (SELECT NOT its.rolsuper OR own.rolsuper FROM pg_roles its, pg_roles own
                      WHERE its.oid = a.usesysid AND own.rolname = current_user)
            THEN pg_terminate_backend(a.pid) END AS ended
FROM unnest($1::int4[], $2::text[], $3::timestamptz[], $4::text[]) WITH ORDINALITY
     AS f (pid, name, started, login, place)
CROSS JOIN LATERAL pg_stat_get_activity(f.pid) AS a
WHERE starts_with(a.application_name, f.name)
  AND (a.pid = f.pid OR f.pid IS NULL
       AND a.usesysid = (SELECT oid FROM pg_roles WHERE rolname = coalesce(f.login, session_user)))
  AND coalesce(a.backend_start = f.started, true)";

/// A process of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// When it was started; `None` if this role is not shown that.
    pub(super) started: Option<DateTime<Utc>>,
}

/// What cancels the statement of a connection, wherever that is.
#[derive(Clone)]
pub(super) struct Cancel {
    pub(super) token: CancelToken,
    pub(super) tls: MakeRustlsConnect,
}

/// The former processes of one node.
#[derive(Default)]
pub(super) struct Former {
    state: Mutex<State>,
    counts: watch::Sender<Counts>,
    /// Somebody waits for one of them to go.
    hurry: Notify,
}

#[derive(Default)]
struct State {
    left: Vec<Left>,
    /// A task looks after them.
    tended: bool,
    /// The node has ended, and made no connection since.
    over: bool,
}

/// A connection that has ended, and whose process may be left.
#[derive(Clone)]
pub(super) struct Left {
    /// The beginning of the name under which the server lists it, and no other one.
    name: String,
    /// As whom it was made; `None`: as the user of this process of the operating system.
    user: Option<String>,
    /// `None` if it has answered nothing.
    process: Option<Process>,
    cancel: Cancel,
    given_up: bool,
}

impl Left {
    pub(super) fn new(name: String, user: Option<String>, process: Option<Process>, cancel: Cancel) -> Self {
        Self { name, user, process, cancel, given_up: false }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Connections that have not ended.
    open: usize,
    /// Processes that may be left.
    left: usize,
    /// The server did not hear the last cancel request.
    away: bool,
    /// How many connections the node has tried to make that end what is left.
    tried: u64,
    /// How many wait for them to go.
    waiting: usize,
}

/// Somebody waits for former processes to go, and makes no connection meanwhile.
struct Waiting<'a>(&'a Former);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.counts.send_modify(|counts| counts.waiting -= 1);
    }
}

/// Counts a connection for as long as it is open.
pub(super) struct Counted(Arc<Former>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counts.send_modify(|counts| counts.open -= 1);
    }
}

impl Former {
    /// Counts one more connection.
    pub(super) fn count(self: &Arc<Self>) -> Counted {
        self.counts.send_modify(|counts| counts.open += 1);
        Counted(self.clone())
    }

    /// The node tries to make a connection, by which it ends what is left.
    pub(super) fn tries(&self) {
        self.lock().over = false;
        self.counts.send_modify(|counts| counts.tried += 1);
    }

    fn wait(&self) -> Waiting<'_> {
        self.counts.send_modify(|counts| counts.waiting += 1);
        Waiting(self)
    }

    /// A connection has ended like this.
    pub(super) fn ended(self: &Arc<Self>, settings: &Settings, ending: Ending, mut left: Left) {
        let given_up = match ending {
            Ending::Clean => return,
            Ending::Closed => false,
            Ending::GivenUp => true,
        };
        left.given_up = given_up;
        let mut state = self.lock();
        state.left.push(left);
        self.tell(&state);
        drop(state);
        if given_up {
            self.tend(settings);
        }
    }

    /// Ends what is left, if anything is, by a connection that was just made, before it is used: only now it
    /// is known to which server.
    ///
    /// # Errors
    ///
    /// [`LockError::Unavailable`]: too many are left; it names them and the cure.
    pub(super) async fn end_by(
        self: &Arc<Self>,
        client: &Client,
        settings: &Settings,
    ) -> Result<(), LockError> {
        if self.lock().left.is_empty() {
            return Ok(());
        }
        self.end(client, LOOK_MAX).await;
        self.give_up(settings);
        if self.counts.borrow().left < FORMER_MAX { Ok(()) } else { Err(unavailable(self.too_many())) }
    }

    /// Waits for a moment until so few are left that another connection may be made, or their server turns
    /// out to be away: the connection may lead to another one.
    ///
    /// # Errors
    ///
    /// [`LockError::Unavailable`]: there are too many; it names them and the cure.
    pub(super) async fn make_room(self: &Arc<Self>, settings: &Settings) -> Result<(), LockError> {
        let mut counts = self.counts.subscribe();
        if counts.borrow().left < FORMER_MAX {
            return Ok(());
        }
        let _waiting = self.wait();
        self.give_up(settings);
        let has_room = |counts: &Counts| counts.left < FORMER_MAX || counts.away;
        let room = timeout(ROOM_WAIT, counts.wait_for(has_room)).await;
        if room.is_ok() { Ok(()) } else { Err(unavailable(self.too_many())) }
    }

    fn too_many(&self) -> String {
        let text = |left: &Left| left.process.map_or_else(|| left.name.clone(), |its| its.pid.to_string());
        let pids: Vec<_> = self.lock().left.iter().map(text).collect();
        format!(
            "{} former connections of this node are still on the server, as its processes {}, though they were cancelled and ended; no \
             further one is opened until one of them is gone: look what they wait for in pg_stat_activity; for SyncRep, bring the \
             synchronous standby back or take it out of synchronous_standby_names; a process that stands still is continued \
             or killed on the server's machine",
            pids.len(),
            pids.join(", ")
        )
    }

    /// Waits until no connection is open and no process is left, or the server does not hear of it, or no
    /// longer than this.
    pub(super) async fn farewell(self: &Arc<Self>, settings: &Settings, deadline: Duration) {
        let mut counts = self.counts.subscribe();
        let _waiting = self.wait();
        self.give_up(settings);
        let gone = counts.wait_for(|counts| counts.open == 0 && (counts.left == 0 || counts.away));
        // What is left then the server ends when it notices, or somebody else.
        let _ = timeout(deadline, gone).await;
        self.lock().over = true;
    }

    /// No other connection comes to look at those that were closed by the other side.
    fn give_up(self: &Arc<Self>, settings: &Settings) {
        let mut state = self.lock();
        state.left.iter_mut().for_each(|left| left.given_up = true);
        let any = !state.left.is_empty();
        drop(state);
        self.counts.send_modify(|counts| counts.away = false);
        if any {
            self.tend(settings);
        }
    }

    /// Sees that somebody looks after those that were given up, now.
    fn tend(self: &Arc<Self>, settings: &Settings) {
        self.hurry.notify_one();
        if !std::mem::replace(&mut self.lock().tended, true) {
            tokio::spawn(self.clone().end_all(settings.clone()));
        }
    }

    /// Looks after those that were given up until there are none.
    async fn end_all(self: Arc<Self>, settings: Settings) {
        let mut backoff = Backoff::new(AGAIN_MIN, AGAIN_MAX, settings.node.as_uuid().as_u64_pair().1);
        loop {
            let tried = self.counts.borrow().tried;
            let is_heard = self.cancel().await;
            self.counts.send_modify(|counts| counts.away = !is_heard);
            if is_heard {
                sleep(CANCELLED_PAUSE).await;
            }
            if is_heard && self.is_alone(tried).await {
                let ends = EndOnDrop::new();
                let connects = connect(&settings, &self, Purpose::Cleanup, &ends.loss, None);
                // Without an answer it has no place for another connection, perhaps because of those that are
                // left.
                if let Ok(Ok(Connected { client, .. })) = timeout(CONNECT_MAX, connects).await {
                    self.end(&client, LOOK_MAX).await;
                }
            }
            if self.is_done() {
                return;
            }
            // Whoever is in a hurry waits for what an attempt brings.
            let _ = timeout(backoff.failed(), self.hurry.notified()).await;
            // Others may have ended them meanwhile, or the node has ended.
            if self.is_done() {
                return;
            }
        }
    }

    /// Whether the node makes no connection by which it ends them, after those that it had tried, or somebody
    /// waits for that.
    async fn is_alone(&self, tried: u64) -> bool {
        let mut counts = self.counts.subscribe();
        let known = counts.wait_for(|counts| counts.waiting > 0 || counts.tried != tried || counts.left == 0);
        match timeout(NEXT_MAX, known).await {
            Ok(Ok(counts)) => counts.waiting > 0,
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Whether nobody is left to look after, or the node has ended. If so, whoever is given up later has a
    /// task of its own.
    fn is_done(&self) -> bool {
        let mut state = self.lock();
        state.tended = !state.over && state.left.iter().any(|left| left.given_up);
        !state.tended
    }

    /// Sends cancel requests to those that were given up. Answers whether the server has heard one, or
    /// somebody in its place.
    async fn cancel(&self) -> bool {
        let given_up = |left: &&Left| left.given_up;
        let cancels: Vec<_> =
            self.lock().left.iter().filter(given_up).map(|left| left.cancel.clone()).collect();
        join_all(cancels.iter().map(Cancel::send)).await.contains(&true)
    }

    /// Ends those that are left, and looks for a moment whether they are gone.
    async fn end(&self, client: &Client, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let asked = self.lock().left.clone();
            let names: Vec<_> = asked.iter().map(|left| &left.name).collect();
            let pids: Vec<_> = asked.iter().map(|left| left.process.map(|its| its.pid)).collect();
            let starts: Vec<_> = asked.iter().map(|left| left.process.and_then(|its| its.started)).collect();
            let users: Vec<_> = asked.iter().map(|left| &left.user).collect();
            let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
                (&pids, Type::INT4_ARRAY),
                (&names, Type::TEXT_ARRAY),
                (&starts, Type::TIMESTAMPTZ_ARRAY),
                (&users, Type::TEXT_ARRAY),
            ];
            let ended = timeout(ANSWER_MAX, client.query_typed(END_FORMER, &parameters)).await;
            let places = ended.map(|rows| rows.and_then(|rows| rows.iter().map(place).collect()));
            let Ok(Ok(there)) = places else { return };
            let there: Vec<i64> = there;
            let gone = (1..).zip(names).filter(|(place, _)| !there.contains(place));
            let gone: Vec<_> = gone.map(|(_, name)| name).collect();
            let left = self.forget(&gone);
            if left == 0 || Instant::now() >= until {
                return;
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Forgets those that are gone. Answers how many are left.
    fn forget(&self, gone: &[&String]) -> usize {
        let mut state = self.lock();
        state.left.retain(|left| !gone.contains(&&left.name));
        self.tell(&state);
        state.left.len()
    }

    fn tell(&self, state: &State) {
        self.counts.send_modify(|counts| counts.left = state.left.len());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a process that is still there, among those that were asked for.
fn place(row: &Row) -> Result<i64, Error> {
    row.try_get("place")
}

impl Cancel {
    /// Asks the server to cancel what the connection waits for. Answers whether it has heard that; it does
    /// not say what came of it.
    async fn send(&self) -> bool {
        timeout(CANCEL_MAX, self.token.cancel_query(self.tls.clone())).await.is_ok_and(|sent| sent.is_ok())
    }
}
