//! `blockhouse node init --from-vault`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use blockhouse_crypto::AccountSecret;
use blockhouse_homes::network::{
    Base, Enrolment, FolderError, Joining, NetworkFile, NodeFolder, RecoveryProposal, Succession, Word,
};
use blockhouse_homes::{Embedded, NodeUrl, Options};
use blockhouse_ledger::TrustRoot;
use blockhouse_types::VaultId;
use blockhouse_vault::growth::{self, Before, Growth, LastBlock};
use blockhouse_vault::vault::Vault;
use serde_json::json;

use super::{found, shown, status};
use crate::arguments::Global;
use crate::exit::Exit;
use crate::failure::Refusal;
use crate::opening;
use crate::output::{Output, extend};

const WHAT: &str = "node init --from-vault";

/// Which network takes over.
pub(super) struct Request {
    /// The folder of this host's node.
    pub(super) folder: PathBuf,
    /// The enrolments of the others.
    pub(super) files: Vec<PathBuf>,
    /// Blocks in an epoch: the operators of the nodes change them between two.
    pub(super) epoch_length: u64,
    /// Where the vault asks.
    pub(super) nodes: Vec<NodeUrl>,
    /// The word of other recovery accounts.
    pub(super) words: Vec<Word>,
}

pub(super) async fn run(request: Request, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let account = account(&vault, global, WHAT)?;
    let question = "From now on only the network seals this vault's ledger, and this host never again. Other hosts of the vault must run this release before: an earlier one does not see the handover and seals on. Go on?";
    let (network, base) =
        take_over(vault, (Before::Host, request), &account, || opening::confirm(global, question)).await?;
    tell(&network, base, out)?;
    Ok(Exit::Success)
}

/// The account that hands the ledger over.
pub(super) fn account(vault: &Vault, global: &Global, what: &'static str) -> anyhow::Result<AccountSecret> {
    recovery_account(global, vault.id(), what)
}

/// The account of the identity or paper key of that vault.
pub(super) fn recovery_account(global: &Global, vault: VaultId, what: &'static str) -> anyhow::Result<AccountSecret> {
    let unlocked = opening::unlock(global, Some(vault), what)?;
    Ok(unlocked.recovery_account().ok_or(Refusal::OwnerOnly { what })?)
}

/// What was made, and the folder of the node that has it.
pub(super) struct Made {
    pub(super) network: NetworkFile,
    pub(super) folder: PathBuf,
}

