//! A fork whose child must come to a good end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Forks; the parent drops what it has, and the child does what it is told with its copy.
///
/// For a [`Peer`](crate::Peer)'s role: in the child there is the calling thread alone. A child that hangs is killed after ten
/// seconds.
///
/// # Panics
/// If the child does, or hangs.
pub fn fork_with<G>(guard: G, child: impl FnOnce(G)) {
    // SAFETY: a peer's only other thread is libtest's, which holds no lock that its roles need.
    match unsafe { fork() }.expect("a process more") {
        ForkResult::Child => {
            // Nobody else ends it if it hangs.
            nix::unistd::alarm::set(10);
            let done = catch_unwind(AssertUnwindSafe(|| child(guard)));
            std::process::exit(i32::from(done.is_err()));
        }
        ForkResult::Parent { child } => {
            drop(guard);
            let ended = waitpid(child, None).expect("it is ours");
            assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
        }
    }
}
