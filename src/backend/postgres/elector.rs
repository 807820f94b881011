//! Who leads, on PostgreSQL.
//!
//! A term is a row whose epoch is raised only when the row's term is over or its session dead. An advisory
//! lock, the leadership lock, makes hand-over quick, the row makes it safe: claims check the epoch, whoever
//! holds the lock.
//!
//! Anybody who may connect can take that lock, so it only orders candidates: a candidate that finds nobody
//! leading and does not get the lock within a slice asks for a term without it, and a leader without it goes
//! on to ask for it.
//!
//! A frozen leader's connections end with its lease, as the server does not hear of them. Where that fails
//! whoever finds them ends them; what keeps the leader row locked is ended by who waits for it.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    NodeId, Term,
    port::{Campaign, ElectError, Elector, Grant, Lease, Observation, Renewal},
};
use futures_util::{
    FutureExt,
    future::{BoxFuture, join},
};
use tokio::time::{Instant, timeout};
use tokio_postgres::{
    Error, Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    Shared, candidates, cure, failure,
    leader_row::{Blocked, NO_ANSWER, Typed, millis, read_holders, refused, typed, unavailable},
    leadership::{LeadershipConnection, take_leader},
    lock_holders::{OnRow, Through},
    session::OpenSession,
    statement::{eviction, leader, number},
};

/// The bounds of the pause before a campaign against a living leader who lost the leadership lock.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How often a campaign asks for a term: again once the holder of the term in its way has died.
const GRANTS_MAX: usize = 2;

/// So many campaigns in a row that are granted no term although nobody leads are refused.
const UNGRANTED_MAX: u32 = 3;

const HIDDEN: &str =
    "the row of the leader cannot be seen; it was deleted, or row security hides it: find out which";

pub(super) struct PostgresElector {
    pub(super) shared: Arc<Shared>,
}

/// What the row of the leader says.
struct LeaderRow {
    epoch: i64,
    /// It names this session.
    own: bool,
    /// The term is not over.
    lasts: bool,
}

impl PostgresElector {
    fn session(&self) -> Result<Arc<OpenSession>, ElectError> {
        let session = self.shared.session().filter(|session| session.lost_reason().is_none());
        session.ok_or_else(|| unavailable("there is no session with the server"))
    }

    async fn campaign_on(
        &self,
        session: &Arc<OpenSession>,
        patience: Duration,
    ) -> Result<Campaign, ElectError> {
        let began = Instant::now();
        let mut kept = session.leadership.lock().await;
        // Taken out: if this future is dropped or fails the connection ends, and with it a lock that it may
        // have got.
        let mut leadership = match kept.take() {
            Some(leadership) if !leadership.is_closed() => leadership,
            _ => {
                let connection =
                    session.connect_leadership().await.map_err(|error| unavailable(&error.to_string()))?;
                LeadershipConnection::new(connection, OnRow(session.obstacles.clone()))
            }
        };
        let answer = leadership.campaign(session, began, patience).await?;
        let dropped = leadership.ungranted >= UNGRANTED_MAX;
        *kept = Some(leadership);
        match answer {
            Err(Blocked(reason)) => Err(unavailable(&reason)),
            Ok(_) if dropped => Err(unavailable(&cure::dropped("grant a term, since nobody leads"))),
            Ok(answer) => Ok(answer),
        }
    }
}

