//! Rules of retention on a real ledger: what the CLI tells is what the contract does, and what nobody may do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B256, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_homes::{Embedded, Options};
use blockhouse_ledger::Request;
use blockhouse_ledger::contracts::Vault as VaultContract;
use blockhouse_types::{SnapshotId, SourceId};
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::forget::{self, Plan};
use blockhouse_vault::init::init;
use blockhouse_vault::ledger::{Commit, WriterRecord, address};
use blockhouse_vault::progress::Progress;
use blockhouse_vault::prune::{PruneError, PruneRequest, prune};
use blockhouse_vault::retention::{self, Keep, Reason, Rule};
use blockhouse_vault::unlock::Unlocked;
use blockhouse_vault::vault::{Settings, Vault};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::requests::to_init;

const DAY: u64 = 86_400;
const SOURCE: SourceId = SourceId::new([0x50; 32]);

/// A vault whose clock the test sets and whose snapshots have nothing in them but their record.
struct World {
    base: tempfile::TempDir,
    clock: Arc<AtomicU64>,
    other: AccountSecret,
}

impl World {
    async fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_800_000_000));
        let other = AccountSecret::try_new(&Secret::new([0x77; 32])).unwrap();
        let world = Self { base, clock, other };
        init(to_init(world.base.path(), [world.path("site")]), world.settings()).await.unwrap();
        let record = WriterRecord {
            account: world.other.account(),
            active: true,
            host_stolen: false,
            predecessor: None,
            predecessor_last_block: 0,
        };
        world.open().await.ledger_as(&world.owner()).enrol_writer(record).await.unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn settings(&self) -> Settings {
        let clock = Arc::clone(&self.clock);
        Settings { clock: Arc::new(move || clock.load(Ordering::SeqCst)), ..Settings::default() }
    }

    async fn open(&self) -> Vault {
        Vault::open(VaultFolder::new(self.path("vault")), self.settings()).await.unwrap()
    }

    fn unlocked(&self) -> Unlocked {
        Unlocked::identity(self.path("identity"), None, None).unwrap()
    }

    fn owner(&self) -> AccountSecret {
        self.unlocked().recovery_account().unwrap()
    }

    fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Records a snapshot by an account, as a stolen one could.
    async fn commit(&self, vault: &Vault, writer: &AccountSecret) -> SnapshotId {
        self.commit_with(vault, writer, Vec::new()).await
    }

    /// The same with tags that stand in the commit alone, as those of a backup do that knew of no contract for them.
    async fn commit_with(&self, vault: &Vault, writer: &AccountSecret, tags: Vec<B256>) -> SnapshotId {
        let ledger = vault.ledger_as(writer);
        let session = ledger.open_session(3_600).await.unwrap();
        let id = rand::random();
        let commit = Commit {
            session: B256::new(session.id.to_bytes()),
            source: B256::new(SOURCE.to_bytes()),
            snapshot: B256::new(id),
            objectHash: B256::repeat_byte(1),
            listRoot: B256::repeat_byte(2),
            tags,
            recipients: B256::new(ledger.default_recipients().await.unwrap().to_bytes()),
            ..Commit::default()
        };
        ledger.commit(commit).await.unwrap();
        SnapshotId::new(id)
    }

    /// Forgets a snapshot with the writer's account and leaves it in its timeline.
    async fn forget_alone(&self, vault: &Vault, snapshot: SnapshotId) {
        let (secrets, entry) = (vault.secrets().unwrap(), &vault.config().ledger);
        let who = address(secrets.writer.account());
        let key = Arc::new(LedgerKey::from_seed(&secrets.ledger_seed));
        let home = Embedded::new(Options::sealer(vault.folder().ledger(), self.settings().clock, key));
        let nonce = home.read(move |store| store.state().account(&who).unwrap().map_or(0, |it| it.nonce));
        let request = Request {
            chain_id: entry.chain_id,
            nonce: nonce.await.unwrap(),
            to: TxKind::Call(address(entry.vault)),
            input: VaultContract::forgetCall { id: B256::new(snapshot.to_bytes()) }.abi_encode().into(),
            gas: 2_000_000,
        };
        home.seal(vec![request.sign(&secrets.writer).encoded_2718().into()]).await.unwrap();
    }
}

