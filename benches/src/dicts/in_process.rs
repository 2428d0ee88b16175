//! Mappings for the threads of one process: what one costs where nothing has to be shared with other processes.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::map::{Count, Key, Map, number};
use crate::shared::shared;
use crate::variants::Site;
use crate::workload::nothing_to_keep;

fn copy(value: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
    let Some(value) = value else { return false };
    out.clear();
    out.extend_from_slice(value);
    true
}

fn plus_one(value: &[u8]) -> [u8; 8] {
    number(value).wrapping_add(1).to_le_bytes()
}

/// `Mutex<HashMap<Vec<u8>, Vec<u8>>>` of std. With `TRIM`, what is freed when it is emptied goes back to the system, as
/// if the process had never used that memory.
pub(super) struct Std<const TRIM: bool = false>(Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>);

impl<const TRIM: bool> Std<TRIM> {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const TRIM: bool> Map for Std<TRIM> {
    fn create(_: &Site) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(shared(&site.name, Arc::default)))
    }

    #[inline]
    fn get(&mut self, key: &Key, out: &mut Vec<u8>) -> bool {
        copy(self.lock().get(&key[..]).map(Vec::as_slice), out)
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &Vec<u8>) {
        let (key, value) = (key.to_vec(), value.clone());
        let old = self.lock().insert(key, value);
        // Freed when the lock is not held any more.
        drop(old);
    }

    fn empty(&mut self) -> io::Result<()> {
        *self.lock() = HashMap::new();
        if TRIM {
            give_back();
        }
        Ok(())
    }
}

impl<const TRIM: bool> Count for Std<TRIM> {
    #[inline]
    fn increment(&mut self, key: &Key) {
        let mut map = self.lock();
        let value = map.get_mut(&key[..]).expect("the key is there");
        let next = plus_one(value);
        value.copy_from_slice(&next);
    }
}

/// Gives the memory that the allocator holds and nobody uses back to the system.
fn give_back() {
    // SAFETY: may be called at any time; no pointer to memory in use becomes invalid.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::malloc_trim(0) };
}

/// `dashmap::DashMap`.
#[cfg(feature = "rivals")]
pub(super) struct Dash(Arc<dashmap::DashMap<Vec<u8>, Vec<u8>>>);

#[cfg(feature = "rivals")]
impl Map for Dash {
    fn create(_: &Site) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site) -> io::Result<Self> {
        Ok(Self(shared(&site.name, Arc::default)))
    }

    #[inline]
    fn get(&mut self, key: &Key, out: &mut Vec<u8>) -> bool {
        let found = self.0.get(&key[..]);
        copy(found.as_ref().map(|value| value.as_slice()), out)
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &Vec<u8>) {
        self.0.insert(key.to_vec(), value.clone());
    }

    fn empty(&mut self) -> io::Result<()> {
        self.0.clear();
        self.0.shrink_to_fit();
        Ok(())
    }
}

#[cfg(feature = "rivals")]
impl Count for Dash {
    #[inline]
    fn increment(&mut self, key: &Key) {
        let mut value = self.0.get_mut(&key[..]).expect("the key is there");
        let next = plus_one(&value);
        value.copy_from_slice(&next);
    }
}

/// `papaya::HashMap`.
#[cfg(feature = "rivals")]
pub(super) struct Papaya(Arc<papaya::HashMap<Vec<u8>, Vec<u8>>>);

#[cfg(feature = "rivals")]
impl Map for Papaya {
    fn create(_: &Site) -> io::Result<Box<dyn Any>> {
        Ok(nothing_to_keep())
    }

    fn open(site: &Site) -> io::Result<Self> {
        let make = || Arc::new(papaya::HashMap::new());
        Ok(Self(shared(&site.name, make)))
    }

    #[inline]
    fn get(&mut self, key: &Key, out: &mut Vec<u8>) -> bool {
        let map = self.0.pin();
        copy(map.get(&key[..]).map(Vec::as_slice), out)
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &Vec<u8>) {
        self.0.pin().insert(key.to_vec(), value.clone());
    }

    fn empty(&mut self) -> io::Result<()> {
        self.0.pin().clear();
        Ok(())
    }
}

#[cfg(feature = "rivals")]
impl Count for Papaya {
    #[inline]
    fn increment(&mut self, key: &Key) {
        let plus_one = |value: &Vec<u8>| plus_one(value).to_vec();
        let map = self.0.pin();
        map.update(key.to_vec(), plus_one)
            .expect("the key is there");
    }
}
