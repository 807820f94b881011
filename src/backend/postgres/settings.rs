//! What a node needs to know to connect, checked before anything is started.

use std::{fmt, sync::Arc, time::Duration};

use callsheet_actors::{
    CALL_DEADLINE, DurationText, Fault, NodeId, metrics::SCOPE_LABEL_LOCAL, port::LockError,
};
use deadpool_postgres::Pool;
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use super::{
    failure::{refused, unavailable},
    server::Server,
};

/// The setting that holds the mark of a connection. No role and no database has it.
pub(super) const MARK: &str = "callsheet.session";

/// The lease unless given.
pub(super) const LEASE_DEFAULT: Duration = Duration::from_secs(5);
/// The margin is this part of the lease.
const MARGIN_PART: u32 = 5;
const LEASE_MIN: Duration = Duration::from_secs(1);
const LEASE_MAX: Duration = Duration::from_hours(1);
/// The longest scope and the longest name of a schema, in bytes; PostgreSQL cuts longer names of schemas.
const SCOPE_MAX: usize = 100;
const SCHEMA_MAX: usize = 63;
/// How long a heartbeat may at least wait for its answer, if the lease is long enough.
const BEAT_ANSWER: Duration = Duration::from_millis(1_600);
/// The bounds of the pause before a heartbeat, in hundredths of the lease. The upper one is more than half of
/// the time between two proofs that a claim would be possible, so that one heartbeat is enough between them
/// even if the second is late.
const BEAT_MIN: u32 = 33;
const BEAT_MAX: u32 = 48;
/// How long one host may take to answer, unless the URL says something else.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a session may take to open: a little less than the engine waits, so that the reason is known.
pub(super) const OPEN_TIMEOUT: Duration = CALL_DEADLINE.saturating_sub(Duration::from_millis(500));
/// How often the server looks whether the client of a running statement is still there: without it a waiting
/// session of a killed process kept its locks for 7.5 s.
const CONNECTION_CHECK: Duration = Duration::from_millis(500);
/// How long a claim waits for the leader row, and a pause for the row of its job.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a migration waits for that of another node, or a step of it for a table: less than a session may
/// take to open, so that it is told who holds the lock.
pub(super) const MIGRATION_LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a slice of a campaign is, after which it looks who leads. It is less than the server's default of
/// `deadlock_timeout`, so that `log_lock_waits` does not tell of candidates.
const CAMPAIGN_SLICE: Duration = Duration::from_millis(500);
/// The most slices of one campaign.
const CAMPAIGN_SLICES_MAX: u32 = 7;
/// How long one campaign may take: a little less than the engine waits, so that the reason is known.
const CAMPAIGN_TIMEOUT: Duration = CALL_DEADLINE.saturating_sub(Duration::from_millis(500));

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Session,
    LeadershipConnection,
    Migration,
    /// It ends former processes of this node, and does nothing else.
    Cleanup,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) scope: String,
    pub(super) schema: String,
    pub(super) node: NodeId,
    pub(super) lease: Duration,
    /// The version of the time zone data by which the node goes; empty if it did not say so.
    pub(super) zone_data: Arc<str>,
    /// What the application calls the node; empty if nothing.
    pub(super) name: Arc<str>,
    pub(super) migrate: bool,
    /// The application's own connections, for the history.
    pub(super) history_pool: Option<Pool>,
    pub(super) server: Server,
}

/// What a connection is made with.
pub(super) struct Endpoint {
    pub(super) config: Config,
    /// What only this connection sets: where it is not found, the settings did not reach the server.
    pub(super) mark: String,
    /// The beginning of the name under which the server lists it, and no other one.
    pub(super) name: String,
    pub(super) tls: MakeRustlsConnect,
    /// How long to wait for the server's first answers.
    pub(super) deadline: Duration,
}

impl Settings {
    pub(super) fn new(scope: String, server: Server) -> Self {
        Self {
            scope,
            schema: "callsheet".to_owned(),
            node: NodeId::random(),
            lease: LEASE_DEFAULT,
            zone_data: "".into(),
            name: "".into(),
            migrate: true,
            history_pool: None,
            server,
        }
    }

    /// How much earlier than the server this node takes its lease for over.
    pub(super) fn margin(&self) -> Duration {
        self.lease / MARGIN_PART
    }

    /// How long an answered heartbeat or renewal is trusted, and the deadline of every statement.
    pub(super) fn trust(&self) -> Duration {
        self.lease - self.margin()
    }

    /// After which silence of the server a heartbeat is sent: rarely, and with time for its answer.
    pub(super) fn beat(&self) -> Duration {
        let of_lease = |hundredths| self.lease * hundredths / 100;
        self.trust().saturating_sub(BEAT_ANSWER).clamp(of_lease(BEAT_MIN), of_lease(BEAT_MAX))
    }

