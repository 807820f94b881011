//! What a backend can do.

use std::fmt;

use crate::{
    core::policy::{Fires, OnLost, Overlap, Policies},
    fault::Fault,
    name::JobName,
    word::words,
};

/// Something that not every backend can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// Cursors, and the number of runs, outlive the processes: a node that starts goes on where the last one
    /// stopped.
    DurableCursor,
    /// A run gets a token that is greater than every one before for its key.
    Fencing,
    /// A key that one node has is taken for all nodes.
    ClusterOverlap,
    /// Pauses are kept, and hold on every node.
    Pauses,
    /// Lost runs are kept until they are retried.
    PendingRetries,
    /// The store has a time of its own, by which it decides what is due.
    StoreTime,
    /// Nodes are told what others did.
    Notifications,
    /// A tick that one node has claimed is taken for all nodes, whoever leads.
    ClusterTicks,
    /// What is kept of a job can be moved to another name of it.
    Renames,
}

words!(Capability {
    DurableCursor: "durable_cursor",
    Fencing: "fencing",
    ClusterOverlap: "cluster_overlap",
    Pauses: "pauses",
    PendingRetries: "pending_retries",
    StoreTime: "store_time",
    Notifications: "notifications",
    ClusterTicks: "cluster_ticks",
    Renames: "renames",
});

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 9] = [
        Self::DurableCursor,
        Self::Fencing,
        Self::ClusterOverlap,
        Self::Pauses,
        Self::PendingRetries,
        Self::StoreTime,
        Self::Notifications,
        Self::ClusterTicks,
        Self::Renames,
    ];
}

/// What a backend [can do](super::Backend::capabilities).
///
/// A job whose policies need something else is refused when it is added:
///
/// | policy | needs |
/// |---|---|
/// | fires on [any node](Fires::AnyNode) | [`ClusterTicks`](Capability::ClusterTicks) |
/// | the same, and the schedule counts from the end of runs | `ClusterTicks` and
/// [`ClusterOverlap`](Capability::ClusterOverlap) |
/// | overlap [`Queue`](Overlap::Queue), [`Allow`](Overlap::Allow) | `ClusterOverlap` |
/// | overlap [`Replace`](Overlap::Replace) | `ClusterOverlap` and [`Notifications`](Capability::Notifications) |
/// | lost runs are [retried](OnLost::Retry) | [`PendingRetries`](Capability::PendingRetries) |
/// | `pause_after` | [`Pauses`](Capability::Pauses) |
/// | `limit` | [`DurableCursor`](Capability::DurableCursor), unless there can be one node only |
/// | [`formerly`](crate::Job::formerly) | [`Renames`](Capability::Renames) |
///
/// A job of [one node](Fires::Local) needs none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u16);

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);
    /// All that there are.
    pub const ALL: Self = Self(u16::MAX >> (16 - Capability::ALL.len()));

    /// These, and another one.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u8)
    }

    /// These without one.
    #[must_use]
    pub const fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability as u8))
    }

    /// These, and another one if it is there.
    #[must_use]
    pub const fn with_if(self, there: bool, capability: Capability) -> Self {
        if there { self.with(capability) } else { self }
    }

    /// Whether this is one of them.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u8 != 0
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Capability::ALL.into_iter().filter(|one| self.has(*one))).finish()
    }
}

/// A backend, as far as it decides which jobs can be added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Able {
    pub(crate) backend: &'static str,
    pub(crate) capabilities: Capabilities,
    pub(crate) single_node: bool,
}

impl Able {
    /// What is wrong with a job on this backend: with its policies, and that it had another name. Its schedule
    /// `counts_from_completion`, or does not.
    pub(crate) fn faults(
        &self,
        job: &JobName,
        policies: &Policies,
        counts_from_completion: bool,
        formerly: Option<&JobName>,
    ) -> Vec<Fault> {
        if self.capabilities == Capabilities::ALL {
            return Vec::new();
        }
        let lacks = |need: &(&str, String, Capability)| !self.capabilities.has(need.2);
        let fault = |(policy, value, capability): (&str, String, Capability)| {
            let rule = format!("it needs {capability}, which the backend {:?} does not have", self.backend);
            let cure = "choose another policy, leave it out, or choose a backend that has it";
            Fault::new(policy, value, rule, cure).within(&format!("job {:?}", job.as_str()))
        };
        let mut needs = needs(policies, self.single_node);
        if policies.fires == Fires::AnyNode && counts_from_completion {
            // Each node would count from the ends of its own runs.
            let what = format!("{} by a schedule that counts from the end of runs", policies.fires);
            needs.push(("fires", what, Capability::ClusterOverlap));
        }
        needs.extend(formerly.map(|former| ("formerly", former.as_str().to_owned(), Capability::Renames)));
        needs.into_iter().filter(lacks).map(fault).collect()
    }
}

