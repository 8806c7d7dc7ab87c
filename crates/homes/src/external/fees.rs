//! What is offered for gas.
//!
//! - **Owns** the rule by which a price is chosen, and by how much it grows when a transaction is replaced.
//! - **Does not** ask: base fee and tip come as arguments.

use serde::{Deserialize, Serialize};

use super::error::ExternalError;

/// What a transaction offers for a unit of gas, in wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum Fees {
    /// On chains without EIP-1559: one price.
    Legacy { price: u64 },
    /// At most so much, of which so much goes to whoever makes the block.
    Dynamic { most: u64, tip: u64 },
}

impl Fees {
    /// Fees for a block after one with that base fee; twice that is offered at most, for it may rise while the transaction waits.
    pub(super) fn dynamic(base: u128, tip: u128, cap: u64) -> Result<Self, ExternalError> {
        let least = base.saturating_add(tip);
        let cap_of_chain = u128::from(cap);
        if least > cap_of_chain {
            return Err(ExternalError::Fee { needed: least, cap: cap_of_chain });
        }
        let most = base.saturating_mul(2).saturating_add(tip).min(cap_of_chain);
        Ok(Self::Dynamic { most: narrow(most), tip: narrow(tip) })
    }

    /// Fees on a chain with one price.
    pub(super) fn legacy(price: u128, cap: u64) -> Result<Self, ExternalError> {
        let cap_of_chain = u128::from(cap);
        if price > cap_of_chain {
            return Err(ExternalError::Fee { needed: price, cap: cap_of_chain });
        }
        Ok(Self::Legacy { price: narrow(price) })
    }

    /// The most that a unit of gas can cost.
    pub(super) const fn most(self) -> u64 {
        match self {
            Self::Legacy { price } => price,
            Self::Dynamic { most, .. } => most,
        }
    }

    /// What replaces a transaction with these fees: what is usual now, and at least an eighth more, for nodes want a tenth. None if
    /// that is more than the cap, or where gas is free and more of it would change nothing.
    pub(super) fn replaced(self, now: Self, cap: u64) -> Option<Self> {
        let next = match (self, now) {
            (Self::Legacy { price }, Self::Legacy { price: now }) => Self::Legacy { price: more(price).max(now) },
            (Self::Dynamic { most, tip }, Self::Dynamic { most: now, tip: now_tip }) => {
                Self::Dynamic { most: more(most).max(now), tip: more(tip).max(now_tip) }
            }
            _ => return None,
        };
        let is_free = self.most() == 0 && now.most() == 0;
        (next.most() <= cap && !is_free).then_some(next)
    }
}

/// An eighth more, and at least one.
const fn more(fee: u64) -> u64 {
    fee.saturating_add(fee / 8).saturating_add(1)
}

/// A value that is at most a cap of 64 bits.
fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GWEI: u64 = 1_000_000_000;

    #[test]
    fn no_more_is_offered_than_the_cap() {
        let cap = 50 * GWEI;
        let fees = Fees::dynamic(u128::from(10 * GWEI), u128::from(GWEI), cap).unwrap();
        assert_eq!(fees, Fees::Dynamic { most: 21 * GWEI, tip: GWEI });
        let fees = Fees::dynamic(u128::from(40 * GWEI), u128::from(GWEI), cap).unwrap();
        assert_eq!(fees, Fees::Dynamic { most: cap, tip: GWEI });
        let refused = Fees::dynamic(u128::from(50 * GWEI), 1, cap).unwrap_err();
        assert!(matches!(refused, ExternalError::Fee { .. }));
        assert!(Fees::legacy(u128::MAX, cap).is_err() && Fees::dynamic(u128::MAX, u128::MAX, u64::MAX).is_err());
        assert_eq!(Fees::legacy(7, cap).unwrap(), Fees::Legacy { price: 7 });
    }

    /// Nodes take what offers a tenth more in both parts; twelve replacements of a cheap one come to the cap and no further.
    #[test]
    fn each_replacement_offers_enough_more_up_to_the_cap() {
        let (now, cap) = (Fees::Dynamic { most: 3, tip: 1 }, 1000);
        let (mut fees, mut count) = (now, 0);
        while let Some(next) = fees.replaced(now, cap) {
            let (Fees::Dynamic { most, tip }, Fees::Dynamic { most: next_most, tip: next_tip }) = (fees, next) else {
                panic!("the kind changed")
            };
            assert!(next_most * 10 >= most * 11 && next_tip * 10 >= tip * 11 && next_most <= cap);
            (fees, count) = (next, count + 1);
        }
        assert!((20..100).contains(&count) && fees.most() > 800, "{count}: {fees:?}");
        let dearer = Fees::Dynamic { most: 500, tip: 40 };
        assert_eq!(now.replaced(dearer, cap), Some(dearer));
        assert_eq!(now.replaced(Fees::Legacy { price: 1 }, cap), None);
        let free = Fees::Dynamic { most: 0, tip: 0 };
        assert_eq!(free.replaced(free, cap), None);
    }
}
