//! The marker: the object that says whose site it is.
//!
//! - **Owns** its bytes and the comparison with what the vault expects.
//! - **Does not** read or write it: `site` does.
//!
//! # Invariants
//! - **W1** A site whose marker is missing, or of another vault or site id, is down.
//!
//! Format: `docs/design/sites.md`.

use blockhouse_types::{DecodeError, Decoder, Encoder, Magic, SiteId, VaultId};

use crate::error::DownReason;
use crate::name::{SITE_TEXT_MAX, SiteName};

const MAGIC: Magic = *b"BHST";
const WHAT: &str = "a site's marker";

/// What a marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The vault that the site belongs to.
    pub vault: VaultId,
    /// Which of its sites this is.
    pub site: SiteId,
    /// The name it had when the marker was written; for people, nothing is decided by it.
    pub name: SiteName,
}

impl Marker {
    /// The bytes of the object.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(self.vault.as_bytes()).raw(self.site.as_bytes()).bytes(self.name.as_str().as_bytes());
        encoder.finish()
    }

    /// Reads the bytes of the object.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let vault = VaultId::new(decoder.array()?);
        let site = SiteId::new(decoder.array()?);
        let text = decoder.text("name", SITE_TEXT_MAX)?;
        let name = SiteName::parse(text).map_err(|_| decoder.not_canonical("its name cannot name a site"))?;
        decoder.finish()?;
        Ok(Self { vault, site, name })
    }
}

/// Which marker a folder must hold for the site to be up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// That of an enrolled site.
    This { vault: VaultId, site: SiteId },
    /// Any readable one: `recover` learns from it which vault it has found.
    Any,
}

impl Expected {
    /// Compares with what was found.
    pub(crate) fn check(self, found: &Marker) -> Result<(), DownReason> {
        let Self::This { vault, site } = self else { return Ok(()) };
        if found.vault != vault {
            return Err(DownReason::OtherVault { found: found.vault, expected: vault });
        }
        if found.site != site {
            return Err(DownReason::OtherSite { found: found.site, expected: site, name: found.name.clone() });
        }
        Ok(())
    }
}

impl From<&Marker> for Expected {
    fn from(marker: &Marker) -> Self {
        Self::This { vault: marker.vault, site: marker.site }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Marker {
        Marker { vault: VaultId::new([1; 32]), site: SiteId::new([2; 32]), name: SiteName::parse("oslo").unwrap() }
    }

    #[test]
    fn the_bytes_are_those_of_the_page() {
        let bytes = marker().encode();
        let expected = [b"BHST\x01\0\0\0".as_slice(), &[1; 32], &[2; 32], b"\x04oslo"].concat();
        assert_eq!(bytes, expected);
        assert_eq!(Marker::decode(&bytes), Ok(marker()));
    }

    #[test]
    fn a_marker_that_is_cut_longer_or_misnamed_is_refused() {
        let good = marker().encode();
        for length in 0..good.len() {
            assert!(Marker::decode(&good[..length]).is_err(), "{length} bytes");
        }
        assert!(matches!(Marker::decode(&[good.as_slice(), b"x"].concat()), Err(DecodeError::Trailing { .. })));
        let mut misnamed = good.clone();
        *misnamed.last_mut().unwrap() = b'\n';
        assert!(matches!(Marker::decode(&misnamed), Err(DecodeError::NotCanonical { .. })));
    }

    /// Every single-bit change is refused or seen as another marker, but for the flags that may be ignored.
    #[test]
    fn a_flipped_marker_is_never_taken_for_the_expected_one() {
        let good = marker().encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let is_expected = Marker::decode(&bad).is_ok_and(|found| Expected::from(&marker()).check(&found).is_ok());
            let harmless = bit / 8 == 6 || bit / 8 > 72;
            assert!(!is_expected || harmless, "bit {bit}");
        }
    }
}
