//! What a node knows while it leads: decided here, without I/O.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use foldhash::HashMap;
use tokio::time::Instant;

use super::OnUnproven;
use crate::{
    core::due_ticks::{DecidedTo, DueTicks},
    name::{JobName, Term},
    port::{Handover, LeaderSaid, Lease},
};

/// Whether this node leads.
#[derive(Debug, Default)]
pub(super) enum Lead {
    /// It does not.
    #[default]
    No,
    /// It does.
    Leads(Leading),
    /// It starts nothing more, and keeps the term until its runs have ended.
    Resigning(Resigning),
}

#[derive(Debug)]
pub(super) struct Leading {
    pub(super) term: Term,
    pub(super) lease: Option<Lease>,
    /// `None`: for ever.
    pub(super) trusted_until: Option<Instant>,
    /// No tick after this instant is granted.
    pub(super) starts_to: DateTime<Utc>,
    /// So far beyond a renewal ticks are granted; `None`: for ever.
    pub(super) reach: Option<Duration>,
    /// What another leader left; `None`: nothing.
    pub(super) before: Option<Arc<Before>>,
    /// What is known to be decided until all jobs are enrolled. What is said later is never earlier.
    pub(super) known: DecidedTo,
    /// The newest tick that was granted in the term.
    pub(super) granted: Option<DateTime<Utc>>,
    /// Every job of this node is enrolled under the term.
    pub(super) all_enrolled: bool,
}

#[derive(Debug)]
pub(super) struct Resigning {
    pub(super) term: Term,
    pub(super) lease: Option<Lease>,
    pub(super) trusted_until: Option<Instant>,
    pub(super) handover: Handover,
}

/// What another leader left. It counts until again another one leaves something: a node that wins twice in a row may
/// have enrolled, and decided, a part of its jobs only.
#[derive(Debug)]
pub(super) struct Before {
    /// `None`: it is not known.
    decided_to: Option<DateTime<Utc>>,
    behind: HashMap<JobName, DateTime<Utc>>,
    starts_to: Option<DateTime<Utc>>,
}

impl Before {
    /// Nothing is known but that others may have led until now.
    pub(super) fn unknown(now: DateTime<Utc>) -> Self {
        Self { decided_to: None, behind: HashMap::default(), starts_to: Some(now) }
    }

    pub(super) fn of(handover: &Handover) -> Self {
        Self {
            decided_to: Some(handover.decided_to),
            behind: handover.behind.iter().cloned().collect(),
            starts_to: handover.starts_to,
        }
    }

    /// Up to when the ticks of a job are decided.
    pub(super) fn decided_to(&self, job: &JobName) -> Option<DateTime<Utc>> {
        let before = |tick: &DateTime<Utc>| tick.checked_sub_signed(TimeDelta::milliseconds(1));
        self.behind.get(job).map_or(self.decided_to, before)
    }

    /// Up to when ticks that are not decided are skipped.
    pub(super) fn unproven_to(&self, on_unproven: OnUnproven) -> Option<DateTime<Utc>> {
        match on_unproven {
            OnUnproven::Skip => self.starts_to,
            OnUnproven::Run => None,
        }
    }
}

impl Lead {
    pub(super) fn leads(&self, term: Term) -> Option<&Leading> {
        match self {
            Self::Leads(leading) if leading.term == term => Some(leading),
            Self::Leads(_) | Self::Resigning(_) | Self::No => None,
        }
    }

    pub(super) fn leads_mut(&mut self, term: Term) -> Option<&mut Leading> {
        match self {
            Self::Leads(leading) if leading.term == term => Some(leading),
            Self::Leads(_) | Self::Resigning(_) | Self::No => None,
        }
    }

    /// Whether it leads, and starts what is due.
    pub(super) fn is_leading(&self) -> bool {
        match self {
            Self::Leads(_) => true,
            Self::Resigning(_) | Self::No => false,
        }
    }

    /// Up to when whatever was granted may be started; `None`: for ever.
    pub(super) fn trusted_until(&self) -> Option<Instant> {
        match self {
            Self::No => None,
            Self::Leads(Leading { trusted_until, .. }) | Self::Resigning(Resigning { trusted_until, .. }) => {
                *trusted_until
            }
        }
    }

    /// Whether another node may lead by now.
    pub(super) fn is_distrusted(&self) -> bool {
        self.trusted_until().is_some_and(|until| until <= Instant::now())
    }
}

impl Leading {
    /// What the next leader is to know if this one dies, and up to when ticks are granted once that is stored. Until
    /// then none is granted beyond it: after the clock was set back it is earlier than before.
    pub(super) fn handover(
        &mut self,
        now: DateTime<Utc>,
        ticks: &DueTicks,
        said: LeaderSaid,
    ) -> (Handover, DateTime<Utc>) {
        let granted_to = starts_to(now, self.reach);
        self.starts_to = self.starts_to.min(granted_to);
        let DecidedTo { instant, behind, .. } = self.decided_to(now, ticks);
        // A leader before may have started more, and so may this one before its clock was set back.
        let starts_to = [self.former_starts_to(), self.granted, Some(self.known.instant), Some(granted_to)];
        let starts_to = starts_to.into_iter().flatten().max();
        let handover = Handover { term: self.term, decided_to: instant, behind, starts_to, said };
        (handover, granted_to)
    }

    /// What the next leader is to know when this one starts nothing more.
    pub(super) fn last_handover(
        &mut self,
        now: DateTime<Utc>,
        ticks: &DueTicks,
        said: LeaderSaid,
    ) -> Handover {
        let is_exact = self.all_enrolled && !self.decided_to(now, ticks).is_early;
        let (handover, _) = self.handover(now, ticks, said);
        if !is_exact {
            return handover;
        }
        // What a leader before may have started, and nobody has decided.
        let is_open = |to: &DateTime<Utc>| {
            *to > handover.decided_to || handover.behind.iter().any(|(_, tick)| tick <= to)
        };
        let starts_to = self.former_starts_to().filter(is_open).max(self.granted_beyond(handover.decided_to));
        Handover { starts_to, ..handover }
    }

    /// The newest tick that was granted, if it is later than what is decided: the clock was set back.
    fn granted_beyond(&self, decided_to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.granted.filter(|granted| *granted > decided_to)
    }

    fn former_starts_to(&self) -> Option<DateTime<Utc>> {
        self.before.as_ref().and_then(|before| before.starts_to)
    }

    /// It never goes back, whatever the clocks say: a leader before may have decided more by a clock that is ahead.
    fn decided_to(&mut self, now: DateTime<Utc>, ticks: &DueTicks) -> DecidedTo {
        if !self.all_enrolled {
            return self.known.clone();
        }
        let decided = ticks.decided_to(now.max(self.known.instant));
        self.known.instant = self.known.instant.max(decided.instant);
        decided
    }
}

/// Up to when a term that is renewed now may start ticks.
pub(super) fn starts_to(now: DateTime<Utc>, reach: Option<Duration>) -> DateTime<Utc> {
    let reach = reach.and_then(|reach| TimeDelta::from_std(reach).ok());
    reach.and_then(|reach| now.checked_add_signed(reach)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Up to when a term that was asked for, or renewed, then is trusted; `None`: for ever.
pub(super) fn trusted_until(started: Instant, lease: Option<Lease>) -> Option<Instant> {
    let Lease { duration, margin } = lease?;
    Some(crate::deadline::after(started, duration.saturating_sub(margin)))
}