/// The order is that of `docs/design/node.md`: the file by which the network can begin comes last, when nobody else can seal.
pub(super) async fn take_over(
    mut vault: Vault,
    (before, request): (Before, Request),
    account: &AccountSecret,
    confirm: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<(Made, LastBlock)> {
    let folder = NodeFolder::new(request.folder);
    let nodes = if request.nodes.is_empty() { vec![status::local_url(&folder)?] } else { request.nodes };
    let succession = succession(&vault, &folder, (&request.files, request.epoch_length)).await?;
    let (heir, by) = (succession.key(), (account, request.words.as_slice()));
    let growth = growth::plan(&vault, before, heir, account).await?;
    // What does not fit is refused before anything is done.
    joining(&folder, &succession, &growth, (growth.last, by))?;
    confirm()?;
    copy(&vault, &folder).await?;
    let base = growth::leave(&vault, heir, &growth).await?;
    copy(&vault, &folder).await?;
    growth::follow_network(&mut vault, nodes, base, growth.fingerprint)?;
    // Something may have been sealed since it was planned, by the owner too.
    let growth = growth::plan(&vault, before, heir, account).await?;
    let joining = joining(&folder, &succession, &growth, (base, by))?;
    joining.execute_over_past()?;
    Ok((Made { network: joining.network().clone(), folder: folder.path().to_owned() }, base))
}

/// Writes what the other recovery accounts agree to, and changes nothing else.
pub(super) async fn propose(
    vault: &Vault,
    (before, request): (Before, &Request),
    account: &AccountSecret,
    file: &Path,
) -> anyhow::Result<(RecoveryProposal, Growth)> {
    let succession =
        succession(vault, &NodeFolder::new(&request.folder), (&request.files, request.epoch_length)).await?;
    let growth = growth::plan(vault, before, succession.key(), account).await?;
    let LastBlock { height, hash } = growth.last;
    let proposal = RecoveryProposal::Handover { succession, base: Base { height, hash } };
    proposal.write(file)?;
    Ok((proposal, growth))
}

/// The network of the own node and those of these enrolments.
async fn succession(
    vault: &Vault,
    folder: &NodeFolder,
    (files, epoch_length): (&[PathBuf], u64),
) -> anyhow::Result<Succession> {
    let genesis = vault.home().own_copy()?.read(|store| store.genesis().clone()).await?;
    let enrolments = enrolments(folder, files)?;
    let plain = Succession::try_new(genesis.clone(), enrolments.clone(), None)?;
    // What a release without charters left half-way goes on as it was begun.
    let begun = vault.config().ledger.growth.as_ref().map(|begun| begun.fingerprint);
    if begun == Some(TrustRoot::new(&genesis, plain.key()).fingerprint()) {
        return Ok(plain);
    }
    Ok(Succession::try_new(genesis, enrolments, Some(epoch_length))?)
}

/// The ledger up to its last block goes to the node, which begins with it.
async fn copy(vault: &Vault, folder: &NodeFolder) -> anyhow::Result<()> {
    let (own, copy) = (vault.home().own_copy()?, node_copy(vault, folder));
    own.copy_into(&copy).await.with_context(|| format!("could not copy the ledger to {}", folder.store().display()))
}

/// The own node's enrolment, and those of the others.
fn enrolments(folder: &NodeFolder, files: &[PathBuf]) -> anyhow::Result<Vec<Enrolment>> {
    folder.read_keys()?;
    let own = folder.read_enrolment()?.ok_or_else(|| FolderError::NoKey { path: folder.path().to_owned() })?;
    let mut all = files.iter().map(|file| found::read(file)).collect::<anyhow::Result<Vec<_>>>()?;
    // Given among the others it is one of them.
    if !all.contains(&own) {
        all.push(own);
    }
    Ok(all)
}

/// The store that the own node begins with.
fn node_copy(vault: &Vault, folder: &NodeFolder) -> Embedded {
    Embedded::new(Options::reader(folder.store(), Arc::clone(&vault.settings().clock)))
}

fn joining(
    folder: &NodeFolder,
    succession: &Succession,
    growth: &Growth,
    (LastBlock { height, hash }, (account, words)): (LastBlock, (&AccountSecret, &[Word])),
) -> anyhow::Result<Joining> {
    let (base, recovery) = (Base { height, hash }, &growth.recovery);
    let proposal = RecoveryProposal::Handover { succession: succession.clone(), base };
    let by = (account.account(), recovery.threshold);
    let approvals = proposal.approvals(words, by, |who| recovery.accounts.contains(who))?;
    let handover = succession.sign(&base, (account, growth.nonce), approvals);
    Ok(Joining::of(folder.clone(), succession.file(base, handover)?, false)?)
}

fn tell(Made { network, folder }: &Made, base: LastBlock, out: &Output) -> anyhow::Result<()> {
    let mut summary = shown::network(network, out)?;
    out.line(format_args!("history      blocks 0 to {}", base.height))?;
    out.talk(format_args!(
        "\nThis host seals the ledger no more; the network does, once {} of its nodes run.",
        network.network.quorum()
    ));
    let file = tell_next(network, folder, out);
    extend(&mut summary, json!({ "file": file, "height": base.height }));
    out.record(&summary)?;
    Ok(())
}

/// What the operators do now; gives the path of the network file.
pub(super) fn tell_next(network: &NetworkFile, folder: &Path, out: &Output) -> PathBuf {
    let file = folder.join("network");
    out.talk(format_args!(
        "Here: blockhouse node run --dir {}\nGive {} to every other operator, and read the fingerprint to each other, all of it. Each of them, with the URL of this node's JSON-RPC:\n  blockhouse node join --dir DIR --network FILE --rpc-peer URL --expect {}\n  blockhouse node run --dir DIR\nFrom the first block of the network on the vault has that fingerprint; `blockhouse receipt` then makes receipts of old snapshots anew.",
        folder.display(),
        file.display(),
        network.fingerprint(),
    ));
    file
}
