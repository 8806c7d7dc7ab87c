//! From a stored tree to an acknowledged snapshot: steps 4 to 8 of the write order.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::B256;
use blockhouse_crypto::hash;
use blockhouse_crypto::{RecipientSet, Secret};
use blockhouse_pipeline::domain::DomainKey;
use blockhouse_pipeline::manifest::{Facts, Manifest, SealedManifest};
use blockhouse_pipeline::snapshot::SnapshotObject;
use blockhouse_pipeline::stripe_list::StripeList;
use blockhouse_pipeline::wraps::Wraps;
use blockhouse_sites::{ObjectKey, SiteName};
use blockhouse_types::{Durability, ObjectHash, SnapshotId, StripeId, Timestamp};
use bytes::Bytes;

use super::copy::Copied;
use super::store::Stored;
use super::walker::Tree;
use super::{BackupError, BackupReport, BackupWarning, Refused, Run, wall_clock};
use crate::blocks::GuardError;
use crate::chain::chain;
use crate::folder::Held;
use crate::index::Index;
use crate::ledger::{Commit, LedgerError, Recorded};
use crate::maps;
use crate::prune::Marked;
use crate::publish::{Publication, capped};
use crate::reader::ChunkReader;
use crate::stripes::StripeStore;

/// How often a snapshot is described anew because its parent was forgotten.
const PARENT_TRIES: u32 = 4;

/// Everything that is durable before the snapshot gets its name.
pub(super) struct Prepared {
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) tree: Tree,
    pub(super) stored: Stored,
    pub(super) domain: DomainKey,
    pub(super) recipients: RecipientSet,
    pub(super) manifest_key: Secret,
    pub(super) started: Timestamp,
    pub(super) marked: Marked,
    /// Said of a copy; none for a backup.
    pub(super) copied: Option<Copied>,
}

/// What a snapshot is called and what describes it.
struct Described {
    manifest: Manifest,
    sealed: SealedManifest,
    list: StripeList,
    parent: Option<SnapshotId>,
}

/// The sites that did not take what they were given, of data or of its description, each with its first reason.
fn refusals(done: &Prepared, published: &Publication) -> BTreeMap<SiteName, String> {
    let mut refusals = done.stored.refusals.clone();
    for failure in published.failures() {
        refusals.entry(failure.site.clone()).or_insert_with(|| chain(&failure.why));
    }
    refusals
}

