//! Taking away: what is not in the snapshot, and what killed restores left.
//!
//! - **Owns** the removal of a name with all that is in it, below the target only.
//! - **Does not** decide what is to go; what of it stays all the same, [`super::spared`] knows.
//!
//! # Invariants
//! - **K1** No link is followed, and nothing but leftovers of restores is removed on another file system than the target's: a name
//!   there is refused, and with it all that holds it, before anything of it is removed.
//! - **K2** What is spared stays, with the folders that hold it.

use std::collections::HashSet;

use blockhouse_types::EntryKind;
use rustix::{
    fs::{AtFlags, FileType, statat, unlinkat},
    io::Errno,
};

use super::{
    Mark, ParkedFile, RestoreError, RestorePath, RestoreTarget, TEMPORARY_PREFIX, failed,
    spared::{Spared, SparedBelow, SparedIn, says_what_is_spared},
    spot::{Spot, temporary_name},
    writer,
};
use crate::files::{
    found::{Identity, kind_of},
    list::{Named, names},
    trail::{Open, Trail},
};

/// What was taken away, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Names.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Names that were spared, and stay with all that is in them.
    pub spared: u64,
}

/// A name in a folder of the target that may have to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayGo {
    /// The name.
    pub name: Vec<u8>,
    /// Whether it stays all the same.
    pub is_spared: bool,
}

impl RestoreTarget {
    /// What [`RestoreTarget::may_go`] and [`RestoreTarget::remove`] leave where it is; nothing until this is called.
    pub fn spare(&mut self, spared: Spared) {
        self.spared = Some(spared);
    }

    /// The names in a folder of the target, as [`RestoreTarget::names_in`] gives them, and what rules what is below. On another file
    /// system than the target's all are spared (K1).
    pub fn may_go(
        &mut self,
        folder: &RestorePath,
        outer: &SparedBelow,
    ) -> Result<(Vec<MayGo>, SparedBelow), RestoreError> {
        let found = self.all_in(folder)?;
        if found.is_empty() {
            return Ok((Vec::new(), outer.clone()));
        }
        let open = self.folder(folder)?;
        let is_elsewhere = open.node().device != self.base.node().device;
        let within = self.spared.as_ref().map(|spared| spared.within(outer, &open, folder, &found));
        let is_spared = |named: &Named| {
            let by_rule = within.as_ref().is_some_and(|within| {
                folder.join(&named.name).is_ok_and(|path| within.by_name(&path, named))
                    || says_what_is_spared(&named.name)
            });
            is_elsewhere || by_rule
        };
        let names = found.iter().filter(|named| !named.name.starts_with(TEMPORARY_PREFIX.as_bytes()));
        let names = names.map(|named| MayGo { name: named.name.clone(), is_spared: is_spared(named) }).collect();
        Ok((names, within.map_or_else(|| outer.clone(), |within| within.rules())))
    }

    /// The names in a folder of the target, but for temporary ones, by ascending bytes; none if it is no folder.
    pub fn names_in(&mut self, folder: &RestorePath) -> Result<Vec<Vec<u8>>, RestoreError> {
        let found = self.all_in(folder)?.into_iter().map(|Named { name, .. }| name);
        Ok(found.filter(|name| !name.starts_with(TEMPORARY_PREFIX.as_bytes())).collect())
    }

    /// True if nothing is in the target, but perhaps something of this name.
    pub fn is_empty_but(&mut self, name: &[u8]) -> Result<bool, RestoreError> {
        self.all_in(&RestorePath::target()).map(|found| found.iter().all(|named| named.name == name))
    }

    /// True if killed restores left something in a folder.
    pub fn has_temporaries(&mut self, folder: &RestorePath) -> Result<bool, RestoreError> {
        Ok(self.all_in(folder)?.iter().any(|named| is_left_behind(&named.name)))
    }

