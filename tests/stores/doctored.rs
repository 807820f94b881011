//! A history in which nothing is wrong, and ways to change it: the auditor finds each.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    history::{BodyMark, ENDED, Said},
    node::JobPlan,
    ticks::{Away, Known},
};

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_000 + millis).expect("an instant")
}

fn said(millis: i64, event: &str) -> Said {
    Said { at: at(millis), heard_at: at(millis), event: event.to_owned(), ..Said::default() }
}

/// Twenty seconds of a job that runs each second on node 0, but for the tenth tick, which is skipped.
fn calm() -> Known {
    let tick = |nth: i64| BodyMark {
        node: 0,
        job: "job".into(),
        key: "key".into(),
        run: format!("run {nth}"),
        token: nth,
        fire_time: Some(at(nth * 1_000)),
        started_at: at(nth * 1_000 + 5),
        ended_at: Some(at(nth * 1_000 + 200)),
    };
    let of_job = |millis, event| Said { job: Some("job".into()), ..said(millis, event) };
    let started =
        |nth: i64| Said { fire_time: Some(at(nth * 1_000)), ..of_job(nth * 1_000 + 5, "run_started") };
    let skipped = Said {
        fire_time: Some(at(10_000)),
        reason: Some("overlap".into()),
        count: Some(1),
        ..of_job(10_005, "tick_skipped")
    };
    let ran = || (1..=20).filter(|nth| *nth != 10);
    let mut heard = vec![(0, said(0, "leadership_gained")), (0, skipped)];
    heard.extend(ran().map(|nth| (0, started(nth))));
    heard.extend([(0, said(21_000, "shutdown_finished")), (0, said(21_001, ENDED))]);
    Known {
        jobs: vec![JobPlan {
            name: "job".into(),
            key: "key".into(),
            period_ms: 1_000,
            takes_ms: 200,
            any_node: false,
        }],
        bodies: ran().map(tick).collect(),
        heard,
        from: at(0),
        until: at(20_000),
        away: Vec::new(),
        lease: TimeDelta::seconds(2),
        keys: true,
    }
}

fn broken(doctor: impl FnOnce(&mut Known)) -> String {
    let mut known = calm();
    doctor(&mut known);
    known.audit().broken.join("\n")
}

/// The history of a node that was killed after the last tick.
fn killed(known: &mut Known) {
    known.heard.retain(|(_, said)| said.event != "shutdown_finished");
}

#[test]
fn nothing_is_wrong_with_a_calm_history() {
    let audit = calm().audit();

    assert_eq!(audit.broken, [""; 0]);
    assert_eq!((audit.due, audit.started, audit.skipped["overlap"], audit.unsaid), (20, 19, 1, 0));
}

#[test]
fn a_tick_without_a_body_and_without_a_word_is_missing() {
    let told = broken(|known| known.bodies.retain(|body| body.token != 15));
    assert!(told.contains("neither ran nor was skipped"), "{told}");

    let told = broken(|known| known.heard.retain(|(_, said)| said.event != "tick_skipped"));
    assert!(told.contains("neither ran nor was skipped"), "{told}");
}

#[test]
fn a_node_that_dies_takes_its_last_words_along_and_no_others() {
    let silence = |known: &mut Known, tick: i64| {
        known.bodies.retain(|body| body.token != tick);
        known.heard.retain(|(_, said)| said.fire_time != Some(at(tick * 1_000)));
    };
    let mut known = calm();
    killed(&mut known);
    silence(&mut known, 20);
    let audit = known.audit();
    assert_eq!((audit.broken.as_slice(), audit.unsaid), ([].as_slice(), 1));

    let told = broken(|known| {
        killed(known);
        silence(known, 12);
    });
    assert!(told.contains("neither ran nor was skipped"), "it spoke of later ones: {told}");

    let told = broken(|known| silence(known, 20));
    assert!(told.contains("neither ran nor was skipped"), "it did not die: {told}");
}

