//! Random kills under load, and an exact account of what survived them.
//!
//! Workers on all processors perform operations without pause; every few milliseconds one is killed
//! and replaced, now and then two at once; some are stopped for a while, and some killed while
//! stopped. Each notes every operation in a [`Ledger`] before and after. At the end the ledger says
//! exactly which operations ended. Whether one that a kill interrupted took effect finds out whoever
//! has the seat next, by what is the seat's own in the structure, and [settles](Worker::settle) it: so
//! the account has no slack in which the loss of another operation could hide.
//!
//! The step killer finds narrow windows in one process. The storm finds what it takes several
//! processes in motion to do.
//!
//! ```no_run
//! use shm_testing::storm::{Storm, Worker};
//! use shm_testing::{Peer, peer_main};
//!
//! # struct Counter; impl Counter { fn create(_: &str) -> Self { Self } fn open(_: &str) -> Self { Self }
//! # fn add_and_sign(&self, _: usize) {} fn get(&self) -> u64 { 0 } fn signed(&self, _: usize) -> u64 { 0 } }
//! fn adder(peer: &mut Peer) {
//!     let counter = Counter::open(&peer.args()[0]);
//!     let mut worker = Worker::enlist(peer);
//!     let seat = worker.seat();
//!     worker.settle(|effects| counter.signed(seat) == effects + 1);
//!     while worker.goes_on() {
//!         assert_eq!(counter.signed(seat), worker.effects());
//!         worker.count(|| counter.add_and_sign(seat));
//!     }
//! }
//!
//! #[test]
//! fn peer() {
//!     peer_main(&[("adder", adder as fn(&mut Peer))]);
//! }
//!
//! #[test]
//! fn every_addition_is_accounted_for() {
//!     let counter = Counter::create("tickets");
//!     let storm = Storm::new("adder", &["tickets"]).kills(1000).run().unwrap();
//!     assert_eq!(storm.ledger.effects(), counter.get()..=counter.get(), "{storm}");
//! }
//! ```

mod gap;
mod ledger;
mod share;
mod total;

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::panic;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};

pub use gap::lost_in_gaps;
pub use ledger::{Ledger, Record};
pub use share::Share;
pub use total::Total;

use crate::{Child, ExpectError, Peer, UniqueName, threads};

const WORKING: &str = "working";
const DONE: &str = "done";

/// What a storm is to do.
#[derive(Debug, Clone)]
pub struct Storm {
    path: String,
    role: String,
    args: Vec<String>,
    workers: usize,
    kills: usize,
    pause: Duration,
    longest_stop: Duration,
    records: usize,
    patience: Duration,
    seed: u64,
}

/// What a storm did.
#[derive(Debug)]
pub struct Outcome {
    /// What the workers noted.
    pub ledger: Ledger,
    /// Workers killed.
    pub kills: usize,
    /// How many of these died together with another.
    pub in_pairs: usize,
    /// How many of these were killed while stopped.
    pub while_stopped: usize,
    /// Workers stopped for a while.
    pub stops: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// What chance was seeded with.
    pub seed: u64,
}

/// What the storm ran into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StormError {
    /// Nobody ended an operation for so long, though somebody was running.
    #[error("no operation ended within {within:?}, seed {seed}; the workers:\n{workers}")]
    Stalled {
        /// The storm's patience.
        within: Duration,
        /// The storm's seed.
        seed: u64,
        /// What the workers were doing.
        workers: String,
    },
    /// A worker failed by itself.
    #[error("seed {seed}: {error}")]
    Worker {
        /// The storm's seed.
        seed: u64,
        /// What the worker said.
        error: ExpectError,
    },
    /// A worker panicked; it may have been killed before the end of that.
    #[error("seed {seed}: the worker of seat {seat} {words}")]
    Panicked {
        /// The storm's seed.
        seed: u64,
        /// The seat.
        seat: usize,
        /// Where, and what it said.
        words: String,
    },
    /// A seat had no room for another record: its worker has too many between one [`Worker::goes_on`] and the next.
    #[error("seed {seed}: seat {seat} has more to record than {records} operations")]
    Full {
        /// The storm's seed.
        seed: u64,
        /// The seat.
        seat: usize,
        /// How many operations a seat can record.
        records: usize,
    },
}

