//! OpenTimestamps proofs: from the digest of a checkpoint, by hashes, to what calendars promise and to the Merkle root of a Bitcoin block.
//!
//! - **Owns** the bytes of `.ots` files and of calendars' answers, and what they lead to.
//! - **Does not** ask a calendar, nor know Bitcoin's chain: a header comes from who checks.
//!
//! # Invariants
//! - **T1** What is read is written as the same bytes; numbers that are longer than they need to be are refused.
//! - **T2** Reading takes memory and time that the length of the input bounds: no more than [`STEPS_MAX`] steps, [`DEPTH_MAX`] deep, with
//!   messages of at most [`MESSAGE_MAX`] bytes.
//!
//! Format: `docs/design/anchors.md`, section *OpenTimestamps*.

use blockhouse_crypto::hash::{keccak256, sha256};

/// The greatest length of a file: what `Anchors` takes as data.
pub const OTS_MAX: usize = 8_192;
/// The most steps in one file. One of an ordinary proof is 34 bytes.
const STEPS_MAX: usize = 1_024;
/// The most steps behind each other.
const DEPTH_MAX: usize = 256;
/// The longest message on the way, and the longest operand: as in the reference implementation.
const MESSAGE_MAX: usize = 4_096;

const MAGIC: &[u8] = b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94\x01";
const SHA256: u8 = 0x08;
const KECCAK256: u8 = 0x67;
const APPEND: u8 = 0xf0;
const PREPEND: u8 = 0xf1;
const REVERSE: u8 = 0xf2;
const HEXLIFY: u8 = 0xf3;
const ATTESTATION: u8 = 0x00;
const MORE: u8 = 0xff;
const PENDING: [u8; 8] = [0x83, 0xdf, 0xe3, 0x0d, 0x2e, 0xf9, 0x0c, 0x8e];
const BITCOIN: [u8; 8] = [0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01];
const URI_MAX: usize = 1_000;

/// Why bytes are no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OtsError {
    #[error("the proof has {length} bytes, the limit is {OTS_MAX}")]
    TooLong { length: usize },
    #[error("the bytes are no OpenTimestamps proof of version 1")]
    Magic,
    #[error("the proof is of a digest by operation {tag:#04x}; that of a checkpoint is SHA-256")]
    Digest { tag: u8 },
    #[error("the proof ends too early")]
    Short,
    #[error("{left} bytes follow behind the proof")]
    Long { left: usize },
    #[error("a number in the proof is not in its shortest form, or too great")]
    Number,
    #[error("the proof uses operation {tag:#04x}, which is unknown or no safe hash")]
    Operation { tag: u8 },
    #[error("the proof has too many steps, or too many behind each other")]
    Steps,
    #[error("a message or operand of the proof is too long, or empty")]
    Message,
    #[error("the URI of a calendar in the proof has characters that none has")]
    Uri,
}

/// One operation on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operation {
    Append(Vec<u8>),
    Prepend(Vec<u8>),
    Reverse,
    Hexlify,
    Sha256,
    Keccak256,
}

/// Who saw a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtsAttestation {
    /// A calendar promises to put it into a Bitcoin block.
    Pending {
        /// The calendar.
        uri: String,
    },
    /// It is the Merkle root of that Bitcoin block.
    Bitcoin {
        /// Its height.
        height: u64,
    },
    /// Of a kind that is not known here: kept, and worth nothing.
    Unknown {
        /// The kind.
        tag: [u8; 8],
        /// What it says.
        payload: Vec<u8>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Attested(OtsAttestation),
    Then(Operation, Timestamp),
}

/// What leads on from one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timestamp {
    steps: Vec<Step>,
}

/// What a proof leads to: this message was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The message.
    pub message: Vec<u8>,
    /// By whom.
    pub by: OtsAttestation,
}

/// An `.ots` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ots {
    /// The SHA-256 digest that it is of.
    pub digest: [u8; 32],
    /// What leads on from it.
    pub timestamp: Timestamp,
}

