//! What recovery accounts agree to where it takes several of them: proposals, and the word of one for one of them.
//!
//! A proposal is shown to each of them and holds all that follows from it, so it is signed on a machine that sees neither the vault nor its
//! ledger.
//!
//! - **Owns** the two files, what is signed, and which signatures a call is made with.
//! - **Does not** say who is a recovery account: `Access` does.
//!
//! # Invariants
//! - **W1** What is signed is bound to one ledger, and to one place of it: a handover to its parent, a change to the number of those before.
//! - **W2** One proposal, and one word, have one encoding.
//!
//! Format: `docs/design/keys.md`, section *Several recovery accounts*.

use std::path::Path;

use alloy_primitives::{Address, Bytes};
use blockhouse_consensus::Base;
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::Genesis;
use blockhouse_ledger::certificate::COMMITTEE_MAX;
use blockhouse_ledger::genesis::{GENESIS_MAX, RECOVERY_MAX};
use blockhouse_ledger::handover::{APPROVAL_LEN, RecoveryChange, THRESHOLD_MAX, approve, signer};
use blockhouse_types::{Account, BlockHash, DecodeError, Decoder, Encoder, Magic};

use super::ceremony::CeremonyError;
use super::enrolment::{ENROLMENT_MAX, Enrolment, EnrolmentError};
use super::folder::{FolderError, create_durably, read_file};
use super::succession::Succession;

const MAGIC: Magic = *b"BHRP";
const WORD_MAGIC: Magic = *b"BHRA";
const WHAT: &str = "a proposal to recovery accounts";
const WORD: &str = "the word of a recovery account";
const FILE_MAX: usize = GENESIS_MAX + COMMITTEE_MAX * (ENROLMENT_MAX + 4) + 2 * 20 * RECOVERY_MAX + 128;
/// A header, what is signed, and the signature.
const WORD_MAX: usize = 8 + 32 + APPROVAL_LEN;
const HANDOVER: u8 = 0;
const CHANGE: u8 = 1;
/// A handover to validators that their operators may change.
const CHARTERED: u8 = 2;

/// What recovery accounts are asked to agree to.
#[derive(Debug, Clone)]
pub enum RecoveryProposal {
    /// That a network of these nodes takes the ledger over above that block.
    Handover {
        /// Who keeps it then.
        succession: Succession,
        /// Above which block.
        base: Base,
    },
    /// That others may hand it over, or more of them are needed.
    Change {
        /// Of which ledger.
        genesis: Genesis,
        /// What changes.
        change: RecoveryChange,
    },
}

/// The word of one recovery account for one proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What was signed.
    pub digest: [u8; 32],
    /// The signature, as the contract takes it.
    pub signature: [u8; APPROVAL_LEN],
}

