//! Enrolments of jobs, and the policies that they declare for their keys.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use callsheet_actors::{
    LockKey,
    port::{Enrolled, Enrolment, LockError},
};
use futures_util::future::join;
use tokio::time::{Instant, sleep};

use super::{
    pauses::{CHANGE_TIMEOUT, LOCKED_MAX, LOCKED_MIN},
    session::{OpenSession, StatementError},
    statement::{
        answer::read,
        declare::{self, Declarations, Retracted},
        enrol::{self, Enrolments, other_key},
        names::Keys,
    },
};

impl OpenSession {
    pub(super) async fn enrol(self: &Arc<Self>, jobs: &[&Enrolment]) -> Result<Vec<Enrolled>, LockError> {
        let asked = Enrolments::of(self.asker(), jobs);
        let asked = asked.list();
        let keyed: Vec<_> = jobs.iter().copied().filter(|job| other_key(job).is_some()).collect();
        // Sent together: nothing of this node comes between.
        let (contradicted, rows) = join(self.declare(&keyed), self.ask(&self.statements.enrol, &asked)).await;
        let contradicted = contradicted?;
        let enrolled: HashMap<_, _> = read(&rows?, enrol::enrolled)?.into_iter().collect();
        let answer = |job: &&Enrolment| match enrolled.get(job.job.as_str()) {
            Some(Some(answer)) => answer.clone(),
            Some(None) => match contradicted.get(job.key.as_str()) {
                Some(declared) => Enrolled::Conflict { declared: declared.clone() },
                None => Enrolled::Locked,
            },
            None => Enrolled::Locked,
        };
        Ok(jobs.iter().map(answer).collect())
    }

    /// Declares the policies of keys that are not the names of their jobs. Answers those that contradict, by
    /// key.
    async fn declare(
        self: &Arc<Self>,
        jobs: &[&Enrolment],
    ) -> Result<HashMap<String, String>, StatementError> {
        if jobs.is_empty() {
            return Ok(HashMap::new());
        }
        let declarations = Declarations::of(self.asker(), jobs);
        let keys = Keys::of(self.asker(), jobs.iter().map(|job| job.key.as_str()).collect());
        let (keys, declarations) = (keys.list(), declarations.list());
        // Sent together.
        let (made, contradicted) = join(
            self.ask(&self.statements.make_keys, &keys),
            self.ask(&self.statements.declare, &declarations),
        )
        .await;
        match made {
            // Somebody else is making one of them, and was waited for in vain: those that are missing are
            // asked again.
            Err(error) if error.is_lock_timeout() => {}
            made => drop(made?),
        }
        Ok(read(&contradicted?, declare::contradicted)?.into_iter().collect())
    }

    /// Until the row of each key could be changed.
    pub(super) async fn retract(self: &Arc<Self>, keys: &[LockKey]) -> Result<(), LockError> {
        let until = Instant::now() + self.settings.trust().min(CHANGE_TIMEOUT);
        let mut open: HashSet<_> = keys.iter().map(LockKey::as_str).collect();
        let mut wait = LOCKED_MIN;
        loop {
            let asked = Retracted::of(self.asker(), open.iter().copied().collect());
            let rows = self.ask(&self.statements.retract, &asked.list()).await?;
            for retracted in read(&rows, declare::retracted)? {
                open.remove(retracted.as_str());
            }
            if open.is_empty() {
                return Ok(());
            }
            // Somebody else has locked the others.
            if Instant::now() + wait >= until {
                return Err(LockError::Timeout);
            }
            sleep(wait).await;
            wait = (wait * 2).min(LOCKED_MAX);
        }
    }
}
