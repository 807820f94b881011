//! What an engine is made of.

use std::{iter, sync::Arc, thread, time::Duration};

use actix::prelude::*;

use crate::{
    candidacy::{MayLead, RESIGN_PAUSE_DEFAULT, RESIGN_PAUSE_MIN},
    catch_ups::CATCH_UP_PER_SECOND_DEFAULT,
    core::{
        alarm::{EXPECT_MAX, EXPECT_MIN},
        duration::DurationText,
        end_text::{ERROR_BYTES_DEFAULT, ERROR_BYTES_MAX, ERROR_BYTES_MIN},
        key_policies::conflicts,
        pacer::CATCH_UP_PER_SECOND_MAX,
        text::Grouped,
        zone_data::ZONE_DATA_VERSION_MAX,
    },
    definition::{Definition, Job},
    error::AddError,
    event::Event,
    event_filter::EventFilter,
    fault::{Fault, Faults},
    history::HistoryOptions,
    hooks::Hooks,
    job::JobHandle,
    job_names::{BACKEND_NAME_MAX, JobNames, NAMED_BACKENDS_MAX, on_unknown},
    metrics::JOB_LABELS_DEFAULT,
    name::NodeId,
    permits::{Permits, WhenFull},
    port::{Backend, Catalogue, Clock, Spawner, SystemClock},
    stored_job::ScheduleReader,
    supervisor::{FormerNames, SHUTDOWN_ABORT_AFTER_DEFAULT, define_all},
    task::Tasks,
};

#[cfg(any(test, feature = "testkit"))]
use crate::testkit::Definitions;

/// How long a start waits for the store unless told otherwise.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How far a leader's wall clock may be from the store's unless told otherwise.
pub const CLOCK_OFFSET_MAX_DEFAULT: Duration = Duration::from_mins(5);
/// The shortest time that a start may wait for the store.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// The smallest bound of a clock's offset, which is measured in milliseconds.
const CLOCK_OFFSET_MIN: Duration = Duration::from_millis(1);
/// How long a name must have been out of use before it is forgotten, unless told otherwise.
pub const FORGET_AFTER_DEFAULT: Duration = Duration::from_hours(7 * 24);
/// The shortest such time.
pub const FORGET_AFTER_MIN: Duration = Duration::from_hours(1);
/// The longest name of a node, in bytes.
pub const NODE_NAME_MAX: usize = 200;
/// The most threads of each kind.
pub const THREADS_MAX: usize = 256;

