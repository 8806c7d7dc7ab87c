//! The owner's answer to a host that asked to be one of a vault's: what it needs to write and to deduplicate, sealed to it.
//!
//! - **Owns** its bytes, plain and sealed.
//! - **Does not** make a host: the ledger does, which lists its account as a writer's.
//!
//! # Invariants
//! - **N1** It holds write secrets alone, with the domain of the asking host's own line: not the vault secret, nothing of the owner,
//!   nothing that is another host's alone.
//! - **N2** It names the request that it answers. Another host cannot open it, nor take it for its own.
//! - **N3** The plain bytes are overwritten when dropped, on both ways.
//!
//! Anybody can seal such a file to a public key: whether it is the owner's, the vault's fingerprint tells.
//!
//! Format: `docs/design/keys.md`, section *Hosts*.

use blockhouse_crypto::Secret;
use blockhouse_crypto::recipient::{AgeIdentity, RecipientSet, UnwrapError, decrypt, encrypt_to_many};
use blockhouse_types::limits::BAG_MAX;
use blockhouse_types::{Account, BlockHash, Code, DecodeError, Decoder, Encoder, Fingerprint, VaultId};
use zeroize::Zeroizing;

use crate::domain::WriteSecrets;
use crate::host_request::HostRequest;
use crate::key_bag::{BagSite, decode_recipients, decode_sites_and_code, encode_site};

const MAGIC: [u8; 4] = *b"BHHA";
const WHAT: &str = "an answer to a host";
/// The most nodes that an answer names, and the longest of their URLs.
const URLS_MAX: usize = 64;
const URL_MAX: usize = 4096;

/// Why an answer did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenAnswerError {
    #[error("the answer is to another request than this host's")]
    OtherRequest,
    #[error("could not decrypt the answer")]
    Decrypt(#[source] UnwrapError),
    #[error("could not decode the answer")]
    Decode(#[source] DecodeError),
}

/// What a host needs to be one of a vault's.
#[derive(Debug, Clone)]
pub struct HostAnswer {
    /// The vault.
    pub vault: VaultId,
    /// What cuts, names and seals its chunks.
    pub write: WriteSecrets,
    /// Who can open its snapshots.
    pub recipients: RecipientSet,
    /// The sites.
    pub sites: Vec<BagSite>,
    /// The erasure code.
    pub code: Code,
    /// The ledger's chain id.
    pub chain_id: u64,
    /// The hash of the ledger's block 0.
    pub genesis: BlockHash,
    /// The contract `Vault`.
    pub vault_contract: Account,
    /// The contract `Access`.
    pub access_contract: Account,
    /// The vault's fingerprint when it was answered.
    pub fingerprint: Fingerprint,
    /// Where the ledger's nodes are asked.
    pub urls: Vec<String>,
}

impl HostAnswer {
    fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        let mut rest = Encoder::new();
        rest.list(self.recipients.members().iter(), |encoder, recipient| recipient.encode(encoder));
        rest.list(self.sites.iter(), encode_site);
        rest.raw(&self.code.to_bytes()).u64(self.chain_id).raw(self.genesis.as_bytes());
        rest.raw(self.vault_contract.as_bytes()).raw(self.access_contract.as_bytes());
        rest.raw(self.fingerprint.as_bytes());
        rest.list(self.urls.iter(), |encoder, url| {
            encoder.bytes(url.as_bytes());
        });
        let WriteSecrets { cut_seed, index_key, writer_domain, vault_domain, chain_domain } = &self.write;
        // Room for all of it at once: a growing buffer would leave copies of the secrets behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(32 + 8 + 4 * 32 + rest.len()));
        plain.extend_from_slice(self.vault.as_bytes());
        plain.extend_from_slice(&cut_seed.to_le_bytes());
        for secret in [index_key, writer_domain, vault_domain, chain_domain] {
            plain.extend_from_slice(secret.expose());
        }
        plain.extend_from_slice(rest.as_slice());
        plain
    }

    fn from_plain(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(WHAT, bytes);
        let vault = VaultId::new(decoder.array()?);
        let cut_seed = decoder.u64()?;
        let mut secret = || decoder.array().map(Secret::new);
        let (index_key, writer_domain) = (secret()?, secret()?);
        let (vault_domain, chain_domain) = (secret()?, secret()?);
        let write = WriteSecrets { cut_seed, index_key, writer_domain, vault_domain, chain_domain };
        let recipients = decode_recipients(&mut decoder)?;
        let (sites, code) = decode_sites_and_code(&mut decoder)?;
        let answer = Self {
            vault,
            write,
            recipients,
            sites,
            code,
            chain_id: decoder.u64()?,
            genesis: BlockHash::new(decoder.array()?),
            vault_contract: Account::new(decoder.array()?),
            access_contract: Account::new(decoder.array()?),
            fingerprint: Fingerprint::new(decoder.array()?),
            urls: decoder.list("nodes", URLS_MAX, |decoder| decoder.text("URL", URL_MAX).map(str::to_owned))?,
        };
        decoder.finish()?;
        Ok(answer)
    }

    /// The sealed file for the host that made the request.
    pub fn seal(&self, request: &HostRequest) -> Vec<u8> {
        let sealed = encrypt_to_many([request.recipient()], &self.to_plain()).expect("one recipient is given");
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(&request.hash()).bytes(&sealed);
        encoder.finish()
    }

    /// Opens a file, all of `bytes`, as the host that made the request.
    pub fn open(bytes: &[u8], request: &HostRequest, age: &AgeIdentity) -> Result<Self, OpenAnswerError> {
        let (hash, sealed) = read(bytes).map_err(OpenAnswerError::Decode)?;
        if hash != request.hash() {
            return Err(OpenAnswerError::OtherRequest);
        }
        let plain = decrypt(age, sealed).map_err(OpenAnswerError::Decrypt)?;
        Self::from_plain(&plain).map_err(OpenAnswerError::Decode)
    }
}

