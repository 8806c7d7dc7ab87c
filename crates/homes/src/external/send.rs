//! Sending: a wish becomes a signed transaction, durable in the outbox, and is waited for until it is final.
//!
//! # Invariants
//! - **S1** An error that is not about time or nodes means that the first of the wishes is not, and will not be, on the chain.
//! - **S2** What an earlier process left unfinished goes first: its nonces are lower.

use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U64, U256};
use blockhouse_crypto::AccountSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::External;
use super::ask::{AskError, Given};
use super::error::ExternalError;
use super::fees::Fees;
use super::outbox::{Alone, Form, Outbox, Waiting};
use super::tend::Tended;
use crate::embedded::HomeError;
use crate::rpc::Fault;

/// How often the chain is looked at while a transaction is waited for, at first and at last.
const POLL_MIN: Duration = Duration::from_millis(50);
pub(super) const POLL_MAX: Duration = Duration::from_secs(2);
/// Gas beyond the estimate, for what others do in between. It does not cover a list of sessions that became full since: that one is sent again.
const GAS_ROOM: u64 = 50_000;
/// What an account wants to send.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wish {
    /// Whom it is meant to be from.
    #[serde(default)]
    pub(crate) from: Option<Address>,
    /// The contract; none: the creation of one.
    #[serde(default)]
    pub(crate) to: Option<Address>,
    #[serde(default)]
    pub(crate) value: U256,
    #[serde(default, alias = "data")]
    pub(crate) input: Bytes,
    /// The nonce that the caller counted with.
    #[serde(default)]
    pub(crate) nonce: Option<U64>,
}

/// The account's address.
pub(super) fn address_of(sender: &AccountSecret) -> Address {
    Address::new(sender.account().to_bytes())
}

/// A refusal in the form of the protocol.
pub(super) fn refused(message: String) -> Fault {
    Fault::rejected(message)
}

impl External {
    /// Sends these, one after another, and waits until all are final (X2); their hashes.
    pub(crate) async fn send(&self, sender: &AccountSecret, wishes: Vec<Wish>) -> Result<Vec<B256>, Fault> {
        if wishes.is_empty() {
            return Ok(Vec::new());
        }
        self.finish_waiting(sender).await.map_err(HomeError::from)?;
        let (nonces, tended) = self.submit(sender, wishes).await?;
        Ok(self.finish(sender, &nonces, tended).await.map_err(HomeError::from)?)
    }

    /// S2: waits until what an earlier process sent as this account is final, or can never be. Once in a process, before anything is
    /// looked at that is sent upon.
    pub async fn finish_waiting(&self, sender: &AccountSecret) -> Result<(), ExternalError> {
        let account = address_of(sender);
        if self.known(|known| known.finished.contains(&account)) {
            return Ok(());
        }
        self.ready().await?;
        let (outbox, mut tended) = (self.shared.outbox.read()?, Tended::default());
        let mut nonces: Vec<u64> = outbox.of(account).map(|waiting| tended.take_up(waiting)).collect();
        nonces.sort_unstable();
        if !nonces.is_empty() {
            self.finish(sender, &nonces, tended).await?;
        }
        self.known(|known| known.finished.insert(account));
        Ok(())
    }

    /// The nonce that an account sends with next: behind what is in blocks, and what waits here. What waits and is not known here is
    /// somebody else's, and may never get into a block: nothing is sent behind it.
    pub(super) async fn next_nonce(&self, outbox: &Outbox, account: Address) -> Result<u64, ExternalError> {
        // Asked first: what was waiting then and is in a block by now counts there.
        let pending: u64 = match self.asker().try_ask("eth_getTransactionCount", (account, "pending")).await {
            Ok(nonce) => U64::to(&nonce),
            Err(AskError::Answered(_)) => 0,
            Err(AskError::Failed(error)) => return Err(error),
        };
        // A node that is behind may not know of what was final before.
        let used = self.final_nonce(account, &self.final_block().await?).await?;
        let next = outbox.next(account).max(self.mined_nonce(account).await?).max(used);
        if pending > next { Err(ExternalError::Foreign { account, next, pending }) } else { Ok(next) }
    }

    /// The same for others.
    pub(super) async fn nonce_of(&self, account: Address) -> Result<u64, ExternalError> {
        self.ready().await?;
        self.next_nonce(&self.shared.outbox.read()?, account).await
    }

