//! Recipients of manifest keys and of the key bag: who they are, their sets, wrapping and unwrapping.
//!
//! - **Owns** the text and id of a recipient, the hash of a set, and every call of the `age` library that
//!   encrypts to keys.
//! - **Does not** decide who is a recipient, and does not know the objects that hold wraps.
//!
//! The `age` library draws file keys and nonces from the operating system itself: the outputs of [`wrap`] and
//! [`encrypt_to_many`] differ from call to call, and nothing else here is random.
//!
//! # Invariants
//! - **R1** One public key has one text: lower-case bech32; a recipient with any other is never made.
//! - **R2** No recipient is a point of low order, for which anybody could unwrap.
//! - **R3** One set of recipients has one hash, in whatever order it was given.
//!
//! Format: `docs/design/keys.md`, section *Recipients and wraps*.

use std::fmt;
use std::io::{Read, Write};

use age::secrecy::ExposeSecret;
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use bech32::{Bech32, Hrp};
use blockhouse_types::limits::RECIPIENTS_MAX;
use blockhouse_types::{DecodeError, Decoder, Encoder, RecipientId, RecipientSetHash};
use zeroize::{Zeroize, Zeroizing};

use crate::hash;
use crate::secret::Secret;

/// The greatest length of a recipient's public text.
pub const PUBLIC_MAX: usize = 1024;
/// The greatest length of a recipient's label.
pub const LABEL_MAX: usize = 256;

const IDENTITY_PREFIX: Hrp = Hrp::parse_unchecked("age-secret-key-");
const RECIPIENT_PREFIX: Hrp = Hrp::parse_unchecked("age");

/// What sort of public key a recipient has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecipientKind {
    /// An `age1…` X25519 recipient.
    Age,
}

impl RecipientKind {
    /// The tag in the formats.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Age => 1,
        }
    }

    /// The kind of a tag.
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Age),
            _ => None,
        }
    }
}

/// What a recipient may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Manifest keys and the key bag.
    Owner,
    /// Manifest keys and the key bag, from the words on paper.
    Paper,
    /// Manifest keys only.
    Reader,
}

impl Role {
    /// The tag in the formats.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Owner => 0,
            Self::Paper => 1,
            Self::Reader => 2,
        }
    }

    /// The role of a tag.
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            0 => Some(Self::Owner),
            1 => Some(Self::Paper),
            2 => Some(Self::Reader),
            _ => None,
        }
    }

    /// True if the key bag is sealed to it.
    pub const fn opens_bag(self) -> bool {
        matches!(self, Self::Owner | Self::Paper)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "owner",
            Self::Paper => "paper",
            Self::Reader => "reader",
        })
    }
}

/// Why a text is no recipient, or a list no set of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientError {
    #[error("`{text}` is not an age recipient: it should look like age1…, 62 characters in all")]
    Form { text: String },
    #[error("`{text}` is a secret key, not a recipient: keep it secret, and give the age1… that belongs to it")]
    Secret { text: &'static str },
    #[error("`{text}` is a weak key that anybody could open")]
    Weak { text: String },
    #[error("the label of recipient {id} is {length} bytes long, the limit is {LABEL_MAX}")]
    Label { id: RecipientId, length: usize },
    #[error("recipient {id} is named twice")]
    Twice { id: RecipientId },
    #[error("a set has 1 to {RECIPIENTS_MAX} recipients, this one has {count}")]
    Count { count: usize },
}

/// A public key that manifest keys are wrapped for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    kind: RecipientKind,
    public: String,
    role: Role,
    label: String,
}

impl Recipient {
    /// Reads an `age1…` text, in lower or upper case and with space around it.
    pub fn parse(text: &str, role: Role, label: &str) -> Result<Self, RecipientError> {
        let text = text.trim();
        if text.get(..IDENTITY_PREFIX.as_str().len()).is_some_and(|t| t.eq_ignore_ascii_case(IDENTITY_PREFIX.as_str()))
        {
            return Err(RecipientError::Secret { text: "AGE-SECRET-KEY-…" });
        }
        let shown = || text.chars().take(80).collect::<String>();
        let (prefix, key) = match bech32::decode(text) {
            Ok((prefix, bytes)) => (prefix, <[u8; 32]>::try_from(bytes).ok()),
            Err(_) => return Err(RecipientError::Form { text: shown() }),
        };
        let key = key.filter(|_| prefix == RECIPIENT_PREFIX).ok_or_else(|| RecipientError::Form { text: shown() })?;
        if is_weak(&key) {
            return Err(RecipientError::Weak { text: shown() });
        }
        let public = bech32::encode_lower::<Bech32>(RECIPIENT_PREFIX, &key).expect("32 bytes fit a bech32 text");
        // The checksum of bech32m would have passed the decoder too; the library wants that of bech32.
        if !text.eq_ignore_ascii_case(&public) {
            return Err(RecipientError::Form { text: shown() });
        }
        let recipient = Self { kind: RecipientKind::Age, public, role, label: label.to_owned() };
        if label.len() > LABEL_MAX {
            return Err(RecipientError::Label { id: recipient.id(), length: label.len() });
        }
        Ok(recipient)
    }

