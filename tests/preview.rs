//! The example `preview` as a program: what it prints, and how it refuses.

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

fn preview(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("it runs")
}

/// With the time zone data of a directory.
fn preview_by(data: &Path, arguments: &[&str]) -> Output {
    command().args(arguments).env("CALLSHEET_TZDIR", data).output().expect("it runs")
}

fn command() -> Command {
    let test = env::current_exe().expect("a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps/<test>");
    let example = profile.join("examples").join(format!("preview{}", env::consts::EXE_SUFFIX));
    assert!(
        example.exists(),
        "{} is missing: `cargo test` builds it, `cargo test --test preview` does not; build it with `cargo build \
         --example preview` (and the profile and target of this test)",
        example.display()
    );
    let mut command = Command::new(example);
    command.env_remove("CALLSHEET_TZDIR");
    command
}

#[test]
fn it_prints_description_warnings_and_fire_times() {
    let output = preview(&[
        "30 1 * * *",
        "--timezone",
        "Europe/Lisbon",
        "--after",
        "2026-03-28T12:00:00Z",
        "--count",
        "2",
    ]);

    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "at 01:30 (Europe/Lisbon)\n\
         warning: the clocks of Europe/Lisbon skip 2026-03-29 01:30: it fires later by what they skip; choose another \
         time, or set the gap policy\n\
         Sun 2026-03-29 02:30:00 +01:00  01:30 does not exist on this day: the clocks skip 1h\n\
         Mon 2026-03-30 01:30:00 +01:00\n"
    );
}

/// British Columbia has not changed its clocks since the spring of 2026.
#[test]
fn the_clocks_of_vancouver_are_those_of_2026() {
    let output = preview(&[
        "0 9 * * *",
        "--timezone",
        "America/Vancouver",
        "--after",
        "2026-11-29T00:00:00Z",
        "--count",
        "1",
    ]);

    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "at 09:00 (America/Vancouver)\nSun 2026-11-29 09:00:00 -07:00\n"
    );
}

/// The file of a zone that is always one hour ahead of UTC, as `zic` writes it.
fn one_hour_ahead() -> Vec<u8> {
    // One type of local time, whose name has four letters with the zero at its end, and no change.
    let counts = [0_u32, 0, 0, 0, 1, 4].map(u32::to_be_bytes).concat();
    let offset = [3_600_u32.to_be_bytes().as_slice(), b"\0\0", b"ONE\0"].concat();
    let block = [b"TZif2".as_slice(), &[0; 15], &counts, &offset].concat();
    [block.as_slice(), &block, b"\nONE-1\n"].concat()
}

#[test]
fn newer_time_zone_data_can_be_chosen() {
    let dir = tempfile::tempdir().expect("a directory");
    let arguments = ["0 9 * * *", "--timezone", "Moon", "--after", "2031-01-01T00:00:00Z", "--count", "1"];
    for zone in ["UTC", "Moon"] {
        fs::write(dir.path().join(zone), one_hour_ahead()).expect("written");
    }
    let without_a_version = preview_by(dir.path(), &arguments);
    fs::write(dir.path().join("version"), "2031a\n").expect("written");

    let chosen = preview_by(dir.path(), &arguments);
    let without_the_zone = preview_by(dir.path(), &["0 9 * * *", "--timezone", "Europe/Lisbon"]);

    assert_eq!(String::from_utf8_lossy(&chosen.stdout), "at 09:00 (Moon)\nWed 2031-01-01 09:00:00 +01:00\n");
    for (output, message) in [
        (without_a_version, "it does not say which version it is"),
        (without_the_zone, "the time zone data 2031a has no zone `Europe/Lisbon`"),
        (preview(&arguments), "`Moon` is not the IANA name of a time zone"),
    ] {
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn json_in_json_out() {
    let definition = json!({"every": "1s", "anchored_at": "2026-01-01T00:00:00.25Z"}).to_string();

    let output = preview(&[&definition, "--json", "--after", "2026-03-28T00:00:00Z", "--count", "2"]);

    assert_eq!(output.status.code(), Some(0));
    let printed: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(
        printed,
        json!({
            "description": "every 1s, counted from 2026-01-01T00:00:00.250Z",
            "lint": [],
            "fire_times": ["2026-03-28T00:00:00.25Z", "2026-03-28T00:00:01.25Z"]
        })
    );
}

#[test]
fn a_zone_that_is_given_is_that_of_schedules_without_one() {
    let first = |schedule: &str| -> Value {
        let zone = ["--timezone", "Europe/Lisbon"];
        let arguments = [&[schedule, "--json", "--after", "2026-07-01T00:00:00Z", "--count", "1"], &zone[..]];
        let output = preview(&arguments.concat());
        let printed: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        printed["fire_times"][0].clone()
    };

    assert_eq!(first("0 9 * * *"), "2026-07-01T08:00:00Z");
    assert_eq!(first("TZ=Asia/Tokyo 0 10 * * *"), "2026-07-01T01:00:00Z");
    assert_eq!(first(r#"{"daily": {"at": ["10:00"]}, "timezone": "Asia/Tokyo"}"#), "2026-07-01T01:00:00Z");
}

#[test]
fn what_is_refused_is_said_on_stderr_with_status_2() {
    for (arguments, message) in [
        (&["0 25 * * *"][..], "column 3: `25` is not an hour"),
        (&[r#"{"daily": {"at": ["24:00"]}}"#, "--json"], "daily.at[0] \"24:00\": a day ends before 24:00"),
        (&["0 9 * * *", "--timezone", "Lisbon"], "`Lisbon` is not the IANA name of a time zone"),
        (&["0 9 * * *", "--after", "now"], "--after \"now\": this is not an RFC 3339 time"),
        (&["0 9 * * *", "--count", "0"], "--count \"0\": it is a number from 1 to 10000"),
        (&["0 9 * * *", "--count"], "--count needs a value"),
        (&["0 9 * * *", "--jason"], "\"--jason\" is one argument too many"),
        (&[], "the schedule is missing"),
    ] {
        let output = preview(arguments);

        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(message), "{arguments:?}: {said}");
    }
}
