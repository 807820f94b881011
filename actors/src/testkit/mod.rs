//! Tests of schedulers in virtual time: a year of a three-node cluster in seconds.
//!
//! * [`simulate`] runs a [`Rig`]: any number of nodes on one paused runtime, over one [`SharedStore`] with
//!   terms, cursors, tokens, sessions that die, and faults. Nothing in it waits in real time.
//! * [`fakes`] are schedules and bodies that misbehave on purpose.
//! * [`conformance`] checks every implementation of the [`Elector`](crate::port::Elector),
//!   [`Locker`](crate::port::Locker), [`Records`](crate::port::Records) and [`Schedule`](crate::port::Schedule) ports.
//! * [`MemoryRecords`] is a store of records in memory, [`RecordNodes`] are nodes over any store of records for the
//!   suites.

mod audit;
mod clock;
pub mod conformance;
mod definitions;
pub mod fakes;
mod record_nodes;
mod recorder;
mod records;
mod rig;
mod sizes;
mod store;

pub(crate) use self::definitions::Definitions;
pub use self::{
    clock::{VIRTUAL_TIME_MAX, VirtualClock},
    record_nodes::RecordNodes,
    recorder::{Recorded, Recorder},
    records::MemoryRecords,
    rig::{Awaited, MakeOptions, NodeIndex, Rig, simulate},
    sizes::sizes,
    store::{BadData, CallFault, SharedStore, StoreBackend},
};
pub use crate::{
    core::ledger::{NOTIFICATIONS_MAX, Record},
    engine::EngineOptions,
};