/// The most threads for bodies that block, unless the application says otherwise.
pub const BLOCKING_THREADS_DEFAULT: usize = 64;
/// What an engine is made of.
#[derive(Clone)]
pub struct EngineOptions {
    /// Where nodes coordinate.
    pub backend: Arc<dyn Backend>,
    /// Other backends, by the names by which jobs [choose](Job::on) them, at most [`NAMED_BACKENDS_MAX`]. Each has an
    /// engine of its own. Default: none.
    pub named: Vec<(Arc<str>, Arc<dyn Backend>)>,
    /// The jobs to start with.
    pub jobs: Vec<Job>,
    /// The tasks that jobs of this node may name. Default: none.
    pub tasks: Tasks,
    /// Where jobs are kept as data. Default: where the [backend](Backend::catalogue) keeps them.
    pub catalogue: Option<Arc<dyn Catalogue>>,
    /// Reads the schedules of jobs that are data. Default: nothing does, and no catalogue is read.
    pub schedule_reader: Option<ScheduleReader>,
    /// Who hears events from the first on, and which.
    pub listeners: Vec<(EventFilter, Recipient<Event>)>,
    /// The hooks of all jobs, called before those of each job.
    pub hooks: Hooks,
    /// The clocks. Default: the operating system's.
    pub clock: Arc<dyn Clock>,
    /// Who runs the bodies. Default: a multi-threaded runtime of the engine's own.
    pub spawner: Option<Arc<dyn Spawner>>,
    /// The threads of the job actors, 1 to [`THREADS_MAX`]. Default: the number of processors, at most 4.
    pub arbiters: usize,
    /// The threads of the engine's own body runtime, 1 to [`THREADS_MAX`]. Default: the number of processors,
    /// at most [`THREADS_MAX`]. One more is for bodies that are quick.
    pub body_threads: usize,
    /// The threads of bodies that are not `Send`, 1 to [`THREADS_MAX`]. Default: 1.
    pub local_body_threads: usize,
    /// The most threads of bodies that block, 1 to [`THREADS_MAX`]; they are started when they are needed.
    /// Default: [`BLOCKING_THREADS_DEFAULT`].
    pub blocking_threads: usize,
    /// The greatest number of job names in metric labels; any number. Default: 1,000.
    pub job_labels_max: usize,
    /// The time between cancelling and aborting the runs that did not drain at shutdown; 0 aborts
    /// immediately, `Duration::MAX` never. Default: 5 s.
    pub shutdown_abort_after: Duration,
    /// How long the start may wait for the store, at least 1 ms; `None` is for ever. Default:
    /// [`CONNECT_TIMEOUT_DEFAULT`].
    pub connect_timeout: Option<Duration>,
    /// How many runs may be in progress on the node at once, at least 1; `None` is no bound. Default: none.
    pub max_concurrent_runs: Option<usize>,
    /// What happens to a run beyond. Default: it waits.
    pub when_full: WhenFull,
    /// How many missed ticks the node makes up for in a second, 1 to [`CATCH_UP_PER_SECOND_MAX`]; `None` is no
    /// bound. Default: [`CATCH_UP_PER_SECOND_DEFAULT`]. Jobs that ask within 30 s have one bound, which is then fixed:
    /// the time that all who wait take, and a second. Who waits beyond it is overdue.
    pub catch_up_per_second: Option<u32>,
    /// How far the node's wall clock may be from the store's if it is to lead, at least 1 ms. Default:
    /// [`CLOCK_OFFSET_MAX_DEFAULT`].
    pub clock_offset_max: Duration,
    /// How long a job or a lock key must have been withdrawn, or on no node while some node led, before
    /// the store forgets its name; at least [`FORGET_AFTER_MIN`]. Default: [`FORGET_AFTER_DEFAULT`].
    pub forget_after: Duration,
    /// The version of the time zone data by which the schedules of this node go, to be shown and compared
    /// with that of other nodes; at most 200 bytes. Default: empty, which means that it is not known.
    pub zone_data: Arc<str>,
    /// The application's own check whether this node may lead: see [`MayLead`]. Default: none.
    pub may_lead: Option<MayLead>,
    /// The node leads only while no other node stands as a candidate. Default: `false`.
    pub prefer_not_to_lead: bool,
    /// How long the node does not campaign after it was asked to resign, unless another node leads before; at
    /// least [`RESIGN_PAUSE_MIN`]. A node that led only between two of its questions, a second apart, may go
    /// unseen: then the whole pause passes. Default: [`RESIGN_PAUSE_DEFAULT`].
    pub resign_pause: Duration,
    /// The longest error of a body with its causes, message of a panic or veto of a hook that is quoted, in
    /// bytes, from [`ERROR_BYTES_MIN`] to [`ERROR_BYTES_MAX`]. Default: [`ERROR_BYTES_DEFAULT`].
    pub error_bytes_max: usize,
    /// How long after its fire time each tick of every job is to start, 1 s to 100 years, unless the job has
    /// [its own time](Job::expect_start_within). Default: `None`, nothing is expected.
    pub overdue_after: Option<Duration>,
    /// Whether a history is kept, where, and how much of it.
    pub history: HistoryOptions,
    /// The node's id, unless the backend has one for it. Default: random.
    pub node: NodeId,
    /// What people call the node: at most [`NODE_NAME_MAX`] bytes without control characters. Default: empty, it
    /// has no name.
    pub node_name: Arc<str>,
    /// What whoever runs the node should know of the way it was set up, although nothing is wrong: logged as a
    /// warning when the node starts, and part of its [health](crate::HealthReport::warning). Default: nothing.
    pub warning: Option<Arc<str>>,
    /// What is wrong with what these options were read from: told with everything else. Default: nothing.
    pub faults: Vec<Fault>,
    /// What the engine shares with those of the node's other backends.
    pub(crate) share: Option<Share>,
    /// Hears of every definition, for the audit of a rig.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) definitions: Option<Definitions>,
}

