//! Targets for ids and codes, as people and configuration files write them.

use std::str::FromStr;

use blockhouse_types::{Account, Code, StripeId};

use crate::{Target, Verdict};

/// `4+2`.
pub(super) const CODE: Target = Target {
    name: "code",
    decoders: &["types/code.rs::from_str"],
    run: |bytes| from_text(bytes, |text| Code::from_str(text).map(|code| code.to_string())),
    seeds: || vec![b"4+2".to_vec(), b"1+0".to_vec(), b"200+55".to_vec()],
};

/// Ids of both lengths.
pub(super) const IDS: Target = Target {
    name: "ids",
    decoders: &["types/ids.rs::from_str"],
    run: |bytes| {
        let long = from_text(bytes, |text| StripeId::from_str(text).map(|id| id.to_string()));
        let short = from_text(bytes, |text| Account::from_str(text).map(|id| id.to_string()));
        if long == Verdict::Accepted { long } else { short }
    },
    seeds: || vec!["0a".repeat(32).into_bytes(), "f1".repeat(20).into_bytes()],
};

/// What is read is written in a form that reads as the same.
fn from_text<E: std::error::Error>(bytes: &[u8], read: impl Fn(&str) -> Result<String, E>) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
    let result = read(text);
    if let Ok(written) = &result {
        assert_eq!(read(written).ok().as_ref(), Some(written));
    }
    Verdict::of(result)
}
