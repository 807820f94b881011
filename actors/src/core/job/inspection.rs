//! What others may know of a job's machine: it decides nothing here.

use chrono::{DateTime, Utc};

use super::{ActiveRun, JobMachine, LastRun, Mode, Timer};
use crate::{core::time::FireTime, name::RunId, port::Pause};

impl JobMachine {
    /// The first tick that is not decided yet, while this node decides the ticks.
    pub(crate) fn next_fire_time(&self) -> Option<FireTime> {
        let waiting = self.backlog.front().map(|waiting| waiting.tick);
        waiting.or(self.cursor.next).filter(|_| self.mode != Mode::Dormant)
    }

    /// The tick that the store is asked to decide, and whether it was in vain so far: the store refused, did
    /// not answer, or somebody else has the row locked.
    pub(crate) fn asked_tick(&self) -> Option<(FireTime, bool)> {
        let tick = self.asked.tick().filter(|_| self.mode != Mode::Dormant)?;
        Some((tick, self.asked.is_in_vain()))
    }

    /// The store has not answered, or not decided, what it was asked last.
    pub(crate) fn asks_in_vain(&self) -> bool {
        self.asked.is_in_vain()
    }

    /// The instant up to which every tick is decided, or asked about: whoever fires the job after this node
    /// goes on from there. `None` if what follows is known only at the end of a run.
    pub(crate) fn left_after(&self) -> Option<DateTime<Utc>> {
        let is_open = !self.runs.active.is_empty() || self.cursor.anchoring || self.asked.claim().is_some();
        if self.schedule.counts_from_completion() && is_open {
            return None;
        }
        let asked = self.asked.tick().map(FireTime::instant);
        [Some(self.cursor.stored), asked, self.cursor.restart_from].into_iter().flatten().max()
    }

    /// The runs in progress, in the order in which they started.
    pub(crate) fn active_runs(&self) -> impl ExactSizeIterator<Item = &ActiveRun> {
        self.runs.active.iter()
    }

    /// The runs in progress, and those that the store is being asked for.
    pub(crate) fn open_runs(&self) -> impl Iterator<Item = RunId> {
        let tick = self.asked.claim().map(|asked| asked.run);
        self.runs.active.iter().map(|run| run.run).chain(tick).chain(self.unscheduled.open_runs())
    }

    /// Whether a run is in progress here, or is to start here.
    pub(crate) fn knows(&self, run: RunId) -> bool {
        self.runs.has(run) || self.waits_unscheduled(run)
    }

    /// The store refuses the job for its data, and this node skips its ticks.
    pub(crate) fn is_parked(&self) -> bool {
        matches!(self.mode, Mode::Parked { .. })
    }

    /// The first tick that was granted and waits for a permit to start.
    pub(crate) fn granted_tick(&self) -> Option<FireTime> {
        self.runs.active.iter().filter(|run| !run.begun).filter_map(|run| run.tick).min()
    }

    /// The last runs that ended on this node, the newest first, at most [`HISTORY_MAX`](super::history::HISTORY_MAX).
    pub(crate) fn last_runs(&self) -> impl Iterator<Item = &LastRun> {
        self.runs.history.runs()
    }

    /// How many of the last runs in a row failed, panicked or timed out.
    pub(crate) fn failures(&self) -> u32 {
        self.runs.history.failures()
    }

    /// How many ticks and triggers wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.backlog.len() + self.unscheduled_waiting()
    }

    /// Why the job does not fire, if it is paused.
    pub(crate) fn pause(&self) -> Option<&Pause> {
        self.pause.current.as_deref()
    }

    /// As many ticks have run as may.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.cursor.exhausted
    }

    /// This node decides the job's ticks, all of them are decided, and nothing of the job is in progress or
    /// waits here. If its lost runs are to go on, nor is anything elsewhere: whoever lets go of the job lets
    /// go of what it owes.
    pub(crate) fn is_done(&self) -> bool {
        let decides = matches!(self.mode, Mode::Firing(_)) && self.asked.is_nothing();
        // What was skipped is accounted for by the store first.
        let is_written =
            !self.timers.is_set(Timer::Flush) && self.cursor.restart_from.is_none() && !self.cursor.anchoring;
        let waits = !self.backlog.is_empty() || !self.unscheduled.pending_retries.is_empty();
        // The store says nothing of the runs of others, nor of those that were lost and are not closed yet.
        let all_ended = !self.retries_lost() || self.cursor.all_ended == Some(self.cursor.stored);
        decides && !self.cursor.has_next() && is_written && !waits && self.is_idle() && all_ended
    }

    /// The cursor as the store knows it.
    pub(crate) fn cursor(&self) -> DateTime<Utc> {
        self.cursor.stored
    }

    /// Whether this node decides the ticks.
    pub(crate) fn fires(&self) -> bool {
        matches!(self.mode, Mode::Firing(_))
    }

    /// Nothing runs and no claim is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.runs.active.is_empty() && self.unscheduled.queue.is_empty() && self.asked.claim().is_none()
    }

    /// Nothing runs, and nothing that the store is about to answer can make something run. A claim that got
    /// no answer does not count: the end of the session settles it.
    pub(crate) fn is_drained(&self) -> bool {
        let tick = self.asked.claim().is_some() && !self.timers.is_set(Timer::AskAgain);
        self.runs.active.is_empty() && !self.unscheduled.is_asked() && !tick
    }
}
