//! One connection to the server, and whether that server is of use.

use std::{
    future::poll_fn,
    sync::{Arc, OnceLock},
    time::Duration,
};

use callsheet_actors::{
    DurationText,
    adapter::{LeaseFit, lease_min},
    port::LockError,
};
use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Row,
    error::DbError,
    types::{ToSql, Type},
};

use super::{
    clock::Clocks,
    failure::{self, POOLED, READ_ONLY_CURE, refusal, refusal_with, refused, unavailable},
    former_connections::{Cancel, Former, Left, Process},
    heartbeat::PULSE,
    loss::{Ending, Loss, LossCause, end},
    migrations,
    notifications::NOTIFICATIONS_MAX,
    settings::{Endpoint, MARK, Purpose, Settings},
    statement::{schema::quoted, server},
};

const VERSION_MIN: i32 = 140_000;
/// How often a way to the server that is too long is measured again, before it is refused.
const ROUND_TRIPS_MAX: usize = 2;
/// As the server calls it. SQL_ASCII is none: it takes any bytes, and compares and cuts them as such.
const ENCODING: &str = "UTF8";

/// A connection of which it is not known yet whether its server is of use.
pub(super) struct Connected {
    pub(super) client: Client,
    /// What the server notifies it of.
    pub(super) notifications: broadcast::Receiver<String>,
    purpose: Purpose,
    mark: String,
    /// The process at its other end, once it has answered.
    process: Arc<OnceLock<Process>>,
}

/// The server committed something without its synchronous standby: what it answers may be lost with it.
const CUT_SHORT: &str =
    "somebody cut short the server's wait for its synchronous standby, so what it committed is not believed";

/// Opens a connection that ends with, and ends, what `loss` stands for, and ends with `also`.
pub(super) async fn connect(
    settings: &Settings,
    former: &Arc<Former>,
    purpose: Purpose,
    loss: &watch::Sender<Loss>,
    also: Option<watch::Receiver<Loss>>,
) -> Result<Connected, LockError> {
    if purpose != Purpose::Cleanup {
        former.tries();
    }
    let Endpoint { config, tls, deadline, mark, name } = settings.endpoint(purpose).await?;
    let user = config.get_user().map(str::to_owned);
    let (client, mut connection) = timeout(deadline, config.connect(tls.clone()))
        .await
        .map_err(|_| silent(deadline))?
        .map_err(|error| refusal_with(&error, settings.server.callback()))?;
    let loss = loss.clone();
    let (mut lost, mut also_lost) = (loss.subscribe(), also.unwrap_or_else(|| loss.subscribe()));
    // It drops the oldest when it is full, and says how many.
    let (notifications, received) = broadcast::channel(NOTIFICATIONS_MAX);
    let process: Arc<OnceLock<Process>> = Arc::default();
    let (served_by, cancel) = (process.clone(), Cancel { token: client.cancel_token(), tls });
    let (settings, former) = (settings.clone(), former.clone());
    let counted = former.count();
    tokio::spawn(async move {
        let driven = async {
            loop {
                match poll_fn(|task| connection.poll_message(task)).await {
                    Some(Ok(AsyncMessage::Notification(notification))) => {
                        // An error: nobody listens on this connection.
                        let _ = notifications.send(notification.payload().to_owned());
                    }
                    // It comes before the end of the answer, which is not read any more.
                    Some(Ok(AsyncMessage::Notice(notice))) if is_cut_short(&notice) => {
                        return (Ending::GivenUp, CUT_SHORT.to_owned());
                    }
                    // The others are for people.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        let says_so = error.as_db_error().is_some();
                        let ending = if says_so { Ending::Clean } else { Ending::Closed };
                        return (ending, failure::explain(&error));
                    }
                    None => return (Ending::Clean, "the connection was closed".to_owned()),
                }
            }
        };
        let ending_of = |lost: &Loss| lost.as_ref().map_or(Ending::GivenUp, |ended| ended.ending);
        let ending = tokio::select! {
            // First: a connection whose client was dropped ends in order, unless it waits for an answer.
            biased;
            (ending, reason) = driven => {
                // If the server ends one of a node's connections, it mostly ends the other one as well.
                let of_others = if ending == Ending::GivenUp { ending } else { Ending::Closed };
                end(&loss, LossCause { reason, ending: of_others });
                ending
            }
            lost = lost.wait_for(Option::is_some) => lost.map_or(Ending::GivenUp, |lost| ending_of(&lost)),
            lost = also_lost.wait_for(Option::is_some) => match lost.map(|lost| ending_of(&lost)) {
                // So is this one, or will be.
                Ok(Ending::Closed) => Ending::Closed,
                // The other one was answered; this one may wait for something.
                _ => Ending::GivenUp,
            },
        };
        // With it, whatever was not answered.
        drop(connection);
        if purpose != Purpose::Cleanup {
            former.ended(&settings, ending, Left::new(name, user, served_by.get().copied(), cancel));
        }
        drop(counted);
    });
    Ok(Connected { client, notifications: received, purpose, mark, process })
}

