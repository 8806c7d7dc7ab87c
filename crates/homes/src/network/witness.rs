//! A node that cosigns the checkpoints of its ledger: a witness, if those who keep the ledger are others.
//!
//! - **Owns** when that is due, and what its operator is told of it.
//! - **Does not** judge a block: it signs none but those that are final here, which it executed, or whose state it took under their certificate.
//!
//! Format: `docs/design/anchors.md`, section *Witnesses*.

use std::sync::Arc;
use std::time::Duration;

use blockhouse_consensus::Keys;
use blockhouse_ledger::anchor::Cosignature;
use blockhouse_ledger::contracts::Anchors;
use blockhouse_types::BlockHash;

use super::attesting::{Attesting, AttestingError, MODULE};
use super::clock::{Clock as _, SystemClock};
use super::config::WitnessConfig;
use super::speaker::{SpeakError, Speaker, module};
use crate::attest::{has_news, place_at};
use crate::chain::chain;

/// Twice what a cosignature costs.
const GAS: u64 = 200_000;
/// The pause before the next look after something went wrong, if cosignatures are not more often than that.
const AGAIN: Duration = Duration::from_mins(1);

/// Who cosigns.
pub(super) struct Witness {
    pub(super) config: WitnessConfig,
    /// Who it is.
    pub(super) keys: Keys,
    pub(super) speaker: Speaker,
    pub(super) told: Arc<Attesting>,
}

impl Witness {
    /// Cosigns whenever it is due, until it is dropped. After a start it is due at once: what was cosigned before is not remembered.
    pub(super) async fn run(mut self) {
        let interval = Duration::from_secs(self.config.interval_secs);
        loop {
            let done = self.round().await;
            let pause = if done.is_ok() { interval } else { AGAIN.min(interval) };
            self.told.note(|status| status.trouble = done.err().map(|error| chain(&error)));
            tokio::time::sleep(pause).await;
        }
    }

    async fn round(&mut self) -> Result<(), AttestingError> {
        let store = self.speaker.head();
        let contract = module(&store, MODULE).ok_or(SpeakError::NoModule { name: MODULE })?;
        if !has_news(&store, contract, self.told.status().height)? {
            return Ok(());
        }
        let Some(place) = place_at(&store, store.height())? else { return Ok(()) };
        let time = SystemClock.now() / 1000;
        let cosignature = self.sign(store.genesis().hash(), &place, time);
        let (height, hash) = (place.height, place.hash);
        let call =
            Anchors::cosignCall { height, blockHash: hash.to_bytes().into(), signature: cosignature.encode().into() };
        self.speaker.say(contract, &call, GAS).await?;
        self.told.note(|status| (status.height, status.time) = (height, time));
        Ok(())
    }

    fn sign(&self, genesis: BlockHash, place: &blockhouse_ledger::BlockPlace, time: u64) -> Cosignature {
        let statement = Cosignature::statement(genesis, place, time);
        Cosignature { key: self.keys.public(), time, signature: self.keys.cosign(&statement) }
    }
}
