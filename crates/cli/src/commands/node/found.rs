//! `blockhouse node init --found`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use blockhouse_crypto::{AccountSecret, EnrolKey};
use blockhouse_homes::network::{
    Ceremony, ENROLMENT_MAX, Enrolment, FoundingFile, NetworkFile, write_founding, write_network,
};
use blockhouse_types::BlockHash;
use serde_json::json;
use zeroize::Zeroizing;

use super::{ENROL_KEY, SigningArg, now, shown, write_enrol_key, write_enrol_key_of};
use crate::exit::Exit;
use crate::failure::Refusal;
use crate::output::{Output, extend};

/// What all nodes are given; written last, so that a folder that has it has the enrol key.
const NETWORK: &str = "network";

/// The same before its validators made their key.
const FOUNDING: &str = "founding";

pub(crate) fn run(
    files: &[PathBuf],
    folder: &Path,
    (signing, epoch_length): (SigningArg, u64),
    out: &Output,
) -> anyhow::Result<Exit> {
    let enrolments = files.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<_>>>()?;
    expect_new(folder)?;
    let mut random = rand::rng();
    let owner = AccountSecret::random(&mut random);
    let ceremony = Ceremony { owner: owner.account(), time: now(), enrolments, epoch_length: Some(epoch_length) };
    let make = || std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()));
    if signing == SigningArg::Threshold {
        let founding = ceremony.begin(&mut random)?;
        make()?;
        // It names no block 0 yet, and so is of no ledger.
        let key = EnrolKey { chain_id: founding.chain_id, genesis: BlockHash::new([0; 32]), owner };
        let enrol_key = write_enrol_key_of(folder, &key)?;
        let file = folder.join(FOUNDING);
        write_founding(&file, &founding)?;
        tell_founding(&founding, (file.as_path(), enrol_key.as_path()), out)?;
        return Ok(Exit::Success);
    }
    let network = ceremony.found(&mut random)?;
    make()?;
    let enrol_key = write_enrol_key(folder, &network.genesis, owner)?;
    let file = folder.join(NETWORK);
    write_network(&file, &network)?;
    tell(&network, &file, &enrol_key, out)?;
    Ok(Exit::Success)
}

fn tell_founding(founding: &FoundingFile, (file, enrol_key): (&Path, &Path), out: &Output) -> anyhow::Result<()> {
    let mut summary = shown::founding(founding, out)?;
    out.talk(format_args!(
        "\nGive {} to every operator, and read the number of the founding to each other, all of it: who has the same has the same validators.\nEach of them, all at about the same time: blockhouse node join --dir DIR --network FILE --expect {}\nTheir nodes make the key of the network together; then all have the same fingerprint, and: blockhouse node run --dir DIR\n{} is secret, and completed with the network file that any of them has then: blockhouse node init --complete FILE --dir {}",
        file.display(),
        founding.hash(),
        enrol_key.display(),
        enrol_key.parent().unwrap_or(enrol_key).display(),
    ));
    extend(&mut summary, json!({ "file": file, "enrol_key": enrol_key }));
    out.record(&summary)?;
    Ok(())
}

/// Makes the enrol key one of the ledger that the founding led to.
pub(crate) fn complete(network: &Path, folder: &Path, out: &Output) -> anyhow::Result<Exit> {
    let founding = FoundingFile::read(&folder.join(FOUNDING))?;
    let network = NetworkFile::read(network)?;
    if network.founding().as_ref() != Some(&founding) || !network.was_made_together() {
        let what = format!("the network file is not what the validators of the founding in {} made", folder.display());
        return Err(
            Refusal::usage(what, "give the file `network` of a node that joined with that founding file").into()
        );
    }
    let path = folder.join(ENROL_KEY);
    let text = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
    let key = EnrolKey::parse(&Zeroizing::new(text)).with_context(|| format!("could not use {}", path.display()))?;
    let mut summary = shown::network(&network, out)?;
    let enrol_key = write_enrol_key(folder, &network.genesis, key.owner)?;
    out.talk(format_args!(
        "\n{} is secret and for one: who is to own the vault on this ledger, with blockhouse init --ledger URL --enrol-key FILE",
        enrol_key.display(),
    ));
    extend(&mut summary, json!({ "enrol_key": enrol_key }));
    out.record(&summary)?;
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
    for name in [NETWORK, FOUNDING, ENROL_KEY, "node.key"] {
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