impl LeadershipConnection {
    /// A campaign that began at `began`.
    async fn campaign(
        &mut self,
        session: &Arc<OpenSession>,
        began: Instant,
        patience: Duration,
    ) -> Result<Result<Campaign, Blocked>, ElectError> {
        let settings = &session.settings;
        let holder = [typed(&settings.scope, Type::TEXT), typed(&session.beacon, Type::INT8)];
        self.leads = false;
        for _ in 0..GRANTS_MAX {
            if !self.locked
                && let Some(leader) = self.wait(session, patience).await?
            {
                if leader.is_some() {
                    self.on_row.show(Vec::new());
                    return Ok(Ok(Campaign::Lost { leader, retry_in: Duration::ZERO }));
                }
                // Nobody leads, not even whoever has the lock: the row decides alone.
                self.look_at_lock(session).await?;
            }
            match self.grant(session, began).await? {
                Ok(Some(grant)) => {
                    self.ungranted = 0;
                    self.leads = true;
                    return Ok(Ok(Campaign::Won(grant)));
                }
                Ok(None) => {}
                Err(blocked) => return Ok(Err(blocked)),
            }
            if !self.locked {
                break;
            }
            // The leader's session lives, but not its second connection. Either the leader is dying, and the
            // server has not noticed, or it will soon be back for the lock. Both need the lock free.
            self.free(session).await?;
            if !self.wait_for_holder(session, &holder).await? {
                return self.lost(session, |_| Duration::ZERO).await.map(Ok);
            }
        }
        let answer = self.lost(session, |remaining| remaining.clamp(RETRY_MIN, RETRY_MAX)).await?;
        match answer {
            // A term that ended between the two questions looks like this as well.
            Campaign::Lost { leader: None, .. } => self.ungranted = self.ungranted.saturating_add(1),
            Campaign::Lost { leader: Some(_), .. } | Campaign::Won(_) => self.ungranted = 0,
        }
        Ok(Ok(answer))
    }

    /// What the row of the leader says, if there is one.
    async fn standing(&self, session: &OpenSession) -> Result<Option<LeaderRow>, ElectError> {
        let of_scope = [typed(&session.settings.scope, Type::TEXT), typed(&session.beacon, Type::INT8)];
        let row = self.ask(session, leader::STANDING, &of_scope).await?;
        let Some(row) = row else { return Ok(None) };
        let read = || {
            let (epoch, own, lasts) = (row.try_get("epoch")?, row.try_get("own")?, row.try_get("lasts")?);
            Ok(LeaderRow { epoch, own, lasts })
        };
        read().map(Some).map_err(|error| refused(&error))
    }

    /// Waits for the leadership lock while the leader is the one that it knows. Answers who leads, if the
    /// lock was not had.
    async fn wait(
        &mut self,
        session: &OpenSession,
        patience: Duration,
    ) -> Result<Option<Option<NodeId>>, ElectError> {
        let settings = &session.settings;
        let (slices, deadline) = (settings.campaign_slices(patience), settings.campaign_deadline());
        // What is not known is over after one slice.
        let awaited = self.awaited.take();
        let parameters: [&(dyn ToSql + Sync); 4] = [&settings.schema, &settings.scope, &awaited, &slices];
        let answer = timeout(deadline, self.client().query_one(&self.connection.wait, &parameters)).await;
        let row = answer.map_err(|_| unavailable(NO_ANSWER))?.map_err(|error| refused(&error))?;
        let read = || Ok((row.try_get("acquired")?, row.try_get("term")?, row.try_get("leader_node")?));
        let (acquired, term, node): (bool, _, Option<Uuid>) = read().map_err(|error| refused(&error))?;
        self.locked = acquired;
        if acquired {
            return Ok(None);
        }
        self.awaited = term;
        Ok(Some(node.map(|node| NodeId::numbered(node.as_u128()))))
    }