    /// How long a slice of a campaign is.
    pub(super) fn campaign_slice(&self) -> Duration {
        CAMPAIGN_SLICE.min(self.trust() / 4)
    }

    /// For how many slices a campaign waits for a leader whom it knows: it says who leads again well within
    /// the lease.
    pub(super) fn campaign_slices(&self, patience: Duration) -> i32 {
        let slices =
            patience.min(self.trust() * 7 / 8).as_millis() / self.campaign_slice().as_millis().max(1);
        let slices = u32::try_from(slices).unwrap_or(u32::MAX).clamp(1, CAMPAIGN_SLICES_MAX);
        slices.cast_signed()
    }

    /// The deadline of such a wait. Nothing is trusted for its answer, so it may be later than the trust.
    pub(super) fn campaign_deadline(&self) -> Duration {
        let waits = self.campaign_slice() * self.campaign_slices(Duration::MAX).unsigned_abs();
        (waits + self.trust() / 2).min(CAMPAIGN_TIMEOUT)
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |what: &str, value: &str, rule: &str, cure: &str| {
            faults.push(Fault::new(format!("postgres: {what}"), value, rule, cure));
        };
        if self.scope.trim().is_empty() {
            let cure = "name the application: Postgres::new(\"billing\", url)";
            fault(
                "scope",
                &self.scope,
                "a scope is not empty: nodes of one scope share leader and jobs",
                cure,
            );
        }
        if self.scope.len() > SCOPE_MAX || self.scope.chars().any(char::is_control) {
            fault(
                "scope",
                "…",
                "a scope has at most 100 bytes and no control characters",
                "choose a shorter, plain name",
            );
        }
        if self.scope.starts_with('_') {
            let rule = format!(
                "scopes that begin with `_` are reserved: {SCOPE_LABEL_LOCAL} is that of the embedded backend in metrics"
            );
            fault("scope", &self.scope, &rule, "begin it with another character");
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let reserved = self.schema.starts_with("pg_");
        if self.schema.is_empty()
            || self.schema.len() > SCHEMA_MAX
            || !self.schema.chars().all(plain)
            || reserved
        {
            let rule = "a schema's name has 1 to 63 lower-case letters, digits and underscores, and does not start with pg_";
            fault("schema", &self.schema, rule, "choose another name");
        }
        if self.lease < LEASE_MIN || self.lease > LEASE_MAX {
            let value = DurationText(self.lease).to_string();
            fault(
                "lease",
                &value,
                "a lease is at least 1 s and at most 1 h",
                "choose another one; 5 s is the default",
            );
        }
        faults.extend(self.server.faults());
        faults
    }

    /// What to connect with.
    pub(super) async fn endpoint(&self, purpose: Purpose) -> Result<Endpoint, LockError> {
        let address = self.server.address().await.map_err(|fault| match self.server.callback() {
            // It may answer something else the next time.
            Some(_) => unavailable(fault.to_string()),
            None => refused(fault.to_string()),
        });
        let (mut config, connector) = address?;
        let mark = Uuid::new_v4().simple().to_string();
        let name = self.connection_name(purpose, &mark);
        let options = self.options(purpose, &mark, config.get_options());
        let keepalive = Duration::from_secs(2);
        config
            .application_name(format!("{name} {}", self.scope))
            .options(options)
            .keepalives(true)
            .keepalives_idle(keepalive)
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3)
            .tcp_user_timeout(self.lease);
        let of_one = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        config.connect_timeout(of_one);
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
        Ok(Endpoint { tls: connector.tls, deadline: of_one.saturating_mul(hosts), config, mark, name })
    }

