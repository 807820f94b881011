//! What the benchmarks measure with: written once for all of them.

// Each benchmark uses its own part of it.
#![allow(dead_code, unused_imports)]

mod lateness;
mod processor;
mod ticks;

pub(crate) use self::{
    lateness::{Lateness, histogram, late_micros, locked},
    processor::{processor_time, resident_and_of_files, resident_bytes},
    ticks::{TickCounter, Ticks},
};