    /// What sort of key it is.
    pub const fn kind(&self) -> RecipientKind {
        self.kind
    }

    /// Its text, `age1…`.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// What it may open.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What people call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its id: of kind and public text, not of role and label.
    pub fn id(&self) -> RecipientId {
        let mut encoder = Encoder::new();
        encoder.u8(self.kind.tag()).bytes(self.public.as_bytes());
        RecipientId::new(hash::hash("blockhouse v1 recipient", encoder.as_slice()))
    }

    /// Writes kind, public text, role and label.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.u8(self.kind.tag()).bytes(self.public.as_bytes());
        encoder.u8(self.role.tag()).bytes(self.label.as_bytes());
    }

    /// Reads kind, public text, role and label.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let kind = decoder.u8()?;
        RecipientKind::from_tag(kind).ok_or_else(|| decoder.unknown("kind of recipient", kind.into()))?;
        let public = decoder.text("public key", PUBLIC_MAX)?;
        let role = decoder.u8()?;
        let role = Role::from_tag(role).ok_or_else(|| decoder.unknown("role", role.into()))?;
        let label = decoder.text("label", LABEL_MAX)?;
        match Self::parse(public, role, label) {
            Ok(recipient) if recipient.public == public => Ok(recipient),
            _ => Err(decoder.not_canonical("a public key is no age recipient in lower case")),
        }
    }

    fn age(&self) -> age::x25519::Recipient {
        self.public.parse().expect("parse took only what the library reads")
    }
}

/// True for the points from which every secret gives the same, known result. The library panics on them.
fn is_weak(public: &[u8; 32]) -> bool {
    let Ok(any) = PrivateKey::from_private_key(&X25519, &[0x40; 32]) else { return true };
    agreement::agree(&any, UnparsedPublicKey::new(&X25519, public), (), |_| Ok(())).is_err()
}

/// A set of recipients: not empty, none twice, by ascending ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientSet {
    members: Vec<Recipient>,
}

impl RecipientSet {
    /// The set of these recipients, in whatever order.
    pub fn try_new(mut members: Vec<Recipient>) -> Result<Self, RecipientError> {
        let count = members.len();
        if count == 0 || count > RECIPIENTS_MAX {
            return Err(RecipientError::Count { count });
        }
        members.sort_by_cached_key(Recipient::id);
        let ids: Vec<_> = members.iter().map(Recipient::id).collect();
        match ids.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => {
                Err(RecipientError::Twice { id: pair.first().copied().expect("a window of two has a first") })
            }
            None => Ok(Self { members }),
        }
    }

    /// The recipients, by ascending ids.
    pub fn members(&self) -> &[Recipient] {
        &self.members
    }

    /// Their ids, ascending.
    pub fn ids(&self) -> Vec<RecipientId> {
        self.members.iter().map(Recipient::id).collect()
    }

    /// The recipient of that id.
    pub fn get(&self, id: RecipientId) -> Option<&Recipient> {
        self.members.iter().find(|member| member.id() == id)
    }

    /// True if one of them may not open the key bag, so that a reader's map is needed.
    pub fn has_reader(&self) -> bool {
        self.members.iter().any(|member| !member.role.opens_bag())
    }

    /// The hash that the owner approves on the ledger.
    pub fn hash(&self) -> RecipientSetHash {
        set_hash(&self.ids())
    }
}

/// The hash of a set, from its ascending ids.
pub fn set_hash(ids: &[RecipientId]) -> RecipientSetHash {
    let mut encoder = Encoder::new();
    encoder.list(ids.iter(), |encoder, id| {
        encoder.raw(id.as_bytes());
    });
    RecipientSetHash::new(hash::hash("blockhouse v1 recipient set", encoder.as_slice()))
}

/// The secret half of an `age1…` recipient. Never printed by `Debug`.
#[derive(Clone)]
pub struct AgeIdentity(age::x25519::Identity);

