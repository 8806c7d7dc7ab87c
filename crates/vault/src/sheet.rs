//! The recovery sheet: what to do when the backup host is gone, on one page, without a secret on it.

use std::fmt::Write;

use blockhouse_homes::ChainTerms;
use blockhouse_types::Fingerprint;

use crate::folder::{Config, LedgerEntry, VaultFolder, WriteError, write_durably};

/// Writes the sheet into the vault folder.
pub fn write(folder: &VaultFolder, config: &Config, fingerprint: Fingerprint) -> Result<(), WriteError> {
    write_durably(&folder.recovery_sheet(), 0o644, text(config, fingerprint).as_bytes())
}

/// The sheet's text.
pub fn text(config: &Config, fingerprint: Fingerprint) -> String {
    let mut text = format!(
        "BLOCKHOUSE RECOVERY SHEET\n\
         Keep a copy away from the backup host. There is no secret on it.\n\n\
         fingerprint  {fingerprint}\n\
         vault        {}\n\
         code         {}\n\
         made by      blockhouse {}\n\n\
         sites\n",
        config.vault,
        config.code,
        env!("CARGO_PKG_VERSION"),
    );
    let sites = || config.sites.iter().filter(|site| site.counts());
    for site in sites() {
        let label = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(", {name} {value}")).unwrap_or_default()
        };
        let labels = &site.spec.labels;
        let (region, provider) = (label("region", &labels.region), label("provider", &labels.provider));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}  {}{region}{provider}", site.spec.name, site.spec.url);
    }
    text.push_str(&chain_text(config));
    let ledger = chain_words(config);
    let urls: Vec<String> = sites().map(|site| format!("--site '{}'", site.spec.url)).collect();
    let _ = write!(
        text,
        "\nTo get the vault back on a new host, with the identity file:\n\n  \
         blockhouse --vault NEW_FOLDER recover {urls}{ledger} --fingerprint {fingerprint} --identity FILE\n\n\
         or with the words of the paper key in a file:\n\n  \
         blockhouse --vault NEW_FOLDER recover {urls}{ledger} --fingerprint {fingerprint} --paper-key FILE\n\n\
         The fingerprint is what tells this vault from a forged one: never leave it out with the paper key alone.\n\
         One site that can be reached is enough to begin. Add --read-only to rehearse without changing anything.\n\
         Afterwards compare: the fingerprint changes with the recovery, and the new sheet shows the new one.\n",
        urls = urls.join(" "),
    );
    text
}

/// Where the vault's contracts stand, if that is on an outside chain: the sites hold no copy of it. What stands in a node's URL beside
/// its host may be a key, and is not shown.
fn chain_text(config: &Config) -> String {
    let LedgerEntry { urls, chain_id, genesis, vault, access, chain: Some(terms), .. } = &config.ledger else {
        return String::new();
    };
    let nodes: Vec<String> = urls.iter().map(ToString::to_string).collect();
    format!(
        "\nledger on an outside chain\n  chain id     {chain_id}\n  block 0      {genesis}\n  Vault        0x{vault}\n  \
         Access       0x{access}\n  since block  {}\n  node         {}\n\
         Any node of that chain will do. Recovery sends transactions: the owner's account pays for them.\n",
        terms.since,
        nodes.join(", "),
    )
}

/// What `recover` must be told of an outside chain.
fn chain_words(config: &Config) -> String {
    let Some(terms) = &config.ledger.chain else { return String::new() };
    let depth = terms.depth.map(|depth| format!(" --depth {depth}")).unwrap_or_default();
    let (max_fee, usual) = (terms.max_fee_wei, ChainTerms::usual(terms.since, terms.depth).max_fee_wei);
    let max_fee = if max_fee == usual { String::new() } else { format!(" --max-fee {}", in_gwei(max_fee)) };
    format!(" --ledger URL_OF_A_NODE --since {}{depth}{max_fee}", terms.since)
}

fn in_gwei(wei: u64) -> String {
    const GWEI: u64 = 1_000_000_000;
    let text = format!("{}.{:09}", wei / GWEI, wei % GWEI);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
