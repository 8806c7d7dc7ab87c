//! Genesis: what a ledger is from its first block, and where its contracts stand.
//!
//! - **Owns** the genesis object, block 0, the addresses of the contracts and the bytes that deploy them.
//! - **Does not** choose any of it: chain id, keys and time come from the caller.
//!
//! # Invariants
//! - **G1** The hash of block 0 commits to every byte of the genesis object.
//! - **G2** The contracts' addresses follow from the owner alone.
//!
//! Format: `docs/design/ledger.md`, section *Genesis*.

use alloy_consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH};
use alloy_consensus::{BlockBody, Header};
use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolConstructor;
use blockhouse_crypto::hash::hash;
use blockhouse_types::encoding::VERSION;
use blockhouse_types::{Account, BlockHash, DecodeError, Decoder, Encoder, Magic, RecipientSetHash, VaultId};
use revm::primitives::hardfork::SpecId;

use crate::block::Block;
use crate::contracts::{Access, OwnerAfterFloor, Vault};
use crate::governance::Governance;

const MAGIC: Magic = *b"BHGN";
/// The version of a genesis that says how the ledger is governed: a release that does not know governance refuses it.
const GOVERNED: u8 = 2;
/// The same, where the validators share one key.
const SHARED: u8 = 3;
/// Where a header has the version.
const VERSION_AT: usize = 4;
const WHAT: &str = "a genesis";
const CONTEXT: &str = "blockhouse v1 genesis";

/// The greatest length of a genesis object.
pub const GENESIS_MAX: usize = 64 * 1024;
/// The greatest number of recovery accounts in a genesis.
pub const RECOVERY_MAX: usize = 256;
const FORKS_MAX: usize = 64;

/// The least chain id: above those of public chains and of wallets' lists.
pub const CHAIN_ID_MIN: u64 = 1 << 32;
/// The greatest chain id: the last integer that every JSON reader keeps.
pub const CHAIN_ID_MAX: u64 = (1 << 53) - 1;

/// Gas for one block: several times the largest deployment.
pub const DEFAULT_GAS_LIMIT: u64 = 30_000_000;
/// Gas to give to each transaction of [`Genesis::deployments`]; a test shows that it suffices.
pub const DEPLOYMENT_GAS: u64 = 8_000_000;
const GAS_LIMIT_RANGE: std::ops::RangeInclusive<u64> = 5_000..=i64::MAX as u64;

/// A set of EVM rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fork {
    /// Ethereum's Shanghai.
    Shanghai,
}

impl Fork {
    /// The newest that this release knows.
    pub const NEWEST: Self = Self::Shanghai;

    /// Its number in a genesis: later ones have greater ones.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Shanghai => 1,
        }
    }

    const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Shanghai),
            _ => None,
        }
    }

    pub(crate) const fn spec(self) -> SpecId {
        match self {
            Self::Shanghai => SpecId::SHANGHAI,
        }
    }
}

/// What a ledger is from its first block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// The vault it records.
    pub vault_id: VaultId,
    /// Random, so that no transaction means anything on another vault's ledger.
    pub chain_id: u64,
    /// The owner account: the key that makes the rules.
    pub owner: Account,
    /// The recovery accounts beside the owner, ascending.
    pub recovery: Vec<Account>,
    /// The Ed25519 key that certifies blocks until the first handover.
    pub ledger_key: [u8; 32],
    /// The time of block 0 in seconds.
    pub time: u64,
    /// Gas for each block.
    pub gas_limit: u64,
    /// Which rules hold from which time on, ascending.
    pub forks: Vec<(u64, Fork)>,
    /// The recipient set that new sources may use.
    pub recipients: RecipientSetHash,
    /// Who keeps it and who may change that; of a ledger whose key changes by handovers alone, nothing.
    pub governance: Option<Governance>,
}

