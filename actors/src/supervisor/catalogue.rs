//! How this node keeps to the catalogue: it reads what changes, and adds, changes, removes or parks the jobs that are
//! stored.
//!
//! [`Reconciliation`] decides what to ask and what is to be done. Here it is asked and done. One question is under way
//! at a time; a hint of the catalogue, or somebody on this node who waits for a change, brings the next one on.

use std::{convert::Infallible, slice, sync::Arc, time::Duration};

use actix::prelude::*;
use futures_util::future::{Either, select};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Phase, SupervisorActor};
use crate::{
    CALL_DEADLINE,
    contained::{caught, unharmed},
    core::{
        catalogue::{Act, Ask, AskDue, Read, Reconciliation, Standing},
        operation::Operation,
        policy::Fires,
        text::{PARKED_REASON_BYTES_MAX, bounded},
    },
    definition::Definition,
    error::{Fault, Faults},
    event_log::Level,
    health::{PROBLEM_JOBS_MAX, Problem, ProblemJobs},
    name::{By, JobName},
    note::Attribution,
    port::{
        CATALOGUE_PAGE_MAX, Catalogue, CatalogueChanges, CatalogueError, CataloguePage, CatalogueQuery,
        CatalogueRow, DuePage, DueQuery,
    },
    stored_job::{ScheduleReader, read},
};

/// The pause after a catalogue that panicked while it was waited for.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// After so long the catalogue is looked at for one-shots that are near, if none is known to be near sooner: clocks may
/// step.
const LOOK_FOR_ONE_SHOTS_MAX: Duration = Duration::from_hours(1);
/// What changes within this time of a hint is read together.
const COALESCED: Duration = Duration::from_millis(20);

/// What this node needs to hold stored jobs.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) catalogue: Arc<dyn Catalogue>,
    pub(crate) reader: ScheduleReader,
}

/// What this node knows of the catalogue.
#[derive(Default)]
pub(super) struct Keeping {
    /// It reads the catalogue.
    begun: bool,
    pub(super) machine: Reconciliation,
    /// Somebody on this node waits for a change.
    hurry: Arc<Notify>,
    /// Who goes on once this node knows a version.
    waiting: Vec<(u64, oneshot::Sender<Infallible>)>,
    /// What waits for the next hint.
    hinted: Option<Hinted>,
}

/// A task that waits for a hint. Not a future of the actor's: each message to it would poll that as well.
struct Hinted(JoinHandle<()>);

impl Drop for Hinted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// There was a hint.
#[derive(Message)]
#[rtype(result = "()")]
struct AskCatalogue;

impl Handler<AskCatalogue> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: AskCatalogue, ctx: &mut Context<Self>) {
        self.keep_to_catalogue(ctx);
    }
}

/// What the catalogue answered.
enum Answer {
    Page(CataloguePage),
    Changes(CatalogueChanges),
    Due(DueQuery, DuePage),
}

async fn ask(catalogue: &dyn Catalogue, asked: Ask) -> Result<Answer, CatalogueError> {
    match asked {
        Ask::List { after } => {
            let query = CatalogueQuery { after, one_shots: Some(false), ..CatalogueQuery::default() };
            call(catalogue.list(&query)).await.map(Answer::Page)
        }
        Ask::Changes { after } => {
            call(catalogue.changes(after, CATALOGUE_PAGE_MAX)).await.map(Answer::Changes)
        }
        Ask::Due(query) => {
            let page = call(catalogue.due(&query)).await?;
            Ok(Answer::Due(query, page))
        }
    }
}

/// A call into a catalogue, contained and bounded in time.
pub(super) async fn call<T>(
    called: impl Future<Output = Result<T, CatalogueError>>,
) -> Result<T, CatalogueError> {
    let unavailable = |reason: &str| Err(CatalogueError::Unavailable { reason: reason.to_owned() });
    match caught(async move { timeout(CALL_DEADLINE, called).await }).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => unavailable("not within the deadline"),
        Err(_) => unavailable("its adapter panicked; see the log"),
    }
}

/// Waits until it may be worthwhile to ask again, after a question that failed.
async fn available(catalogue: Arc<dyn Catalogue>) {
    if caught(async { catalogue.available().await }).await.is_err() {
        sleep(ASK_AGAIN).await;
    }
}

