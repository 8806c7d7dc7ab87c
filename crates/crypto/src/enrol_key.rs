//! The enrol key: what lets its holder take over a ledger that nobody owns yet.
//!
//! - **Owns** the text of the file.
//! - **Does not** read or write files, and knows no ledger.
//!
//! # Invariants
//! - **E1** A file names one ledger, by chain id and block 0; its secret is sent nowhere, and signs for that ledger alone.
//!
//! Format: `docs/design/keys.md`, section *Enrol key*.

use blockhouse_types::BlockHash;
use zeroize::Zeroizing;

use crate::account::AccountSecret;
use crate::secret::Secret;

/// The greatest length of an enrol key file.
pub const ENROL_KEY_FILE_MAX: usize = 4096;

const TITLE: &str = "# blockhouse enrol key, version ";
const VERSION: &str = "1";

/// Why a file is no enrol key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file is no enrol key of blockhouse: {why}")]
pub struct EnrolKeyError {
    /// What is wrong with it.
    pub why: &'static str,
}

/// The throw-away account that owns a ledger until somebody takes it over.
#[derive(Debug, Clone)]
pub struct EnrolKey {
    /// The chain id of the ledger.
    pub chain_id: u64,
    /// Its block 0.
    pub genesis: BlockHash,
    /// The account that genesis names as owner.
    pub owner: AccountSecret,
}

impl EnrolKey {
    /// The file's text, to be written with mode 0600.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut secret = Zeroizing::new([0; 64]);
        hex::encode_to_slice(self.owner.secret().expose(), secret.as_mut()).expect("64 digits write 32 bytes");
        let secret = std::str::from_utf8(secret.as_ref()).expect("hexadecimal digits are ASCII");
        let (chain_id, genesis) = (self.chain_id.to_string(), self.genesis.to_string());
        // Room for all of it at once: a growing text would leave copies of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(512));
        for part in [TITLE, VERSION, "\nchain: ", &chain_id, "\ngenesis: ", &genesis, "\nsecret: 0x", secret, "\n"] {
            text.push_str(part);
        }
        text
    }

    /// Reads a file's bytes.
    pub fn parse(file: &[u8]) -> Result<Self, EnrolKeyError> {
        if file.len() > ENROL_KEY_FILE_MAX {
            return Err(no("it is too long"));
        }
        let text = std::str::from_utf8(file).map_err(|_| no("it is not text"))?;
        let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        match lines.next().and_then(|line| line.strip_prefix(TITLE)) {
            Some(VERSION) => {}
            Some(_) => return Err(no("a newer blockhouse wrote it")),
            None => return Err(no("its first line is another")),
        }
        let mut field = |prefix, why| lines.next().and_then(|line| line.strip_prefix(prefix)).ok_or(no(why));
        let chain_id = field("chain: ", "the line of the chain is missing")?;
        let genesis = field("genesis: ", "the line of the genesis is missing")?;
        let owner = parse_secret(field("secret: ", "the line of the secret is missing")?)?;
        if lines.next().is_some() {
            return Err(no("it has more lines than it should"));
        }
        let chain_id = chain_id.parse().map_err(|_| no("its chain is no chain id"))?;
        let genesis = genesis.parse().map_err(|_| no("its genesis is no block hash"))?;
        Ok(Self { chain_id, genesis, owner })
    }
}

const fn no(why: &'static str) -> EnrolKeyError {
    EnrolKeyError { why }
}

fn parse_secret(digits: &str) -> Result<AccountSecret, EnrolKeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    hex::decode_to_slice(digits, bytes.as_mut()).map_err(|_| no("its secret is mistyped"))?;
    AccountSecret::try_new(&Secret::new(*bytes)).map_err(|_| no("its secret is no secp256k1 secret"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> EnrolKey {
        EnrolKey {
            chain_id: 1 << 40,
            genesis: BlockHash::new([7; 32]),
            owner: AccountSecret::try_new(&Secret::new([9; 32])).unwrap(),
        }
    }

    #[test]
    fn the_text_comes_back() {
        let text = key().to_text();
        let back = EnrolKey::parse(text.as_bytes()).unwrap();
        assert_eq!((back.chain_id, back.genesis), (1 << 40, BlockHash::new([7; 32])));
        assert_eq!(back.owner.account(), key().owner.account());
        assert_eq!(back.to_text(), text);
        let forgiven = text.replace('\n', "\r\n\n");
        assert!(EnrolKey::parse(forgiven.as_bytes()).is_ok());
        assert!(!format!("{:?}", key()).contains("0909"));
    }

    #[test]
    fn what_is_none_says_why() {
        let text = key().to_text();
        let refused = |text: &str| EnrolKey::parse(text.as_bytes()).unwrap_err().why;
        assert_eq!(refused(""), "its first line is another");
        assert_eq!(refused(&text.replace("version 1", "version 2")), "a newer blockhouse wrote it");
        assert_eq!(refused(&text.replace("chain: ", "chain ")), "the line of the chain is missing");
        assert_eq!(refused(&text.replace("chain: 1", "chain: x1")), "its chain is no chain id");
        assert_eq!(refused(&text.replace("genesis: 07", "genesis: 7")), "its genesis is no block hash");
        assert_eq!(refused(&text.replace("0x09", "0x9")), "its secret is mistyped");
        assert_eq!(refused(&text.replace("09", "00")), "its secret is no secp256k1 secret");
        assert_eq!(refused(&format!("{}\nmore", text.as_str())), "it has more lines than it should");
        assert_eq!(EnrolKey::parse(&[0xff]).unwrap_err().why, "it is not text");
        assert_eq!(EnrolKey::parse(&vec![b'#'; ENROL_KEY_FILE_MAX + 1]).unwrap_err().why, "it is too long");
    }
}
