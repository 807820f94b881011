//! How much a history in memory keeps.

/// How much a history in the memory of its process keeps. Of more, the oldest records are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryBounds {
    /// How many runs, at least 1. Up to a tenth of them are failures that are older than the rest: they are kept
    /// longer. Default: 10,000.
    pub runs: usize,
    /// How many decisions, at least 1. Default: 10,000.
    pub decisions: usize,
    /// How many operations, at least 1. Default: 1,000.
    pub operations: usize,
    /// Of how many jobs there is a row, at least 2; of more, the row goes of one that has not run for long.
    /// Default: 100,000.
    pub jobs: usize,
    /// How many bytes all records take, with their texts and without the rows of jobs; at least 65,536.
    /// Default: 16 MiB.
    pub bytes: usize,
}

/// The least that the bytes of a history in memory may be.
pub const MEMORY_BYTES_MIN: usize = 64 * 1024;

impl Default for MemoryBounds {
    fn default() -> Self {
        Self { runs: 10_000, decisions: 10_000, operations: 1_000, jobs: 100_000, bytes: 16 * 1024 * 1024 }
    }
}
