//! One life of a node's connection to the server.
//!
//! A session owns a connection that holds the beacon, and, once the node campaigns, a second one that holds
//! or waits for the leadership. Both end together: whatever makes the session doubtful makes it lost, and
//! what is lost is never used again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet_actors::port::{LockError, Session};
use futures_util::future::{join, join3, join4, try_join};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_postgres::{
    Client, Error, Row, Statement, ToStatement,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    clock::Clocks,
    connection::{Connected, Rights, check_lease, check_rights, connect, inspect, silent},
    control_hints::ControlHints,
    failure::{self, refusal},
    forget::Forgetting,
    former_connections::Former,
    heartbeat::{Heart, Pulse},
    leadership::{LeadershipConnection, SecondConnection},
    lock_holders::{Holders, Obstacles},
    loss::{EndOnDrop, Ending, Loss, LossCause, end},
    lost_runs::Search,
    migrations,
    notification_reader::NotificationReader,
    notifications,
    places::Places,
    sessions,
    settings::{OPEN_TIMEOUT, Purpose, Settings},
    snapshots::{SnapshotAge, Snapshots},
    statement::{Asker, Statements, leader, server},
};

/// How many statements of a search, each of which takes as long as it may, fit into the deadline of one.
const STATEMENTS_PER_TRUST: u32 = 4;
/// How long one statement of a search may take at most, whatever the lease: what is asked after it waits for
/// it, and is given up after [`CALL_DEADLINE`](callsheet_actors::CALL_DEADLINE).
pub(super) const LONG_STATEMENT_MAX: Duration = Duration::from_secs(2);

/// What a session holds that does not end although it is silent.
const OTHER_SESSION: &str = "the beacon of a session that is silent beyond its lease, and with it its keys,";

/// How long the server may take to close a session: then what it waits for is cancelled.
const CLOSE_MAX: Duration = Duration::from_secs(1);

const ELSEWHERE: &str = "the session and the leadership of this node reached different servers; name one server in the URL (several \
                         hosts: target_session_attrs=read-write, load_balance_hosts=disable)";

/// A session that was opened. Dropping it ends it.
pub(super) struct OpenSession {
    pub(super) settings: Settings,
    pub(super) beacon: i64,
    pub(super) statements: Statements,
    pub(super) leadership: tokio::sync::Mutex<Option<LeadershipConnection>>,
    /// The channel of the scope.
    pub(super) channel: String,
    /// Where the rows of its runs are.
    pub(super) places: Places,
    notifications: Arc<NotificationReader>,
    /// What other nodes ask, as far as it was heard of.
    hints: Arc<ControlHints>,
    /// How far it has forgotten names that are out of use.
    pub(super) forgetting: tokio::sync::Mutex<Forgetting>,
    /// How far it has searched for runs of dead sessions.
    pub(super) search: tokio::sync::Mutex<Search>,
    clocks: Arc<Clocks>,
    former: Arc<Former>,
    client: Arc<Client>,
    loss: watch::Sender<Loss>,
    /// Nothing is asked any more.
    closing: AtomicBool,
    pub(super) pulse: Arc<Pulse>,
    /// What others hold, and this session needs.
    pub(super) obstacles: Arc<Obstacles>,
    pub(super) snapshot_age: Arc<SnapshotAge>,
}

impl OpenSession {
    /// Connects, migrates if need be, and acquires a beacon.
    pub(super) async fn open(
        settings: Settings,
        clocks: Arc<Clocks>,
        former: Arc<Former>,
        migrate: bool,
    ) -> Result<Arc<Self>, LockError> {
        former.make_room(&settings).await?;
        let parts = (settings, clocks, former);
        if let Some(open) = in_time(Self::open_on_schema(&parts, migrate, parts.0.migrate)).await? {
            return Ok(open);
        }
        let (settings, clocks, former) = &parts;
        in_time(Self::migrate(settings, clocks, former)).await?;
        let open = in_time(Self::open_on_schema(&parts, false, false)).await?;
        open.ok_or_else(|| failure::no_tables(settings))
    }