#[test]
fn a_node_that_speaks_late_takes_along_what_it_had_yet_to_say() {
    // Its last words are of the fourteenth second.
    let dies_late = |known: &mut Known| {
        killed(known);
        known.bodies.retain(|body| body.token < 15);
        known.heard.retain(|(_, said)| said.event == ENDED || said.at < at(15_000));
    };
    let mut known = calm();
    dies_late(&mut known);
    let audit = known.audit();
    assert_eq!((audit.broken.as_slice(), audit.unsaid), ([].as_slice(), 6));

    let told = broken(|known| {
        known.bodies.retain(|body| body.token != 12);
        known.heard.push((1, said(13_000, ENDED)));
    });
    assert!(told.contains("neither ran nor was skipped"), "a node that never was there: {told}");

    let told = broken(|known| {
        dies_late(known);
        known.heard.push((0, said(20_500, "run_succeeded")));
    });
    assert!(told.contains("neither ran nor was skipped"), "it spoke of what came later: {told}");

    let told = broken(|known| {
        dies_late(known);
        known.heard.push((0, Said { counters: Some([].into()), ..said(20_500, "health") }));
    });
    assert_eq!(told, "", "a report says nothing of ticks");

    let told = broken(|known| {
        dies_late(known);
        known.bodies.retain(|body| body.token < 5);
        known.heard.retain(|(_, said)| said.event == ENDED || said.at < at(5_000) || said.at > at(14_000));
    });
    assert!(told.contains("neither ran nor was skipped"), "{told}");
}

#[test]
fn a_leader_with_a_memory_of_its_own_knows_no_ticks_before_its_jobs() {
    // Node 1 gets the job after the twelfth tick, and leads after the fourteenth.
    let taken_over = |known: &mut Known| {
        known.keys = false;
        known.bodies.retain(|body| body.token != 12);
        let added = Said { job: Some("job".into()), ..said(12_500, "job_added") };
        known.heard.extend([(1, added), (1, said(14_500, "leadership_gained"))]);
    };
    let mut known = calm();
    taken_over(&mut known);
    let audit = known.audit();
    assert_eq!((audit.broken.as_slice(), audit.skipped["before the leader"]), ([].as_slice(), 1));

    let told = broken(|known| {
        taken_over(known);
        known.bodies.retain(|body| body.token != 13);
    });
    assert!(
        told.contains("neither ran nor was skipped") && !told.contains("1700000012"),
        "it was there: {told}"
    );

    let told = broken(|known| {
        taken_over(known);
        known.heard.push((2, said(12_600, "leadership_gained")));
    });
    assert!(told.contains("neither ran nor was skipped"), "another one led first: {told}");

    let told = broken(|known| {
        taken_over(known);
        known.keys = true;
    });
    assert!(told.contains("neither ran nor was skipped"), "a store knows: {told}");

    let told = broken(|known| {
        taken_over(known);
        known.jobs[0].any_node = true;
    });
    assert!(told.contains("neither ran nor was skipped"), "other nodes were there: {told}");
}

#[test]
fn a_run_that_is_lost_accounts_for_its_tick() {
    let told = broken(|known| {
        known.bodies.retain(|body| body.token != 15);
        let lost = Said {
            job: Some("job".into()),
            run: Some("run 15".into()),
            fire_time: Some(at(15_000)),
            ..said(16_000, "run_lost")
        };
        known.heard.push((1, lost));
    });
    assert_eq!(told, "");
}

#[test]
fn a_tick_that_runs_twice_is_doubled() {
    let told = broken(|known| {
        let again = BodyMark { node: 1, run: "another".into(), token: 16, ..known.bodies[13].clone() };
        known.bodies.insert(14, again);
    });
    assert!(told.contains("ran 2 times"), "{told}");
}

