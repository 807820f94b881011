//! What a node needs to know to connect, checked before anything is started.

use std::time::Duration;

use callsheet_actors::{Fault, port::RecordsError};
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::{refused, unavailable};
use crate::backend::{
    postgres::Server,
    sql,
    store::{self, Kind, Store},
};

/// The longest name of a schema, in bytes: PostgreSQL cuts longer ones.
const SCHEMA_MAX: usize = 63;
const SCHEMA_DEFAULT: &str = "callsheet_lease";

/// What a node is told of its server.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) schema: String,
    pub(super) server: Server,
}

pub(super) type Settings = store::Settings<Target>;

impl Target {
    pub(super) fn on(server: Server) -> Self {
        Self { schema: SCHEMA_DEFAULT.to_owned(), server }
    }
}

impl Store for Target {
    const KIND: Kind = Kind {
        name: "postgres_lease",
        example: "PostgresLease::new(\"billing\", url)",
        lease_min: sql::LEASE_MIN,
        lease_default: sql::LEASE_DEFAULT,
        deadline_default: sql::DEADLINE_DEFAULT,
    };

    fn at(url: &str) -> Self {
        Self::on(Server::at(url))
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let schema = &self.schema;
        let fits = (1..=SCHEMA_MAX).contains(&schema.len()) && schema.chars().all(plain);
        if !fits || schema.starts_with("pg_") {
            let rule = "a schema's name has 1 to 63 lower-case letters, digits and underscores, and does not start with pg_";
            faults.push(Fault::new("postgres_lease: schema", schema, rule, "choose another name"));
        }
        faults.extend(self.server.faults());
        faults
    }
}

impl Settings {
    /// Whom to connect to as whom, and how: asks the application, if it is to be asked.
    pub(super) async fn endpoint(&self) -> Result<(Config, MakeRustlsConnect), RecordsError> {
        let server = &self.store.server;
        let address = server.address().await.map_err(|fault| match server.callback() {
            // It may answer something else the next time.
            Some(_) => unavailable(fault.to_string()),
            None => refused(fault.to_string()),
        });
        let (mut config, connector) = address?;
        // No options: poolers refuse what they do not know.
        config.keepalives(true).keepalives_idle(Duration::from_secs(2)).tcp_user_timeout(self.lease);
        if config.get_application_name().is_none() {
            config.application_name(format!("callsheet {}", self.scope));
        }
        Ok((config, connector.tls))
    }
}
