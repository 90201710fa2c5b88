//! What one run of each program costs, by BPF_PROG_TEST_RUN on a typical frame: the loaded programs with the maps of a
//! running node, without the packet's way through the stack.
//!
//! The kernel runs a program many times over the same buffer and divides. That is right where the program leaves the frame
//! as it is. Where it rewrites it, each run gets a fresh frame, the shortest counts, and the clock's own share, learnt from a
//! frame that is left alone, is taken off.

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use netpath_agent::datapath::pins::Pins;
use netpath_common::hook::Hook;

use super::{
    frames::{self, Frame},
    measure::pin,
    netns::Namespace,
    progress::Progress,
    report::Program,
    site::Site,
};

/// Runs in one call, where the frame stays as it is.
const REPEAT: u32 = 2_000;
/// Calls of which the shortest counts.
const CALLS: usize = 500;
/// Calls with one run each.
const SINGLE_CALLS: usize = 20_000;
/// Room for what a program puts in front of a frame.
const ROOM: usize = 256;
/// `ifindex` in the kernel's `struct __sk_buff` (include/uapi/linux/bpf.h), in bytes.
const IFINDEX: usize = 40;

/// Times every program on the frames of [`frames::typical`].
///
/// # Errors
/// When a program cannot be run.
pub fn measure(site: &Site) -> Result<Vec<Program>> {
    let frames = frames::typical(site)?;
    let node = site.node_namespace(0)?;
    let pins = site.pins(0);
    let clock = clock(&node, &pins, &frames::foreign(site)?)?;
    let mut progress = Progress::new("programs", frames.len());
    let mut programs = Vec::new();
    for frame in frames {
        let context = || format!("{}: {}", frame.hook.name(), frame.what);
        let timed = node.run(|| {
            pin()?;
            time(&pins, &frame, clock)
        });
        programs.push(timed.with_context(context)?);
        progress.step();
    }
    Ok(programs)
}

/// A single run's share of the clock, in nanoseconds.
fn clock(node: &Namespace, pins: &Pins, frame: &Frame) -> Result<f64> {
    node.run(|| {
        pin()?;
        let program = open(pins, frame.hook)?;
        let many = shortest(&program, frame, REPEAT, CALLS)?;
        let one = shortest(&program, frame, 1, SINGLE_CALLS)?;
        Ok((one - many).max(0.0))
    })
}

fn time(pins: &Pins, frame: &Frame, clock: f64) -> Result<Program> {
    let program = open(pins, frame.hook)?;
    if let Some(first) = &frame.first {
        program.test_run(TestRunOptions {
            data_in: Some(first),
            ctx_in: Some(&context(frame)),
            ..TestRunOptions::new()
        })?;
    }
    let mut out = vec![0; frame.bytes.len() + ROOM];
    let result = program.test_run(TestRunOptions {
        data_in: Some(&frame.bytes),
        data_out: Some(&mut out),
        ctx_in: Some(&context(frame)),
        ..TestRunOptions::new()
    })?;
    let length = usize::try_from(result.data_size_out)?;
    let untouched = out.get(..length) == Some(&frame.bytes[..]);
    let verdict = verdict(result.return_value);
    ensure!(
        verdict == frame.verdict,
        "the program answered {verdict} where {} was due: what was timed is not this way",
        frame.verdict
    );
    let nanoseconds = if untouched {
        shortest(&program, frame, REPEAT, CALLS)?
    } else {
        (shortest(&program, frame, 1, SINGLE_CALLS)? - clock).max(0.0)
    };
    Ok(Program {
        hook: frame.hook.name(),
        frame: frame.what.clone(),
        verdict: verdict.to_owned(),
        nanoseconds,
    })
}

/// Nanoseconds a run of the shortest of `calls` calls.
fn shortest(program: &SchedClassifier, frame: &Frame, repeat: u32, calls: usize) -> Result<f64> {
    let context = context(frame);
    let mut shortest = f64::MAX;
    for _ in 0..calls {
        let result = program.test_run(TestRunOptions {
            data_in: Some(&frame.bytes),
            ctx_in: Some(&context),
            repeat,
            ..TestRunOptions::new()
        })?;
        shortest = shortest.min(result.duration.as_secs_f64() * 1e9);
    }
    Ok(shortest)
}

fn open(pins: &Pins, hook: Hook) -> Result<SchedClassifier> {
    let path = pins.program(hook);
    SchedClassifier::from_pin(&path).with_context(|| format!("cannot open the program {}", path.display()))
}

/// As much of `struct __sk_buff` as says which device the frame is on.
fn context(frame: &Frame) -> Vec<u8> {
    let mut context = vec![0; IFINDEX + 4];
    context[IFINDEX..].copy_from_slice(&frame.ifindex.to_ne_bytes());
    context
}

/// `TC_ACT_*` of include/uapi/linux/pkt_cls.h; -1 lets the device's next program decide.
fn verdict(value: u32) -> &'static str {
    match value.cast_signed() {
        -1 | 0 => "pass",
        2 => "drop",
        7 => "redirect",
        _ => "another",
    }
}