impl AgeIdentity {
    /// The identity of 32 secret bytes; every 32 bytes are one.
    pub fn from_secret(secret: &Secret) -> Self {
        let mut text =
            bech32::encode_lower::<Bech32>(IDENTITY_PREFIX, secret.expose()).expect("32 bytes fit a bech32 text");
        text.make_ascii_uppercase();
        let identity = text.parse().expect("the library reads what its own format prescribes");
        text.zeroize();
        Self(identity)
    }

    /// A fresh identity.
    pub fn random(random: &mut impl rand::CryptoRng) -> Self {
        Self::from_secret(&Secret::random(random))
    }

    /// Reads `AGE-SECRET-KEY-1…`.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    /// `AGE-SECRET-KEY-1…`, as the age tools write it.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// The public half.
    pub fn recipient(&self, role: Role, label: &str) -> Result<Recipient, RecipientError> {
        Recipient::parse(&self.0.to_public().to_string(), role, label)
    }

    /// The id of the public half.
    pub fn id(&self) -> RecipientId {
        self.recipient(Role::Reader, "").expect("the public half of an identity is a recipient without a label").id()
    }
}

impl fmt::Debug for AgeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgeIdentity({})", self.0.to_public())
    }
}

/// Why a wrapped key or a sealed object did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    #[error("the bytes are no age file")]
    NotAge,
    #[error("the age file is sealed to others, not to {id}")]
    NotForThis { id: RecipientId },
    #[error("the age file was altered")]
    Altered,
    #[error("the age file holds {found} bytes where a key of 32 was expected")]
    Length { found: usize },
}

/// An age file to one recipient that holds the 32 bytes of `key`.
pub fn wrap(recipient: &Recipient, key: &Secret) -> Vec<u8> {
    encrypt_to_many([recipient], key.expose()).expect("one recipient is given")
}

/// The key in an age file to one recipient.
pub fn unwrap(identity: &AgeIdentity, wrapped: &[u8]) -> Result<Secret, UnwrapError> {
    let plain = decrypt(identity, wrapped)?;
    let mut bytes = <[u8; 32]>::try_from(plain.as_slice()).map_err(|_| UnwrapError::Length { found: plain.len() })?;
    let key = Secret::new(bytes);
    bytes.zeroize();
    Ok(key)
}

/// An age file that each of the recipients opens; `None` if there is none.
pub fn encrypt_to_many<'a>(recipients: impl IntoIterator<Item = &'a Recipient>, plain: &[u8]) -> Option<Vec<u8>> {
    let keys: Vec<_> = recipients.into_iter().map(Recipient::age).collect();
    if keys.is_empty() {
        return None;
    }
    let encryptor = age::Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient))
        .expect("X25519 recipients are there and may stand together");
    Some(encrypt_all(encryptor, plain))
}

/// The plain bytes of an age file that is sealed to this identity, among others.
pub fn decrypt(identity: &AgeIdentity, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
    let decryptor = age::Decryptor::new_buffered(file).map_err(|_| UnwrapError::NotAge)?;
    let reader =
        decryptor.decrypt(std::iter::once(&identity.0 as &dyn age::Identity)).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => UnwrapError::NotForThis { id: identity.id() },
            _ => UnwrapError::Altered,
        })?;
    read_all(reader, file.len()).ok_or(UnwrapError::Altered)
}

/// Writes a whole age file.
pub(crate) fn encrypt_all(encryptor: age::Encryptor, plain: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = encryptor.wrap_output(&mut file).expect("writing to memory cannot fail");
    writer.write_all(plain).expect("writing to memory cannot fail");
    writer.finish().expect("writing to memory cannot fail");
    file
}

