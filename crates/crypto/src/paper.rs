//! The paper key: 24 words that open everything when all else is lost.
//!
//! - **Owns** the words, what is forgiven in them when they are typed, and the keys that follow from them.
//! - **Does not** print: the caller decides where the words go.
//!
//! # Invariants
//! - **P1** What [`PaperKey::words`] gives, [`PaperKey::parse`] reads back.
//! - **P2** One word altered is found in 255 of 256 cases, by the checksum of BIP-39.
//!
//! Format: `docs/design/keys.md`, section *Paper key*.

use bip39::{Language, Mnemonic};
use zeroize::{Zeroize, Zeroizing};

use crate::account::AccountSecret;
use crate::hash;
use crate::recipient::AgeIdentity;
use crate::secret::Secret;

/// How many words a paper key has.
pub const PAPER_WORDS: usize = 24;

/// Why a text is no paper key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PaperKeyError {
    #[error("word {position} of the paper key, `{word}`, is not in the list of words")]
    UnknownWord { word: String, position: usize },
    #[error("a paper key has {PAPER_WORDS} words, this one has {found}")]
    Count { found: usize },
    #[error(
        "the checksum of the paper key is wrong: a word was mistaken for another of the list, or two changed places"
    )]
    Checksum,
}

/// Thirty-two secret bytes that can be written on paper.
#[derive(Clone)]
pub struct PaperKey {
    entropy: Secret,
}

impl PaperKey {
    /// A fresh paper key.
    pub fn generate(random: &mut impl rand::CryptoRng) -> Self {
        Self { entropy: Secret::random(random) }
    }

    /// The paper key of these secret bytes.
    pub const fn from_entropy(entropy: Secret) -> Self {
        Self { entropy }
    }

    /// The 24 words, in lower case, one space between them.
    pub fn words(&self) -> Zeroizing<String> {
        let mnemonic = Mnemonic::from_entropy_in(Language::English, self.entropy.expose())
            .expect("32 bytes are the entropy of 24 words");
        let mut text = Zeroizing::new(String::with_capacity(PAPER_WORDS * 10));
        for word in mnemonic.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// Reads the words, in any case, on any number of lines, with or without numbers before them.
    pub fn parse(text: &str) -> Result<Self, PaperKeyError> {
        let words = Words::of(text);
        for (at, word) in words.0.iter().enumerate() {
            if Language::English.find_word(word).is_none() {
                let word = word.chars().take(24).collect();
                return Err(PaperKeyError::UnknownWord { word, position: at + 1 });
            }
        }
        if words.0.len() != PAPER_WORDS {
            return Err(PaperKeyError::Count { found: words.0.len() });
        }
        let joined = Zeroizing::new(words.0.join(" "));
        let mnemonic =
            Mnemonic::parse_in_normalized(Language::English, &joined).map_err(|_| PaperKeyError::Checksum)?;
        let (mut bytes, _) = mnemonic.to_entropy_array();
        let entropy = Secret::new(*bytes.first_chunk().expect("33 bytes have a first 32"));
        bytes.zeroize();
        Ok(Self { entropy })
    }

    /// The age identity that opens wraps and the key bag.
    pub fn age_identity(&self) -> AgeIdentity {
        AgeIdentity::from_secret(&hash::derive("blockhouse v1 paper identity", &self.entropy, []))
    }

    /// The recovery account that can make a handover.
    pub fn recovery_account(&self) -> AccountSecret {
        (0..=u8::MAX)
            .map(|counter| hash::derive("blockhouse v1 paper account", &self.entropy, [&[counter][..]]))
            .find_map(|scalar| AccountSecret::try_new(&scalar).ok())
            .expect("256 hashes in a row that are no scalar come once in 2^32768")
    }
}

impl std::fmt::Debug for PaperKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PaperKey(…)")
    }
}

/// The words as typed, without the numbers and marks around them; overwritten when dropped.
struct Words(Vec<String>);

impl Words {
    fn of(text: &str) -> Self {
        let bare = |token: &str| token.trim_matches(|c: char| !c.is_alphabetic()).to_lowercase();
        Self(text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect())
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zeros() -> String {
        format!("{}art", "abandon ".repeat(23))
    }

    /// The published BIP-39 vectors of 32 zero bytes and of 32 bytes 0x7f.
    #[test]
    fn words_are_those_of_bip_39() {
        assert_eq!(*PaperKey::from_entropy(Secret::new([0; 32])).words(), zeros());
        assert_eq!(
            *PaperKey::from_entropy(Secret::new([0x7f; 32])).words(),
            "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful \
             legal winner thank year wave sausage worth title"
        );
    }

    #[test]
    fn parse_forgives_case_lines_and_numbers() {
        let words = PaperKey::from_entropy(Secret::new([9; 32])).words();
        let numbered = |mark: &str| {
            let lines: Vec<_> = (1..).zip(words.split(' ')).map(|(at, word)| format!("{at}{mark}{word}")).collect();
            lines.join("\r\n")
        };
        let forms = [
            words.to_uppercase(),
            words.replace(' ', "\n\t"),
            numbered(". "),
            numbered(") "),
            numbered("."),
            numbered(" "),
        ];
        for form in forms {
            assert_eq!(*PaperKey::parse(&form).unwrap().words(), *words, "{form}");
        }
    }

    #[test]
    fn parse_names_what_is_wrong() {
        let mistyped = zeros().replacen("abandon abandon", "abandon abandom", 1);
        assert_eq!(
            PaperKey::parse(&mistyped).unwrap_err(),
            PaperKeyError::UnknownWord { word: "abandom".into(), position: 2 }
        );
        assert_eq!(PaperKey::parse("abandon ability").unwrap_err(), PaperKeyError::Count { found: 2 });
        assert_eq!(PaperKey::parse("").unwrap_err(), PaperKeyError::Count { found: 0 });
        assert_eq!(PaperKey::parse(&zeros().replace("art", "able")).unwrap_err(), PaperKeyError::Checksum);
    }

    /// Frozen: another result would leave every paper key in a drawer useless.
    #[test]
    fn derivations_stay_as_they_are() {
        let key = PaperKey::from_entropy(Secret::new([7; 32]));
        let identity =
            AgeIdentity::from_secret(&Secret::new(blake3::derive_key("blockhouse v1 paper identity", &[7; 32])));
        assert_eq!(*key.age_identity().to_text(), *identity.to_text());
        let mut material = [7; 33];
        material[32] = 0;
        let scalar = Secret::new(blake3::derive_key("blockhouse v1 paper account", &material));
        assert_eq!(key.recovery_account().account(), AccountSecret::try_new(&scalar).unwrap().account());
    }

    proptest! {
        /// P1.
        #[test]
        fn every_key_comes_back_from_its_words(entropy in any::<[u8; 32]>()) {
            let key = PaperKey::from_entropy(Secret::new(entropy));
            let back = PaperKey::parse(&key.words()).unwrap();
            prop_assert_eq!(back.entropy.expose(), &entropy);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in "\\PC{0,200}") {
            prop_assert!(PaperKey::parse(&text).is_err());
        }
    }
}
