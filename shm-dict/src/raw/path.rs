//! The way from a shard's root to a container, as a handle keeps it.
//!
//! A container is found by the way to it each time, and known by its number: so a handle to something that was
//! removed never reaches what has its memory now.

use shm_core::sync::{AtomicU32, Ordering};

use super::{Container, Damaged, Found, Home, Writer};

/// The way to a container.
#[derive(Debug)]
pub struct Path {
    /// The shard that has it.
    pub shard: usize,
    /// From the shard's root on.
    pub steps: Vec<Step>,
}

/// From a container, or from a root, to one in it.
#[derive(Debug)]
pub struct Step {
    /// The number of the container that it leads to.
    pub id: u64,
    /// Where that is.
    pub way: Way,
}

/// Where a container is in another.
#[derive(Debug)]
pub enum Way {
    /// Under a key.
    Key {
        /// Its hash.
        hash: u64,
        /// Its bytes.
        key: Box<[u8]>,
    },
    /// Somewhere in a list: last seen there.
    Element(AtomicU32),
}

impl Way {
    /// Under this key.
    #[must_use]
    pub fn key(hash: u64, key: &[u8]) -> Self {
        let key = key.into();
        Self::Key { hash, key }
    }
}

impl Clone for Step {
    fn clone(&self) -> Self {
        let way = match &self.way {
            Way::Key { hash, key } => Way::Key {
                hash: *hash,
                key: key.clone(),
            },
            // Relaxed: a hint.
            Way::Element(near) => Way::Element(AtomicU32::new(near.load(Ordering::Relaxed))),
        };
        Self { id: self.id, way }
    }
}

impl Path {
    /// The way on, to something in the container at its end; `None` stands for the shard's root.
    #[must_use]
    pub fn join(path: Option<&Self>, shard: usize, step: Step) -> Self {
        let mut steps = path.map_or(Vec::new(), |path| path.steps.clone());
        steps.push(step);
        Self { shard, steps }
    }
}

impl<'a> Writer<'a> {
    /// The root of the container at the end of a way; `None` if it is not there any more.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn home_at(&self, path: &Path) -> Result<Option<Home<'a>>, Damaged> {
        let mut home = self.home();
        for step in &path.steps {
            match self.container_at(home, step)? {
                Some(container) => home = container.home()?,
                None => return Ok(None),
            }
        }
        Ok(Some(home))
    }

    fn container_at(&self, home: Home<'a>, step: &Step) -> Result<Option<Container<'a>>, Damaged> {
        let container = match &step.way {
            Way::Key { hash, key } => match self.map(home).find(*hash, key)? {
                Found::At { record, .. } => record.container(),
                _ => None,
            },
            Way::Element(near) => self.list(home).container(step.id, near)?,
        };
        Ok(container.filter(|container| container.id() == step.id))
    }
}
