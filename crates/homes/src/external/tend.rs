//! Looking after what is on its way: found in blocks, sent again when nodes have lost it, replaced when it is stuck.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256};
use blockhouse_crypto::AccountSecret;
use serde_json::json;

use super::External;
use super::answers::{ChainBlock, TransactionPlace};
use super::ask::Given;
use super::error::ExternalError;
use super::outbox::{Alone, Form, Outbox, Waiting};
use super::send::address_of;
use crate::remote::client::one_line;

/// How often a transaction that is in no block is given to the nodes again: one that was restarted has forgotten it.
const AGAIN: Duration = Duration::from_secs(5);

/// How many holes are filled at a time.
const HOLES_MAX: usize = 64;

/// What one process remembers of what it waits for, by nonce.
#[derive(Debug, Default)]
pub(super) struct Tended {
    known: BTreeMap<u64, Known>,
}

#[derive(Debug)]
struct Known {
    /// When a node was given it last.
    told: Instant,
    /// Since when its newest form is the newest.
    since: Instant,
    /// It was in a block.
    was_mined: bool,
    /// All its forms that were ever seen here, the newest last.
    forms: Vec<B256>,
    /// Why a node did not want it when it was given it last.
    refused: Option<String>,
}

impl Tended {
    /// A node was given this form just now.
    pub(super) fn told(&mut self, nonce: u64, form: B256) {
        self.of(nonce, form).told = Instant::now();
    }

    /// One that an earlier process sent, or was about to: a node is given it at the first look. Its nonce.
    pub(super) fn take_up(&mut self, waiting: &Waiting) -> u64 {
        for form in &waiting.forms {
            self.of(waiting.nonce, form.hash).was_mined = true;
        }
        waiting.nonce
    }

    /// The newest form of the last of these.
    pub(super) fn newest(&self, nonces: &[u64]) -> Option<B256> {
        nonces.iter().rev().find_map(|nonce| self.known.get(nonce)).and_then(|known| known.forms.last().copied())
    }

    /// What nodes last said against one of these.
    pub(super) fn refused(&self, nonces: &[u64]) -> Option<String> {
        nonces.iter().filter_map(|nonce| self.known.get(nonce)).find_map(|known| known.refused.clone())
    }

    fn of(&mut self, nonce: u64, newest: B256) -> &mut Known {
        let now = Instant::now();
        let known = self.known.entry(nonce).or_insert_with(|| Known {
            told: now,
            since: now,
            was_mined: false,
            forms: vec![newest],
            refused: None,
        });
        if !known.forms.contains(&newest) {
            known.forms.push(newest);
            known.since = now;
        }
        known
    }
}