/// Whether the server says that it has committed something without its synchronous standby. Its texts may be
/// in any language, the name of its function is not.
pub(in crate::backend) fn is_cut_short(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
}

/// The error of a server that has not answered within a deadline.
pub(super) fn silent(deadline: Duration) -> LockError {
    unavailable(format!(
        "the server did not answer within {}; check the host and the port, whether a firewall drops packets, and \
         how the server is",
        DurationText(deadline)
    ))
}

/// Refuses a server that cannot coordinate, and measures its clock. Answers the id of its process, which is
/// known to the connection from then on.
pub(super) async fn inspect(
    connected: &Connected,
    settings: &Settings,
    clocks: &Clocks,
) -> Result<i32, LockError> {
    let Connected { client, purpose, mark, process, .. } = connected;
    let (names, values): (Vec<_>, Vec<_>) = settings.required(*purpose).into_iter().unzip();
    let transaction_timeout = settings.transaction_timeout(*purpose).as_millis().to_string();
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&MARK, Type::TEXT),
        (mark, Type::TEXT),
        (&settings.schema, Type::TEXT),
        (&names, Type::TEXT_ARRAY),
        (&values, Type::TEXT_ARRAY),
        (&transaction_timeout, Type::TEXT),
    ];
    let read = clocks.read();
    let row = client.query_typed_one(server::INSPECT, &parameters).await.map_err(|error| refusal(&error))?;
    let server = Server::of(&row).map_err(|error| refusal(&error))?;
    // Told once.
    let _ = process.set(server.process);
    if let Some(reason) = server.unfit() {
        return Err(refused(reason));
    }
    let now = row.try_get("now").map_err(|error| refusal(&error))?;
    clocks.measure(&read, now);
    Ok(server.process.pid)
}

/// Refuses a lease that no renewal would keep over this network.
pub(super) async fn check_lease(
    client: &Client,
    settings: &Settings,
    clocks: &Clocks,
) -> Result<(), LockError> {
    let mut measured = 0;
    let round_trip = loop {
        let Some(round_trip) = clocks.round_trip() else { return Ok(()) };
        if LeaseFit::of(settings.lease, round_trip) != LeaseFit::Impossible {
            return Ok(());
        }
        if measured == ROUND_TRIPS_MAX {
            break round_trip;
        }
        measured += 1;
        // It may have been slow for once.
        let read = clocks.read();
        let row = client.query_typed_one(PULSE, &[]).await.map_err(|error| refusal(&error))?;
        clocks.measure(&read, row.try_get("now").map_err(|error| refusal(&error))?);
    };
    let millis = u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX);
    Err(unavailable(format!(
        "a round trip to the server takes {}, too long for a lease of {}: give all nodes a lease of at least {}, or bring them nearer \
         to the server",
        DurationText(Duration::from_millis(millis)),
        DurationText(settings.lease),
        DurationText(lease_min(round_trip))
    )))
}

/// Whether this role can use the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    Enough,
    /// There is no schema, or some of its tables or routines are not there.
    NoTables,
}

/// Refuses a schema whose tables or routines this role cannot use: the server checks that only when they are
/// used.
pub(super) async fn check_rights(client: &Client, settings: &Settings) -> Result<Rights, LockError> {
    let schema = &settings.schema;
    let (tables, emptied) = (migrations::TABLES.as_slice(), migrations::EMPTIED.as_slice());
    let routines = migrations::ROUTINES.as_slice();
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (schema, Type::TEXT),
        (&tables, Type::TEXT_ARRAY),
        (&emptied, Type::TEXT_ARRAY),
        (&routines, Type::TEXT_ARRAY),
    ];
    let asked = client.query_typed_opt(server::RIGHTS, &parameters).await;
    let row = asked.map_err(|error| refusal(&error))?;
    let Some(row) = row else { return Ok(Rights::NoTables) };
    let texts = |column: &str| row.try_get::<_, Vec<String>>(column).map_err(|error| refusal(&error));
    if !row.try_get("usable").map_err(|error| refusal(&error))? {
        return Err(refused(format!(
            "this role may not use the schema {schema:?}: GRANT USAGE ON SCHEMA {} TO it",
            quoted(schema)
        )));
    }
    if !texts("missing")?.is_empty() {
        return Ok(Rights::NoTables);
    }
    let lacking = texts("lacking")?;
    if !lacking.is_empty() {
        return Err(refused(format!(
            "this role may not use the tables {} of the schema {schema:?}: GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN \
             SCHEMA {}, and DELETE ON {}, TO it",
            lacking.join(", "),
            quoted(schema),
            migrations::emptied(schema)
        )));
    }
    let uncallable = texts("uncallable")?;
    if !uncallable.is_empty() {
        return Err(refused(format!(
            "this role may not call {} of the schema {schema:?}: GRANT EXECUTE ON ROUTINE {} TO it",
            uncallable.join(", "),
            migrations::called(schema)
        )));
    }
    Ok(Rights::Enough)
}

