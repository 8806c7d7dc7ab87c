//! A network as it is shown to who founds or joins it, and to who asks how it is.

use blockhouse_homes::network::{Domain, Enrolment, FoundingFile, Label, NetworkFile, Survival};
use blockhouse_ledger::Governance;
use blockhouse_ledger::certificate::quorum;
use serde_json::{Value, json};

use crate::output::{Output, OutputError, columns};

/// Shows who keeps it, what that survives and its fingerprint; gives what a summary says of it.
pub(super) fn network(file: &NetworkFile, out: &Output) -> Result<Value, OutputError> {
    validators(&file.enrolments, out)?;
    let (lines, survives) = survival(file.survival().as_ref(), out)?;
    let fingerprint = file.fingerprint();
    out.line(format_args!("fingerprint  {fingerprint}"))?;
    // Of one that begins its ledger the genesis says it.
    if file.handover.is_some() {
        charter(file.governance().as_ref(), out)?;
    }
    Ok(json!({
        "type": "summary", "ok": true, "fingerprint": fingerprint, "chain_id": file.genesis.chain_id,
        "validators": file.network.validators().len(), "quorum": file.network.quorum(),
        "survey": lines, "survives": survives,
    }))
}

/// Who may change the validators of a network that takes a ledger over: its fingerprint commits to that too.
pub(super) fn charter(charter: Option<&Governance>, out: &Output) -> Result<(), OutputError> {
    let Some(Governance { epoch_length, governors, threshold, .. }) = charter else {
        return out.line(format_args!("governed by  nobody: its validators stay"));
    };
    let accounts = governors.iter().map(|account| format!("0x{account}")).collect::<Vec<_>>().join(", ");
    out.line(format_args!("governed by  {threshold} of {accounts}, between epochs of {epoch_length} blocks"))
}

/// The same of a network whose key is not made yet.
pub(super) fn founding(file: &FoundingFile, out: &Output) -> Result<Value, OutputError> {
    validators(&file.enrolments, out)?;
    let (lines, survives) = survival(Some(&file.survival()), out)?;
    let (hash, validators) = (file.hash(), file.enrolments.len());
    out.line(format_args!("founding     {hash}"))?;
    Ok(json!({
        "type": "summary", "ok": true, "founding": hash, "chain_id": file.chain_id,
        "validators": validators, "quorum": quorum(validators), "survey": lines, "survives": survives,
    }))
}

pub(super) fn validators(enrolments: &[Enrolment], out: &Output) -> Result<(), OutputError> {
    let mut rows = Vec::new();
    for enrolment in &by_name(enrolments) {
        let told = |domain| enrolment.place().of(domain).map(Label::as_str);
        let operator = enrolment.operator().map(|account| format!("0x{account}"));
        out.record(&json!({
            "type": "validator", "name": enrolment.name().as_str(), "address": enrolment.address().as_str(),
            "public": enrolment.key_text(), "site": told(Domain::Site), "provider": told(Domain::Provider),
            "region": told(Domain::Region), "operator": operator,
        }))?;
        let [site, provider, region] = Domain::WIDER.map(|domain| told(domain).unwrap_or("-").to_owned());
        let (name, address) = (enrolment.name().to_string(), enrolment.address().to_string());
        rows.push(vec![name, address, site, provider, region, enrolment.key_text()]);
    }
    let head = ["validator", "address", "site", "provider", "region", "key"];
    out.line(format_args!("{}", columns(&head, &rows)))
}

/// Shows what the placement survives; gives its lines, and what they say.
pub(super) fn survival(survival: Option<&Survival>, out: &Output) -> Result<(Vec<String>, Value), OutputError> {
    let Some(survival) = survival else { return Ok((Vec::new(), json!([]))) };
    let (mut lines, cautions) = (survival.lines(), survival.cautions());
    for line in &lines {
        out.line(format_args!("{line}"))?;
    }
    // What looks safer than it is, is said whatever else is not.
    for caution in &cautions {
        out.warn(format_args!("warning: {caution}"));
    }
    lines.extend(cautions);
    let by_domain = survival.by_domain.iter().map(|survived| {
        let fatal: Vec<&str> = survived.fatal.iter().map(|group| group.name.as_str()).collect();
        json!({ "domain": survived.domain.name(), "of": survived.of, "any": survived.any, "fatal": fatal })
    });
    Ok((lines, by_domain.collect()))
}

fn by_name(enrolments: &[Enrolment]) -> Vec<&Enrolment> {
    let mut enrolments: Vec<&Enrolment> = enrolments.iter().collect();
    enrolments.sort_by_key(|enrolment| enrolment.name());
    enrolments
}
