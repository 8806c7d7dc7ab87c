//! Targets for the files that people carry between the hosts of a vault, and for what a host keeps meanwhile.

use blockhouse_crypto::recipient::encrypt_to_many;
use blockhouse_crypto::{AccountSecret, EnrolKey, Role, Secret};
use blockhouse_homes::NodeUrl;
use blockhouse_pipeline::host_answer::HostAnswer;
use blockhouse_pipeline::host_request::{HostRequest, PendingHost};
use blockhouse_types::{BlockHash, Encoder};

use super::crypto::age_identity;
use crate::{Target, Verdict};

/// What a founder of a ledger gives to whom is to own it.
pub(super) const ENROL_KEY: Target = Target {
    name: "enrol-key",
    decoders: &["crypto/enrol_key.rs::parse"],
    run: |bytes| {
        let key = EnrolKey::parse(bytes);
        if let Ok(key) = &key {
            let again = EnrolKey::parse(key.to_text().as_bytes()).unwrap();
            assert!(again.to_text() == key.to_text(), "an enrol key changes when it is written");
        }
        Verdict::of(key)
    },
    seeds: || {
        let owner = AccountSecret::try_new(&Secret::new([9; 32])).unwrap();
        let key = EnrolKey { chain_id: 1 << 40, genesis: BlockHash::new([7; 32]), owner };
        vec![key.to_text().as_bytes().to_vec()]
    },
};

/// What a host asks with.
pub(super) const HOST_REQUEST: Target = Target {
    name: "host-request",
    decoders: &["pipeline/host_request.rs::parse"],
    run: |bytes| {
        let request = HostRequest::parse(bytes);
        if let Ok(request) = &request {
            let again = HostRequest::parse(request.to_text().as_bytes()).unwrap();
            assert!(again == *request && again.code() == request.code(), "a request changes when it is written");
        }
        Verdict::of(request)
    },
    seeds: || vec![request().to_text().into_bytes()],
};

/// What a host keeps that has asked: a file that a crash or a disk may damage.
pub(super) const PENDING_HOST: Target = Target {
    name: "pending-host",
    decoders: &["pipeline/host_request.rs::from_bytes"],
    run: |bytes| Verdict::canonical(bytes, PendingHost::from_bytes(bytes), |kept| kept.to_bytes().to_vec()),
    seeds: || vec![PendingHost::generate("web-1", &mut rand::rng()).unwrap().to_bytes().to_vec()],
};

/// An answer that anybody sealed to a host: the file, and what is inside.
pub(super) const HOST_ANSWER: Target = Target {
    name: "host-answer",
    decoders: &[
        "pipeline/host_answer.rs::open",
        "pipeline/key_bag.rs::decode_recipients",
        "pipeline/key_bag.rs::decode_site",
        "pipeline/key_bag.rs::decode_sites_and_code",
    ],
    run: |bytes| {
        let (request, age) = (request(), age_identity());
        Verdict::of(HostAnswer::open(bytes, &request, &age));
        let recipient = age.recipient(Role::Reader, "web-1").unwrap();
        let mut encoder = Encoder::with_header(*b"BHHA");
        encoder.raw(&request.hash()).bytes(&encrypt_to_many([&recipient], bytes).unwrap());
        Verdict::of(HostAnswer::open(&encoder.finish(), &request, &age))
    },
    seeds: || {
        // Vault, cut seed and four secrets, one recipient, no site, the code 2+1, the rest, one URL.
        let owner = age_identity().recipient(Role::Owner, "owner").unwrap();
        let mut plain = Encoder::new();
        plain.raw(&[1; 32]).u64(2).raw(&[3; 128]);
        plain.list([owner].iter(), |encoder, owner| owner.encode(encoder));
        plain.count(0).raw(&[2, 1]).u64(1 << 40).raw(&[4; 32]).raw(&[5; 40]).raw(&[6; 32]);
        plain.count(1).bytes(b"http://127.0.0.1:8545/");
        vec![plain.finish()]
    },
};

/// A node's URL, as it is typed and as an answer or the configuration names it.
pub(super) const NODE_URL: Target = Target {
    name: "node-url",
    decoders: &["homes/remote/url.rs::from_str"],
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
        let url: Result<NodeUrl, _> = text.parse();
        if let Ok(url) = &url {
            assert!(url.as_str().parse().as_ref() == Ok(url), "a URL changes when it is written");
            assert!(!url.to_string().contains(['@', '?']), "what may be a key is shown");
        }
        Verdict::of(url)
    },
    seeds: || vec![b"https://ann:secret@node.example:8545/v3/KEY?token=T".to_vec(), b"http://[::1]:8545".to_vec()],
};

fn request() -> HostRequest {
    let recipient = age_identity().recipient(Role::Reader, "web-1").unwrap();
    let text = format!(
        "# blockhouse host request, version 1\nname: web-1\naccount: 0x{}\nrecipient: {}\n",
        "0a".repeat(20),
        recipient.public()
    );
    HostRequest::parse(text.as_bytes()).unwrap()
}
