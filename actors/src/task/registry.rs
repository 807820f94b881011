//! The tasks that a node has, by their names.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{Task, TaskCall, TaskDetails};
use crate::{
    arguments::Arguments,
    contained::{panic_text, unharmed},
    core::text::{TEXT_MAX, bounded},
    error::Fault,
    name::check_name,
    port::Body,
    run::{Origin, Run, RunError, RunResult},
};

/// So many names are listed where one is not known.
const NAMES_SHOWN_MAX: usize = 10;

/// The tasks that a node has, by their names.
#[derive(Clone, Default)]
pub struct Tasks {
    tasks: BTreeMap<&'static str, Registered>,
    faults: Vec<Fault>,
}

#[derive(Clone)]
struct Registered {
    task: SharedTask,
    schema: Value,
}

impl Tasks {
    /// Adds a task. What is wrong is told with the [faults](Self::faults): two of one name, a name that breaks a rule.
    pub fn add<T: Task>(&mut self, state: T::State) {
        let made = check_name("task name", T::NAME).and_then(|()| schema_of::<T>());
        let schema = match made {
            Ok(schema) => schema,
            Err(fault) => return self.faults.push(fault),
        };
        match self.tasks.entry(T::NAME) {
            btree_map::Entry::Vacant(free) => {
                let task = SharedTask(Some(Arc::new(Typed::<T> { state, task: PhantomData })));
                free.insert(Registered { task, schema });
            }
            btree_map::Entry::Occupied(_) => {
                let cure = "register each once, and give one of two the other name (`Task::NAME`)";
                self.faults.push(Fault::new("task name", T::NAME, "a task of this name is registered", cure));
            }
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// What was wrong with what was added.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The tasks, in the order of their names.
    pub fn list(&self) -> Vec<TaskDetails> {
        let details = |(name, registered): (&&str, &Registered)| TaskDetails {
            name: (*name).to_owned(),
            schema: registered.schema.clone(),
        };
        self.tasks.iter().map(details).collect()
    }

    /// Their names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.tasks.keys().copied()
    }

    /// The task that data names, with arguments that it can read.
    pub(crate) fn bind(&self, call: TaskCall) -> Result<BoundTask, Fault> {
        let Some(registered) = self.tasks.get(&*call.name) else { return Err(self.unknown(&call.name)) };
        let bound = BoundTask { call, task: registered.task.clone() };
        bound.check(&bound.call.arguments)?;
        Ok(bound)
    }

    fn unknown(&self, name: &str) -> Fault {
        let names: Vec<_> = self.tasks.keys().take(NAMES_SHOWN_MAX).copied().collect();
        let more = self.tasks.len().saturating_sub(NAMES_SHOWN_MAX);
        let cure = match (&names[..], more) {
            ([], _) => "register it (`Builder::task`); there is none".to_owned(),
            (names, 0) => format!("register it (`Builder::task`), or name one of {}", names.join(", ")),
            (names, more) => {
                format!("register it (`Builder::task`), or name one of {} and {more} more", names.join(", "))
            }
        };
        Fault::new("task", name, "no task of this name is registered on this node", cure)
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.tasks.keys()).finish()
    }
}

/// The schema of what is read, which may have fields that are left out.
fn schema_of<T: Task>() -> Result<Value, Fault> {
    let generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let made = unharmed(|| generator.into_root_schema_for::<T>().to_value());
    let rule = "its JSON Schema panicked when it was made";
    made.ok_or_else(|| Fault::new("task", T::NAME, rule, "mend its `JsonSchema`"))
}

/// A task, with arguments that it can read.
#[derive(Clone)]
pub(crate) struct BoundTask {
    call: TaskCall,
    task: SharedTask,
}

impl BoundTask {
    pub(crate) fn call(&self) -> &TaskCall {
        &self.call
    }

    /// Whether it can read other arguments.
    pub(crate) fn check(&self, arguments: &Arguments) -> Result<(), Fault> {
        // They are code of the application.
        let read = catch_unwind(AssertUnwindSafe(|| self.task.get().check(arguments)));
        let (rule, cure) = match read {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(rule)) => (rule, "write them as the task's JSON Schema says"),
            Err(payload) => {
                let rule = format!("reading them panicked: {}", bounded(panic_text(&*payload), TEXT_MAX));
                unharmed(|| drop(payload));
                (rule, "mend its `Deserialize`")
            }
        };
        let subject = format!("arguments of task {:?}", self.call.name);
        Err(Fault::new(subject, bounded(arguments, TEXT_MAX), rule, cure))
    }
}

impl Body for BoundTask {
    fn start(&self, run: Run) -> BoxFuture<'static, RunResult> {
        let own = match run.origin() {
            Origin::Trigger { task, .. } => task.clone(),
            Origin::Tick(_) | Origin::Backfill { .. } => None,
        };
        self.task.get().start(run, &own.as_deref().unwrap_or(&self.call).arguments)
    }
}

/// A task, whatever its type.
trait AnyTask: Send + Sync {
    fn check(&self, arguments: &Arguments) -> Result<(), String>;

    fn start(&self, run: Run, arguments: &Arguments) -> BoxFuture<'static, RunResult>;
}

struct Typed<T: Task> {
    state: T::State,
    task: PhantomData<fn() -> T>,
}

impl<T: Task> AnyTask for Typed<T> {
    fn check(&self, arguments: &Arguments) -> Result<(), String> {
        read::<T>(arguments).map(drop)
    }

    fn start(&self, run: Run, arguments: &Arguments) -> BoxFuture<'static, RunResult> {
        match read::<T>(arguments) {
            Ok(task) => task.run(run, self.state.clone()).boxed(),
            // They were read when the job was added, or triggered with them.
            Err(reason) => {
                ready(Err(RunError::permanent(format!("the arguments cannot be read: {reason}")))).boxed()
            }
        }
    }
}

/// Reads arguments. Those that are left out are `null`, or `{}`.
fn read<T: Task>(arguments: &Arguments) -> Result<T, String> {
    let read = |value: Value| serde_path_to_error::deserialize(value);
    let found = match read(arguments.to_value()) {
        Err(_) if arguments.is_none() => read(Value::Object(serde_json::Map::new())),
        found => found,
    };
    found.map_err(|error| {
        let path = error.path().to_string();
        let reason = bounded(error.inner(), TEXT_MAX);
        if path == "." { reason } else { format!("{path}: {reason}") }
    })
}

/// A task that is shared by the registry, by definitions and by runs.
///
/// The state of the application is dropped with it, on whatever thread holds the last share: a panic there is
/// contained.
#[derive(Clone)]
struct SharedTask(Option<Arc<dyn AnyTask>>);

impl SharedTask {
    fn get(&self) -> &dyn AnyTask {
        self.0.as_deref().expect("invariant: there is a task until it is dropped")
    }
}

impl Drop for SharedTask {
    fn drop(&mut self) {
        let task = self.0.take();
        if unharmed(|| drop(task)).is_none() {
            tracing::error!(target: "callsheet", "the state of a task panicked when it was dropped");
        }
    }
}
