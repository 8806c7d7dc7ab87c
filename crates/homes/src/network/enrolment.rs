//! The enrolment: what a node says of itself to who founds a network, signed by its identity.
//!
//! - **Owns** the bytes of the file, and what the address of a node may be.
//! - **Does not** know the other nodes: `ceremony` compares them.
//!
//! # Invariants
//! - **E1** An [`Enrolment`] was signed by the key that it names: none is decoded, or made, that was not.
//! - **E2** One enrolment has one encoding, under its signature as a whole: any altered byte is refused.
//!
//! Format: `docs/design/node.md`, section *Enrolment*.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use blockhouse_consensus::{Keys, is_address, is_enrolment_of};
use blockhouse_types::{Account, DecodeError, Decoder, Encoder, Magic};

use super::place::{LABEL_MAX, Label, Place};

/// The greatest length of an enrolment.
pub const ENROLMENT_MAX: usize = 1024;
/// The longest address: a DNS name, a colon, a port.
const ADDRESS_MAX: usize = 259;
const MAGIC: Magic = *b"BHNE";
const WHAT: &str = "an enrolment of a node";

/// `host:port` at which other nodes reach one, in the one way in which it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(String);

/// Why nodes cannot be told that one is reached there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no address of a node: others reach it at HOST:PORT, such as 10.0.0.5:9650 or a.example:9650", text.escape_debug())]
pub struct AddressError {
    /// The text.
    pub text: String,
}

impl Address {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = || AddressError { text: text.chars().take(ADDRESS_MAX).collect() };
        if let Ok(socket) = text.parse::<SocketAddr>() {
            let is_somewhere = !socket.ip().is_unspecified() && socket.port() != 0;
            return if is_somewhere { Ok(Self(socket.to_string())) } else { Err(refused()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(refused)?;
        let canonical = format!("{}:{port}", host.to_ascii_lowercase());
        // A port with a sign is read as a number: what comes out may be a numeric address, and has one way to be written too.
        if canonical.parse::<SocketAddr>().is_ok() {
            return canonical.parse().map_err(|_| refused());
        }
        if canonical.len() > ADDRESS_MAX || !is_address(&canonical) {
            return Err(refused());
        }
        Ok(Self(canonical))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why bytes are no enrolment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolmentError {
    #[error("the enrolment cannot be read")]
    Encoding(#[from] DecodeError),
    #[error("the enrolment of `{name}` was altered: it is not what its key {} signed", hex::encode(key))]
    Signature { name: Label, key: [u8; 32] },
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    key: [u8; 32],
    name: Label,
    address: Address,
    place: Place,
    operator: Option<Account>,
    signature: [u8; 64],
}

impl Enrolment {
    /// That of the node of these keys.
    pub fn sign(keys: &Keys, name: Label, address: Address, place: Place, operator: Option<Account>) -> Self {
        let unsigned = Self { key: keys.public(), name, address, place, operator, signature: [0; 64] };
        Self { signature: keys.sign_enrolment(&unsigned.statement()), ..unsigned }
    }

    /// The node's public key.
    pub const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The key as people and configurations write it.
    pub fn key_text(&self) -> String {
        hex::encode(self.key)
    }

    /// What its operator calls it.
    pub const fn name(&self) -> &Label {
        &self.name
    }

    /// Where other nodes reach it.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Where it stands.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The account that speaks for it on the ledger.
    pub const fn operator(&self) -> Option<Account> {
        self.operator
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.statement();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Reads a file's bytes. See E1 and E2.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        // No flag of the header is left out of what is signed.
        let mut decoder = Decoder::with_bare_header(WHAT, MAGIC, bytes)?;
        let key = decoder.array()?;
        let name = read_label(&mut decoder, "name")?;
        let text = decoder.text("address", ADDRESS_MAX)?;
        let address = text.parse().ok().filter(|address: &Address| address.as_str() == text);
        let address = address.ok_or_else(|| decoder.not_canonical("its address is none, or not written as it is"))?;
        let mut label = |field| decoder.option(|decoder| read_label(decoder, field));
        let place = Place { site: label("site")?, provider: label("provider")?, region: label("region")? };
        let operator = decoder.option(|decoder| Ok(Account::new(decoder.array()?)))?;
        let signature = decoder.array()?;
        decoder.finish()?;
        let read = Self { key, name, address, place, operator, signature };
        if !is_enrolment_of(&read.key, &read.statement(), &read.signature) {
            return Err(EnrolmentError::Signature { name: read.name, key: read.key });
        }
        Ok(read)
    }

    /// What is signed: all bytes before the signature.
    fn statement(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(&self.key).bytes(self.name.as_str().as_bytes()).bytes(self.address.as_str().as_bytes());
        let Place { site, provider, region } = &self.place;
        for label in [site, provider, region] {
            encoder.option(label.as_ref(), |encoder, label| {
                encoder.bytes(label.as_str().as_bytes());
            });
        }
        encoder.option(self.operator, |encoder, account| {
            encoder.raw(account.as_bytes());
        });
        encoder.finish()
    }
}

fn read_label(decoder: &mut Decoder<'_>, field: &'static str) -> Result<Label, DecodeError> {
    let text = decoder.text(field, LABEL_MAX)?;
    text.parse().map_err(|_| decoder.not_canonical("a name in it is none"))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn keys(seed: u64) -> Keys {
        Keys::generate(&mut StdRng::seed_from_u64(seed))
    }

    fn enrolment() -> Enrolment {
        let place = "site=fra,region=eu".parse().unwrap();
        let operator = Some(Account::new([7; 20]));
        Enrolment::sign(&keys(1), "ann".parse().unwrap(), "10.0.0.5:9650".parse().unwrap(), place, operator)
    }

    #[test]
    fn an_enrolment_comes_back_and_is_short() {
        let bytes = enrolment().encode();
        assert_eq!(Enrolment::decode(&bytes), Ok(enrolment()));
        let long = |length| "x".repeat(length).parse::<Label>().unwrap();
        let host = [63, 63, 63, 61].map(|length| "x".repeat(length)).join(".");
        let place = Place { site: Some(long(64)), provider: Some(long(64)), region: Some(long(64)) };
        let address = format!("{host}:65535").parse().unwrap();
        let longest = Enrolment::sign(&keys(2), long(64), address, place, Some(Account::new([7; 20])));
        assert!(longest.encode().len() <= ENROLMENT_MAX);
        assert_eq!(Enrolment::decode(&longest.encode()), Ok(longest));
    }

    /// E1 and E2.
    #[test]
    fn every_altered_byte_is_refused() {
        let bytes = enrolment().encode();
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(Enrolment::decode(&altered).is_err(), "byte {at}");
            assert!(Enrolment::decode(&bytes[..at]).is_err(), "length {at}");
        }
        let another = keys(2).sign_enrolment(&enrolment().statement());
        let mut forged = bytes[..bytes.len() - 64].to_vec();
        forged.extend_from_slice(&another);
        assert!(matches!(Enrolment::decode(&forged), Err(EnrolmentError::Signature { .. })));
    }

    #[test]
    fn addresses_have_one_way_to_be_written() {
        let read = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(read("A.Example:09650").unwrap(), "a.example:9650");
        assert_eq!(read("[::1]:9650").unwrap(), "[::1]:9650");
        assert_eq!(read("[0::1]:+9650").unwrap(), "[::1]:9650");
        read("[::0]:+9650").unwrap_err();
        for text in
            ["", "a.example", "a.example:0", "a.example:70000", "0.0.0.0:9650", "[::]:1", "10.0.0.5:0", "a b:1", ":1"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
