//! How long the next fire time takes, for every kind, in UTC and in a zone with daylight saving time; beside
//! the crates `cron-parser`, `croner` and `cron` alone, in the same run.
//!
//! ```text
//! cargo bench --bench schedules               about half a minute
//! cargo bench --bench schedules -- --quick    a smoke test of a second
//! ```
//!
//! Each number is the median of some rounds, each of which asks for the next fire time from the one before,
//! again and again. The ratio is that of the crate to Callsheet, for the same expression in the same zone.

// A benchmark talks to a terminal.
#![allow(clippy::print_stdout)]

use std::{env, hint::black_box, process::ExitCode, str::FromStr, sync::Arc, time::Instant};

use anyhow::Context;
use callsheet::schedule::{
    Definition, IntoSchedule, Schedule, Weekday::*, any, at, calendar, cron, daily, every, monthly, random,
    weekly,
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

const START: &str = "2026-01-01T00:00:00Z";
const ZONES: [&str; 2] = ["UTC", "Europe/Lisbon"];
const EXPRESSIONS: [&str; 5] = ["* * * * *", "*/15 9-17 * * 1-5", "30 2 * * *", "0 0 29 2 *", "0 0 13 * FRI"];

/// What a five-field cron expression may take in a zone with daylight saving time.
const TARGET_NANOS: f64 = 1_000.0;

struct Plan {
    rounds: usize,
    steps: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    let is_quick = env::args().any(|argument| argument == "--quick");
    let plan = if is_quick { Plan { rounds: 3, steps: 500 } } else { Plan { rounds: 15, steps: 20_000 } };
    println!("nanoseconds for the next fire time, median of {} rounds of {}\n", plan.rounds, plan.steps);
    let slowest = plan.expressions()?;
    plan.kinds()?;
    println!(
        "\nslowest five-field cron in {}: {slowest:.0} ns (target: below {TARGET_NANOS:.0} ns)",
        ZONES[1]
    );
    Ok(if is_quick || slowest < TARGET_NANOS { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Plan {
    /// Cron expressions beside the crates; the slowest of ours in a zone with daylight saving time.
    fn expressions(&self) -> anyhow::Result<f64> {
        println!(
            "{:<20} {:<14} {:>9} {:>22} {:>22} {:>22}",
            "cron", "zone", "callsheet", "cron-parser", "croner", "cron"
        );
        let mut slowest: f64 = 0.0;
        for expression in EXPRESSIONS {
            for zone in ZONES {
                let tz: Tz = zone.parse().context("a zone")?;
                let ours = self.of(&*compiled(cron(expression).timezone(zone)));
                if zone == ZONES[1] {
                    slowest = slowest.max(ours);
                }
                // The crates have dialects of their own: an expression that one does not take is left out.
                let parser = cron_parser::Schedule::parse(&expression.replace("FRI", "5")).ok();
                let parser = parser.map(|cron| self.time(tz, |now| cron.next_after(now)));
                let croner = croner::Cron::from_str(expression).ok();
                let croner =
                    croner.map(|cron| self.time(tz, |now| cron.find_next_occurrence(now, false).ok()));
                let crate_cron =
                    cron::Schedule::from_str(&format!("0 {}", expression.replace("1-5", "Mon-Fri"))).ok();
                let crate_cron = crate_cron.map(|cron| self.time(tz, |now| cron.after(now).next()));
                let beside = |nanos: Option<f64>| match nanos {
                    Some(nanos) => format!("{nanos:.0} ({:.1} ×)", nanos / ours),
                    None => "–".to_owned(),
                };
                println!(
                    "{expression:<20} {zone:<14} {ours:>9.0} {:>22} {:>22} {:>22}",
                    beside(parser),
                    beside(croner),
                    beside(crate_cron)
                );
            }
        }
        Ok(slowest)
    }

    /// Every kind and combinator.
    fn kinds(&self) -> anyhow::Result<()> {
        let holidays = || calendar("holidays").dates(["2026-12-25", "2027-01-01"]).weekdays([Sat, Sun]);
        let instants: Vec<DateTime<Utc>> =
            (0..1_000).filter_map(|nth| DateTime::from_timestamp(1_767_225_600 + nth * 3_600, 0)).collect();
        let kinds: [(&str, Definition); 13] = [
            ("every 5m", every("5m").into()),
            ("random 1m to 5m", random("1m", "5m").into()),
            ("daily", daily().at(["09:30", "18:00"]).into()),
            ("daily every 3", daily().every(3).at("09:30").into()),
            ("weekly every 2", weekly().on([Mon, Thu]).every(2).at("09:30").into()),
            ("monthly on 1, -1", monthly().on([1, -1]).at("09:30").into()),
            ("at, 1000 instants", at(instants).into()),
            ("cron */10 seconds", cron("*/10 * * * * *").into()),
            ("cron LW", cron("0 0 LW * *").into()),
            ("cron FRI#2", cron("0 0 * * FRI#2").into()),
            ("any of 3", any([every("5m").into(), daily().into(), cron("0 9 * * 1-5").into()]).into()),
            ("except holidays", cron("0 * * * *").except(holidays()).into()),
            ("jitter, window", cron("0 * * * *").jitter("5m").starting_at(START).into()),
        ];
        println!("\n{:<20} {:>14} {:>14}", "kind", ZONES[0], ZONES[1]);
        for (name, definition) in kinds {
            let [utc, zoned] = ZONES.map(|zone| self.of(&*compiled(definition.clone().timezone(zone))));
            println!("{name:<20} {utc:>14.0} {zoned:>14.0}");
        }
        Ok(())
    }

    fn of(&self, schedule: &dyn Schedule) -> f64 {
        self.time(Utc, |now| schedule.next_after(*now))
    }

    /// Nanoseconds for one step, from each answer to the next; it starts again when there is none.
    fn time<Z: chrono::TimeZone>(
        &self,
        zone: Z,
        mut next: impl FnMut(&DateTime<Z>) -> Option<DateTime<Z>>,
    ) -> f64 {
        let start: DateTime<Utc> = START.parse().unwrap_or_default();
        let start = start.with_timezone(&zone);
        let mut rounds: Vec<f64> = (0..self.rounds)
            .map(|_| {
                let mut now = start.clone();
                let started = Instant::now();
                for nth in 0..self.steps {
                    // Not into the far future, where there are no changes of the clocks.
                    let is_far = nth % 16 == 0;
                    now = black_box(next(&now)).filter(|_| !is_far).unwrap_or_else(|| start.clone());
                }
                started.elapsed().as_nanos() as f64 / self.steps as f64
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    }
}

fn compiled(definition: impl IntoSchedule) -> Arc<dyn Schedule> {
    definition.into_schedule().unwrap_or_else(|faults| panic!("{faults}"))
}
