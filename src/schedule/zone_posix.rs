//! Zones as POSIX writes them: `EST5`, `CET-1CEST,M3.5.0,M10.5.0/3`.

use super::zone_data::ZoneData;

/// Cities that people know, where several have the same clocks.
const KNOWN: [&str; 20] = [
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Panama",
    "America/Phoenix",
    "America/Sao_Paulo",
    "America/Anchorage",
    "Pacific/Honolulu",
    "Europe/London",
    "Europe/Lisbon",
    "Europe/Berlin",
    "Europe/Athens",
    "Europe/Moscow",
    "Africa/Lagos",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Pacific/Auckland",
];

/// Whether it is a name of at least three letters, or in angle brackets, with an offset behind it.
pub(super) fn is_posix(text: &str) -> bool {
    let behind_name = match text.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>').map(|(_, rest)| rest),
        None => {
            let letters = text.bytes().take_while(u8::is_ascii_alphabetic).count();
            (letters >= 3).then(|| &text[letters..])
        }
    };
    behind_name.is_some_and(|offset| {
        let digits = offset.strip_prefix(['+', '-']).unwrap_or(offset);
        digits.starts_with(|first: char| first.is_ascii_digit())
    })
}

/// The name of a zone whose clocks go on by this rule, or by one of these names and offsets; a city that
/// people know, if there is one.
pub(super) fn zone_of<'a>(text: &str, data: &'a ZoneData) -> Option<&'a str> {
    let is_same = |rule: &str| rule == text || rule.split(',').next() == Some(text);
    let same: Vec<_> = data.names().filter(|name| data.posix_rule(name).is_some_and(is_same)).collect();
    let known = KNOWN.iter().find_map(|known| same.iter().find(|name| *name == known));
    known.or(same.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::zone_data::current;

    #[test]
    fn the_clocks_of_a_posix_text_have_a_city() {
        for (text, city) in [
            ("EST5", "America/Panama"),
            ("CET-1CEST", "Europe/Berlin"),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "Europe/Berlin"),
            ("JST-9", "Asia/Tokyo"),
            ("IST-5:30", "Asia/Kolkata"),
            ("AEST-10AEDT", "Australia/Sydney"),
            ("HST10", "Pacific/Honolulu"),
            ("<-03>3", "America/Sao_Paulo"),
        ] {
            assert!(is_posix(text), "{text}");
            assert_eq!(zone_of(text, current()), Some(city), "{text}");
        }
        for text in ["EST6EDT", "XYZ3"] {
            assert!(is_posix(text), "{text}");
            assert_eq!(zone_of(text, current()), None, "{text}");
        }
        for text in ["", "UT2", "CEST", "Europe/Lisbon", "Etc/GMT", "<-03", "EST+", "+02:00"] {
            assert!(!is_posix(text), "{text}");
        }
    }

    #[test]
    fn every_known_city_is_one() {
        assert!(KNOWN.iter().all(|name| current().zone(name).is_some()));
    }
}
