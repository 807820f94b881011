//! Whether this server knows what a node was granted before, perhaps by another one: a standby that is
//! promoted may lack the last commits of its primary, and goes on with another history of the same terms and
//! tokens.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    RunId, Term,
    port::{DivergedRun, Divergence, GrantedRun, KnownHistory, LockError},
};
use tokio_postgres::{Error, Row, types::ToSql};
use uuid::Uuid;

use super::{
    session::OpenSession,
    statement::{answer::read, number},
};

/// How many runs that ended, of all scopes, are looked at: the newest ones. It bounds what is read.
const NEWER_MAX: i64 = 10_000;

/// How long the server may look: the claims of this session wait for it.
const COMPARE_MAX: Duration = Duration::from_millis(250);

/// What the server says of one run.
#[derive(Debug, Clone, Copy, Default)]
struct Compared {
    unknown: bool,
    missing: bool,
    token_also: Option<RunId>,
    tick_also: Option<RunId>,
}

impl Compared {
    /// Whether it was granted by another history.
    fn is_elsewhere(&self) -> bool {
        self.unknown || self.token_also.is_some() || self.tick_also.is_some()
    }

    fn add(&mut self, other: Self) {
        self.unknown |= other.unknown;
        self.missing |= other.missing;
        self.token_also = self.token_also.or(other.token_also);
        self.tick_also = self.tick_also.or(other.tick_also);
    }
}

/// The runs that the server does not know. A server that was promoted lacks the last commits, so it lacks no
/// run that was granted before the oldest of another history. By itself a missing run shows nothing: rows of
/// runs may be deleted.
fn diverged(runs: &[GrantedRun], compared: &[Compared]) -> Vec<DivergedRun> {
    let lacking = runs.iter().zip(compared).skip_while(|(_, compared)| !compared.is_elsewhere());
    let lacking = lacking.filter(|(_, compared)| compared.is_elsewhere() || compared.missing);
    let named = lacking.map(|(granted, compared)| {
        let mut unknown = DivergedRun::new(granted);
        (unknown.token_also, unknown.tick_also) = (compared.token_also, compared.tick_also);
        unknown
    });
    named.collect()
}

/// One row: the place of the run, what is said of it, and the epoch.
fn said(row: &Row) -> Result<(Option<usize>, Compared, Option<Term>), Error> {
    let run = |column| row.try_get::<_, Option<Uuid>>(column).map(|run| run.map(RunId::from));
    let compared = Compared {
        unknown: row.try_get("unknown")?,
        missing: row.try_get("missing")?,
        token_also: run("token_also")?,
        tick_also: run("tick_also")?,
    };
    let (ord, epoch): (Option<i64>, Option<i64>) = (row.try_get("ord")?, row.try_get("epoch")?);
    let place = ord.and_then(|ord| usize::try_from(ord - 1).ok());
    Ok((place, compared, epoch.map(|epoch| Term(epoch.unsigned_abs()))))
}

impl OpenSession {
    pub(super) async fn compare(self: &Arc<Self>, known: &KnownHistory) -> Result<Divergence, LockError> {
        let KnownHistory { term, runs } = known;
        let jobs: Vec<_> = runs.iter().map(|run| run.job.as_str()).collect();
        let keys: Vec<_> = runs.iter().map(|run| run.key.as_str()).collect();
        let ids: Vec<_> = runs.iter().map(|run| run.run.as_uuid()).collect();
        let tokens: Vec<_> = runs.iter().map(|run| i64::try_from(run.token.0).unwrap_or(-1)).collect();
        let fire_times: Vec<_> = runs.iter().map(|run| run.fire_time.map(|at| at.instant())).collect();
        let (scope, term) = (&self.settings.scope, term.map(number));
        let parameters: [&(dyn ToSql + Sync); 8] =
            [scope, &term, &jobs, &keys, &ids, &tokens, &fire_times, &NEWER_MAX];
        let rows = self.ask_within(COMPARE_MAX, &self.statements.compare, &parameters).await?;
        let (mut compared, mut epoch) = (vec![Compared::default(); runs.len()], None);
        for (place, of_run, newest) in read(&rows, said)? {
            epoch = epoch.or(newest);
            if let Some(before) = place.and_then(|place| compared.get_mut(place)) {
                before.add(of_run);
            }
        }
        Ok(Divergence { term: epoch, runs: diverged(runs, &compared) })
    }
}
