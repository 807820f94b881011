//! Numbers that look random, and are the same everywhere.

use siphasher::sip::SipHasher24;

/// Where random intervals and jitter come from: the name of the job, unless another text is given.
///
/// SipHash-2-4 with the key (0, 0) of the text's UTF-8 bytes. A number of the seed is SipHash-2-4 of a 64-bit
/// integer (its eight bytes, little endian) with the key (seed, domain): the domain is 1 for random intervals
/// and 2 for jitter. Neither changes between versions or platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u64);

/// What a number is for, so that one use says nothing about another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Domain {
    RandomInterval = 1,
    Jitter = 2,
}

impl Seed {
    pub(super) fn of(text: &str) -> Self {
        Self(SipHasher24::new_with_keys(0, 0).hash(text.as_bytes()))
    }

    /// A number from 0 to `max`, both inclusive, all equally likely; 0 if `max` is negative.
    pub(super) fn number(self, domain: Domain, of: i64, max: i64) -> i64 {
        let Ok(count) = u64::try_from(max.saturating_add(1)) else { return 0 };
        let hash = SipHasher24::new_with_keys(self.0, domain as u64).hash(&of.to_le_bytes());
        // The high half of the product: no division, and no loss, as it is below `count`.
        ((u128::from(hash) * u128::from(count)) >> 64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change of these numbers moves the ticks of jobs that run already.
    #[test]
    fn the_numbers_never_change() {
        let seed = Seed::of("mail");

        let numbers: Vec<i64> = (0..4).map(|of| seed.number(Domain::Jitter, of * 60_000, 30_000)).collect();
        let others: Vec<i64> = (-2..2).map(|of| seed.number(Domain::RandomInterval, of, 120_000)).collect();

        assert_eq!(numbers, [28934, 20801, 7345, 25590]);
        assert_eq!(others, [25078, 829, 51170, 73994]);
        assert_ne!(Seed::of("mail"), Seed::of("Mail"));
    }

    #[test]
    fn all_numbers_up_to_the_largest_come_and_none_beyond() {
        let mut seen = [0_u32; 7];

        for of in 0..7_000 {
            seen[seed_number(of)] += 1;
        }

        assert!(seen.iter().all(|count| (850..1_150).contains(count)), "{seen:?}");
        assert_eq!(Seed::of("x").number(Domain::Jitter, 1, 0), 0);
        assert_eq!(Seed::of("x").number(Domain::Jitter, 1, -5), 0);
    }

    fn seed_number(of: i64) -> usize {
        Seed::of("x").number(Domain::Jitter, of, 6).try_into().expect("not negative")
    }
}
