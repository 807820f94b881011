//! The calendar: what the clock shows twice, zones that differ by half an hour, and that it goes on with the time.

use callsheet::Callsheet;
use serde_json::{Value, json};

use crate::{
    alice,
    browser::{Browser, WIDE},
    cluster::{Served, Store, stop},
    quiet,
};

/// The labels of the rows, how many cells they have together, and the heads of the columns, of so many buckets of so
/// many minutes from an instant on.
const MAP: &str = "const [from, length, minutes, is_week, done] = arguments;
    const page = document.querySelector('script[src*=\"app.js\"]').src.replace('app.js', 'pages/calendar.js');
    const buckets = Array.from({ length }, (_, n) => ({ at: new Date(Date.parse(from) + n * minutes * 60_000) }));
    import(page).then(({ rows_of, columns_of }) => {
        const rows = rows_of(buckets, is_week);
        done([rows.map((row) => row.label), rows.reduce((sum, row) => sum + row.cells.size, 0),
            columns_of(buckets, is_week)]);
    }, (error) => done([String(error)]))";

async fn map(browser: &Browser, from: &str, length: usize, minutes: usize, is_week: bool) -> Value {
    browser.run_async(MAP, vec![json!(from), json!(length), json!(minutes), json!(is_week)]).await
}

#[actix_web::test]
async fn an_hour_that_the_clock_shows_twice_has_two_rows() {
    let node = Store::new().node(Callsheet::builder().job(quiet("hourly"))).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.in_zone("Europe/Lisbon").await;
    browser.open(&served.url, "calendar").await;
    browser.shows("Europe/Lisbon").await;

    // At 02:00 of this day it is 01:00 again.
    let day = map(&browser, "2026-10-24T23:00:00Z", 16, 15, false).await;
    assert_eq!(day[0], json!(["00:00", "01:00", "01:00 again", "02:00"]), "{day}");
    assert_eq!(day[1], 16, "each bucket has a cell: {day}");
    let week = map(&browser, "2026-10-24T23:00:00Z", 169, 60, true).await;
    assert_eq!(week[0][0], "Sun 10-25", "{week}");
    assert_eq!(week[0][1], "Sun 10-25 again", "{week}");
    assert_eq!((&week[0][2], &week[1]), (&json!("Mon 10-26"), &json!(169)), "{week}");
    let spring = map(&browser, "2026-03-29T00:00:00Z", 23, 60, true).await;
    assert_eq!(
        (&spring[0], &spring[1]),
        (&json!(["Sun 03-29"]), &json!(23)),
        "one hour is left out: {spring}"
    );
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

#[actix_web::test]
async fn in_a_zone_of_half_hours_the_columns_begin_at_the_half_hour() {
    let node = Store::new().node(Callsheet::builder().job(quiet("hourly"))).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.in_zone("Asia/Kolkata").await;
    browser.open(&served.url, "calendar?view=week").await;
    // `Asia/Calcutta` is its other name.
    browser.shows("in your time, Asia/").await;
    browser.shows("05:30").await;

    let week = map(&browser, "2026-12-01T00:00:00Z", 168, 60, true).await;
    assert_eq!((&week[1], &week[2][5]), (&json!(168), &json!("05:30")), "{week}");
    let day = map(&browser, "2026-12-01T00:00:00Z", 96, 15, false).await;
    assert_eq!((&day[0][0], &day[0][1], &day[1]), (&json!("05:00"), &json!("06:00"), &json!(96)), "{day}");
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

#[actix_web::test]
async fn a_calendar_that_is_seen_again_is_read_again() {
    let node = Store::new().node(Callsheet::builder().job(quiet("first"))).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "calendar").await;
    browser.shows("of 1 job").await;

    node.add(quiet("second")).await.expect("it is good");

    let script = "document.dispatchEvent(new Event('visibilitychange'));
        return document.body.innerText.includes('of 2 jobs')";
    browser.until("the calendar has both jobs", script, vec![]).await;
    browser.end().await;
    served.stop().await;
    stop(node).await;
}
