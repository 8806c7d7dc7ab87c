//! The messages of a ceremony.
//!
//! They travel over channels that are authenticated and encrypted by the engine: who sent one is known beforehand, and the share in a
//! *deal* is seen by its player alone.
//!
//! Format: `docs/design/consensus.md`, section *Key ceremony*.

use blockhouse_ledger::certificate::COMMITTEE_MAX;
use blockhouse_types::{DecodeError, Decoder, Encoder, Magic};
use commonware_codec::{Copying, Decode, DecodeExt, Encode};
use commonware_cryptography::bls12381::dkg::feldman_desmedt::{
    DealerPrivMsg, DealerPubMsg, PlayerAck, SignedDealerLog,
};
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::PublicKey;
use zeroize::Zeroizing;

use crate::network::SHARES_MAX;

const MAGIC: Magic = *b"BHCM";
const WHAT: &str = "a message of a key ceremony";
const HERE: u8 = 1;
const DEAL: u8 = 2;
const ACK: u8 = 3;
const LOG: u8 = 4;
const COMPLAINT: u8 = 5;
/// The greatest length of a message: the log of 128 dealings has 17 KiB, presence with all signatures 12 KiB.
pub const MESSAGE_MAX: usize = 32 * 1024;
/// The most that may take part: two sets of validators.
pub(super) const PARTICIPANTS_MAX: usize = 2 * COMMITTEE_MAX;

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The ceremony that it belongs to: [`super::Plan::id`].
    pub ceremony: [u8; 32],
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "messages live for one step")]
pub enum Body {
    /// The sender is there.
    Here(Here),
    /// A commitment, and the receiver's share under it.
    Deal { attempt: [u8; 32], commitment: DealerPubMsg<MinPk>, share: DealerPrivMsg },
    /// The receiver's dealing was right.
    Ack { attempt: [u8; 32], ack: PlayerAck<PublicKey> },
    /// A commitment with the acks of all players, signed by its dealer.
    Log { attempt: [u8; 32], log: SignedDealerLog<MinPk, PublicKey> },
    /// A dealer sent the sender a share that does not fit.
    Complaint { attempt: [u8; 32], dealer: [u8; 32] },
}

/// How the sender stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// How often it began: a node that was killed begins again, and with it everybody.
    pub incarnation: u64,
    /// The attempt that it takes part in: it signs no earlier one any more.
    pub attempt: Option<[u8; 32]>,
    /// What it signed last.
    pub signed: Option<Signed>,
    /// It has the key, durably, and needs nothing more.
    pub finished: bool,
}

/// That participants signed an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The attempt that it is of.
    pub attempt: [u8; 32],
    /// The hash of each dealer's log, in the order of the dealers.
    pub logs: Vec<[u8; 32]>,
    /// Signatures by the places of their participants, ascending.
    pub signatures: Vec<(u32, [u8; 64])>,
}

impl Message {
    /// The bytes; they may hold a share.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(&self.ceremony);
        match &self.body {
            Body::Here(Here { incarnation, attempt, signed, finished }) => {
                encoder.u8(HERE).varint(*incarnation);
                encoder.option(attempt.as_ref(), |encoder, attempt| {
                    encoder.raw(attempt);
                });
                encoder.option(signed.as_ref(), |encoder, signed| signed.write(encoder)).u8((*finished).into());
            }
            Body::Deal { attempt, commitment, share } => {
                encoder.u8(DEAL).raw(attempt).bytes(&commitment.encode());
                encoder.raw(&Zeroizing::new(share.encode().to_vec()));
            }
            Body::Ack { attempt, ack } => {
                encoder.u8(ACK).raw(attempt).raw(&ack.encode());
            }
            Body::Log { attempt, log } => {
                encoder.u8(LOG).raw(attempt).bytes(&log.encode());
            }
            Body::Complaint { attempt, dealer } => {
                encoder.u8(COMPLAINT).raw(attempt).raw(dealer);
            }
        }
        Zeroizing::new(encoder.finish())
    }

    /// Reads the bytes; only the one encoding is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_bare_header(WHAT, MAGIC, bytes)?;
        let ceremony = decoder.array()?;
        let body = match decoder.u8()? {
            HERE => Body::Here(Here {
                incarnation: decoder.varint()?,
                attempt: decoder.option(Decoder::array)?,
                signed: decoder.option(Signed::read)?,
                finished: read_flag(&mut decoder)?,
            }),
            DEAL => read_deal(&mut decoder)?,
            ACK => {
                let attempt = decoder.array()?;
                let ack = PlayerAck::decode(Copying(decoder.raw(64)?));
                Body::Ack { attempt, ack: ack.map_err(|_| decoder.not_canonical("its acknowledgement is none"))? }
            }
            LOG => {
                let attempt = decoder.array()?;
                let log = SignedDealerLog::decode_cfg(Copying(decoder.bytes("log", MESSAGE_MAX)?), &SHARES_MAX);
                Body::Log { attempt, log: log.map_err(|_| decoder.not_canonical("its log is none"))? }
            }
            COMPLAINT => Body::Complaint { attempt: decoder.array()?, dealer: decoder.array()? },
            tag => return Err(decoder.unknown("kind", tag.into())),
        };
        decoder.finish()?;
        Ok(Self { ceremony, body })
    }
}

fn read_deal(decoder: &mut Decoder<'_>) -> Result<Body, DecodeError> {
    let attempt = decoder.array()?;
    let commitment = DealerPubMsg::decode_cfg(Copying(decoder.bytes("commitment", MESSAGE_MAX)?), &SHARES_MAX);
    let commitment = commitment.map_err(|_| decoder.not_canonical("its commitment is none"))?;
    let share = DealerPrivMsg::decode(Copying(decoder.raw(32)?));
    Ok(Body::Deal { attempt, commitment, share: share.map_err(|_| decoder.not_canonical("its share is none"))? })
}

fn read_flag(decoder: &mut Decoder<'_>) -> Result<bool, DecodeError> {
    match decoder.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(decoder.not_canonical("a flag is neither set nor not")),
    }
}

impl Signed {
    fn write(&self, encoder: &mut Encoder) {
        encoder.raw(&self.attempt).list(self.logs.iter(), |encoder, log| {
            encoder.raw(log);
        });
        encoder.list(self.signatures.iter(), |encoder, (place, signature)| {
            encoder.u32(*place).raw(signature);
        });
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let attempt = decoder.array()?;
        let logs = decoder.list("logs", COMMITTEE_MAX, Decoder::array)?;
        let signatures =
            decoder.list("signatures", PARTICIPANTS_MAX, |decoder| Ok((decoder.u32()?, decoder.array()?)))?;
        if !signatures.array_windows().all(|[(a, _), (b, _)]| a < b) {
            return Err(decoder.not_canonical("its signatures do not ascend"));
        }
        Ok(Self { attempt, logs, signatures })
    }
}
