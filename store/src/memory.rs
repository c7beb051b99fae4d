//! The in-memory twin of the engine, with faults: what the simulator runs on.
//!
//! Two copies of every table. `live` is what reads see; `durable` is what survives a crash.
//! Unsynced writes wait in order in `pending`; a sync makes all of them durable; a crash keeps a
//! seeded number of the oldest, as a log whose tail was torn does. Deterministic: no thread, no
//! clock, no randomness of its own.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::engine::{Direction, Engine, Load, Op, Ops, Table, Visit};
use crate::error::EngineError;
use crate::keys::{KeyBuf, KeyRange};

/// What goes wrong from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Every write and sync fails and leaves its changes in doubt: a crash may keep them.
    Fail,
    /// As `Fail`, but the next so many writes still succeed.
    FailAfter(u64),
    /// Every write fails for want of space and leaves its changes in doubt.
    Full,
    /// Writes succeed, and `load` reports this. A twin without threads cannot block: whoever
    /// simulates a stall calls the writer later.
    Stall(Load),
}

/// A table. Shared, so that a scan keeps the one it began with while writes go on: they copy it
/// first if a scan has it.
type Map = Arc<BTreeMap<Vec<u8>, Vec<u8>>>;

#[derive(Clone, Debug)]
enum Change {
    Put { table: Table, key: Vec<u8>, value: Vec<u8> },
    DeleteRange { table: Table, from: Vec<u8>, to: Vec<u8> },
}

#[derive(Clone, Debug, Default)]
struct State {
    live: [Map; 4],
    durable: [Map; 4],
    pending: VecDeque<Vec<Change>>,
    fault: Fault,
    write_count: u64,
}

/// An engine in memory.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

impl Memory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what goes wrong from now on.
    pub fn set_fault(&self, fault: Fault) {
        self.lock().fault = fault;
    }

    /// Writes since it was made, failed ones included.
    #[must_use]
    pub fn write_count(&self) -> u64 {
        self.lock().write_count
    }

    /// What a restart finds after a crash now: everything synced, and of the writes that were not
    /// synced (or whose sync failed) the oldest few, how many the seed decides.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let pending = self.lock().pending.len();
        let kept = mix(seed) % (pending as u64 + 1);
        self.crash_keeping(usize::try_from(kept).expect("at most as many as are pending"))
    }

    /// As [`Self::crash`], with so many of the writes that were not synced.
    #[must_use]
    pub fn crash_keeping(&self, kept: usize) -> Self {
        let mut state = self.lock().clone();
        for changes in state.pending.drain(..).take(kept) {
            apply(&mut state.durable, &changes);
        }
        let durable = state.durable;
        Self { state: Mutex::new(State { live: durable.clone(), durable, ..State::default() }) }
    }

    /// Overwrites a record behind the store's back, as a damaged disk does.
    pub fn corrupt(&self, table: Table, key: &[u8], value: &[u8]) {
        let mut state = self.lock();
        let state = &mut *state;
        for tables in [&mut state.live, &mut state.durable] {
            Arc::make_mut(&mut tables[table as usize]).insert(key.to_vec(), value.to_vec());
        }
    }

    /// Removes a record behind the store's back.
    pub fn lose(&self, table: Table, key: &[u8]) {
        let mut state = self.lock();
        let state = &mut *state;
        for tables in [&mut state.live, &mut state.durable] {
            Arc::make_mut(&mut tables[table as usize]).remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

impl Engine for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.lock().live[table as usize].get(key).cloned())
    }

    fn get_many(&self, table: Table, keys: &[KeyBuf]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let state = self.lock();
        Ok(keys.iter().map(|key| state.live[table as usize].get(key.as_ref()).cloned()).collect())
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        if range.from >= range.to {
            return Ok(());
        }
        let map = Arc::clone(&self.lock().live[table as usize]);
        let bounds = (Bound::Included(range.from.as_ref()), Bound::Excluded(range.to.as_ref()));
        let entries = map.range::<[u8], _>(bounds);
        let mut step = |(key, value): (&Vec<u8>, &Vec<u8>)| visit(key, value);
        let _: ControlFlow<()> = match direction {
            Direction::Forward => entries.into_iter().try_for_each(&mut step),
            Direction::Backward => entries.into_iter().rev().try_for_each(&mut step),
        };
        Ok(())
    }

    fn write(&self, groups: &mut dyn Iterator<Item = &Ops>, sync: bool) -> Result<(), EngineError> {
        let changes: Vec<Change> = groups.flat_map(Ops::iter).map(Change::from).collect();
        let mut state = self.lock();
        state.write_count += 1;
        let fault = state.fault;
        if let Fault::FailAfter(writes @ 1..) = fault {
            state.fault = Fault::FailAfter(writes - 1);
        }
        match fault {
            Fault::Fail | Fault::FailAfter(0) => {
                state.pending.push_back(changes);
                Err(EngineError::Failed("the simulated disk failed".to_owned()))
            }
            Fault::Full => {
                state.pending.push_back(changes);
                Err(EngineError::NoSpace("the simulated disk is full".to_owned()))
            }
            Fault::None | Fault::FailAfter(_) | Fault::Stall(_) => {
                apply(&mut state.live, &changes);
                state.pending.push_back(changes);
                if sync {
                    state.make_durable();
                }
                Ok(())
            }
        }
    }

    fn sync(&self) -> Result<(), EngineError> {
        let mut state = self.lock();
        if matches!(state.fault, Fault::Fail | Fault::FailAfter(0)) {
            return Err(EngineError::Failed("the simulated disk failed".to_owned()));
        }
        state.make_durable();
        Ok(())
    }

    /// What it holds stands for a disk.
    fn memory_bytes(&self) -> u64 {
        0
    }

    fn load(&self) -> Load {
        match self.lock().fault {
            Fault::Stall(load) => load,
            Fault::None | Fault::Fail | Fault::FailAfter(_) | Fault::Full => Load::default(),
        }
    }
}

impl State {
    fn make_durable(&mut self) {
        for changes in self.pending.drain(..) {
            apply(&mut self.durable, &changes);
        }
    }
}

impl From<Op<'_>> for Change {
    fn from(op: Op<'_>) -> Self {
        match op {
            Op::Put { table, key, value } => {
                Self::Put { table, key: key.to_vec(), value: value.to_vec() }
            }
            Op::DeleteRange { table, from, to } => {
                Self::DeleteRange { table, from: from.to_vec(), to: to.to_vec() }
            }
        }
    }
}

fn apply(tables: &mut [Map; 4], changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put { table, key, value } => {
                Arc::make_mut(&mut tables[*table as usize]).insert(key.clone(), value.clone());
            }
            Change::DeleteRange { table, from, to } => {
                let map = Arc::make_mut(&mut tables[*table as usize]);
                let range = (Bound::Included(from.clone()), Bound::Excluded(to.clone()));
                let gone: Vec<_> = map.range(range).map(|(key, _)| key.clone()).collect();
                for key in gone {
                    map.remove(&key);
                }
            }
        }
    }
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014): spreads small seeds over all bits.
const fn mix(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}
