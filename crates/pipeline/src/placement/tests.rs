use super::*;

fn site(id: u8, device: u64, provider: Option<&str>, region: Option<&str>) -> SiteDomain {
    SiteDomain {
        site: SiteId::new([id; 32]),
        device,
        provider: provider.map(str::to_owned),
        region: region.map(str::to_owned),
    }
}

fn apart(count: u8) -> Vec<SiteDomain> {
    (0..count).map(|id| site(id, id.into(), None, None)).collect()
}

fn code(data: u16, parity: u16) -> Code {
    Code::try_new(data, parity).unwrap()
}

const STRIPE: StripeId = StripeId::new([77; 32]);

#[test]
fn six_folders_on_one_disk_have_w_2_and_wd_0_and_are_told_so() {
    let sites: Vec<_> = (0..6).map(|id| site(id, 1, None, None)).collect();
    assert_eq!(plan(code(4, 2), &sites, &STRIPE).unwrap().durability, Durability { d: 6, w: 2, wd: 0 });
    let survey = survey(code(4, 2), &sites).unwrap();
    assert_eq!(
        survey.lines(),
        [
            "4+2 over 6 sites: any 2 may vanish (w = 2, wd = 0)",
            "any 2 sites may vanish, but not any one device, provider or region",
            "6 sites lie on one device and fail together with it",
        ]
    );
}

#[test]
fn more_sites_are_not_always_safer() {
    let four = survey(code(8, 4), &apart(4)).unwrap();
    assert_eq!(four.remarks, [Remark::MoreIsNotSafer { sites: 4, enough: 3, losses: 1 }]);
    assert!(four.lines()[1].contains("more sites are not safer here"));
    assert_eq!(survey(code(8, 4), &apart(3)).unwrap().remarks, []);
    assert_eq!(survey(code(8, 4), &apart(6)).unwrap().remarks, []);
    assert_eq!(survey(code(4, 2), &apart(6)).unwrap().remarks, []);
}

#[test]
fn regions_share_the_load() {
    let sites: Vec<_> = [("north", 0), ("north", 1), ("south", 2), ("south", 3), ("west", 4), ("west", 5)]
        .map(|(region, id)| site(id, id.into(), None, Some(region)))
        .to_vec();
    assert_eq!(plan(code(4, 2), &sites, &STRIPE).unwrap().durability, Durability { d: 6, w: 2, wd: 1 });
    // Three of four sites are enough for 2+1; the lonely region is always used.
    let sites = [("a", 0), ("a", 1), ("a", 2), ("b", 3)].map(|(r, id)| site(id, id.into(), None, Some(r)));
    for first in 0..=255 {
        let placement = plan(code(2, 1), &sites, &StripeId::new([first; 32])).unwrap();
        assert!(placement.sites.contains(&SiteId::new([3; 32])));
    }
}

#[test]
fn too_few_sites_are_refused_with_what_they_would_survive() {
    assert_eq!(sites_needed(code(4, 2)), 3);
    assert_eq!(sites_needed(code(2, 0)), 2);
    assert_eq!(plan(code(4, 2), &apart(3), &STRIPE).unwrap().durability.w, 1);
    let error = plan(code(4, 2), &apart(2), &STRIPE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a 4+2 code needs at least 3 sites, there are 2: no loss of a site would be survivable"
    );
    assert_eq!(plan(code(4, 2), &[], &STRIPE), Err(PlacementError::NoSites));
    assert_eq!(survey(code(4, 2), &[]), Err(PlacementError::NoSites));
    let degraded = plan_degraded(code(4, 2), &apart(2), &STRIPE).unwrap();
    assert_eq!(degraded.durability, Durability { d: 6, w: 0, wd: 0 });
    assert_eq!(plan(code(1, 0), &apart(1), &STRIPE).unwrap().durability, Durability { d: 1, w: 0, wd: 0 });
    assert_eq!(survey(code(2, 0), &apart(2)).unwrap().remarks, [Remark::NoParity]);
}

#[test]
fn one_site_named_twice_is_one_site() {
    let twice = [apart(2), apart(2)].concat();
    assert!(matches!(plan(code(4, 2), &twice, &STRIPE), Err(PlacementError::TooFewSites { sites: 2, .. })));
}

#[test]
fn stripes_share_the_load() {
    let sites = apart(8);
    let mut loads: BTreeMap<SiteId, u32> = BTreeMap::new();
    for first in 0..=255 {
        for site in plan(code(4, 2), &sites, &StripeId::new([first; 32])).unwrap().sites {
            *loads.entry(site).or_default() += 1;
        }
    }
    assert_eq!(loads.len(), 8);
    assert!(loads.values().all(|load| *load == 256 * 6 / 8), "{loads:?}");
}

#[test]
fn shards_that_are_not_durable_count_as_lost() {
    let sites = apart(6);
    assert_eq!(durability_of(code(4, 2), &sites[..5]), Durability { d: 5, w: 1, wd: 1 });
    assert_eq!(durability_of(code(4, 2), &sites[..4]), Durability { d: 4, w: 0, wd: 0 });
    assert_eq!(durability_of(code(4, 2), &sites[..3]), Durability { d: 3, w: 0, wd: 0 });
    assert_eq!(durability_of(code(4, 2), &[]), Durability { d: 0, w: 0, wd: 0 });
}