/// Why something is no proposal, or no word for one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProposalError {
    #[error("it cannot be read")]
    Encoding(#[from] DecodeError),
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    #[error("its nodes make no network")]
    Network(#[from] CeremonyError),
    #[error("account {account} signed something else: another proposal, or this one above another block")]
    OtherProposal { account: Account },
    #[error("account {account} signed it twice")]
    Twice { account: Account },
    #[error("account {account} signed it, and sends the transaction: that is one word")]
    Sender { account: Account },
    #[error("account {account}, which signed it, is no recovery account of this ledger")]
    NotRecovery { account: Account },
    #[error("{given} recovery accounts agree, with the one that sends it, and {needed} are needed")]
    TooFew { given: usize, needed: u64 },
}

impl RecoveryProposal {
    /// Of which ledger it is.
    pub const fn genesis(&self) -> &Genesis {
        match self {
            Self::Handover { succession, .. } => succession.genesis(),
            Self::Change { genesis, .. } => genesis,
        }
    }

    /// What recovery accounts sign (W1).
    pub fn digest(&self) -> [u8; 32] {
        let (chain_id, access) = (self.genesis().chain_id, self.genesis().access_address());
        match self {
            Self::Handover { succession, base } => succession.handover(base, Vec::new()).digest(chain_id, access),
            Self::Change { change, .. } => change.digest(chain_id, access),
        }
    }

    /// Agrees to it.
    pub fn sign(&self, secret: &AccountSecret) -> Word {
        let digest = self.digest();
        Word { digest, signature: approve(&digest, secret) }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.bytes(&self.genesis().encode());
        match self {
            Self::Handover { succession, base } => {
                match succession.epoch_length() {
                    None => encoder.u8(HANDOVER),
                    Some(length) => encoder.u8(CHARTERED).u64(length),
                };
                encoder.u64(base.height).raw(base.hash.as_bytes());
                encoder.list(succession.enrolments().iter(), |encoder, enrolment| {
                    encoder.bytes(&enrolment.encode());
                });
            }
            Self::Change { change, .. } => {
                encoder.u8(CHANGE).u64(change.number).u8(change.threshold);
                for accounts in [&change.added, &change.removed] {
                    encoder.list(accounts.iter(), |encoder, account| {
                        encoder.raw(account.as_bytes());
                    });
                }
            }
        }
        encoder.finish()
    }

    /// Reads the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProposalError> {
        let mut decoder = Decoder::with_bare_header(WHAT, MAGIC, bytes)?;
        let genesis = Genesis::decode(decoder.bytes("genesis", GENESIS_MAX)?)?;
        let read = match decoder.u8()? {
            HANDOVER => read_handover(&mut decoder, genesis, None)?,
            CHARTERED => {
                let epoch_length = Some(decoder.u64()?);
                read_handover(&mut decoder, genesis, epoch_length)?
            }
            CHANGE => Self::Change { change: read_change(&mut decoder)?, genesis },
            other => return Err(decoder.unknown("matter", other.into()).into()),
        };
        if read.encode() != bytes {
            return Err(decoder.not_canonical("it is not as one is written").into());
        }
        Ok(decoder.finish().map(|()| read)?)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, FolderError> {
        let bytes = read_file(path, FILE_MAX)?;
        Self::decode(&bytes).map_err(|source| FolderError::Proposal { path: path.to_owned(), source })
    }

    /// Writes a new file, whole and durable or not at all.
    pub fn write(&self, path: &Path) -> Result<(), FolderError> {
        create_durably(path, &self.encode())
    }

    /// What a call by `sender` carries, ascending by account: the words of others, if they are enough with his own.
    pub fn approvals(
        &self,
        words: &[Word],
        (sender, needed): (Account, u64),
        is_recovery: impl Fn(&Account) -> bool,
    ) -> Result<Vec<Bytes>, ProposalError> {
        let mut found = std::collections::BTreeMap::new();
        for word in words {
            let account = word.account();
            if word.digest != self.digest() {
                return Err(ProposalError::OtherProposal { account });
            }
            if account == sender {
                return Err(ProposalError::Sender { account });
            }
            if !is_recovery(&account) {
                return Err(ProposalError::NotRecovery { account });
            }
            if found.insert(account, Bytes::copy_from_slice(&word.signature)).is_some() {
                return Err(ProposalError::Twice { account });
            }
        }
        let own = usize::from(is_recovery(&sender));
        let given = found.len() + own;
        if (given as u64) < needed {
            return Err(ProposalError::TooFew { given, needed });
        }
        // A contract of the first version takes the word of one alone.
        // And no more than it takes: a handover has a greatest length.
        let others = usize::try_from(needed).unwrap_or(usize::MAX).saturating_sub(own);
        Ok(if needed > 1 { found.into_values().take(others).collect() } else { Vec::new() })
    }
}

fn read_handover(
    decoder: &mut Decoder<'_>,
    genesis: Genesis,
    epoch_length: Option<u64>,
) -> Result<RecoveryProposal, ProposalError> {
    let base = Base { height: decoder.u64()?, hash: BlockHash::new(decoder.array()?) };
    let enrolments = decoder.list("enrolments", COMMITTEE_MAX, |decoder| decoder.bytes("enrolment", ENROLMENT_MAX))?;
    let enrolments = enrolments.into_iter().map(Enrolment::decode).collect::<Result<Vec<_>, _>>()?;
    let succession = Succession::try_new(genesis, enrolments, epoch_length)?;
    Ok(RecoveryProposal::Handover { succession, base })
}

fn read_change(decoder: &mut Decoder<'_>) -> Result<RecoveryChange, ProposalError> {
    let (number, threshold) = (decoder.u64()?, decoder.u8()?);
    let added = decoder.list("added accounts", RECOVERY_MAX, |decoder| decoder.array().map(Account::new))?;
    let removed = decoder.list("removed accounts", RECOVERY_MAX, |decoder| decoder.array().map(Account::new))?;
    if threshold == 0 || usize::from(threshold) > THRESHOLD_MAX {
        return Err(decoder.not_canonical("it takes more accounts than can be, or none").into());
    }
    if !added.is_sorted_by(|a, b| a < b) || !removed.is_sorted_by(|a, b| a < b) {
        return Err(decoder.not_canonical("its accounts do not ascend").into());
    }
    Ok(RecoveryChange { number, added, removed, threshold })
}

impl Word {
    /// Who signed; the zero account, if nobody did.
    pub fn account(&self) -> Account {
        Account::new(signer(&self.digest, &self.signature).unwrap_or(Address::ZERO).into_array())
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(WORD_MAGIC);
        encoder.raw(&self.digest).raw(&self.signature);
        encoder.finish()
    }

    /// Reads the bytes, which somebody must have signed.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProposalError> {
        let mut decoder = Decoder::with_bare_header(WORD, WORD_MAGIC, bytes)?;
        let read = Self { digest: decoder.array()?, signature: decoder.array()? };
        if signer(&read.digest, &read.signature).is_none() {
            return Err(decoder.not_canonical("nobody signed it").into());
        }
        Ok(decoder.finish().map(|()| read)?)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, FolderError> {
        let bytes = read_file(path, WORD_MAX)?;
        Self::decode(&bytes).map_err(|source| FolderError::Proposal { path: path.to_owned(), source })
    }

    /// Writes a new file, whole and durable or not at all.
    pub fn write(&self, path: &Path) -> Result<(), FolderError> {
        create_durably(path, &self.encode())
    }
}

#[cfg(test)]
mod tests;
