//! The identity file: the owner's keys, off the host.
//!
//! - **Owns** the text of the file and its encryption to a passphrase.
//! - **Does not** read or write files, nor ask for a passphrase.
//!
//! # Invariants
//! - **I1** The owner's account in the text is the one of the owner's secret, or the file is refused.
//! - **I2** Opening never spends more work than [`WORK_FACTOR_MAX`] says, whatever the file demands.
//! - **I3** The plain text is an identity file of the age tools too.
//!
//! Format: `docs/design/keys.md`, section *Identity file*.

use std::iter;

use age::secrecy::SecretString;
use blockhouse_types::{Account, VaultId};
use zeroize::{Zeroize, Zeroizing};

use crate::account::AccountSecret;
use crate::recipient::{AgeIdentity, encrypt_all, read_all};
use crate::secret::Secret;

/// The scrypt work factor of new files: N = 2¹⁸, 256 MiB of memory and about a second. Fixed, not measured.
pub const WORK_FACTOR: u8 = 18;
/// The greatest work factor that is still opened: more would let a file occupy the machine for hours.
pub const WORK_FACTOR_MAX: u8 = 22;
/// The greatest length of an identity file.
pub const IDENTITY_FILE_MAX: usize = 64 * 1024;

const TITLE: &str = "# blockhouse identity, version ";
const VERSION: &str = "1";
const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";

/// Why an identity file did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenIdentityError {
    #[error("the passphrase of the identity file is wrong")]
    WrongPassphrase,
    #[error("the identity file is encrypted and needs its passphrase")]
    NeedsPassphrase,
    #[error("the file is not an identity of blockhouse: {why}")]
    NotAnIdentity { why: &'static str },
    #[error("the identity file demands a work factor of {work_factor}, more than {WORK_FACTOR_MAX} is not tried")]
    TooHard { work_factor: u8 },
}

/// Why an identity file could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealIdentityError {
    #[error("the passphrase of an identity file cannot be empty")]
    EmptyPassphrase,
}

