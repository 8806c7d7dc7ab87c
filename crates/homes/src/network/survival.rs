//! Which losses the placement of a network's validators survives.
//!
//! - **Owns** the reckoning, and the words for it.
//! - **Does not** know whether what operators say of their places is true.
//!
//! # Invariants
//! - **S1** A loss is called survived only if a quorum of validators is left whatever of that kind and number is lost.
//! - **S2** A validator of which a domain is not told is one of its own there, as a storage site is.
//!
//! Rules: `docs/design/node.md`, section *Placement*.

use std::collections::BTreeMap;

use blockhouse_ledger::certificate::quorum;

use super::place::{Domain, Label, Place};

/// Whatever the number of validators, no three groups of a third each leave a quorum when one is lost.
const GROUPS_NEEDED: usize = 4;

/// Validators that are lost together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they share.
    pub name: Label,
    /// How many they are.
    pub validators: usize,
}

/// What is survived of one kind of domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survived {
    /// The kind.
    pub domain: Domain,
    /// How many there are of it.
    pub of: usize,
    /// How many of them may be lost, whichever they are.
    pub any: usize,
    /// Those whose loss alone leaves no quorum, the largest first.
    pub fatal: Vec<Group>,
    /// Validators that do not tell theirs.
    pub untold: Vec<Label>,
}

/// What a network survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survival {
    /// How many validators there are.
    pub validators: usize,
    /// How many of them must agree.
    pub quorum: usize,
    /// By kind of domain, the narrowest first; none of a wider one that no validator tells.
    pub by_domain: Vec<Survived>,
}

impl Survival {
    /// That of validators with these names and places.
    pub fn of(validators: &[(&Label, &Place)]) -> Self {
        let (count, quorum) = (validators.len(), quorum(validators.len()));
        let spare = count.saturating_sub(quorum);
        let nodes = Survived { domain: Domain::Node, of: count, any: spare, fatal: Vec::new(), untold: Vec::new() };
        let wider = Domain::WIDER.into_iter().filter_map(|domain| survived(domain, validators, spare));
        Self { validators: count, quorum, by_domain: std::iter::once(nodes).chain(wider).collect() }
    }

    /// How many validators may be lost.
    pub const fn spare(&self) -> usize {
        self.validators.saturating_sub(self.quorum)
    }

    /// What is survived, as lines to print.
    pub fn lines(&self) -> Vec<String> {
        let told = self.by_domain.iter().filter(|survived| survived.any > 0).map(|survived| self.line(survived));
        let untold: Vec<&str> =
            Domain::WIDER.into_iter().filter(|domain| !self.tells(*domain)).map(Domain::name).collect();
        let untold = (!untold.is_empty()).then(|| {
            format!("no validator tells its {}: what is lost together there is not known", untold.join(", its "))
        });
        told.chain(untold).collect()
    }

    /// What is not survived, as lines to print.
    pub fn cautions(&self) -> Vec<String> {
        if self.spare() == 0 {
            let head = self.head();
            return vec![format!(
                "{head}: the loss of any one stops the ledger; of {GROUPS_NEEDED} nodes any 1 may be lost"
            )];
        }
        self.by_domain.iter().filter(|survived| survived.any == 0).map(|survived| self.caution(survived)).collect()
    }

    fn tells(&self, domain: Domain) -> bool {
        self.by_domain.iter().any(|survived| survived.domain == domain)
    }

    fn head(&self) -> String {
        format!("{}, {} must agree", count(self.validators, "node"), self.quorum)
    }

    fn line(&self, survived: &Survived) -> String {
        let Survived { domain, of, any, .. } = survived;
        match domain {
            Domain::Node => format!("{}: any {any} may be lost", self.head()),
            _ => format!("any {any} of {} may be lost{}", count(*of, domain.name()), alone(survived)),
        }
    }

    fn caution(&self, survived: &Survived) -> String {
        let (name, all) = (survived.domain.name(), self.validators);
        let has = |group: &Group| format!("`{}` has {} of {all} nodes", group.name, group.validators);
        let fatal: Vec<String> = survived.fatal.iter().map(has).collect();
        let rules = survived.fatal.iter().find(|group| group.validators >= self.quorum);
        let rules = rules.map(|group| format!("; who has `{}` has a quorum, and can rewrite the ledger", group.name));
        format!(
            "the loss of one {name} can stop the ledger: {}, and only {} may be lost. It takes {GROUPS_NEEDED} {name}s or more, evenly used{}{}",
            fatal.join(", "),
            self.spare(),
            alone(survived),
            rules.unwrap_or_default()
        )
    }
}