impl Storm {
    /// A storm of peers in `role`, which get `args` and run a [`Worker`].
    ///
    /// Unless told otherwise: two workers more than processors, 1000 kills, 3 ms apart on average,
    /// stops of up to 200 ms.
    pub fn new(role: &str, args: &[&str]) -> Self {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME exists");
        Self {
            path: "peer".to_owned(),
            role: role.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            workers: thread::available_parallelism().map_or(4, |n| n.get() + 2),
            kills: 1000,
            pause: Duration::from_millis(3),
            longest_stop: Duration::from_millis(200),
            records: 1 << 24,
            patience: Duration::from_secs(20),
            seed: now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64,
        }
    }

    /// Starts the peers by the test at `path`; see [`Child::spawn_at`].
    pub fn peers_at(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    /// How many work at a time.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// How many are killed.
    pub fn kills(mut self, kills: usize) -> Self {
        self.kills = kills;
        self
    }

    /// The average time between two kills.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The longest time for which a worker is stopped; the shortest is 1 ms.
    pub fn longest_stop(mut self, longest: Duration) -> Self {
        self.longest_stop = longest;
        self
    }

    /// How many operations a seat can record; what is not recorded takes no memory. Once a seat has recorded three
    /// quarters of them, the storm ends, with fewer kills than it was asked for.
    pub fn records(mut self, records: usize) -> Self {
        self.records = records;
        self
    }

    /// How long nobody may end an operation before the storm calls it a stall.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Repeats the choices of another storm, as far as they do not depend on who has begun to work. The timing is its own.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Runs the storm; returns when all workers have come to a good end.
    ///
    /// # Errors
    /// [`StormError`] when a worker fails by itself or nothing moves any more.
    ///
    /// # Panics
    /// When the ledger cannot be made or a peer cannot be started.
    pub fn run(self) -> Result<Outcome, StormError> {
        let name = UniqueName::new("storm");
        let ledger =
            Ledger::create(&name.path(), self.workers, self.records).expect("a ledger in /dev/shm");
        let mut weather = Weather {
            storm: &self,
            path: name.path().to_string_lossy().into_owned(),
            ledger: &ledger,
            chance: Chance(self.seed),
            seats: Vec::new(),
            moved: (0, Instant::now()),
        };
        let begun = Instant::now();
        let mut count = Count::default();
        for seat in 0..self.workers {
            let child = weather.spawn(seat);
            weather.seats.push(Seated {
                child,
                stopped_until: None,
            });
        }
        while count.kills < self.kills && !ledger.is_nearly_full() {
            let range = self.pause.as_micros() as u64 * 2;
            thread::sleep(Duration::from_micros(weather.chance.below(range.max(1))));
            weather.wake_the_stopped();
            weather.strike(&mut count)?;
            weather.watch()?;
        }
        ledger.stop();
        weather.wait_for_all()?;
        drop(weather);
        Ok(Outcome {
            ledger,
            kills: count.kills,
            in_pairs: count.in_pairs,
            while_stopped: count.while_stopped,
            stops: count.stops,
            elapsed: begun.elapsed(),
            seed: self.seed,
        })
    }
}

/// What was done so far.
#[derive(Debug, Default)]
struct Count {
    kills: usize,
    in_pairs: usize,
    while_stopped: usize,
    stops: usize,
}

/// A storm under way.
struct Weather<'a> {
    storm: &'a Storm,
    path: String,
    ledger: &'a Ledger,
    chance: Chance,
    seats: Vec<Seated>,
    /// The number of ended operations when it last changed, and when.
    moved: (u64, Instant),
}

struct Seated {
    child: Child,
    stopped_until: Option<Instant>,
}

