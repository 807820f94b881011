//! The sections of the settings. What is `None` is as the builder, or the backend, has it.

use std::{path::PathBuf, time::Duration};

use callsheet_actors::{Fault, WhenFull, parse_duration};
use serde::{Deserialize, Deserializer, de::Error};

use super::secret::{CONSOLE_SECRET_BYTES_MIN, Secret, list, read_file};

/// Reads a duration such as `1m 30s`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let parsed = text.as_deref().map(parse_duration).transpose();
    parsed.map_err(|fault| D::Error::custom(format!("{}; {}", fault.rule, fault.cure)))
}

/// What the backend `local` is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LocalSettings {
    /// The file in which it keeps what it knows: [`Local::at`](crate::backend::Local). Feature `sqlite`. Default: it
    /// keeps everything in memory.
    pub file: Option<PathBuf>,
}

/// Where a server is, and with which credentials and certificates a node connects to it: by a URL, or in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServerSettings {
    /// All of it but the schema, as the backend's documentation says. The parts below stay away then.
    pub url: Option<Secret>,
    /// A name, an address, or several with commas between them; of PostgreSQL also the directory of a socket.
    pub host: Option<String>,
    /// Default: that of the system.
    pub port: Option<u16>,
    /// Default: none. Consul has none.
    pub user: Option<String>,
    /// The password, or the token of Consul. Default: none.
    pub password: Option<Secret>,
    /// A file that holds it, of at most [`SECRET_FILE_BYTES_MAX`](super::SECRET_FILE_BYTES_MAX) bytes; line breaks at
    /// its end are left out. On PostgreSQL it is read again for each connection.
    pub password_file: Option<PathBuf>,
    /// The database of PostgreSQL and MySQL, the number of Redis'. Default: that of the system; MySQL needs it.
    pub database: Option<String>,
    /// The schema that the tables are in; of PostgreSQL. Default: the backend's.
    pub schema: Option<String>,
    /// Whether the connection is encrypted, and the server's certificate verified. Default: yes, unless the host is
    /// this machine and no certificate is named.
    pub tls: Option<bool>,
    /// A file of the authorities that may sign the server's certificate, in PEM format, or `system`: those that this
    /// machine trusts. Default: `system`.
    pub tls_ca: Option<String>,
    /// A file with the certificate that this node shows, in PEM format. Default: none.
    pub tls_certificate: Option<String>,
    /// A file with its key.
    pub tls_key: Option<String>,
}

/// What the backend `redlock` is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RedlockSettings {
    /// The URLs of 3 to 16 servers; in the environment with blanks between them.
    #[serde(deserialize_with = "list")]
    pub urls: Option<Vec<Secret>>,
}

/// What the backend `kubernetes` is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct KubernetesSettings {
    /// The namespace of the lease. Default: that of the pod, or of the kubeconfig's context.
    pub namespace: Option<String>,
    /// The path of a kubeconfig. Default: `$KUBECONFIG`, `~/.kube/config`, or, in a pod, its service account.
    pub kubeconfig: Option<PathBuf>,
}

/// How many threads the engine has: options of the [`Builder`](crate::Builder) of the same names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ThreadSettings {
    /// [`Builder::arbiters`](crate::Builder::arbiters), 1 to 256.
    pub arbiters: Option<usize>,
    /// [`Builder::body_threads`](crate::Builder::body_threads), 1 to 256.
    pub body_threads: Option<usize>,
    /// [`Builder::local_body_threads`](crate::Builder::local_body_threads), 1 to 256.
    pub local_body_threads: Option<usize>,
    /// [`Builder::blocking_threads`](crate::Builder::blocking_threads), 1 to 256.
    pub blocking_threads: Option<usize>,
}