/// Reads a whole age file of `file_len` bytes; `None` if it was altered.
pub(crate) fn read_all(mut reader: impl Read, file_len: usize) -> Option<Zeroizing<Vec<u8>>> {
    // The plain bytes are fewer than those of the file: no growth leaves a copy behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(file_len));
    reader.read_to_end(&mut plain).ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seed: u8) -> AgeIdentity {
        AgeIdentity::from_secret(&Secret::new([seed; 32]))
    }

    fn recipient(seed: u8) -> Recipient {
        identity(seed).recipient(Role::Owner, "someone").unwrap()
    }

    /// The key pair of the age library's own tests.
    #[test]
    fn the_text_is_that_of_the_age_tools() {
        let secret = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
        let public = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
        let identity = AgeIdentity::parse(secret).unwrap();
        assert_eq!(*identity.to_text(), secret);
        assert_eq!(identity.recipient(Role::Reader, "").unwrap().public(), public);
        assert!(!format!("{identity:?}").contains("SECRET"));
    }

    #[test]
    fn parse_takes_one_key_in_two_cases_and_no_other_text() {
        let good = recipient(1);
        assert_eq!(
            Recipient::parse(&format!(" {}\n", good.public().to_uppercase()), Role::Owner, "someone"),
            Ok(good.clone())
        );
        for text in ["", "age1", "age1qqqq", "ssh-ed25519 AAAA", &good.public()[1..], &format!("{}q", good.public())] {
            assert!(matches!(Recipient::parse(text, Role::Owner, ""), Err(RecipientError::Form { .. })), "{text}");
        }
        let secret = identity(1).to_text();
        let error = Recipient::parse(&secret, Role::Owner, "").unwrap_err();
        assert!(matches!(error, RecipientError::Secret { .. }));
        assert!(!error.to_string().contains(&secret[20..]));
        let modern = bech32::encode_lower::<bech32::Bech32m>(RECIPIENT_PREFIX, &[9; 32]).unwrap();
        assert!(matches!(Recipient::parse(&modern, Role::Owner, ""), Err(RecipientError::Form { .. })));
    }

    /// The `age` library panics when it wraps for such a key, so none may come through.
    #[test]
    fn keys_of_low_order_are_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        let order_eight = hex::decode("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800").unwrap();
        let mut prime = [0xff; 32];
        (prime[0], prime[31]) = (0xed, 0x7f);
        for key in [[0; 32], one, order_eight.try_into().unwrap(), prime] {
            let text = bech32::encode_lower::<Bech32>(RECIPIENT_PREFIX, &key).unwrap();
            assert!(matches!(Recipient::parse(&text, Role::Owner, ""), Err(RecipientError::Weak { .. })), "{text}");
        }
    }

    #[test]
    fn the_order_of_a_set_does_not_count_and_its_members_do() {
        let set = |seeds: &[u8]| RecipientSet::try_new(seeds.iter().map(|seed| recipient(*seed)).collect());
        assert_eq!(set(&[1, 2, 3]).unwrap().hash(), set(&[3, 1, 2]).unwrap().hash());
        assert_ne!(set(&[1, 2, 3]).unwrap().hash(), set(&[1, 2]).unwrap().hash());
        assert!(set(&[1, 2, 3]).unwrap().ids().is_sorted());
        assert!(matches!(set(&[1, 2, 1]), Err(RecipientError::Twice { .. })));
        assert!(matches!(set(&[]), Err(RecipientError::Count { count: 0 })));
    }

    #[test]
    fn a_wrap_opens_for_its_recipient_alone() {
        let key = Secret::new([5; 32]);
        let wrapped = wrap(&recipient(1), &key);
        assert!(wrapped.len() <= 1024);
        assert_eq!(unwrap(&identity(1), &wrapped), Ok(key));
        assert_eq!(unwrap(&identity(2), &wrapped), Err(UnwrapError::NotForThis { id: identity(2).id() }));
        for at in 0..wrapped.len() {
            let mut flipped = wrapped.clone();
            flipped[at] ^= 1;
            assert!(unwrap(&identity(1), &flipped).is_err(), "byte {at}");
            assert!(unwrap(&identity(1), &wrapped[..at]).is_err(), "length {at}");
        }
        let longer = encrypt_to_many([&recipient(1)], &[0; 33]).unwrap();
        assert_eq!(unwrap(&identity(1), &longer), Err(UnwrapError::Length { found: 33 }));
    }

    #[test]
    fn each_of_many_opens_the_same_bytes() {
        let file = encrypt_to_many([&recipient(1), &recipient(2)], b"bag").unwrap();
        for seed in [1, 2] {
            assert_eq!(decrypt(&identity(seed), &file).unwrap().as_slice(), b"bag");
        }
        assert!(decrypt(&identity(3), &file).is_err());
        assert_eq!(encrypt_to_many([], b"bag"), None);
    }

    #[test]
    fn decode_takes_what_was_encoded() {
        let mut encoder = Encoder::new();
        recipient(4).encode(&mut encoder);
        let bytes = encoder.finish();
        let mut decoder = Decoder::new("a recipient", &bytes);
        assert_eq!(Recipient::decode(&mut decoder), Ok(recipient(4)));
        assert_eq!(decoder.finish(), Ok(()));
        let upper: Vec<u8> = bytes.iter().map(u8::to_ascii_uppercase).collect();
        assert!(Recipient::decode(&mut Decoder::new("a recipient", &upper)).is_err());
    }
}
