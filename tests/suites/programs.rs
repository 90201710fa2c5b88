//! What the programs cost the verifier, and how much stack they take: each against a budget that is committed here. A
//! program that outgrows its own fails a test before it fails to load on a kernel with less patience.

use anyhow::{Context as _, Result, ensure};
use aya::{
    EbpfLoader, VerifierLogLevel,
    programs::{Program, ProgramInfo},
};
use netpath_agent::datapath::load::object;
use netpath_common::hook::Hook;

/// The most instructions that the verifier may look at, over all ways through a program.
const BUDGET: &[(Hook, u32)] = &[
    (Hook::FromPod, 85_000),
    (Hook::ToPod, 6_000),
    (Hook::FromOverlay, 40_000),
    (Hook::FromWire, 80_000),
    (Hook::ToWire, 6_000),
    (Hook::FromHost, 50_000),
    (Hook::FromWireXdp, 80_000),
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
        _ => anyhow::bail!("neither tc nor XDP"),
    })
}

/// Loading alone shows that the stack fits: the verifier adds up the frames along every chain of calls, and refuses more
/// than 512 bytes.
#[test]
fn every_program_loads_within_its_budget() -> Result<()> {
    let mut ebpf = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .load(object()?)?;
    let mut over = Vec::new();
    for &(hook, budget) in BUDGET {
        let program = ebpf
            .program_mut(hook.name())
            .with_context(|| format!("no program {}", hook.name()))?;
        let info = info(program).with_context(|| format!("load {}", hook.name()))?;
        let cost = info.verified_instruction_count().context("the kernel does not tell")?;
        println!(
            "{}: {cost} of {budget} verified instructions, {} bytes",
            hook.name(),
            info.size_translated().unwrap_or(0)
        );
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