impl Genesis {
    /// The object: what block 0 commits to.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(self.vault_id.as_bytes()).u64(self.chain_id).raw(self.owner.as_bytes());
        encoder.list(self.recovery.iter(), |encoder, account| {
            encoder.raw(account.as_bytes());
        });
        encoder.raw(&self.ledger_key).u64(self.time).u64(self.gas_limit);
        encoder.list(self.forks.iter(), |encoder, (from, fork)| {
            encoder.u64(*from).u8(fork.tag());
        });
        encoder.raw(self.recipients.as_bytes());
        let Some(governance) = &self.governance else { return encoder.finish() };
        governance.write(&mut encoder);
        let mut bytes = encoder.finish();
        if let Some(version) = bytes.get_mut(VERSION_AT) {
            *version = if governance.group.is_some() { SHARED } else { GOVERNED };
        }
        bytes
    }

    /// Reads an object and checks that its values make a ledger.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Decoder::new(WHAT, bytes).limit("length", bytes.len() as u64, GENESIS_MAX as u64)?;
        let version = bytes.get(VERSION_AT).copied();
        let (shares, is_governed) = (version == Some(SHARED), matches!(version, Some(GOVERNED | SHARED)));
        // The header of any version is read as one of version 1.
        let mut plain = bytes.to_vec();
        if let Some(version) = plain.get_mut(VERSION_AT).filter(|_| is_governed) {
            *version = VERSION;
        }
        let mut decoder = Decoder::with_header(WHAT, MAGIC, &plain)?;
        let genesis = Self {
            vault_id: VaultId::new(decoder.array()?),
            chain_id: decoder.u64()?,
            owner: Account::new(decoder.array()?),
            recovery: decoder.list("recovery accounts", RECOVERY_MAX, |d| d.array().map(Account::new))?,
            ledger_key: decoder.array()?,
            time: decoder.u64()?,
            gas_limit: decoder.u64()?,
            forks: decoder.list("forks", FORKS_MAX, decode_fork)?,
            recipients: RecipientSetHash::new(decoder.array()?),
            governance: if is_governed { Some(Governance::read(&mut decoder, shares)?) } else { None },
        };
        genesis.check(&decoder)?;
        decoder.finish()?;
        // A header flag that a reader may ignore would make a second object of the same values.
        if genesis.encode() != bytes {
            return Err(Decoder::new(WHAT, bytes).not_canonical("it holds what this version does not write"));
        }
        Ok(genesis)
    }

    fn check(&self, decoder: &Decoder<'_>) -> Result<(), DecodeError> {
        let ascending = self.recovery.is_sorted_by(|a, b| a < b);
        let times_ascend = self.forks.is_sorted_by(|(a, _), (b, _)| a < b);
        let faults = [
            (!(CHAIN_ID_MIN..=CHAIN_ID_MAX).contains(&self.chain_id), "the chain id is out of range"),
            (self.owner.is_zero(), "the owner is the zero account"),
            (self.recovery.iter().any(Account::is_zero), "a recovery account is the zero account"),
            (self.recovery.contains(&self.owner), "the owner is listed as recovery account, which it is anyway"),
            (!ascending, "the recovery accounts do not ascend"),
            (!GAS_LIMIT_RANGE.contains(&self.gas_limit), "the gas limit is out of range"),
            (!times_ascend, "the forks do not ascend"),
            (self.forks.first().is_none_or(|(from, _)| *from > self.time), "no fork holds at block 0"),
            (self.time == u64::MAX, "no block could follow"),
        ];
        let governance = self.governance.as_ref().and_then(|governance| governance.fault(self));
        match faults.into_iter().find(|(wrong, _)| *wrong).map(|(_, why)| why).or(governance) {
            Some(why) => Err(decoder.not_canonical(why)),
            None => Ok(()),
        }
    }

    /// The newest rules that hold at any time.
    pub fn newest_fork(&self) -> Fork {
        self.forks.last().map_or(Fork::Shanghai, |(_, fork)| *fork)
    }

    /// The rules at a block time.
    pub(crate) fn fork_at(&self, time: u64) -> Fork {
        let begun = self.forks.iter().rev().find(|(from, _)| *from <= time);
        begun.map_or(Fork::Shanghai, |(_, fork)| *fork)
    }

    /// Block 0: empty, over the empty state, with the hash of this object as extra data.
    pub fn block(&self) -> Block {
        let header = Header {
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            state_root: EMPTY_ROOT_HASH,
            transactions_root: EMPTY_ROOT_HASH,
            receipts_root: EMPTY_ROOT_HASH,
            gas_limit: self.gas_limit,
            timestamp: self.time,
            extra_data: Bytes::copy_from_slice(&hash(CONTEXT, &self.encode())),
            base_fee_per_gas: Some(0),
            withdrawals_root: Some(EMPTY_ROOT_HASH),
            ..Header::default()
        };
        let body = BlockBody { withdrawals: Some(alloy_eips::eip4895::Withdrawals::default()), ..BlockBody::default() };
        Block::new(header, body)
    }

    /// The hash of block 0.
    pub fn hash(&self) -> BlockHash {
        BlockHash::new(self.block().header.hash_slow().0)
    }

    /// Where `Access` stands once block 1 is made.
    pub fn access_address(&self) -> Address {
        self.owner_address().create(0)
    }

    /// Where the first policy stands.
    pub fn policy_address(&self) -> Address {
        self.owner_address().create(1)
    }

    /// Where `Vault` stands.
    pub fn vault_address(&self) -> Address {
        self.owner_address().create(2)
    }

    /// The init code of `Access`, `OwnerAfterFloor` and `Vault`: the owner's first three transactions, in this
    /// order, which are block 1.
    pub fn deployments(&self, floor_seconds: u64) -> [Bytes; 3] {
        let access = Access::constructorCall {
            initialOwner: self.owner_address(),
            recovery: self.recovery.iter().map(address).collect(),
        };
        let policy = OwnerAfterFloor::constructorCall { access_: self.access_address(), floorSeconds_: floor_seconds };
        let vault = Vault::constructorCall {
            access_: self.access_address(),
            vaultId_: B256::new(self.vault_id.to_bytes()),
            defaultRecipients_: B256::new(self.recipients.to_bytes()),
            defaultPolicy_: self.policy_address(),
        };
        [
            [&Access::BYTECODE[..], &access.abi_encode()].concat().into(),
            [&OwnerAfterFloor::BYTECODE[..], &policy.abi_encode()].concat().into(),
            [&Vault::BYTECODE[..], &vault.abi_encode()].concat().into(),
        ]
    }

    /// True for the owner and the recovery accounts: they may send before `Access` stands.
    pub(crate) fn names(&self, sender: &Address) -> bool {
        let sender = Account::new(sender.into_array());
        sender == self.owner || self.recovery.contains(&sender)
    }

    fn owner_address(&self) -> Address {
        address(&self.owner)
    }
}

fn address(account: &Account) -> Address {
    Address::new(account.to_bytes())
}

fn decode_fork(decoder: &mut Decoder<'_>) -> Result<(u64, Fork), DecodeError> {
    let from = decoder.u64()?;
    let tag = decoder.u8()?;
    Fork::from_tag(tag)
        .map(|fork| (from, fork))
        .ok_or_else(|| decoder.unknown("set of rules, which a newer blockhouse may know", tag.into()))
}