impl External {
    /// The forms of these that are in final blocks, if all are. What is in a block that is not final, or was in one, is noted.
    pub(super) async fn final_forms(
        &self,
        outbox: &Outbox,
        (account, nonces): (Address, &[u64]),
        last: &ChainBlock,
        tended: &mut Tended,
    ) -> Result<Option<Vec<B256>>, ExternalError> {
        let mut found = Vec::with_capacity(nonces.len());
        for nonce in nonces {
            let waiting = outbox.of(account).find(|waiting| waiting.nonce == *nonce);
            // Where another process of this host found it final and took it out, what was seen before must do.
            for form in waiting.iter().flat_map(|waiting| &waiting.forms) {
                tended.of(*nonce, form.hash);
            }
            let Some(known) = tended.known.get_mut(nonce) else { return Ok(None) };
            let place = self.place_of(&known.forms).await?;
            known.note(place.is_some());
            match place {
                Some(place) if self.is_final(&place, last).await? => found.push(place.transaction_hash),
                _ => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// The first of these nonces of which no node has a form in a final block. A node that has one is asked first from now on.
    pub(super) async fn missing(
        &self,
        nonces: &[u64],
        last: &ChainBlock,
        tended: &Tended,
    ) -> Result<Option<u64>, ExternalError> {
        for nonce in nonces {
            let forms = tended.known.get(nonce).map(|known| known.forms.as_slice()).unwrap_or_default();
            if !self.is_anywhere(forms, last).await? {
                return Ok(Some(*nonce));
            }
        }
        Ok(None)
    }

    /// True if a node has one of these forms in a final block, or none answers.
    async fn is_anywhere(&self, forms: &[B256], last: &ChainBlock) -> Result<bool, ExternalError> {
        for form in forms {
            let places: Vec<(usize, Option<TransactionPlace>)> =
                self.asker().each("eth_getTransactionReceipt", (*form,)).await;
            if places.is_empty() {
                // Nobody says that it is not there.
                return Ok(true);
            }
            for (number, place) in places {
                if let Some(place) = place
                    && self.is_final(&place, last).await?
                {
                    self.asker().prefer(number);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Where one of these forms is, in whatever block.
    async fn place_of(&self, hashes: &[B256]) -> Result<Option<TransactionPlace>, ExternalError> {
        for hash in hashes.iter().rev() {
            let found: Option<TransactionPlace> = self.asker().ask("eth_getTransactionReceipt", (*hash,)).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Gives the nodes again what they may have lost, up to that nonce, and replaces the first one if it has waited too long. Who may
    /// use the outbox says so.
    pub(super) async fn tend(
        &self,
        sender: &AccountSecret,
        (outbox, alone): (&mut Outbox, &Alone),
        tended: &mut Tended,
        until: u64,
    ) -> Result<(), ExternalError> {
        let account = address_of(sender);
        let is_ours = outbox.of(account).any(|waiting| waiting.nonce <= until);
        if !is_ours {
            return Ok(());
        }
        let mined = self.mined_nonce(account).await?;
        let mut is_first = true;
        for number in 0..outbox.waiting.len() {
            let Some(waiting) = outbox.waiting.get(number) else { continue };
            if waiting.account != account || waiting.nonce > until || waiting.nonce < mined {
                continue;
            }
            let Some(form) = waiting.forms.last().cloned() else { continue };
            let is_new = !tended.known.contains_key(&waiting.nonce);
            let known = tended.of(waiting.nonce, form.hash);
            // In no block: lost by a reorg, by a restarted node, or never given to one.
            let is_due = is_new || known.told.elapsed() >= AGAIN || std::mem::take(&mut known.was_mined);
            if is_due {
                known.told = Instant::now();
                known.refused = self.give(&waiting.forms).await?;
            }
            let is_stuck = known.since.elapsed() >= Duration::from_secs(self.options().terms.replace_secs);
            if std::mem::take(&mut is_first) && is_stuck {
                let (at, holes) = (number, mined..waiting.nonce);
                if !holes.is_empty() {
                    return self.fill(sender, (outbox, alone), at, holes).await;
                }
                known.since = Instant::now();
                if let Some(why) = self.replace(sender, (&mut *outbox, alone), number).await? {
                    known.refused = Some(why);
                }
            }
        }
        Ok(())
    }

    /// Gives one to the nodes: the newest form, or the newest that they take. What they say against the newest.
    async fn give(&self, forms: &[Form]) -> Result<Option<String>, ExternalError> {
        let mut refused = None;
        for form in forms.iter().rev() {
            match self.asker().send(form.raw.clone()).await? {
                Given::Taken => break,
                Given::Unclear(why) | Given::Refused(why) => {
                    refused.get_or_insert_with(|| one_line(&why.message));
                }
            }
        }
        Ok(refused)
    }

    /// Puts transactions that do nothing in front of one that waits: nonces that nothing here has, and that no block has either, hold up
    /// all behind them. The next look gives them to the nodes.
    async fn fill(
        &self,
        sender: &AccountSecret,
        (outbox, alone): (&mut Outbox, &Alone),
        at: usize,
        holes: Range<u64>,
    ) -> Result<(), ExternalError> {
        let fees = match self.fees().await {
            Ok(fees) => fees,
            Err(ExternalError::Fee { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let account = address_of(sender);
        let call = json!({ "from": account, "to": account });
        let gas = self.estimate(&call, "latest").await.map_err(|error| error.of("eth_estimateGas"))?;
        for (place, nonce) in (at..).zip(holes.take(HOLES_MAX)) {
            let (to, value, input) = (Some(account), U256::ZERO, Bytes::new());
            let mut waiting = Waiting { account, nonce, to, value, input, gas, forms: Vec::new() };
            waiting.forms.push(self.sign(sender, &waiting, fees));
            outbox.waiting.insert(place, waiting);
        }
        self.shared.outbox.write(outbox, alone)
    }

    /// Puts one that offers more in its place. Where that would be more than the cap it waits on: the price may fall. What nodes
    /// say against it; then the old one stays.
    async fn replace(
        &self,
        sender: &AccountSecret,
        (outbox, alone): (&mut Outbox, &Alone),
        number: usize,
    ) -> Result<Option<String>, ExternalError> {
        let now = match self.fees().await {
            Ok(now) => now,
            Err(ExternalError::Fee { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(waiting) = outbox.waiting.get_mut(number) else { return Ok(None) };
        let fees = waiting.forms.last().and_then(|form| form.fees.replaced(now, self.options().terms.max_fee_wei));
        let Some(fees) = fees else { return Ok(None) };
        let form = self.sign(sender, waiting, fees);
        waiting.forms.push(form.clone());
        // X3: durable before a node has it.
        self.shared.outbox.write(outbox, alone)?;
        match self.asker().send(form.raw).await? {
            Given::Taken => Ok(None),
            Given::Unclear(why) => Ok(Some(one_line(&why.message))),
            Given::Refused(why) => {
                // No node has it: it is no form that could be found in a block.
                if let Some(waiting) = outbox.waiting.get_mut(number) {
                    waiting.forms.pop();
                }
                self.shared.outbox.write(outbox, alone)?;
                Ok(Some(one_line(&why.message)))
            }
        }
    }
}

impl Known {
    fn note(&mut self, is_mined: bool) {
        // Once it was in a block and is not any more, it is sent again at the next look.
        self.was_mined |= is_mined;
        if is_mined {
            self.since = Instant::now();
        }
    }
}
