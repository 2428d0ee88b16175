//! A check takes out all that is left in a queue, and names it in order: `1' 2 4; dead 3` says that 1 was handed out
//! once before, and that 3 is a dead letter.

use shm_queue::{ByteQueue, DeadLetter, Inspection, QueueError};

use super::tasks::Tasks;
use super::values::Values;
use super::{message, number_of, to_text};

type Message = Vec<u8>;

/// What a check needs of a queue, whichever it is.
pub(super) trait Subject: Sized {
    fn attach(name: &str) -> Result<Self, shm_core::Error>;
    /// The first message, and how often it was handed out before, where that can be told.
    fn take(&self) -> Result<(Message, u8), QueueError>;
    fn give(&self, message: Message) -> Result<(), QueueError>;
    fn settle(&self);
    fn look(&self) -> Inspection;
    fn letters(&self) -> Vec<DeadLetter>;
    fn room(&self) -> usize;
    fn remove(&self);
}

macro_rules! subject {
    ($queue:ty, $take:expr, $give:expr) => {
        impl Subject for $queue {
            fn attach(name: &str) -> Result<Self, shm_core::Error> {
                Self::open(name)
            }

            fn take(&self) -> Result<(Message, u8), QueueError> {
                let take: fn(&Self) -> Result<(Message, u8), QueueError> = $take;
                take(self)
            }

            fn give(&self, message: Message) -> Result<(), QueueError> {
                let give: fn(&Self, Message) -> Result<(), QueueError> = $give;
                give(self, message)
            }

            fn settle(&self) {
                self.recover().expect("nothing stands in the way");
            }

            fn look(&self) -> Inspection {
                self.inspect().expect("nothing stands in the way")
            }

            fn letters(&self) -> Vec<DeadLetter> {
                self.dead_letters().expect("nothing stands in the way")
            }

            fn room(&self) -> usize {
                self.capacity()
            }

            fn remove(&self) {
                self.unlink().expect("it is there");
            }
        }
    };
}

subject!(
    ByteQueue,
    |queue| queue
        .try_recv_ref()
        .map(|received| (received.to_vec(), received.deliveries() - 1)),
    |queue, message| queue.try_put(&message)
);
subject!(
    Values,
    |queue| queue.try_get().map(|value| (value.into_bytes(), 0)),
    |queue, message| queue
        .try_put(to_text(message))
        .map_err(|refused| refused.error)
);
subject!(
    Tasks,
    |queue| {
        let task = queue.try_get()?;
        let (value, before) = (task.as_bytes().to_vec(), task.deliveries() - 1);
        task.task_done().map(|()| (value, before))
    },
    |queue, message| queue
        .try_put(to_text(message))
        .map_err(|refused| refused.error)
);

/// Names all that is in the queue, and sees that nothing of it is lost to use.
pub(super) fn check<S: Subject>(name: &str, acted: Option<&str>) -> String {
    let queue = match S::attach(name) {
        Ok(queue) => queue,
        Err(shm_core::Error::NotFound { .. }) => return "absent".to_owned(),
        Err(other) => panic!("{other}"),
    };
    queue.settle();
    let seen = queue.look();
    assert!(seen.writing == 0 && seen.leases.is_empty(), "{seen:?}");
    let left = drain(&queue);
    assert_eq!(left.len(), seen.len, "{left:?}");
    let letters = queue.letters();
    assert_eq!(letters.len(), seen.dead_letters);
    all_is_usable(&queue, seen.closed);
    queue.remove();
    let mut label = acted.map_or(String::new(), |acted| format!("{acted}; "));
    if seen.closed {
        label += "closed ";
    }
    label += &match left.is_empty() {
        true => "nothing".to_owned(),
        false => left.join(" "),
    };
    if !letters.is_empty() {
        let numbers = letters
            .iter()
            .map(|letter| letter_number(&letter.bytes).to_string());
        label += &format!("; dead {}", numbers.collect::<Vec<_>>().join(" "));
    }
    label
}

/// An encoded value begins with its length.
fn letter_number(bytes: &[u8]) -> u8 {
    let last = *bytes.last().expect("not empty");
    assert!(bytes.ends_with(&message(last)), "torn: {bytes:?}");
    last
}

fn drain<S: Subject>(queue: &S) -> Vec<String> {
    let mut left = Vec::new();
    loop {
        match queue.take() {
            Ok((bytes, before)) => {
                let number = number_of(&bytes);
                left.push(format!("{number}{}", "'".repeat(before.into())));
            }
            Err(QueueError::Empty | QueueError::Closed) => return left,
            Err(other) => panic!("{other}"),
        }
    }
}

/// The empty queue takes as many messages as it was made for, small and large, and gives all of them.
fn all_is_usable<S: Subject>(queue: &S, closed: bool) {
    queue.settle();
    let seen = queue.look();
    assert_eq!(
        (seen.len, seen.dead_letters, seen.arena_used),
        (0, 0, 0),
        "{seen:?}"
    );
    if closed {
        assert_eq!(queue.give(message(1)), Err(QueueError::Closed));
        return;
    }
    for number in [2, 8, 7, 3] {
        for _ in 0..queue.room() {
            queue.give(message(number)).expect("all of its room");
        }
        assert_eq!(queue.give(message(1)), Err(QueueError::Full));
        let all = vec![number.to_string(); queue.room()];
        assert_eq!(drain(queue), all);
    }
}
