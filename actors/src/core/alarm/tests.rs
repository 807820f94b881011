use super::*;
use crate::{
    core::job::tests::at,
    name::{NodeId, RunIds},
};

const SLACK: Slack = Slack { elsewhere: Duration::from_secs(900), turn_by: None };
const HOUR: Duration = Duration::from_hours(1);

fn expects(success: Option<u64>, start: Option<u64>) -> Expectations {
    let minutes = |minutes: Option<u64>| minutes.map(Duration::from_mins);
    Expectations { success: minutes(success), start: minutes(start), ..Expectations::default() }
}

fn standing(fires: bool, cursor: &str) -> Standing {
    Standing { fires, is_parked: false, cursor: at(cursor), granted: None, paused: None, is_exhausted: false }
}

/// What is overdue at an instant, of a job that is due at every full hour.
fn overdue(alarm: &mut Alarm, now: &str) -> Vec<(Expectation, DateTime<Utc>)> {
    let (after, known) = alarm.due_after(at(now));
    let hours = after.timestamp().div_euclid(3_600) + 1;
    let due = known.or_else(|| DateTime::from_timestamp(hours * 3_600, 0).map(FireTime::new));
    alarm.judge(at(now), due, SLACK, true);
    alarm.overdue().collect()
}

fn run() -> RunId {
    RunIds::of(NodeId::numbered(1)).next(DateTime::UNIX_EPOCH)
}

#[test]
fn what_happens_to_a_tick_decides_whether_its_start_is_overdue() {
    let tick = FireTime::new(at("01:00"));
    type Story = fn(&mut Alarm, FireTime);
    let stories: [(&str, Story, bool); 8] = [
        ("nothing", |_, _| {}, true),
        (
            "it starts",
            |alarm, tick| {
                alarm.starts(run(), Some(tick));
                alarm.stands(standing(true, "01:00"), at("01:00"));
            },
            true,
        ),
        (
            "its body begins",
            |alarm, tick| {
                let run = run();
                alarm.starts(run, Some(tick));
                alarm.stands(standing(true, "01:00"), at("01:00"));
                alarm.began(run, at("01:05"));
            },
            false,
        ),
        (
            "it waits for a permit",
            |alarm, tick| {
                let standing = Standing { granted: Some(tick), ..standing(true, "01:00") };
                alarm.stands(standing, at("01:00"));
            },
            true,
        ),
        ("a policy skips it", |alarm, tick| assert!(!alarm.skipped(tick)), false),
        (
            "the store refuses the job",
            |alarm, _| {
                alarm.stands(Standing { is_parked: true, ..standing(true, "01:00") }, at("01:00"));
            },
            true,
        ),
        (
            "the job is paused",
            |alarm, _| {
                let paused = Some(Paused { until: None });
                alarm.stands(Standing { paused, ..standing(true, "00:30") }, at("00:30"));
            },
            false,
        ),
        (
            "the job is exhausted",
            |alarm, _| {
                alarm.stands(Standing { is_exhausted: true, ..standing(true, "00:30") }, at("00:30"));
            },
            false,
        ),
    ];
    for (what, story, is_overdue) in stories {
        let mut alarm = Alarm::new(expects(None, Some(10)), at("00:00"));
        alarm.stands(standing(true, "00:00"), at("00:00"));
        story(&mut alarm, tick);

        let expected = if is_overdue { vec![(Expectation::Start, at("01:10"))] } else { Vec::new() };
        assert_eq!(overdue(&mut alarm, "01:09"), [], "{what}");
        assert_eq!(overdue(&mut alarm, "01:10"), expected, "{what}");
    }
}

#[test]
fn a_node_that_does_not_fire_the_job_waits_for_what_leaders_say() {
    let mut alarm = Alarm::new(expects(None, Some(10)), at("00:00"));
    assert_eq!(overdue(&mut alarm, "01:14"), []);
    alarm.leader_decided(at("01:12"));
    assert_eq!(overdue(&mut alarm, "02:14"), []);
    assert_eq!(overdue(&mut alarm, "02:15"), [(Expectation::Start, at("02:10"))]);

    alarm.stands(standing(true, "00:00"), at("02:20"));
    alarm.leader_decided(at("02:20"));

    assert_eq!(overdue(&mut alarm, "02:20").len(), 1, "what this node says itself proves nothing");
}