impl Weather<'_> {
    fn spawn(&self, seat: usize) -> Child {
        let seat = seat.to_string();
        let mut args: Vec<&str> = self.storm.args.iter().map(String::as_str).collect();
        args.extend([self.path.as_str(), seat.as_str()]);
        Child::spawn_at(&self.storm.path, &self.storm.role, &args)
    }

    /// Kills one or two, or stops one; mostly such that are at work.
    fn strike(&mut self, count: &mut Count) -> Result<(), StormError> {
        let seat = self.chance.below(self.seats.len() as u64) as usize;
        // On a busy machine to start takes long, and nobody would come to do more.
        let pid = self.seats[seat].child.pid();
        if self.ledger.seat(seat).at_work() != pid.into() && self.chance.below(4) > 0 {
            return Ok(());
        }
        match self.chance.below(16) {
            0 | 1 if self.seats[seat].stopped_until.is_none() => {
                let range = self.storm.longest_stop.as_micros() as u64;
                // Squared: short ones are more frequent.
                let part = self.chance.below(1000);
                let stop = Duration::from_micros(1000 + range * part * part / 1_000_000);
                if !self.seats[seat].child.try_stop() {
                    return Err(self.failure(seat));
                }
                self.seats[seat].stopped_until = Some(Instant::now() + stop);
                count.stops += 1;
            }
            2 if self.seats.len() > 1 => {
                let other = (seat + 1) % self.seats.len();
                self.kill(seat, count);
                self.kill(other, count);
                count.in_pairs += 2;
                self.replace(seat)?;
                self.replace(other)?;
            }
            3 => {
                // The corpse lies about for a while.
                self.kill(seat, count);
                thread::sleep(Duration::from_micros(self.chance.below(3000)));
                self.replace(seat)?;
            }
            _ => {
                self.kill(seat, count);
                self.replace(seat)?;
            }
        }
        Ok(())
    }

    fn kill(&mut self, seat: usize, count: &mut Count) {
        let seated = &mut self.seats[seat];
        seated.child.kill_unreaped();
        count.while_stopped += usize::from(seated.stopped_until.take().is_some());
        count.kills += 1;
    }

    /// Reaps a killed one, sees that it had not failed by itself before, and fills its seat.
    fn replace(&mut self, seat: usize) -> Result<(), StormError> {
        let status = self.seats[seat].child.wait();
        if status.signal() != Some(Signal::SIGKILL as i32) {
            return Err(self.failure(seat));
        }
        self.seats[seat].child = self.spawn(seat);
        Ok(())
    }

    /// What a worker that ended by itself said last.
    fn failure(&mut self, seat: usize) -> StormError {
        let child = &mut self.seats[seat].child;
        loop {
            if let Err(error) = child.try_expect(WORKING, self.storm.patience) {
                return self.error(error);
            }
        }
    }

    /// What a worker said, unless it wanted to say that its seat is full.
    fn error(&self, error: ExpectError) -> StormError {
        let seed = self.storm.seed;
        let noted = self.noted();
        noted.err().unwrap_or(StormError::Worker { seed, error })
    }

    /// Whether a worker noted that it failed.
    fn noted(&self) -> Result<(), StormError> {
        let seed = self.storm.seed;
        if let Some(seat) = self.ledger.overfull() {
            let records = self.ledger.room();
            return Err(StormError::Full {
                seed,
                seat,
                records,
            });
        }
        match self.ledger.panicked() {
            Some((seat, words)) => Err(StormError::Panicked { seed, seat, words }),
            None => Ok(()),
        }
    }

    fn wake_the_stopped(&mut self) {
        let now = Instant::now();
        for seated in &mut self.seats {
            if seated.stopped_until.is_some_and(|until| until <= now) {
                seated.child.let_run();
                seated.stopped_until = None;
            }
        }
    }

    /// Sees that something moves and that there is room, or else says who does what.
    fn watch(&mut self) -> Result<(), StormError> {
        self.noted()?;
        let progress = self.ledger.progress();
        if progress != self.moved.0 {
            self.moved = (progress, Instant::now());
        }
        if self.moved.1.elapsed() > self.storm.patience {
            return Err(self.stalled());
        }
        Ok(())
    }

    fn stalled(&mut self) -> StormError {
        // One that is dead explains why the others wait.
        let dead = |seated: &Seated| threads(seated.child.pid()).iter().all(|t| t.state == 'Z');
        if let Some(seat) = self.seats.iter().position(dead) {
            return self.failure(seat);
        }
        let workers = self.seats.iter().map(|seated| {
            let pid = seated.child.pid();
            let threads: String = threads(pid).iter().map(|t| format!("    {t}\n")).collect();
            format!("  process {pid}\n{threads}")
        });
        StormError::Stalled {
            within: self.storm.patience,
            seed: self.storm.seed,
            workers: workers.collect(),
        }
    }

    /// Waits for the good end of all workers, the stopped ones woken.
    fn wait_for_all(&mut self) -> Result<(), StormError> {
        for seated in &mut self.seats {
            if seated.stopped_until.take().is_some() {
                seated.child.let_run();
            }
        }
        for seat in 0..self.seats.len() {
            for line in [WORKING, DONE] {
                let said = self.seats[seat].child.try_expect(line, self.storm.patience);
                match said {
                    Ok(()) => {}
                    Err(error) if error.is_silence() => return Err(self.stalled()),
                    Err(error) => return Err(self.error(error)),
                }
            }
            if !self.seats[seat].child.wait().success() {
                return Err(self.failure(seat));
            }
        }
        self.noted()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kills={} in_pairs={} while_stopped={} stops={} begun={} ended={} pending={} seed={} in {:.1} s",
            self.kills,
            self.in_pairs,
            self.while_stopped,
            self.stops,
            self.ledger.begun(),
            self.ledger.ended(),
            self.ledger.pending(),
            self.seed,
            self.elapsed.as_secs_f64()
        )
    }
}

