//! What whoever runs a node may say of it, in the environment or in a file: [`Settings`].

#[cfg(any(feature = "consul", feature = "etcd", feature = "mysql", feature = "postgres", feature = "redis"))]
mod address;
mod assemble;
mod backends;
mod secret;
mod sections;
mod variables;

use std::{env, ffi::OsString, path::PathBuf, time::Duration};

use callsheet_actors::Faults;
use serde::Deserialize;

use self::{
    assemble::{Naming, Scope},
    sections::duration,
    variables::Lookup,
};
pub use self::{
    secret::{CONSOLE_SECRET_BYTES_MIN, SECRET_FILE_BYTES_MAX, Secret},
    sections::{
        ConsoleSettings, HistorySettings, KubernetesSettings, LimitSettings, LocalSettings, MemorySettings,
        RedlockSettings, RetentionSettings, ServerSettings, ThreadSettings,
    },
};
use crate::builder::Builder;

/// What whoever runs a node may say of it, without a change of the code: where it coordinates, its scope and name, its
/// threads and limits, its history, its file of jobs. The [guide](crate::guide::settings) has each key and variable
/// with its default and range.
///
/// It comes from the environment ([`from_env`](Self::from_env)) or, by serde, from TOML, JSON and other formats, with
/// the same keys. The variable of a key is `CALLSHEET_`, and the key in capital letters with `_` for each `.`:
/// `database.password_file` is `CALLSHEET_DATABASE_PASSWORD_FILE`. What is not said is as the [`Builder`] has it.
///
/// ```
/// use callsheet::{Settings, prelude::*};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut settings = Settings::from_env()?;
/// // Unless the environment names another one.
/// settings.scope.get_or_insert_with(|| "billing".to_owned());
/// let job = Job::new("hello", every("5s")).run(async |_| {});
/// let jobs = settings.builder()?.job(job).start().await?;
/// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
///
/// let settings: Settings = toml::from_str("backend = 'local'\n[threads]\narbiters = 0")?;
/// let faults = settings.builder().err().expect("no thread is too few").to_string();
/// assert!(faults.starts_with("threads.arbiters \"0\": it is at least 1"), "{faults}");
/// # Ok(())
/// # }
/// ```
///
/// # Secrets
///
/// A [`Secret`] is shown by no error, no log and no `Debug`. A parser may quote a line of its file that it cannot read:
/// keep secrets in the environment, or in files of their own (`password_file`, `secret_file`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Where nodes coordinate: `local`, `postgres`, `postgres_lease`, `redis`, `redlock`, `etcd`, `consul`, `mysql` or
    /// `kubernetes`. Default: `postgres` if [`database`](Self::database) has a URL or a host, else `local`.
    pub backend: Option<String>,
    /// Whether there is a leader. `false`, in the environment `off`: this node runs every tick of its jobs, and so does
    /// each other node; the backend is not used. Default: `true`.
    pub election: Option<bool>,
    /// Which nodes are one cluster: those of one scope. Each backend but `local` needs it.
    pub scope: Option<String>,
    /// The [name](Builder::node_name) of this node, at most 200 bytes. Default: none.
    pub node_name: Option<String>,
    /// How long a silent node keeps its lock keys and the lead; not of `local`. Default and range: the backend's.
    #[serde(deserialize_with = "duration")]
    pub lease: Option<Duration>,
    /// The file, TOML or JSON, in which [jobs are kept as data](crate::guide::stored_jobs). Feature `file-catalogue`.
    /// Default: the backend keeps them.
    pub catalogue: Option<PathBuf>,
    /// Of the backend `local`.
    pub local: LocalSettings,
    /// Of the backend `postgres`.
    #[serde(deserialize_with = "secret::section")]
    pub database: ServerSettings,
    /// Of the backend `postgres_lease`.
    #[serde(deserialize_with = "secret::section")]
    pub postgres_lease: ServerSettings,
    /// Of the backend `redis`.
    #[serde(deserialize_with = "secret::section")]
    pub redis: ServerSettings,
    /// Of the backend `redlock`.
    #[serde(deserialize_with = "secret::section")]
    pub redlock: RedlockSettings,
    /// Of the backend `etcd`.
    #[serde(deserialize_with = "secret::section")]
    pub etcd: ServerSettings,
    /// Of the backend `consul`.
    #[serde(deserialize_with = "secret::section")]
    pub consul: ServerSettings,
    /// Of the backend `mysql`.
    #[serde(deserialize_with = "secret::section")]
    pub mysql: ServerSettings,
    /// Of the backend `kubernetes`.
    pub kubernetes: KubernetesSettings,
    /// How many threads the engine has.
    pub threads: ThreadSettings,
    /// What the engine may take, and how long.
    pub limits: LimitSettings,
    /// Whether what happened is kept, and how much of it.
    pub history: HistorySettings,
    /// Of the console.
    #[serde(deserialize_with = "secret::section")]
    pub console: ConsoleSettings,
}

impl Settings {
    /// Reads the variables `CALLSHEET_…` of this process. One that is empty is as one that is not set.
    ///
    /// That the scope is missing is no fault yet: the application may [have one](Self::scope).
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once, by the names of the variables: what cannot be read, what is out of range,
    /// what contradicts itself, files that cannot be read, a backend whose feature is off.
    pub fn from_env() -> Result<Self, Faults> {
        Self::read(|name| env::var_os(name))
    }

    /// Reads the variables that `lookup` answers, by their whole names: for tests, which cannot set those of the
    /// process.
    ///
    /// ```
    /// use callsheet::Settings;
    ///
    /// let variables = [("CALLSHEET_LEASE", "five"), ("CALLSHEET_LIMITS_WHEN_FULL", "drop")];
    /// let lookup = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1);
    /// let faults = Settings::read(lookup).unwrap_err().to_string();
    ///
    /// assert_eq!(faults.lines().count(), 2, "{faults}");
    /// assert!(faults.contains("CALLSHEET_LEASE \"five\": `five` is not a whole number; write"), "{faults}");
    /// assert!(faults.contains("CALLSHEET_LIMITS_WHEN_FULL \"drop\": unknown variant"), "{faults}");
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`from_env`](Self::from_env).
    pub fn read<V: Into<OsString>>(lookup: impl Fn(&str) -> Option<V>) -> Result<Self, Faults> {
        let (settings, _) = Self::assembled(&|name| lookup(name).map(Into::into), Scope::MayFollow)?;
        Ok(settings)
    }

    /// A builder that is told these settings, to which the application adds its jobs.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once, by its keys.
    pub fn builder(&self) -> Result<Builder, Faults> {
        let (builder, faults) = self.assemble(Scope::Needed);
        Faults::check(Naming::Keys.of_all(faults))?;
        Ok(builder)
    }

    /// What the variables say, and a builder that is told it.
    fn assembled(lookup: Lookup<'_>, scope: Scope) -> Result<(Self, Builder), Faults> {
        let (settings, mut faults) = variables::read(lookup);
        let (builder, found) = settings.assemble(scope);
        // What could not be read is not there: that is no fault of its own.
        let found = Naming::Variables.of_all(found).into_iter();
        let unread: Vec<_> = faults.iter().map(|fault| fault.subject.clone()).collect();
        faults.extend(found.filter(|fault| !unread.contains(&fault.subject)));
        Faults::check(faults)?;
        Ok((settings, builder))
    }

    /// A builder that is told what the variables of this process say.
    pub(crate) fn builder_from_env() -> Result<Builder, Faults> {
        let (_, builder) = Self::assembled(&|name| env::var_os(name), Scope::Needed)?;
        Ok(builder)
    }
}

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