/// Why the passphrase of an identity file could not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangePassphraseError {
    #[error("could not open the identity file with its old passphrase")]
    Open(#[source] OpenIdentityError),
    #[error("could not seal the identity file with its new passphrase")]
    Seal(#[source] SealIdentityError),
}

/// The owner's keys: what opens wraps and the key bag, and what makes the rules on the ledger.
#[derive(Clone, Debug)]
pub struct Identity {
    vault: VaultId,
    age: AgeIdentity,
    owner: AccountSecret,
}

impl Identity {
    /// Fresh keys for a vault.
    pub fn generate(vault: VaultId, random: &mut impl rand::CryptoRng) -> Self {
        Self { vault, age: AgeIdentity::random(random), owner: AccountSecret::random(random) }
    }

    /// The identity of keys that exist.
    pub const fn from_keys(vault: VaultId, age: AgeIdentity, owner: AccountSecret) -> Self {
        Self { vault, age, owner }
    }

    /// The vault it belongs to.
    pub const fn vault(&self) -> VaultId {
        self.vault
    }

    /// What opens wraps and the key bag.
    pub const fn age(&self) -> &AgeIdentity {
        &self.age
    }

    /// The owner's account.
    pub const fn owner(&self) -> &AccountSecret {
        &self.owner
    }

    /// The file's bytes: encrypted to the passphrase, plain without one.
    pub fn to_file(&self, passphrase: Option<&str>) -> Result<Zeroizing<Vec<u8>>, SealIdentityError> {
        self.to_file_with(passphrase, WORK_FACTOR)
    }

    fn to_file_with(&self, passphrase: Option<&str>, factor: u8) -> Result<Zeroizing<Vec<u8>>, SealIdentityError> {
        let text = self.to_text();
        match passphrase {
            None => Ok(Zeroizing::new(text.as_bytes().to_vec())),
            Some("") => Err(SealIdentityError::EmptyPassphrase),
            Some(passphrase) => Ok(Zeroizing::new(encrypt(text.as_bytes(), passphrase, factor))),
        }
    }

    /// Opens a file's bytes. A passphrase that a plain file does not need is not looked at.
    pub fn open(file: &[u8], passphrase: Option<&str>) -> Result<Self, OpenIdentityError> {
        if file.len() > IDENTITY_FILE_MAX {
            return Err(not_an_identity("it is too long"));
        }
        if !file.starts_with(AGE_MAGIC) {
            return Self::parse(file);
        }
        let decryptor = age::Decryptor::new_buffered(file).map_err(|_| not_an_identity("its age header is damaged"))?;
        if !decryptor.is_scrypt() {
            return Err(not_an_identity("it is encrypted to a key, not to a passphrase"));
        }
        let passphrase = passphrase.ok_or(OpenIdentityError::NeedsPassphrase)?;
        Self::parse(&decrypt(decryptor, passphrase, file.len())?)
    }

    /// The same keys in a file with another passphrase, or with none.
    pub fn change_passphrase(
        file: &[u8],
        old: Option<&str>,
        new: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>, ChangePassphraseError> {
        let identity = Self::open(file, old).map_err(ChangePassphraseError::Open)?;
        identity.to_file(new).map_err(ChangePassphraseError::Seal)
    }

    fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(512));
        let mut secret = Zeroizing::new([0; 64]);
        hex::encode_to_slice(self.owner.secret().expose(), secret.as_mut()).expect("64 digits write 32 bytes");
        let secret = std::str::from_utf8(secret.as_ref()).expect("hexadecimal digits are ASCII");
        let (vault, account) = (self.vault.to_string(), self.owner.account().to_string());
        let age = self.age.to_text();
        let parts = [TITLE, VERSION, "\n# vault: ", &vault, "\n# owner account: 0x", &account];
        for part in parts.into_iter().chain(["\n# owner secret: 0x", secret, "\n", &age, "\n"]) {
            text.push_str(part);
        }
        text
    }

    fn parse(text: &[u8]) -> Result<Self, OpenIdentityError> {
        let text = std::str::from_utf8(text).map_err(|_| not_an_identity("it is not text"))?;
        if text.starts_with("-----BEGIN AGE ENCRYPTED FILE") {
            return Err(not_an_identity(
                "it is ASCII-armoured; `age -d` and encrypt again without armour, or give the plain text",
            ));
        }
        let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        let title = lines.next().and_then(|line| line.strip_prefix(TITLE));
        match title {
            Some(VERSION) => {}
            Some(_) => return Err(not_an_identity("a newer blockhouse wrote it")),
            None => return Err(not_an_identity("its first line is another")),
        }
        let mut field =
            |prefix, why| lines.next().and_then(|line| line.strip_prefix(prefix)).ok_or(not_an_identity(why));
        let vault: VaultId = field("# vault: ", "the line of the vault is missing")?
            .parse()
            .map_err(|_| not_an_identity("its vault is no vault id"))?;
        let account: Account = field("# owner account: ", "the line of the owner's account is missing")?
            .parse()
            .map_err(|_| not_an_identity("its owner's account is no account"))?;
        let owner = parse_owner(field("# owner secret: ", "the line of the owner's secret is missing")?)?;
        let age = field("", "the age secret key is missing")?;
        let age = AgeIdentity::parse(age).ok_or(not_an_identity("its age secret key is mistyped"))?;
        if lines.next().is_some() {
            return Err(not_an_identity("it holds more than one identity"));
        }
        if owner.account() != account {
            return Err(not_an_identity("the owner's account does not belong to the owner's secret"));
        }
        Ok(Self { vault, age, owner })
    }
}

const fn not_an_identity(why: &'static str) -> OpenIdentityError {
    OpenIdentityError::NotAnIdentity { why }
}

fn parse_owner(digits: &str) -> Result<AccountSecret, OpenIdentityError> {
    let mut bytes = Zeroizing::new([0; 32]);
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    hex::decode_to_slice(digits, bytes.as_mut()).map_err(|_| not_an_identity("its owner's secret is mistyped"))?;
    let secret = Secret::new(*bytes);
    bytes.zeroize();
    AccountSecret::try_new(&secret).map_err(|_| not_an_identity("its owner's secret is no secp256k1 secret"))
}

fn encrypt(plain: &[u8], passphrase: &str, factor: u8) -> Vec<u8> {
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
    recipient.set_work_factor(factor);
    let encryptor = age::Encryptor::with_recipients(iter::once(&recipient as &dyn age::Recipient))
        .expect("a passphrase alone is a set of recipients");
    encrypt_all(encryptor, plain)
}

