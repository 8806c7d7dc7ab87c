//! The erasure code of a vault and what it means for durability.
//!
//! Format: `docs/design/stripes.md`.

use std::fmt;
use std::str::FromStr;

use crate::limits::SHARDS_MAX;

/// Which shard of its stripe: 0 to k−1 carry data, k to n−1 parity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u8);

impl fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why a text or a pair of numbers is no erasure code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// Not of the form K+M.
    #[error("`{text}` is not a code: write K+M, for example 4+2")]
    Form { text: String },
    /// No data shards.
    #[error("a code needs at least one data shard, {data}+{parity} has none")]
    NoData { data: u16, parity: u16 },
    /// More shards than GF(2^8) has room for.
    #[error("a code has at most {SHARDS_MAX} shards, {data}+{parity} has more")]
    TooMany { data: u16, parity: u16 },
}

/// A systematic code: any k of k+m shards give back the pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    data: u8,
    parity: u8,
}

impl Code {
    /// A code of `data` + `parity` shards.
    pub fn try_new(data: u16, parity: u16) -> Result<Self, CodeError> {
        if data == 0 {
            return Err(CodeError::NoData { data, parity });
        }
        match (u8::try_from(data), u8::try_from(parity)) {
            (Ok(d), Ok(p)) if usize::from(data) + usize::from(parity) <= SHARDS_MAX => Ok(Self { data: d, parity: p }),
            _ => Err(CodeError::TooMany { data, parity }),
        }
    }

    /// k, the shards that are needed.
    pub const fn data(self) -> usize {
        self.data as usize
    }

    /// m, the shards that may be lost.
    pub const fn parity(self) -> usize {
        self.parity as usize
    }

    /// n = k + m.
    pub const fn shards(self) -> usize {
        self.data() + self.parity()
    }

    /// k and m as the formats write them.
    pub const fn to_bytes(self) -> [u8; 2] {
        [self.data, self.parity]
    }

    /// The index of every shard.
    pub fn indices(self) -> impl Iterator<Item = ShardIndex> {
        (0..self.data + self.parity).map(ShardIndex)
    }

    /// The code that suits a number of sites, as `init` chooses it.
    pub const fn default_for(sites: usize) -> Self {
        let (data, parity) = match sites {
            0 | 1 => (1, 0),
            2 => (1, 1),
            3 => (2, 1),
            4 => (2, 2),
            5 => (3, 2),
            6..=8 => (4, 2),
            _ => (6, 3),
        };
        Self { data, parity }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let form = || CodeError::Form { text: text.to_owned() };
        let (data, parity) = text.split_once('+').ok_or_else(form)?;
        let number = |digits: &str| {
            let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<u16>().ok()).ok_or_else(form)
        };
        Self::try_new(number(data)?, number(parity)?)
    }
}

/// What a stripe, a snapshot or a plan survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Durability {
    /// The least number of durable shards.
    pub d: u16,
    /// How many sites may vanish with every stripe still readable.
    pub w: u16,
    /// The same for wider domains: device, provider, region.
    pub wd: u16,
}

impl Durability {
    /// The durability of a set of things: the least in each respect.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self { d: self.d.min(other.d), w: self.w.min(other.w), wd: self.wd.min(other.wd) }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d={} w={} wd={}", self.d, self.w, self.wd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_takes_only_k_plus_m() {
        assert_eq!("4+2".parse::<Code>().unwrap(), Code::try_new(4, 2).unwrap());
        assert!(matches!("0+2".parse::<Code>(), Err(CodeError::NoData { .. })));
        assert!(matches!("200+56".parse::<Code>(), Err(CodeError::TooMany { .. })));
        for text in ["", "4", "4+", "+2", "4+-2", "4+2+1", " 4+2", "99999+1"] {
            assert!(matches!(text.parse::<Code>(), Err(CodeError::Form { .. })), "{text}");
        }
    }
}
