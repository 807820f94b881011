//! What a node needs to know to connect, checked before anything is started.

use std::{fmt, time::Duration};

use callsheet_actors::Fault;
use tokio_postgres::Config;

use crate::backend::{
    postgres::{Connect, Tls, read_url},
    sql::settings::Common,
};

/// The longest name of a schema, in bytes: PostgreSQL cuts longer ones.
const SCHEMA_MAX: usize = 63;
const SCHEMA_DEFAULT: &str = "callsheet_lease";

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) common: Common,
    pub(super) schema: String,
    /// What is wrong with the URL, if it is none.
    config: Result<Box<Config>, Fault>,
    pub(super) tls: Tls,
}

impl Settings {
    pub(super) fn new(scope: String, url: &str) -> Self {
        let (config, tls) = read_url(url);
        let common = Common::new("postgres_lease", "PostgresLease::new(\"billing\", url)", scope);
        Self { common, schema: SCHEMA_DEFAULT.to_owned(), config, tls }
    }

    /// Settings that are none: this is wrong with the URL.
    pub(super) fn without_url(scope: String, fault: Fault) -> Self {
        Self { config: Err(fault), ..Self::new(scope, "") }
    }

    /// Whom to connect to as whom, and whether encrypted. Reads the files of certificates, once.
    pub(super) fn address(&self) -> Result<(Config, Connect), Fault> {
        let mut config = (*self.config.clone()?).clone();
        let connector = self.tls.connector(&config)?;
        config.ssl_mode(connector.mode);
        // No options: poolers refuse what they do not know.
        config.keepalives(true).keepalives_idle(Duration::from_secs(2)).tcp_user_timeout(self.common.lease);
        if config.get_application_name().is_none() {
            config.application_name(format!("callsheet {}", self.common.scope));
        }
        Ok((config, connector))
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = self.common.checks().faults;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let schema = &self.schema;
        let fits = (1..=SCHEMA_MAX).contains(&schema.len()) && schema.chars().all(plain);
        if !fits || schema.starts_with("pg_") {
            let rule = "a schema's name has 1 to 63 lower-case letters, digits and underscores, and does not start with pg_";
            faults.push(Fault::new("postgres_lease: schema", schema, rule, "choose another name"));
        }
        match &self.config {
            Ok(config) => faults.extend(self.tls.connector(config).err()),
            Err(fault) => faults.push(fault.clone()),
        }
        faults
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL: it may contain a password.
        let mut shown = f.debug_struct("Settings");
        shown.field("scope", &self.common.scope).field("schema", &self.schema);
        shown
            .field("lease", &self.common.lease)
            .field("deadline", &self.common.deadline())
            .finish_non_exhaustive()
    }
}
