//! Targets for keys and what is sealed with them.

use blockhouse_crypto::recipient::{decrypt, encrypt_to_many, unwrap};
use blockhouse_crypto::{AgeIdentity, Identity, PaperKey, Recipient, Role, Secret, account, ledger_key, seal};
use blockhouse_types::{Decoder, Encoder};

use crate::seeds::golden;
use crate::{Target, Verdict};

/// An identity that only exists here.
pub(super) fn age_identity() -> AgeIdentity {
    AgeIdentity::from_secret(&Secret::new([0x21; 32]))
}

/// A recipient, encoded and as text.
pub(super) const RECIPIENT: Target = Target {
    name: "recipient",
    decoders: &["crypto/recipient.rs::decode", "crypto/recipient.rs::parse"],
    run: |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            Verdict::of(Recipient::parse(text, Role::Reader, text));
            let _ = AgeIdentity::parse(text);
        }
        let mut decoder = Decoder::new("a recipient", bytes);
        let result = Recipient::decode(&mut decoder).and_then(|recipient| decoder.finish().map(|()| recipient));
        Verdict::canonical(bytes, result, |recipient| {
            let mut encoder = Encoder::new();
            recipient.encode(&mut encoder);
            encoder.finish()
        })
    },
    seeds: || {
        let recipient = age_identity().recipient(Role::Owner, "owner").unwrap();
        let mut encoder = Encoder::new();
        recipient.encode(&mut encoder);
        vec![encoder.finish()]
    },
};

/// A file in the format of `age`.
pub(super) const AGE_FILE: Target = Target {
    name: "age-file",
    decoders: &["crypto/recipient.rs::decrypt", "crypto/recipient.rs::unwrap"],
    run: |bytes| {
        Verdict::of(unwrap(&age_identity(), bytes));
        Verdict::of(decrypt(&age_identity(), bytes))
    },
    seeds: || {
        let recipient = age_identity().recipient(Role::Owner, "owner").unwrap();
        vec![
            encrypt_to_many([&recipient], &[7; 32]).unwrap(),
            encrypt_to_many([&recipient], &[7; 70_000]).unwrap(),
            encrypt_to_many([&recipient], b"").unwrap(),
        ]
    },
};

/// The owner's file. Without a passphrase: scrypt is meant to be slow.
pub(super) const IDENTITY: Target = Target {
    name: "identity",
    decoders: &["crypto/identity.rs::open"],
    run: |bytes| Verdict::of(Identity::open(bytes, None)),
    seeds: || vec![golden("pipeline", "metadata/identity.txt")],
};

/// The words on paper.
pub(super) const PAPER_KEY: Target = Target {
    name: "paper-key",
    decoders: &["crypto/paper.rs::parse"],
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
        let key = PaperKey::parse(text);
        if let Ok(key) = &key {
            let again = PaperKey::parse(&key.words()).unwrap();
            assert!(again.words() == key.words(), "a paper key changes when it is written");
        }
        Verdict::of(key)
    },
    seeds: || vec![golden("pipeline", "metadata/paper-key.txt")],
};

/// Signatures of accounts and of ledger keys.
pub(super) const SIGNATURE: Target = Target {
    name: "signature",
    decoders: &["crypto/account.rs::recover", "crypto/ledger_key.rs::verify"],
    run: |bytes| {
        let Some((signature, _)) = bytes.split_first_chunk::<65>() else { return Verdict::Refused };
        let (short, key) = (signature.first_chunk::<64>().unwrap(), signature.first_chunk::<32>().unwrap());
        assert!(!ledger_key::verify(key, &DIGEST, short), "a signature verifies under its own bytes");
        Verdict::of(account::recover(&DIGEST, signature))
    },
    seeds: || {
        let account = blockhouse_crypto::AccountSecret::try_new(&Secret::new([5; 32])).unwrap();
        vec![account.sign(&DIGEST).to_vec()]
    },
};

const DIGEST: [u8; 32] = [3; 32];

/// Nonce, ciphertext, tag: no change is ever opened.
pub(super) const SEALED: Target = Target {
    name: "sealed",
    decoders: &["crypto/seal.rs::open", "crypto/seal.rs::open_into"],
    run: |bytes| {
        let opened = seal::open(&Secret::new([6; 32]), b"data", bytes);
        if let Ok(plain) = &opened {
            assert!(*plain == SEALED_PLAIN, "altered bytes were opened");
        }
        Verdict::of(opened)
    },
    seeds: || vec![seal::seal(&Secret::new([6; 32]), [9; 12], b"data", SEALED_PLAIN)],
};

const SEALED_PLAIN: &[u8] = b"what was sealed";