    /// Signs these and gives them to the nodes; their nonces, and what is known of them.
    async fn submit(&self, sender: &AccountSecret, wishes: Vec<Wish>) -> Result<(Vec<u64>, Tended), Fault> {
        let (account, of) = (address_of(sender), wishes.len());
        let alone = self.alone().await.map_err(HomeError::from)?;
        let mut outbox = self.shared.outbox.read().map_err(HomeError::from)?;
        self.settle(&mut outbox, account, &alone).await.map_err(HomeError::from)?;
        // S2. What a killed process left may never have reached a node: a hole before the next nonce.
        let mut tended = Tended::default();
        self.tend(sender, (&mut outbox, &alone), &mut tended, u64::MAX).await.map_err(HomeError::from)?;
        let first = self.next_nonce(&outbox, account).await.map_err(HomeError::from)?;
        let end = first.checked_add(of as u64).ok_or(ExternalError::NoNonce { account }).map_err(HomeError::from)?;
        let mut nonces = Vec::with_capacity(of);
        for (nonce, wish) in (first..end).zip(wishes) {
            match self.submit_one(sender, wish, nonce, (&mut outbox, &alone, &mut tended)).await {
                Ok(()) => nonces.push(nonce),
                Err(fault) if nonces.is_empty() => return Err(fault),
                Err(fault) => {
                    let why = match fault {
                        Fault::Protocol(error) => error.message.into_owned(),
                        Fault::Home(error) => crate::chain::chain(&error),
                    };
                    return Err(HomeError::from(ExternalError::InPart { sent: nonces.len(), of, why }).into());
                }
            }
        }
        Ok((nonces, tended))
    }

    async fn submit_one(
        &self,
        sender: &AccountSecret,
        wish: Wish,
        nonce: u64,
        (outbox, alone, tended): (&mut Outbox, &Alone, &mut Tended),
    ) -> Result<(), Fault> {
        let account = address_of(sender);
        if let Some(wanted) = wish.nonce.map(|wanted| wanted.to::<u64>())
            && wanted != nonce
        {
            return Err(Fault::nonce_taken(format!("the nonce {wanted} is taken, the next one is {nonce}")));
        }
        let gas = self.gas_for(sender, &wish, nonce, (&mut *outbox, alone, tended)).await?;
        let fees = self.fees().await.map_err(HomeError::from)?;
        self.refuse_if_poor(account, wish.value, (gas, fees)).await.map_err(HomeError::from)?;
        let Wish { to, value, input, .. } = wish;
        let mut waiting = Waiting { account, nonce, to, value, input, gas, forms: Vec::new() };
        let form = self.sign(sender, &waiting, fees);
        waiting.forms.push(form.clone());
        outbox.waiting.push(waiting);
        self.shared.outbox.write(outbox, alone).map_err(HomeError::from)?;
        match self.asker().send(form.raw.clone()).await.map_err(HomeError::from)? {
            // What is unclear stays in the outbox: `finish` finds it in a block, or another one in its place.
            Given::Taken | Given::Unclear(_) => {
                tended.told(nonce, form.hash);
                Ok(())
            }
            Given::Refused(why) => {
                // S1. It is an error of the home: no caller may take the words of a node for its own.
                outbox.waiting.retain(|waiting| (waiting.account, waiting.nonce) != (account, nonce));
                self.shared.outbox.write(outbox, alone).map_err(HomeError::from)?;
                Err(AskError::Answered(why).of("eth_sendRawTransaction").into())
            }
        }
    }

    /// Gas for a transaction that comes after others: where the node cannot look ahead, those are waited for.
    async fn gas_for(
        &self,
        sender: &AccountSecret,
        wish: &Wish,
        nonce: u64,
        (outbox, alone, tended): (&mut Outbox, &Alone, &mut Tended),
    ) -> Result<u64, Fault> {
        let account = address_of(sender);
        let mut call = json!({ "from": account, "value": wish.value, "data": wish.input });
        if let (Some(to), Some(fields)) = (wish.to, call.as_object_mut()) {
            fields.insert("to".to_owned(), json!(to));
        }
        if let Ok(gas) = self.estimate(&call, "pending").await {
            return Ok(gas);
        }
        let started = Instant::now();
        while self.mined_nonce(account).await.map_err(HomeError::from)? < nonce {
            if started.elapsed() > Duration::from_secs(self.options().terms.finality_secs) {
                break;
            }
            self.tend(sender, (&mut *outbox, alone), tended, nonce).await.map_err(HomeError::from)?;
            tokio::time::sleep(POLL_MIN * 4).await;
        }
        match self.estimate(&call, "latest").await {
            Ok(gas) => Ok(gas),
            Err(AskError::Answered(error)) => Err(Fault::Protocol(error)),
            Err(AskError::Failed(error)) => Err(HomeError::from(error).into()),
        }
    }

    /// What a call may need, and some more.
    pub(super) async fn estimate(&self, call: &Value, at: &'static str) -> Result<u64, AskError> {
        let gas: U64 = self.asker().try_ask("eth_estimateGas", (call.clone(), at)).await?;
        let gas = gas.to::<u64>();
        Ok(gas.saturating_add(gas / 4).saturating_add(GAS_ROOM))
    }

    /// What is usual on the chain now.
    pub(super) async fn fees(&self) -> Result<Fees, ExternalError> {
        let cap = self.options().terms.max_fee_wei;
        let latest = self.asker().block("latest").await?.ok_or(ExternalError::NoFinality)?;
        let Some(base) = latest.base_fee_per_gas else {
            let price: U256 = self.asker().ask("eth_gasPrice", ()).await?;
            return Fees::legacy(price.saturating_to(), cap);
        };
        let tip: U256 = match self.asker().try_ask("eth_maxPriorityFeePerGas", ()).await {
            Ok(tip) => tip,
            Err(AskError::Answered(_)) => self.asker().ask::<_, U256>("eth_gasPrice", ()).await?.saturating_sub(base),
            Err(AskError::Failed(error)) => return Err(error),
        };
        Fees::dynamic(base.saturating_to(), tip.saturating_to(), cap)
    }

