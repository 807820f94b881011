//! What clients of a store of records tell each other.

use std::sync::Arc;

use futures_util::stream::BoxStream;

/// The most bytes of a hint.
pub const HINT_BYTES_MAX: usize = 512;

/// The most hints that wait for a subscriber. Beyond it the oldest are dropped, and it hears that it
/// [lagged](Heard::Lagged).
pub const HINTS_WAITING_MAX: usize = 1_024;

/// The hints of a subscription.
pub type HintStream = BoxStream<'static, Heard>;

/// Something that a subscriber hears. A hint is a reason to look: it may be lost, come twice or late, and what it
/// says is in the records, which are asked before it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// What a [unit](super::Unit::hints) that was made says. It means nothing to the store.
    Hint(Arc<[u8]>),
    /// Hints may have been lost: the subscriber was slow, or the store was away.
    Lagged,
}
