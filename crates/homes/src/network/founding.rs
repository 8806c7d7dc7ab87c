//! A new network: its ledger's genesis, and the keys of its validators where one operator makes them all.
//!
//! - **Owns** the order of what depends on what: the key first, then the genesis that names it, then the network that begins above it.
//! - **Does not** write files or draw its own randomness.

use blockhouse_consensus::{Base, Keys, Kind, Network, NetworkError, deal};
use blockhouse_crypto::hash::hash;
use blockhouse_ledger::certificate::quorum;
use blockhouse_ledger::genesis::{CHAIN_ID_MAX, CHAIN_ID_MIN, Fork, Genesis};
use blockhouse_ledger::governance::{Founder, GOVERNORS_MAX, Governance, VALIDATORS_MIN};
use blockhouse_types::{Account, BlockHash, RecipientSetHash, VaultId};
use rand::{CryptoRng, RngExt as _};

use super::network_file::NetworkFile;

/// Gas for a block of a network: four times that of an embedded ledger's, since commits of many hosts meet in one.
pub const GAS_LIMIT: u64 = 120_000_000;

/// Where a network begins whose genesis is not made yet.
const NOWHERE: Base = Base { height: 0, hash: BlockHash::new([0; 32]) };
const UNCLAIMED: &str = "blockhouse v1 unclaimed ledger";

/// How the validators of a network sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// With shares of one key: certificates stay short, and whoever checks them knows one key whatever the validators are.
    Threshold,
    /// One by one: faster, with certificates that grow with the validators, and a key in force that changes with them.
    Committee,
}

/// How the validators of a network may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Governed {
    /// Blocks in an epoch: validators change between two.
    pub epoch_length: u64,
    /// Who may change them.
    pub governors: Vec<Account>,
    /// How many of those it takes.
    pub threshold: u8,
    /// What the ledger says of the first validators.
    pub validators: Vec<Founder>,
}

impl Governed {
    /// By the accounts of the validators themselves, of which it takes as many as must agree on a block. None if there are fewer, or more, than
    /// can be governed so.
    pub fn by_operators(epoch_length: u64, validators: Vec<Founder>) -> Option<Self> {
        let governors: Vec<Account> = validators.iter().map(|founder| founder.operator).collect();
        let fits = (VALIDATORS_MIN..=GOVERNORS_MAX).contains(&governors.len());
        let distinct: std::collections::BTreeSet<_> = governors.iter().collect();
        if !fits || distinct.len() != governors.len() {
            return None;
        }
        let threshold = u8::try_from(quorum(governors.len())).ok()?;
        Some(Self { epoch_length, governors, threshold, validators })
    }

    pub(super) fn governance(mut self, kind: &Kind) -> Governance {
        self.validators.sort_by_key(|founder| founder.key);
        let Self { epoch_length, governors, threshold, validators } = self;
        Governance { epoch_length, governors, threshold, validators, group: kind.polynomial() }
    }
}

/// What a network begins with.
#[derive(Debug)]
pub struct Founding {
    /// Who makes the first rules: the account that takes the ledger over for a vault.
    pub owner: Account,
    /// The time of block 0 in seconds.
    pub time: u64,
    /// How the validators sign.
    pub signing: Signing,
    /// The validators' identities.
    pub validators: Vec<Keys>,
    /// How its validators may change; never, if not told.
    pub governed: Option<Governed>,
}

/// A network, and the keys of its validators in the order in which they were given.
#[derive(Debug)]
pub struct Founded {
    /// What all nodes are given.
    pub file: NetworkFile,
    /// The keys.
    pub keys: Vec<Keys>,
}

impl Founding {
    /// Makes it.
    pub fn found(self, random: &mut impl CryptoRng) -> Result<Founded, NetworkError> {
        let beginning = Beginning::draw(self.owner, self.time, random);
        let validators: Vec<[u8; 32]> = self.validators.iter().map(Keys::public).collect();
        let (kind, keys) = match self.signing {
            Signing::Threshold => {
                let dealt = deal(random, beginning.chain_id, 0, NOWHERE, self.validators)?;
                (dealt.network.kind().clone(), dealt.keys)
            }
            Signing::Committee => (Kind::Committee, self.validators),
        };
        Ok(Founded { file: beginning.network(&validators, &kind, self.governed)?, keys })
    }
}

/// What a new ledger is before it is known who keeps it.
pub(super) struct Beginning {
    owner: Account,
    time: u64,
    chain_id: u64,
    vault_id: [u8; 32],
}

impl Beginning {
    /// One that no other ledger has.
    pub(super) fn draw(owner: Account, time: u64, random: &mut impl CryptoRng) -> Self {
        let chain_id = random.random_range(CHAIN_ID_MIN..=CHAIN_ID_MAX);
        let mut vault_id = [0; 32];
        random.fill_bytes(&mut vault_id);
        Self { owner, time, chain_id, vault_id }
    }

    /// What was drawn: the chain id, and 32 bytes.
    pub(super) const fn into_parts(self) -> (u64, [u8; 32]) {
        (self.chain_id, self.vault_id)
    }

    /// That of a founding file: the vault is called by the hash of the file, so the genesis, and with it the fingerprint, commits to all of it.
    pub(super) const fn of(owner: Account, time: u64, chain_id: u64, founding: [u8; 32]) -> Self {
        Self { owner, time, chain_id, vault_id: founding }
    }

    /// The ledger as these validators keep it. The genesis names their key, and the network begins above the genesis.
    pub(super) fn network(
        self,
        validators: &[[u8; 32]],
        kind: &Kind,
        governed: Option<Governed>,
    ) -> Result<NetworkFile, NetworkError> {
        let network = |base| Network::try_new(self.chain_id, 0, base, validators, kind.clone());
        let genesis = Genesis {
            vault_id: VaultId::new(self.vault_id),
            chain_id: self.chain_id,
            owner: self.owner,
            recovery: Vec::new(),
            ledger_key: network(NOWHERE)?.key(),
            time: self.time,
            gas_limit: GAS_LIMIT,
            forks: vec![(0, Fork::Shanghai)],
            // No key has this hash: who takes the ledger over names those that open its snapshots.
            recipients: RecipientSetHash::new(hash(UNCLAIMED, &[])),
            governance: governed.map(|governed| governed.governance(kind)),
        };
        let network = network(Base { height: 0, hash: genesis.hash() })?;
        Ok(NetworkFile { genesis, network, enrolments: Vec::new(), made: None, handover: None, epoch_length: None })
    }
}
