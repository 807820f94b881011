//! Whether the nodes of a cluster have the same jobs in their code.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::name::NodeId;

/// Which jobs a node has by its code: how many, and a number that another set does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobSet {
    /// How many jobs.
    pub count: usize,
    /// 16 hexadecimal digits of their names and schedules, whatever their order. Nobody is to forge it.
    #[serde(with = "hexadecimal")]
    pub fingerprint: u64,
}

impl fmt::Display for JobSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let jobs = if self.count == 1 { "job" } else { "jobs" };
        write!(f, "{} {jobs} ({:016x})", self.count, self.fingerprint)
    }
}

impl JobSet {
    /// Takes in a job: its name, and what tells its schedule from others.
    pub(crate) fn add(&mut self, job: &str, schedule: &str) {
        // A number of 0 bytes and of each byte; the length keeps "ab" + "c" from being "a" + "bc".
        let name_len = (job.len() as u64).to_le_bytes();
        let bytes = name_len.iter().chain(job.as_bytes()).chain(schedule.as_bytes());
        let of_job = bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
        self.count += 1;
        // A sum has no order.
        self.fingerprint = self.fingerprint.wrapping_add(of_job);
    }
}

/// FNV-1a, 64 bits: draft-eastlake-fnv, section 5. It is the same on every platform and in every build.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16)
            .map_err(|_| de::Error::custom("a fingerprint is 16 hexadecimal digits"))
    }
}

/// Decides which differences between the nodes are to be said: those that were there at two looks, each once. A node
/// says which jobs it has only now and then.
#[derive(Debug, Default)]
pub(crate) struct DriftWatch {
    /// The others that had another set at the last look, and whether it was said.
    seen: BTreeMap<NodeId, (JobSet, JobSet, bool)>,
}

impl DriftWatch {
    /// What other nodes have now. Answers what is new and to be said.
    pub(crate) fn look(
        &mut self,
        own: JobSet,
        others: impl IntoIterator<Item = (NodeId, JobSet)>,
    ) -> Vec<(NodeId, JobSet)> {
        let mut changes = Vec::new();
        let differing = others.into_iter().filter(|(_, other)| *other != own);
        let mut now = BTreeMap::new();
        for (node, other) in differing {
            let before = self.seen.get(&node).filter(|(mine, its, _)| (*mine, *its) == (own, other));
            let said = before.is_some_and(|(_, _, said)| *said);
            if before.is_some() && !said {
                changes.push((node, other));
            }
            now.insert(node, (own, other, before.is_some()));
        }
        self.seen = now;
        changes
    }

    /// Something is to be said if it is there at the next look as well.
    pub(crate) fn is_unsure(&self) -> bool {
        self.seen.values().any(|(_, _, said)| !*said)
    }

    /// How many nodes have another set, as far as it was said.
    pub(crate) fn differing(&self) -> usize {
        self.seen.values().filter(|(_, _, said)| *said).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(jobs: &[(&str, &str)]) -> JobSet {
        let mut set = JobSet::default();
        jobs.iter().for_each(|(job, schedule)| set.add(job, schedule));
        set
    }

    #[test]
    fn a_set_of_jobs_has_no_order_and_each_difference_shows() {
        let own = set(&[("a", "v1:1"), ("b", "v1:2")]);

        assert_eq!(set(&[("b", "v1:2"), ("a", "v1:1")]), own);
        for other in [
            &[("a", "v1:1")][..],
            &[("a", "v1:1"), ("b", "v1:3")],
            &[("a", "v1:1"), ("c", "v1:2")],
            &[("a", "v1:2"), ("b", "v1:1")],
            &[("av", "1:1"), ("b", "v1:2")],
        ] {
            assert_ne!(set(other), own, "{other:?}");
        }
        let written = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<JobSet>(&written).unwrap(), own);
        assert!(serde_json::from_str::<JobSet>(r#"{"count": 1, "fingerprint": "x"}"#).is_err());
    }

    #[test]
    fn a_difference_is_said_once_when_it_lasts() {
        let (own, other) = (set(&[("a", "1")]), set(&[("b", "1")]));
        let node = NodeId::numbered(2);
        let mut watch = DriftWatch::default();

        assert_eq!(watch.look(own, [(node, other)]), [], "it may say so soon");
        assert_eq!((watch.differing(), watch.is_unsure()), (0, true));
        assert_eq!(watch.look(own, [(node, other)]), [(node, other)]);
        assert_eq!(watch.look(own, [(node, other)]), [], "it was said");
        assert_eq!((watch.differing(), watch.is_unsure()), (1, false));
        assert_eq!(watch.look(own, [(node, own)]), []);
        assert_eq!(watch.differing(), 0);
        assert_eq!(watch.look(own, [(node, other)]), [], "anew");
    }
}
