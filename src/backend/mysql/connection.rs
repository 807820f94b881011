//! One connection to the server, and whether that server is of use.

use std::{collections::HashMap, sync::Arc, thread};

use callsheet_actors::{DurationText, Faults, port::RecordsError};
use futures_util::{FutureExt, future::BoxFuture};
use mysql_async::{Conn, Error, Opts, OptsBuilder, Row, prelude::Queryable};
use tokio::time::timeout;

use super::{
    address::Place,
    failure::{READ_ONLY, of_connection, refused, unavailable},
    settings::Settings,
    statement,
};
use crate::backend::{address::Host, checks::CONNECT_TIMEOUT, sql::lane::Driver};

/// The oldest versions that skip locked rows.
const MYSQL_MIN: (u32, u32) = (8, 0);
const MARIADB_MIN: (u32, u32) = (10, 6);

/// What makes connections.
pub(super) struct Connector(pub(super) Arc<Settings>);

/// A connection to a primary with the tables.
pub(super) struct Connection(Conn);

/// The rows of each statement of a text, in their order. One that answers none has none.
pub(super) type Answers = std::vec::IntoIter<Vec<Row>>;

impl Connection {
    /// Asks the server several things at once. After an error it has not done those that follow.
    pub(super) async fn ask(&mut self, text: String) -> Result<Answers, Error> {
        self.ask_and_count(text).await.map_err(|(_, error)| error)
    }

    /// The same; an error comes with how many statements were done before it.
    pub(super) async fn ask_and_count(&mut self, text: String) -> Result<Answers, (usize, Error)> {
        let mut result = self.0.query_iter(text).await.map_err(|error| (0, error))?;
        let mut answers = Vec::new();
        loop {
            answers.push(result.collect::<Row>().await.map_err(|error| (answers.len(), error))?);
            if result.is_empty() {
                // The driver keeps the error of any statement but the first until it is asked for more.
                result.drop_result().await.map_err(|error| (answers.len(), error))?;
                return Ok(answers.into_iter());
            }
        }
    }
}

/// Drops this on a thread of its own. On a runtime the driver would first wait for the answer to what was asked, for as
/// long as the server takes.
fn drop_at_once<T: Send + 'static>(connection: T) {
    let close = move || drop(connection);
    // An error: there is no thread. The driver closes it in its way then.
    let _ = thread::Builder::new().name("callsheet-mysql-close".to_owned()).spawn(close);
}

/// Something that is being made, and dropped at once if it is given up.
struct Making(Option<BoxFuture<'static, Result<Conn, Error>>>);

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(making) = self.0.take() {
            drop_at_once(making);
        }
    }
}

/// A connection of which it is not known whether it is of use.
struct Inspected(Option<Connection>);

impl Drop for Inspected {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop_at_once(connection.0);
        }
    }
}

impl Driver for Connector {
    type Connection = Connection;

    fn connect(&self) -> BoxFuture<'_, Result<Connection, RecordsError>> {
        async {
            let connecting = timeout(CONNECT_TIMEOUT, self.connect_and_inspect());
            connecting.await.unwrap_or_else(|_| {
                let shown = self.0.store.address().map(|address| address.place.to_string()).unwrap_or_default();
                Err(unavailable(format!(
                    "{shown} did not answer within {}; check the host and the port, whether a firewall drops packets, and how the \
                     server is",
                    DurationText(CONNECT_TIMEOUT)
                )))
            })
        }
        .boxed()
    }

    fn is_over(connection: &Connection) -> bool {
        connection.0.is_disconnected()
    }

    fn discard(connection: Connection) {
        drop_at_once(connection.0);
    }
}

impl Connector {
    async fn connect_and_inspect(&self) -> Result<Connection, RecordsError> {
        Faults::check(self.0.faults()).map_err(|faults| refused(faults.to_string()))?;
        let (options, shown) = self.options()?;
        let mut making = Making(Some(Conn::new(options)));
        let Some(connecting) = &mut making.0 else { return Err(unavailable("nothing is made")) };
        let made = connecting.await;
        let connection = made.map_err(|error| of_connection(&error, &shown))?;
        let mut inspected = Inspected(Some(Connection(connection)));
        let Some(connection) = &mut inspected.0 else { return Err(unavailable("nothing was made")) };
        self.inspect(connection, &shown).await?;
        inspected.0.take().ok_or_else(|| unavailable("nothing was made"))
    }

