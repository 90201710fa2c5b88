//! The maps, and the packet logic's tables over them. Sizes here are defaults: an agent may load others.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie},
    helpers::{bpf_ktime_get_coarse_ns, bpf_loop, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
    macros::btf_map,
};
use core::{arch::asm, ffi::c_void};
use netpath_common::abi::{
    affinity::{self, Affinity, Client},
    bridge::Port,
    config::{CONFIG_ENTRIES, Config},
    conntrack::{self, Connection, Tuple},
    counter::{COUNTERS, Counter},
    endpoint::Endpoint,
    fragment::{self, FragmentKey, FragmentPorts},
    route::{self, Route, RouteKey},
    service::{self, Backend, BackendKey, Frontend, Service},
    socket::{self, SocketKey, SocketPeer},
    source::SOURCES_BITS,
};
use netpath_ebpf::{
    flow,
    tables::{InsertError, Tables},
};

/// Entries take memory when they come, not all of it at once: a lookup costs the same.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "np_config")]
static CONFIG: Array<Config, CONFIG_ENTRIES> = Array::new();
#[btf_map(name = "np_bridge")]
static BRIDGE: HashMap<u32, Port, 1024, ON_DEMAND> = HashMap::new();
#[btf_map(name = "np_endpoint4")]
static ENDPOINT4: HashMap<[u8; 4], Endpoint, 4096, ON_DEMAND> = HashMap::new();
#[btf_map(name = "np_route4")]
static ROUTE4: HashMap<route::v4::RouteKey, route::v4::Route, 4096, ON_DEMAND> = HashMap::new();
#[btf_map(name = "np_service4")]
static SERVICE4: HashMap<service::v4::Frontend, Service, 131072, ON_DEMAND> = HashMap::new();
#[btf_map(name = "np_backend4")]
static BACKEND4: HashMap<BackendKey, service::v4::Backend, 262144, ON_DEMAND> = HashMap::new();
#[btf_map(name = "np_source4")]
static SOURCE4: LpmTrie<Sources4, u32, 16384> = LpmTrie::new();
#[btf_map(name = "np_affinity4")]
static AFFINITY4: LruHashMap<affinity::v4::Client, affinity::v4::Affinity, 65536> = LruHashMap::new();
#[btf_map(name = "np_conntrack4")]
static CONNTRACK4: LruHashMap<conntrack::v4::Tuple, conntrack::v4::Connection, 262144> = LruHashMap::new();
#[btf_map(name = "np_fragment4")]
static FRAGMENT4: LruHashMap<fragment::v4::FragmentKey, FragmentPorts, 8192> = LruHashMap::new();
#[btf_map(name = "np_socket4")]
static SOCKET4: LruHashMap<socket::v4::SocketKey, socket::v4::SocketPeer, 65536> = LruHashMap::new();
#[btf_map(name = "np_counter")]
pub(super) static COUNTER: PerCpuArray<Counter, { COUNTERS as usize }> = PerCpuArray::new();

/// A key of `np_source4` behind its prefix length, as [`source::SourceKey`] has it.
#[repr(C)]
struct Sources4 {
    sources: u32,
    address: [u8; 4],
}

/// What [`Tables::settle`] writes to and reads from. Programs do not interrupt each other on one processor.
#[btf_map(name = "np_scratch")]
static SCRATCH: PerCpuArray<[u64; SCRATCH_WORDS], 1> = PerCpuArray::new();
const SCRATCH_WORDS: usize = 24;

/// All bits of a key of `np_source4`.
const WHOLE4: u32 = SOURCES_BITS + 32;

const NANOSECONDS: u64 = 1_000_000_000;
const EEXIST: i32 = 17;
/// The network namespace of the packet's device.
const CURRENT_NETNS: u64 = -1i64 as u64;

/// The node's configuration; `None` before an agent wrote it. It does not change until the program ends: see [`Config`].
#[inline(always)]
pub fn config() -> Option<&'static Config> {
    let in_force = |entry| CONFIG.get(entry).filter(|config| config.abi_version != 0);
    in_force(0).or_else(|| in_force(1))
}

/// The maps, for the program of one context.
pub struct KernelTables {
    ctx: *mut c_void,
}

impl KernelTables {
    /// The maps for a program whose context this is: sockets are looked up where its packet is.
    #[inline(always)]
    pub fn new(ctx: *mut c_void) -> Self {
        Self { ctx }
    }
}

