//! The loaded programs: maps filled from the host's tables, a frame run through a program, maps read back.

use std::{collections::BTreeMap, hash::Hash};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, PerCpuValues, lpm_trie::Key},
    programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
    util::nr_cpus,
};
use netpath_agent::datapath::{abi::Abi, load::object};
use netpath_common::{
    abi::{
        Layouts,
        config::Config,
        counter::{COUNTERS, Counter},
        source::SourceKey,
    },
    hook::Hook,
    names,
};
use netpath_tests::tables::{FamilyTables, HostTables};

use super::Remembered;

/// The size of `struct __sk_buff` and the places of its fields, in bytes (include/uapi/linux/bpf.h of 6.18).
const CONTEXT: usize = 192;
const IFINDEX: usize = 40;
const CONTROL_BUFFER: usize = 48;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

/// What a program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The return value.
    pub code: i32,
    /// tc alone: `skb->cb`, where a program tells its verdict.
    pub told: Option<[u32; 4]>,
    /// The frame as it left.
    pub frame: Vec<u8>,
}

/// Programs and maps of their own, pinned nowhere.
pub struct Kernel {
    ebpf: Ebpf,
}

impl Kernel {
    /// Loads all programs.
    pub fn load() -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(object()?).context("load the object")?;
        for hook in Hook::ALL {
            match ebpf
                .program_mut(hook.name())
                .with_context(|| format!("no program {}", hook.name()))?
            {
                Program::SchedClassifier(program) => program.load(),
                Program::Xdp(program) => program.load(),
                // The kernel has no test run for these: suites/sockets.rs makes real calls.
                Program::CgroupSockAddr(_) => continue,
                _ => anyhow::bail!("{}: neither tc nor XDP, nor for sockets", hook.name()),
            }
            .with_context(|| format!("load {}", hook.name()))?;
        }
        Ok(Self { ebpf })
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))
    }

    /// Makes every map hold exactly what the tables do, and the counters zero.
    pub fn fill(&mut self, config: &Config, tables: &HostTables) -> Result<()> {
        let mut array: Array<&mut MapData, Abi<Config>> = Array::try_from(self.map(names::CONFIG)?)?;
        array.set(0, Abi(*config), 0)?;
        fill(self.map(names::BRIDGE)?, &tables.bridge)?;
        self.fill_family(&tables.v4)?;
        self.fill_family(&tables.v6)?;
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        let mut counters: PerCpuArray<&mut MapData, Abi<Counter>> = PerCpuArray::try_from(self.map(names::COUNTER)?)?;
        for index in 0..COUNTERS {
            counters.set(index, PerCpuValues::try_from(vec![Abi(Counter::default()); cpus])?, 0)?;
        }
        Ok(())
    }

    fn fill_family<A: Layouts>(&mut self, tables: &FamilyTables<A>) -> Result<()> {
        let names = A::NAMES;
        fill(self.map(names.endpoint)?, &tables.endpoints)?;
        fill(self.map(names.route)?, &tables.routes)?;
        fill(self.map(names.service)?, &tables.services)?;
        fill(self.map(names.backend)?, &tables.backends)?;
        fill_trie::<A>(self.map(names.source)?, &tables.sources)?;
        fill(self.map(names.affinity)?, &tables.affinities)?;
        fill(self.map(names.conntrack)?, &tables.connections)?;
        fill(self.map(names.fragment)?, &tables.fragments)
    }

    /// What packets left behind in the maps of the family whose tables these are.
    pub fn remembered<A: Layouts>(&mut self, _tables: &FamilyTables<A>) -> Result<Remembered<A>> {
        let names = A::NAMES;
        Ok(super::remembered(&FamilyTables::<A> {
            connections: read(self.map(names.conntrack)?)?,
            affinities: read(self.map(names.affinity)?)?,
            fragments: read(self.map(names.fragment)?)?,
            ..FamilyTables::default()
        }))
    }

    /// What was counted, by index, without what was not.
    pub fn counters(&mut self) -> Result<BTreeMap<u32, Counter>> {
        let map: PerCpuArray<&mut MapData, Abi<Counter>> = PerCpuArray::try_from(self.map(names::COUNTER)?)?;
        let mut counted = BTreeMap::new();
        for index in 0..COUNTERS {
            let mut sum = Counter::default();
            for Abi(counter) in map.get(&index, 0)?.iter() {
                sum.packets += counter.packets;
                sum.bytes += counter.bytes;
            }
            if sum != Counter::default() {
                counted.insert(index, sum);
            }
        }
        Ok(counted)
    }

    /// Runs a frame through a hook's program, as on this device.
    pub fn run(&mut self, hook: Hook, frame: &[u8], ifindex: u32, gso_size: usize) -> Result<Answer> {
        let mut out = vec![0; 8192];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let program = self.ebpf.program_mut(hook.name()).context("no such program")?;
        if hook == Hook::FromWireXdp {
            let program: &mut Xdp = program.try_into()?;
            let result = program.test_run(options)?;
            out.truncate(result.data_size_out as usize);
            return Ok(Answer {
                code: result.return_value as i32,
                told: None,
                frame: out,
            });
        }
        let mut context = [0; CONTEXT];
        put(&mut context, IFINDEX, ifindex);
        if gso_size != 0 {
            put(&mut context, GSO_SEGS, frame.len().div_ceil(gso_size) as u32);
            put(&mut context, GSO_SIZE, gso_size as u32);
        }
        let mut context_out = [0; CONTEXT];
        options.ctx_in = Some(&context);
        options.ctx_out = Some(&mut context_out);
        let program: &mut SchedClassifier = program.try_into()?;
        let result = program.test_run(options)?;
        ensure!(
            result.ctx_size_out as usize >= CONTROL_BUFFER + 16,
            "a context of {} bytes",
            result.ctx_size_out
        );
        out.truncate(result.data_size_out as usize);
        let word = |at: usize| {
            context_out[at..]
                .first_chunk()
                .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
        };
        Ok(Answer {
            code: result.return_value as i32,
            told: Some([0, 4, 8, 12].map(|at| word(CONTROL_BUFFER + at))),
            frame: out,
        })
    }
}

