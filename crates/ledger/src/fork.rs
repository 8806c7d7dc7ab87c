//! Evidence that a ledger has forked: two blocks of one height, each certified under the key that was in force there.
//!
//! - **Owns** its bytes, its check, and who is found under both certificates.
//! - **Does not** say which of the two is right, nor look for forks: whoever meets a certified block beside his own makes the evidence of both.
//!
//! # Invariants
//! - **F1** [`ForkEvidence::check`] succeeds only if both certificates are good, under the key to which the links lead from that of the fingerprint,
//!   and if the blocks are two, of one height above block 0.
//! - **F2** A validator is named only if its own signature stands under both. A certificate that names nobody accuses nobody.
//! - **F3** There is one byte string for one evidence, whoever makes it of the same parts.
//!
//! Format: `docs/design/forks.md`.

#[cfg(test)]
mod tests;

use alloy_consensus::Header;
use alloy_primitives::Address;
use blockhouse_types::limits::CERTIFICATE_MAX;
use blockhouse_types::{BlockHash, DecodeError, Decoder, Encoder, Fingerprint, Magic};

use crate::block::{BlockObject, block_hash, decode_header};
use crate::certificate::{BlockPlace, Certificate, CertificateError, DESCENDANT_MAX};
use crate::fingerprint::TrustRoot;
use crate::receipt::{KeyAt, LINKS_MAX, Link, LinkError};

const MAGIC: Magic = *b"BHFK";
const WHAT: &str = "fork evidence";
/// The greatest length: as many links as a receipt may have, and two blocks.
pub const FORK_EVIDENCE_MAX: usize = (LINKS_MAX + 2) * (CERTIFICATE_MAX + DESCENDANT_MAX + 16) + 256;

/// A block with what vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkSide {
    /// Its header.
    pub header: Header,
    /// Its certificate.
    pub certificate: Certificate,
}

/// Two blocks of one height. Nothing in it is true before [`ForkEvidence::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkEvidence {
    root: TrustRoot,
    links: Vec<Link>,
    /// That with the lesser hash first.
    sides: [ForkSide; 2],
}

/// A fork that is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedFork {
    /// The vault's fingerprint: the one asked for; if none was, that of the key which certified both.
    pub fingerprint: Fingerprint,
    /// The ledger's chain id.
    pub chain_id: u64,
    /// The height of both blocks.
    pub height: u64,
    /// Their hashes, ascending.
    pub blocks: [BlockHash; 2],
    /// The key that certified both.
    pub key: [u8; 32],
    /// Whom it accuses.
    pub by: SignedBy,
}

/// Who stands under both certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedBy {
    /// The one operator of an embedded ledger.
    Operator,
    /// A quorum of validators with one key in common: which of them signed is not in its signature.
    Group,
    /// Validators that sign one by one.
    Validators {
        /// The keys of those whose signatures stand under both, ascending.
        both: Vec<[u8; 32]>,
        /// How many validators there are.
        of: usize,
        /// Both certificates are of one view. Then each of these broke the rules by these two signatures alone.
        one_view: bool,
    },
}

/// Why evidence proves no fork.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    #[error("the fork evidence is of the vault with fingerprint {found}, not {asked}")]
    OtherVault { found: Fingerprint, asked: Fingerprint },
    #[error("link {index} of the fork evidence leads nowhere")]
    Link {
        index: usize,
        #[source]
        source: LinkError,
    },
    #[error("the blocks of the fork evidence have the heights {first} and {second}: that is no fork")]
    Heights { first: u64, second: u64 },
    #[error("the fork evidence holds block {block} twice: a block with two certificates is no fork")]
    OneBlock { block: BlockHash },
    #[error("the fork evidence is of block 0, which the fingerprint itself names")]
    Beginning,
    #[error(
        "block {height} of the fork evidence stands below block {after}, with which the time of its validators began"
    )]
    Early { height: u64, after: u64 },
    #[error("block {block} of the fork evidence is not certified by the key in force")]
    Certificate {
        block: BlockHash,
        #[source]
        source: CertificateError,
    },
}

impl From<&BlockObject> for ForkSide {
    fn from(object: &BlockObject) -> Self {
        Self { header: object.block.header.clone(), certificate: object.certificate.clone() }
    }
}

impl ForkSide {
    /// The hash of its block.
    pub fn hash(&self) -> BlockHash {
        block_hash(&self.header)
    }

    /// The bytes, as they stand in the evidence and on the ledger.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        write_block(&mut encoder, &self.header, &self.certificate);
        encoder.finish()
    }

    /// Reads the bytes. No signature is checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new("a side of a fork", bytes);
        let side = Self::read(&mut decoder)?;
        decoder.finish()?;
        Ok(side)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (header, certificate) = read_block(decoder)?;
        Ok(Self { header, certificate })
    }
}

impl ForkEvidence {
    /// The evidence that these two are, in whatever order they come.
    pub fn new(root: TrustRoot, links: Vec<Link>, [one, other]: [ForkSide; 2]) -> Self {
        let sides = if one.hash() <= other.hash() { [one, other] } else { [other, one] };
        Self { root, links, sides }
    }

    /// The ledger, and the key from which the links lead.
    pub const fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// Both blocks.
    pub const fn sides(&self) -> &[ForkSide; 2] {
        &self.sides
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.u64(self.root.chain_id).raw(self.root.genesis.as_bytes());
        encoder.raw(self.root.vault.as_slice()).raw(&self.root.ledger_key);
        encoder.list(self.links.iter(), |encoder, link| write_block(encoder, &link.header, &link.certificate));
        for side in &self.sides {
            write_block(&mut encoder, &side.header, &side.certificate);
        }
        encoder.finish()
    }

