//! The step killer finds each of the well-known faults, and nothing where there is none.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use nix::libc;
use shm_testing::step_killer::{Case, Error, Mode, Outcomes, Report, Sampling, StepKiller, Suite};
use shm_testing::{Child, Peer, UniqueName, Watchdog, peer_main};

/// The machine may be busy with other things.
const LIMIT: Duration = Duration::from_secs(300);
const VICTIMS: &str = env!("CARGO_BIN_EXE_toy-victim");

#[test]
fn peer() {
    peer_main(&[("untraceable", untraceable as fn(&mut Peer))]);
}

fn switch() -> Outcomes {
    Outcomes::switch("0", "1")
}

/// A control hangs on purpose; it need not hang for long.
fn control(operation: &str, state: &str, fault: &str) -> Case {
    Case::new(operation, state)
        .limit(Duration::from_millis(400))
        .control(fault)
}

/// One job: libtest runs several of these tests at a time.
fn killer() -> StepKiller {
    StepKiller::new(VICTIMS).unwrap().jobs(1)
}

fn run(cases: &[Case]) -> Report {
    run_by(&killer(), cases)
}

fn run_by(killer: &StepKiller, cases: &[Case]) -> Report {
    let report = killer.run_with(cases, |row| println!("{row}")).unwrap();
    println!("{}", report.summary());
    report
}

#[track_caller]
fn assert_clean(cases: &[Case]) {
    let report = run(cases);
    assert_eq!(report.violations(), 0);
    assert!(report.points() > 0);
    assert!(report.rows.iter().all(|row| row.whole && row.missed == 0));
}

#[track_caller]
fn assert_caught(cases: &[Case]) {
    assert_eq!(run(cases).controls(), (cases.len(), cases.len()));
}

#[test]
fn right_toy_is_clean_at_every_step() {
    let _watchdog = Watchdog::new(LIMIT);
    // On all processors.
    let killer = StepKiller::new(VICTIMS).unwrap();
    let report = run_by(
        &killer,
        &[
            Case::new("good", "idle").killed(switch()),
            Case::new("good", "orphan").orphaned().killed(switch()),
        ],
    );
    assert_eq!(report.violations(), 0);
    assert!(report.rows.iter().all(|row| row.whole && row.missed == 0));
    assert!(report.points() > 4 * 50);
}

#[test]
fn right_toy_is_clean_while_others_act() {
    let _watchdog = Watchdog::new(LIMIT);
    assert_clean(&[Case::new("good", "idle")
        .frozen("good", Outcomes::always("1"))
        .frozen_and_killed("good", switch())
        .killed_under_waiter("good", switch())]);
}

#[test]
fn right_toy_is_clean_when_woken_from_sleep() {
    let _watchdog = Watchdog::new(LIMIT);
    let held = || Case::new("good", "idle").while_held("lock");
    let doomed = || Case::new("good", "idle").while_held_by_the_doomed("lock");
    let second = || Case::new("good", "idle").while_held("lock-second-thread");
    let cases = [
        held().killed(switch()),
        doomed().mode(Mode::Kill, switch()),
        second().mode(Mode::Kill, switch()),
    ];
    let report = run_by(&killer().sampling(Sampling::Points(60)), &cases);
    assert_eq!(report.violations(), 0);
    // Both sides of the sleep are visited, and the sleep itself.
    assert!(
        report
            .rows
            .iter()
            .all(|row| row.points == 61 && row.missed == 0)
    );
}

#[test]
fn second_kill_finds_what_the_first_left() {
    let _watchdog = Watchdog::new(LIMIT);
    let rising = || Outcomes::rising(&["0", "1", "2"]);
    let cases = [
        Case::new("good", "idle").killed_after("good", rising()),
        control("good", "idle", "torn").killed_after("torn", rising()),
    ];
    // Few points in each of the starts, which are all there.
    let report = run_by(&killer().sampling(Sampling::Points(400)), &cases);
    assert_eq!((report.violations(), report.controls()), (0, (1, 1)));
    assert!(report.points() >= 340);
}

#[test]
fn two_stores_without_recovery_are_caught() {
    let _watchdog = Watchdog::new(LIMIT);
    assert_caught(&[control("torn", "idle", "torn").killed(switch())]);
}

#[test]
fn owner_stored_after_the_flag_is_caught() {
    let _watchdog = Watchdog::new(LIMIT);
    assert_caught(&[control("flag", "idle", "the checker hangs").killed(switch())]);
}

#[test]
fn recovery_that_cannot_be_repeated_is_caught() {
    let _watchdog = Watchdog::new(LIMIT);
    assert_caught(&[control("early", "orphan", "torn")
        .orphaned()
        .mode(Mode::Kill, switch())]);
    assert_clean(&[Case::new("good", "orphan")
        .orphaned()
        .mode(Mode::Kill, switch())]);
}

