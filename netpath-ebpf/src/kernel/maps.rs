//! The maps: each family's, and those that both share. Sizes here are defaults: an agent may load others.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use netpath_common::abi::{
    Layouts,
    bridge::Port,
    config::{CONFIG_ENTRIES, Config},
    counter::{COUNTERS, Counter},
    endpoint::Endpoint,
    fragment::Datagram,
    held::Held,
    maglev::{MaglevBlock, MaglevKey},
    service::{BackendKey, Service},
};
use netpath_ebpf::{family::Address, scratch::Scratch};

/// Entries take memory when they come, not all of it at once: a lookup costs the same.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "np_config")]
pub static CONFIG: Array<Config, CONFIG_ENTRIES> = Array::new();
#[btf_map(name = "np_bridge")]
pub static BRIDGE: HashMap<u32, Port, 4096, ON_DEMAND> = HashMap::new();
#[btf_map(name = "np_counter")]
pub static COUNTER: PerCpuArray<Counter, { COUNTERS as usize }> = PerCpuArray::new();

/// The packet logic's working memory. Programs of packets do not interrupt each other on one processor.
#[btf_map(name = "np_scratch")]
static SCRATCH: PerCpuArray<[u64; SCRATCH_WORDS], 1> = PerCpuArray::new();
const SCRATCH_WORDS: usize = size_of::<Scratch>().div_ceil(size_of::<u64>());

/// This processor's working memory, for as long as the program runs.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    const { assert!(align_of::<Scratch>() <= align_of::<u64>()) };
    // SAFETY: the entry is large enough, aligned, and this processor's own until the program ends, which asks once. The kernel
    // made it all zero, which is a value of the type, and nobody writes others.
    SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch.cast() })
}

/// Where a frame is put together before it is held: a map's entry is written as a whole.
#[btf_map(name = "np_held_scratch")]
static HELD_SCRATCH: PerCpuArray<Held, 1> = PerCpuArray::new();

/// This processor's place for a frame that is to be held.
#[inline(always)]
pub fn held_scratch() -> Option<&'static mut Held> {
    // SAFETY: as in `scratch`; who asks again is done with what it had.
    HELD_SCRATCH.get_ptr_mut(0).map(|held| unsafe { &mut *held })
}

/// A key of a family's sources behind its prefix length, as [`netpath_common::abi::source::SourceKey`] has it.
#[repr(C)]
pub struct Sources<A> {
    /// The list.
    pub sources: u32,
    /// The client.
    pub address: A,
}

// The maps that each family has.
type Endpoints<A> = HashMap<A, Endpoint, 4096, ON_DEMAND>;
type Routes<A> = HashMap<<A as Layouts>::RouteKey, <A as Layouts>::Route, 16384, ON_DEMAND>;
type Services<A> = HashMap<<A as Layouts>::Frontend, Service, 131072, ON_DEMAND>;
type Backends<A> = HashMap<BackendKey, <A as Layouts>::Backend, 131072, ON_DEMAND>;
type Maglev = HashMap<MaglevKey, MaglevBlock, 32768, ON_DEMAND>;
type SourceLists<A> = LpmTrie<Sources<A>, u32, 16384>;
type Affinities<A> = LruHashMap<<A as Layouts>::Client, <A as Layouts>::Affinity, 65536>;
type Connections<A> = LruHashMap<<A as Layouts>::Tuple, <A as Layouts>::Connection, 262144>;
type Fragments<A> = LruHashMap<<A as Layouts>::FragmentKey, Datagram, 8192>;
type HeldFragments<A> = LruHashMap<<A as Layouts>::HeldKey, Held, 256>;
type Sockets<A> = LruHashMap<<A as Layouts>::SocketKey, <A as Layouts>::SocketPeer, 65536>;

/// Declares a family's maps, and lets its address stand for them.
macro_rules! family {
    ($module:ident: $address:ty, $($map:ident: $name:tt, $type:ty;)*) => {
        mod $module {
            use super::*;
            type A = $address;
            impl Maps for A {
                $(
                    #[inline(always)]
                    fn $map() -> &'static $type {
                        #[btf_map(name = $name)]
                        static MAP: $type = <$type>::new();
                        &MAP
                    }
                )*

                #[inline(always)]
                unsafe fn touch(entry: *mut Self::Connection, state: u8, last_seen: u32) {
                    // SAFETY: the caller vouches for the entry.
                    unsafe {
                        (*entry).state = state;
                        (*entry).last_seen = last_seen;
                    }
                }
            }
        }
    };
}

/// The maps of the family whose address it is.
pub trait Maps: Address + Layouts {
    /// `np_endpoint4`, `np_endpoint6`.
    fn endpoint() -> &'static Endpoints<Self>;
    /// `np_route4`, `np_route6`.
    fn route() -> &'static Routes<Self>;
    /// `np_service4`, `np_service6`.
    fn service() -> &'static Services<Self>;
    /// `np_backend4`, `np_backend6`.
    fn backend() -> &'static Backends<Self>;
    /// `np_maglev4`, `np_maglev6`.
    fn maglev() -> &'static Maglev;
    /// `np_source4`, `np_source6`.
    fn source() -> &'static SourceLists<Self>;
    /// `np_affinity4`, `np_affinity6`.
    fn affinity() -> &'static Affinities<Self>;
    /// `np_conntrack4`, `np_conntrack6`.
    fn conntrack() -> &'static Connections<Self>;
    /// Changes state and time of a connection, each by one store.
    ///
    /// # Safety
    /// The entry is of a map, and the program has not ended since it was looked up.
    unsafe fn touch(entry: *mut Self::Connection, state: u8, last_seen: u32);
    /// `np_fragment4`, `np_fragment6`.
    fn fragment() -> &'static Fragments<Self>;
    /// `np_held4`, `np_held6`.
    fn held() -> &'static HeldFragments<Self>;
    /// `np_socket4`, `np_socket6`.
    fn socket() -> &'static Sockets<Self>;
}

family! {
    v4: [u8; 4],
    endpoint: "np_endpoint4", Endpoints<A>;
    route: "np_route4", Routes<A>;
    service: "np_service4", Services<A>;
    backend: "np_backend4", Backends<A>;
    maglev: "np_maglev4", Maglev;
    source: "np_source4", SourceLists<A>;
    affinity: "np_affinity4", Affinities<A>;
    conntrack: "np_conntrack4", Connections<A>;
    fragment: "np_fragment4", Fragments<A>;
    held: "np_held4", HeldFragments<A>;
    socket: "np_socket4", Sockets<A>;
}

family! {
    v6: [u8; 16],
    endpoint: "np_endpoint6", Endpoints<A>;
    route: "np_route6", Routes<A>;
    service: "np_service6", Services<A>;
    backend: "np_backend6", Backends<A>;
    maglev: "np_maglev6", Maglev;
    source: "np_source6", SourceLists<A>;
    affinity: "np_affinity6", Affinities<A>;
    conntrack: "np_conntrack6", Connections<A>;
    fragment: "np_fragment6", Fragments<A>;
    held: "np_held6", HeldFragments<A>;
    socket: "np_socket6", Sockets<A>;
}