    fn options(&self) -> Result<(Opts, String), RecordsError> {
        let not_fit = |fault: callsheet_actors::Fault| refused(fault.to_string());
        let address = self.0.store.address().map_err(not_fit)?;
        let tls = self.0.store.tls().map_err(not_fit)?;
        if tls.is_some() {
            // The driver goes by the provider of the process, and panics if it is in doubt which one that is.
            // An error: the application has chosen one.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let packet = usize::try_from(statement::packet_min()).unwrap_or(usize::MAX);
        let mut options = OptsBuilder::default()
            .user(address.user.as_ref())
            .pass(address.password.as_ref())
            .db_name(Some(&address.database))
            .ssl_opts(tls)
            // Where the URL says, and nowhere else.
            .prefer_socket(false)
            .stmt_cache_size(0)
            // Each is asked for by the driver otherwise. The server's own bound is looked at below.
            .max_allowed_packet(Some(packet))
            .wait_timeout(Some(0));
        options = match &address.place {
            Place::Host(Host { name, port }) => options.ip_or_hostname(name).tcp_port(*port),
            Place::Socket(path) => options.socket(Some(path.to_string_lossy())),
        };
        Ok((options.into(), address.place.to_string()))
    }

    /// Refuses a server that cannot coordinate, and makes the tables if they are not there.
    async fn inspect(&self, connection: &mut Connection, shown: &str) -> Result<(), RecordsError> {
        let asked = |error: Error| of_connection(&error, shown);
        let silence = statement::silence_of(self.0.deadline());
        let text = format!("{}; {}", statement::set_up(silence), statement::INSPECT);
        let variables = connection.ask(text).await.map_err(asked)?.next_back().unwrap_or_default();
        let server = Server::of(&variables);
        if let Some(reason) = server.unfit() {
            return Err(refused(format!("{shown}: {reason}")));
        }
        let mut tables = Tables::find(connection).await.map_err(asked)?;
        if !tables.are_complete() {
            for table in statement::DDL {
                connection.ask(table.to_owned()).await.map_err(asked)?;
            }
            tables = Tables::find(connection).await.map_err(asked)?;
        }
        if let Some(reason) = tables.unfit() {
            return Err(refused(format!("{shown}: {reason}")));
        }
        connection.ask(statement::PROBE.to_owned()).await.map_err(asked)?;
        Ok(())
    }
}

/// A column as a text.
fn text(row: &Row, column: usize) -> Option<String> {
    row.get_opt(column)?.ok()
}

/// The tables that are there, and their engines.
struct Tables(HashMap<String, String>);

impl Tables {
    async fn find(connection: &mut Connection) -> Result<Self, Error> {
        let found = connection.ask(statement::FIND_TABLES.to_owned()).await?.next().unwrap_or_default();
        let table = |row: &Row| Some((text(row, 0)?, text(row, 1)?));
        Ok(Self(found.iter().filter_map(table).collect()))
    }

    fn are_complete(&self) -> bool {
        statement::TABLES.iter().all(|table| self.0.contains_key(*table))
    }

    /// Why they are of no use, and the cure.
    fn unfit(&self) -> Option<String> {
        statement::TABLES.into_iter().find_map(|table| match self.0.get(table) {
            None => {
                Some(format!("the table {table} is not there; let a user run the statements of Mysql::ddl()"))
            }
            Some(engine) if engine != "InnoDB" => Some(format!(
                "the table {table} is of {engine}, which locks no rows; ALTER TABLE {table} ENGINE=InnoDB"
            )),
            Some(_) => None,
        })
    }
}

/// What a server says of itself.
struct Server(HashMap<String, String>);

impl Server {
    fn of(rows: &[Row]) -> Self {
        let variable = |row: &Row| Some((text(row, 0)?.to_ascii_lowercase(), text(row, 1)?));
        Self(rows.iter().filter_map(variable).collect())
    }

