//! A node that anchors its ledger on a chain outside, again and again.
//!
//! - **Owns** when that is due, and what its operator is told of it.
//! - **Does not** talk to the chain outside: `external` does. It fails no node: what goes wrong is told, and tried again.
//!
//! # Invariants
//! - **H1** What was anchored and is not recorded, for the node was killed between, is recorded before anything else is anchored.
//!
//! Format: `docs/design/anchors.md`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::anchor::{AttestationKind, ledger_name};
use blockhouse_ledger::contracts::Anchors;

use super::attesting::{Attesting, AttestingError, MODULE};
use super::clock::{Clock as _, SystemClock};
use super::config::AnchorConfig;
use super::speaker::{SpeakError, Speaker, ask, module};
use crate::attest::{has_news, place_at};
use crate::chain::chain;
use crate::external::{AnchorChain, Anchorer, Made};
use crate::store::Store;

/// Twice what the longest record costs.
const GAS: u64 = 2_000_000;
/// How far back own records are looked for: those of years.
const RECORDS_MAX: u64 = 4_096;
/// The pause after something went wrong, if anchors are not more often than that.
const AGAIN: Duration = Duration::from_mins(1);
/// The pause before a look whether there is something to anchor by now.
const LOOK: Duration = Duration::from_secs(5);

/// Who anchors.
pub(super) struct Schedule {
    pub(super) config: AnchorConfig,
    /// Who pays outside.
    pub(super) payer: AccountSecret,
    /// Where what is sent outside is kept until it is final.
    pub(super) folder: PathBuf,
    pub(super) speaker: Speaker,
    pub(super) told: Arc<Attesting>,
}

impl Schedule {
    /// Anchors whenever it is due, until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let pause = match self.round().await {
                Ok(()) => {
                    self.told.note(|status| status.trouble = None);
                    LOOK
                }
                Err(error) => {
                    let why = chain(&error);
                    self.told.note(|status| status.trouble = Some(why));
                    AGAIN.min(self.interval())
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    const fn interval(&self) -> Duration {
        Duration::from_secs(self.config.interval_secs)
    }

    async fn round(&mut self) -> Result<(), AttestingError> {
        let (store, own) = (self.speaker.head(), self.speaker.account());
        let contract = module(&store, MODULE).ok_or(SpeakError::NoModule { name: MODULE })?;
        let newest = records(&store, contract, own).next();
        if let Some(newest) = &newest {
            self.told.note(|status| (status.height, status.time) = (newest.height, newest.recordedAt));
            let age = (SystemClock.now() / 1000).saturating_sub(newest.recordedAt);
            if age < self.config.interval_secs {
                return Ok(());
            }
        }
        if !has_news(&store, contract, newest.map_or(0, |newest| newest.height))? {
            return Ok(());
        }
        let place = AnchorChain {
            nodes: self.config.urls.clone(),
            depth: self.config.depth,
            max_fee_wei: self.config.max_fee_wei,
        };
        let genesis = store.genesis();
        let (chain_id, name) = (genesis.chain_id, ledger_name(genesis.chain_id, genesis.hash()));
        let anchorer = Anchorer::connect(&place, self.payer.clone(), name, &self.folder).await?;
        let last = anchorer.last().await?;
        if let Some(last) = last
            && !records(&store, contract, own).any(|record| is_of(&record, &anchorer, last.height))
        {
            let made = anchorer.found(last, chain_id).await?;
            return self.record(contract, &made).await;
        }
        let store = self.speaker.head();
        let head = place_at(&store, store.height())?;
        match head.filter(|head| last.is_none_or(|last| head.height > last.height)) {
            Some(head) => {
                let made = anchorer.anchor(&head).await?;
                self.record(contract, &made).await
            }
            None => Ok(()),
        }
    }

    async fn record(&mut self, contract: Address, made: &Made) -> Result<(), AttestingError> {
        let (height, anchored) = (made.place.height, made.place.hash);
        if self.speaker.head().hash_at(height)? != Some(B256::new(anchored.to_bytes())) {
            return Err(AttestingError::Rewritten { height, anchored });
        }
        Ok(self.speaker.say(contract, &made.record(), GAS).await?)
    }
}

/// What this account recorded on outside chains, the newest first.
fn records(store: &Store, contract: Address, own: Address) -> impl Iterator<Item = Anchors::Anchor> {
    let count: u64 = ask(store, contract, &Anchors::anchorCountCall {}).map_or(0, |count: U256| count.saturating_to());
    let indexes = (0..count).rev().take(usize::try_from(RECORDS_MAX).unwrap_or(usize::MAX));
    let found =
        indexes.filter_map(move |index| ask(store, contract, &Anchors::anchorAtCall { index: U256::from(index) }));
    found.filter(move |record| record.by == own && record.kind == AttestationKind::Evm.word())
}

fn is_of(record: &Anchors::Anchor, anchorer: &Anchorer, height: u64) -> bool {
    (record.chainId, record.target, record.height) == (anchorer.chain_id(), anchorer.point(), height)
}