/// The table that `forget` shows is worked out without the contract, by another calendar. Over random histories of two signers both say
/// the same of every snapshot, before and after what goes is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_and_the_contract_agree() {
    let world = World::new().await;
    let vault = world.open().await;
    let own = vault.secrets().unwrap().writer.clone();
    let seed = std::env::var("BLOCKHOUSE_SEED").map_or(1, |text| text.parse().unwrap());
    println!("replay with BLOCKHOUSE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..5 {
        for _ in 0..8 {
            world.pass([40, 2_000, 7_200, DAY, 8 * DAY, 45 * DAY][random.random_range(0..6)]);
            let writer = if random.random_bool(0.3) { &world.other } else { &own };
            world.commit(&vault, writer).await;
        }
        let mut some = |most: u32| random.random_range(0..most);
        let keep =
            Keep { last: some(3), hourly: some(3), daily: some(4), weekly: some(3), monthly: some(3), yearly: 1 };
        let rule = Rule { keep, within: u64::from(some(9)) * DAY, tags: Vec::new(), minimum_age: DAY };
        retention::lay_down(&vault, &world.unlocked(), &rule, &BTreeSet::new()).await.unwrap();
        forget::prepare(&vault).await.unwrap();
        let survey = retention::survey(&vault, None).await.unwrap();
        for verdict in &survey.verdicts {
            let record = &verdict.known.record;
            let may = vault.ledger().may_remove(own.account(), (SOURCE, record.id), record.time).await.unwrap();
            assert_eq!(may, verdict.goes(), "{rule:?}: {:?}", verdict.reasons);
        }
        let plan = Plan::of_survey(&survey, |_| true);
        let done = forget::execute(&vault, &plan, None, &Progress::new()).await.unwrap();
        assert_eq!((done.forgotten.len(), done.refused.len()), (plan.forgettings.len(), 0));
        let left = retention::survey(&vault, None).await.unwrap();
        assert!(left.verdicts.iter().all(|verdict| !verdict.goes()), "what is left stays");
    }
}

/// A stolen writer account fills the ledger with fakes, and asks for everything of the other writer.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_writer_displaces_nothing_of_another() {
    let world = World::new().await;
    let vault = world.open().await;
    let rule = Rule { keep: Keep { last: 1, daily: 2, ..Keep::default() }, ..Rule::default() };
    retention::lay_down(&vault, &world.unlocked(), &rule, &BTreeSet::new()).await.unwrap();
    let mut good = Vec::new();
    for _ in 0..2 {
        world.pass(DAY);
        good.push(world.commit(&vault, &world.other).await);
    }
    let own = vault.secrets().unwrap().writer.clone();
    for _ in 0..6 {
        world.pass(DAY);
        world.commit(&vault, &own).await;
    }
    forget::prepare(&vault).await.unwrap();
    let survey = retention::survey(&vault, None).await.unwrap();
    let all: Vec<_> = survey.verdicts.iter().collect();
    let done = forget::execute(&vault, &Plan::of(&all), None, &Progress::new()).await.unwrap();
    assert!(good.iter().all(|id| !done.forgotten.contains(id)), "{done:?}");
    assert_eq!(done.forgotten.len(), 4, "of its own all but the two that are kept: {done:?}");
}

/// A clock that runs ahead ends minimum ages, and no more: what the rule keeps stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ahead_ends_ages_and_displaces_nothing() {
    let world = World::new().await;
    let vault = world.open().await;
    let own = vault.secrets().unwrap().writer.clone();
    let rule = Rule { keep: Keep { last: 2, ..Keep::default() }, minimum_age: 7 * DAY, ..Rule::default() };
    retention::lay_down(&vault, &world.unlocked(), &rule, &BTreeSet::new()).await.unwrap();
    for _ in 0..3 {
        world.pass(60);
        world.commit(&vault, &own).await;
    }
    forget::prepare(&vault).await.unwrap();
    let survey = retention::survey(&vault, None).await.unwrap();
    assert!(survey.verdicts[0].reasons.iter().all(|reason| matches!(reason, Reason::Young { .. })));
    let all: Vec<_> = survey.verdicts.iter().collect();
    let early = forget::execute(&vault, &Plan::of(&all), Some(&world.unlocked()), &Progress::new()).await.unwrap();
    assert_eq!((early.forgotten.len(), early.refused.len()), (0, 3), "the owner neither");
    world.pass(300 * DAY);
    let done = forget::execute(&vault, &Plan::of(&all), None, &Progress::new()).await.unwrap();
    assert_eq!(done.forgotten, [survey.verdicts[0].known.record.id]);
}

/// Where one removal of several fails when it is sealed, what drops all of them from their timeline fails too: they once stayed there for
/// ever, and every later removal walked past them. The next one takes them out.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_and_not_dropped_is_dropped_by_the_next_removal() {
    let world = World::new().await;
    let vault = world.open().await;
    let own = vault.secrets().unwrap().writer.clone();
    let mut made = Vec::new();
    for _ in 0..4 {
        world.pass(60);
        made.push(world.commit(&vault, &own).await);
    }
    let rule = Rule { keep: Keep { last: 1, ..Keep::default() }, ..Rule::default() };
    retention::lay_down(&vault, &world.unlocked(), &rule, &BTreeSet::new()).await.unwrap();
    world.pass(60);
    world.forget_alone(&vault, made[0]).await;
    world.forget_alone(&vault, made[1]).await;
    let held = async |place| vault.ledger().is_in_timeline(SOURCE, place).await.unwrap();
    assert!(held(1).await && held(2).await);
    world.pass(60);
    let survey = retention::survey(&vault, None).await.unwrap();
    let plan = Plan::of_survey(&survey, |verdict| verdict.known.record.id == made[2]);
    let done = forget::execute(&vault, &plan, None, &Progress::new()).await.unwrap();
    assert_eq!(done.forgotten, [made[2]]);
    assert!(!held(1).await && !held(2).await && !held(3).await && held(4).await);
}

