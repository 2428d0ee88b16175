//! What a handle can do with the whole segment that its dictionary or list lives in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_core::{Error, ProcessId, Segment};
use shm_lock::Patience;

use crate::dict::Dict;
use crate::error::DictError;
use crate::inspect::{Inspection, Recovery, Stats};
use crate::list::List;

macro_rules! whole {
    ($container:ident<$($type:ident),*>) => {
        impl<$($type),*> $container<$($type),*> {
            /// A handle whose operations wait for a lock for at most `timeout` (CLOCK_MONOTONIC), then give
            /// [`Timeout`](DictError::Timeout). Several locks that one operation takes, one after the other, share that
            /// time; [`wait_for_change`](Self::wait_for_change) waits no longer for a change either.
            #[must_use]
            pub fn within(&self, timeout: Duration) -> Self {
                let inner = Arc::clone(&self.inner);
                Self::at(inner, self.path.clone(), Some(timeout))
            }

            #[inline]
            pub(crate) fn patience(&self) -> Patience {
                self.timeout.map_or(Patience::Endless, Patience::from)
            }

            /// A number that grows with every change in the segment, and with every repair.
            #[must_use]
            pub fn version(&self) -> u64 {
                self.inner.raw.version()
            }

            /// Sleeps until the segment has another version than `seen`; says which. So that nothing is missed: ask
            /// for the version, look, then wait. A read-only attachment, which cannot ask to be woken, looks again each
            /// slice (100 ms).
            ///
            /// # Errors
            /// [`Reentered`](DictError::Reentered), [`Timeout`](DictError::Timeout) of a handle from
            /// [`within`](Self::within), and what a segment says that cannot be used.
            ///
            /// # Peer death
            /// A writer killed between its change and the wake delays it by a slice. One killed right behind its change is
            /// noticed with the repair, which who waits makes, unless attached read-only.
            pub fn wait_for_change(&self, seen: u64) -> Result<u64, DictError> {
                self.inner.wait_for_change(seen, self.patience())
            }

            /// As [`wait_for_change`](Self::wait_for_change); for at most `timeout` (CLOCK_MONOTONIC).
            ///
            /// # Errors
            /// [`Timeout`](DictError::Timeout), and those of [`wait_for_change`](Self::wait_for_change).
            pub fn wait_for_change_timeout(
                &self,
                seen: u64,
                timeout: Duration,
            ) -> Result<u64, DictError> {
                self.inner.wait_for_change(seen, timeout.into())
            }

            /// As [`wait_for_change`](Self::wait_for_change); until `deadline` at most.
            ///
            /// # Errors
            /// [`Timeout`](DictError::Timeout), and those of [`wait_for_change`](Self::wait_for_change).
            pub fn wait_for_change_deadline(
                &self,
                seen: u64,
                deadline: Instant,
            ) -> Result<u64, DictError> {
                self.inner.wait_for_change(seen, deadline.into())
            }

            /// Has `f` called, through this attachment, whenever one of its operations has repaired what a dead writer
            /// left. It runs under the shard's lock; one is kept, the last. A child that is forked while another thread is about
            /// to call or to set one may go without.
            pub fn on_recovery(&self, f: impl Fn(&Recovery) + Send + Sync + 'static) {
                self.inner.set_on_recovery(Arc::new(f));
            }

            /// Repairs what dead writers left, which otherwise the next writer of the shard does.
            ///
            /// # Errors
            /// [`Timeout`](DictError::Timeout) of a handle from [`within`](Self::within), and what a segment says that
            /// cannot be used.
            pub fn repair(&self) -> Result<(), DictError> {
                self.inner.repair(self.patience())
            }

            /// What is in the segment, who holds what, and how many wait: for people.
            #[must_use]
            pub fn inspect(&self) -> Inspection {
                self.inner.inspect()
            }

            /// Proves, under all locks, that each entry is found under its key, in all containers, and that each block
            /// of memory is used once or free once; counts them.
            ///
            /// # Errors
            /// [`Corrupt`](DictError::Corrupt) with what is wrong, [`Timeout`](DictError::Timeout) of a handle from
            /// [`within`](Self::within), and what a segment says that cannot be used.
            pub fn check(&self) -> Result<Stats, DictError> {
                self.inner.check(self.patience())
            }

            /// As [`check`](Self::check): what the segment's memory is used for.
            ///
            /// # Errors
            /// Those of [`check`](Self::check).
            pub fn stats(&self) -> Result<Stats, DictError> {
                self.check()
            }

            /// Gives memory that nothing uses back to the file system; says how many bytes: none of a region of the
            /// caller's. Only when nobody else is attached, and through the only handle here: a reader may still look at memory that was freed.
            ///
            /// # Errors
            /// [`Busy`](DictError::Busy) when others are attached, or in a child whose parent is, and those of
            /// [`check`](Self::check). Read-only attachments and forked children with an inherited handle are not known, and
            /// must not be.
            pub fn trim(&mut self) -> Result<u64, DictError> {
                let alone = Arc::get_mut(&mut self.inner).is_some();
                let attached = self.inner.segment.attached();
                let other = |(_, _, process): &(usize, u64, ProcessId)| *process != ProcessId::current();
                if !alone || attached.len() > 1 || attached.iter().any(other) {
                    return Err(DictError::Busy);
                }
                self.inner.trim(self.patience())
            }

            /// Removes the name, as [`Segment::unlink`].
            ///
            /// # Errors
            /// As [`Segment::unlink`].
            pub fn unlink(&self) -> Result<(), Error> {
                self.inner.segment.unlink()
            }

            /// The segment it lives in.
            #[must_use]
            pub fn segment(&self) -> &Segment {
                &self.inner.segment
            }
        }
    };
}
whole!(Dict<K, V, C>);
whole!(List<T, C>);