    /// What to connect with for the history, which decides nothing: no lease, no lock, and no wait for the disk.
    pub(super) async fn history_endpoint(&self) -> Result<(Config, MakeRustlsConnect), Fault> {
        let (mut config, connector) = self.server.address().await?;
        let node = self.node.as_uuid().simple().to_string();
        let given = config.get_options().map(|given| format!("{given} ")).unwrap_or_default();
        let millis = CALL_DEADLINE.as_millis();
        let options = format!(
            "{given}-c statement_timeout={millis} -c lock_timeout={millis} -c idle_in_transaction_session_timeout={millis} \
             -c synchronous_commit=off -c client_min_messages=warning"
        );
        config
            .application_name(format!("callsheet {} history {}", &node[..12], self.scope))
            .options(options)
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(2))
            .tcp_user_timeout(CALL_DEADLINE);
        config.connect_timeout(config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT));
        Ok((config, connector.tls))
    }

    /// What the application or the URL calls this node; empty if nothing.
    pub(super) fn node_name(&self) -> String {
        if !self.name.is_empty() {
            return self.name.to_string();
        }
        self.server.node_name()
    }

    /// The scope follows, for people: the server cuts the whole to 63 bytes, and replaces what is not ASCII.
    fn connection_name(&self, purpose: Purpose, mark: &str) -> String {
        let purpose = match purpose {
            Purpose::Session => "session",
            Purpose::LeadershipConnection => "leadership",
            Purpose::Migration => "migration",
            Purpose::Cleanup => "cleanup",
        };
        let node = self.node.as_uuid().simple().to_string();
        format!("callsheet {} {purpose} {}", &node[..12], &mark[..8])
    }

    /// The settings that must be in force, in the units of the server's view pg_settings.
    pub(super) fn required(&self, purpose: Purpose) -> [(&'static str, String); 8] {
        let lease = self.lease.as_millis().to_string();
        let lock_timeout = match purpose {
            Purpose::Migration => MIGRATION_LOCK_TIMEOUT,
            Purpose::Session | Purpose::Cleanup => LOCK_TIMEOUT,
            Purpose::LeadershipConnection => self.campaign_slice(),
        };
        [
            ("synchronous_commit", "on".to_owned()),
            // A commit without the synchronous standby is told by a warning alone.
            ("client_min_messages", "warning".to_owned()),
            ("default_transaction_isolation", "read committed".to_owned()),
            // The deadlines are this node's own. One of the role or the database would end a campaign, which
            // waits in one statement.
            ("statement_timeout", "0".to_owned()),
            ("lock_timeout", lock_timeout.as_millis().to_string()),
            ("client_connection_check_interval", CONNECTION_CHECK.as_millis().to_string()),
            ("idle_in_transaction_session_timeout", lease.clone()),
            // Makes the locks of this connection a lease: the server ends it when it is not heard of.
            ("idle_session_timeout", lease),
        ]
    }

    /// How long one transaction may take, as the setting of PostgreSQL 17: the server ends one that was cut
    /// off half-way. Each slice of a campaign is a transaction. Not among the options, since older servers
    /// refuse what they do not know.
    pub(super) fn transaction_timeout(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Migration => Duration::ZERO,
            Purpose::Session | Purpose::LeadershipConnection | Purpose::Cleanup => self.lease,
        }
    }

    /// What the server is told when the connection starts, after what the URL says.
    fn options(&self, purpose: Purpose, mark: &str, given: Option<&str>) -> String {
        let lease = self.lease.as_millis();
        let mut options = given.map(|given| format!("{given} ")).unwrap_or_default();
        let mut set = |name: &str, value: &dyn fmt::Display| options.push_str(&format!("-c {name}={value} "));
        set("search_path", &self.schema);
        set(MARK, &mark);
        for (name, value) in self.required(purpose) {
            set(name, &value.replace(' ', r"\ "));
        }
        set("tcp_keepalives_idle", &2);
        set("tcp_keepalives_interval", &1);
        set("tcp_keepalives_count", &3);
        set("tcp_user_timeout", &lease);
        if purpose == Purpose::Cleanup {
            // A process is that of the role that logged in, whichever role it acts as since.
            set("role", &"none");
        }
        if matches!(purpose, Purpose::Migration | Purpose::Cleanup) {
            return options;
        }
        // Every statement is planned once, while the tables may still be empty: only plans that stay good are
        // allowed.
        set("plan_cache_mode", &"force_generic_plan");
        set("enable_seqscan", &"off");
        set("enable_bitmapscan", &"off");
        set("enable_mergejoin", &"off");
        set("enable_hashjoin", &"off");
        set("enable_material", &"off");
        // No item of a batch is asked for twice.
        set("enable_memoize", &"off");
        set("jit", &"off");
        options
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the connection string: it may contain a password.
        let mut shown = f.debug_struct("Settings");
        shown.field("scope", &self.scope).field("schema", &self.schema).field("node", &self.node);
        shown.field("lease", &self.lease).field("migrate", &self.migrate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_bounded_by_the_lease_where_the_server_can() {
        let settings =
            Settings { lease: Duration::from_secs(7), ..Settings::new("scope".to_owned(), Server::at("")) };

        let bounds = [Purpose::Session, Purpose::LeadershipConnection, Purpose::Cleanup, Purpose::Migration]
            .map(|purpose| settings.transaction_timeout(purpose).as_secs());
        assert_eq!(bounds, [7, 7, 7, 0]);
        // Servers before PostgreSQL 17 refuse a setting that they do not know, so it is no option of the
        // connection.
        assert!(!settings.options(Purpose::Session, "mark", None).contains("-c transaction_timeout="));
        let set = "CASE WHEN current_setting('server_version_num')::int4 >= 170000
            THEN set_config('transaction_timeout', $6, false)";
        assert!(super::super::statement::server::INSPECT.contains(set));
    }
}