#[test]
fn success_counts_from_the_last_one_and_from_the_end_of_a_pause_that_has_one() {
    let pause = |until: Option<&str>| Some(Paused { until: until.map(at) });
    // paused at 00:30 for so long, resumed at, overdue since
    for (until, resumed, since) in [
        (None, None, "01:40"),
        (None, Some("01:00"), "01:40"),
        (Some("02:00"), None, "03:30"),
        (Some("02:00"), Some("01:00"), "02:30"),
    ] {
        let mut alarm = Alarm::new(expects(Some(90), None), at("00:00"));
        alarm.ended(run(), Outcome::Succeeded, HOUR, at("00:10"));
        alarm.stands(Standing { paused: pause(until), ..standing(true, "00:30") }, at("00:30"));
        if let Some(resumed) = resumed {
            alarm.stands(standing(true, "00:30"), at(resumed));
        }
        let before = at(since) - TimeDelta::minutes(1);

        assert_eq!(overdue(&mut alarm, &before.format("%H:%M").to_string()), [], "{until:?} {resumed:?}");
        assert_eq!(overdue(&mut alarm, since), [(Expectation::Success, at(since))], "{until:?} {resumed:?}");
    }
}

#[test]
fn what_concerns_other_nodes_is_said_only_after_the_history_was_asked() {
    let mut alarm = Alarm::new(expects(Some(90), None), at("00:00"));
    let due = Some(FireTime::new(at("05:00")));
    assert_eq!(alarm.judge(at("00:00"), due, SLACK, false), Judgement::AskHistory, "of the last success");
    alarm.history_says(None, None, at("00:00"));
    assert_eq!(alarm.judge(at("00:00"), due, SLACK, true), Judgement::Known(Vec::new()));
    assert_eq!(alarm.look_at(at("00:00"), HOUR), Some(at("01:30")));

    assert_eq!(alarm.judge(at("01:30"), due, SLACK, false), Judgement::AskHistory);
    alarm.history_says(Some(at("01:00")), None, at("01:30"));

    assert_eq!(alarm.judge(at("01:30"), due, SLACK, true), Judgement::Known(Vec::new()));
    assert_eq!(alarm.look_at(at("01:30"), HOUR), Some(at("02:30")));
}

#[test]
fn somebody_is_told_once_that_it_is_to_be_asked() {
    let expected = Expectations { end: Some(Duration::from_mins(10)), ..Expectations::default() };
    let mut alarm = Alarm::new(expected, at("00:00"));
    alarm.judge(at("00:00"), None, SLACK, true);
    let run = run();

    assert!(alarm.began(run, at("01:00")));
    assert!(!alarm.ended(run, Outcome::Succeeded, HOUR, at("01:05")), "it is to be asked already");
    alarm.judge(at("01:05"), None, SLACK, true);
    assert!(!alarm.ended(run, Outcome::Succeeded, HOUR, at("01:05")), "nothing is overdue");
}

#[test]
fn a_missed_tick_that_waits_for_its_turn_is_overdue_once_it_should_have_had_it() {
    let due = Some(FireTime::new(at("01:00")));
    for (turn_by, now, is_overdue) in [
        (None, "01:10", true),
        (Some("01:05"), "01:09", false),
        (Some("01:05"), "01:10", true),
        (Some("01:30"), "01:29", false),
        (Some("01:30"), "01:30", true),
    ] {
        let mut alarm = Alarm::new(expects(None, Some(10)), at("00:30"));
        alarm.stands(standing(true, "00:30"), at("00:30"));
        let slack = Slack { turn_by: turn_by.map(at), ..SLACK };

        alarm.judge(at(now), due, slack, true);

        let since = Some((Expectation::Start, at("01:10"))).filter(|_| is_overdue);
        assert_eq!(alarm.overdue().next(), since, "{turn_by:?} {now}");
        // What is overdue stays so until it starts.
        alarm.judge(at("02:00"), due, SLACK, true);
        alarm.judge(at("02:01"), due, Slack { turn_by: Some(at("03:00")), ..SLACK }, true);
        assert!(alarm.is_overdue(), "{turn_by:?} {now}");
    }
}