#[test]
fn bodies_of_one_key_at_once_and_tokens_that_fall_are_found() {
    let told = broken(|known| known.bodies[3].ended_at = Some(at(5_500)));
    assert!(told.contains("at once"), "{told}");

    let told = broken(|known| known.bodies[3].token = 1);
    assert!(told.contains("began with the token 1"), "{told}");

    let told = broken(|known| known.bodies[3].started_at = at(3_000));
    assert!(told.contains("before it was due"), "{told}");
}

#[test]
fn a_body_whose_node_stood_still_goes_on_for_as_long_and_only_if_its_run_is_lost() {
    let beside = |known: &mut Known| {
        known.bodies[3].ended_at = Some(at(9_500));
        known.away.push(Away { node: Some(0), asleep: true, from: at(4_100), until: at(9_000) });
    };
    let lost = |known: &mut Known| {
        let lost = Said { run: Some("run 4".into()), ..said(6_000, "run_lost") };
        known.heard.push((1, lost));
    };
    let told = broken(|known| {
        beside(known);
        lost(known);
    });
    assert_eq!(told, "");

    let told = broken(|known| {
        beside(known);
        known.away[0].asleep = false;
        lost(known);
    });
    assert!(told.contains("at once"), "{told}");
}

/// Any node fires the job, and the fourth tick runs late on another one, beside the fifth.
fn late_elsewhere(known: &mut Known) {
    known.jobs[0].any_node = true;
    known.bodies[3] =
        BodyMark { node: 1, started_at: at(5_100), ended_at: Some(at(5_150)), ..known.bodies[3].clone() };
    known.bodies.sort_by_key(|body| body.started_at);
}

#[test]
fn a_job_that_any_node_fires_is_judged_by_node_where_keys_are() {
    let told = broken(|known| {
        known.keys = false;
        late_elsewhere(known);
    });
    assert_eq!(told, "");

    let told = broken(late_elsewhere);
    assert!(told.contains("at once") && told.contains("began with the token 4"), "keys hold: {told}");

    let told = broken(|known| {
        known.keys = false;
        late_elsewhere(known);
        known.jobs[0].any_node = false;
    });
    assert!(told.contains("at once") && told.contains("began with the token 4"), "of a leader: {told}");

    let told = broken(|known| {
        known.keys = false;
        late_elsewhere(known);
        known.bodies.iter_mut().for_each(|body| body.node = 0);
    });
    assert!(told.contains("at once") && told.contains("began with the token 4"), "one node: {told}");
}

#[test]
fn a_run_is_cancelled_with_the_lead_only_where_keys_are_of_a_node() {
    let beside = |known: &mut Known| {
        known.bodies[3].ended_at = Some(at(9_500));
        known.away.push(Away { node: Some(0), asleep: true, from: at(4_100), until: at(9_000) });
    };
    let cancelled = |known: &mut Known| {
        let (run, why) = (Some("run 4".into()), Some("lock_lost".into()));
        known.heard.push((0, Said { run, why, ..said(9_400, "run_cancelled") }));
    };
    let lock_lost = |known: &mut Known| {
        known.heard.push((0, Said { run: Some("run 4".into()), ..said(9_400, "lock_lost") }));
    };
    let told = broken(|known| {
        known.keys = false;
        beside(known);
        lock_lost(known);
    });
    assert_eq!(told, "");

    let told = broken(|known| {
        known.keys = false;
        beside(known);
        cancelled(known);
    });
    assert_eq!(told, "");

    let told = broken(|known| {
        known.keys = false;
        beside(known);
        cancelled(known);
        known.heard.iter_mut().for_each(|(_, said)| said.why = None);
    });
    assert!(told.contains("at once"), "nobody said that the lead was lost: {told}");

    let told = broken(|known| {
        beside(known);
        cancelled(known);
    });
    assert!(told.contains("at once"), "nobody else may have the key: {told}");

    let told = broken(|known| {
        known.keys = false;
        beside(known);
        cancelled(known);
        known.away.clear();
    });
    assert!(told.contains("at once"), "it went on for longer than a lease: {told}");
}
