//! What the other actors report, and which chapter sees to it.
//!
//! Nothing is decided here: each report goes to the chapter that knows its subject.

use actix::prelude::*;

use super::{Phase, SupervisorActor, pausing::StopJob};
use crate::{
    election::{self, StandAside, TermRefused},
    job::{self, JobReport},
    lock,
};

impl Handler<JobReport> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, JobReport { job, report }: JobReport, ctx: &mut Self::Context) {
        let name = &job.definition.name;
        match report {
            job::Report::Died(snapshot) => self.on_died(&job, snapshot, ctx),
            job::Report::Retired => drop(self.retiring.remove(&(name.clone(), job.generation))),
            job::Report::Left => self.on_left(name, job.generation, ctx),
            job::Report::Done => self.on_done(&job, ctx),
            job::Report::ScheduleBroken { cursor, breach } => {
                self.on_schedule_broken(&job, cursor, breach, ctx)
            }
            job::Report::Stop(pause) => {
                let stop = StopJob::new(name.clone(), pause, self.node().seed());
                self.handle(stop, ctx);
            }
            job::Report::ResignWanted if matches!(self.phase, Phase::Running) => {
                self.parts.election.do_send(StandAside);
            }
            job::Report::ResignWanted => {}
            job::Report::AlarmNoted => self.look_at_alarm_now(&job, ctx),
            job::Report::CatchesUp => self.give_turns(ctx),
            job::Report::Undelivered(message) => self.on_undelivered(&job, message),
        }
    }
}

impl Handler<lock::Report> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, report: lock::Report, ctx: &mut Self::Context) {
        match report {
            lock::Report::SessionOpened => self.on_session_opened(ctx),
            lock::Report::SessionLost => self.on_session_lost(),
            lock::Report::StoreClockMoved => self.on_store_clock_moved(ctx),
            lock::Report::Deposed(term) => self.parts.election.do_send(TermRefused(term)),
            lock::Report::RunsLost(lost) => self.on_runs_lost(&lost),
            lock::Report::TakenByLeader(job) => self.leave_to_leader(&job, ctx),
            lock::Report::UnknownToStore(job) => self.on_unknown_to_store(job, ctx),
            lock::Report::Refused { job, reason, step } => self.park(&job, reason, step, ctx),
            lock::Report::Taken(job) => self.on_taken(&job),
            lock::Report::PauseChanged { job, pause } => self.on_pause_changed(&job, pause),
            lock::Report::BackfillsChanged => self.look_at_backfills(ctx),
            lock::Report::NotificationsLagged => self.on_notifications_lagged(ctx),
            lock::Report::PendingRetry(pending) => self.on_pending_retries([pending]),
        }
    }
}

impl Handler<election::Report> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, report: election::Report, ctx: &mut Self::Context) {
        match report {
            election::Report::LeadershipChanged(term) => self.on_leadership_changed(term, ctx),
            election::Report::StoreClockMoved => self.on_store_clock_moved(ctx),
            election::Report::Died(term) => self.on_election_died(term, ctx),
        }
    }
}