fn decrypt(
    decryptor: age::Decryptor<&[u8]>,
    passphrase: &str,
    length: usize,
) -> Result<Zeroizing<Vec<u8>>, OpenIdentityError> {
    let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
    identity.set_max_work_factor(WORK_FACTOR_MAX);
    let opened = decryptor.decrypt(iter::once(&identity as &dyn age::Identity));
    let reader = opened.map_err(|error| match error {
        age::DecryptError::ExcessiveWork { required, .. } => OpenIdentityError::TooHard { work_factor: required },
        age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed => {
            OpenIdentityError::WrongPassphrase
        }
        _ => not_an_identity("its age header is damaged"),
    })?;
    read_all(reader, length).ok_or(not_an_identity("its bytes were altered"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps scrypt short: 2¹ instead of 2¹⁸.
    const EASY: u8 = 1;

    fn identity() -> Identity {
        let owner = AccountSecret::try_new(&Secret::new([3; 32])).unwrap();
        Identity::from_keys(VaultId::new([1; 32]), AgeIdentity::from_secret(&Secret::new([2; 32])), owner)
    }

    fn same(a: &Identity, b: &Identity) -> bool {
        *a.to_text() == *b.to_text()
    }

    fn why(file: &[u8]) -> &'static str {
        match Identity::open(file, None) {
            Err(OpenIdentityError::NotAnIdentity { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_plain_file_is_the_one_of_the_page_and_of_the_age_tools() {
        let file = identity().to_file(None).unwrap();
        let text = std::str::from_utf8(&file).unwrap();
        let (account, age) = (identity().owner().account(), identity().age().to_text());
        let expected = format!(
            "# blockhouse identity, version 1\n# vault: {}\n# owner account: 0x{account}\n# owner secret: 0x{}\n{}\n",
            "01".repeat(32),
            "03".repeat(32),
            *age
        );
        assert_eq!(text, expected);
        assert!(same(&Identity::open(&file, None).unwrap(), &identity()));
        let tools = age::IdentityFile::from_buffer(&file[..]).unwrap();
        assert_eq!(tools.into_identities().unwrap().len(), 1);
    }

    #[test]
    fn a_passphrase_opens_only_its_own_file() {
        let file = identity().to_file_with(Some("correct horse"), EASY).unwrap();
        assert!(same(&Identity::open(&file, Some("correct horse")).unwrap(), &identity()));
        assert_eq!(Identity::open(&file, Some("wrong")).unwrap_err(), OpenIdentityError::WrongPassphrase);
        assert_eq!(Identity::open(&file, None).unwrap_err(), OpenIdentityError::NeedsPassphrase);
        assert_eq!(identity().to_file(Some("")).unwrap_err(), SealIdentityError::EmptyPassphrase);
    }

    #[test]
    fn a_file_that_demands_too_much_work_is_refused_before_the_work() {
        let file = identity().to_file_with(Some("x"), EASY).unwrap();
        let text = String::from_utf8_lossy(&file);
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("-> scrypt ") && line.ends_with(" 1"), "{line}");
        let at = text.find(line).unwrap() + line.len() - 1;
        for factor in ["23", "30", "63", "64", "255"] {
            let hard = [&file[..at], factor.as_bytes(), &file[at + 1..]].concat();
            let expected = OpenIdentityError::TooHard { work_factor: factor.parse().unwrap() };
            assert_eq!(Identity::open(&hard, Some("x")).unwrap_err(), expected);
        }
    }

    #[test]
    fn every_altered_byte_of_an_encrypted_file_is_noticed() {
        let file = identity().to_file_with(Some("x"), EASY).unwrap();
        for at in 0..file.len() {
            let mut flipped = file.to_vec();
            flipped[at] ^= 1;
            // The work factor's digit is not tried: a flip of 1 is 0, which no file has.
            assert!(Identity::open(&flipped, Some("x")).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_passphrase_changes_and_goes() {
        let plain = identity().to_file(None).unwrap();
        let easy = identity().to_file_with(Some("old"), EASY).unwrap();
        let gone = Identity::change_passphrase(&easy, Some("old"), None).unwrap();
        assert_eq!(gone, plain);
        let error = Identity::change_passphrase(&easy, Some("bad"), None).unwrap_err();
        assert_eq!(error, ChangePassphraseError::Open(OpenIdentityError::WrongPassphrase));
    }

    /// The one test with the real work factor: about a second.
    #[test]
    fn new_files_have_the_fixed_work_factor() {
        let file = identity().to_file(Some("x")).unwrap();
        assert!(String::from_utf8_lossy(&file).lines().nth(1).unwrap().ends_with(" 18"));
    }

    #[test]
    fn what_is_no_identity_is_refused_with_the_reason() {
        let good = String::from_utf8(identity().to_file(None).unwrap().to_vec()).unwrap();
        assert_eq!(why(b""), "its first line is another");
        assert_eq!(why(&[0xff, 0xfe]), "it is not text");
        assert_eq!(why(good.replace("version 1", "version 2").as_bytes()), "a newer blockhouse wrote it");
        assert_eq!(
            why(good.replace("0x0303", "0x0304").as_bytes()),
            "the owner's account does not belong to the owner's secret"
        );
        assert_eq!(why(format!("{good}{good}").as_bytes()), "it holds more than one identity");
        assert_eq!(why(good.split_at(good.len() - 5).0.as_bytes()), "its age secret key is mistyped");
        assert!(Identity::open(good.replace('\n', "\r\n").as_bytes(), None).is_ok());
        let to_key = age::encrypt(&age::x25519::Identity::generate().to_public(), good.as_bytes()).unwrap();
        assert_eq!(why(&to_key), "it is encrypted to a key, not to a passphrase");
    }
}
