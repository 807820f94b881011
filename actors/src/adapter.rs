//! What those who write an adapter of a [port](crate::port) need besides the traits: the engine's own rules,
//! as values.
//!
//! * [`Ledger`]: the rules of a store, in memory. A store of one process wraps it; others compare themselves
//!   with it.
//! * [`RecordsBackend`]: a backend over any store of [records](crate::port::Records), with the rules of the ledger.
//!   [`RecordTable`]: the rules of the records themselves, for a store that keeps all of them in one place.
//! * [`Elected`]: a backend over an elector alone.
//! * [`Composed`]: a backend of two systems: one elects, the other one keeps claims.
//! * [`MemoryCatalogue`]: a [catalogue](crate::port::Catalogue) in memory.
//! * [`MemoryHistory`]: a [history](crate::port::History) in memory. [`JobRow`]: what such a one keeps of a job.
//! * [`Backoff`]: the pauses before something that failed is tried again.
//! * [`RoundTrips`], [`LeaseFit`], [`lease_min`]: how long a round trip takes, and which lease that allows.
//! * [`clock_origin`]: two clocks are compared by what each read at the same zero.
//! * [`LogBudget`]: how many lines of one kind are logged in a minute.
//! * [`bounded`], [`one_line`], [`storable`], [`Grouped`]: texts of others, made fit to be shown and to be
//!   stored.
//!
//! Nothing here but [`RecordsBackend`], [`Elected`] and [`Composed`] does any I/O or reads a clock.

pub use crate::{
    composed::Composed,
    elected::{Elected, OnUnproven},
    history::{JobRow, MemoryHistory},
    memory_catalogue::MemoryCatalogue,
    records::{RecordTable, RecordsBackend},
};

pub use crate::core::{
    backoff::Backoff,
    clock::clock_origin,
    ledger::Ledger,
    log_budget::{About, Asked, LeftOut, LogBudget},
    round_trip::{LeaseFit, RoundTrips, lease_min},
    storable::storable,
    text::{Grouped, bounded, one_line},
};
