//! By which time zone data nodes go.

use std::sync::Arc;

use crate::name::NodeId;

/// The most versions of time zone data that a node tells apart.
pub const OTHER_ZONE_DATA_MAX: usize = 8;

/// Time zone data by which another node goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherZoneData {
    /// Its version, such as `2026f`.
    pub version: Arc<str>,
    /// A node that goes by it; there may be more.
    pub node: NodeId,
}