/// Waits until it may be worthwhile to ask again, at the latest until one-shots are near.
async fn hint(catalogue: Arc<dyn Catalogue>, after: u64, hurry: Arc<Notify>, near_in: Option<Duration>) {
    let changed = async {
        if caught(async { catalogue.changed(after).await }).await.is_err() {
            sleep(ASK_AGAIN).await;
        }
        sleep(COALESCED).await;
    };
    let hurry = async {
        match near_in {
            // Neither is an error: it is time, or there is somebody in a hurry.
            Some(near_in) => drop(timeout(near_in, hurry.notified()).await),
            None => hurry.notified().await,
        }
    };
    match select(Box::pin(changed), Box::pin(hurry)).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}

impl SupervisorActor {
    /// Begins to keep to the catalogue, if it does not yet. A node without a task can run no stored job, and only
    /// needs the
    /// overrides of its jobs of code.
    pub(super) fn begin_to_keep(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.keeping.begun, true) {
            self.keep_to_catalogue(ctx);
        }
    }

    fn keep_to_catalogue(&self, ctx: &mut Context<Self>) {
        let Some(Stored { catalogue, .. }) = self.parts.stored.clone() else { return };
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.ask_catalogue(catalogue, self.keeping.machine.ask(), ctx);
    }

    fn ask_catalogue(&self, catalogue: Arc<dyn Catalogue>, asked: Ask, ctx: &mut Context<Self>) {
        let answered = async move { ask(&*catalogue, asked).await };
        ctx.spawn(answered.into_actor(self).map(|answer, actor, ctx| actor.on_catalogue(answer, ctx)));
    }

    fn on_catalogue(&mut self, answer: Result<Answer, CatalogueError>, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        match answer {
            Ok(answer) => {
                self.node().failures.succeeded(Operation::Catalogue);
                let has_more = self.take_in(answer, ctx);
                if self.keeping.machine.version().is_some() {
                    self.overrides_known(ctx);
                }
                self.tell_waiting();
                if has_more {
                    return self.keep_to_catalogue(ctx);
                }
                self.keep_to_one_shots(ctx);
            }
            Err(error) => {
                self.node().failures.failed(Operation::Catalogue, &error);
                let Some(Stored { catalogue, .. }) = self.parts.stored.clone() else { return };
                self.ask_catalogue_after(available(catalogue), ctx);
            }
        }
    }

    /// All changes are known: asks for the one-shots that are near, and for nothing before something changes.
    fn keep_to_one_shots(&mut self, ctx: &mut Context<Self>) {
        let Some(Stored { catalogue, .. }) = self.parts.stored.clone() else { return };
        let now = self.node().store_time();
        for job in self.keeping.machine.surplus(now) {
            if self.keeping.machine.forget(&job) {
                self.let_go(&job, None, ctx);
            }
        }
        let near_in = match self.keeping.machine.ask_due(now) {
            AskDue::Now(query) => return self.ask_catalogue(catalogue, Ask::Due(query), ctx),
            AskDue::At(at) => Some((at - now).to_std().unwrap_or_default().min(LOOK_FOR_ONE_SHOTS_MAX)),
            AskDue::Never => None,
        };
        self.keep_to_catalogue_later(near_in, ctx);
    }

    fn keep_to_catalogue_later(&mut self, near_in: Option<Duration>, ctx: &mut Context<Self>) {
        let Some(Stored { catalogue, .. }) = self.parts.stored.clone() else { return };
        let (after, hurry) = (self.keeping.machine.version().unwrap_or_default(), self.keeping.hurry.clone());
        self.ask_catalogue_after(hint(catalogue, after, hurry, near_in), ctx);
    }

    fn ask_catalogue_after(&mut self, awaited: impl Future<Output = ()> + 'static, ctx: &mut Context<Self>) {
        let supervisor = ctx.address().downgrade();
        let hinted = actix::spawn(async move {
            awaited.await;
            if let Some(supervisor) = supervisor.upgrade() {
                supervisor.do_send(AskCatalogue);
            }
        });
        self.keeping.hinted = Some(Hinted(hinted));
    }

    /// Takes in an answer. Answers whether there is more to ask at once.
    fn take_in(&mut self, answer: Answer, ctx: &mut Context<Self>) -> bool {
        let (has_more, (rows, gone)) = match answer {
            Answer::Page(page) => (true, self.keeping.machine.listed(page)),
            Answer::Changes(changes) => {
                let has_more = match &changes {
                    CatalogueChanges::Rows(rows) => rows.len() >= CATALOGUE_PAGE_MAX,
                    CatalogueChanges::Forgotten => true,
                };
                (has_more, self.keeping.machine.changed(changes))
            }
            Answer::Due(query, page) => (false, (self.keeping.machine.due(&query, page), Vec::new())),
        };
        for job in gone {
            if self.keeping.machine.forget(&job) {
                self.let_go(&job, None, ctx);
            }
            self.drop_override(&job, None, ctx);
        }
        self.apply(rows, ctx);
        has_more
    }

    /// Does what the rows say: new jobs together, the others one by one.
    fn apply(&mut self, rows: Vec<CatalogueRow>, ctx: &mut Context<Self>) {
        let mut added: Vec<(CatalogueRow, Definition)> = Vec::new();
        for row in rows {
            if self.take_override(&row, ctx) {
                continue;
            }
            let (read, definition) = self.read_row(&row);
            let act = self.keeping.machine.act(&row.job, &read);
            match (act, definition) {
                (Act::Add, Some(definition)) => {
                    added.push((row, definition));
                    continue;
                }
                (Act::Update, Some(definition)) => {
                    if let Err(error) = self.change_names(&definition) {
                        self.let_go(&row.job, row.changed_by.clone(), ctx);
                        self.stands(&row, blocked(error));
                        continue;
                    }
                    self.update_stored(definition, row.changed_by.clone(), ctx);
                }
                (Act::Remove, _) => self.let_go(&row.job, row.changed_by.clone(), ctx),
                (Act::Add | Act::Update, None) | (Act::Leave, _) => {}
            }
            self.stands(&row, read);
        }
        self.add_stored(added, ctx);
    }

    pub(super) fn update_stored(&mut self, definition: Definition, by: Option<By>, ctx: &mut Context<Self>) {
        match self.update(definition, by, ctx) {
            Ok(job) => {
                ctx.spawn(self.scheduled(vec![job]).map(|_, _, _| ()));
            }
            // It was there a moment ago.
            Err(error) => tracing::error!(target: "callsheet", "{error}"),
        }
    }

    fn add_stored(&mut self, added: Vec<(CatalogueRow, Definition)>, ctx: &mut Context<Self>) {
        if added.is_empty() {
            return;
        }
        let by = if added.len() == 1 { added[0].0.changed_by.clone() } else { None };
        let mut definitions: Vec<Definition> = Vec::with_capacity(added.len());
        for (row, mut definition) in added {
            if let Err(error) = self.take_names(slice::from_ref(&definition)) {
                self.stands(&row, blocked(error));
                continue;
            }
            // Many jobs have the policies of the one before.
            if let Some(before) = definitions.last().filter(|before| before.policies == definition.policies) {
                definition.policies = before.policies.clone();
            }
            self.stands(&row, Read::Runnable);
            definitions.push(definition);
        }
        // That time has passed is no reason not to hold it: the store knows what was due.
        self.note_over(&definitions);
        let jobs = self.add(definitions, by, ctx);
        ctx.spawn(self.scheduled(jobs).map(|_, _, _| ()));
    }

    pub(super) fn stands(&mut self, row: &CatalogueRow, read: Read) {
        let standing = match read {
            Read::Runnable => Standing::Held,
            Read::Disabled => Standing::Disabled,
            Read::Overrides => Standing::Overrides,
            Read::Unusable(reason) => Standing::Parked(reason),
            Read::Blocked(reason) => Standing::Blocked(reason),
        };
        if let Standing::Parked(reason) | Standing::Blocked(reason) = &standing
            && let Ok(name) = JobName::new(&row.job)
        {
            let line = format_args!("stored job {name} is parked: {reason}");
            self.node().publisher.log("parked stored job", Level::Warn, &name, &line);
        }
        self.keeping.machine.stands(row, standing);
    }

    /// This node holds a stored job no more.
    pub(super) fn let_go(&mut self, job: &str, by: Option<By>, ctx: &mut Context<Self>) {
        let Ok(name) = JobName::new(job) else { return };
        self.remove_named(&[name], &Attribution { by, note: None }, ctx);
    }

    /// What stands in a row, and the job, if this node can run it.
    fn read_row(&self, row: &CatalogueRow) -> (Read, Option<Definition>) {
        match self.readable(row) {
            Ok(Some(definition)) => (Read::Runnable, Some(definition)),
            Ok(None) => (Read::Disabled, None),
            Err(read) => (read, None),
        }
    }

    fn readable(&self, row: &CatalogueRow) -> Result<Option<Definition>, Read> {
        let name = JobName::new(&row.job).map_err(unusable)?;
        let definition = row.definition.as_deref().ok_or_else(|| unusable("it was deleted"))?;
        let (definition, enabled) = self.read_stored(&name, definition).map_err(unusable)?;
        let held = self.keeping.machine.is_held(&row.job);
        if self.jobs.contains_key(&name) && !held {
            return Err(blocked(format_args!(
                "a job of code has the name {name} on this node; delete the stored one, or rename one of them"
            )));
        }
        if !enabled {
            return Ok(None);
        }
        let checked = if held {
            self.check_update(&definition, Vec::new()).map_err(blocked)
        } else {
            self.check(slice::from_ref(&definition), Vec::new()).map_err(blocked)
        };
        checked.map(|()| Some(definition))
    }

    /// Reads a definition as the catalogue keeps it: the job, and whether it is to run.
    pub(super) fn read_stored(&self, name: &JobName, definition: &str) -> Result<(Definition, bool), Faults> {
        let fault = |rule: &str, cure: &str| Faults::from(Fault::new("definition", definition, rule, cure));
        let Some(stored) = &self.parts.stored else {
            return Err(fault("there is no catalogue", "use a store that keeps jobs"));
        };
        let (now, tasks) = (self.node().clock.now(), &self.parts.tasks);
        // Schedules of data are made by code that the engine does not know.
        let read = unharmed(|| {
            let (job, enabled) = read(name.as_str(), definition, &stored.reader)?;
            let definition = job.define(now, &mut None, Some(tasks))?;
            check_removal(&definition)?;
            Ok((definition, enabled))
        });
        read.unwrap_or_else(|| {
            Err(fault("reading it panicked", "mend the types that read it, or delete the job"))
        })
    }

    /// Resolves when this node knows a version of the catalogue.
    pub(super) fn await_version(&mut self, version: u64) -> oneshot::Receiver<Infallible> {
        let (sender, receiver) = oneshot::channel();
        if self.keeping.machine.version() < Some(version) {
            self.keeping.waiting.retain(|(_, sender)| !sender.is_closed());
            self.keeping.waiting.push((version, sender));
            self.keeping.hurry.notify_one();
        }
        receiver
    }

    /// A name or a key of this node is free: a stored job may have waited for it.
    pub(super) fn read_blocked_again(&mut self) {
        if self.keeping.machine.read_blocked_again() {
            self.keeping.hurry.notify_one();
        }
    }

    fn tell_waiting(&mut self) {
        let known = self.keeping.machine.version();
        // Whoever waits hears that his sender is gone.
        self.keeping.waiting.retain(|(version, _)| known < Some(*version));
    }

    /// The stored jobs that this node cannot run.
    pub(super) fn stored_problem(&self) -> Option<Problem> {
        let count = self.keeping.machine.parked().count();
        // Whoever edits the store by hand may write a name that is none.
        let names = self.keeping.machine.parked().filter_map(|(job, _)| JobName::new(job).ok());
        let first = names.take(PROBLEM_JOBS_MAX).collect();
        (count > 0).then_some(Problem::StoredParked { jobs: ProblemJobs { first, count } })
    }
}

/// Whoever sees the last run of a job end deletes it for all nodes: of a job that fires on any node, the others may
/// still
/// have a run.
fn check_removal(definition: &Definition) -> Result<(), Fault> {
    let fires = definition.policies.fires;
    if !definition.remove_when_done || fires == Fires::Leader {
        return Ok(());
    }
    let rule = "a stored job that is removed when it is done fires on the leader";
    let fault = Fault::new("policies.fires", fires.to_string(), rule, "leave policies.fires out");
    Err(fault.within(&format!("job {:?}", definition.name.as_str())))
}

pub(super) fn unusable(reason: impl ToString) -> Read {
    Read::Unusable(bounded(reason.to_string(), PARKED_REASON_BYTES_MAX).into())
}

fn blocked(reason: impl ToString) -> Read {
    Read::Blocked(bounded(reason.to_string(), PARKED_REASON_BYTES_MAX).into())
}
