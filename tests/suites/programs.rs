//! What the programs cost the verifier, and how much stack they take: each against a budget that is committed here. A
//! program that outgrows its own fails a test before it fails to load on a kernel with less patience.

use anyhow::{Context as _, Result, ensure};
use aya::{
    EbpfLoader, VerifierLogLevel,
    programs::{Program, ProgramInfo},
};
use netpath_agent::datapath::load::object;
use netpath_common::hook::Hook;
use netpath_tests::stack;

/// The most instructions that the verifier may look at, over all ways through a program, and the most stack, in bytes.
const BUDGET: &[(Hook, u32, usize)] = &[
    (Hook::FromPod, 90_000, 448),
    (Hook::FromOverlay, 46_000, 400),
    (Hook::FromWire, 112_000, 448),
    (Hook::ToWire, 9_600, 384),
    (Hook::FromHost, 39_000, 416),
    (Hook::FromWireXdp, 105_000, 448),
    (Hook::Connect4, 5_000, 320),
    (Hook::Sendmsg4, 3_600, 336),
    (Hook::Recvmsg4, 120, 32),
    (Hook::Getpeername4, 120, 32),
    (Hook::Connect6, 18_500, 480),
    (Hook::Sendmsg6, 12_500, 480),
    (Hook::Recvmsg6, 250, 80),
    (Hook::Getpeername6, 250, 80),
];

fn info(program: &mut Program) -> Result<ProgramInfo> {
    Ok(match program {
        Program::SchedClassifier(program) => {
            program.load()?;
            program.info()?
        }
        Program::Xdp(program) => {
            program.load()?;
            program.info()?
        }
        Program::CgroupSockAddr(program) => {
            program.load()?;
            program.info()?
        }
        _ => anyhow::bail!("neither tc nor XDP, nor for sockets"),
    })
}

#[test]
fn every_program_loads_within_its_budget() -> Result<()> {
    let mut ebpf = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .load(object()?)?;
    let mut over = Vec::new();
    let stack = stack::depths(object()?)?;
    for &(hook, budget, most) in BUDGET {
        let program = ebpf
            .program_mut(hook.name())
            .with_context(|| format!("no program {}", hook.name()))?;
        let info = info(program).with_context(|| format!("load {}", hook.name()))?;
        let cost = info.verified_instruction_count().context("the kernel does not tell")?;
        let depth = *stack.get(hook.name()).context("no such program")?;
        println!(
            "{}: {cost} of {budget} verified instructions, {depth} of {most} bytes of stack, {} bytes of code",
            hook.name(),
            info.size_translated().unwrap_or(0)
        );
        if depth > most {
            over.push(format!("{}: {depth} bytes of stack, of at most {most}", hook.name()));
        }
        if cost > budget {
            over.push(format!(
                "{}: {cost} verified instructions, of at most {budget}",
                hook.name()
            ));
        }
    }
    ensure!(over.is_empty(), "{}", over.join("\n"));
    ensure!(BUDGET.len() == Hook::ALL.len(), "a hook has no budget");
    Ok(())
}
