//! What is told of a campaign: a line for each fault as it happens, a table of them, and what was broken.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    auditor::{History, Verdict},
    faults::Fault,
    history::Tick,
    stage::Round,
};

/// A run that was claimed just before a fault struck is lost by it.
const SECOND: TimeDelta = TimeDelta::seconds(1);

/// One line of the timeline.
pub(crate) fn line(began: DateTime<Utc>, round: &Round) -> String {
    let Round { fault, node, struck_at, healed_at, recovered_at, unwell, not_run } = round;
    let at = seconds(*struck_at - began);
    let node = node.map_or(String::new(), |node| format!(", node {node}"));
    if let Some(reason) = not_run {
        return format!("{at:>8.3} s  {fault}: not run, {reason}");
    }
    let lasted = seconds(*healed_at - *struck_at);
    let recovery = recovered_at
        .map_or("never well again".to_owned(), |at| format!("well {:.3} s later", seconds(at - *healed_at)));
    let unwell = unwell.as_ref().map_or(String::new(), |unwell| format!("\n            {unwell}"));
    format!("{at:>8.3} s  {fault}{node}: lasted {lasted:.3} s, {recovery}{unwell}")
}

/// What became of the ticks of the rounds of one fault.
#[derive(Default)]
struct Row {
    silences: Vec<TimeDelta>,
    recoveries: Vec<TimeDelta>,
    repetitions: usize,
    due: usize,
    started: usize,
    lost: usize,
    never_started: usize,
    skipped: BTreeMap<String, usize>,
    doubled: usize,
    not_run: Option<String>,
}

/// A table in Markdown: what each fault did, in the order of [`Fault::ALL`].
pub(crate) fn table(campaigns: &[(&History, &Verdict)]) -> String {
    let mut rows: Vec<Row> = Fault::ALL.iter().map(|_| Row::default()).collect();
    for (history, verdict) in campaigns {
        add(&mut rows, history, verdict);
    }
    let mut table = String::from(
        "| fault | times | gap min/median/max, ms | due | started | skipped | doubled | lost (never started) | \
         recovery median/max, s |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (fault, row) in Fault::ALL.iter().zip(&mut rows) {
        if let Some(reason) = &row.not_run {
            let _ = writeln!(table, "| {fault} | not run: {reason} | | | | | | | |");
        }
        if row.repetitions == 0 {
            continue;
        }
        row.silences.sort_unstable();
        row.recoveries.sort_unstable();
        let silence = |at: usize| row.silences.get(at).map_or(0, TimeDelta::num_milliseconds);
        let recovery = |at: usize| row.recoveries.get(at).map_or(f64::NAN, |time| seconds(*time));
        let last = row.repetitions - 1;
        let recovered = row.recoveries.len().saturating_sub(1);
        let skipped: Vec<_> = row.skipped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let _ = writeln!(
            table,
            "| {fault} | {} | {} / {} / {} | {} | {} | {} | {} | {} ({}) | {:.1} / {:.1} |",
            row.repetitions,
            silence(0),
            silence(last / 2),
            silence(last),
            row.due,
            row.started,
            skipped.join(", "),
            row.doubled,
            row.lost,
            row.never_started,
            recovery(recovered / 2),
            recovery(recovered),
        );
    }
    table
}

/// Adds what became of the ticks of a campaign.
fn add(rows: &mut [Row], history: &History, verdict: &Verdict) {
    let place = |fault: Fault| Fault::ALL.iter().position(|one| *one == fault).unwrap_or(0);
    for (nth, round) in history.rounds.iter().enumerate() {
        let row = &mut rows[place(round.fault)];
        if let Some(reason) = &round.not_run {
            row.not_run = Some(reason.clone());
            continue;
        }
        row.repetitions += 1;
        row.silences.push(history.silence(nth).1);
        row.recoveries.extend(round.recovered_at.map(|at| at - round.healed_at));
    }
    let mut ran: HashMap<Tick, usize> = HashMap::new();
    for body in &history.bodies {
        let tick = body.fire_time.map(|fire_time| (body.job.clone(), fire_time.timestamp_micros()));
        tick.into_iter().for_each(|tick| *ran.entry(tick).or_default() += 1);
    }
    // A tick belongs to the fault that struck last before it was due.
    for (tick, what) in &verdict.audit.ticks {
        let before = history.rounds.iter().rev().find(|round| round.struck_at.timestamp_micros() <= tick.1);
        let Some(round) = before else { continue };
        let row = &mut rows[place(round.fault)];
        row.due += 1;
        row.doubled += ran.get(tick).map_or(0, |times| times - 1);
        match what.as_str() {
            "started" => row.started += 1,
            "lost" => row.never_started += 1,
            reason => *row.skipped.entry(reason.to_owned()).or_default() += 1,
        }
    }
    for run in history.books.runs.iter().filter(|run| run.is_lost()) {
        let before = history.rounds.iter().rev().find(|round| round.struck_at <= run.claimed_at + SECOND);
        rows[before.map_or(0, |round| place(round.fault))].lost += 1;
    }
}

/// The sums, and everything that was broken.
pub(crate) fn verdict(began: DateTime<Utc>, verdict: &Verdict) -> String {
    let audit = &verdict.audit;
    let skipped: Vec<_> = audit.skipped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let mut text = format!(
        "due {}, started {}, skipped {}, unsaid {}, lost {} (unsaid {}), doubled {}\n",
        audit.due,
        audit.started,
        skipped.join(", "),
        audit.unsaid,
        audit.lost,
        audit.lost_unsaid.len(),
        audit.doubled
    );
    if let Some((silence, node, at)) = verdict.healthy_silence {
        let (ms, at) = (silence.num_milliseconds(), seconds(at - began));
        let _ = writeln!(text, "healthy after {ms} ms without a run, at most: node {node} at {at:.3} s");
    }
    for broken in &verdict.broken {
        let at = broken.at.map_or(String::new(), |at| format!("{:.3} s: ", seconds(at - began)));
        let _ = writeln!(text, "BROKEN: {at}{}", broken.what);
    }
    if verdict.broken.is_empty() {
        text.push_str("every promise was kept\n");
    }
    text
}

fn seconds(span: TimeDelta) -> f64 {
    span.num_microseconds().unwrap_or(i64::MAX) as f64 / 1e6
}