impl Ots {
    /// Reads a file.
    pub fn decode(bytes: &[u8]) -> Result<Self, OtsError> {
        if bytes.len() > OTS_MAX {
            return Err(OtsError::TooLong { length: bytes.len() });
        }
        let mut reader = Reader { left: bytes.strip_prefix(MAGIC).ok_or(OtsError::Magic)?, steps: 0 };
        match reader.byte()? {
            SHA256 => {}
            tag => return Err(OtsError::Digest { tag }),
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(reader.take(32)?);
        let timestamp = reader.timestamp(32, 0)?;
        reader.finish()?;
        Ok(Self { digest, timestamp })
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = [MAGIC, &[SHA256], &self.digest].concat();
        self.timestamp.write(&mut bytes);
        bytes
    }

    /// What it leads to.
    pub fn claims(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        self.timestamp.collect(&self.digest, &mut claims);
        claims
    }

    /// Adds what a calendar has by now of a message that was pending there.
    pub fn complete(&mut self, commitment: &[u8], more: &Timestamp) {
        let digest = self.digest;
        self.timestamp.add(&digest, commitment, more);
    }
}

impl Timestamp {
    /// Reads a calendar's answer about a message of that length.
    pub fn decode(bytes: &[u8], length: usize) -> Result<Self, OtsError> {
        if bytes.len() > OTS_MAX {
            return Err(OtsError::TooLong { length: bytes.len() });
        }
        let mut reader = Reader { left: bytes, steps: 0 };
        let timestamp = reader.timestamp(length, 0)?;
        reader.finish()?;
        Ok(timestamp)
    }

    /// The bytes, as a calendar gives them.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// Adds what another calendar says of the same message.
    pub fn merge(&mut self, other: Self) {
        for step in other.steps {
            if !self.steps.contains(&step) {
                self.steps.push(step);
            }
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        for (index, step) in self.steps.iter().enumerate() {
            if index + 1 < self.steps.len() {
                bytes.push(MORE);
            }
            match step {
                Step::Attested(attestation) => attestation.write(bytes),
                Step::Then(operation, next) => {
                    operation.write(bytes);
                    next.write(bytes);
                }
            }
        }
    }

    fn collect(&self, message: &[u8], claims: &mut Vec<Claim>) {
        for step in &self.steps {
            match step {
                Step::Attested(by) => claims.push(Claim { message: message.to_vec(), by: by.clone() }),
                Step::Then(operation, next) => next.collect(&operation.apply(message), claims),
            }
        }
    }

    fn add(&mut self, message: &[u8], commitment: &[u8], more: &Self) {
        let is_pending = |step: &Step| matches!(step, Step::Attested(OtsAttestation::Pending { .. }));
        if message == commitment && self.steps.iter().any(is_pending) {
            self.merge(more.clone());
            return;
        }
        for step in &mut self.steps {
            if let Step::Then(operation, next) = step {
                next.add(&operation.apply(message), commitment, more);
            }
        }
    }
}

impl Operation {
    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Append(operand) | Self::Prepend(operand) => {
                bytes.push(if matches!(self, Self::Append(_)) { APPEND } else { PREPEND });
                write_bytes(operand, bytes);
            }
            Self::Reverse => bytes.push(REVERSE),
            Self::Hexlify => bytes.push(HEXLIFY),
            Self::Sha256 => bytes.push(SHA256),
            Self::Keccak256 => bytes.push(KECCAK256),
        }
    }

    fn apply(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Append(operand) => [message, operand].concat(),
            Self::Prepend(operand) => [operand, message].concat(),
            Self::Reverse => message.iter().rev().copied().collect(),
            Self::Hexlify => hex::encode(message).into_bytes(),
            Self::Sha256 => sha256(message).to_vec(),
            Self::Keccak256 => keccak256(message).to_vec(),
        }
    }

    /// How long the message is that it makes of one of that length.
    fn length(&self, before: usize) -> usize {
        match self {
            Self::Append(operand) | Self::Prepend(operand) => before + operand.len(),
            Self::Reverse => before,
            Self::Hexlify => before * 2,
            Self::Sha256 | Self::Keccak256 => 32,
        }
    }
}