#[test]
fn liveness_by_kill_is_caught_by_a_corpse() {
    let _watchdog = Watchdog::new(LIMIT);
    // Reaped ones it can tell.
    assert_clean(&[Case::new("kill0", "idle").mode(Mode::Kill, switch())]);
    assert_caught(&[
        control("kill0", "idle", "the checker hangs").mode(Mode::KillUnreaped, switch())
    ]);
}

#[test]
fn liveness_by_the_state_letter_is_caught_by_a_second_thread() {
    let _watchdog = Watchdog::new(LIMIT);
    // Corpses it can tell.
    assert_clean(&[Case::new("letter", "idle").mode(Mode::KillUnreaped, switch())]);
    assert_caught(&[control("letter", "idle", "somebody came in")
        .while_held("lock-second-thread")
        .killed(switch())]);
}

#[test]
fn liveness_by_a_timer_is_caught_by_a_pause() {
    let _watchdog = Watchdog::new(LIMIT);
    assert_caught(&[
        control("timer", "idle", "outcome \"0\"").frozen("timer", Outcomes::always("1"))
    ]);
}

#[test]
fn sleep_without_another_look_is_caught_by_a_waiter() {
    let _watchdog = Watchdog::new(LIMIT);
    assert_caught(&[
        control("forever", "idle", "forever hangs").killed_under_waiter("forever", switch())
    ]);
}

#[test]
fn ticket_of_a_dead_waiter_is_caught() {
    let _watchdog = Watchdog::new(LIMIT);
    assert_caught(&[control("ticket", "idle", "the checker hangs")
        .while_held("ticket")
        .mode(Mode::Kill, switch())]);
}

#[test]
fn sleepers_must_wake_and_are_heard() {
    let _watchdog = Watchdog::new(LIMIT);
    // With two, the words of both are heard; the pauses in their sleep are their own.
    let twice = Case::new("raise", "idle")
        .with_sleeper("sleep in slices")
        .with_sleeper("sleep in slices")
        .killed(Outcomes::switch("0; woken, woken", "1; woken, woken"));
    assert_clean(&[twice]);
}

#[test]
fn sleeper_that_never_looks_again_is_caught() {
    let _watchdog = Watchdog::new(LIMIT);
    let report = run(&[control("raise", "idle", "sleep for ever hangs")
        .with_sleeper("sleep for ever")
        .mode(Mode::Kill, Outcomes::switch("0; woken", "1; woken"))]);
    assert_eq!(report.controls(), (1, 1));
    let violations = &report.rows[0].violations;
    let hangs = violations.iter().any(|seen| seen.what.contains("hangs"));
    assert!(hangs, "{violations:?}");
}

#[test]
fn who_gives_up_is_killed_asleep_too() {
    let _watchdog = Watchdog::new(LIMIT);
    let killer = killer().sampling(Sampling::Points(60));
    let report = run_by(
        &killer,
        &[Case::new("sleep and give up", "idle")
            .checked_by("raise")
            .gives_up()
            .mode(Mode::Kill, Outcomes::always("0"))],
    );
    assert_eq!(report.violations(), 0);
    let row = &report.rows[0];
    assert_eq!(row.points + row.missed, row.steps.min(59) + 2);
    // One that does not sleep would not be killed asleep.
    let wakeful = Case::new("raise", "idle").gives_up().killed(switch());
    let report = run_by(&killer, &[wakeful]);
    let violation = &report.rows[0].violations[0];
    assert!(violation.what.contains("does not sleep"), "{violation}");
}

#[test]
fn sleeper_that_does_not_sleep_is_an_error() {
    let _watchdog = Watchdog::new(LIMIT);
    let case = Case::new("good", "idle")
        .with_sleeper("good")
        .killed(switch());
    let error = killer().run(&[case]).unwrap_err();
    assert!(matches!(error, Error::Setup(_)), "{error}");
    assert!(
        error.to_string().contains("does not fall asleep ("),
        "{error}"
    );
}

#[test]
fn permit_without_an_owner_is_caught() {
    let _watchdog = Watchdog::new(LIMIT);
    assert_caught(&[control("permit", "two permits", "did not come back")
        .mode(Mode::Kill, Outcomes::always("all there"))]);
}

#[test]
fn count_that_a_dead_reader_leaves_raised_is_caught() {
    let _watchdog = Watchdog::new(LIMIT);
    assert_caught(&[control("reader", "idle", "keeps the writer out")
        .mode(Mode::Kill, Outcomes::always("free"))]);
}

