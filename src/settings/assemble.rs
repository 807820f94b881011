//! From settings to a builder.

use std::sync::Arc;

use callsheet_actors::{DurationText, Fault, Faults, HistoryOptions, port::Backend};

use super::{
    Settings,
    backends::{choices, key_of},
    variables::PREFIX,
};
use crate::builder::Builder;

/// What faults call a setting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// As a file does: `database.url`.
    Keys,
    /// As the environment does: `CALLSHEET_DATABASE_URL`.
    Variables,
}

impl Naming {
    /// Faults whose subjects are keys, by the names of the settings.
    pub(super) fn of_all(self, mut faults: Vec<Fault>) -> Vec<Fault> {
        if self == Self::Variables {
            for fault in &mut faults {
                fault.subject = format!("{PREFIX}_{}", fault.subject.to_uppercase().replace('.', "_"));
            }
        }
        faults
    }
}

/// Whether the scope may still be missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Needed,
    MayFollow,
}

/// Hands what was said to the builder's options of the same names.
macro_rules! tell {
    ($builder:ident, $section:expr, [$($option:ident),*]) => {
        $(if let Some(value) = $section.$option.clone() {
            $builder = $builder.$option(value);
        })*
    };
}

/// The same for fields.
macro_rules! set {
    ($options:expr, $section:expr, [$($field:ident),*]) => {
        $(if let Some(value) = $section.$field {
            $options.$field = value;
        })*
    };
}

impl Settings {
    /// A builder that is told all of it, and everything that is wrong, by its key.
    pub(super) fn assemble(&self, scope: Scope) -> (Builder, Vec<Fault>) {
        let mut builder = self.tuned();
        let found = builder.check().map_err(Faults::into_vec).err().unwrap_or_default();
        let mut faults: Vec<_> = found.into_iter().map(|fault| self.of_option(fault)).collect();
        match self.backend(scope, &mut builder) {
            Ok(backend) => builder.backend = backend,
            Err(found) => faults.extend(found),
        }
        let (builder, found) = self.catalogue(builder);
        faults.extend(found);
        faults.extend(self.console_fault());
        (builder, faults)
    }

    /// A builder with the numbers and names.
    fn tuned(&self) -> Builder {
        let Self { threads, limits, history: said, .. } = self;
        let mut builder = Builder::default();
        tell!(builder, self, [node_name]);
        tell!(builder, threads, [arbiters, body_threads, local_body_threads, blocking_threads]);
        tell!(
            builder,
            limits,
            [max_concurrent_runs, when_full, catch_up_per_second, error_bytes_max, job_labels_max]
        );
        tell!(builder, limits, [connect_timeout, hook_timeout, overdue_after, shutdown_abort_after]);
        tell!(builder, limits, [clock_offset_max, resign_pause, forget_after]);
        let mut history = HistoryOptions::default();
        set!(history, said, [is_kept, queue, queue_bytes]);
        set!(history.memory, said.memory, [runs, decisions, operations, jobs, bytes]);
        set!(
            history.retention,
            said.retention,
            [runs_for, failures_for, decisions_for, operations_for, runs_per_job]
        );
        builder.history(history)
    }

    /// What is wrong with an option of the builder, by the key of the setting.
    fn of_option(&self, fault: Fault) -> Fault {
        let said = &self.history.retention;
        if let ("history: retention.failures_for", None, Some(runs_for)) =
            (&*fault.subject, said.failures_for, said.runs_for)
        {
            let rule = format!("runs are kept for at most as long as those that failed, {}", fault.value);
            let (value, cure) =
                (DurationText(runs_for).to_string(), "keep those that failed for longer as well");
            return Fault::new("history.retention.runs_for", value, rule, cure);
        }
        renamed(fault, |option| match option {
            "node_name" => option.to_owned(),
            "arbiters" | "body_threads" | "local_body_threads" | "blocking_threads" => {
                format!("threads.{option}")
            }
            _ => match option.strip_prefix("history: ") {
                Some(history) => format!("history.{history}"),
                None => format!("limits.{option}"),
            },
        })
    }

    /// `None`: this process alone, in memory.
    fn backend(&self, scope: Scope, builder: &mut Builder) -> Result<Option<Arc<dyn Backend>>, Vec<Fault>> {
        // A database and nothing else is enough.
        let has_database = self.database.url.is_some() || self.database.host.is_some();
        let unsaid = if has_database { "postgres" } else { "local" };
        let name = self.backend.as_deref().unwrap_or(unsaid);
        if self.election == Some(false) {
            builder.options.warning = Some(without_election(name));
            return self.local();
        }
        if name == "local" { self.local() } else { self.shared(name, scope).map(Some) }
    }