    /// Opens a session, unless the schema is to be made or changed first: if a step is missing that
    /// `must_be_new` asks for, or, if it `may_migrate`, one of the tables.
    async fn open_on_schema(
        (settings, clocks, former): &(Settings, Arc<Clocks>, Arc<Former>),
        must_be_new: bool,
        may_migrate: bool,
    ) -> Result<Option<Arc<Self>>, LockError> {
        let ends = EndOnDrop::new();
        let connected = connect(settings, former, Purpose::Session, &ends.loss, None).await?;
        // In one round trip, as what follows.
        let (pid, rights, readable) = join3(
            inspect(&connected, settings, clocks),
            check_rights(&connected.client, settings),
            migrations::is_readable(&connected.client, &settings.schema),
        )
        .await;
        let pid = pid?;
        // Before anything that might wait as those do.
        former.end_by(&connected.client, settings).await?;
        check_lease(&connected.client, settings, clocks).await?;
        let readable = readable?;
        if must_be_new && !readable {
            return Ok(None);
        }
        if rights? == Rights::NoTables {
            return if may_migrate { Ok(None) } else { Err(failure::no_tables(settings)) };
        }
        let Connected { client, notifications, .. } = connected;
        let is_new = async { if must_be_new { migrations::is_up_to_date(&client).await } else { Ok(true) } };
        let is_known = async {
            if readable { migrations::check_version(&client, &settings.schema).await } else { Ok(()) }
        };
        let prepared = try_join(sessions::channel(&client, settings), Statements::prepare(&client));
        let (is_known, is_new, prepared) = join3(is_known, is_new, prepared).await;
        is_known?;
        if !is_new? {
            return Ok(None);
        }
        let (channel, statements) = prepared.map_err(|error| refusal(&error))?;
        let prepared = Prepared { client: Arc::new(client), notifications, pid, channel, statements };
        prepared.begin((settings, clocks, former), ends).await.map(Some)
    }

    async fn migrate(settings: &Settings, clocks: &Clocks, former: &Arc<Former>) -> Result<(), LockError> {
        let ends = EndOnDrop::new();
        let mut connected = connect(settings, former, Purpose::Migration, &ends.loss, None).await?;
        inspect(&connected, settings, clocks).await?;
        migrations::migrate(&mut connected.client, &settings.schema).await
    }

    /// The session's id: its beacon, which no other session ever has.
    pub(super) fn id(&self) -> Session {
        Session(self.beacon.cast_unsigned())
    }