#[test]
fn row_that_may_be_a_sample_is_called_one() {
    let _watchdog = Watchdog::new(LIMIT);
    let report = run(&[
        Case::new("good", "idle")
            .mode(Mode::Kill, switch())
            .at_most(10)
            .mode(Mode::KillUnreaped, switch()),
        Case::new("good", "orphan")
            .orphaned()
            .at_most(50)
            .killed_after("good", Outcomes::rising(&["0", "1", "2"])),
    ]);
    assert_eq!(report.violations(), 0);
    let [whole, sample, twice] = &report.rows[..] else {
        panic!("three rows");
    };
    assert_eq!((sample.points, sample.whole), (10, false));
    assert!(whole.whole && whole.points == whole.steps + 1);
    assert!(!twice.whole && (25..=75).contains(&twice.points));
    assert!(report.table().contains("| a sample of 10 |"));
}

#[test]
fn every_violation_names_its_line() {
    let _watchdog = Watchdog::new(LIMIT);
    let report = run(&[control("torn", "idle", "torn").mode(Mode::Kill, switch())]);
    let mut violations = report.rows[0].violations.iter();
    let violation = violations.find(|seen| seen.what.contains("torn"));
    let violation = violation.expect("a torn one");
    let place = format!("{} {}", violation.after.line, violation.after.within);
    assert!(place.contains("victims/toy.rs:"), "{violation}");
}

#[test]
fn leak_is_a_violation() {
    let _watchdog = Watchdog::new(LIMIT);
    let cases = [Case::new("good", "idle")
        .checked_by("leaky")
        .mode(Mode::Kill, switch())];
    let killer = StepKiller::new(VICTIMS)
        .unwrap()
        .sampling(Sampling::Points(4));
    let report = killer.run(&cases).unwrap();
    assert_eq!(report.violations(), 4);
    assert!(
        report.rows[0]
            .violations
            .iter()
            .all(|v| v.what.contains("leak"))
    );
}

#[test]
fn operation_that_fails_undisturbed_is_a_violation() {
    let _watchdog = Watchdog::new(LIMIT);
    let report = run(&[Case::new("panics", "idle").mode(Mode::Kill, switch())]);
    assert_eq!(report.violations(), 1);
    let violation = &report.rows[0].violations[0];
    assert_eq!(violation.step, "undisturbed");
    assert!(violation.what.contains("on purpose"), "{violation}");
}

#[test]
fn start_state_that_cannot_be_made_is_an_error() {
    let _watchdog = Watchdog::new(LIMIT);
    let killer = StepKiller::new(VICTIMS).unwrap();
    let error = killer
        .run(&[Case::new("good", "nowhere").killed(switch())])
        .unwrap_err();
    assert!(matches!(error, Error::Setup(_)), "{error}");
}

#[test]
fn program_without_marks_is_an_error() {
    let error = StepKiller::new("/bin/true").unwrap_err();
    assert!(matches!(error, Error::Program { .. }), "{error}");
}

#[test]
fn suite_fails_by_its_exit_code_and_writes_the_table() {
    let _watchdog = Watchdog::new(LIMIT);
    let table = std::env::temp_dir().join(&*UniqueName::new("table"));
    let suite = |cases| Suite::new(VICTIMS, cases);
    let args = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let same = |left: ExitCode, right: ExitCode| format!("{left:?}") == format!("{right:?}");

    let good = Case::new("good", "idle").mode(Mode::Kill, switch());
    let line = format!("--points 5 --jobs 1 --table {}", table.display());
    assert!(same(
        suite(vec![good.clone()]).main(args(&line)),
        ExitCode::SUCCESS
    ));
    let text = fs::read_to_string(&table).unwrap();
    fs::remove_file(&table).unwrap();
    assert!(
        text.contains("| good | idle | kill |") && text.contains("| a sample of 5 | 0 |"),
        "{text}"
    );

    // A control that nothing is wrong with is one that was missed.
    let missed = good.clone().control("torn");
    assert!(same(
        suite(vec![missed]).main(args("--points 5")),
        ExitCode::FAILURE
    ));
    // Nor is one caught that fails in another way, or does not even begin.
    for fails in ["panics", "nothing of that name"] {
        let case = Case::new(fails, "idle").mode(Mode::Kill, switch());
        assert!(same(
            suite(vec![case.control("torn")]).main(args("--points 5")),
            ExitCode::FAILURE
        ));
    }
    let torn = Case::new("torn", "idle").mode(Mode::Kill, switch());
    assert!(same(
        suite(vec![torn.clone()]).main(args("--full")),
        ExitCode::FAILURE
    ));
    assert!(same(
        suite(vec![torn, good]).main(args("--only good --points 5")),
        ExitCode::SUCCESS
    ));
    assert!(same(
        suite(Vec::new()).main(args("--fool")),
        ExitCode::from(2)
    ));
    // Nothing is to be done, and that is done.
    let missed = || vec![Case::new("good", "idle").control("torn")];
    for line in ["--list", "--help"] {
        assert!(same(suite(missed()).main(args(line)), ExitCode::SUCCESS));
    }
}

