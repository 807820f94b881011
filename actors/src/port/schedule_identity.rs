//! What tells a changed schedule from the one that a job had.

use std::fmt;

use siphasher::sip128::SipHasher24;

/// The identity of a [`Schedule`](super::Schedule): a digest of its rule, and the version of the way in which
/// it was made.
///
/// A store keeps the identity of each job's schedule. If a node enrols the job with a schedule that
/// [differs](Self::differs_from), the schedule has changed: the ticks of the job count from the change on.
/// With the same one the ticks that it missed count as well.
///
/// It is written as `v1:` and 32 hexadecimal digits, at most 44 bytes in all. A store that keeps this text
/// compares texts: the version is what stands before the colon.
///
/// The digest is SipHash-2-4 with 128 bits and the key (0, domain), the same on every platform: the domain is
/// 1 for [data](Self::of_data) and 2 for a [text](Self::of_text). Its purpose is to find changes that happen,
/// not to withstand those who look for two rules with one digest: a person who can change a schedule needs no
/// such trick.
///
/// ```
/// use callsheet_actors::port::ScheduleIdentity;
///
/// let stored = ScheduleIdentity::of_text("high water at Lisbon, table of 2026");
///
/// assert_eq!(stored.to_string(), "v1:ef1db3770251a9512868f7ca3fcd38bc");
/// assert!(ScheduleIdentity::of_text("high water at Lisbon, table of 2027").differs_from(stored));
/// // Nobody can tell: it may be the same rule.
/// assert!(!stored.with_version(2).differs_from(stored));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScheduleIdentity {
    version: u32,
    digest: [u8; 16],
}

/// Keeps data and texts apart.
#[derive(Clone, Copy)]
enum Domain {
    Data = 1,
    Text = 2,
}

impl ScheduleIdentity {
    /// The version of this build: it grows with each change of what the same rule's digest is made of.
    pub const VERSION: u32 = 1;

    /// Of a rule that a text tells: of any length, and with any characters.
    pub fn of_text(text: &str) -> Self {
        Self::of(Domain::Text, text.as_bytes())
    }

    /// Of a rule as data: its canonical form, the same bytes on every node.
    pub fn of_data(form: &[u8]) -> Self {
        Self::of(Domain::Data, form)
    }

    fn of(domain: Domain, bytes: &[u8]) -> Self {
        let digest = SipHasher24::new_with_keys(0, domain as u64).hash(bytes).as_bytes();
        Self { version: Self::VERSION, digest }
    }

    /// The same digest, as a build of another version would have made it: for tests of nodes of different
    /// versions.
    #[must_use]
    pub const fn with_version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    /// The identity that was stored as these.
    pub(crate) const fn of_digest(version: u32, digest: [u8; 16]) -> Self {
        Self { version, digest }
    }

    /// The digest of the rule.
    pub(crate) const fn digest(self) -> [u8; 16] {
        self.digest
    }

    /// The version by which it was made.
    pub const fn version(self) -> u32 {
        self.version
    }

    /// Whether these are known to be two rules. Of identities of different versions that is never known: they
    /// count as one rule.
    pub fn differs_from(self, other: Self) -> bool {
        self.version == other.version && self.digest != other.digest
    }
}

impl fmt::Display for ScheduleIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}:{:032x}", self.version, u128::from_be_bytes(self.digest))
    }
}

impl fmt::Debug for ScheduleIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation of SipHash, `vectors.h`: 128 bits, the key 00 01 … 0f.
    #[test]
    fn the_digest_is_siphash_2_4_with_128_bits() {
        let key: [u8; 16] = std::array::from_fn(|nth| nth as u8);
        let digest = |bytes: &[u8]| SipHasher24::new_with_key(&key).hash(bytes).as_bytes();

        assert_eq!(u128::from_be_bytes(digest(&[])), 0xa3_81_7f_04_ba_25_a8_e6_6d_f6_72_14_c7_55_02_93);
        assert_eq!(u128::from_be_bytes(digest(&[0])), 0xda_87_c1_d8_6b_99_af_44_34_76_59_11_9b_22_fc_45);
    }

    #[test]
    fn only_identities_of_one_version_differ() {
        let (a, b) = (ScheduleIdentity::of_text("a"), ScheduleIdentity::of_text("b"));

        assert!(a.differs_from(b) && b.differs_from(a));
        assert!(!a.differs_from(a));
        assert!(!a.differs_from(b.with_version(2)) && !b.with_version(2).differs_from(a));
        assert!(a.with_version(2).differs_from(b.with_version(2)));
        assert_ne!(a, a.with_version(2));
    }

    #[test]
    fn data_is_never_the_same_as_a_text() {
        assert!(ScheduleIdentity::of_text("{}").differs_from(ScheduleIdentity::of_data(b"{}")));
    }

    #[test]
    fn it_is_written_with_its_version_in_44_bytes_at_most() {
        let identity = ScheduleIdentity { version: u32::MAX, digest: [0; 16] };

        assert_eq!(identity.to_string(), format!("v4294967295:{}", "0".repeat(32)));
        assert_eq!(identity.to_string().len(), 44);
        assert_eq!(
            ScheduleIdentity { version: 1, digest: [0xab; 16] }.to_string(),
            format!("v1:{}", "ab".repeat(16))
        );
    }
}