/// None if no validator tells its own.
fn survived(domain: Domain, validators: &[(&Label, &Place)], spare: usize) -> Option<Survived> {
    let mut told: BTreeMap<&Label, usize> = BTreeMap::new();
    let mut untold = Vec::new();
    for (name, place) in validators {
        match place.of(domain) {
            Some(label) => *told.entry(label).or_default() += 1,
            None => untold.push((*name).clone()),
        }
    }
    if told.is_empty() {
        return None;
    }
    let mut sizes: Vec<usize> = told.values().copied().chain(untold.iter().map(|_| 1)).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let lost = sizes.iter().scan(0, |sum, size| {
        *sum += size;
        Some(*sum)
    });
    let any = lost.take_while(|lost| *lost <= spare).count();
    let too_large = told.into_iter().filter(|(_, validators)| *validators > spare);
    let mut fatal: Vec<Group> = too_large.map(|(name, validators)| Group { name: name.clone(), validators }).collect();
    fatal.sort_by_key(|group| std::cmp::Reverse(group.validators));
    Some(Survived { domain, of: sizes.len(), any, fatal, untold })
}

/// Says who counts as alone.
fn alone(survived: &Survived) -> String {
    let names: Vec<String> = survived.untold.iter().map(|name| format!("`{name}`")).collect();
    match &names[..] {
        [] => String::new(),
        [one] => format!(" ({one} tells none and counts as one of its own)"),
        several => format!(" ({} tell none and count as one of their own each)", several.join(", ")),
    }
}

fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn survival(sites: &[&str]) -> Survival {
        let names: Vec<Label> = (1..=sites.len()).map(|number| format!("n{number}").parse().unwrap()).collect();
        let place =
            |site: &&str| if site.is_empty() { Place::default() } else { format!("site={site}").parse().unwrap() };
        let places: Vec<Place> = sites.iter().map(place).collect();
        Survival::of(&names.iter().zip(&places).collect::<Vec<_>>())
    }

    #[test]
    fn four_nodes_in_two_data_centres_do_not_survive_both_single_losses() {
        let two = survival(&["fra", "fra", "ams", "ams"]);
        assert_eq!(two.by_domain[1].any, 0);
        assert_eq!(two.by_domain[1].fatal.len(), 2);
        assert_eq!(
            two.cautions(),
            [
                "the loss of one site can stop the ledger: `ams` has 2 of 4 nodes, `fra` has 2 of 4 nodes, and only 1 may be lost. It takes 4 sites or more, evenly used"
            ]
        );
        assert_eq!(two.lines()[0], "4 nodes, 3 must agree: any 1 may be lost");
        let three = survival(&["fra", "ams", "fra", "fra"]);
        assert!(three.cautions()[0].ends_with("who has `fra` has a quorum, and can rewrite the ledger"));
    }

    #[test]
    fn four_sites_survive_any_one() {
        let four = survival(&["a", "b", "c", "d"]);
        assert!(four.cautions().is_empty());
        assert_eq!(
            four.lines()[1..],
            [
                "any 1 of 4 sites may be lost",
                "no validator tells its provider, its region: what is lost together there is not known"
            ]
        );
        assert_eq!(
            survival(&["a", "b", "c", ""]).lines()[1],
            "any 1 of 4 sites may be lost (`n4` tells none and counts as one of its own)"
        );
        assert_eq!(survival(&["a", "a", "b", "b", "c", "c", "d"]).by_domain[1].any, 1);
    }

    #[test]
    fn fewer_than_four_survive_nothing() {
        for count in 1..4 {
            let few = survival(&vec!["a"; count]);
            assert_eq!((few.spare(), few.cautions().len()), (0, 1));
        }
        assert!(survival(&["", ""]).cautions()[0].starts_with("2 nodes, 2 must agree: the loss of any one stops"));
    }

    proptest! {
        /// S1 against trying every set of sites.
        #[test]
        fn any_means_any(sites in proptest::collection::vec(0_usize..6, 1..14)) {
            let names: Vec<String> = sites.iter().map(|site| format!("s{site}")).collect();
            let survival = survival(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let survives = |lost: u32| sites.iter().filter(|site| lost & (1 << **site) == 0).count() >= survival.quorum;
            let present = sites.iter().fold(0_u32, |present, site| present | (1 << site));
            let sets = || (0_u32..64).filter(|lost| lost & !present == 0);
            let any = (0..=present.count_ones()).take_while(|size| sets().filter(|lost| lost.count_ones() == *size).all(survives)).last();
            prop_assert_eq!(survival.by_domain[1].any, usize::try_from(any.unwrap()).unwrap());
            let fatal = sets().filter(|lost| lost.is_power_of_two() && !survives(*lost)).count();
            prop_assert_eq!(survival.by_domain[1].fatal.len(), fatal);
        }
    }
}
