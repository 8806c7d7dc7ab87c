//! A host that asks to be one of a vault's: its public request, and what it keeps until it is answered.
//!
//! - **Owns** the bytes of both, and the code by which people compare a request.
//! - **Does not** say who may answer, nor what the answer holds: `host_answer` does.
//!
//! # Invariants
//! - **Q1** A request holds no secret. Its code is of all that it says: who changes a byte of it gives it another code.
//! - **Q2** What a host keeps was written by it: a flipped bit is refused.
//!
//! Format: `docs/design/keys.md`, section *Hosts*.

use std::fmt;

use blockhouse_crypto::{AccountSecret, AgeIdentity, Recipient, Role, Secret, hash};
use blockhouse_types::{Account, DecodeError, Decoder, Encoder};
use zeroize::Zeroizing;

/// The greatest length of a request.
pub const REQUEST_MAX: usize = 4096;
/// The greatest length of a host's name.
pub const NAME_MAX: usize = 64;
const TITLE: &str = "# blockhouse host request, version ";
const VERSION: &str = "1";
const MAGIC: [u8; 4] = *b"BHHJ";
const WHAT: &str = "a host's kept request";

/// Why a text is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no request of a host: {why}")]
pub struct RequestError {
    /// What is wrong with it.
    pub why: &'static str,
}

/// What a host that wants to back up says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRequest {
    name: String,
    account: Account,
    recipient: Recipient,
}

/// What two people read to each other: the first 80 bits of a request's hash. Who would pass off another request must find one with
/// the same, which takes 2⁸⁰ tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCode([u8; 10]);

impl fmt::Display for RequestCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, byte) in self.0.iter().enumerate() {
            let dash = if number > 0 && number % 2 == 0 { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl HostRequest {
    /// The host's own name for itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The account that is to be enrolled.
    pub const fn account(&self) -> Account {
        self.account
    }

    /// Whom the answer is sealed to.
    pub const fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// What an answer names it by.
    pub fn hash(&self) -> [u8; 32] {
        let mut encoder = Encoder::new();
        encoder.bytes(self.name.as_bytes()).raw(self.account.as_bytes()).bytes(self.recipient.public().as_bytes());
        hash::hash("blockhouse v1 host request", encoder.as_slice())
    }

    /// What people compare.
    pub fn code(&self) -> RequestCode {
        RequestCode(*self.hash().first_chunk().expect("a hash of 32 bytes has a first 10"))
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let Self { name, account, recipient } = self;
        format!("{TITLE}{VERSION}\nname: {name}\naccount: 0x{account}\nrecipient: {}\n", recipient.public())
    }

    /// Reads a file's bytes.
    pub fn parse(file: &[u8]) -> Result<Self, RequestError> {
        if file.len() > REQUEST_MAX {
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
        let name = field("name: ", "the line of the name is missing")?;
        let account = field("account: 0x", "the line of the account is missing")?;
        let recipient = field("recipient: ", "the line of the recipient is missing")?;
        if lines.next().is_some() {
            return Err(no("it has more lines than it should"));
        }
        if !is_name(name) {
            return Err(no("its name is none"));
        }
        let account = account.parse().map_err(|_| no("its account is none"))?;
        let recipient = Recipient::parse(recipient, Role::Reader, name).map_err(|_| no("its recipient is none"))?;
        Ok(Self { name: name.to_owned(), account, recipient })
    }
}

const fn no(why: &'static str) -> RequestError {
    RequestError { why }
}

/// True if a text can be a host's name: short, and nothing in it that could be taken for something else on a screen.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(|sign| sign.is_ascii_graphic())
}

/// The secrets of a host that has asked and was not answered yet.
#[derive(Debug, Clone)]
pub struct PendingHost {
    name: String,
    /// The account that is to be enrolled.
    pub writer: AccountSecret,
    /// What opens the answer.
    pub age: AgeIdentity,
    secret: Secret,
}

impl PendingHost {
    /// Fresh keys for a host of that name, which must be one.
    pub fn generate(name: &str, random: &mut impl rand::CryptoRng) -> Option<Self> {
        is_name(name).then(|| Self::of(name, AccountSecret::random(random), Secret::random(random)))
    }

    fn of(name: &str, writer: AccountSecret, secret: Secret) -> Self {
        Self { name: name.to_owned(), writer, age: AgeIdentity::from_secret(&secret), secret }
    }

    /// Its public request.
    pub fn request(&self) -> HostRequest {
        let recipient = self.age.recipient(Role::Reader, &self.name);
        let recipient = recipient.expect("the public half of an identity is a recipient, and a name is a label");
        HostRequest { name: self.name.clone(), account: self.writer.account(), recipient }
    }

    /// The bytes of the kept file.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut head = Encoder::with_header(MAGIC);
        head.bytes(self.name.as_bytes());
        // Room for all of it at once: a growing buffer would leave copies of the secrets behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + 3 * 32));
        bytes.extend_from_slice(head.as_slice());
        bytes.extend_from_slice(self.writer.secret().expose());
        bytes.extend_from_slice(self.secret.expose());
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    /// Reads a kept file, all of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let name = decoder.text("name", NAME_MAX)?;
        if !is_name(name) {
            return Err(decoder.not_canonical("its name is none"));
        }
        let (writer, secret) = (Secret::new(decoder.array()?), Secret::new(decoder.array()?));
        let checked = bytes.len() - decoder.left().len();
        let found: [u8; 32] = decoder.array()?;
        if found != check(bytes.get(..checked).unwrap_or_default()) {
            return Err(decoder.not_canonical("it was altered: its check does not hold"));
        }
        let writer = AccountSecret::try_new(&writer)
            .map_err(|_| decoder.not_canonical("its writer's secret is no secp256k1 secret"))?;
        decoder.finish()?;
        Ok(Self::of(name, writer, secret))
    }
}

fn check(bytes: &[u8]) -> [u8; 32] {
    hash::hash("blockhouse v1 kept host request", bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> PendingHost {
        PendingHost::of("web-1", AccountSecret::try_new(&Secret::new([4; 32])).unwrap(), Secret::new([5; 32]))
    }

    #[test]
    fn a_request_comes_back_and_its_code_is_of_every_byte() {
        let request = pending().request();
        let text = request.to_text();
        assert_eq!(HostRequest::parse(text.as_bytes()).unwrap(), request);
        assert_eq!(request.code().to_string().len(), 24);
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] ^= 1;
            if let Ok(other) = HostRequest::parse(&other) {
                assert!(other == request || other.code() != request.code(), "byte {at}");
            }
        }
    }