impl Run<'_> {
    pub(super) async fn commit(&self, done: Prepared, stripes: &Arc<StripeStore>) -> Result<BackupReport, BackupError> {
        let needed: Vec<StripeId> = done.stored.stripes.iter().copied().collect();
        let survived = self.durability(stripes, &needed, &done.stored.refusals).await?;
        let is_marked = |stripe: &&StripeId| !done.stored.own.contains(*stripe) && done.marked.is_absent(stripe);
        if let Some(stripe) = needed.iter().find(is_marked) {
            return Err(BackupError::StripeMarked { stripe: *stripe });
        }
        // No node of a list that is published from here on is removed before the snapshot that needs it is on the ledger.
        let publishing = Held::together(self.vault.folder().publish_lock()).await?;
        let mut published = Publication::begin(self.vault.sites());
        let (id, recorded, durability) = self.record(&done, (stripes, survived), &mut published).await?;
        published.copy_blocks(self.vault.sites(), self.vault.home(), recorded.block).await;
        published.require_for("the snapshot's description with its block", durability, stripes.domains())?;
        self.confirm(id, recorded).await?;
        // From here on the snapshot stands: what fails is told beside it.
        let noted = self.remember(id, &done.tree);
        let mut warnings: Vec<BackupWarning> = noted.err().map(BackupWarning::Tags).into_iter().collect();
        match self.ledger.end_alarm(self.source).await {
            // The loss of this host must not take it back.
            Ok(Some(block)) => published.copy_blocks(self.vault.sites(), self.vault.home(), block).await,
            Ok(None) => {}
            Err(error) => warnings.push(BackupWarning::Alarm(error)),
        }
        drop(publishing);
        warnings.extend(done.tree.findings.ignore_problems.iter().map(BackupWarning::of_ignore_file));
        Ok(BackupReport {
            refusals: refusals(&done, &published),
            warnings,
            snapshot: id,
            source: self.source,
            recorded,
            findings: done.tree.findings,
            new_bytes: done.stored.new_bytes,
            stored_bytes: done.stored.pack_bytes,
            stripes: done.stored.written,
            durability,
            plan: stripes.plan_durability(),
            is_skipped: false,
        })
    }

    /// Steps 5 to 7: the description, then the commit. A parent that was forgotten meanwhile is no longer one: then the snapshot is
    /// described anew.
    async fn record(
        &self,
        done: &Prepared,
        (stripes, survived): (&Arc<StripeStore>, Durability),
        published: &mut Publication,
    ) -> Result<(SnapshotId, Recorded, Durability), BackupError> {
        let needed: Vec<StripeId> = done.stored.stripes.iter().copied().collect();
        let list = StripeList::build(&needed).expect("a sorted set is ascending");
        let mut tries = 1;
        loop {
            let parent = self.parent().await?;
            let manifest = self.manifest(done, parent);
            let sealed = manifest.seal(self.vault.id(), &done.manifest_key, rand::random())?;
            let described = Described { manifest, sealed, list: list.clone(), parent };
            let object_hash = self.publish(done, &described, stripes, published).await?;
            // Who cannot take the blocks so far will not take the commit's: what is promised must be true after it.
            let height = self.vault.standing().await?.height;
            published.copy_blocks(self.vault.sites(), self.vault.home(), height).await;
            published.require("the snapshot's description", 1)?;
            let durability = capped(survived, published.survives(stripes.domains()));
            self.refuse_at_risk(durability, stripes, || refusals(done, published))?;
            self.protect(described.sealed.id).await?;
            let commit = self.statement(done, &described, object_hash, durability);
            match self.ledger.commit(commit).await {
                Ok(recorded) => return Ok((described.sealed.id, recorded, durability)),
                Err(LedgerError::Refused { reason })
                    if tries < PARENT_TRIES && parent.is_some() && reason.contains("AlreadyForgotten") =>
                {
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Records the tags where rules of retention read them, before the snapshot is there: no moment is without them.
    async fn protect(&self, snapshot: SnapshotId) -> Result<(), BackupError> {
        if self.request.tags.is_empty() || self.ledger.modules().await?.tags.is_none() {
            return Ok(());
        }
        Ok(self.ledger.add_tags(snapshot, self.request.tags.iter().map(|tag| self.tag(tag)).collect()).await?)
    }

    /// Asks the sites once more, now that they hold the block: a host that took the ledger over since the sealing either finds that
    /// block, or its handover is found here.
    async fn confirm(&self, snapshot: SnapshotId, recorded: Recorded) -> Result<(), BackupError> {
        let block = recorded.block;
        self.vault.confirm_alone().await.map_err(|source| match source {
            GuardError::HandedOver { .. } | GuardError::Rival { .. } => {
                BackupError::TakenOver { snapshot, block, source }
            }
            source => BackupError::Unconfirmed { snapshot, block, source },
        })
    }

    /// Steps 4 and 5: list, snapshot object, wraps and, where a recipient needs it, the reader's map.
    async fn publish(
        &self,
        done: &Prepared,
        described: &Described,
        stripes: &Arc<StripeStore>,
        published: &mut Publication,
    ) -> Result<ObjectHash, BackupError> {
        let (sites, id) = (self.vault.sites(), described.sealed.id);
        for node in described.list.nodes() {
            published.put(sites, &ObjectKey::List(node.hash), Bytes::from(node.bytes.clone())).await;
        }
        let object = SnapshotObject {
            vault: self.vault.id(),
            snapshot: id,
            source: self.source,
            session: self.session.id,
            writer: self.secrets.writer.account(),
            list_root: described.list.root(),
            sealed_manifest: described.sealed.bytes.clone(),
        };
        let bytes = object.to_bytes();
        let hash = SnapshotObject::hash(&bytes);
        published.put(sites, &ObjectKey::Snapshot(id), Bytes::from(bytes)).await;
        let wraps = Wraps::wrap(id, 0, &done.recipients, &done.manifest_key);
        published.put(sites, &ObjectKey::Wraps { snapshot: id, version: 0 }, Bytes::from(wraps.to_bytes())).await;
        if done.recipients.has_reader() {
            let needed: Vec<StripeId> = done.stored.stripes.iter().copied().collect();
            let index = Index::open(&self.vault.folder().index())?;
            let (store, manifest) = (Arc::clone(stripes), &described.manifest);
            let chunks = ChunkReader::prepare(store, index, None, &needed, &manifest.id_subkey).await?;
            let map = maps::make(chunks, manifest, id, &done.manifest_key).await?;
            published.put(sites, &ObjectKey::Map { snapshot: id, version: 0 }, map).await;
        }
        Ok(hash)
    }

    /// What the ledger is told.
    fn statement(&self, done: &Prepared, described: &Described, object: ObjectHash, now: Durability) -> Commit {
        Commit {
            session: word(self.session.id.to_bytes()),
            source: word(self.source.to_bytes()),
            snapshot: word(described.sealed.id.to_bytes()),
            objectHash: word(object.to_bytes()),
            listRoot: word(described.list.root().to_bytes()),
            storedBytes: done.stored.pack_bytes,
            recipients: word(done.recipients.hash().to_bytes()),
            tags: self.commitments(done),
            parent: described.parent.map(|id| word(id.to_bytes())).unwrap_or_default(),
            d: now.d,
            w: now.w,
            wd: now.wd,
            headHeight: 0,
            headHash: B256::ZERO,
        }
    }

    /// What the stripes survive as they are at the sites now; those that survive less than the plan are mended first.
    pub(super) async fn durability(
        &self,
        stripes: &StripeStore,
        needed: &[StripeId],
        refusals: &BTreeMap<SiteName, String>,
    ) -> Result<Durability, BackupError> {
        let plan = stripes.plan_durability();
        let mut least = stripes.presence_of(needed).await.least(needed);
        if !least.degraded.is_empty() {
            crate::repair::mend(stripes, &least.degraded).await;
            least = stripes.presence_of(needed).await.least(needed);
        }
        if let Some(stripe) = least.unreadable.first() {
            return Err(BackupError::StripeGone { stripe: *stripe });
        }
        let least = least.durability.unwrap_or(plan);
        // A source without any content has no stripe; what it survives its description decides.
        self.refuse_at_risk(least, stripes, || refusals.clone())?;
        Ok(least)
    }

    /// Where the plan survives the loss of a site, a snapshot that does not is recorded only if the operator says so.
    fn refuse_at_risk(
        &self,
        durability: Durability,
        stripes: &StripeStore,
        refusals: impl FnOnce() -> BTreeMap<SiteName, String>,
    ) -> Result<(), BackupError> {
        let planned = stripes.plan_durability().w;
        if planned > 0 && durability.w == 0 && !self.vault.settings().accept_risk {
            return Err(BackupError::AtRisk { durability, planned, refused: Refused(refusals()) });
        }
        Ok(())
    }

    /// The last snapshot of this source and host that is not forgotten.
    async fn parent(&self) -> Result<Option<SnapshotId>, BackupError> {
        Ok(self.last().await?.map(|last| last.record.id))
    }

    fn manifest(&self, done: &Prepared, parent: Option<SnapshotId>) -> Manifest {
        Manifest {
            source: self.source,
            domain: done.domain.kind(),
            id_subkey: done.domain.id_subkey().clone(),
            snapshot_salt: rand::random(),
            parent,
            root: done.tree.root.clone(),
            entries: done.tree.entries.entries,
            entries_root: done.tree.entries.root,
            facts: done.copied.as_ref().map_or_else(|| self.facts(done), |copied| copied.facts.clone()),
        }
    }

    fn facts(&self, done: &Prepared) -> Facts {
        let findings = &done.tree.findings;
        let mut facts = Facts::new();
        facts.set_host(&self.request.host);
        facts.set_started(done.started.seconds);
        facts.set_finished(wall_clock().seconds);
        facts.set_tool(concat!("blockhouse ", env!("CARGO_PKG_VERSION")));
        facts.set_tags(&self.request.tags);
        facts.set_excludes(&self.request.options.all_patterns());
        facts.set_files(findings.files);
        facts.set_bytes(findings.bytes);
        facts.set_unreadable(findings.flaws.len() as u64);
        facts.set_roots(&done.roots);
        if let Some(name) = &self.request.source {
            facts.set_source(name);
        }
        facts
    }

    /// The commitments of the tags, and of what a copy is from.
    fn commitments(&self, done: &Prepared) -> Vec<B256> {
        let tags = self.request.tags.iter().map(|tag| self.tag(tag));
        tags.chain(done.copied.as_ref().map(|copied| copied.commitment)).collect()
    }

    /// A commitment to a tag that those with the index key can recognise.
    fn tag(&self, tag: &str) -> B256 {
        let key = crate::select::tag_key(&self.secrets.write.index_key);
        word(hash::keyed(&key, tag.as_bytes()))
    }
}

const fn word(bytes: [u8; 32]) -> B256 {
    B256::new(bytes)
}
