//! The second connection of a session, which holds the leadership or waits for it, and what it knows of
//! others that want it.

use tokio_postgres::{Client, Statement};

use super::{
    lock_holders::{Holders, OnRow},
    loss::EndOnDrop,
};

/// What two kinds of holders have.
const LEADER_ROW: &str = "the locked row of the leader";
const LEADERSHIP_LOCK: &str = "the leadership lock, which orders the candidates of the scope,";

/// The connection that holds the leadership or waits for it.
pub(super) struct SecondConnection {
    // Dropped before what ends it: then it ends in order, if it waits for nothing.
    pub(super) client: Client,
    /// It waits for the leadership.
    pub(super) wait: Statement,
    /// The process of the server that serves it.
    pub(super) pid: i32,
    pub(super) _ends: EndOnDrop,
}

/// The second connection of a session.
pub(super) struct LeadershipConnection {
    pub(super) connection: SecondConnection,
    /// It holds the leadership lock.
    pub(super) locked: bool,
    /// It was granted a term, which it has not given up.
    pub(super) leads: bool,
    /// The term of the leader whom it waits for; `None` if that is not known.
    pub(super) awaited: Option<i64>,
    /// Those who keep the leader row locked.
    pub(super) of_row: Holders,
    pub(super) on_row: OnRow,
    /// Those who have the leadership lock while they do not lead.
    pub(super) of_lock: Holders,
    /// How many campaigns in a row were granted no term although nobody led.
    pub(super) ungranted: u32,
}

/// The connection that was granted a term, taken out of its place: `None` if there is none. If the future
/// that took it is dropped or fails the connection ends, and with it the lock.
pub(super) fn take_leader(kept: &mut Option<LeadershipConnection>) -> Option<LeadershipConnection> {
    kept.take_if(|leadership| leadership.leads || leadership.is_closed())
        .filter(|leadership| !leadership.is_closed())
}

impl LeadershipConnection {
    pub(super) fn new(connection: SecondConnection, on_row: OnRow) -> Self {
        Self {
            connection,
            locked: false,
            leads: false,
            awaited: None,
            of_row: Holders::new(LEADER_ROW, true),
            on_row,
            of_lock: Holders::new(LEADERSHIP_LOCK, true),
            ungranted: 0,
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.connection.client
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client().is_closed()
    }
}
