//! The engine of the virtual disk: the store's in-memory twin, with a record of what was written
//! and with moments at which a write does not come back.

use std::sync::{Arc, Mutex, MutexGuard};

use store::{
    Direction, Engine, EngineError, KeyBuf, KeyRange, Load, Memory, Op, Ops, Table, Visit,
};

/// One change that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) table: Table,
    pub(crate) key: Vec<u8>,
    /// None for the first key of a range that was deleted.
    pub(crate) value: Option<Vec<u8>>,
}

/// One write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    pub(crate) changes: Vec<Change>,
    /// It came back as done; otherwise a crash may keep it or not.
    pub(crate) is_done: bool,
}

#[derive(Debug, Default)]
struct State {
    written: Vec<Written>,
    /// The write before which the process dies: 0 for the next one.
    dies_before: Option<u64>,
    is_dead: bool,
    /// The write that it died before was to delete something.
    died_at_a_deletion: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Platter {
    pub(crate) memory: Memory,
    state: Mutex<State>,
}

impl Platter {
    pub(crate) fn of(memory: Memory) -> Arc<Self> {
        Arc::new(Self { memory, state: Mutex::default() })
    }

    /// The process dies before the write of this number, counted from now.
    pub(crate) fn dies_before(&self, write: Option<u64>) {
        let mut state = self.lock();
        (state.dies_before, state.is_dead) = (write, false);
    }

    /// Whether the write before which the process died was to delete something.
    pub(crate) fn died_at_a_deletion(&self) -> bool {
        self.lock().died_at_a_deletion
    }

    /// The writes since the last call.
    pub(crate) fn take_written(&self) -> Vec<Written> {
        std::mem::take(&mut self.lock().written)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

fn failed() -> EngineError {
    EngineError::Failed("the simulated process is dead".to_owned())
}

impl Engine for Platter {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.memory.get(table, key)
    }

    fn get_many(&self, table: Table, keys: &[KeyBuf]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        self.memory.get_many(table, keys)
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        self.memory.scan(table, range, direction, visit)
    }

    fn write(&self, groups: &mut dyn Iterator<Item = &Ops>, sync: bool) -> Result<(), EngineError> {
        let groups: Vec<&Ops> = groups.collect();
        let changes: Vec<Change> =
            groups.iter().flat_map(|ops| ops.iter()).map(Change::from).collect();
        let mut state = self.lock();
        if let Some(left) = &mut state.dies_before {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => state.is_dead = true,
            }
        }
        if state.is_dead {
            state.died_at_a_deletion = changes.iter().any(|change| change.value.is_none());
            return Err(failed());
        }
        let result = self.memory.write(&mut groups.into_iter(), sync);
        state.written.push(Written { changes, is_done: result.is_ok() });
        result
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.memory.sync()
    }

    fn memory_bytes(&self) -> u64 {
        self.memory.memory_bytes()
    }

    fn load(&self) -> Load {
        self.memory.load()
    }
}

impl From<Op<'_>> for Change {
    fn from(op: Op<'_>) -> Self {
        match op {
            Op::Put { table, key, value } => {
                Self { table, key: key.to_vec(), value: Some(value.to_vec()) }
            }
            Op::DeleteRange { table, from, .. } => Self { table, key: from.to_vec(), value: None },
        }
    }
}
