//! The loaded programs: maps filled from the host's tables, a frame run through a program, maps read back.

use std::{collections::BTreeMap, hash::Hash, os::fd::AsFd as _};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, IterableMap as _, LpmTrie, Map, MapData, PerCpuArray, lpm_trie::Key},
    programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
    util::nr_cpus,
};
use netpath_agent::datapath::{abi::Abi, load::object, sys};
use netpath_common::{
    abi::{
        Layouts,
        config::Config,
        counter::Counter,
        held::{FRAME, Held},
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

/// How many entries fit into the tables that programs write. They are read whole after each frame, and the kernel walks through
/// all that is empty in them.
const ENTRIES: u32 = 4096;

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
        let mut loader = EbpfLoader::new();
        for names in [<[u8; 4]>::NAMES, <[u8; 16]>::NAMES] {
            for name in [names.affinity, names.conntrack, names.fragment] {
                loader.map_max_entries(name, ENTRIES);
            }
        }
        let mut ebpf = loader.load(object()?).context("load the object")?;
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

    /// Makes every map but the counters hold exactly what the tables do.
    pub fn fill(&mut self, config: &Config, tables: &HostTables) -> Result<()> {
        let mut array: Array<&mut MapData, Abi<Config>> = Array::try_from(self.map(names::CONFIG)?)?;
        array.set(0, Abi(*config), 0)?;
        fill(self.map(names::BRIDGE)?, &tables.bridge)?;
        self.fill_family(&tables.v4)?;
        self.fill_family(&tables.v6)
    }

    fn fill_family<A: Layouts>(&mut self, tables: &FamilyTables<A>) -> Result<()> {
        let names = A::NAMES;
        fill(self.map(names.endpoint)?, &tables.endpoints)?;
        fill(self.map(names.route)?, &tables.routes)?;
        fill(self.map(names.service)?, &tables.services)?;
        fill(self.map(names.backend)?, &tables.backends)?;
        fill(self.map(names.maglev)?, &tables.maglev)?;
        fill_trie::<A>(self.map(names.source)?, &tables.sources)?;
        self.recall(tables)
    }

    /// Makes the maps that programs write hold exactly what a family's tables do.
    pub fn recall<A: Layouts>(&mut self, tables: &FamilyTables<A>) -> Result<()> {
        let names = A::NAMES;
        fill(self.map(names.affinity)?, &tables.affinities)?;
        fill(self.map(names.conntrack)?, &tables.connections)?;
        fill(self.map(names.fragment)?, &tables.fragments)?;
        let held = tables
            .held
            .iter()
            .map(|(key, (since, bytes))| (*key, held(*since, bytes)));
        fill(self.map(names.held)?, &held.collect())
    }

    /// What packets left behind in the maps of the family whose tables these are.
    pub fn remembered<A: Layouts>(&mut self, _tables: &FamilyTables<A>) -> Result<Remembered<A>> {
        let names = A::NAMES;
        Ok(super::remembered(&FamilyTables::<A> {
            connections: read(self.map(names.conntrack)?)?,
            affinities: read(self.map(names.affinity)?)?,
            fragments: read(self.map(names.fragment)?)?,
            held: read(self.map(names.held)?)?
                .into_iter()
                .map(|(key, held): (_, Held)| (key, (held.since, held.frame[..held.len as usize].to_vec())))
                .collect(),
            ..FamilyTables::default()
        }))
    }

    /// What was counted since the programs were loaded, by index, without what was not.
    pub fn counters(&mut self) -> Result<BTreeMap<u32, Counter>> {
        let map: PerCpuArray<&mut MapData, Abi<Counter>> = PerCpuArray::try_from(self.map(names::COUNTER)?)?;
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        let dumped = sys::dump(map.map().fd().as_fd(), size_of::<u32>(), size_of::<Counter>() * cpus)?;
        let indices = dumped
            .keys
            .chunks_exact(size_of::<u32>())
            .map(bytemuck::pod_read_unaligned);
        let values = dumped.values.chunks_exact(size_of::<Counter>() * cpus).map(|each| {
            let mut sum = Counter::default();
            for counter in each
                .chunks_exact(size_of::<Counter>())
                .map(bytemuck::pod_read_unaligned::<Counter>)
            {
                sum.packets += counter.packets;
                sum.bytes += counter.bytes;
            }
            sum
        });
        let counted = indices
            .zip(values)
            .filter(|(_, counter)| *counter != Counter::default());
        Ok(counted.collect())
    }

    /// Runs a frame through a hook's program, as on this device.
    pub fn run(&mut self, hook: Hook, frame: &[u8], ifindex: u32, gso_size: usize) -> Result<Answer> {
        let program = self.ebpf.program_mut(hook.name()).context("no such program")?;
        if hook == Hook::FromWireXdp {
            let mut out = vec![0; 8192];
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            options.data_out = Some(&mut out);
            let program: &mut Xdp = program.try_into()?;
            let result = program.test_run(options)?;
            out.truncate(result.data_size_out as usize);
            return Ok(Answer {
                code: result.return_value as i32,
                told: None,
                frame: out,
            });
        }
        run_tc(program.try_into()?, frame, ifindex, gso_size)
    }
}

/// Runs a frame through a tc program, as on this device of the thread's namespace.
pub fn run_tc(program: &mut SchedClassifier, frame: &[u8], ifindex: u32, gso_size: usize) -> Result<Answer> {
    let mut out = vec![0; 8192];
    let mut context = [0; CONTEXT];
    put(&mut context, IFINDEX, ifindex);
    if gso_size != 0 {
        put(&mut context, GSO_SEGS, frame.len().div_ceil(gso_size) as u32);
        put(&mut context, GSO_SIZE, gso_size as u32);
    }
    let mut context_out = [0; CONTEXT];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    options.ctx_in = Some(&context);
    options.ctx_out = Some(&mut context_out);
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

fn held(since: u32, bytes: &[u8]) -> Held {
    let mut held = Held {
        since,
        len: bytes.len() as u32,
        frame: [0; FRAME],
    };
    held.frame[..bytes.len()].copy_from_slice(bytes);
    held
}

fn put(context: &mut [u8; CONTEXT], at: usize, value: u32) {
    context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

fn fill<K: bytemuck::Pod + Ord + Hash, V: bytemuck::Pod>(map: &mut Map, entries: &BTreeMap<K, V>) -> Result<()> {
    let old: BTreeMap<K, V> = read(map)?;
    let mut map: HashMap<&mut MapData, Abi<K>, Abi<V>> = HashMap::try_from(map)?;
    for key in old.keys() {
        map.remove(&Abi(*key))?;
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
    let dumped = sys::dump(map.map().fd().as_fd(), size_of::<K>(), size_of::<V>())?;
    let keys = dumped
        .keys
        .chunks_exact(size_of::<K>())
        .map(bytemuck::pod_read_unaligned);
    let values = dumped
        .values
        .chunks_exact(size_of::<V>())
        .map(bytemuck::pod_read_unaligned);
    Ok(keys.zip(values).collect())
}
