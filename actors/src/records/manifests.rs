//! What sessions say of their nodes.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    format::{ManifestRow, decode, encode},
    servers::other_server,
    shared::{Shared, lock_error},
};
use crate::port::{
    Change, Commit, Committed, LockError, OTHER_ZONE_DATA_MAX, OtherZoneData, RecordChange, RecordKind,
    RecordName, RecordSession, RecordsError, Unit, UnitAnswer, Version,
};

/// How many manifests are read at once.
const PAGE: usize = 256;

/// What this node said in its session.
pub(super) struct OwnManifest {
    session: RecordSession,
    /// `None`: it is not known whether the last one was written.
    version: Option<Version>,
    row: ManifestRow,
}

/// What a session says of its node.
pub(super) struct Manifest {
    pub(super) session: RecordSession,
    pub(super) version: Version,
    pub(super) row: ManifestRow,
}

pub(super) fn manifest_name(session: RecordSession) -> RecordName {
    RecordName::new(RecordKind::Manifest, format!("{:016x}", session.0))
}

/// The session of the manifest with this id.
pub(super) fn session_of_manifest(id: &str) -> Option<RecordSession> {
    u64::from_str_radix(id, 16).ok().map(RecordSession)
}

impl Shared {
    /// Says for the first time in a session what its node is.
    pub(super) async fn first_manifest(&self, session: RecordSession) -> Result<(), LockError> {
        let zones = self.zones().to_string();
        let name = self.node_name.get().map(|name| name.to_string()).unwrap_or_default();
        let row = ManifestRow { node: self.node, zones, name, stands: true };
        let mut own = self.manifest.lock().await;
        *own = None;
        let own = own.insert(OwnManifest { session, version: Some(Version::ABSENT), row });
        self.say(own).await
    }

    /// Says whether the node stands as a candidate, unless it has said so.
    pub(super) async fn stand(&self, stands: bool) -> Result<(), LockError> {
        let session = self.session()?;
        let mut own = self.manifest.lock().await;
        match own.as_mut().filter(|own| own.session == session) {
            Some(own) if own.row.stands == stands && own.version.is_some() => Ok(()),
            Some(own) => {
                own.row.stands = stands;
                self.say(own).await
            }
            None => Ok(()),
        }
    }

    /// Says once more what it said, as a proof that something can be written.
    pub(super) async fn say_again(&self) -> Result<(), LockError> {
        let session = self.session()?;
        let mut own = self.manifest.lock().await;
        match own.as_mut().filter(|own| own.session == session) {
            Some(own) => self.say(own).await,
            None => Ok(()),
        }
    }

    async fn say(&self, own: &mut OwnManifest) -> Result<(), LockError> {
        let name = manifest_name(own.session);
        let version = match own.version.take() {
            Some(version) => version,
            None => {
                let read = self.read(std::slice::from_ref(&name), &[]).await.map_err(lock_error)?;
                read.records.first().map_or(Version::ABSENT, |stored| stored.version)
            }
        };
        let bytes = encode(&own.row).map_err(lock_error)?;
        let change = RecordChange { name, version, change: Change::Put(bytes) };
        let units = vec![Unit { records: vec![change], hints: Vec::new() }];
        let commit = Commit { alive: vec![own.session], units, ..Commit::default() };
        match self.records.commit(&commit).await.map_err(lock_error)? {
            Committed::Units { answers, time } => {
                self.clock.heard(time);
                if let Some(UnitAnswer::Made { versions }) = answers.first() {
                    own.version = versions.first().copied();
                    return Ok(());
                }
                Err(LockError::NotDone {
                    reason: "what the node says of itself was changed by others".to_owned(),
                })
            }
            Committed::Dead(_) | Committed::LeaderMoved => Err(self.lost_session(own.session)),
            Committed::OtherServer => Err(lock_error(other_server())),
        }
    }

    /// What the sessions say that are alive, and what those said that are gone.
    pub(super) async fn manifests(&self) -> Result<(Vec<Manifest>, Vec<Manifest>), RecordsError> {
        let mut all = Vec::new();
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.records.list(RecordKind::Manifest, after.as_deref(), PAGE).await?;
            for listed in &page.records {
                let Some(session) = session_of_manifest(&listed.id) else { continue };
                let row = decode(&listed.record.bytes)?;
                all.push(Manifest { session, version: listed.record.version, row });
            }
            match page.records.last().filter(|_| page.more) {
                Some(last) => after = Some(last.id.clone()),
                None => break,
            }
        }
        let sessions: Vec<u64> = all.iter().map(|manifest| manifest.session.0).collect();
        let alive = self.alive(&sessions).await?;
        Ok(all.into_iter().partition(|manifest| alive.contains(&manifest.session.0)))
    }

    /// Deletes what sessions said that are gone and hold nothing.
    pub(super) async fn delete_manifests(&self, of: &[(RecordSession, Version)]) -> Result<(), RecordsError> {
        for part in of.chunks(self.records.limits().units.max(1)) {
            let delete = |(session, version): &(RecordSession, Version)| {
                let change =
                    RecordChange { name: manifest_name(*session), version: *version, change: Change::Delete };
                Unit { records: vec![change], hints: Vec::new() }
            };
            let units = part.iter().map(delete).collect();
            self.records.commit(&Commit { units, ..Commit::default() }).await?;
        }
        Ok(())
    }

    pub(super) async fn other_zone_data(&self) -> Result<Vec<OtherZoneData>, RecordsError> {
        let own = self.zones();
        let mut others = BTreeMap::new();
        for Manifest { row, .. } in self.manifests().await?.0 {
            if !row.zones.is_empty() && *row.zones != *own {
                others.entry(Arc::<str>::from(row.zones)).or_insert(row.node);
            }
        }
        let others = others.into_iter().take(OTHER_ZONE_DATA_MAX);
        Ok(others.map(|(version, node)| OtherZoneData { version, node }).collect())
    }
}
