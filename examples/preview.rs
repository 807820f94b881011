//! What a schedule means: its description, warnings, and the coming fire times.
//!
//! ```sh
//! cargo run --example preview -- '0 9 * * 1-5' --timezone Europe/Lisbon --after 2026-03-28T00:00:00Z --count 5
//! cargo run --example preview -- '0 9 * * *' --timezone America/Vancouver --after 2026-11-29T00:00:00Z
//! cargo run --example preview -- '{"daily": {"at": ["09:30"]}, "timezone": "Europe/Lisbon"}' --json
//! ```

use std::{error::Error, process::ExitCode};

use callsheet::schedule::{Definition, PREVIEW_MAX, any, use_zone_data};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;

const USAGE: &str = "preview SCHEDULE [--timezone ZONE] [--after INSTANT] [--count NUMBER] [--json]

SCHEDULE is a cron expression, or the JSON form of any schedule. The zone is that of a schedule that names none
(default UTC), the instant is in RFC 3339 (default now), the number is 1 to 10000 (default 10). CALLSHEET_TZDIR names a
directory of newer time zone data, such as /usr/share/zoneinfo.";

const COUNT_DEFAULT: usize = 10;

/// Exit status of a definition, or of arguments, that are refused.
const REFUSED: u8 = 2;

struct Arguments {
    schedule: Definition,
    after: DateTime<Utc>,
    count: usize,
    as_json: bool,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is what the program is for")]
fn main() -> ExitCode {
    let text = choose_zone_data()
        .and_then(|()| read_arguments(std::env::args().skip(1)))
        .and_then(|arguments| preview(&arguments));
    match text {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(refused) => {
            eprintln!("{refused}");
            ExitCode::from(REFUSED)
        }
    }
}

fn choose_zone_data() -> Result<(), Box<dyn Error>> {
    Ok(std::env::var_os("CALLSHEET_TZDIR").map_or(Ok(()), use_zone_data)?)
}

fn preview(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let Arguments { schedule, after, count, as_json } = arguments;
    let description = schedule.describe()?;
    let warnings: Vec<String> = schedule.lint(*after)?.iter().map(ToString::to_string).collect();
    let preview = schedule.preview(*after, *count)?;
    if *as_json {
        let fire_times: Vec<String> = preview.fire_times().map(in_utc).collect();
        let json = json!({"description": description, "lint": warnings, "fire_times": fire_times});
        return Ok(format!("{json}\n"));
    }
    let warnings: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    Ok(format!("{description}\n{warnings}{preview}"))
}

/// With as many decimals as needed: `2026-01-01T00:00:00.5Z`.
fn in_utc(time: DateTime<Utc>) -> String {
    let text = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    if text.contains('.') { format!("{}Z", text.trim_end_matches('Z').trim_end_matches('0')) } else { text }
}

fn read_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, Box<dyn Error>> {
    let (mut schedule, mut timezone, mut after) = (None, None, Utc::now());
    let (mut count, mut as_json) = (COUNT_DEFAULT, false);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n\n{USAGE}"));
        match argument.as_str() {
            "--timezone" => timezone = Some(value()?),
            "--after" => {
                let text = value()?;
                after = text.parse().map_err(|_| {
                    format!("--after {text:?}: this is not an RFC 3339 time; write for example 2026-03-28T00:00:00Z")
                })?;
            }
            "--count" => {
                let text = value()?;
                let number = text.parse().ok().filter(|count| (1..=PREVIEW_MAX).contains(count));
                count = number.ok_or_else(|| format!("--count {text:?}: it is a number from 1 to 10000"))?;
            }
            "--json" => as_json = true,
            _ if argument.starts_with("--") || schedule.is_some() => {
                return Err(format!("{argument:?} is one argument too many\n\n{USAGE}").into());
            }
            _ => schedule = Some(argument),
        }
    }
    let schedule: Definition =
        schedule.ok_or_else(|| format!("the schedule is missing\n\n{USAGE}"))?.parse()?;
    let schedule = match timezone {
        // A union of one: its zone is that of members that have none of their own.
        Some(zone) => any([schedule]).timezone(zone).into(),
        None => schedule,
    };
    Ok(Arguments { schedule, after, count, as_json })
}
