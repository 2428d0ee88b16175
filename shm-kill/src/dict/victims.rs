//! Who is killed, and what others do meanwhile.

use shm_dict::DictError;
use shm_testing::Commands;
use shm_testing::step_killer::{mark_end, mark_start};

use super::check::{describe, entries};
use super::{SHORT, Values, acted, number_of, open, small_dict, value};
use crate::segment::{A_WHILE, place, warm_up};

pub(super) fn commands(commands: Commands) -> Commands {
    reading_victims(whole_dict_victims(victims(acts(commands))))
}

fn acts(commands: Commands) -> Commands {
    let set_five =
        |name: &str, patience| acted("set", open(name).within(patience).set(&5, &value(10)));
    commands
        .act("dict read", |name| {
            let dict = Values::open_read_only(name).expect("the dictionary");
            describe(&entries(&dict))
        })
        .act("dict set five", move |name| set_five(name, SHORT))
        .act("dict set five patiently", move |name| {
            set_five(name, 500 * SHORT)
        })
        .act("dict wait", |name| {
            let dict = open(name);
            let changed = dict.wait_for_change(dict.version());
            changed.expect("nothing stands in the way");
            "woken"
        })
        .act("dict modify", |name| {
            let dict = open(name).within(SHORT);
            acted("modified", dict.modify(&1, next_value))
        })
        // What a reader may be copying is cut off, given out again, and written over.
        .act("dict churn", |name| {
            let dict = open(name);
            for round in 0..4 {
                for number in [10, 20, 30, 21] {
                    dict.set(&1, &value(number)).expect("it has room");
                    dict.set(&50, &value(number + 5)).expect("it has room");
                    dict.set(&51, &value(number + 6)).expect("it has room");
                }
                for key in 60..60 + 4 * round {
                    dict.set(&key, &value(17)).expect("it has room");
                }
                for key in 50..80 {
                    dict.remove(&key).expect("nothing stands in the way");
                }
            }
            "churned"
        })
}

pub(super) fn next_value(value_before: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let number = number_of(&value_before.expect("it is there"));
    Some(value(number + 1))
}

fn victims(commands: Commands) -> Commands {
    macro_rules! victims {
        ($commands:expr; $($operation:literal: |$dict:ident| $perform:expr;)*) => {
            $commands$(.victim($operation, |name| {
                let $dict = open(name);
                mark_start();
                let result = $perform;
                mark_end();
                let _ = result.expect("nothing stands in the way");
            }))*
        };
    }
    victims! { commands;
        "dict set new": |dict| dict.set(&4, &value(10));
        "dict set large": |dict| dict.set(&4, &value(30));
        "dict set longer": |dict| dict.set(&1, &value(20));
        "dict set in place": |dict| dict.set(&1, &value(2));
        "dict set larger": |dict| dict.set(&1, &value(31));
        "dict insert": |dict| dict.insert(&1, &value(20));
        "dict compare and swap": |dict| {
            dict.compare_and_swap(&1, Some(&value(10)), Some(&value(20)))
        };
        "dict remove": |dict| dict.remove(&1);
        "dict remove four": |dict| dict.remove(&4);
        "dict pop": |dict| dict.pop(&1);
        "dict popitem": |dict| dict.popitem();
        "dict modify": |dict| dict.modify(&1, next_value);
        "dict modify nothing": |dict| dict.modify(&4, |before| {
            assert_eq!(before, None);
            Some(value(10))
        });
        "dict modify to nothing": |dict| dict.modify(&1, |_| None);
        "dict retain": |dict| dict.retain(|key, _| *key == 2);
        "dict setdefault": |dict| dict.setdefault(&1, value(20));
        "dict entry": |dict| {
            dict.entry(&1).and_modify(|it| *it = value(20)).or_insert(value(10))
        };
        "dict update": |dict| dict.update([(&1, &value(20)), (&4, &value(10))]);
        "dict remove, then set": |dict| {
            dict.remove(&1).and_then(|_| dict.set(&1, &value(20)))
        };
        "dict set, then remove": |dict| {
            dict.set(&4, &value(10)).and_then(|()| dict.remove(&1))
        };
        "dict len": |dict| dict.len();
        "dict check": |dict| dict.check();
        "dict with": |dict| dict.with(&1, |bytes| bytes.len());
        "dict clear": |dict| dict.clear();
        "dict drain": |dict| dict.drain();
    }
}

fn whole_dict_victims(commands: Commands) -> Commands {
    commands
        .victim("dict set refused", |name| {
            let dict = open(name);
            mark_start();
            let result = dict.set(&4, &value(20));
            mark_end();
            assert!(result.is_err_and(|error| error.is_full()));
        })
        .victim("dict replace refused", |name| {
            let dict = open(name);
            mark_start();
            let result = dict.set(&1, &value(21));
            mark_end();
            assert!(result.is_err_and(|error| error.is_full()));
        })
        .victim("dict modify refused", |name| {
            let dict = open(name);
            mark_start();
            let result = dict.modify(&1, next_value);
            mark_end();
            assert!(result.is_err_and(|error| error.is_full()));
        })
        .victim("dict set if version", |name| {
            let dict = open(name);
            let seen = dict.get_versioned(&1).expect("nothing stands in the way");
            let (_, version) = seen.expect("it is there");
            mark_start();
            let result = dict.set_if_version(&1, &value(20), version);
            mark_end();
            assert_eq!(result, Ok(true));
        })
        .victim("dict lock and two sets", |name| {
            let dict = open(name);
            mark_start();
            let result = dict.lock().and_then(|mut all| {
                all.set(&1, &value(20))?;
                all.set(&4, &value(10))
            });
            mark_end();
            result.expect("there is room");
        })
        .victim("dict trim", |name| {
            let mut dict = open(name);
            mark_start();
            let result = dict.trim();
            mark_end();
            assert!(result.expect("nobody else is attached") > 0);
        })
        .victim("create dict", |name| {
            warm_up();
            mark_start();
            let result = Values::create(place(name), small_dict(1));
            mark_end();
            result.expect("a new dictionary");
        })
        .victim("open or create dict", |name| {
            warm_up();
            mark_start();
            let result = Values::open_or_create(place(name), small_dict(1));
            mark_end();
            result.expect("one of the two");
        })
        .victim("open dict", |name| {
            warm_up();
            mark_start();
            let result = Values::open(name);
            mark_end();
            result.expect("it is there");
        })
}

fn reading_victims(commands: Commands) -> Commands {
    commands
        .victim("dict get", |name| {
            let dict = open(name);
            mark_start();
            let result = dict.get(&1);
            mark_end();
            number_of(&result.expect("nothing is wrong").expect("it is there"));
        })
        .victim("dict items", |name| {
            let dict = open(name);
            mark_start();
            let result: Result<Vec<_>, _> = dict.items().collect();
            mark_end();
            let items = result.expect("nothing is wrong");
            assert!(items.iter().any(|(key, _)| *key == 1));
            let whole = |(_, value): &(u64, Vec<u8>)| number_of(value) > 0;
            assert!(items.iter().all(whole));
        })
        .victim("dict give up waiting", |name| {
            let dict = open(name);
            let version = dict.version();
            mark_start();
            let result = dict.wait_for_change_timeout(version, A_WHILE);
            mark_end();
            assert_eq!(result, Err(DictError::Timeout));
        })
}