impl OtsAttestation {
    fn write(&self, bytes: &mut Vec<u8>) {
        let (tag, payload) = match self {
            Self::Pending { uri } => {
                let mut payload = Vec::new();
                write_bytes(uri.as_bytes(), &mut payload);
                (PENDING, payload)
            }
            Self::Bitcoin { height } => {
                let mut payload = Vec::new();
                write_number(*height, &mut payload);
                (BITCOIN, payload)
            }
            Self::Unknown { tag, payload } => (*tag, payload.clone()),
        };
        bytes.push(ATTESTATION);
        bytes.extend_from_slice(&tag);
        write_bytes(&payload, bytes);
    }
}

fn write_bytes(value: &[u8], bytes: &mut Vec<u8>) {
    write_number(value.len() as u64, bytes);
    bytes.extend_from_slice(value);
}

fn write_number(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap_or_default());
}

struct Reader<'a> {
    left: &'a [u8],
    steps: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], OtsError> {
        let (taken, left) = self.left.split_at_checked(length).ok_or(OtsError::Short)?;
        self.left = left;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, OtsError> {
        self.take(1)?.first().copied().ok_or(OtsError::Short)
    }

    /// T1.
    fn number(&mut self) -> Result<u64, OtsError> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(OtsError::Number) } else { Ok(value) };
            }
        }
        Err(OtsError::Number)
    }

    fn bytes(&mut self, most: usize) -> Result<&'a [u8], OtsError> {
        let length = usize::try_from(self.number()?).map_err(|_| OtsError::Message)?;
        if length > most { Err(OtsError::Message) } else { self.take(length) }
    }

    /// What leads on from a message of that length. T2.
    fn timestamp(&mut self, length: usize, depth: usize) -> Result<Timestamp, OtsError> {
        if depth >= DEPTH_MAX {
            return Err(OtsError::Steps);
        }
        let mut steps = Vec::new();
        loop {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(OtsError::Steps);
            }
            let tag = self.byte()?;
            let (is_last, tag) = if tag == MORE { (false, self.byte()?) } else { (true, tag) };
            steps.push(if tag == ATTESTATION {
                Step::Attested(self.attestation()?)
            } else {
                let operation = self.operation(tag)?;
                let length = operation.length(length);
                if length == 0 || length > MESSAGE_MAX {
                    return Err(OtsError::Message);
                }
                Step::Then(operation, self.timestamp(length, depth + 1)?)
            });
            if is_last {
                return Ok(Timestamp { steps });
            }
        }
    }

    fn operation(&mut self, tag: u8) -> Result<Operation, OtsError> {
        let mut operand = || match self.bytes(MESSAGE_MAX)? {
            [] => Err(OtsError::Message),
            operand => Ok(operand.to_vec()),
        };
        match tag {
            APPEND => Ok(Operation::Append(operand()?)),
            PREPEND => Ok(Operation::Prepend(operand()?)),
            REVERSE => Ok(Operation::Reverse),
            HEXLIFY => Ok(Operation::Hexlify),
            SHA256 => Ok(Operation::Sha256),
            KECCAK256 => Ok(Operation::Keccak256),
            tag => Err(OtsError::Operation { tag }),
        }
    }

    fn attestation(&mut self) -> Result<OtsAttestation, OtsError> {
        let mut tag = [0; 8];
        tag.copy_from_slice(self.take(8)?);
        let payload = self.bytes(OTS_MAX)?;
        let mut inner = Reader { left: payload, steps: 0 };
        let attestation = match tag {
            PENDING => OtsAttestation::Pending { uri: uri(inner.bytes(URI_MAX)?)? },
            BITCOIN => OtsAttestation::Bitcoin { height: inner.number()? },
            tag => return Ok(OtsAttestation::Unknown { tag, payload: payload.to_vec() }),
        };
        inner.finish()?;
        Ok(attestation)
    }

    const fn finish(self) -> Result<(), OtsError> {
        match self.left.len() {
            0 => Ok(()),
            left => Err(OtsError::Long { left }),
        }
    }
}

/// The characters that the reference implementation takes.
fn uri(bytes: &[u8]) -> Result<String, OtsError> {
    let is_taken = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._/:".contains(byte);
    let text = std::str::from_utf8(bytes).map_err(|_| OtsError::Uri)?;
    if bytes.iter().all(is_taken) { Ok(text.to_owned()) } else { Err(OtsError::Uri) }
}

#[cfg(test)]
mod tests;
