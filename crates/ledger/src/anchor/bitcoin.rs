//! The header of a Bitcoin block, as somebody gives it who has asked Bitcoin's chain.

use alloy_primitives::U256;
use blockhouse_crypto::hash::sha256;

/// The length of a header.
pub const BITCOIN_HEADER_LEN: usize = 80;
/// The easiest target that Bitcoin ever had, in its compact form.
const EASIEST: u32 = 0x1d00_ffff;

/// A header with the work that it says it has. Whether it is of Bitcoin's chain its hash tells, to who compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitcoinHeader {
    /// The Merkle root, in the order of its bytes in the block.
    pub merkle_root: [u8; 32],
    /// The time in seconds, as its miner said it: wrong by two hours at most.
    pub time: u32,
    /// The hash, as explorers show it.
    pub hash: [u8; 32],
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BitcoinHeaderError {
    #[error("the header of a Bitcoin block has {BITCOIN_HEADER_LEN} bytes, not {length}")]
    Length { length: usize },
    #[error("the header of the Bitcoin block names a target that Bitcoin never had")]
    Target,
    #[error("the header of the Bitcoin block has less work than it says")]
    Work,
}

impl BitcoinHeader {
    /// Reads a header, and looks at its work.
    pub fn decode(bytes: &[u8]) -> Result<Self, BitcoinHeaderError> {
        let length = BitcoinHeaderError::Length { length: bytes.len() };
        let header: &[u8; BITCOIN_HEADER_LEN] = bytes.try_into().map_err(|_| length)?;
        let (_, rest) = header.split_first_chunk::<36>().ok_or(length)?;
        let (merkle_root, rest) = rest.split_first_chunk::<32>().ok_or(length)?;
        let (time, rest) = rest.split_first_chunk::<4>().ok_or(length)?;
        let (bits, _) = rest.split_first_chunk::<4>().ok_or(length)?;
        let digest = sha256(&sha256(header));
        let target = target(u32::from_le_bytes(*bits)).ok_or(BitcoinHeaderError::Target)?;
        if U256::from_le_bytes(digest) > target {
            return Err(BitcoinHeaderError::Work);
        }
        let mut hash = digest;
        hash.reverse();
        Ok(Self { merkle_root: *merkle_root, time: u32::from_le_bytes(*time), hash })
    }
}

/// The target of a compact form, if it is one that Bitcoin can have.
fn target(bits: u32) -> Option<U256> {
    let of = |bits: u32| {
        let (exponent, mantissa) = (usize::try_from(bits >> 24).ok()?, bits & 0x00ff_ffff);
        if mantissa == 0 || mantissa > 0x007f_ffff || exponent > 32 {
            return None;
        }
        let mantissa = U256::from(mantissa);
        Some(if exponent >= 3 { mantissa << (8 * (exponent - 3)) } else { mantissa >> (8 * (3 - exponent)) })
    };
    of(bits).filter(|target| !target.is_zero() && Some(*target) <= of(EASIEST))
}
