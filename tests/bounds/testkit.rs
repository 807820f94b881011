//! The test kit.

use callsheet::{
    port::{Backend, LockError, RecordKind, Records, SystemClock},
    testkit::MemoryRecords,
};
use callsheet_actors::adapter::{RecordTable, RecordsBackend};

use super::*;

/// What a story panics with.
fn panic_of(story: impl AsyncFnOnce(&mut Rig)) -> String {
    let panicked = catch_unwind(AssertUnwindSafe(|| simulate(START, story))).expect_err("it panics");
    panicked.downcast_ref::<String>().cloned().expect("a text")
}

#[test]
fn a_rig_refuses_what_it_cannot_simulate() {
    let far = "a virtual clock moves by at most a hundred years (36525d) at once";
    let refused = [
        panic_of(async |rig| rig.advance(Duration::MAX).await),
        panic_of(async |rig| rig.suspend(TimeDelta::MAX)),
        panic_of(async |rig| rig.set_store_skew(TimeDelta::MIN)),
        panic_of(async |rig| rig.store().set_latency(Duration::MAX)),
        panic_of(async |rig| {
            let node = rig.node(node_with([])).await;
            rig.set_skew(node, TimeDelta::MAX);
        }),
    ];
    for refused in refused {
        assert!(refused.starts_with(far), "{refused}");
    }
    for lease in [Duration::ZERO, NANO, Duration::MAX] {
        let refused = panic_of(async move |rig| {
            rig.set_lease(lease);
            rig.node(node_with([])).await;
        });
        assert!(
            refused.contains("a lease is at least 1 s and at most a day; choose another one"),
            "{refused}"
        );
    }
    simulate(START, async |rig| {
        rig.advance(Duration::ZERO).await;
        rig.advance(NANO).await;
        rig.advance(secs(36_525 * 86_400)).await;
        rig.set_lease(secs(1));
        rig.store().set_latency(Duration::ZERO);
        let node = rig.node(node_with([job().run(async |_| {})])).await;
        rig.set_skew(node, TimeDelta::nanoseconds(1));
        rig.suspend(TimeDelta::zero());
        rig.advance(mins(1)).await;
        assert!((5..=6).contains(&rig.started("job")));
    });
}

#[test]
fn a_clock_drifts_by_any_number() {
    for ppm in [i32::MIN, -1, 0, 1, i32::MAX] {
        simulate(START, async |rig| {
            let node = rig.node(node_with([job().run(async |_| {})])).await;
            rig.set_drift(node, ppm);
            rig.advance(mins(1) + MILLI).await;

            // The store's time decides, whatever the clock says.
            assert!(rig.started("job") <= 6, "{ppm}");
            rig.shutdown(node, Duration::ZERO).await;
        });
    }
}

#[test]
fn a_fake_period_is_positive() {
    for number in [0, -1, i64::MIN, i64::MAX] {
        for make in [Period::hours, Period::seconds] {
            assert!(catch_unwind(|| make(number)).is_err(), "{number}");
        }
    }
    assert!(catch_unwind(|| Period::millis(0)).is_err());
    for period in [Period::millis(1), Period::millis(i64::MAX)] {
        let after = START.parse().expect("an instant");
        for panics in [0, u32::MAX] {
            let never_asked_after = DateTime::<Utc>::MAX_UTC;
            let schedule = PanickingSchedule::new(period, never_asked_after, panics);
            // There may be none, as it is beyond what a date can say.
            let _ = callsheet::schedule::Schedule::next_after(&schedule, after);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_over_records_is_one_that_the_store_takes() {
    let records = Arc::new(MemoryRecords::new(Arc::new(SystemClock::default())));
    let limits = records.limits();
    let (least, most) = (*limits.ttl.start(), *limits.ttl.end());
    let backend = |lease| RecordsBackend::new(records.clone(), "bounds", lease);

    for lease in [Duration::ZERO, NANO, least - NANO, most + NANO, Duration::MAX] {
        let faults = backend(lease).faults();
        assert_eq!(faults.len(), 1, "{lease:?}: {faults:?}");
        let opened = backend(lease).locker().open().await;
        assert!(matches!(opened, Err(LockError::Refused { .. })), "{lease:?}: {opened:?}");
    }
    for lease in [least, most] {
        let backend = backend(lease);
        assert!(backend.faults().is_empty(), "{lease:?}");
        let session = backend.locker().open().await.expect("a session opens");
        assert!(backend.locker().trusts(session), "{lease:?}");
    }
}

#[test]
fn a_table_of_records_has_sessions_at_the_ends_of_time() {
    let mut table = RecordTable::default();
    let gone = table.open(Duration::ZERO, Duration::ZERO);
    let lives = table.open(Duration::MAX - NANO, Duration::MAX);
    let alive = |table: &RecordTable| table.read(&[], &[gone, lives], None).alive;

    table.expire(Duration::ZERO);
    assert_eq!(alive(&table), [false, true]);
    assert!(!table.renew(Duration::MAX, gone) && table.renew(Duration::MAX, lives));
    table.expire(Duration::MAX - NANO);
    assert_eq!(alive(&table), [false, true]);
    table.expire(Duration::MAX);
    assert_eq!(alive(&table), [false, false]);
    for limit in [0, usize::MAX] {
        let page = table.list(RecordKind::Name, None, limit);
        assert!(page.records.is_empty() && !page.more, "{limit}");
    }
}