    /// Removes what killed restores left in a folder, but for the files of these marks.
    pub fn clear_temporaries(&mut self, folder: &RestorePath, wanted: &HashSet<Mark>) -> Result<Cleared, RestoreError> {
        let mut left = self.all_in(folder)?;
        let wanted: HashSet<Vec<u8>> = wanted.iter().map(|Mark(mark)| temporary_name(*mark)).collect();
        left.retain(|Named { name, .. }| is_left_behind(name) && !wanted.contains(name));
        let (open, mut cleared) = (self.folder(folder)?, Cleared::default());
        for Named { name, .. } in left {
            let bytes = size_of(&open, &name);
            if unlinkat(&open, name.as_slice(), AtFlags::empty()).is_ok() {
                cleared.entries += 1;
                cleared.bytes += bytes;
            }
        }
        Ok(cleared)
    }

    /// Removes a name of the target with all that is in it and is not spared; with `only_look` it only counts. `rules` are those of
    /// the folder that holds it.
    pub fn remove(
        &mut self,
        path: &RestorePath,
        rules: &SparedBelow,
        only_look: bool,
    ) -> Result<Cleared, RestoreError> {
        let spot = self.spot(path)?;
        let device = self.base.node().device;
        let spared = self.spared.as_ref();
        // Looked at first, so that what holds another file system loses nothing.
        let mut removal = Removal { spot: &spot, rules, spared, device, only_look: true, cleared: Cleared::default() };
        removal.run()?;
        if !only_look {
            removal = Removal { only_look: false, cleared: Cleared::default(), ..removal };
            removal.run()?;
        }
        Ok(removal.cleared)
    }

    /// Lets a folder go, as [`RestoreTarget::remove`] does, at the instant before something else gets its name.
    pub fn let_give_way(&mut self, path: &RestorePath, rules: &SparedBelow) {
        self.giving_way.insert(path.clone(), rules.clone());
    }

    /// Removes the folder at a path if it is to give way. For files whoever finishes the writer asks for it.
    pub fn clear_way(&mut self, path: &RestorePath) -> Result<(), RestoreError> {
        let Some(rules) = self.giving_way.remove(path) else { return Ok(()) };
        if self.spot(path)?.kind() == Some(EntryKind::Directory) {
            self.remove(path, &rules, false)?;
        }
        Ok(())
    }

    /// Removes a file that was put aside.
    pub fn discard(&mut self, parked: &ParkedFile) -> Result<(), RestoreError> {
        let spot = self.spot(parked.path())?;
        writer::discard(&spot, parked);
        Ok(())
    }

    fn all_in(&mut self, folder: &RestorePath) -> Result<Vec<Named>, RestoreError> {
        match self.folder(folder) {
            Err(RestoreError::System { source: Errno::NOENT | Errno::NOTDIR | Errno::LOOP, .. }) => Ok(Vec::new()),
            open => names(&open?).map_err(failed("list", folder)),
        }
    }

    fn folder(&mut self, folder: &RestorePath) -> Result<Open, RestoreError> {
        if folder.is_target() {
            return Ok(self.base.clone());
        }
        let spot = self.spot(folder)?;
        spot.folder.child(&spot.name).map_err(failed("open the folder", folder))
    }
}

/// A temporary name as restores give them: the prefix and sixteen digits.
fn is_left_behind(name: &[u8]) -> bool {
    let digits = name.strip_prefix(TEMPORARY_PREFIX.as_bytes());
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

fn size_of(folder: &Open, name: &[u8]) -> u64 {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if kind_of(FileType::from_raw_mode(stat.st_mode)) == EntryKind::File => Identity::of(&stat).size,
        _ => 0,
    }
}

/// One name on its way out.
struct Removal<'a> {
    spot: &'a Spot,
    rules: &'a SparedBelow,
    spared: Option<&'a Spared>,
    /// That of the target.
    device: u64,
    only_look: bool,
    cleared: Cleared,
}

/// A folder that is being emptied.
struct Emptying<'a> {
    /// What is still to be looked at, the next one last.
    inside: Vec<Named>,
    spared: Option<SparedIn<'a>>,
    /// Whether something in it stays.
    stays: bool,
}

