//! Which validators hold the one key of a ledger from which height on: the rule by which a resharing counts.
//!
//! Validators that share one key hand it on: the nodes of the coming set hold a ceremony with those that have shares, and post its outcome
//! on the ledger, which every participant signed. The outcome speaks for itself, so it does not matter who posted it. A set takes over
//! with the first epoch, from the one on that the contract names, before which an outcome stood there for [`SETTLED`] blocks; until then
//! those before it go on.
//!
//! - **Owns** what an outcome is bound to, when one counts, and from which block on.
//! - **Does not** hold a ceremony: `consensus` does.
//!
//! # Invariants
//! - **U1** No set is in force that did not say, every node of it, that it has its shares of the same polynomial.
//! - **U2** The key never changes: an outcome whose polynomial has another constant counts for nothing.
//! - **U3** Whether a set takes over is settled by blocks that are [`SETTLED`] below its first one, so before its closing block is made.
//!
//! Format: `docs/design/consensus.md`, section *Resharing*.

use std::num::NonZeroU32;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, U256};
use blockhouse_crypto::hash::hash;
use blockhouse_types::{DecodeError, Decoder, Encoder, Magic};
use commonware_codec::{Copying, Decode as _, DecodeExt as _, Encode as _};
use commonware_cryptography::Verifier as _;
use commonware_cryptography::bls12381::primitives::sharing::{ModeVersion, Sharing};
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::{PublicKey, Signature};

use crate::call::CallError;
use crate::certificate::{COMMITTEE_MAX, GROUP_KEY_LEN, Threshold, quorum};
use crate::contracts::GroupValidators;
use crate::genesis::Genesis;
use crate::governance::{EPOCH_LENGTH_MIN, Governance, validators_address};
use crate::state::StateNodes;
use crate::validators::{Member, Sight, Tenure, can_agree, voters_of};

const MAGIC: Magic = *b"BHRO";
const WHAT: &str = "the outcome of a resharing";
const ID: &str = "blockhouse v1 ceremony";
const SUBJECT: &str = "blockhouse v1 resharing";
/// What tells the signature of an outcome from every other of a node's identity.
pub const OUTCOME_NAME: &[u8] = b"blockhouse v1 ceremony outcome";
/// The longest polynomial: a point for each of a quorum, and its head.
pub const POLYNOMIAL_MAX: usize = COMMITTEE_MAX * GROUP_KEY_LEN + 16;
/// The most shares that a polynomial may be for: [`COMMITTEE_MAX`].
pub const SHARES_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(127);
/// How far below the first block of an epoch an outcome must stand for its set to take over there: more blocks than an honest network ever has
/// above its last final one. So all know it before they make the closing block.
pub const SETTLED: u64 = EPOCH_LENGTH_MIN;

/// Validators that share one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Who they are, ascending.
    pub voters: Vec<[u8; 32]>,
    /// The public polynomial of their shares, as the engine encodes it.
    pub polynomial: Vec<u8>,
}

/// One step of the key: from those who have shares of it to a set that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What the ceremony is about: this ledger, and the set that comes.
    pub subject: [u8; 32],
    /// Who has the key.
    pub holders: Group,
    /// Who of them hands it on, ascending.
    pub dealers: Vec<[u8; 32]>,
    /// Who is to have it, ascending.
    pub players: Vec<[u8; 32]>,
}

/// A set that comes, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    /// The epoch from which on the contract names it.
    pub from: u64,
    /// Its nodes.
    pub members: Vec<Member>,
    /// How it gets its shares.
    pub step: Step,
    /// The epoch with which it takes over, once an outcome stands on the ledger.
    pub takes_over: Option<u64>,
}

/// That all participants of a ceremony signed one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The hash of the attempt and of its dealers' logs.
    pub transcript: [u8; 32],
    /// The public polynomial.
    pub polynomial: Vec<u8>,
    /// A signature of each participant, in their order.
    pub signatures: Vec<[u8; 64]>,
}

impl Group {
    /// The key that they have, as certificates name it; none if the polynomial is none.
    pub fn key(&self) -> Option<[u8; 32]> {
        read_polynomial(&self.polynomial).map(|polynomial| Threshold::key_of(&group_key(&polynomial)))
    }

    /// The step to these validators of a set.
    fn step(&self, chain_id: u64, (from, set): (u64, B256), players: Vec<[u8; 32]>) -> Step {
        let mut subject = Encoder::new();
        subject.u64(chain_id).u64(from).raw(&set.0);
        let staying: Vec<_> = self.voters.iter().filter(|key| players.binary_search(key).is_ok()).copied().collect();
        // Who stays is enough: then nobody is waited for who is taken out because it is gone.
        let dealers = if staying.len() >= quorum(self.voters.len()) { staying } else { self.voters.clone() };
        Step { subject: hash(SUBJECT, subject.as_slice()), holders: self.clone(), dealers, players }
    }
}

