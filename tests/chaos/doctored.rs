//! Histories in which one thing is wrong: the auditor sees each kind of violation.

use chrono::TimeDelta;

use super::{
    auditor::{History, Standstill},
    calm::{at, broken, calm, round, run_of, said, silence},
    faults::Fault,
    history::{Claimed, ENDED, Said},
    pace::Wait,
    report,
};

#[test]
fn nothing_is_wrong_with_a_calm_history() {
    let verdict = calm().judge();

    assert_eq!(verdict.broken.iter().map(|broken| &broken.what).collect::<Vec<_>>(), [""; 0]);
    let audit = verdict.audit;
    assert_eq!((audit.due, audit.started, audit.skipped["overlap"]), (60, 59, 1));
}

#[test]
fn each_kind_of_violation_is_seen() {
    type Doctor = fn(&mut History);
    let frauds: &[(Doctor, &str)] = &[
        // The books of ticks.
        (|it| it.bodies.push(it.bodies[5].clone()), "a tick ran twice"),
        (
            |it| {
                let again = Claimed { run: "another".into(), token: 70, ..it.books.runs[5].clone() };
                it.books.runs.push(again);
            },
            "has two runs",
        ),
        (|it| it.bodies[5].run = "another".into(), "was not claimed for it"),
        (|it| it.bodies[5].started_at = at(0), "ran early"),
        (|it| drop(it.bodies.remove(5)), "left no row"),
        (|it| it.books.runs[5].term = Some(0), "was claimed in term Some(0) during term Some(1)"),
        (|it| it.books.runs[5].term = Some(0), "was claimed in term Some(0), after"),
        (|it| it.books.runs[5].ended_at = None, "never ended"),
        (|it| it.books.runs[5].ended_at = Some(at(30_000)), "while another one held the key"),
        (|it| it.books.runs[5].outcome = Some("lost".into()), "the run was lost in silence"),
        (|it| drop(it.books.runs.remove(5)), "was not claimed for it"),
        (|it| it.books.advances[5].run = None, "was skipped, and nobody said why"),
        (|it| drop(it.books.advances.remove(5)), "the cursor of job jumped"),
        (|it| it.books.advances.truncate(30), "ticks of job are not decided"),
        (|it| it.books.advances.clear(), "job was never scheduled"),
        (|it| it.books.advances[5].to += TimeDelta::microseconds(1), "which is no tick"),
        (|it| it.bodies[5].ended_at = None, "succeeded before its body ended"),
        // Tokens.
        (|it| it.books.runs[5].token = 1, "the key key had the token"),
        (|it| it.bodies[5].token = 1, "began with the token 1 after 5"),
        (|it| it.bodies[5].token = 1, "another key or token than was claimed"),
        // Overlaps among live sessions.
        (|it| it.bodies[5].ended_at = Some(at(7_500)), "two bodies of the key key at once for 98 ms"),
        (
            |it| {
                it.books.runs[5].outcome = Some("lost".into());
                it.bodies[5].ended_at = Some(at(6_500));
            },
            "node 0 was not told that it lost the key key",
        ),
        // What nobody asked for.
        (|it| it.heard.push((0, said(at(9_000), "job_paused"))), "node 0 said job_paused, and nobody"),
        (
            |it| {
                let why = Some("requested".into());
                it.heard.push((0, Said { why, ..said(at(9_000), "run_cancelled") }));
            },
            "node 0 said run_cancelled, and nobody",
        ),
        // Health against reality.
        (|it| silence(it, 20, 35), "node 0 was healthy after"),
        // Gaps.
        (
            |it| {
                silence(it, 20, 24);
                it.rounds.push(round(Fault::KillLeader, 19_500, 19_500));
                it.rounds[0].recovered_at = Some(at(25_000));
            },
            "leader killed: nothing ran for 5000 ms, 2000 at most",
        ),
        (
            |it| {
                it.rounds.push(round(Fault::Reset, 19_500, 19_500));
                it.rounds[0].recovered_at = None;
            },
            "connections reset: not all was well again",
        ),
        // Connections and locks.
        (
            |it| it.samples[50..70].iter_mut().for_each(|sample| sample.holdings[0].connections = 3),
            "had 3 connections",
        ),
        (|it| it.samples[50..70].iter_mut().for_each(|sample| sample.holdings[0].locks = 3), "3 locks"),
        (|it| it.samples[50].holdings[0].connections = 6, "had 6 connections"),
        // Memory and descriptors.
        (
            |it| it.samples[100..].iter_mut().for_each(|sample| sample.processes[0].memory = 200 << 20),
            "node 0 grew",
        ),
        (
            |it| it.samples[100..].iter_mut().for_each(|sample| sample.processes[0].descriptors = 80),
            "node 0 grew",
        ),
        // Counters.
        (
            |it| {
                let counted = it.heard.iter_mut().find_map(|(_, said)| said.counters.as_mut());
                counted.expect("it counted").insert("callsheet_ticks_total misfire".into(), 1);
            },
            "counted 60 due ticks, and 61 decisions",
        ),
        (
            |it| {
                let counted = it.heard.iter_mut().find_map(|(_, said)| said.counters.as_mut());
                counted.expect("it counted").insert("callsheet_ticks_total started".into(), 58);
            },
            "counted 58 runs, its bodies wrote 59",
        ),
        (
            |it| {
                let counted = it.heard.iter_mut().find_map(|(_, said)| said.counters.as_mut());
                counted.expect("it counted").insert("callsheet_ticks_total started".into(), 60);
            },
            "counted 60 runs, its bodies wrote 59",
        ),
        (|it| it.books.runs[4].node = Some("another".into()), "ran on node 0, and was claimed by"),
        (
            |it| {
                let lost = Said { run: Some(run_of(3)), ..said(at(9_000), "run_lost") };
                it.heard.insert(20, (0, lost));
            },
            "was said to be lost, and is not",
        ),
    ];

    for (nth, (fraud, seen)) in frauds.iter().enumerate() {
        let broken = broken(fraud);
        assert!(broken.iter().any(|broken| broken.contains(seen)), "{nth}: no {seen:?} in {broken:#?}");
    }
}