impl<'a> Removal<'a> {
    fn run(&mut self) -> Result<(), RestoreError> {
        let Spot { folder, name, path } = self.spot;
        self.same_device(folder)?;
        let is_spared = |spared: &Spared| {
            spared.is_named(path) || spared.within(self.rules, folder, path, &[]).by_flag(folder, name)
        };
        if self.spared.is_some_and(is_spared) {
            self.cleared.spared += 1;
            return Ok(());
        }
        if self.spot.kind() == Some(EntryKind::Directory) {
            return self.folder();
        }
        self.cleared.bytes += size_of(folder, name);
        self.take(folder, name, AtFlags::empty())
    }

    fn folder(&mut self) -> Result<(), RestoreError> {
        let top = self.spot.folder.child(&self.spot.name).map_err(self.fail())?;
        let mut path = self.spot.path.clone();
        let mut levels = vec![self.enter(&top, &path, self.rules)?];
        let mut trail = Trail::new(top);
        while let Some(level) = levels.last_mut() {
            let folder = trail.current().map_err(self.fail())?;
            let Some(named) = level.inside.pop() else {
                let stays = level.stays;
                levels.pop();
                let Some(above) = levels.last_mut() else { return self.take_emptied(&self.spot.folder, &path, stays) };
                above.stays |= stays;
                trail.pop();
                let folder = trail.current().map_err(self.fail())?;
                self.take_emptied(&folder, &path, stays)?;
                path = path.split_last().map(|(above, _)| above).unwrap_or_default();
                continue;
            };
            // A name that the system gave us is one.
            let Ok(below) = path.join(&named.name) else { continue };
            if level.spares(&folder, &below, &named) {
                level.stays = true;
                self.cleared.spared += 1;
            } else if named.kind == EntryKind::Directory {
                let rules = level.spared.as_ref().map_or_else(|| self.rules.clone(), SparedIn::rules);
                let open = folder.child(&named.name).map_err(self.fail())?;
                levels.push(self.enter(&open, &below, &rules)?);
                trail.push(&named.name, open);
                path = below;
            } else {
                self.cleared.bytes += size_of(&folder, &named.name);
                self.take(&folder, &named.name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    fn enter(&self, open: &Open, path: &RestorePath, rules: &SparedBelow) -> Result<Emptying<'a>, RestoreError> {
        self.same_device(open)?;
        let mut inside = names(open).map_err(self.fail())?;
        let spared = self.spared.map(|spared| spared.within(rules, open, path, &inside));
        // They stay only if something else does, so they come last.
        inside.sort_by_key(|named| !says_what_is_spared(&named.name));
        Ok(Emptying { inside, spared, stays: false })
    }

    /// Removes a folder that is empty by now, unless something in it stays.
    fn take_emptied(&mut self, folder: &Open, path: &RestorePath, stays: bool) -> Result<(), RestoreError> {
        match path.split_last() {
            Some((_, name)) if !stays => self.take(folder, name, AtFlags::REMOVEDIR),
            _ => Ok(()),
        }
    }

    fn take(&mut self, folder: &Open, name: &[u8], flags: AtFlags) -> Result<(), RestoreError> {
        self.cleared.entries += 1;
        if self.only_look {
            return Ok(());
        }
        unlinkat(folder, name, flags).map_err(self.fail())
    }

    /// K1. The device of a folder says that of what is in it: of files some file systems tell another.
    fn same_device(&self, folder: &Open) -> Result<(), RestoreError> {
        if folder.node().device == self.device {
            return Ok(());
        }
        Err(RestoreError::OtherFileSystem { path: self.spot.path.clone() })
    }

    fn fail(&self) -> impl FnOnce(Errno) -> RestoreError + use<'a> {
        failed("remove", &self.spot.path)
    }
}

impl Emptying<'_> {
    fn spares(&self, folder: &Open, path: &RestorePath, named: &Named) -> bool {
        let Some(spared) = &self.spared else { return false };
        let is_spared = spared.by_name(path, named) || spared.by_flag(folder, &named.name);
        is_spared || (self.stays && says_what_is_spared(&named.name))
    }
}
