//! The recovery sheet: what to do when the backup host is gone, on one page, without a secret on it.

use std::fmt::Write;

use blockhouse_types::Fingerprint;

use crate::folder::{Config, VaultFolder, WriteError, write_durably};

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
    let urls: Vec<String> = sites().map(|site| format!("--site '{}'", site.spec.url)).collect();
    let _ = write!(
        text,
        "\nTo get the vault back on a new host, with the identity file:\n\n  \
         blockhouse --vault NEW_FOLDER recover {urls} --fingerprint {fingerprint} --identity FILE\n\n\
         or with the words of the paper key in a file:\n\n  \
         blockhouse --vault NEW_FOLDER recover {urls} --fingerprint {fingerprint} --paper-key FILE\n\n\
         The fingerprint is what tells this vault from a forged one: never leave it out with the paper key alone.\n\
         One site that can be reached is enough to begin. Add --read-only to rehearse without changing anything.\n\
         Afterwards compare: the fingerprint changes with the recovery, and the new sheet shows the new one.\n",
        urls = urls.join(" "),
    );
    text
}