impl Coming {
    /// Whether that account speaks for a validator of the set, so that the contract takes the outcome from it.
    pub fn is_operator(&self, account: &Address) -> bool {
        self.members.iter().any(|member| member.votes && member.operator == *account)
    }
}

impl Step {
    /// What tells its ceremony from every other.
    pub fn ceremony(&self) -> [u8; 32] {
        let previous = holding(&self.holders.voters, &self.holders.polynomial);
        ceremony_id(&self.subject, [&self.dealers, &self.players], Some(&previous))
    }

    /// All who take part, ascending.
    pub fn participants(&self) -> Vec<[u8; 32]> {
        let mut all = [self.dealers.as_slice(), &self.players].concat();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Outcome {
    /// The bytes, as they are posted.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(&self.transcript).bytes(&self.polynomial).list(self.signatures.iter(), |encoder, signature| {
            encoder.raw(signature);
        });
        encoder.finish()
    }

    /// Reads the bytes; only the one encoding is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_bare_header(WHAT, MAGIC, bytes)?;
        let transcript = decoder.array()?;
        let polynomial = decoder.bytes("polynomial", POLYNOMIAL_MAX)?.to_vec();
        let signatures = decoder.list("signatures", 2 * COMMITTEE_MAX, Decoder::array)?;
        decoder.finish()?;
        Ok(Self { transcript, polynomial, signatures })
    }

    /// U1, U2: true if every participant of the step signed it, and the polynomial is one of the same key for the players.
    pub fn holds(&self, step: &Step) -> bool {
        let participants = step.participants();
        let statement = statement(&step.ceremony(), &self.transcript, &self.polynomial);
        let signed = |(key, signature): (&[u8; 32], &[u8; 64])| is_signed(key, &statement, signature);
        // What is made up ends at its first signature, before anything that costs more.
        participants.len() == self.signatures.len()
            && participants.iter().zip(&self.signatures).all(signed)
            && self.hands_on(step)
    }

    fn hands_on(&self, step: &Step) -> bool {
        let read = read_polynomial(&self.polynomial).zip(read_polynomial(&step.holders.polynomial));
        let Some((next, former)) = read else { return false };
        let (needed, players) = (quorum(step.players.len()), step.players.len());
        group_key(&next) == group_key(&former)
            && (next.required() as usize, next.total().get() as usize) == (needed, players)
    }
}

/// What tells a ceremony from every other: what it is about, its dealers and players, and the outcome before, if a key is handed on.
pub fn ceremony_id(subject: &[u8; 32], parts: [&[[u8; 32]]; 2], previous: Option<&[u8]>) -> [u8; 32] {
    let mut encoder = Encoder::new();
    encoder.raw(subject);
    for keys in parts {
        encoder.list(keys.iter(), |encoder, key| {
            encoder.raw(key);
        });
    }
    encoder.option(previous, |encoder, previous| {
        encoder.bytes(previous);
    });
    hash(ID, encoder.as_slice())
}

/// The outcome of the ceremony before as the engine encodes it, as far as the next one looks at it.
pub fn holding(holders: &[[u8; 32]], polynomial: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    // The summary of the round is not looked at.
    encoder.raw(&[0; 32]).raw(polynomial);
    // Its dealers, its players, and of whom shares were revealed.
    for keys in [holders, holders, &[]] {
        encoder.list(keys.iter(), |encoder, key| {
            encoder.raw(key);
        });
    }
    encoder.finish()
}

/// What every participant signs.
pub fn statement(ceremony: &[u8; 32], transcript: &[u8; 32], polynomial: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.raw(ceremony).raw(transcript).bytes(polynomial);
    encoder.finish()
}

/// Reads a public polynomial; only the one encoding is taken.
pub fn read_polynomial(bytes: &[u8]) -> Option<Sharing<MinPk>> {
    let read = Sharing::<MinPk>::decode_cfg(Copying(bytes), &(SHARES_MAX, ModeVersion::v0())).ok()?;
    (read.encode()[..] == *bytes).then_some(read)
}

/// The compressed key of the group.
pub fn group_key(polynomial: &Sharing<MinPk>) -> [u8; GROUP_KEY_LEN] {
    let mut key = [0; GROUP_KEY_LEN];
    key.copy_from_slice(&polynomial.public().encode());
    key
}

fn is_signed(key: &[u8; 32], statement: &[u8], signature: &[u8; 64]) -> bool {
    let (key, signature) = (PublicKey::decode(Copying(key)), Signature::decode(Copying(signature)));
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(OUTCOME_NAME, statement, &signature))
}

/// A set of the contract.
struct Set {
    from: u64,
    /// The epoch from which on another stands in its place.
    until: u64,
    hash: B256,
    members: Vec<Member>,
    voters: Vec<[u8; 32]>,
}