/// What a server says of itself.
struct Server {
    version: i32,
    standby: bool,
    read_only: bool,
    /// The settings that this node asked for when it connected are in force.
    configured: bool,
    /// Those of them that have another value all the same.
    overridden: Vec<String>,
    /// How the database encodes texts, and how they are encoded on the way there.
    encoding: String,
    client_encoding: String,
    process: Process,
}

impl Server {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            version: row.try_get("version")?,
            standby: row.try_get("standby")?,
            read_only: row.try_get("read_only")?,
            configured: row.try_get("configured")?,
            overridden: row.try_get("overridden")?,
            encoding: row.try_get("encoding")?,
            client_encoding: row.try_get("client_encoding")?,
            process: Process { pid: row.try_get("pid")?, started: row.try_get("started")? },
        })
    }

    /// Why it cannot coordinate, and the cure.
    fn unfit(&self) -> Option<String> {
        if self.version < VERSION_MIN {
            let version = self.version / 10_000;
            return Some(format!("the server is PostgreSQL {version}; it must be 14 or newer: upgrade it"));
        }
        if !self.configured {
            return Some(format!("the settings of the connection did not reach the server: {POOLED}"));
        }
        if !self.overridden.is_empty() {
            let overridden = self.overridden.join(", ");
            return Some(format!(
                "the server has other values of {overridden} than this node asked for: find what sets them after the connection is \
                 made (a trigger ON login, or what stands between), and let it leave this role alone"
            ));
        }
        if self.encoding != ENCODING {
            let encoding = &self.encoding;
            return Some(format!(
                "the encoding of the database is {encoding}, in which not every name can be written; it must be {ENCODING}: create \
                 a database with ENCODING '{ENCODING}' TEMPLATE template0, and name it in the URL"
            ));
        }
        if self.client_encoding != ENCODING {
            let encoding = &self.client_encoding;
            return Some(format!(
                "the encoding of the connection is {encoding}; it must be {ENCODING}: remove client_encoding from what stands \
                 between, and from the options in the URL"
            ));
        }
        if self.standby {
            let reason = "the server is a standby, which grants locks that the primary grants too; connect to the primary \
                          (several hosts: target_session_attrs=read-write)";
            return Some(reason.to_owned());
        }
        self.read_only.then(|| format!("the session is read-only; {READ_ONLY_CURE}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Server {
        Server {
            version: 140_000,
            standby: false,
            read_only: false,
            configured: true,
            overridden: Vec::new(),
            encoding: ENCODING.to_owned(),
            client_encoding: ENCODING.to_owned(),
            process: Process { pid: 1, started: None },
        }
    }

    #[test]
    fn a_server_that_cannot_coordinate_is_refused() {
        let cases = [
            (Server { version: 139_999, ..fit() }, "PostgreSQL 13; it must be 14 or newer"),
            (Server { version: 90_624, ..fit() }, "PostgreSQL 9; it must be 14 or newer"),
            (Server { configured: false, ..fit() }, "pooler"),
            (
                Server { overridden: vec!["lock_timeout".to_owned()], ..fit() },
                "other values of lock_timeout than",
            ),
            (Server { standby: true, ..fit() }, "standby"),
            (Server { read_only: true, ..fit() }, "read-only"),
            (
                Server { encoding: "LATIN1".to_owned(), ..fit() },
                "database is LATIN1, in which not every name",
            ),
            (Server { encoding: "SQL_ASCII".to_owned(), ..fit() }, "database is SQL_ASCII"),
            (
                Server { client_encoding: "LATIN1".to_owned(), ..fit() },
                "connection is LATIN1; it must be UTF8",
            ),
        ];
        for (server, reason) in cases {
            let unfit = server.unfit().unwrap_or_default();
            assert!(unfit.contains(reason), "{reason}: {unfit}");
        }
        assert_eq!(fit().unfit(), None);
    }
}