/// A backup that was under way when the first rule was laid down knew of no contract for its tags: they stood in its commit alone, where
/// the rule cannot read them, and whoever had the writer's account could forget it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_stands_in_the_commit_alone_comes_to_be_kept() {
    let world = World::new().await;
    let vault = world.open().await;
    let own = vault.secrets().unwrap().writer.clone();
    let tag = [7; 32];
    let keep = Keep { last: 1, ..Keep::default() };
    let rule = Rule { keep, tags: vec![tag], ..Rule::default() };
    retention::lay_down(&vault, &world.unlocked(), &rule, &BTreeSet::new()).await.unwrap();
    let tagged = world.commit_with(&vault, &own, vec![B256::new(tag)]).await;
    world.pass(60);
    world.commit(&vault, &own).await;
    forget::prepare(&vault).await.unwrap();
    assert!(vault.ledger().has_tag(tagged, B256::new(tag)).await.unwrap());
    let survey = retention::survey(&vault, None).await.unwrap();
    let all: Vec<_> = survey.verdicts.iter().collect();
    let done = forget::execute(&vault, &Plan::of(&all), None, &Progress::new()).await.unwrap();
    assert_eq!((done.forgotten.len(), done.refused.len()), (0, 2), "{done:?}");
}

/// A stolen writer stops every prune with one commit of a list that is nowhere: the error names it, and the owner ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_nowhere_stops_a_prune_until_the_owner_forgets_it() {
    let world = World::new().await;
    let vault = world.open().await;
    let fake = world.commit(&vault, &world.other).await;
    let refused = prune(&vault, PruneRequest::default(), &Progress::new()).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("`blockhouse forget {fake} --identity FILE`")), "{refused}");
    let PruneError::Needed { snapshots, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(snapshots, [(fake, world.other.account())]);
    world.pass(60);
    retention::lay_down(&vault, &world.unlocked(), &Rule::all(), &BTreeSet::new()).await.unwrap();
    let survey = retention::survey(&vault, None).await.unwrap();
    let all: Vec<_> = survey.verdicts.iter().collect();
    let done = forget::execute(&vault, &Plan::of(&all), Some(&world.unlocked()), &Progress::new()).await.unwrap();
    assert_eq!(done.forgotten, [fake]);
    assert!(prune(&vault, PruneRequest::default(), &Progress::new()).await.unwrap().is_finished());
}

/// A source of its own rule goes back to the default, and only then.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_taken_back_leaves_the_default() {
    let world = World::new().await;
    let vault = world.open().await;
    let own = vault.secrets().unwrap().writer.clone();
    for _ in 0..3 {
        world.pass(60);
        world.commit(&vault, &own).await;
    }
    let (default, of_source) = (Keep { last: 1, ..Keep::default() }, BTreeSet::from([SOURCE]));
    let rule = |keep| Rule { keep, ..Rule::default() };
    retention::lay_down(&vault, &world.unlocked(), &rule(default), &BTreeSet::new()).await.unwrap();
    let all = Keep { last: 9, ..Keep::default() };
    world.pass(60);
    retention::lay_down(&vault, &world.unlocked(), &rule(all), &of_source).await.unwrap();
    let going = async || retention::survey(&vault, None).await.unwrap().verdicts.iter().filter(|it| it.goes()).count();
    assert_eq!(going().await, 0);
    retention::take_back(&vault, &world.unlocked(), &of_source).await.unwrap();
    assert_eq!(going().await, 2);
    assert_eq!(vault.ledger().policy(Some(SOURCE)).await.unwrap(), vault.ledger().policy(None).await.unwrap());
}

/// Many are forgotten in few blocks.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_are_forgotten_in_few_blocks() {
    let world = World::new().await;
    let vault = world.open().await;
    let own = vault.secrets().unwrap().writer.clone();
    for _ in 0..100 {
        world.pass(600);
        world.commit(&vault, &own).await;
    }
    let rule = Rule { keep: Keep { last: 1, daily: 7, weekly: 4, ..Keep::default() }, ..Rule::default() };
    retention::lay_down(&vault, &world.unlocked(), &rule, &BTreeSet::new()).await.unwrap();
    forget::prepare(&vault).await.unwrap();
    let before = vault.standing().await.unwrap().height;
    let survey = retention::survey(&vault, None).await.unwrap();
    let plan = Plan::of_survey(&survey, |_| true);
    let done = forget::execute(&vault, &plan, None, &Progress::new()).await.unwrap();
    assert!(done.forgotten.len() >= 97 && done.refused.is_empty(), "{done:?}");
    let blocks = vault.standing().await.unwrap().height - before;
    println!("{} snapshots were forgotten in {blocks} blocks", done.forgotten.len());
    assert!(blocks <= 10, "{blocks}");
}