    /// What the account must have for so much gas, in wei.
    pub async fn price_of(&self, gas: u64) -> Result<U256, ExternalError> {
        self.ready().await?;
        Ok(U256::from(gas) * U256::from(self.fees().await?.most()))
    }

    async fn refuse_if_poor(
        &self,
        account: Address,
        value: U256,
        (gas, fees): (u64, Fees),
    ) -> Result<(), ExternalError> {
        let needed = U256::from(gas) * U256::from(fees.most()) + value;
        if needed.is_zero() {
            return Ok(());
        }
        let has = self.balance(account).await?;
        if has < needed { Err(ExternalError::Funds { account, has, needed }) } else { Ok(()) }
    }

    /// Signs a transaction with these fees.
    pub(super) fn sign(&self, sender: &AccountSecret, waiting: &Waiting, fees: Fees) -> Form {
        let Waiting { nonce, to, value, input, gas, .. } = waiting;
        let (chain_id, to) = (self.options().chain_id, to.map_or(TxKind::Create, TxKind::Call));
        let envelope: TxEnvelope = match fees {
            Fees::Legacy { price } => signed(
                sender,
                TxLegacy {
                    chain_id: Some(chain_id),
                    nonce: *nonce,
                    gas_price: price.into(),
                    gas_limit: *gas,
                    to,
                    value: *value,
                    input: input.clone(),
                },
            ),
            Fees::Dynamic { most, tip } => signed(
                sender,
                TxEip1559 {
                    chain_id,
                    nonce: *nonce,
                    gas_limit: *gas,
                    max_fee_per_gas: most.into(),
                    max_priority_fee_per_gas: tip.into(),
                    to,
                    value: *value,
                    access_list: alloy_eips::eip2930::AccessList::default(),
                    input: input.clone(),
                },
            ),
        };
        Form { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into(), fees }
    }

    /// Waits until these are final; their hashes, each that of the form which the chain took.
    async fn finish(
        &self,
        sender: &AccountSecret,
        nonces: &[u64],
        mut tended: Tended,
    ) -> Result<Vec<B256>, ExternalError> {
        let (started, mut pace, mut passed) = (Instant::now(), POLL_MIN, None);
        let deadline = Duration::from_secs(self.options().terms.finality_secs);
        let (account, highest) = (address_of(sender), nonces.last().copied().unwrap_or_default());
        loop {
            let alone = self.alone().await?;
            let mut outbox = self.shared.outbox.read()?;
            let block = self.newest_final().await?;
            let found = self.final_forms(&outbox, (account, nonces), &block, &mut tended).await?;
            if let Some(hashes) = found {
                self.settle(&mut outbox, account, &alone).await?;
                return Ok(hashes);
            }
            if self.final_nonce(account, &block).await? > highest {
                // Nodes behind one URL may not know the same: all are asked, and for a while.
                let since = *passed.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.asker().patience()
                    && let Some(nonce) = self.missing(nonces, &block, &tended).await?
                {
                    self.settle(&mut outbox, account, &alone).await?;
                    return Err(ExternalError::NonceTaken { account, nonce });
                }
            } else {
                passed = None;
                self.tend(sender, (&mut outbox, &alone), &mut tended, highest).await?;
            }
            drop(alone);
            if started.elapsed() > deadline {
                let sent = tended.newest(nonces).unwrap_or_default();
                let last = tended.refused(nonces);
                return Err(ExternalError::NotFinal { sent, waited: started.elapsed(), last });
            }
            tokio::time::sleep(pace).await;
            pace = (pace * 2).min(POLL_MAX);
        }
    }

    /// No other process of this host chooses a nonce meanwhile. One that does holds the lock until the transaction before is in a block,
    /// which is waited for as long as for finality at most.
    async fn alone(&self) -> Result<Alone, ExternalError> {
        self.shared.outbox.lock(Duration::from_secs(self.options().terms.finality_secs)).await
    }

    /// Takes out of the outbox what is final.
    async fn settle(&self, outbox: &mut Outbox, account: Address, alone: &Alone) -> Result<(), ExternalError> {
        let block = self.final_block().await?;
        let before = outbox.clone();
        outbox.settle(account, self.final_nonce(account, &block).await?, (block.number.to(), block.hash));
        if *outbox == before { Ok(()) } else { self.shared.outbox.write(outbox, alone) }
    }
}

fn signed<T>(sender: &AccountSecret, transaction: T) -> TxEnvelope
where
    T: SignableTransaction<Signature>,
    TxEnvelope: From<alloy_consensus::Signed<T>>,
{
    let [rs @ .., v] = sender.sign(&transaction.signature_hash().0);
    transaction.into_signed(Signature::from_bytes_and_parity(&rs, v == 1)).into()
}