fn sets<N: StateNodes>(sight: &Sight<'_, N>) -> Result<Vec<Set>, CallError<N::Error>> {
    let contract = validators_address();
    let count = sight.ask(contract, &GroupValidators::setCountCall {})?.unwrap_or_default();
    let mut sets: Vec<Set> = Vec::new();
    for index in 0..u64::try_from(count).unwrap_or(u64::MAX) {
        let record = sight.ask(contract, &GroupValidators::setAtCall { index: U256::from(index) })?;
        let Some(record) = record else { break };
        let members = sight.members(contract, record.from)?;
        if let Some(last) = sets.last_mut() {
            last.until = record.from;
        }
        let voters = voters_of(&members);
        sets.push(Set { from: record.from, until: u64::MAX, hash: record.hash, members, voters });
    }
    Ok(sets)
}

/// The first outcome that holds of those that were posted for a set, with the height of its block.
fn outcome<N: StateNodes>(
    sight: &Sight<'_, N>,
    set: &Set,
    step: &Step,
) -> Result<Option<(u64, Outcome)>, CallError<N::Error>> {
    let (contract, from, set_hash) = (validators_address(), set.from, set.hash);
    let count = GroupValidators::outcomeCountCall { from, setHash: set_hash };
    let count = sight.ask(contract, &count)?.unwrap_or_default();
    for index in 0..u64::try_from(count).unwrap_or(u64::MAX) {
        let at = GroupValidators::outcomeAtCall { from, setHash: set_hash, index: U256::from(index) };
        let Some(posted) = sight.ask(contract, &at)? else { break };
        if let Some(outcome) = Outcome::decode(&posted.data).ok().filter(|outcome| outcome.holds(step)) {
            return Ok(Some((posted.height, outcome)));
        }
    }
    Ok(None)
}

/// The first epoch that a set may begin whose outcome stands in the block of that height. U3.
const fn first_epoch(height: u64, epoch_length: u64) -> u64 {
    height.saturating_add(SETTLED) / epoch_length + 1
}

/// See [`crate::validators::tenures`]: those of validators that share one key.
pub(crate) fn tenures<N: StateNodes>(
    sight: &Sight<'_, N>,
    governance: &Governance,
    until: u64,
) -> Result<Vec<Tenure>, CallError<N::Error>> {
    let Some(polynomial) = &governance.group else { return Ok(Vec::new()) };
    follow(sight, governance, polynomial, &sets(sight)?, until).map(|(tenures, _)| tenures)
}

fn follow<N: StateNodes>(
    sight: &Sight<'_, N>,
    governance: &Governance,
    polynomial: &[u8],
    sets: &[Set],
    until: u64,
) -> Result<(Vec<Tenure>, Group), CallError<N::Error>> {
    let voters = governance.validators.iter().map(|founder| founder.key).collect();
    let mut holders = Group { voters, polynomial: polynomial.to_vec() };
    let mut tenures = Vec::new();
    for set in sets.iter().filter(|set| can_agree(&set.voters)) {
        if set.voters == holders.voters {
            continue;
        }
        let step = holders.step(sight.genesis.chain_id, (set.from, set.hash), set.voters.clone());
        let Some((height, outcome)) = outcome(sight, set, &step)? else { continue };
        let epoch = first_epoch(height, governance.epoch_length).max(set.from);
        let first = epoch.saturating_mul(governance.epoch_length);
        if epoch >= set.until || first > until {
            continue;
        }
        holders = Group { voters: set.voters.clone(), polynomial: outcome.polynomial };
        let (key, polynomial) = (sight.genesis.ledger_key, Some(holders.polynomial.clone()));
        tenures.push(Tenure { epoch, first, key, voters: holders.voters.clone(), set: set.from, polynomial });
    }
    Ok((tenures, holders))
}

/// The set that comes next and needs shares of the key, as the state after `head` has it; none where those who have them stay.
pub fn coming<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
) -> Result<Option<Coming>, CallError<N::Error>> {
    let Some((governance, polynomial)) = genesis.governance.as_ref().and_then(|it| Some((it, it.group.as_ref()?)))
    else {
        return Ok(None);
    };
    let sight = Sight { genesis, head, nodes };
    if !sight.government()?.is_some_and(|government| government.shares) {
        return Ok(None);
    }
    let (sets, next) = (sets(&sight)?, head.number.saturating_add(1));
    let (settled, _) = follow(&sight, governance, polynomial, &sets, u64::MAX)?;
    let (_, holders) = follow(&sight, governance, polynomial, &sets, next)?;
    let to = |set: &Set, takes_over| Coming {
        from: set.from,
        members: set.members.clone(),
        step: holders.step(genesis.chain_id, (set.from, set.hash), set.voters.clone()),
        takes_over,
    };
    if let Some(last) = settled.last().filter(|last| last.first > next) {
        return Ok(sets.iter().find(|set| set.from == last.set).map(|set| to(set, Some(last.epoch))));
    }
    // An outcome in the next block would count from here on.
    let soonest = first_epoch(next, governance.epoch_length);
    let mut open = sets.iter().filter(|set| set.until > soonest && can_agree(&set.voters));
    Ok(open.find(|set| set.voters != holders.voters).map(|set| to(set, None)))
}
