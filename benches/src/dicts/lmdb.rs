//! LMDB, through `heed`: its file in `/dev/shm`, no sync, a transaction for each operation.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, WithTls};

use super::map::{Count, Key, Map, number};
use crate::process::SHM;
use crate::shared::shared;
use crate::variants::Site;

/// Bytes that a database may grow to.
const ROOM: usize = 4 << 30;

/// A database and its environment.
pub(super) struct Lmdb {
    env: Env<WithTls>,
    database: Database<Bytes, Bytes>,
}

/// Removes the files when the run ends in order.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let mut lock = self.0.clone().into_os_string();
        lock.push("-lock");
        // Gone already: either is the aim.
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_file(lock);
    }
}

fn path(site: &Site) -> PathBuf {
    Path::new(SHM).join(&site.name)
}

fn environment(path: &Path) -> Env<WithTls> {
    let mut options = EnvOpenOptions::new();
    options.map_size(ROOM);
    // SAFETY: nobody expects this file to outlive a crash of the machine, and it is a file of its own.
    unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_SUB_DIR) };
    // SAFETY: opened once in each process (`shared`), and changed by LMDB alone.
    unsafe { options.open(path) }.expect("LMDB opens a file in /dev/shm")
}

impl Map for Lmdb {
    fn create(site: &Site) -> io::Result<Box<dyn Any>> {
        Ok(Box::new(Files(path(site))))
    }

    fn open(site: &Site) -> io::Result<Self> {
        let env = shared(&site.name, || environment(&path(site)));
        let mut transaction = env.write_txn().map_err(io::Error::other)?;
        let database = env
            .create_database(&mut transaction, None)
            .map_err(io::Error::other)?;
        transaction.commit().map_err(io::Error::other)?;
        Ok(Self { env, database })
    }

    #[inline]
    fn get(&mut self, key: &Key, out: &mut Vec<u8>) -> bool {
        let transaction = self.env.read_txn().expect("it begins");
        let Some(value) = self.database.get(&transaction, key).expect("it is read") else {
            return false;
        };
        out.clear();
        out.extend_from_slice(value);
        true
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &Vec<u8>) {
        let mut transaction = self.env.write_txn().expect("it begins");
        self.database
            .put(&mut transaction, key, value)
            .expect("it is put");
        transaction.commit().expect("it is done");
    }

    fn empty(&mut self) -> io::Result<()> {
        let mut transaction = self.env.write_txn().map_err(io::Error::other)?;
        self.database
            .clear(&mut transaction)
            .map_err(io::Error::other)?;
        transaction.commit().map_err(io::Error::other)
    }
}

impl Count for Lmdb {
    #[inline]
    fn increment(&mut self, key: &Key) {
        let mut transaction = self.env.write_txn().expect("it begins");
        let value = self.database.get(&transaction, key).expect("it is read");
        let next = number(value.expect("the key is there")).wrapping_add(1);
        self.database
            .put(&mut transaction, key, &next.to_le_bytes())
            .expect("it is put");
        transaction.commit().expect("it is done");
    }
}