/// What an engine shares with those of the node's other backends.
#[derive(Clone)]
pub(crate) struct Share {
    pub(super) names: JobNames,
    pub(super) permits: Permits<Arc<JobHandle>>,
}

impl EngineOptions {
    /// The defaults on `backend`, without jobs.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self {
            backend,
            named: Vec::new(),
            share: None,
            jobs: Vec::new(),
            tasks: Tasks::default(),
            catalogue: None,
            schedule_reader: None,
            listeners: Vec::new(),
            hooks: Hooks::default(),
            clock: Arc::new(SystemClock::default()),
            spawner: None,
            arbiters: processors.clamp(1, 4),
            body_threads: processors.min(THREADS_MAX),
            local_body_threads: 1,
            blocking_threads: BLOCKING_THREADS_DEFAULT,
            job_labels_max: JOB_LABELS_DEFAULT,
            shutdown_abort_after: SHUTDOWN_ABORT_AFTER_DEFAULT,
            connect_timeout: Some(CONNECT_TIMEOUT_DEFAULT),
            max_concurrent_runs: None,
            when_full: WhenFull::default(),
            catch_up_per_second: Some(CATCH_UP_PER_SECOND_DEFAULT),
            clock_offset_max: CLOCK_OFFSET_MAX_DEFAULT,
            forget_after: FORGET_AFTER_DEFAULT,
            zone_data: "".into(),
            may_lead: None,
            prefer_not_to_lead: false,
            resign_pause: RESIGN_PAUSE_DEFAULT,
            error_bytes_max: ERROR_BYTES_DEFAULT,
            overdue_after: None,
            history: HistoryOptions::default(),
            node: NodeId::random(),
            node_name: "".into(),
            warning: None,
            faults: Vec::new(),
            #[cfg(any(test, feature = "testkit"))]
            definitions: None,
        }
    }

    /// What is wrong with the jobs, on whichever backend.
    fn job_faults(&self) -> Vec<Fault> {
        let names: Vec<_> = self.named.iter().map(|(name, _)| name.clone()).collect();
        let mut faults = on_unknown(&self.jobs, &names);
        let all = JobNames::new(names);
        let backends = iter::once(&self.backend).chain(self.named.iter().map(|(_, backend)| backend));
        for (engine, backend) in backends.enumerate() {
            let names = all.of_engine(engine);
            let its = self.jobs.iter().filter(|job| job.backend() == names.backend().map(|name| &**name));
            let (definitions, found) = define_all(its.cloned().collect(), self.clock.now(), &self.tasks);
            faults.extend(found);
            faults.extend(conflicts(definitions.iter().map(Definition::declares), |_| None));
            let able = backend.able();
            faults.extend(definitions.iter().flat_map(|job| job.faults_on(&able)));
            faults.extend(FormerNames::default().conflicts(&definitions, |_| false));
            if !self.named.is_empty() {
                faults.extend(names.take(&definitions).err().into_iter().flat_map(AddError::into_faults));
            }
        }
        faults
    }

    /// What is wrong with the named backends.
    fn named_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.named.len() > NAMED_BACKENDS_MAX {
            let rule = format!("a node has at most {NAMED_BACKENDS_MAX} named backends");
            faults.push(Fault::new("named backends", self.named.len().to_string(), rule, "leave some out"));
        }
        for (nth, (name, backend)) in self.named.iter().enumerate() {
            if name.trim().is_empty() || name.len() > BACKEND_NAME_MAX || name.chars().any(char::is_control) {
                let rule = format!("it has 1 to {BACKEND_NAME_MAX} bytes and no control characters");
                faults.push(Fault::new("name of a backend", &**name, rule, "choose a short, plain name"));
            }
            if self.named[..nth].iter().any(|(before, _)| before == name) {
                let (rule, cure) = ("a backend of this name exists", "give each backend a name of its own");
                faults.push(Fault::new("name of a backend", &**name, rule, cure));
            }
            let subject = format!("backend {name:?}");
            faults.extend(backend.faults().into_iter().map(|fault| fault.within(&subject)));
        }
        faults
    }

    /// Checks the options and the jobs.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once.
    pub fn check(&self) -> Result<(), Faults> {
        let mut faults = self.job_faults();
        faults.extend(self.tasks.faults().iter().cloned());
        faults.extend(self.faults.iter().cloned());
        faults.extend(self.backend.faults());
        faults.extend(self.catalogue.iter().flat_map(|catalogue| catalogue.faults()));
        faults.extend(self.named_faults());
        faults.extend(self.hooks.fault());
        faults.extend(self.history.faults());
        let threads = [
            ("arbiters", self.arbiters),
            ("body_threads", self.body_threads),
            ("local_body_threads", self.local_body_threads),
            ("blocking_threads", self.blocking_threads),
        ];
        for (option, value) in threads {
            if !(1..=THREADS_MAX).contains(&value) {
                let rule = format!("it is at least 1 and at most {THREADS_MAX}");
                faults.push(Fault::new(option, value.to_string(), rule, "choose a number in this range"));
            }
        }
        if self.zone_data.len() > ZONE_DATA_VERSION_MAX {
            let rule = format!("the version of time zone data has at most {ZONE_DATA_VERSION_MAX} bytes");
            faults.push(Fault::new("zone_data", &*self.zone_data, rule, "shorten it, such as `2026f`"));
        }
        if self.node_name.len() > NODE_NAME_MAX || self.node_name.chars().any(char::is_control) {
            let rule =
                format!("the name of a node has at most {NODE_NAME_MAX} bytes and no control characters");
            faults.push(Fault::new("node_name", &*self.node_name, rule, "choose a shorter, plain name"));
        }
        if !(ERROR_BYTES_MIN..=ERROR_BYTES_MAX).contains(&self.error_bytes_max) {
            let [value, min, max, default] =
                [self.error_bytes_max, ERROR_BYTES_MIN, ERROR_BYTES_MAX, ERROR_BYTES_DEFAULT]
                    .map(|bytes| Grouped(bytes as u64).to_string());
            let rule = format!("an error is quoted to at least {min} and at most {max} bytes");
            let cure = format!("choose a number in this range; {default} is the default");
            faults.push(Fault::new("error_bytes_max", value, rule, cure));
        }
        if let Some(value) = self.overdue_after.filter(|value| !(EXPECT_MIN..=EXPECT_MAX).contains(value)) {
            let rule = "it is 1 s to 100 years (36,500 days)";
            let cure = "choose a time in this range, or leave it out to expect nothing";
            faults.push(Fault::new("overdue_after", DurationText(value).to_string(), rule, cure));
        }
        if self.max_concurrent_runs == Some(0) {
            let cure = "raise it, or leave it out for no bound";
            faults.push(Fault::new("max_concurrent_runs", "0", "it is at least 1", cure));
        }
        if let Some(value) =
            self.catch_up_per_second.filter(|value| !(1..=CATCH_UP_PER_SECOND_MAX).contains(value))
        {
            let max = Grouped(u64::from(CATCH_UP_PER_SECOND_MAX));
            let rule = format!("it is at least 1 and at most {max}");
            let cure = "choose a number in this range, or `None` for no bound";
            faults.push(Fault::new("catch_up_per_second", Grouped(value.into()).to_string(), rule, cure));
        }
        let spans = [
            ("connect_timeout", self.connect_timeout, CONNECT_TIMEOUT_MIN, "10s"),
            ("clock_offset_max", Some(self.clock_offset_max), CLOCK_OFFSET_MIN, "5m"),
            ("forget_after", Some(self.forget_after), FORGET_AFTER_MIN, "7d"),
            ("resign_pause", Some(self.resign_pause), RESIGN_PAUSE_MIN, "30s"),
        ];
        for (option, value, min, default) in spans {
            if let Some(value) = value.filter(|value| *value < min) {
                let rule = format!("it is at least {}", DurationText(min));
                let cure = format!("choose a longer time; {default} is the default");
                faults.push(Fault::new(option, DurationText(value).to_string(), rule, cure));
            }
        }
        Faults::check(faults)
    }
}