/// Which policies need what.
fn needs(policies: &Policies, single_node: bool) -> Vec<(&'static str, String, Capability)> {
    let mut needs = Vec::new();
    match policies.fires {
        Fires::Local => return needs,
        Fires::Leader => {}
        Fires::AnyNode => needs.push(("fires", policies.fires.to_string(), Capability::ClusterTicks)),
    }
    let overlap = || policies.overlap.to_string();
    match policies.overlap {
        Overlap::Skip => {}
        Overlap::Queue(_) | Overlap::Allow(_) => {
            needs.push(("overlap", overlap(), Capability::ClusterOverlap))
        }
        Overlap::Replace => {
            needs.push(("overlap", overlap(), Capability::ClusterOverlap));
            needs.push(("overlap", overlap(), Capability::Notifications));
        }
    }
    match policies.on_lost {
        OnLost::Record => {}
        OnLost::Retry => needs.push(("on_lost", policies.on_lost.to_string(), Capability::PendingRetries)),
    }
    if let Some(pause_after) = policies.pause_after {
        needs.push(("pause_after", pause_after.to_string(), Capability::Pauses));
    }
    if let Some(limit) = policies.limit.filter(|_| !single_node) {
        needs.push(("limit", limit.to_string(), Capability::DurableCursor));
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        for one in Capability::ALL {
            assert!(Capabilities::ALL.has(one) && !Capabilities::NONE.has(one));
            assert!(Capabilities::NONE.with(one).has(one) && !Capabilities::ALL.without(one).has(one));
            for other in Capability::ALL.into_iter().filter(|other| *other != one) {
                assert!(
                    !Capabilities::NONE.with(one).has(other) && Capabilities::ALL.without(one).has(other)
                );
            }
        }
        assert_eq!(
            Capability::ALL.into_iter().fold(Capabilities::NONE, Capabilities::with),
            Capabilities::ALL
        );
        assert_eq!(format!("{:?}", Capabilities::NONE.with(Capability::Pauses)), "{Pauses}");
    }

    #[test]
    fn a_policy_that_the_backend_cannot_keep_is_named_with_backend_and_cure() {
        let job = JobName::new("report").expect("a name");
        let demanding = Policies {
            fires: Fires::AnyNode,
            overlap: Overlap::Replace,
            on_lost: OnLost::Retry,
            pause_after: Some(3),
            limit: Some(9),
            ..Policies::default()
        };
        let able = |capabilities, single_node| Able { backend: "elected", capabilities, single_node };
        let faults = |able: Able, policies: &Policies| -> Vec<String> {
            able.faults(&job, policies, false, None).iter().map(ToString::to_string).collect()
        };

        let all = faults(able(Capabilities::NONE, false), &demanding);
        assert_eq!(all.len(), 6, "{all:#?}");
        for words in
            ["job \"report\": on_lost", "retry", "needs pending_retries", "\"elected\"", "choose another"]
        {
            assert!(all[3].contains(words), "{words:?}: {}", all[3]);
        }
        for (lacks, count) in [
            (Capability::ClusterOverlap, 1),
            (Capability::ClusterTicks, 1),
            (Capability::Notifications, 1),
            (Capability::PendingRetries, 1),
            (Capability::Pauses, 1),
            (Capability::DurableCursor, 1),
            (Capability::Fencing, 0),
            (Capability::StoreTime, 0),
            (Capability::Renames, 0),
        ] {
            let found = faults(able(Capabilities::ALL.without(lacks), false), &demanding);
            assert_eq!(found.len(), count, "{lacks}: {found:?}");
        }
        assert_eq!(
            faults(able(Capabilities::ALL.without(Capability::DurableCursor), true), &demanding),
            [""; 0]
        );
        assert_eq!(faults(able(Capabilities::NONE, false), &Policies::default()), [""; 0]);
        let former = JobName::new("overview").expect("a name");
        let renamed = |able: Able| able.faults(&job, &Policies::default(), false, Some(&former));
        assert_eq!(renamed(able(Capabilities::NONE.with(Capability::Renames), false)), []);
        let refused = renamed(able(Capabilities::ALL.without(Capability::Renames), false));
        assert!(refused.len() == 1 && refused[0].to_string().contains("needs renames"), "{refused:?}");
        let any = Policies { fires: Fires::AnyNode, ..Policies::default() };
        let votes = able(Capabilities::NONE.with(Capability::ClusterTicks), false);
        assert_eq!(votes.faults(&job, &any, false, None), []);
        let counting = votes.faults(&job, &any, true, None);
        assert!(
            counting.len() == 1 && counting[0].to_string().contains("from the end of runs"),
            "{counting:?}"
        );
        let local = Policies { fires: Fires::Local, ..demanding };
        assert_eq!(faults(able(Capabilities::NONE, false), &local), [""; 0]);
    }
}