impl Tables<[u8; 4]> for KernelTables {
    #[inline(always)]
    fn port(&self, ifindex: u32) -> Option<Port> {
        // SAFETY: an entry is replaced as a whole, never changed in place; the copy is taken at once.
        unsafe { BRIDGE.get(ifindex).copied() }
    }

    #[inline(always)]
    fn endpoint(&self, address: [u8; 4]) -> Option<Endpoint> {
        // SAFETY: as above.
        unsafe { ENDPOINT4.get(address).copied() }
    }

    #[inline(always)]
    fn route(&self, key: RouteKey<[u8; 4]>) -> Option<Route<[u8; 4]>> {
        // SAFETY: as above.
        unsafe { ROUTE4.get(route::v4::RouteKey::from(key)).map(|route| (*route).into()) }
    }

    #[inline(always)]
    fn service(&self, frontend: Frontend<[u8; 4]>) -> Option<Service> {
        // SAFETY: as above.
        unsafe { SERVICE4.get(service::v4::Frontend::from(frontend)).copied() }
    }

    #[inline(always)]
    fn backend(&self, key: BackendKey) -> Option<Backend<[u8; 4]>> {
        // SAFETY: as above.
        unsafe { BACKEND4.get(key).map(|backend| (*backend).into()) }
    }

    #[inline(always)]
    fn admits(&self, sources: u32, client: [u8; 4]) -> bool {
        let client = Sources4 {
            sources,
            address: client,
        };
        SOURCE4.get(&lpm_trie::Key::new(WHOLE4, client)).is_some()
    }

    #[inline(always)]
    fn affinity(&self, client: &Client<[u8; 4]>) -> Option<Affinity<[u8; 4]>> {
        // SAFETY: as above.
        unsafe {
            AFFINITY4
                .get(affinity::v4::Client::from(*client))
                .map(|found| (*found).into())
        }
    }

    #[inline(always)]
    fn add_affinity(&mut self, client: &Client<[u8; 4]>, affinity: &Affinity<[u8; 4]>) -> bool {
        let (client, affinity) = (
            affinity::v4::Client::from(*client),
            affinity::v4::Affinity::from(*affinity),
        );
        AFFINITY4.insert(client, affinity, BPF_NOEXIST.into()).is_ok()
    }

    #[inline(always)]
    fn replace_affinity(&mut self, client: &Client<[u8; 4]>, affinity: &Affinity<[u8; 4]>) {
        let (client, affinity) = (
            affinity::v4::Client::from(*client),
            affinity::v4::Affinity::from(*affinity),
        );
        // An LRU map makes room; if it cannot, the client's next connection chooses again.
        let _ = AFFINITY4.insert(client, affinity, 0);
    }

    #[inline(always)]
    fn connection(&self, tuple: &Tuple<[u8; 4]>) -> Option<Connection<[u8; 4]>> {
        // SAFETY: of an entry only state and time change in place, each by one store, and neither decides a translation.
        unsafe {
            CONNTRACK4
                .get(conntrack::v4::Tuple::from(*tuple))
                .map(|connection| (*connection).into())
        }
    }

    #[inline(always)]
    fn add_connection(&mut self, tuple: &Tuple<[u8; 4]>, connection: &Connection<[u8; 4]>) -> Result<(), InsertError> {
        CONNTRACK4
            .insert(
                conntrack::v4::Tuple::from(*tuple),
                conntrack::v4::Connection::from(*connection),
                u64::from(BPF_NOEXIST),
            )
            .map_err(|code| {
                if code == -EEXIST {
                    InsertError::Exists
                } else {
                    InsertError::Full
                }
            })
    }

    #[inline(always)]
    fn touch_connection(&mut self, tuple: &Tuple<[u8; 4]>, state: u8, last_seen: u32) {
        if let Some(entry) = CONNTRACK4.get_ptr_mut(conntrack::v4::Tuple::from(*tuple)) {
            // Several processors may write here at once: each field is one store, and any of the values is right.
            // SAFETY: the kernel keeps the entry's memory until the program ends.
            unsafe {
                (*entry).state = state;
                (*entry).last_seen = last_seen;
            }
        }
    }

