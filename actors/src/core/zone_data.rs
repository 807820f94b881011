//! Time zone data: whether the nodes of a cluster go by the same.

use std::{sync::Arc, time::Duration};

use crate::{
    core::text::bounded,
    port::{OTHER_ZONE_DATA_MAX, OtherZoneData},
};

/// The same difference is said this often at most.
pub(crate) const SAID_EVERY_MIN: Duration = Duration::from_secs(60);

/// The most bytes of the version of time zone data; of a longer one that the store hands out, the start is
/// shown.
pub(crate) const ZONE_DATA_VERSION_MAX: usize = 200;

/// Decides which differences are new.
#[derive(Debug, Default)]
pub(crate) struct ZoneDataWatch {
    /// The other versions that were there when somebody looked last, or were said less than a minute ago.
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    version: Arc<str>,
    said_at: Duration,
}

impl ZoneDataWatch {
    /// Which of those that are there now are to be said: each version once, and again only if it was gone in
    /// between. `now` is a reading of the monotonic clock.
    pub(crate) fn changes(&mut self, now: Duration, mut others: Vec<OtherZoneData>) -> Vec<OtherZoneData> {
        for other in others.iter_mut().filter(|other| other.version.len() > ZONE_DATA_VERSION_MAX) {
            other.version = bounded(&*other.version, ZONE_DATA_VERSION_MAX).into();
        }
        self.known.retain(|known| {
            let is_there = others.iter().any(|other| other.version == known.version);
            is_there || now.saturating_sub(known.said_at) < SAID_EVERY_MIN
        });
        let mut changes = Vec::new();
        for other in others {
            let is_known = self.known.iter().any(|known| known.version == other.version);
            if !is_known && self.known.len() < OTHER_ZONE_DATA_MAX {
                self.known.push(Known { version: other.version.clone(), said_at: now });
                changes.push(other);
            }
        }
        changes
    }
}

/// The versions before and after, if a leader goes by other data than the one before it. A leader that did
/// not say by which counts as the same.
pub(crate) fn changed(former: Option<Arc<str>>, own: &Arc<str>) -> Option<(Arc<str>, Arc<str>)> {
    let former = former.filter(|former| !former.is_empty() && former != own)?;
    Some((bounded(former, ZONE_DATA_VERSION_MAX).into(), own.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NodeId;

    fn other(version: &str) -> OtherZoneData {
        OtherZoneData { version: version.into(), node: NodeId::numbered(7) }
    }

    fn said(watch: &mut ZoneDataWatch, now: u64, versions: &[&str]) -> Vec<String> {
        let others = versions.iter().map(|version| other(version)).collect();
        let changes = watch.changes(Duration::from_secs(now), others);
        changes.iter().map(|changes| changes.version.to_string()).collect()
    }

    #[test]
    fn a_version_that_the_store_hands_out_is_cut() {
        let long = "é".repeat(5_000_000);

        let changes = ZoneDataWatch::default().changes(Duration::ZERO, vec![other(&long)]);
        let changed = changed(Some((*long).into()), &"2026f".into());

        assert_eq!(*changes[0].version, *format!("{}… (cut at 200 bytes)", "é".repeat(100)));
        assert_eq!(changed.map(|(former, _)| former), Some(changes[0].version.clone()));
        let mut watch = ZoneDataWatch::default();
        let said = [0, 60, 120].map(|now| watch.changes(Duration::from_secs(now), vec![other(&long)]).len());
        assert_eq!(said, [1, 0, 0], "said once");
    }

    #[test]
    fn a_difference_is_said_once_and_again_when_it_comes_back() {
        let mut watch = ZoneDataWatch::default();

        assert_eq!(said(&mut watch, 0, &["2031a"]), ["2031a"]);
        assert_eq!(said(&mut watch, 60, &["2031a"]), [""; 0]);
        assert_eq!(said(&mut watch, 120, &["2031a", "2031b"]), ["2031b"]);
        assert_eq!(said(&mut watch, 180, &[]), [""; 0]);
        assert_eq!(said(&mut watch, 240, &["2031a"]), ["2031a"]);
    }

    #[test]
    fn a_difference_that_comes_and_goes_is_said_once_a_minute() {
        let mut watch = ZoneDataWatch::default();
        let mut count = 0;

        for second in 0..120 {
            let versions: &[&str] = if second % 2 == 0 { &["2031a"] } else { &[] };
            count += said(&mut watch, second, versions).len();
        }

        assert_eq!(count, 2);
    }

    #[test]
    fn many_versions_are_said_up_to_a_bound() {
        let mut watch = ZoneDataWatch::default();
        let versions: Vec<String> = (0..100).map(|nth| format!("20{nth}a")).collect();
        let versions: Vec<&str> = versions.iter().map(String::as_str).collect();

        assert_eq!(said(&mut watch, 0, &versions).len(), OTHER_ZONE_DATA_MAX);
        assert_eq!(said(&mut watch, 1, &versions).len(), 0);
    }

    #[test]
    fn only_another_version_is_a_change() {
        let own: Arc<str> = "2031b".into();

        assert_eq!(changed(Some("2031a".into()), &own), Some(("2031a".into(), own.clone())));
        assert_eq!(changed(Some("2031b".into()), &own), None);
        assert_eq!(changed(Some("".into()), &own), None);
        assert_eq!(changed(None, &own), None);
    }
}