/// What the engine may take, and how long: options of the [`Builder`](crate::Builder) of the same names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LimitSettings {
    /// [`Builder::max_concurrent_runs`](crate::Builder::max_concurrent_runs), at least 1.
    pub max_concurrent_runs: Option<usize>,
    /// [`Builder::when_full`](crate::Builder::when_full): `wait` or `skip`.
    pub when_full: Option<WhenFull>,
    /// [`Builder::catch_up_per_second`](crate::Builder::catch_up_per_second), 1 to 1,000,000.
    pub catch_up_per_second: Option<u32>,
    /// [`Builder::error_bytes_max`](crate::Builder::error_bytes_max), 256 to 262,144.
    pub error_bytes_max: Option<usize>,
    /// [`Builder::job_labels_max`](crate::Builder::job_labels_max), any number.
    pub job_labels_max: Option<usize>,
    /// [`Builder::connect_timeout`](crate::Builder::connect_timeout), at least 1 ms.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Option<Duration>,
    /// [`Builder::hook_timeout`](crate::Builder::hook_timeout), 1 ms to 1 h.
    #[serde(deserialize_with = "duration")]
    pub hook_timeout: Option<Duration>,
    /// [`Builder::overdue_after`](crate::Builder::overdue_after), 1 s to 100 years.
    #[serde(deserialize_with = "duration")]
    pub overdue_after: Option<Duration>,
    /// [`Builder::shutdown_abort_after`](crate::Builder::shutdown_abort_after), any duration.
    #[serde(deserialize_with = "duration")]
    pub shutdown_abort_after: Option<Duration>,
    /// [`Builder::clock_offset_max`](crate::Builder::clock_offset_max), at least 1 ms.
    #[serde(deserialize_with = "duration")]
    pub clock_offset_max: Option<Duration>,
    /// [`Builder::resign_pause`](crate::Builder::resign_pause), at least 1 s.
    #[serde(deserialize_with = "duration")]
    pub resign_pause: Option<Duration>,
    /// [`Builder::forget_after`](crate::Builder::forget_after), at least 1 h.
    #[serde(deserialize_with = "duration")]
    pub forget_after: Option<Duration>,
}

/// Whether what happened is kept, and how much of it: [`HistoryOptions`](crate::HistoryOptions).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HistorySettings {
    /// Whether it is kept.
    pub is_kept: Option<bool>,
    /// How many records may wait to be written, at least 64.
    pub queue: Option<usize>,
    /// How many bytes of records may wait, at least 65,536.
    pub queue_bytes: Option<usize>,
    /// How much `local` keeps in memory.
    pub memory: MemorySettings,
    /// How long, and how much, is kept elsewhere.
    pub retention: RetentionSettings,
}

/// How much of the history `local` keeps in memory: [`MemoryBounds`](crate::port::MemoryBounds).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MemorySettings {
    /// How many runs, at least 1.
    pub runs: Option<usize>,
    /// How many decisions, at least 1.
    pub decisions: Option<usize>,
    /// How many operations, at least 1.
    pub operations: Option<usize>,
    /// Of how many jobs there is a row, at least 2.
    pub jobs: Option<usize>,
    /// How many bytes, at least 65,536.
    pub bytes: Option<usize>,
}

/// How long a store keeps the history, and how much: [`Retention`](crate::Retention).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetentionSettings {
    /// Runs that succeeded or were cancelled: 1 min to 100 years.
    #[serde(deserialize_with = "duration")]
    pub runs_for: Option<Duration>,
    /// Other runs, at least as long.
    #[serde(deserialize_with = "duration")]
    pub failures_for: Option<Duration>,
    /// Decisions, 1 min to 100 years.
    #[serde(deserialize_with = "duration")]
    pub decisions_for: Option<Duration>,
    /// Operations, 1 min to 100 years.
    #[serde(deserialize_with = "duration")]
    pub operations_for: Option<Duration>,
    /// How many runs of each outcome of a job, at least 1.
    pub runs_per_job: Option<u64>,
}

/// What the application's console is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConsoleSettings {
    /// What opens it, at least 16 bytes ([`CONSOLE_SECRET_BYTES_MIN`]). Default: none.
    pub secret: Option<Secret>,
    /// A file that holds it, of at most [`SECRET_FILE_BYTES_MAX`](super::SECRET_FILE_BYTES_MAX) bytes.
    pub secret_file: Option<PathBuf>,
}

impl ConsoleSettings {
    /// The secret, from its file if there is one: for `Console::authorise`, in which the application
    /// [compares](Secret::matches) what a request brings along.
    ///
    /// # Errors
    ///
    /// Both are given, the file cannot be read, or the secret is too short.
    pub fn secret(&self) -> Result<Option<Secret>, Fault> {
        let (secret, from) = match (&self.secret, &self.secret_file) {
            (None, None) => return Ok(None),
            (Some(secret), None) => (secret.clone(), "console.secret"),
            (None, Some(path)) => (read_file("console.secret_file", path)?, "console.secret_file"),
            (Some(_), Some(path)) => {
                let value = path.display().to_string();
                let rule = "the secret is given itself, or in a file";
                return Err(Fault::new("console.secret_file", value, rule, "leave out one of the two"));
            }
        };
        if secret.reveal().len() < CONSOLE_SECRET_BYTES_MIN {
            let rule = format!("a secret of the console has at least {CONSOLE_SECRET_BYTES_MIN} bytes");
            return Err(Fault::new(from, "(not shown)", rule, "make one: openssl rand -hex 32"));
        }
        Ok(Some(secret))
    }
}
