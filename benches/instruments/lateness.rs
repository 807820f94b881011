//! How late bodies start.

use std::{
    cell::OnceCell,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;

/// How late the bodies of the ticks of one time start. A process has one of it.
pub(crate) struct Lateness {
    /// Only ticks of this time are noted.
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
    /// In microseconds; a histogram of its own for each thread, so that nobody waits.
    histograms: Mutex<Vec<Arc<Mutex<Histogram<u64>>>>>,
}

impl Lateness {
    pub(crate) fn new(from: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        Self { from, until, histograms: Mutex::default() }
    }

    /// Notes how late, in microseconds, the body of the tick at `fire_time` has started.
    pub(crate) fn note(&self, fire_time: DateTime<Utc>, micros: u64) {
        thread_local! {
            static OWN: OnceCell<Arc<Mutex<Histogram<u64>>>> = const { OnceCell::new() };
        }
        if self.from <= fire_time && fire_time < self.until {
            OWN.with(|own| locked(own.get_or_init(|| self.of_thread())).saturating_record(micros));
        }
    }

    /// What was noted so far.
    pub(crate) fn all(&self) -> Histogram<u64> {
        let mut all = histogram();
        for one in locked(&self.histograms).iter() {
            all.add(&*locked(one)).expect("invariant: same bounds");
        }
        all
    }

    fn of_thread(&self) -> Arc<Mutex<Histogram<u64>>> {
        let own = Arc::new(Mutex::new(histogram()));
        locked(&self.histograms).push(own.clone());
        own
    }
}

/// How late a body is that starts now, in microseconds.
pub(crate) fn late_micros(fire_time: DateTime<Utc>) -> u64 {
    let late = (Utc::now() - fire_time).num_microseconds().and_then(|micros| u64::try_from(micros).ok());
    late.unwrap_or_else(|| panic!("never early, but for {fire_time}"))
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("invariant: good bounds")
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
