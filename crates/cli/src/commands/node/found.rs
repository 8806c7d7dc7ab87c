//! `blockhouse node init --found`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use blockhouse_crypto::AccountSecret;
use blockhouse_homes::network::{Ceremony, ENROLMENT_MAX, Enrolment, NetworkFile, write_network};
use serde_json::json;

use super::{ENROL_KEY, SigningArg, now, shown, write_enrol_key};
use crate::exit::Exit;
use crate::failure::Refusal;
use crate::output::{Output, extend};

/// What all nodes are given; written last, so that a folder that has it has the enrol key.
const NETWORK: &str = "network";

pub(crate) fn run(files: &[PathBuf], folder: &Path, signing: SigningArg, out: &Output) -> anyhow::Result<Exit> {
    if signing == SigningArg::Threshold {
        return Err(Refusal::usage(
            "no network of several operators can be founded with shares of one key: who makes the shares in one place knows the whole key",
            "leave --signing away: a network that is founded like this signs one by one. Shares come with key generation among the validators, which this version does not have",
        )
        .into());
    }
    let enrolments = files.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<_>>>()?;
    expect_new(folder)?;
    let mut random = rand::rng();
    let owner = AccountSecret::random(&mut random);
    let network = Ceremony { owner: owner.account(), time: now(), enrolments }.found(&mut random)?;
    std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    let enrol_key = write_enrol_key(folder, &network.genesis, owner)?;
    let file = folder.join(NETWORK);
    write_network(&file, &network)?;
    tell(&network, &file, &enrol_key, out)?;
    Ok(Exit::Success)
}

fn tell(network: &NetworkFile, file: &Path, enrol_key: &Path, out: &Output) -> anyhow::Result<()> {
    let mut summary = shown::network(network, out)?;
    out.talk(format_args!(
        "\nGive {} to every operator, and read the fingerprint to each other, all of it: who has the same has the same network.\nEach of them: blockhouse node join --dir DIR --network FILE --expect {}\nThen: blockhouse node run --dir DIR\n{} is secret and for one: who is to own the vault on this ledger, with blockhouse init --ledger URL --enrol-key FILE",
        file.display(),
        network.fingerprint(),
        enrol_key.display(),
    ));
    extend(&mut summary, json!({ "file": file, "enrol_key": enrol_key }));
    out.record(&summary)?;
    Ok(())
}

/// Reads what an operator sent.
pub(super) fn read(path: &Path) -> anyhow::Result<Enrolment> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| file.take(ENROLMENT_MAX as u64 + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("could not read the enrolment {}", path.display()))?;
    Enrolment::decode(&bytes).with_context(|| format!("could not use the enrolment {}", path.display()))
}

/// A network is founded once, and never in the folder of a node: there its file would make it one that has no ledger. An enrol key that
/// is there may be of a ledger in use, and if a kill left it, a new folder costs nothing.
fn expect_new(folder: &Path) -> anyhow::Result<()> {
    for name in [NETWORK, ENROL_KEY, "node.key"] {
        if folder.join(name).symlink_metadata().is_ok() {
            let what = format!(
                "{} has a file `{name}` already: it is of a node, or of a network that was founded or begun",
                folder.display()
            );
            return Err(Refusal::usage(what, "give a new folder with --dir DIR").into());
        }
    }
    Ok(())
}