/// Node 0 loses the run of tick 5 to node 1, which closes it at 8 s, and runs the ticks from the tenth on. It
/// is not told.
pub(crate) fn lost_to_another(it: &mut History, body_ended: i64) {
    it.books.runs[4].outcome = Some("lost".into());
    it.books.runs[4].ended_at = Some(at(8_000));
    it.bodies[4].ended_at = Some(at(body_ended));
    it.heard.push((1, Said { run: Some(run_of(5)), ..said(at(8_001), "run_lost") }));
    // Its ticks until then are misfired.
    silence(it, 6, 10);
    it.bodies.iter_mut().filter(|body| body.token > 5).for_each(|body| body.node = 1);
}

pub(crate) fn frozen(it: &mut History, from: i64, until: i64) {
    it.rounds.push(round(Fault::FreezeLeader, from, until));
    it.standstills.push(Standstill { node: 0, from: at(from), until: at(until) });
}

pub(crate) fn has(broken: &[String], what: &str) -> bool {
    broken.iter().any(|broken| broken.contains(what))
}

#[test]
fn a_run_without_a_row_was_cancelled_only_if_its_node_says_so() {
    let what = "left no row";
    let cancelled = |it: &mut History| {
        it.bodies.remove(5);
        it.books.runs[5].outcome = Some("cancelled".into());
    };

    let unsaid = broken(cancelled);
    let told = broken(|it| {
        cancelled(it);
        let why = Some("not_started".into());
        it.heard.push((0, Said { run: Some(run_of(6)), why, ..said(at(6_002), "run_cancelled") }));
    });

    assert!(has(&unsaid, what), "{unsaid:#?}");
    assert_eq!(told, [""; 0]);
}

#[test]
fn a_grant_whose_reply_was_lost_is_counted_once_or_not_at_all() {
    // Another node closes the run of tick 6 as lost; no body of it began.
    let counted = |started| {
        broken(|it| {
            it.bodies.remove(5);
            it.books.runs[5].outcome = Some("lost".into());
            it.heard.push((1, Said { run: Some(run_of(6)), ..said(at(9_000), "run_lost") }));
            let counted = it.heard.iter_mut().find_map(|(_, said)| said.counters.as_mut());
            let counted = counted.expect("it counted");
            counted.insert("callsheet_ticks_total started".into(), started);
            counted.insert("callsheet_ticks_due_total".into(), started + 1);
        })
    };

    assert_eq!([counted(58), counted(59)].concat(), [""; 0]);
    for started in [57, 60] {
        let broken = counted(started);
        assert!(has(&broken, &format!("counted {started} runs, its bodies wrote 58")), "{broken:#?}");
    }
}

#[test]
fn who_stands_still_may_go_on_for_a_lease_afterwards() {
    let (told, two) = ("was not told that it lost", "two bodies");
    // It stands still until 15.4 s, or not at all.
    for (thawed, body_ended, untold, overlap) in [
        (None, 15_500, true, true),
        (Some(15_400), 15_500, false, false),
        (Some(15_400), 17_300, false, false),
        // That is time enough to hear of it.
        (Some(15_400), 17_500, true, true),
        // It ended before another one had the key, and was not told in its time.
        (None, 9_900, false, false),
        (None, 10_001, true, false),
    ] {
        let broken = broken(|it| {
            lost_to_another(it, body_ended);
            match thawed {
                Some(thawed) => frozen(it, 5_010, thawed),
                None => it.rounds.push(round(Fault::Stall, 5_010, 15_400)),
            }
        });

        let case = format!("{thawed:?} {body_ended}: {broken:#?}");
        assert_eq!((has(&broken, told), has(&broken, two)), (untold, overlap), "{case}");
    }
}

