//! Random numbers.

use uuid::Uuid;

/// 64 random bits.
pub(super) fn random() -> u64 {
    // Six bits of the 128 are always the same.
    let (one, other) = Uuid::new_v4().as_u64_pair();
    one ^ other.rotate_left(32)
}