    #[test]
    fn what_is_no_request_says_why() {
        let text = pending().request().to_text();
        let refused = |text: &str| HostRequest::parse(text.as_bytes()).unwrap_err().why;
        assert_eq!(refused("x"), "its first line is another");
        assert_eq!(refused(&text.replace("version 1", "version 7")), "a newer blockhouse wrote it");
        assert_eq!(refused(&text.replace("name: web-1", "name: web 1")), "its name is none");
        assert_eq!(refused(&text.replace("account: 0x", "account: 0x0")), "its account is none");
        assert_eq!(refused(&text.replace("age1", "age2")), "its recipient is none");
        assert_eq!(refused(&format!("{text}more\n")), "it has more lines than it should");
        assert_eq!(HostRequest::parse(&[b' '; REQUEST_MAX + 1]).unwrap_err().why, "it is too long");
        assert!(PendingHost::generate("", &mut rand::rng()).is_none());
        assert!(PendingHost::generate(&"x".repeat(NAME_MAX + 1), &mut rand::rng()).is_none());
    }

    /// Q2.
    #[test]
    fn a_kept_request_comes_back_and_every_altered_byte_is_refused() {
        let bytes = pending().to_bytes();
        let back = PendingHost::from_bytes(&bytes).unwrap();
        assert_eq!(back.to_bytes(), bytes);
        assert_eq!(back.request(), pending().request());
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1;
            assert!(PendingHost::from_bytes(&flipped).is_err(), "byte {at}");
            assert!(PendingHost::from_bytes(&bytes[..at]).is_err(), "length {at}");
        }
    }
}