fn read(bytes: &[u8]) -> Result<([u8; 32], &[u8]), DecodeError> {
    let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
    let hash = decoder.array()?;
    let sealed = decoder.bytes("sealed answer", BAG_MAX)?;
    decoder.finish()?;
    Ok((hash, sealed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::VaultSecret;
    use crate::host_request::PendingHost;
    use blockhouse_crypto::Role;
    use blockhouse_types::SiteId;

    fn answer(account: Account) -> HostAnswer {
        let owner = AgeIdentity::from_secret(&Secret::new([1; 32])).recipient(Role::Owner, "owner").unwrap();
        let site = |number| BagSite {
            id: SiteId::new([number; 32]),
            name: format!("s{number}"),
            url: format!("file:/mnt/{number}"),
            region: String::new(),
            provider: "home".to_owned(),
        };
        HostAnswer {
            vault: VaultId::new([2; 32]),
            write: VaultSecret::new(Secret::new([3; 32])).write_secrets(account),
            recipients: RecipientSet::try_new(vec![owner]).unwrap(),
            sites: vec![site(1), site(2)],
            code: Code::try_new(1, 1).unwrap(),
            chain_id: 1 << 40,
            genesis: BlockHash::new([4; 32]),
            vault_contract: Account::new([5; 20]),
            access_contract: Account::new([6; 20]),
            fingerprint: Fingerprint::new([7; 32]),
            urls: vec!["http://127.0.0.1:8545/".to_owned()],
        }
    }

    #[test]
    fn an_answer_opens_for_its_host_alone_and_no_byte_of_it_can_be_changed() {
        let host = PendingHost::generate("web-1", &mut rand::rng()).unwrap();
        let (request, other) = (host.request(), PendingHost::generate("web-1", &mut rand::rng()).unwrap());
        let sealed = answer(request.account()).seal(&request);
        let opened = HostAnswer::open(&sealed, &request, &host.age).unwrap();
        assert_eq!(opened.to_plain(), answer(request.account()).to_plain());
        assert_eq!(HostAnswer::open(&sealed, &other.request(), &other.age).unwrap_err(), OpenAnswerError::OtherRequest);
        assert!(HostAnswer::open(&sealed, &request, &other.age).is_err());
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            // One byte of the header is of flags that a reader may ignore.
            let is_ignored = at == 6;
            assert_eq!(HostAnswer::open(&flipped, &request, &host.age).is_ok(), is_ignored, "byte {at}");
            assert!(HostAnswer::open(&sealed[..at], &request, &host.age).is_err(), "length {at}");
        }
        assert!(!format!("{opened:?}").contains("WriteSecrets {"));
    }

    #[test]
    fn plain_bytes_of_any_kind_never_panic() {
        let plain = answer(Account::new([1; 20])).to_plain();
        for at in 0..plain.len() {
            assert!(HostAnswer::from_plain(&plain[..at]).is_err(), "length {at}");
        }
        assert!(HostAnswer::from_plain(&[&plain[..], &[0]].concat()).is_err());
    }
}
