//! The tour: every part, what it prints where, and that nothing is left of it however it ends.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use shm_testing::{ThreadState, Watchdog, wait_until};

use common::{err, out, run, shm};

/// Enough for a fact of another process to come about on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// A count that no machine ends in time.
const ENDLESS: &str = "1000000000000000";

fn watchdog() -> Watchdog {
    Watchdog::new(Duration::from_secs(90))
}

/// A running tour; ended and reaped if the test ends before it.
#[derive(Debug)]
struct Tour(Child);

impl Tour {
    fn start(args: &[&str]) -> Self {
        let mut command = shm(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its children that live, wherever they hang in the tree of processes by now.
    fn children(&self) -> Vec<u32> {
        let parent = self.pid().to_string();
        let is_child = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut args = line.split(|&byte| byte == 0).skip(1);
            // A zombie has no command line.
            args.next() == Some(b"tour-child") && args.next() == Some(parent.as_bytes())
        };
        let entries = fs::read_dir("/proc").unwrap();
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(is_child)
            .collect()
    }

    /// Its names in /dev/shm.
    fn names(&self) -> Vec<String> {
        names_of(self.pid())
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        // Politely first, so that it takes its names along.
        let _ = kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM);
        if !wait_until(|| !matches!(self.0.try_wait(), Ok(None)), SOON) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// The names in /dev/shm of the tour that runs, or ran, as `pid`.
fn names_of(pid: u32) -> Vec<String> {
    let prefix = format!("shm-tour-{pid}-");
    let entries = fs::read_dir("/dev/shm").unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// Runs one part as JSON, and gives it after the checks that hold for all of them.
fn part(name: &str, more: &[&str]) -> Value {
    let output = run(&[&["tour", "--json", "--only", name], more].concat());
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", out(&output), err(&output)));
    assert!(output.status.success(), "{report:#}\n{}", err(&output));
    assert_eq!(err(&output), "");
    assert_eq!(report["ok"], true);
    assert_eq!(report["left_behind"], Value::Array(Vec::new()));
    let parts = report["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 1);
    let part = parts[0].clone();
    assert_eq!(part["part"], name);
    assert_eq!(part["ok"], true);
    let expectations = part["expectations"].as_array().unwrap();
    assert!(!expectations.is_empty());
    assert!(expectations.iter().all(|expected| expected["ok"] == true));
    part
}

#[test]
fn counter_is_exact_with_the_lock_and_atomically() {
    let _watchdog = watchdog();
    // Not a multiple of ten: some processes count one step more.
    let part = part("counter", &["--from", "200003"]);
    let figures = &part["figures"];
    assert_eq!(figures["from"], 200_003);
    assert_eq!(figures["processes"], 10);
    let runs = figures["runs"].as_array().unwrap();
    let how: Vec<_> = runs
        .iter()
        .map(|run| run["how"].as_str().unwrap())
        .collect();
    assert_eq!(how, ["no_lock", "lock", "atomic"]);
    for run in runs {
        let (ends_at, lost) = (
            run["ends_at"].as_i64().unwrap(),
            run["lost"].as_i64().unwrap(),
        );
        assert_eq!(ends_at, lost);
        let possible = if run["how"] == "no_lock" {
            0..200_003
        } else {
            0..1
        };
        assert!(possible.contains(&lost), "{run}");
        let (seconds, ns) = (
            run["seconds"].as_f64().unwrap(),
            run["ns_per_update"].as_f64().unwrap(),
        );
        assert!(seconds > 0.0);
        assert!((ns * 200_003.0 / 1e9 - seconds).abs() <= seconds * 1e-9);
    }
}

#[test]
fn ten_tickets_go_to_ten_buyers() {
    let _watchdog = watchdog();
    let part = part("tickets", &[]);
    let figures = &part["figures"];
    assert_eq!(figures["buyers"], 50);
    assert_eq!(
        (&figures["sold"], &figures["left"]),
        (&10.into(), &0.into())
    );
    assert_eq!(figures["turned_away"], 40);
    let buyers: BTreeSet<_> = figures["sold_to"]
        .as_array()
        .unwrap()
        .iter()
        .map(|buyer| buyer.as_u64().unwrap())
        .collect();
    assert_eq!(buyers.len(), 10, "{figures}");
    assert!(buyers.iter().all(|buyer| (1..=50).contains(buyer)));
    // Ten times somebody hesitates under the lock, one after the other.
    assert!(figures["seconds"].as_f64().unwrap() >= 0.002);
}

#[test]
fn what_a_child_writes_is_read() {
    let _watchdog = watchdog();
    let part = part("value", &[]);
    let figures = &part["figures"];
    assert_eq!(figures["number_before"], 0.0);
    assert_eq!(figures["number"].to_string(), "3.1415927");
    let array = figures["array"].as_array().unwrap();
    assert_eq!(array.len(), 10);
    assert!((0..).zip(array).all(|(at, element)| *element == -at));
}

#[test]
fn a_killed_owners_lock_goes_to_the_sleeper() {
    let _watchdog = watchdog();
    let part = part("death", &[]);
    let figures = &part["figures"];
    let rounds = figures["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 21);
    let pair = |pair: &Value| (pair[0].as_i64().unwrap(), pair[1].as_i64().unwrap());
    for (at, round) in (1..).zip(rounds) {
        assert_eq!(round["dead"], round["holder"]);
        assert_ne!(round["waiter"], round["holder"]);
        let holder = format!("process {}", round["holder"]);
        assert!(round["report"].as_str().unwrap().contains(&holder));
        assert_eq!(pair(&round["found"]), (-100 * at, 100 * (at - 1)));
        assert_eq!(pair(&round["left"]), (-100 * at, 100 * at));
        assert!(round["us"].as_f64().unwrap() >= 0.0);
    }
    let figure = |name: &str| figures[name].as_f64().unwrap();
    assert!(figure("least_us") <= figure("median_us") && figure("median_us") <= figure("most_us"));
}

#[test]
fn a_killed_holder_and_a_killed_party_hold_nobody_up() {
    let _watchdog = watchdog();
    let part = part("permits", &[]);
    let figures = &part["figures"];
    assert_eq!(figures["permits_left"], 3);
    let waits = figures["barrier"].as_array().unwrap();
    assert_eq!(waits.len(), 2);
    for wait in waits.iter().chain([&figures["semaphore"]]) {
        assert_eq!(wait["dead"], wait["killed"]);
        assert_ne!(wait["waiter"], wait["killed"]);
        let dead = format!("process {}", wait["killed"]);
        assert!(wait["report"].as_str().unwrap().contains(&dead));
    }
}

#[test]
fn a_killed_eaters_bun_is_eaten_and_the_bakers_go_home() {
    let _watchdog = watchdog();
    let part = part("bakery", &[]);
    let (peaceful, deadly) = (&part["figures"]["peaceful"], &part["figures"]["deadly"]);
    for day in [peaceful, deadly] {
        assert_eq!((&day["buns"], &day["unfinished"]), (&20.into(), &0.into()));
        assert_eq!(day["joined_us"].as_array().unwrap().len(), 2);
    }
    assert_eq!(peaceful["killed"], Value::Null);
    assert!(deadly["killed"].is_u64() && deadly["dropped"].is_object());
    assert_eq!(deadly["eaten_again"], true);
}

#[test]
fn modify_loses_no_update_and_a_killed_writer_leaves_the_entry() {
    let _watchdog = watchdog();
    let part = part("dict", &[]);
    let figures = &part["figures"];
    assert_eq!(figures["runs"][1]["ends_at"], 0);
    let death = &figures["death"];
    assert_eq!(
        (&death["read"], &death["found"]),
        (&500_000.into(), &500_000.into())
    );
    assert!(death["killed"].is_u64());
    assert_eq!(death["reported"], death["killed"]);
}

#[test]
fn the_whole_story_goes_into_a_pipe_without_escapes() {
    let _watchdog = watchdog();
    let output = run(&["tour", "--from", "100000"]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{}{text}", err(&output));
    assert_eq!(err(&output), "");
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let titles = [
        "1. Counter",
        "2. Tickets",
        "3. Value",
        "4. Death",
        "5. Permits",
        "6. Bakery",
        "7. Dict",
    ];
    for title in titles {
        assert!(text.contains(&format!("\n{title}: ")), "{text}");
    }
    assert!(text.contains("All 26 expectations hold."), "{text}");
    assert!(!text.contains("FAILED"), "{text}");
}

#[test]
fn no_color_wins_where_colours_were_asked_for() {
    let _watchdog = watchdog();
    let escapes = |variables: &[(&str, &str)]| {
        let mut command = shm(&["tour", "--only", "value"]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success());
        output.stdout.contains(&0x1b)
    };
    assert!(escapes(&[("CLICOLOR_FORCE", "1")]), "there are colours");
    assert!(!escapes(&[("NO_COLOR", "1")]));
}

#[test]
fn only_may_be_repeated_and_keeps_the_storys_order() {
    let _watchdog = watchdog();
    let output = run(&[
        "tour", "--json", "--only", "value", "--only", "tickets", "--only", "value",
    ]);
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let parts = report["parts"].as_array().unwrap();
    let names: Vec<_> = parts
        .iter()
        .map(|part| part["part"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["tickets", "value"]);
}

#[test]
fn a_part_that_is_none_and_a_number_out_of_range_are_usage_errors() {
    let _watchdog = watchdog();
    for args in [
        ["tour", "--only", "coffee"],
        ["tour", "--from", "9"],
        ["tour", "--limit", "0"],
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains(args[2]) && out(&output).is_empty());
    }
}

#[test]
fn a_child_that_nobody_of_the_tour_started_refuses() {
    let _watchdog = watchdog();
    let role = r#"{"Wait":{"name":"tickets"}}"#;
    let output = run(&["tour-child", "1", "0", role]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("shm tour"), "{}", err(&output));
    assert!(out(&output).is_empty());
}

/// Starts a tour that counts for ever, and waits until its ten processes and its name are there.
fn endless() -> (Tour, Vec<u32>) {
    let tour = Tour::start(&["tour", "--only", "counter", "--from", ENDLESS]);
    let mut children = Vec::new();
    let there = || {
        children = tour.children();
        children.len() == 10 && tour.names().len() == 1
    };
    assert!(wait_until(there, SOON), "the processes did not come up");
    (tour, children)
}

/// A tour that was killed, and whose processes are gone.
fn killed() -> Tour {
    let (mut tour, children) = endless();
    tour.0.kill().unwrap();
    let status = tour.0.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    let gone = |&pid: &u32| ThreadState::read(pid, pid).is_none_or(|thread| thread.state == 'Z');
    assert!(wait_until(|| children.iter().all(gone), SOON));
    tour
}

#[test]
fn a_signal_ends_the_tour_and_leaves_nothing() {
    let _watchdog = watchdog();
    for (signal, code) in [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
    ] {
        let (mut tour, _) = endless();
        kill(Pid::from_raw(tour.pid() as i32), signal).unwrap();
        let status = tour.0.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{signal}: {status}");
        // At once: the tour reaps its children before it ends.
        assert_eq!(tour.children(), Vec::<u32>::new(), "{signal}");
        assert_eq!(tour.names(), Vec::<String>::new(), "{signal}");
        let mut said = String::new();
        tour.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(said.contains(signal.as_str()), "{said}");
    }
}

#[test]
fn a_killed_tour_takes_its_processes_along_and_gc_its_names() {
    let _watchdog = watchdog();
    let tour = killed();
    // Another test's sweep may have been faster.
    let output = run(&["gc"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(tour.names(), Vec::<String>::new());
}

#[test]
fn the_next_tour_removes_the_names_of_a_killed_one() {
    let _watchdog = watchdog();
    let tour = killed();
    assert!(run(&["tour", "--only", "value"]).status.success());
    assert_eq!(tour.names(), Vec::<String>::new());
}

#[test]
fn gc_leaves_the_names_of_a_living_tour() {
    let _watchdog = watchdog();
    let (tour, _) = endless();
    let names = tour.names();
    let output = run(&["gc"]);
    assert!(output.status.success());
    assert!(!out(&output).contains(&names[0]), "{}", out(&output));
    assert_eq!(tour.names(), names);
}

#[test]
fn a_child_killed_by_somebody_else_fails_its_part_with_a_reason() {
    let _watchdog = watchdog();
    let (mut tour, children) = endless();
    kill(Pid::from_raw(children[4] as i32), Signal::SIGKILL).unwrap();
    let mut text = String::new();
    tour.0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(tour.0.wait().unwrap().code(), Some(1));
    let victim = format!("process {}", children[4]);
    assert!(text.contains(&victim) && text.contains("SIGKILL"), "{text}");
    assert!(text.contains("1 of 2 expectations failed"), "{text}");
    assert_eq!((tour.children().len(), tour.names().len()), (0, 0));
}

#[test]
fn a_part_that_takes_too_long_is_ended_and_the_next_one_still_runs() {
    let _watchdog = watchdog();
    let began = Instant::now();
    let args = [
        "--only", "counter", "--only", "value", "--from", ENDLESS, "--limit", "5",
    ];
    let mut tour = Tour::start(&[&["tour", "--json"], &args[..]].concat());
    let mut text = String::new();
    tour.0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(tour.0.wait().unwrap().code(), Some(1));
    assert!(began.elapsed() >= Duration::from_secs(5));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["ok"], false);
    let (counter, value) = (&report["parts"][0], &report["parts"][1]);
    assert_eq!(
        (&counter["ok"], &counter["figures"]),
        (&false.into(), &Value::Null)
    );
    let found = counter["expectations"][0]["found"].as_str().unwrap();
    assert!(found.contains("after 5 s"), "{found}");
    assert_eq!(value["ok"], true);
    let mut said = String::new();
    tour.0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(said.contains("counter: the part runs to its end"), "{said}");
    assert_eq!((tour.children().len(), tour.names().len()), (0, 0));
}

#[test]
fn a_reader_who_goes_away_ends_the_tour_without_noise() {
    let _watchdog = watchdog();
    let mut command = shm(&["tour", "--from", "100000"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let tour = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(command);
    let pid = tour.id();
    let output = tour.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "");
    assert_eq!(names_of(pid), Vec::<String>::new());
}
