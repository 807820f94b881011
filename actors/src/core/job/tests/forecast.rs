//! The ticks that are to come, as far as they are known.

use super::*;

fn times(times: &[&str]) -> Vec<FireTime> {
    times.iter().map(|time| FireTime::new(at(time))).collect()
}

#[test]
fn the_next_fire_times_are_known_wherever_the_job_fires() {
    let mut job = hourly();
    let dormant = Rehearsal::dormant(Period::hours(1), Policies::default());
    for (count, known) in [(0, &[][..]), (1, &["01:00"]), (3, &["01:00", "02:00", "03:00"])] {
        assert_eq!(job.machine.upcoming(at("00:40"), count), times(known));
        assert_eq!(dormant.machine.upcoming(at("00:40"), count), times(known));
    }

    // A tick that waits comes first.
    job.step("00:59:30", Input::Pause(for_now()));
    job.step("01:00", Input::WakeUp);

    assert_eq!(job.machine.upcoming(at("01:10"), 2), times(&["01:00", "02:00"]));
}

#[test]
fn of_what_counts_from_the_end_of_runs_one_tick_is_known_ahead() {
    let schedule = || Moody { period: 3_600_000, from_end: true, panics: Arc::default() };
    let job = Rehearsal::new(schedule(), Policies::default());

    assert_eq!(job.machine.upcoming(at("00:40"), 3), times(&["01:30"]));
}

#[test]
fn a_schedule_that_breaks_its_contract_has_no_next_fire_time() {
    let job = Rehearsal::dormant(Stuck(at("00:10")), Policies::default());

    assert_eq!(job.machine.upcoming(at("00:40"), 3), []);
    assert!(job.machine.next_of_any_node(at("00:40")).is_err());
}

#[test]
fn another_node_goes_on_where_this_one_stops() {
    let mut job = hourly();
    let first = FireTime::new(at("01:00"));
    assert_eq!(job.machine.given_away(), Some(GivenAway::Tick(first)));

    job.step("00:40", Input::Suspend);
    let given = job.machine.given_away();

    assert_eq!(given, Some(GivenAway::After(at("00:30"))));
    assert_eq!(job.machine.tick_given_away(given.unwrap()), Some(first));
}

#[test]
fn nobody_goes_on_with_a_job_of_one_node_or_at_its_end() {
    let local = Policies { fires: Fires::Local, ..Policies::default() };
    let limited = Policies { limit: Some(1), ..local };
    let mut job = Rehearsal::new(Period::hours(1), limited);
    assert_eq!(Rehearsal::new(Period::hours(1), local).machine.given_away(), None);

    job.step("01:00", Input::WakeUp);

    assert!(job.machine.is_exhausted());
    assert_eq!(job.machine.given_away(), None);
    assert_eq!(job.machine.next_of_any_node(at("01:10")).unwrap(), None);
    assert_eq!(job.machine.upcoming(at("01:10"), 1), []);
}