    /// Waits, for one slice, until the session of the leader ends: whether it did.
    async fn wait_for_holder(&self, session: &OpenSession, holder: &[Typed<'_>]) -> Result<bool, ElectError> {
        match self.answer(session, leader::WAIT_FOR_HOLDER, holder).await? {
            Ok(_) => Ok(true),
            Err(error) if failure::is_lock_timeout(&error) => Ok(false),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Begins a term, unless that of a live session is not over, in a campaign that began at `began`.
    async fn grant(
        &mut self,
        session: &Arc<OpenSession>,
        began: Instant,
    ) -> Result<Result<Option<Grant>, Blocked>, ElectError> {
        let settings = &session.settings;
        let node = settings.node.as_uuid();
        let lease = millis(settings.lease);
        let zone_data = &*settings.zone_data;
        let parameters = [
            typed(&settings.scope, Type::TEXT),
            typed(&session.beacon, Type::INT8),
            typed(&node, Type::UUID),
            typed(&lease, Type::FLOAT8),
            typed(&zone_data, Type::TEXT),
        ];
        let (waited, answer) = loop {
            let waited = began.elapsed();
            match self.ask_on_row(session, leader::GRANT, &parameters).await? {
                // Whoever has locked the row may be ended meanwhile.
                Err(Blocked(_))
                    if began.elapsed() + settings.campaign_slice() < settings.campaign_deadline() => {}
                answer => break (waited, answer),
            }
        };
        let row = match answer {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(Ok(None)),
            Err(blocked) => return Ok(Err(blocked)),
        };
        writable(&row)?;
        let epoch: i64 = row.try_get("epoch").map_err(|error| refused(&error))?;
        let former: Option<String> = row.try_get("former_zone_data").map_err(|error| refused(&error))?;
        let lease = Lease { duration: settings.lease, margin: settings.margin() };
        Ok(Ok(Some(Grant {
            term: Term(epoch.unsigned_abs()),
            lease: Some(lease),
            waited,
            former_zone_data: former.map(Into::into),
            undecided_from: None,
        })))
    }

    /// Says who leads, and when to ask again: by how long the term goes on.
    async fn lost(
        &self,
        session: &OpenSession,
        retry_in: impl FnOnce(Duration) -> Duration,
    ) -> Result<Campaign, ElectError> {
        let leader = self.leader(session).await?;
        let (leader, remaining) =
            leader.map_or((None, Duration::ZERO), |(leader, left)| (Some(leader), left));
        Ok(Campaign::Lost { leader, retry_in: retry_in(remaining) })
    }

    /// Ends who has the leadership lock and was silent beyond a lease, and names who cannot be ended.
    async fn look_at_lock(&mut self, session: &OpenSession) -> Result<(), ElectError> {
        let settings = &session.settings;
        let (asked, lease) = (Instant::now(), millis(settings.lease));
        let parameters = [
            typed(&settings.schema, Type::TEXT),
            typed(&settings.scope, Type::TEXT),
            typed(&lease, Type::FLOAT8),
        ];
        let rows =
            timeout(settings.trust(), self.client().query_typed(eviction::LOCK_HOLDERS, &parameters)).await;
        let rows = rows.map_err(|_| unavailable(NO_ANSWER))?.map_err(|error| refused(&error))?;
        let looked =
            self.of_lock.look(asked, read_holders(&rows)?, Through::Lock(&self.connection.client)).await;
        // It is said in the log; it is in nobody's way.
        looked.map(drop).map_err(|error| refused(&error))
    }

    /// Takes the leadership lock, if somebody else had it when this node was granted its term, and has let it
    /// go.
    async fn take_lock(&mut self, session: &OpenSession) -> Result<(), ElectError> {
        if self.locked {
            return Ok(());
        }
        let settings = &session.settings;
        let lock = [typed(&settings.schema, Type::TEXT), typed(&settings.scope, Type::TEXT)];
        let row = self.ask(session, leader::TRY_LEADERSHIP, &lock).await?;
        let acquired = row.map(|row| row.try_get("acquired")).transpose().map_err(|error| refused(&error))?;
        self.locked = acquired == Some(true);
        if self.locked { Ok(()) } else { self.look_at_lock(session).await }
    }

    async fn ask(
        &self,
        session: &OpenSession,
        statement: &str,
        parameters: &[Typed<'_>],
    ) -> Result<Option<Row>, ElectError> {
        self.answer(session, statement, parameters).await?.map_err(|error| refused(&error))
    }

    /// What the server says within the deadline, if only that it refuses.
    async fn answer(
        &self,
        session: &OpenSession,
        statement: &str,
        parameters: &[Typed<'_>],
    ) -> Result<Result<Option<Row>, Error>, ElectError> {
        let answer =
            timeout(session.settings.trust(), self.client().query_typed_opt(statement, parameters)).await;
        answer.map_err(|_| unavailable(NO_ANSWER))
    }

    async fn free(&mut self, session: &OpenSession) -> Result<(), ElectError> {
        self.ask(session, leader::FREE_LEADERSHIP, &[]).await?;
        self.locked = false;
        Ok(())
    }

    /// Who leads, and for how long as it stands.
    async fn leader(&self, session: &OpenSession) -> Result<Option<(NodeId, Duration)>, ElectError> {
        let row = self.ask(session, leader::LEADER, &[typed(&session.settings.scope, Type::TEXT)]).await?;
        let Some(row) = row else { return Ok(None) };
        let node: Uuid = row.try_get("node").map_err(|error| refused(&error))?;
        let remaining: f64 = row.try_get("remaining").map_err(|error| refused(&error))?;
        let remaining = Duration::try_from_secs_f64(remaining / 1e3).unwrap_or_default();
        Ok(Some((NodeId::numbered(node.as_u128()), remaining)))
    }
}

impl Elector for PostgresElector {
    fn campaign(&self, patience: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        async move {
            let session = self.session()?;
            self.campaign_on(&session, patience).await
        }
        .boxed()
    }

    fn observe(&self, stands: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        async move {
            let observed = candidates::observe(&self.session()?, stands).await;
            observed.map_err(|error| unavailable(&error.to_string()))
        }
        .boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        async move {
            let session = self.session()?;
            let mut kept = session.leadership.lock().await;
            // A node that has campaigned since, or whose connection is gone, renews no term: a grant ends its
            // former one.
            let Some(mut leadership) = take_leader(&mut kept) else { return Ok(Renewal::Deposed) };
            let settings = &session.settings;
            let (term, lease) = (number(term), millis(settings.lease));
            let parameters = [
                typed(&settings.scope, Type::TEXT),
                typed(&session.beacon, Type::INT8),
                typed(&term, Type::INT8),
                typed(&lease, Type::FLOAT8),
            ];
            let answer = leadership.ask_on_row(&session, leader::RENEW, &parameters).await?;
            let row = match answer {
                Ok(row) => row,
                // The connection is as it was.
                Err(Blocked(reason)) => {
                    *kept = Some(leadership);
                    return Err(unavailable(&reason));
                }
            };
            if let Some(row) = row {
                // The term is extended whatever comes of the lock: it is asked for again with the next
                // renewal.
                if let Err(error) = leadership.take_lock(&session).await {
                    tracing::debug!(target: "callsheet", "the leadership lock was not asked for: {error}");
                }
                *kept = Some(leadership);
                return writable(&row).map(|()| Renewal::Renewed);
            }
            let standing = leadership.standing(&session).await?;
            *kept = Some(leadership);
            match standing {
                Some(row) if row.own && row.epoch == term && row.lasts => {
                    Err(unavailable(&cure::dropped("extend the term of this node")))
                }
                Some(_) => Ok(Renewal::Deposed),
                None => Err(unavailable(HIDDEN)),
            }
        }
        .boxed()
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        async move {
            let session = self.session()?;
            let mut kept = session.leadership.lock().await;
            let Some(mut leadership) = take_leader(&mut kept) else { return Ok(()) };
            // The row first: whoever gets the lock finds the term over.
            let term = number(term);
            let parameters = [
                typed(&session.settings.scope, Type::TEXT),
                typed(&session.beacon, Type::INT8),
                typed(&term, Type::INT8),
            ];
            // Sent together, done one after the other.
            let resigns = leadership.ask(&session, leader::RESIGN, &parameters);
            let (resigned, freed) =
                join(resigns, leadership.ask(&session, leader::FREE_LEADERSHIP, &[])).await;
            let resigned = resigned?;
            freed?;
            // It only orders the candidates: a leader without it asks for it again.
            leadership.locked = false;
            if resigned.is_some() {
                leadership.leads = false;
                leadership.on_row.show(Vec::new());
                *kept = Some(leadership);
                return Ok(());
            }
            let standing = leadership.standing(&session).await?;
            *kept = Some(leadership);
            match standing {
                Some(row) if row.own && row.epoch == term && row.lasts => {
                    Err(unavailable(&cure::dropped("end the term of this node")))
                }
                // Over already, or never this node's, and what it holds now is another term.
                Some(_) | None => Ok(()),
            }
        }
        .boxed()
    }
}

/// Proves that the server was a primary when it answered.
fn writable(row: &Row) -> Result<(), ElectError> {
    match row.try_get("standby") {
        Ok(false) => Ok(()),
        Ok(true) => Err(unavailable("the server is a standby; connect to the primary")),
        Err(error) => Err(refused(&error)),
    }
}