/// The peer's part of a storm.
#[derive(Debug)]
pub struct Worker<'a> {
    peer: &'a mut Peer,
    ledger: Ledger,
    seat: usize,
    items: u64,
    interrupted: Option<u64>,
}

impl<'a> Worker<'a> {
    /// Takes the seat that the storm gave to this peer.
    ///
    /// # Panics
    /// When the peer was not started by a [`Storm`].
    pub fn enlist(peer: &'a mut Peer) -> Self {
        let [.., path, seat] = peer.args() else {
            panic!("not a storm's worker");
        };
        let ledger = Ledger::open(Path::new(path)).expect("the storm's ledger");
        let seat = seat.parse().expect("a seat's number");
        note_panics(Path::new(path), seat);
        let items = ledger.seat(seat).recorded() as u64;
        let interrupted = ledger.seat(seat).interrupted();
        peer.say(WORKING);
        ledger.seat(seat).enlist();
        Self {
            peer,
            ledger,
            seat,
            items,
            interrupted,
        }
    }

    /// The number of its seat, from 0.
    pub fn seat(&self) -> usize {
        self.seat
    }

    /// How many counted operations of this seat took effect, the forerunners' included.
    pub fn effects(&self) -> u64 {
        self.ledger.seat(self.seat).effects()
    }

    /// If a forerunner was killed in a counted operation, asks whether that took effect, and notes the answer.
    /// `is_done` gets the number of those that did before it, and looks at what is this seat's own. To be
    /// called before the first operation; gives the answer.
    pub fn settle(&mut self, is_done: impl FnOnce(u64) -> bool) -> Option<bool> {
        let seat = self.ledger.seat(self.seat);
        (seat.open() > 0).then(|| {
            let is_done = is_done(seat.effects());
            seat.settle(is_done);
            is_done
        })
    }

    /// What the forerunner began to record last, if it was killed on the way.
    pub fn interrupted(&self) -> Option<u64> {
        self.interrupted
    }

    /// Whether to perform another operation; when not, the role should end. With its seat nearly full a worker waits here
    /// for the end of the storm.
    pub fn goes_on(&mut self) -> bool {
        let seat = self.ledger.seat(self.seat);
        while seat.is_nearly_full() && !self.ledger.is_stopped() {
            thread::sleep(Duration::from_millis(1));
        }
        let stopped = self.ledger.is_stopped();
        if stopped {
            self.peer.say(DONE);
        }
        !stopped
    }

    /// Performs an operation that is only counted.
    pub fn count<R>(&mut self, operation: impl FnOnce() -> R) -> R {
        self.ledger.seat(self.seat).count(operation)
    }

    /// Performs an operation of whose effects the account knows otherwise, or that has none.
    pub fn visit<R>(&mut self, operation: impl FnOnce() -> R) -> R {
        self.ledger.seat(self.seat).visit(operation)
    }

    /// Performs an operation that is recorded with `what` it does and what comes of it.
    ///
    /// # Panics
    /// When the seat is full, which ends the storm with [`StormError::Full`].
    pub fn record(&mut self, what: u64, operation: impl FnOnce() -> u64) {
        self.items += 1;
        self.ledger.seat(self.seat).record(what, operation);
    }

    /// A number that no other worker of the storm has, nor this one's forerunners had, for the next
    /// [`Worker::record`]; never 0.
    pub fn fresh(&self) -> u64 {
        ((self.seat as u64 + 1) << 40) | (self.items + 1)
    }
}

/// From now on a panic in this process is noted in the ledger, before all else that it does.
fn note_panics(path: &Path, seat: usize) {
    let ledger = Ledger::open(path).expect("the storm's ledger");
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        ledger.seat(seat).panic(&info.to_string());
        hook(info);
    }));
}

/// A small source of chance (splitmix64).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