    /// A node that shares nothing with others.
    fn local(&self) -> Result<Option<Arc<dyn Backend>>, Vec<Fault>> {
        let Some(file) = &self.local.file else { return Ok(None) };
        #[cfg(feature = "sqlite")]
        {
            sound(Arc::new(crate::backend::Local::at(file)), |_| "local.file".to_owned()).map(Some)
        }
        #[cfg(not(feature = "sqlite"))]
        Err(vec![not_compiled("local.file", &file.display().to_string(), "sqlite")])
    }

    fn shared(&self, name: &str, scope: Scope) -> Result<Arc<dyn Backend>, Vec<Fault>> {
        let choices = choices();
        let Some(choice) = choices.iter().find(|choice| choice.name == name) else {
            let names: Vec<_> = choices.iter().map(|choice| choice.name).collect();
            let rule = format!("it is `local`, or one of {}", names.join(", "));
            return Err(vec![Fault::new("backend", name, rule, "choose one of them")]);
        };
        let Some(make) = choice.make else {
            // Without `backend` it is the database that chooses it.
            let (key, value) = if self.backend.is_some() { ("backend", name) } else { ("database.url", "") };
            return Err(vec![not_compiled(key, value, choice.feature)]);
        };
        let mut faults = Vec::new();
        if scope == Scope::Needed && self.scope.is_none() {
            let rule = format!("the backend {name} needs a scope: nodes of one scope share leader and jobs");
            faults.push(Fault::new("scope", "", rule, "name the application, such as `billing`"));
        }
        // Any will do, to find out about the rest.
        let scope = self.scope.clone().unwrap_or_else(|| "callsheet".to_owned());
        let is_url = match choice.section {
            "database" => self.database.url.is_some(),
            "postgres_lease" => self.postgres_lease.url.is_some(),
            "redis" => self.redis.url.is_some(),
            "etcd" => self.etcd.url.is_some(),
            "consul" => self.consul.url.is_some(),
            "mysql" => self.mysql.url.is_some(),
            _ => true,
        };
        let made = make(self, scope)
            .and_then(|backend| sound(backend, |subject| key_of(subject, choice.section, is_url)));
        match made {
            Ok(backend) if faults.is_empty() => Ok(backend),
            Ok(_) => Err(faults),
            Err(found) => {
                faults.extend(found);
                Err(faults)
            }
        }
    }

    fn catalogue(&self, builder: Builder) -> (Builder, Vec<Fault>) {
        let Some(path) = &self.catalogue else { return (builder, Vec::new()) };
        #[cfg(feature = "file-catalogue")]
        {
            use callsheet_actors::port::Catalogue as _;

            let file = crate::catalogue::FileCatalogue::at(path);
            let faults = file.faults();
            (builder.catalogue(file), faults)
        }
        #[cfg(not(feature = "file-catalogue"))]
        (builder, vec![not_compiled("catalogue", &path.display().to_string(), "file-catalogue")])
    }

    fn console_fault(&self) -> Option<Fault> {
        let secret = self.console.secret();
        if cfg!(feature = "console") {
            return secret.err();
        }
        let key = if self.console.secret.is_some() { "console.secret" } else { "console.secret_file" };
        let is_said = self.console.secret.is_some() || self.console.secret_file.is_some();
        is_said.then(|| not_compiled(key, "(not shown)", "console"))
    }
}

/// A backend, unless something is wrong with it.
fn sound(backend: Arc<dyn Backend>, key: impl Fn(&str) -> String) -> Result<Arc<dyn Backend>, Vec<Fault>> {
    let faults = backend.faults();
    if faults.is_empty() {
        return Ok(backend);
    }
    Err(faults.into_iter().map(|fault| renamed(fault, &key)).collect())
}

fn renamed(mut fault: Fault, name: impl Fn(&str) -> String) -> Fault {
    fault.subject = name(&fault.subject);
    fault
}

fn not_compiled(key: &str, value: &str, feature: &str) -> Fault {
    let rule =
        format!("this program was built without the feature `{feature}` of callsheet, which brings it");
    let cure = format!("build it with the feature: cargo add callsheet --features {feature}");
    Fault::new(key, value, rule, cure)
}

/// What the health and the log say of a node without election.
fn without_election(backend: &str) -> Arc<str> {
    let unused = match backend {
        "local" => String::new(),
        backend => format!(", and {PREFIX}_BACKEND={backend} is not used"),
    };
    format!(
        "{PREFIX}_ELECTION=off: this node runs every tick of its jobs, and so does each other node{unused}; \
         leave {PREFIX}_ELECTION out where a tick must run once"
    )
    .into()
}