    #[inline(always)]
    fn remove_connection(&mut self, tuple: &Tuple<[u8; 4]>) {
        // An error means that there is none: that is what was asked for.
        let _ = CONNTRACK4.remove(conntrack::v4::Tuple::from(*tuple));
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<[u8; 4]>) -> Option<FragmentPorts> {
        // SAFETY: an entry is replaced as a whole; the copy is taken at once.
        unsafe { FRAGMENT4.get(fragment::v4::FragmentKey::from(*key)).copied() }
    }

    #[inline(always)]
    fn remember_fragment(&mut self, key: &FragmentKey<[u8; 4]>, ports: FragmentPorts) {
        // An LRU map makes room; if it cannot, later fragments are counted as such when they come.
        let _ = FRAGMENT4.insert(fragment::v4::FragmentKey::from(*key), ports, 0);
    }

    #[inline(always)]
    fn socket_peer(&self, key: &SocketKey<[u8; 4]>) -> Option<SocketPeer<[u8; 4]>> {
        // SAFETY: an entry is replaced as a whole; the copy is taken at once.
        unsafe {
            SOCKET4
                .get(socket::v4::SocketKey::from(*key))
                .map(|peer| (*peer).into())
        }
    }

    #[inline(always)]
    fn remember_socket_peer(&mut self, key: &SocketKey<[u8; 4]>, peer: &SocketPeer<[u8; 4]>) {
        // An LRU map makes room. If it cannot, the socket is shown the backend's own address.
        let _ = SOCKET4.insert(
            socket::v4::SocketKey::from(*key),
            socket::v4::SocketPeer::from(*peer),
            0,
        );
    }

    #[inline(always)]
    fn host_socket(&self, tuple: &Tuple<[u8; 4]>) -> bool {
        let mut key = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: u32::from_ne_bytes(tuple.source),
            daddr: u32::from_ne_bytes(tuple.destination),
            sport: tuple.source_port.to_be(),
            dport: tuple.destination_port.to_be(),
        };
        let at = (&raw mut key).cast::<bpf_sock_tuple>();
        let size = size_of_val(&key) as u32;
        // SAFETY: the context is the program's own, and the kernel takes a tuple of this size as IPv4's.
        let socket = unsafe {
            match tuple.protocol {
                flow::TCP => bpf_skc_lookup_tcp(self.ctx, at, size, CURRENT_NETNS, 0),
                flow::UDP => bpf_sk_lookup_udp(self.ctx, at, size, CURRENT_NETNS, 0),
                _ => return false,
            }
        };
        if socket.is_null() {
            return false;
        }
        // SAFETY: the lookup took a reference, which the verifier wants back.
        unsafe { bpf_sk_release(socket.cast()) };
        true
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: reads a clock.
        (unsafe { bpf_ktime_get_coarse_ns() } / NANOSECONDS) as u32
    }

    #[inline(always)]
    fn settle<V: Copy>(&mut self, value: V) -> V {
        const { assert!(size_of::<V>() <= size_of::<[u64; SCRATCH_WORDS]>() && align_of::<V>() <= align_of::<u64>()) };
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
            return value;
        };
        let scratch = scratch.cast::<V>();
        // SAFETY: the entry is large enough, aligned, and this processor's own until the program ends. The empty statement in
        // between may change any memory, for all that the compiler knows: it reads what it has just written.
        unsafe {
            scratch.write(value);
            asm!("", options(nostack, preserves_flags));
            scratch.read()
        }
    }

    #[inline(always)]
    fn repeat<F: FnMut(&mut Self, u32) -> bool>(&mut self, times: u32, turn: F) -> bool {
        let mut work = Loop {
            tables: self,
            turn,
            done: false,
        };
        // SAFETY: the kernel calls `one_turn` with nothing but this pointer, and only until it returns.
        unsafe { bpf_loop(times, one_turn::<F> as *mut c_void, (&raw mut work).cast(), 0) };
        work.done
    }
}

/// What the kernel hands to each turn of a loop.
struct Loop<'a, F> {
    tables: &'a mut KernelTables,
    turn: F,
    done: bool,
}

/// A turn, as `bpf_loop` wants it: 1 ends the loop.
///
/// # Safety
/// `work` points to the loop's own state.
unsafe extern "C" fn one_turn<F: FnMut(&mut KernelTables, u32) -> bool>(index: u64, work: *mut Loop<'_, F>) -> u64 {
    // SAFETY: the caller vouches for it.
    let work = unsafe { &mut *work };
    work.done = (work.turn)(work.tables, index as u32);
    u64::from(work.done)
}
