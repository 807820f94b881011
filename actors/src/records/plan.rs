//! From requests to units: the rules run on a cut, and what they changed is to be committed.

use std::sync::Arc;

use super::{
    format::PendingRow,
    notices::hint_of,
    request::{Answer, Needs, Request},
    rounds::{Group, Round, bytes_of, groups},
    shared::{Leader, session_of},
};
use crate::{
    core::ledger::{FloorRow, NameRow},
    name::Term,
    port::{
        Change, PendingRetry, RecordChange, RecordKind, RecordLimits, RecordName, RecordsError, Session,
        Unit, Version,
    },
};

/// A unit, and what follows if it is made.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) answers: Vec<(usize, Answer)>,
    pub(super) unit: Unit,
    /// The records of the unit, in their order: names, and then pending retries, with what they hold then; `None`:
    /// as before.
    pub(super) names: Vec<(Arc<str>, Option<NameRow>)>,
    pub(super) pending: Vec<(Arc<str>, Option<PendingRow>)>,
    pub(super) asks_leader: bool,
    pub(super) rests_on_floor: bool,
}

impl Planned {
    fn bytes(&self) -> usize {
        let of = |change: &RecordChange| match &change.change {
            Change::Put(bytes) => bytes.len(),
            Change::Keep | Change::Delete => 0,
        };
        self.unit.records.iter().map(of).sum()
    }
}

impl Needs {
    pub(super) fn size(&self) -> usize {
        self.names.len() + self.pending.len()
    }
}

/// Units, as many at once as a store takes.
pub(super) fn chunks(planned: Vec<Planned>, limits: &RecordLimits) -> Vec<Vec<Planned>> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    let (mut records, mut bytes) = (0, 0);
    for planned in planned {
        let (more_records, more_bytes) = (planned.unit.records.len(), planned.bytes());
        let full = chunk.len() == limits.units
            || records + more_records > limits.commit_records
            || bytes + more_bytes > limits.commit_bytes;
        if full && !chunk.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            (records, bytes) = (0, 0);
        }
        (records, bytes) = (records + more_records, bytes + more_bytes);
        chunk.push(planned);
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

impl Round<'_> {
    /// Runs the rules on what is cached.
    pub(super) fn plan(&mut self, open: &[usize]) -> Result<Vec<Planned>, RecordsError> {
        // One more record may be compared: the floor.
        let most = self.shared.records.limits().unit_records.saturating_sub(1);
        let needs: Vec<_> = open.iter().map(|at| (*at, self.all_needs(*at))).collect();
        groups(needs.into_iter(), most).into_iter().map(|group| self.plan_group(group)).collect()
    }

    fn plan_group(&mut self, group: Group) -> Result<Planned, RecordsError> {
        let Group { requests, needs } = group;
        self.begin(&needs);
        let now = self.shared.clock.now();
        let session = session_of(self.session);
        let mut planned = Planned::default();
        for at in requests {
            let request = self.request(at);
            if let Request::End(end) = request
                && self.core.cache.unanswered.contains(&end.run)
            {
                self.core.ledger.load_ended(end.run, end.token);
            }
            planned.asks_leader |= request.asks_leader();
            self.core.ledger.hold(self.hold.as_ref().and_then(|hold| hold.wait(request)));
            planned.answers.push((at, request.apply(&mut self.core.ledger, session, now)));
        }
        let told = self.core.ledger.take_told_of_cut();
        planned.unit.hints =
            told.iter().filter_map(|(to, said)| hint_of(&self.core.ledger, *to, said)).collect();
        for name in needs.names {
            self.plan_name(&mut planned, name)?;
        }
        for job in needs.pending {
            self.plan_pending(&mut planned, job)?;
        }
        if planned.rests_on_floor {
            let version = self.core.cache.floor.as_ref().map_or(Version::ABSENT, |floor| floor.version);
            let name = RecordName::only(RecordKind::Floor);
            planned.unit.records.push(RecordChange { name, version, change: Change::Keep });
        }
        Ok(planned)
    }

    /// Loads a cut.
    pub(super) fn begin(&mut self, needs: &Needs) {
        let leader = self.leader.as_ref();
        let (newest, led) = leader.map_or((Term(0), false), |leader| (leader.term(), leader.alive));
        let of_other = leader.and_then(Leader::lives) != self.shared.own_term(newest);
        let floor = self.core.cache.floor.as_ref().map_or(FloorRow::default(), |floor| floor.row);
        let (cache, ledger) = (&self.core.cache, &mut self.core.ledger);
        ledger.begin_cut(newest, led, &floor);
        ledger.led_by_other(of_other);
        ledger.load_live(session_of(self.session));
        for name in &needs.names {
            let Some(cached) = cache.names.get(&**name) else { continue };
            ledger.load(name, &cached.row);
            if !cached.row.has_job()
                && let Some(seen) = cache.seen.get(&**name)
            {
                ledger.load_seen(name, *seen);
            }
            let holder = cached.row.holder(name).map(|(session, ..)| session);
            if let Some(holder) = holder
                && let Some(Some(node)) = cache.nodes.get(&holder.0)
            {
                ledger.load_node(holder, *node);
            }
            for Session(session) in holder.into_iter().chain(cached.row.declared_by()) {
                if self.alive.contains(&session) {
                    ledger.load_live(Session(session));
                }
            }
        }
        for job in &needs.pending {
            if let Some(cached) = cache.pending.get(&**job) {
                ledger.load_retries(job, cached.row.retries.iter().map(PendingRetry::from));
            }
        }
    }

    fn plan_name(&mut self, planned: &mut Planned, name: Arc<str>) -> Result<(), RecordsError> {
        let cache = &self.core.cache;
        let (version, before) = match cache.names.get(&*name) {
            Some(cached) => (cached.version, cached.row.clone()),
            None => (Version::ABSENT, NameRow::default()),
        };
        let after = self.core.ledger.row(&name, &before);
        let changed = after != before || cache.doubtful.contains(&name);
        let change = if changed { Change::Put(bytes_of(&after)?) } else { Change::Keep };
        // Of a name that was forgotten nothing counts again. A job may be made under a name that was only a key's.
        let creates = !version.is_present() || (!before.has_job() && after.has_job());
        planned.rests_on_floor |= changed && creates;
        let record = RecordName::new(RecordKind::Name, name.clone());
        planned.unit.records.push(RecordChange { name: record, version, change });
        planned.names.push((name, changed.then_some(after)));
        Ok(())
    }

    fn plan_pending(&mut self, planned: &mut Planned, job: Arc<str>) -> Result<(), RecordsError> {
        let (version, before) = match self.core.cache.pending.get(&*job) {
            Some(cached) => (cached.version, cached.row.clone()),
            None => (Version::ABSENT, PendingRow::default()),
        };
        let retries = self.core.ledger.retries_of(&job).iter().map(Into::into).collect();
        let after = PendingRow { retries };
        let changed = after != before;
        let change = match (changed, after.retries.is_empty()) {
            (false, _) => Change::Keep,
            (true, true) => Change::Delete,
            (true, false) => Change::Put(bytes_of(&after)?),
        };
        let record = RecordName::new(RecordKind::Pending, job.clone());
        planned.unit.records.push(RecordChange { name: record, version, change });
        planned.pending.push((job, changed.then_some(after)));
        Ok(())
    }
}
