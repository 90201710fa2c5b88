//! The packet logic's tables over the maps, for both families.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_sock_tuple},
    btf_maps::lpm_trie,
    helpers::{bpf_ktime_get_coarse_ns, bpf_loop, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
};
use core::{arch::asm, ffi::c_void};
use netpath_common::abi::{
    affinity::{Affinity, Client},
    bridge::Port,
    config::Config,
    conntrack::{Connection, Tuple},
    endpoint::Endpoint,
    fragment::{Datagram, FRAGMENT_SECONDS, FragmentKey},
    held::{Held, HeldKey},
    maglev::MaglevKey,
    route::{Route, RouteKey},
    service::{Backend, BackendKey, Frontend, Service},
    socket::{SocketKey, SocketPeer},
    source::SOURCES_BITS,
};
use netpath_ebpf::{
    flow,
    packet::Packet,
    tables::{InsertError, Tables},
};

use super::maps::{BRIDGE, CONFIG, Maps, Sources, held_scratch};

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

impl<A: Maps> Tables<A> for KernelTables {
    #[inline(always)]
    fn port(&self, ifindex: u32) -> Option<Port> {
        // SAFETY: an entry is replaced as a whole, never changed in place; the copy is taken at once.
        unsafe { BRIDGE.get(ifindex).copied() }
    }

    #[inline(always)]
    fn endpoint(&self, address: &A) -> Option<Endpoint> {
        // SAFETY: as above.
        unsafe { A::endpoint().get(address).copied() }
    }

    #[inline(always)]
    fn route(&self, key: RouteKey<A>) -> Option<Route<A>> {
        // SAFETY: as above.
        unsafe { A::route().get(A::RouteKey::from(key)).map(|route| (*route).into()) }
    }

    #[inline(always)]
    fn service(&self, frontend: &Frontend<A>) -> Option<Service> {
        // SAFETY: as above.
        unsafe { A::service().get(in_map::<_, A::Frontend>(frontend)).copied() }
    }

    #[inline(always)]
    fn backend(&self, key: BackendKey) -> Option<Backend<A>> {
        // SAFETY: as above.
        unsafe { A::backend().get(key).map(|backend| (*backend).into()) }
    }

    #[inline(always)]
    fn maglev(&self, key: MaglevKey, place: usize) -> Option<u16> {
        // SAFETY: as above.
        let block = unsafe { A::maglev().get(key) }?;
        block.slots.get(place).copied()
    }

    #[inline(always)]
    fn admits(&self, sources: u32, client: A) -> bool {
        let client = Sources {
            sources,
            address: client,
        };
        A::source()
            .get(&lpm_trie::Key::new(SOURCES_BITS + 8 * size_of::<A>() as u32, client))
            .is_some()
    }

    #[inline(always)]
    fn affinity(&self, client: &Client<A>) -> Option<Affinity<A>> {
        // SAFETY: as above.
        unsafe { A::affinity().get(A::Client::from(*client)).map(|found| (*found).into()) }
    }

    #[inline(always)]
    fn add_affinity(&mut self, client: &Client<A>, affinity: &Affinity<A>) -> bool {
        let (client, affinity) = (A::Client::from(*client), A::Affinity::from(*affinity));
        A::affinity().insert(client, affinity, BPF_NOEXIST.into()).is_ok()
    }

    #[inline(always)]
    fn replace_affinity(&mut self, client: &Client<A>, affinity: &Affinity<A>) {
        let (client, affinity) = (A::Client::from(*client), A::Affinity::from(*affinity));
        // An LRU map makes room; if it cannot, the client's next connection chooses again.
        let _ = A::affinity().insert(client, affinity, 0);
    }

    #[inline(always)]
    fn connection(&self, tuple: &Tuple<A>, found: &mut Connection<A>) -> bool {
        // SAFETY: of an entry only state and time change in place, each by one store, and neither decides a translation.
        let Some(connection) = (unsafe { A::conntrack().get(in_map::<_, A::Tuple>(tuple)) }) else {
            return false;
        };
        *found = (*connection).into();
        true
    }