    fn said(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn is_on(&self, name: &str) -> bool {
        !is_off(self.said(name))
    }

    /// Why it cannot coordinate, and the cure.
    fn unfit(&self) -> Option<String> {
        let version = self.said("version");
        let (name, oldest) = match version.to_ascii_lowercase().contains("mariadb") {
            true => ("MariaDB", MARIADB_MIN),
            false => ("MySQL", MYSQL_MIN),
        };
        if version_of(version).is_none_or(|version| version < oldest) {
            let (major, minor) = oldest;
            return Some(format!(
                "the server is {name} {version}; it must be {major}.{minor} or newer: upgrade it"
            ));
        }
        if ["read_only", "super_read_only", "innodb_read_only"].iter().any(|name| self.is_on(name)) {
            return Some(READ_ONLY.to_owned());
        }
        if self.is_on("wsrep_on") {
            let cure = "use a server of its own for coordination, or another store";
            return Some(format!(
                "the server is part of a Galera cluster, in which a row that is locked on one server is not on another; {cure}"
            ));
        }
        let replicates = !self.said("group_replication_group_name").is_empty();
        if replicates && !self.is_on("group_replication_single_primary_mode") {
            let cure = "switch the group to its single-primary mode";
            return Some(format!(
                "several servers of the group are written to, and a row that is locked on one is not on another; {cure}"
            ));
        }
        if replicates && self.said("group_replication_consistency").eq_ignore_ascii_case("EVENTUAL") {
            let cure = "set it to BEFORE_ON_PRIMARY_FAILOVER on all its members";
            return Some(format!(
                "group_replication_consistency is EVENTUAL: a primary that was just elected answers from what may be outdated; {cure}"
            ));
        }
        let (packet, least) = (self.said("max_allowed_packet").parse().unwrap_or(0), statement::packet_min());
        (packet < least).then(|| {
            format!("max_allowed_packet is {packet}; it must be at least {least}: raise it on the server")
        })
    }
}

/// Whether a switch of the server is off, or not there.
pub(super) fn is_off(value: &str) -> bool {
    ["", "0", "OFF", "NO"].iter().any(|off| value.eq_ignore_ascii_case(off))
}

fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(changed: &[(&str, &str)]) -> Option<String> {
        let fit = [
            ("version", "10.11.6-MariaDB-0+deb12u1"),
            ("read_only", "OFF"),
            ("wsrep_on", "OFF"),
            ("max_allowed_packet", "16777216"),
        ];
        let said = fit.iter().chain(changed).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Server(said.collect()).unfit()
    }

    #[test]
    fn a_server_that_cannot_coordinate_is_refused() {
        let group = ("group_replication_group_name", "aaaa");
        let primary = ("group_replication_single_primary_mode", "ON");
        let consistent = ("group_replication_consistency", "BEFORE_ON_PRIMARY_FAILOVER");
        let cases = [
            (vec![("version", "10.5.29-MariaDB")], "MariaDB 10.5.29-MariaDB; it must be 10.6"),
            (vec![("version", "5.7.44-log")], "MySQL 5.7.44-log; it must be 8.0"),
            (vec![("version", "?")], "must be 8.0"),
            (vec![("read_only", "ON")], "read-only"),
            (vec![("super_read_only", "1")], "read-only"),
            (vec![("innodb_read_only", "ON")], "read-only"),
            (vec![("wsrep_on", "ON")], "Galera"),
            (vec![group, ("group_replication_single_primary_mode", "OFF")], "single-primary mode"),
            (
                vec![group, primary, ("group_replication_consistency", "EVENTUAL")],
                "BEFORE_ON_PRIMARY_FAILOVER",
            ),
            (vec![("max_allowed_packet", "1048576")], "max_allowed_packet is 1048576"),
        ];
        for (changed, reason) in cases {
            let unfit = server(&changed).unwrap_or_default();
            assert!(unfit.contains(reason), "{reason}: {unfit}");
        }
        assert_eq!(server(&[]), None);
        assert_eq!(server(&[("version", "8.4.3")]), None);
        assert_eq!(server(&[("version", "12.1.2-MariaDB")]), None);
        assert_eq!(server(&[group, primary, consistent]), None);
    }

    #[test]
    fn tables_must_lock_rows() {
        let tables = |engines: [&str; 2]| {
            let tables = statement::TABLES.into_iter().zip(engines);
            Tables(tables.map(|(table, engine)| (table.to_owned(), engine.to_owned())).collect())
        };

        assert_eq!(tables(["InnoDB"; 2]).unfit(), None);
        let unfit = tables(["InnoDB", "MyISAM"]).unfit().unwrap_or_default();
        assert!(unfit.contains("ALTER TABLE callsheet_sessions ENGINE=InnoDB"), "{unfit}");
        assert!(!Tables(HashMap::new()).are_complete());
    }
}