#[test]
fn a_body_that_goes_on_is_no_fault_once_its_node_was_told() {
    let broken = broken(|it| {
        lost_to_another(it, 9_950);
        it.heard.push((0, Said { run: Some(run_of(5)), ..said(at(9_940), "lock_lost") }));
    });

    assert!(!has(&broken, "was not told"), "{broken:#?}");
}

#[test]
fn the_end_of_a_node_that_was_killed_may_be_heard_late() {
    for (heard_at, untold) in [(9_900, false), (10_001, true)] {
        let broken = broken(|it| {
            lost_to_another(it, 0);
            it.bodies[4].ended_at = None;
            it.rounds.push(round(Fault::KillLeader, 7_990, 7_990));
            it.heard.retain(|(node, said)| *node == 1 || said.heard_at < at(8_000));
            it.heard.push((0, said(at(heard_at), ENDED)));
        });

        assert_eq!(has(&broken, "was not told"), untold, "{heard_at}: {broken:#?}");
    }
}

#[test]
fn what_a_node_found_out_before_it_stood_still_is_not_held_against_it() {
    let what = "was healthy after";
    let of_reports = |reports: &'static [(i64, i64)]| {
        broken(|it| {
            silence(it, 20, 35);
            it.heard.retain(|(_, said)| said.event != "health");
            // What came before.
            it.heard.push((0, Said { healthy: Some(true), ..said(at(20_000), "health") }));
            for (heard_at, waited) in reports {
                let report =
                    Said { healthy: Some(true), waited_ms: Some(*waited), ..said(at(*heard_at), "health") };
                it.heard.push((0, report));
            }
            frozen(it, 32_000, 33_000);
        })
    };

    // The first after it goes on, and the next one.
    assert!(!has(&of_reports(&[(33_010, 1)]), what));
    assert!(has(&of_reports(&[(33_010, 1), (33_510, 1)]), what));
    // A report is about the instant at which it was asked for.
    assert!(!has(&of_reports(&[(33_010, 1), (33_510, 4_000)]), what));
}

#[test]
fn a_body_that_was_dropped_ended_before_its_run_was_recorded_as_cancelled() {
    for (outcome, recorded, wrong) in
        [("cancelled", 6_900, false), ("cancelled", 7_100, true), ("failed", 6_900, true)]
    {
        let broken = broken(|it| {
            it.bodies[5].ended_at = None;
            it.books.runs[5].outcome = Some(outcome.into());
            it.books.runs[5].ended_at = Some(at(recorded));
        });

        assert_eq!(has(&broken, "two bodies"), wrong, "{outcome} {recorded}: {broken:#?}");
    }
}

#[test]
fn leaders_that_come_and_go_are_no_excuse_for_silence() {
    for gained in [&[25_000][..], &[22_000, 24_000, 26_000, 28_000]] {
        let broken = broken(|it| {
            silence(it, 20, 35);
            for (term, gained_at) in (2..).zip(gained) {
                let term = Some(callsheet::Term(term));
                let gained = Said { term, ..said(at(*gained_at), "leadership_gained") };
                it.heard.push((1, gained));
            }
        });

        assert!(has(&broken, "was healthy after"), "{gained:?}: {broken:#?}");
    }
}

#[test]
fn what_the_machine_delayed_for_all_is_not_held_against_a_fault() {
    let what = "leader killed: nothing ran for";
    let of_waits = |waits: &'static [(i64, i64)]| {
        broken(|it| {
            // From 19.002 to 22.002 s.
            silence(it, 20, 22);
            it.rounds.push(round(Fault::KillLeader, 19_500, 19_500));
            it.rounds[0].recovered_at = Some(at(25_000));
            it.waits =
                waits.iter().map(|(from, until)| Wait { from: at(*from), until: at(*until) }).collect();
        })
    };

    assert!(has(&of_waits(&[]), what));
    assert!(has(&of_waits(&[(20_000, 20_350), (21_100, 21_350)]), what));
    assert!(!has(&of_waits(&[(20_000, 20_350), (20_500, 20_550), (21_100, 21_350), (21_400, 21_750)]), what));
    // Longer than the margin: a lease may be lost by it.
    assert!(!has(&of_waits(&[(20_000, 20_401)]), what));
    // Not in the silence.
    assert!(has(&of_waits(&[(15_000, 18_000), (23_500, 24_000)]), what));
}

#[test]
fn a_tick_that_ran_twice_stands_in_the_table() {
    let mut history = calm();
    history.rounds.push(round(Fault::Reset, 4_000, 4_000));
    let row = |history: &History| {
        let table = report::table(&[(history, &history.judge())]);
        let row = table.lines().find(|row| row.starts_with("| connections reset |")).map(str::to_owned);
        row.expect("a row")
    };
    assert!(row(&history).contains("| 57 | 56 | overlap 1 | 0 |"), "{}", row(&history));

    history.bodies.push(history.bodies[5].clone());

    assert!(row(&history).contains("| 57 | 56 | overlap 1 | 1 |"), "{}", row(&history));
}
