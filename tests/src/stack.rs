//! How much stack a program takes, read from its instructions: the deepest chain of calls, each frame rounded up to 16 bytes
//! as the verifier does for a JIT compiler. The kernel itself only says whether it is too much. What `bpf_loop` calls back is
//! a chain of its own: kernel 6.18 loads programs that would be above its 512 bytes if the two were added up.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::{Context as _, Result, ensure};
use aya_obj::{Object, generated::bpf_insn};

const FRAME_POINTER: u8 = 10;
/// Call of a function of the program's own, and its address as a callback.
const PSEUDO_CALL: u8 = 1;
const PSEUDO_FUNC: u8 = 4;

/// How a function is named in code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Called,
    CalledBack,
}

// Instruction codes of RFC 9669.
const CALL: u8 = 0x85;
const LOAD_IMM64: u8 = 0x18;
const MOVE64_REGISTER: u8 = 0xbf;
const ADD64_IMMEDIATE: u8 = 0x07;
const CLASS: u8 = 0x07;
const CLASS_LOAD: u8 = 0x01;
const CLASS_STORE: u8 = 0x02;
const CLASS_STORE_REGISTER: u8 = 0x03;

/// The bytes of stack that each program of an object takes at most, by its name.
///
/// # Errors
/// If the object cannot be read, or a program calls itself.
pub fn depths(object: &[u8]) -> Result<BTreeMap<String, usize>> {
    let mut object = Object::parse(object).context("read the object")?;
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).context("link the programs")?;
    let mut depths = BTreeMap::new();
    for (name, program) in &object.programs {
        let function = object.functions.get(&program.function_key());
        let code = &function.with_context(|| format!("{name} has no code"))?.instructions;
        depths.insert(
            name.clone(),
            deepest(code, 0, &mut Vec::new()).with_context(|| name.clone())?,
        );
    }
    Ok(depths)
}

/// The deepest chain that begins with the function at an index.
fn deepest(code: &[bpf_insn], entry: usize, callers: &mut Vec<usize>) -> Result<usize> {
    ensure!(!callers.contains(&entry), "the function at {entry} calls itself");
    callers.push(entry);
    let end = entries(code)
        .into_iter()
        .find(|other| *other > entry)
        .unwrap_or(code.len());
    let mut below = 0;
    for called in named(code, entry..end, Named::Called) {
        below = below.max(deepest(code, called, callers)?);
    }
    callers.pop();
    Ok(frame(&code[entry..end]).max(1).next_multiple_of(16) + below)
}

/// Where functions begin: at the program's start, and wherever a call leads.
fn entries(code: &[bpf_insn]) -> BTreeSet<usize> {
    let mut entries = named(code, 0..code.len(), Named::Called);
    entries.extend(named(code, 0..code.len(), Named::CalledBack));
    entries.insert(0);
    entries
}

/// The functions that a stretch of code names.
fn named(code: &[bpf_insn], stretch: std::ops::Range<usize>, how: Named) -> BTreeSet<usize> {
    let of = |at: usize| {
        let instruction = code.get(at)?;
        let found = match (instruction.code, instruction.src_reg()) {
            (CALL, PSEUDO_CALL) => Named::Called,
            (LOAD_IMM64, PSEUDO_FUNC) => Named::CalledBack,
            _ => return None,
        };
        let target = at.checked_add_signed(instruction.imm as isize + 1)?;
        (found == how).then_some(target)
    };
    stretch.filter_map(of).collect()
}

/// How far below its frame pointer a function reaches: by loads and stores, and by the addresses that it forms.
fn frame(code: &[bpf_insn]) -> usize {
    let mut lowest = 0i32;
    let mut copies = HashSet::new();
    for instruction in code {
        let (to, from) = (instruction.dst_reg(), instruction.src_reg());
        let base = match instruction.code & CLASS {
            CLASS_LOAD => from,
            CLASS_STORE | CLASS_STORE_REGISTER => to,
            _ => u8::MAX,
        };
        if base == FRAME_POINTER {
            lowest = lowest.min(instruction.off.into());
        }
        match instruction.code {
            MOVE64_REGISTER if from == FRAME_POINTER => {
                copies.insert(to);
            }
            ADD64_IMMEDIATE if copies.remove(&to) => lowest = lowest.min(instruction.imm),
            MOVE64_REGISTER => {
                copies.remove(&to);
            }
            _ => {}
        }
    }
    lowest.unsigned_abs() as usize
}
