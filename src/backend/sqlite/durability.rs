//! What an answer survives.

/// What a claim, an end or a pause that was answered survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Durability {
    /// The end of the process however it ends, and a loss of power: each transaction is on the disk before it is
    /// answered. It takes as long as the disk takes for that: 0.1 to 10 ms. The default.
    #[default]
    PowerLoss,
    /// The end of the process however it ends, `kill -9` too, but not that of the machine: after a loss of power,
    /// or a crash of the kernel, what was answered in the seconds before may be forgotten, up to the last
    /// checkpoint. Then a tick may run twice. The file is never damaged by it.
    ProcessCrash,
}
