//! A history of a minute in which nothing is wrong, and ways to change it.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    auditor::History,
    faults::Fault,
    history::{Advance, BodyMark, Books, Claimed, ENDED, Said},
    node::JobPlan,
    stage::Round,
    store::Holding,
    watch::{Footprint, Sample},
};

pub(crate) const PERIOD: u64 = 1_000;
pub(crate) const TICKS: i64 = 60;
/// The id of node 0.
pub(crate) const NODE: &str = "00000000-0000-0000-0000-000000000001";

pub(crate) fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_000 + millis).expect("an instant")
}

pub(crate) fn run_of(tick: i64) -> String {
    format!("run {tick}")
}

pub(crate) fn said(heard_at: DateTime<Utc>, event: &str) -> Said {
    Said { at: heard_at, heard_at, event: event.to_owned(), ..Said::default() }
}

/// A minute of one job that runs each second on node 0, but for the tenth tick, which overlaps. Nothing is
/// wrong with it.
pub(crate) fn calm() -> History {
    let fire_time = |tick: i64| at(tick * 1_000);
    let mut books = Books::default();
    let mut bodies = Vec::new();
    let node = Some(NODE.to_owned());
    let gained = Said { node, term: Some(callsheet::Term(1)), ..said(at(0), "leadership_gained") };
    let mut heard = vec![(0, gained)];
    books.advances.push(Advance { job: "job".into(), from: None, to: at(500), run: None, term: Some(1) });
    let mut from = at(500);
    for tick in 1..=TICKS {
        let (run, to) = (run_of(tick), fire_time(tick));
        let skipped = tick == 10;
        let term = Some(1);
        let claimed = (!skipped).then(|| run.clone());
        books.advances.push(Advance { job: "job".into(), from: Some(from), to, run: claimed, term });
        from = to;
        let event = if skipped { "tick_skipped" } else { "run_started" };
        heard.push((
            0,
            Said {
                job: Some("job".into()),
                run: (!skipped).then(|| run.clone()),
                fire_time: Some(to),
                reason: skipped.then(|| "overlap".into()),
                count: skipped.then_some(1),
                ..said(to, event)
            },
        ));
        heard.push((0, Said { healthy: Some(true), ..said(to + TimeDelta::milliseconds(500), "health") }));
        if skipped {
            continue;
        }
        let ended_at = Some(to + TimeDelta::milliseconds(100));
        books.runs.push(Claimed {
            run: run.clone(),
            job: "job".into(),
            key: "key".into(),
            token: tick,
            term,
            fire_time: Some(to),
            claimed_at: to + TimeDelta::milliseconds(1),
            ended_at,
            outcome: Some("succeeded".into()),
            node: Some(NODE.into()),
        });
        bodies.push(BodyMark {
            node: 0,
            job: "job".into(),
            key: "key".into(),
            run,
            token: tick,
            fire_time: Some(to),
            started_at: to + TimeDelta::milliseconds(2),
            ended_at,
        });
    }
    let counters = [
        ("callsheet_ticks_due_total", 60),
        ("callsheet_ticks_total started", 59),
        ("callsheet_ticks_total overlap", 1),
    ];
    let counters = counters.map(|(name, count)| (name.to_owned(), count)).into();
    let end = at(61_000);
    heard.push((0, said(end, "shutdown_finished")));
    heard.push((0, Said { counters: Some(counters), ..said(end, "counted") }));
    heard.push((0, said(end, ENDED)));
    let sample = |nth: i64| Sample {
        at: at(nth * 250),
        holdings: vec![Holding { node: "0".into(), connections: 2, locks: 2 }],
        processes: vec![Footprint { node: 0, memory: 20 << 20, descriptors: 30 }],
    };
    History {
        jobs: vec![JobPlan {
            name: "job".into(),
            key: "key".into(),
            period_ms: PERIOD,
            takes_ms: 100,
            any_node: false,
        }],
        lease: TimeDelta::seconds(2),
        books,
        bodies,
        heard,
        samples: (0..240).map(sample).collect(),
        rounds: Vec::new(),
        standstills: Vec::new(),
        waits: Vec::new(),
        loads: Vec::new(),
        until: fire_time(TICKS),
        stopping_at: at(60_500),
    }
}

pub(crate) fn round(fault: Fault, struck: i64, healed: i64) -> Round {
    Round {
        fault,
        node: Some(0),
        struck_at: at(struck),
        healed_at: at(healed),
        recovered_at: Some(at(healed + 1_000)),
        unwell: None,
        not_run: None,
    }
}

/// What is wrong with a calm history once something of it was changed.
pub(crate) fn broken(doctor: impl FnOnce(&mut History)) -> Vec<String> {
    let mut history = calm();
    doctor(&mut history);
    history.judge().broken.into_iter().map(|broken| broken.what).collect()
}

/// Takes everything out that ran between two ticks, as if the ticks had been misfired, and said so.
pub(crate) fn silence(history: &mut History, from: i64, to: i64) {
    let gone = |run: &str| (from..to).any(|tick| run == run_of(tick));
    history.bodies.retain(|body| !gone(&body.run));
    history.books.runs.retain(|run| !gone(&run.run));
    for one in &mut history.books.advances {
        one.run.take_if(|run| gone(run));
    }
    for (_, said) in &mut history.heard {
        if said.run.take_if(|run| gone(run)).is_some() {
            (said.reason, said.count) = (Some("misfire".into()), Some(1));
        }
    }
    history.heard.retain(|(_, said)| said.event != "counted");
}