    #[inline(always)]
    fn add_connection(&mut self, tuple: &Tuple<A>, connection: &Connection<A>) -> Result<(), InsertError> {
        A::conntrack()
            .insert(
                in_map::<_, A::Tuple>(tuple),
                in_map::<_, A::Connection>(connection),
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
    fn touch_connection(&mut self, tuple: &Tuple<A>, state: u8, last_seen: u32) -> bool {
        let Some(entry) = A::conntrack().get_ptr_mut(in_map::<_, A::Tuple>(tuple)) else {
            return false;
        };
        // Several processors may write here at once: each field is one store, and any of the values is right.
        // SAFETY: the kernel keeps the entry's memory until the program ends.
        unsafe { A::touch(entry, state, last_seen) };
        true
    }

    #[inline(always)]
    fn remove_connection(&mut self, tuple: &Tuple<A>) {
        // An error means that there is none: that is what was asked for.
        let _ = A::conntrack().remove(in_map::<_, A::Tuple>(tuple));
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<A>) -> Option<Datagram> {
        // SAFETY: an entry is replaced as a whole, but for `held`, which changes in one instruction; the copy is taken at once.
        unsafe { A::fragment().get(in_map::<_, A::FragmentKey>(key)).copied() }
    }

    #[inline(always)]
    fn remember_fragment(&mut self, key: &FragmentKey<A>, datagram: &Datagram) {
        // An LRU map makes room; if it cannot, later fragments are counted as such when they come.
        let _ = A::fragment().insert(in_map::<_, A::FragmentKey>(key), datagram, 0);
    }

    #[inline(always)]
    fn add_fragment(&mut self, key: &FragmentKey<A>, datagram: &Datagram) {
        // As above; and who finds one there looks at it afterwards.
        let _ = A::fragment().insert(in_map::<_, A::FragmentKey>(key), datagram, u64::from(BPF_NOEXIST));
    }

    #[inline(always)]
    fn forget_fragment(&mut self, key: &FragmentKey<A>) {
        // An error means that there is none.
        let _ = A::fragment().remove(in_map::<_, A::FragmentKey>(key));
    }

    #[inline(always)]
    fn count_held(&mut self, key: &FragmentKey<A>) -> u64 {
        let Some(datagram) = A::fragment().get_ptr_mut(in_map::<_, A::FragmentKey>(key)) else {
            return u64::MAX;
        };
        let mut counted = 1;
        // In one instruction, since other processors count here too; the target's atomic types cannot.
        // SAFETY: the kernel keeps the entry's memory until the program ends, and it is aligned.
        unsafe {
            asm!(
                "{counted} = atomic_fetch_add((u64 *)({at} + 0), {counted})",
                at = in(reg) &raw mut (*datagram).held,
                counted = inout(reg) counted,
                options(nostack, preserves_flags),
            );
        }
        counted
    }

    #[inline(always)]
    fn hold<P: Packet>(&mut self, packet: &P, place: &HeldKey<A>) -> bool {
        let Some(held) = held_scratch() else {
            return false;
        };
        let Some(len) = packet.copy_to(&mut held.frame) else {
            return false;
        };
        held.len = len as u32;
        held.since = Tables::<A>::now(self);
        let held: &Held = held;
        A::held().insert(in_map::<_, A::HeldKey>(place), held, 0).is_ok()
    }

    #[inline(always)]
    fn forget_held(&mut self, place: &HeldKey<A>) -> bool {
        A::held().remove(in_map::<_, A::HeldKey>(place)).is_ok()
    }

    #[inline(always)]
    fn release<P: Packet>(&mut self, packet: &mut P, place: &HeldKey<A>, since: u32) -> bool {
        // SAFETY: the entry may be evicted and used again while it is read. Only if it is still under its key afterwards, and so is
        // taken out here, was what was read the frame that was held.
        let Some(held) = (unsafe { A::held().get(in_map::<_, A::HeldKey>(place)) }) else {
            return false;
        };
        let became =
            held.since.wrapping_sub(since) <= FRAGMENT_SECONDS && packet.become_frame(&held.frame, held.len as usize);
        Tables::<A>::forget_held(self, place) && became
    }

    #[inline(always)]
    fn socket_peer(&self, key: &SocketKey<A>) -> Option<SocketPeer<A>> {
        // SAFETY: an entry is replaced as a whole; the copy is taken at once.
        unsafe { A::socket().get(A::SocketKey::from(*key)).map(|peer| (*peer).into()) }
    }

    #[inline(always)]
    fn remember_socket_peer(&mut self, key: &SocketKey<A>, peer: &SocketPeer<A>) {
        // An LRU map makes room. If it cannot, the socket is shown the backend's own address.
        let _ = A::socket().insert(A::SocketKey::from(*key), A::SocketPeer::from(*peer), 0);
    }

    #[inline(always)]
    fn host_socket(&self, tuple: &Tuple<A>) -> bool {
        let mut key = SocketTuple {
            source: tuple.source,
            destination: tuple.destination,
            source_port: tuple.source_port.to_be(),
            destination_port: tuple.destination_port.to_be(),
        };
        let at = (&raw mut key).cast::<bpf_sock_tuple>();
        let size = size_of_val(&key) as u32;
        // SAFETY: the context is the program's own, and the kernel tells the family by the tuple's size.
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
    fn settle<V>(&self, value: &mut V) {
        // An instruction and not none at all: the kernel refuses two source lines for one.
        // SAFETY: it does nothing, but may change the value for all that the compiler knows.
        unsafe { asm!("{value} = {value}", value = in(reg) value, options(nostack, preserves_flags)) };
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

/// A layout as it lies in a map: the generic one and the concrete one have the same fields in the same places.
#[inline(always)]
fn in_map<Generic, Concrete: From<Generic>>(value: &Generic) -> &Concrete {
    const { assert!(size_of::<Generic>() == size_of::<Concrete>() && align_of::<Generic>() >= align_of::<Concrete>()) };
    // SAFETY: both are `repr(C)` with the same fields in the same order, by their definition in `abi`.
    unsafe { &*(&raw const *value).cast() }
}

/// A family's part of `bpf_sock_tuple`; ports in network order.
#[repr(C)]
struct SocketTuple<A> {
    source: A,
    destination: A,
    source_port: u16,
    destination_port: u16,
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
