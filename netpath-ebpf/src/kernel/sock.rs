//! cgroup hooks of sockets: a call's peer as the socket logic sees it, and what a program does before and after the steps.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval},
    programs::SockAddrContext,
};
use netpath_common::{abi::config::Config, hook::Hook, reason::Reason};
use netpath_ebpf::{
    family::{from_words, words},
    socket::Socket,
};

use super::{report, tables::KernelTables};

/// The program's return value for a call that goes on.
const GO_ON: i32 = 1;
/// For one that fails.
const FAIL: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// A call of a socket, as a program has it.
pub struct Call {
    ctx: *mut bpf_sock_addr,
}

impl Call {
    #[inline(always)]
    fn netns_cookie(&self) -> u64 {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { bpf_get_netns_cookie(self.ctx.cast()) }
    }

    #[inline(always)]
    fn cookie(&self) -> [u32; 2] {
        // SAFETY: as above.
        let cookie = unsafe { bpf_get_socket_cookie(self.ctx.cast()) };
        [cookie as u32, (cookie >> 32) as u32]
    }

    #[inline(always)]
    fn protocol(&self) -> u32 {
        // Volatile here and below: the kernel takes accesses to whole fields of a context alone.
        // SAFETY: as above.
        unsafe { (&raw const (*self.ctx).protocol).read_volatile() }
    }

    #[inline(always)]
    fn port(&self) -> u16 {
        // SAFETY: as above; it is in network order, in the first two bytes of its field.
        let port = unsafe { (&raw const (*self.ctx).user_port).read_volatile() };
        u16::from_be(port as u16)
    }

    #[inline(always)]
    fn set_port(&mut self, port: u16) {
        // SAFETY: as above; the kernel lets programs of these hooks write it.
        unsafe { (&raw mut (*self.ctx).user_port).write_volatile(u32::from(port.to_be())) };
    }
}

/// A socket's part that depends on nothing but the call.
macro_rules! call {
    () => {
        #[inline(always)]
        fn netns_cookie(&self) -> u64 {
            self.netns_cookie()
        }

        #[inline(always)]
        fn cookie(&self) -> [u32; 2] {
            self.cookie()
        }

        #[inline(always)]
        fn protocol(&self) -> u32 {
            self.protocol()
        }
    };
}

impl Socket<[u8; 4]> for Call {
    call!();

    #[inline(always)]
    fn peer(&self) -> ([u8; 4], u16) {
        // SAFETY: the kernel hands the program a valid context; the address is in network order.
        let address = unsafe { (&raw const (*self.ctx).user_ip4).read_volatile() };
        (address.to_ne_bytes(), self.port())
    }

    #[inline(always)]
    fn set_peer(&mut self, address: [u8; 4], port: u16) {
        // SAFETY: as above; the kernel lets programs of these hooks write it.
        unsafe { (&raw mut (*self.ctx).user_ip4).write_volatile(u32::from_ne_bytes(address)) };
        self.set_port(port);
    }
}

impl Socket<[u8; 16]> for Call {
    call!();

    #[inline(always)]
    fn peer(&self) -> ([u8; 16], u16) {
        // SAFETY: as above.
        let word = |index: usize| unsafe { (&raw const (*self.ctx).user_ip6[index]).read_volatile() };
        (from_words([word(0), word(1), word(2), word(3)]), self.port())
    }

    #[inline(always)]
    fn set_peer(&mut self, address: [u8; 16], port: u16) {
        for (index, word) in words(&address).into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { (&raw mut (*self.ctx).user_ip6[index]).write_volatile(word) };
        }
        self.set_port(port);
    }
}

/// What the steps of a hook work on.
pub struct Work {
    /// The call.
    pub socket: Call,
    /// The maps.
    pub tables: KernelTables,
    /// The node.
    pub config: &'static Config,
    hook: Hook,
}

impl Work {
    /// Takes a call up.
    ///
    /// # Errors
    /// The program's return value, if there is nothing to do.
    #[inline(always)]
    pub fn begin(hook: Hook, ctx: &SockAddrContext) -> Result<Self, i32> {
        let Some(config) = super::tables::config() else {
            report::count_call(hook, Reason::NotConfigured);
            return Err(GO_ON);
        };
        Ok(Self {
            socket: Call { ctx: ctx.sock_addr },
            tables: KernelTables::new(ctx.sock_addr.cast()),
            config,
            hook,
        })
    }

    /// Counts the verdict and carries it out; gives the program's return value.
    #[inline(always)]
    pub fn end(self, verdict: Result<Reason, Reason>) -> i32 {
        match verdict {
            Ok(reason) => {
                report::count_call(self.hook, reason);
                GO_ON
            }
            Err(reason) => {
                report::count_call(self.hook, reason);
                // SAFETY: the helper only notes the call's error. Otherwise that would be EPERM.
                unsafe { bpf_set_retval(-ECONNREFUSED) };
                FAIL
            }
        }
    }
}
