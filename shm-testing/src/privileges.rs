//! Tests of what an ordinary user may not make: a full disk, another namespace, another user.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getegid, geteuid};

/// A test whose role said `missing` cannot be made here, where something is not permitted. With `SHM_PRIVILEGES=1` it
/// fails; otherwise a line on stderr that libtest does not capture says `SKIPPED`.
///
/// # Panics
/// With `SHM_PRIVILEGES=1`.
pub fn skip_unless_required(missing: &str) {
    let required = std::env::var("SHM_PRIVILEGES").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "SHM_PRIVILEGES=1 says that all is permitted here, and it is not: {missing}"
    );
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    // Not `eprintln`, which is shown of failures alone. Nobody else is told if that fails.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: needs {missing}");
}

/// Does something in a child of this process that is moved to new namespaces. Where that needs a privilege that it lacks,
/// it gets a user namespace of its own as well, in which it has it. Says whether it could: nothing was done if not.
///
/// # Panics
/// If the child does.
#[must_use]
pub fn in_namespaces(which: CloneFlags, action: impl FnOnce()) -> bool {
    in_child(|| enter(which), action)
}

/// Does something in a child of this process where a new tmpfs lies over a directory, as [`in_namespaces`].
///
/// # Panics
/// If the child does.
#[must_use]
pub fn in_private_tmpfs(over: &str, options: &str, action: impl FnOnce()) -> bool {
    let (none, tmpfs) = (None::<&str>, Some("tmpfs"));
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let prepare = || {
        enter(CloneFlags::CLONE_NEWNS)
            && mount(none, "/", none, private, none).is_ok()
            && mount(tmpfs, over, tmpfs, MsFlags::empty(), Some(options)).is_ok()
    };
    in_child(prepare, action)
}

fn enter(which: CloneFlags) -> bool {
    let (user, group) = (geteuid(), getegid());
    unshare(which).is_ok()
        || unshare(which | CloneFlags::CLONE_NEWUSER).is_ok()
            && fs::write("/proc/self/setgroups", "deny").is_ok()
            && fs::write("/proc/self/uid_map", format!("0 {user} 1")).is_ok()
            && fs::write("/proc/self/gid_map", format!("0 {group} 1")).is_ok()
}

/// A child has no other thread, as a user namespace demands.
fn in_child(prepare: impl FnOnce() -> bool, action: impl FnOnce()) -> bool {
    const NOT_PREPARED: i32 = 77;
    // SAFETY: a peer's only other thread is libtest's, which holds no lock that the child needs.
    match unsafe { fork() }.expect("another process") {
        ForkResult::Child if !prepare() => exit(NOT_PREPARED),
        ForkResult::Child => {
            // What it panics with has been printed.
            exit(i32::from(catch_unwind(AssertUnwindSafe(action)).is_err()))
        }
        ForkResult::Parent { child } => match waitpid(child, None).expect("its end") {
            WaitStatus::Exited(_, NOT_PREPARED) => false,
            status => {
                assert_eq!(status, WaitStatus::Exited(child, 0));
                true
            }
        },
    }
}