#[test]
fn run_that_would_show_nothing_fails() {
    let _watchdog = Watchdog::new(LIMIT);
    let suite = |cases| Suite::new(VICTIMS, cases);
    let args = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let fails = |suite: Suite, line: &str| {
        format!("{:?}", suite.main(args(line))) == format!("{:?}", ExitCode::FAILURE)
    };
    let good = || Case::new("good", "idle").mode(Mode::Kill, switch());
    assert!(!fails(suite(vec![good()]), "--points 5"));
    assert!(fails(suite(vec![good()]), "--only goods"));
    assert!(fails(suite(vec![good()]).with_controls(1), "--points 5"));
    let without = Case::new("good", "idle");
    assert!(fails(suite(vec![good(), without]), "--points 5"));
}

/// What the victims of this process count in; goes when it is dropped.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        let path = format!("stray-{}", std::process::id());
        let _ = fs::remove_file(std::env::temp_dir().join(path));
    }
}

#[test]
fn victims_that_stray_are_neither_taken_for_wrong_nor_for_visited() {
    let (_watchdog, _counted) = (Watchdog::new(LIMIT), Counted);
    let report = run(&[Case::new("stray", "idle").mode(Mode::Kill, switch())]);
    assert_eq!(report.violations(), 0);
    assert!(report.points() > 4 * 20);
    // What is wrong on the recorded way stays so.
    let wrong = Case::new("stray", "idle").mode(Mode::Kill, Outcomes::rising(&["1", "0"]));
    assert!(run(&[wrong]).violations() > 0);
    drop(Counted);
    let report = run(&[Case::new("lose the way", "idle")
        .checked_by("stray")
        .mode(Mode::Kill, switch())]);
    let row = &report.rows[0];
    assert!(row.missed > 2 && row.points + row.missed == row.steps + 1);
    assert!(!row.whole && report.missed() == row.missed);
    let violation = row.violations.last().unwrap();
    assert!(violation.what.contains("never reached"), "{violation}");
}

#[test]
fn points_beside_the_way_are_not_all_that_a_row_has() {
    let (_watchdog, _counted) = (Watchdog::new(LIMIT), Counted);
    // All that it shows is right, and nothing of it has a place in the order.
    let report = run(&[Case::new("turn off", "idle")
        .checked_by("stray")
        .mode(Mode::Kill, switch())]);
    let row = &report.rows[0];
    assert!(row.aside > 2 && report.aside() == row.aside);
    let violation = row.violations.last().unwrap();
    assert!(violation.what.contains("beside"), "{violation}");
}

#[test]
fn whom_the_others_lead_astray_is_visited_alone() {
    let _watchdog = Watchdog::new(LIMIT);
    let shy = Case::new("shun others", "idle").checked_by("stray");
    let report = run_by(&killer().jobs(4), &[shy.mode(Mode::Kill, switch())]);
    let row = &report.rows[0];
    assert!(row.violations.is_empty() && row.whole && row.missed == 0);
}

/// Forbids ptrace to itself and its children, as a container may, and tries.
fn untraceable(peer: &mut Peer) {
    let statement = |code: u32, jump: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump,
        k,
    };
    // Load the call's number; if it is ptrace answer EPERM, else allow.
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            libc::SYS_ptrace as u32,
        ),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: filter.as_mut_ptr(),
    };
    nix::sys::prctl::set_no_new_privs().unwrap();
    // SAFETY: the kernel copies the program, which outlives the call.
    let refused = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    assert_eq!(refused, 0);
    match StepKiller::new(VICTIMS) {
        Err(error @ Error::PtraceNotPermitted(_)) => peer.say(&error.to_string()),
        other => peer.say(&format!("{other:?}")),
    }
    let good = Case::new("good", "idle").mode(Mode::Kill, switch());
    let code = Suite::new(VICTIMS, vec![good]).main([]);
    peer.say(&format!("{code:?}"));
}

#[test]
fn where_ptrace_is_not_permitted_the_tool_says_so_and_fails() {
    let _watchdog = Watchdog::new(LIMIT);
    let mut child = Child::spawn("untraceable", &[]);
    let said = child.hear();
    assert!(said.starts_with("ptrace is not permitted here"), "{said}");
    assert_eq!(child.hear(), format!("{:?}", ExitCode::FAILURE));
}