    /// As whom it asks its statements.
    pub(super) fn asker(&self) -> Asker<'_> {
        let Settings { scope, node, .. } = &self.settings;
        Asker { scope, node: node.as_uuid(), beacon: self.beacon, channel: &self.channel }
    }

    /// What reads the notifications of this session; it does not keep the session open.
    pub(super) fn notifications(&self) -> Arc<NotificationReader> {
        self.notifications.clone()
    }

    /// The hints of other nodes' requests; they do not keep the session open.
    pub(super) fn hints(&self) -> Arc<ControlHints> {
        self.hints.clone()
    }

    /// Connects the second connection, which ends with this session, or when it is dropped.
    pub(super) async fn connect_leadership(&self) -> Result<SecondConnection, LockError> {
        self.former.make_room(&self.settings).await?;
        let connected = async {
            let ends = EndOnDrop::new();
            let (purpose, also) = (Purpose::LeadershipConnection, Some(self.loss()));
            let connected = connect(&self.settings, &self.former, purpose, &ends.loss, also).await?;
            let client = &connected.client;
            let beacon: [(&(dyn ToSql + Sync), Type); 1] = [(&self.beacon, Type::INT8)];
            // In one round trip.
            let (pid, seen, wait) = join3(
                inspect(&connected, &self.settings, &self.clocks),
                client.query_typed_one(server::SEES_BEACON, &beacon),
                client.prepare(leader::WAIT_FOR_LEADERSHIP),
            )
            .await;
            let pid = pid?;
            self.former.end_by(client, &self.settings).await?;
            if seen.and_then(|row| row.try_get("seen")).map_err(|error| refusal(&error))? {
                let wait = wait.map_err(|error| refusal(&error))?;
                Ok(SecondConnection { client: connected.client, wait, pid, _ends: ends })
            } else {
                Err(failure::refused(ELSEWHERE))
            }
        };
        in_time(connected).await
    }

    /// Takes the session for lost: closes its connections, so that nothing that was asked can be answered any
    /// more.
    pub(super) fn discard(&self, reason: &str) {
        end(&self.loss, LossCause::lost(reason));
    }

    /// The connection, for what nothing depends on: an answer that does not come is nobody's loss.
    pub(super) fn observer(&self) -> &Client {
        &self.client
    }

    /// How long a round trip takes at present.
    pub(super) fn round_trip(&self) -> Duration {
        self.clocks.round_trip().unwrap_or_default()
    }

    /// A handle that hears of the loss.
    pub(super) fn loss(&self) -> watch::Receiver<Loss> {
        self.loss.subscribe()
    }

    /// Why nothing can be asked any more.
    pub(super) fn lost_reason(&self) -> Option<String> {
        if Instant::now() >= self.pulse.trusted_until() {
            // A process that was frozen must not act on answers that it got before.
            self.discard("the lease ran out before the server answered");
        }
        if self.closing.load(Ordering::Relaxed) {
            return Some("it was closed".to_owned());
        }
        self.loss.borrow().as_ref().map(|ended| ended.reason.clone())
    }

    /// Asks one statement. It is sent when the future is first polled, so that statements of futures that are
    /// polled in one turn travel together, in this order.
    ///
    /// Without an answer the session is lost: the server may still do what was asked, and that must not be
    /// mistaken for something that this node holds.
    pub(super) async fn ask(
        self: &Arc<Self>,
        statement: &(impl ToStatement + ?Sized),
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StatementError> {
        if let Some(reason) = self.lost_reason() {
            return Err(StatementError::Lock(LockError::SessionLost { reason }));
        }
        let mut abandoned = Abandoned { session: self, armed: true };
        let sent = Instant::now();
        let until = sent + self.settings.trust();
        let answer = timeout_at(until, self.client.query(statement, parameters)).await;
        // A process that was frozen finds the answer and the end of its lease at once: the answer is too old
        // by then.
        let answer = answer.ok().filter(|_| Instant::now() < until);
        abandoned.armed = answer.is_none();
        drop(abandoned);
        match &answer {
            Some(Ok(_)) => self.pulse.heard(sent),
            Some(Err(error)) => self.pulse.refused(sent, error),
            None => {}
        }
        match answer {
            Some(Ok(rows)) => Ok(rows),
            // The server said no, and undid whatever it had done; or nothing was sent.
            Some(Err(error))
                if (error.as_db_error().is_some() || failure::is_unsent(&error))
                    && !self.client.is_closed() =>
            {
                Err(StatementError::Undone(error))
            }
            Some(Err(error)) => {
                let reason = failure::explain(&error);
                self.discard(&reason);
                Err(StatementError::Lock(LockError::SessionLost { reason }))
            }
            None => Err(StatementError::Lock(LockError::Timeout)),
        }
    }

    /// Asks a statement that may take long, and that the server undoes, as nobody's loss, when it takes too
    /// long for this session.
    pub(super) async fn ask_in_time(
        self: &Arc<Self>,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StatementError> {
        self.ask_within(LONG_STATEMENT_MAX, statement, parameters).await
    }

    /// Asks such a statement with a limit of its own.
    pub(super) async fn ask_within(
        self: &Arc<Self>,
        limit: Duration,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StatementError> {
        let Statements { begin, limit_time, commit, .. } = &self.statements;
        let limit = limit.min(self.settings.trust() / STATEMENTS_PER_TRUST);
        let limit = limit.as_millis().to_string();
        let (begun, limited, answer, committed) = join4(
            self.ask(begin, &[]),
            self.ask(limit_time, &[&limit]),
            self.ask(statement, parameters),
            self.ask(commit, &[]),
        )
        .await;
        begun?;
        limited?;
        let rows = answer?;
        committed?;
        Ok(rows)
    }

    /// Frees the beacon and the leadership, then closes the connections.
    pub(super) async fn close(&self) {
        // Freed by the server, at the latest, when it notices that the connection is gone.
        // What was asked before is answered before: nothing is held that the close does not know of.
        self.closing.store(true, Ordering::Relaxed);
        if let Ok(mut leadership) = self.leadership.try_lock() {
            // It ends in order. One that waits for something is given up with the session.
            drop(leadership.take());
        }
        let closed = sessions::close(&self.client, &self.settings, self.beacon);
        let closed = timeout(self.settings.margin().min(CLOSE_MAX), closed).await;
        let ending = if matches!(closed, Ok(Ok(()))) { Ending::Clean } else { Ending::GivenUp };
        end(&self.loss, LossCause { reason: "it was closed".to_owned(), ending });
    }
}

/// A connection that was looked at, with everything that is asked on it, before its session begins.
struct Prepared {
    client: Arc<Client>,
    notifications: broadcast::Receiver<String>,
    pid: i32,
    channel: String,
    statements: Statements,
}

impl Prepared {
    /// Takes the beacon, listens, and starts the heart.
    async fn begin(
        self,
        (settings, clocks, former): (&Settings, &Arc<Clocks>, &Arc<Former>),
        mut ends: EndOnDrop,
    ) -> Result<Arc<OpenSession>, LockError> {
        // As good as a heartbeat: it looks at the server process, too.
        let sent = Instant::now();
        let beacon = self.take_beacon(settings).await?;
        let Self { client, notifications, pid, channel, statements } = self;
        let pulse = Arc::new(Pulse::new(settings, pid, clocks.clone(), sent));
        let obstacles: Arc<Obstacles> = Arc::default();
        let snapshot_age: Arc<SnapshotAge> = Arc::default();
        let oldest_snapshot = statements.oldest_snapshot.clone();
        let heart = Heart {
            client: client.clone(),
            heartbeat: statements.heartbeat.clone(),
            pulse_alone: statements.pulse_alone.clone(),
            scope: settings.scope.clone(),
            beacon,
            channel: channel.clone(),
            pulse: pulse.clone(),
            obstacles: obstacles.clone(),
            others: Holders::new(OTHER_SESSION, false),
        };
        let snapshots = Snapshots::new(oldest_snapshot, settings.lease, snapshot_age.clone());
        let loss = ends.disarm();
        tokio::spawn(heart.run(snapshots, loss.clone()));
        let witness = notifications::Witness {
            scope: settings.scope.clone(),
            pauses: statements.pauses.clone(),
            pending: statements.still_pending.clone(),
        };
        let hints = Arc::new(ControlHints::of(settings.node));
        let notifications = Arc::new(NotificationReader::new(
            beacon,
            hints.clone(),
            notifications,
            client.clone(),
            witness,
            settings.trust(),
        ));
        Ok(Arc::new(OpenSession {
            settings: settings.clone(),
            clocks: clocks.clone(),
            former: former.clone(),
            beacon,
            statements,
            leadership: tokio::sync::Mutex::default(),
            channel,
            places: Places::default(),
            forgetting: tokio::sync::Mutex::default(),
            search: tokio::sync::Mutex::default(),
            closing: AtomicBool::new(false),
            notifications,
            hints,
            client,
            loss,
            pulse,
            obstacles,
            snapshot_age,
        }))
    }

    /// Registers the session under a beacon that no other one ever has, and listens.
    async fn take_beacon(&self, settings: &Settings) -> Result<i64, LockError> {
        // The low half of a random UUID: 62 random bits.
        let beacon = Uuid::new_v4().as_u64_pair().1.cast_signed();
        let listen = server::listen(&self.channel);
        let opened = sessions::open(&self.client, settings, beacon, self.pid);
        let (listens, opened) = join(self.client.batch_execute(&listen), opened).await;
        listens.map_err(|error| refusal(&error))?;
        opened?;
        Ok(beacon)
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.discard("it was dropped");
    }
}

/// Why a statement has no answer.
pub(super) enum StatementError {
    /// The server refused it: nothing was changed.
    Undone(Error),
    /// It is unknown what was changed, or the session is gone.
    Lock(LockError),
}

impl StatementError {
    /// The server gave up waiting for a lock. Nothing was changed.
    pub(super) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Undone(error) if failure::is_lock_timeout(error))
    }
}

impl From<LockError> for StatementError {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

/// For calls whose answers cannot say that they failed alone.
impl From<StatementError> for LockError {
    fn from(error: StatementError) -> Self {
        match error {
            StatementError::Undone(error) => failure::not_done(&error),
            StatementError::Lock(error) => error,
        }
    }
}

/// Discards the session if a statement is dropped before its answer came.
struct Abandoned<'a> {
    session: &'a OpenSession,
    armed: bool,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.session.discard("a statement was given up before the server answered");
        }
    }
}

/// Waits no longer for a connection, or for what is done on it first.
async fn in_time<T>(opened: impl Future<Output = Result<T, LockError>>) -> Result<T, LockError> {
    timeout(OPEN_TIMEOUT, opened).await.unwrap_or_else(|_| Err(silent(OPEN_TIMEOUT)))
}