    /// Reads the bytes. No signature is checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_bare_header(WHAT, MAGIC, bytes)?;
        decoder.limit("length", bytes.len() as u64, FORK_EVIDENCE_MAX as u64)?;
        let root = TrustRoot {
            chain_id: decoder.u64()?,
            genesis: BlockHash::new(decoder.array()?),
            vault: Address::new(decoder.array()?),
            ledger_key: decoder.array()?,
        };
        let links = decoder.list("links", LINKS_MAX, |decoder| {
            read_block(decoder).map(|(header, certificate)| Link { header, certificate })
        })?;
        let sides = [ForkSide::read(&mut decoder)?, ForkSide::read(&mut decoder)?];
        let [first, second] = &sides;
        if first.hash() > second.hash() {
            return Err(decoder.not_canonical("its blocks are not in the order of their hashes"));
        }
        decoder.finish()?;
        Ok(Self { root, links, sides })
    }

    /// Checks all of it, offline. Without a fingerprint this shows only that it is consistent, and anyone can make a ledger that forks: show the
    /// fingerprint found and say so.
    pub fn check(&self, asked: Option<Fingerprint>) -> Result<ProvedFork, ForkError> {
        let (fingerprint, in_force) = self.check_links(asked)?;
        let (height, blocks) = self.check_blocks(in_force)?;
        for (side, block) in self.sides.iter().zip(blocks) {
            let place = BlockPlace { chain_id: self.root.chain_id, height, hash: block };
            let verified = side.certificate.verify(&in_force.key, &place);
            verified.map_err(|source| ForkError::Certificate { block, source })?;
        }
        let (chain_id, key) = (self.root.chain_id, in_force.key);
        Ok(ProvedFork { fingerprint, chain_id, height, blocks, key, by: self.signed_by() })
    }

    /// The fingerprint that is meant, which the vault had under one of the keys along the links, and the last of these keys.
    fn check_links(&self, asked: Option<Fingerprint>) -> Result<(Fingerprint, KeyAt), ForkError> {
        let mut in_force = KeyAt { key: self.root.ledger_key, after: 0 };
        let mut found = self.root.fingerprint();
        let mut meant = asked.filter(|asked| *asked == found);
        for (index, link) in self.links.iter().enumerate() {
            in_force = link.follow(self.root.chain_id, in_force).map_err(|source| ForkError::Link { index, source })?;
            found = TrustRoot { ledger_key: in_force.key, ..self.root }.fingerprint();
            meant = meant.or(asked.filter(|asked| *asked == found));
        }
        match (asked, meant) {
            (Some(asked), None) => Err(ForkError::OtherVault { found, asked }),
            (_, meant) => Ok((meant.unwrap_or(found), in_force)),
        }
    }

    /// That they are two of one height, which is in the time of that key.
    fn check_blocks(&self, in_force: KeyAt) -> Result<(u64, [BlockHash; 2]), ForkError> {
        let [first, second] = &self.sides;
        let (height, other) = (first.header.number, second.header.number);
        let blocks = [first.hash(), second.hash()];
        if height != other {
            return Err(ForkError::Heights { first: height, second: other });
        }
        if blocks[0] == blocks[1] {
            return Err(ForkError::OneBlock { block: blocks[0] });
        }
        match (height, in_force.after) {
            (0, _) => Err(ForkError::Beginning),
            (height, after) if height <= after => Err(ForkError::Early { height, after }),
            _ => Ok((height, blocks)),
        }
    }

    /// F2. Both certificates are by one key, so their validators are the same.
    fn signed_by(&self) -> SignedBy {
        let [first, second] = &self.sides;
        match (&first.certificate, &second.certificate) {
            (Certificate::Committee(one), Certificate::Committee(other)) => {
                let also = |signer: usize| other.votes.iter().any(|vote| vote.signer == signer);
                let both = one.votes.iter().filter(|vote| also(vote.signer));
                let both = both.filter_map(|vote| one.keys.get(vote.signer).copied()).collect();
                let view = |finality: &crate::certificate::Finality| (finality.epoch, finality.view);
                let one_view = view(&one.finality) == view(&other.finality);
                SignedBy::Validators { both, of: one.keys.len(), one_view }
            }
            (Certificate::Solo { .. }, _) => SignedBy::Operator,
            _ => SignedBy::Group,
        }
    }
}

impl ProvedFork {
    /// The keys that signed both, ascending, as the ledger is told: validators' own, if their certificates name them; else the one key that
    /// certified both, which is nobody's in particular.
    pub fn signers(&self) -> Vec<[u8; 32]> {
        match &self.by {
            SignedBy::Validators { both, .. } => both.clone(),
            SignedBy::Operator | SignedBy::Group => vec![self.key],
        }
    }
}

fn write_block(encoder: &mut Encoder, header: &Header, certificate: &Certificate) {
    encoder.bytes(&alloy_rlp::encode(header)).bytes(&certificate.encode());
}

fn read_block(decoder: &mut Decoder<'_>) -> Result<(Header, Certificate), DecodeError> {
    let header = decoder.bytes("header", DESCENDANT_MAX)?;
    let header = decode_header(header).map_err(|_| decoder.not_canonical("a header is not the RLP of one"))?;
    let certificate = Certificate::decode(decoder.bytes("certificate", CERTIFICATE_MAX)?)?;
    Ok((header, certificate))
}