fn put(context: &mut [u8; CONTEXT], at: usize, value: u32) {
    context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

fn fill<K: bytemuck::Pod + Ord + Hash, V: bytemuck::Pod>(map: &mut Map, entries: &BTreeMap<K, V>) -> Result<()> {
    let mut map: HashMap<&mut MapData, Abi<K>, Abi<V>> = HashMap::try_from(map)?;
    let old: Vec<Abi<K>> = map.keys().collect::<Result<_, _>>()?;
    for key in old {
        map.remove(&key)?;
    }
    for (key, value) in entries {
        map.insert(Abi(*key), Abi(*value), 0)?;
    }
    Ok(())
}

fn fill_trie<A: Layouts>(map: &mut Map, entries: &BTreeMap<A::SourceKey, u32>) -> Result<()> {
    /// A key behind its prefix length.
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Range<A> {
        sources: [u8; 4],
        address: A,
    }
    // SAFETY: two fields of bytes, one after the other.
    unsafe impl<A: Layouts> aya::Pod for Range<A> {}
    let mut map: LpmTrie<&mut MapData, Range<A>, u32> = LpmTrie::try_from(map)?;
    let old: Vec<_> = map.keys().collect::<Result<_, _>>()?;
    for key in old {
        map.remove(&key)?;
    }
    for (key, value) in entries {
        let key: SourceKey<A> = (*key).into();
        let range = Range {
            sources: key.sources.to_ne_bytes(),
            address: key.address,
        };
        map.insert(&Key::new(key.prefix_len, range), value, 0)?;
    }
    Ok(())
}

fn read<K: bytemuck::Pod + Ord, V: bytemuck::Pod>(map: &mut Map) -> Result<BTreeMap<K, V>> {
    let map: HashMap<&mut MapData, Abi<K>, Abi<V>> = HashMap::try_from(map)?;
    map.iter()
        .map(|entry| entry.map(|(Abi(key), Abi(value))| (key, value)).map_err(Into::into))
        .collect()
}
