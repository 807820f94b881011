//! How a node finds out that others go by other time zone data.
//!
//! [`ZoneDataWatch`](crate::core::zone_data::ZoneDataWatch) decides which differences are new. Here the store
//! is asked once a minute, and the differences are said.

use std::time::Duration;

use actix::prelude::*;

use super::{Phase, SupervisorActor};
use crate::{event::EventKind, lock::AskOtherZoneData};

/// How often a node looks.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl SupervisorActor {
    /// Looks now, for a session was opened, and every minute from then on: a node that comes later sees those
    /// that were there, and they see it.
    pub(super) fn compare_zone_data(&mut self, ctx: &mut Context<Self>) {
        if self.parts.able.single_node || self.node().zone_data.is_empty() {
            return;
        }
        self.look_at_zone_data(ctx);
        self.look_at_zone_data_later(ctx);
    }

    fn look_at_zone_data_later(&mut self, ctx: &mut Context<Self>) {
        let looking = self.look_again(LOOK_EVERY, ctx, |actor, ctx| {
            actor.look_at_zone_data(ctx);
            actor.look_at_zone_data_later(ctx);
        });
        if let Some(former) = self.looking_at_zone_data.replace(looking) {
            ctx.cancel_future(former);
        }
    }

    fn look_at_zone_data(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        let asked = self.parts.lock.send(AskOtherZoneData);
        ctx.spawn(asked.into_actor(self).map(|answer, actor, _| {
            // Without an answer it is asked again in a minute.
            let Ok(Ok(others)) = answer else { return };
            let node = actor.node().clone();
            for other in actor.zone_data.changes(node.clock.elapsed(), others) {
                node.publisher.publish(|| EventKind::ZoneDataDiffers {
                    own: node.zone_data.to_string(),
                    other: other.version.to_string(),
                    other_node: other.node,
                });
            }
        }));
    }
}
