//! The node's own UDP sockets that were led to a backend when they connected: they send to its address whoever has that. Once it stops
//! serving they lose their peer, so that their process, told by an error, connects anew. A process that connected to a backend's
//! own address keeps its socket, and so does each that names a peer with every datagram: that one chooses anew by itself.

use std::net::IpAddr;

use netpath_common::abi::{
    service::{Backend, Frontend},
    socket::{SocketKey, SocketPeer, TO_FRONTEND},
};

use super::forget::UDP;
use crate::{
    datapath::{
        error::{Error, Result},
        maps::Table,
    },
    family::Family,
    net::socket_diag::{SocketDiag, is_shortcoming},
};

/// Aborts every connected UDP socket of the calling thread's network namespace that was led to a backend and `goes`, which is asked with
/// the frontend as the socket knows it, the backend, and the set that this was chosen from. Returns how many lost their peer: none
/// where the kernel cannot do that, which [`crate::net::socket_diag::shortcoming`] tells.
///
/// # Errors
/// [`Error::Sockets`], [`Error::Map`].
pub fn abort<F: Family>(
    led: &Table<F::SocketKey, F::SocketPeer>,
    goes: impl Fn(&Frontend<F>, &F::Backend, u32) -> bool,
) -> Result<usize> {
    let refused = |action| move |source| Error::Sockets { action, source };
    let listed = SocketDiag::open().and_then(|diag| Ok((diag.connected_udp()?, diag)));
    let (sockets, diag) = match listed {
        Err(error) if is_shortcoming(&error) => return Ok(0),
        listed => listed.map_err(refused("list"))?,
    };
    let mut aborted = 0;
    for socket in sockets {
        let (address, port) = socket.peer();
        let Some(address) = F::address(address).map(F::octets) else {
            continue;
        };
        let key = SocketKey {
            cookie: socket.cookie(),
            address,
            port,
            direction: TO_FRONTEND,
            reserved: 0,
        };
        let Some(asked) = led.get(&key.into())? else {
            continue;
        };
        let asked: SocketPeer<F> = asked.into();
        let frontend = Frontend {
            address: asked.address,
            port: asked.port,
            protocol: UDP,
            reserved: 0,
        };
        let backend = Backend {
            address,
            port,
            reserved: [0; 2],
        };
        if goes(&frontend, &backend.into(), asked.set) {
            aborted += match diag.abort(&socket) {
                Err(error) if is_shortcoming(&error) => return Ok(aborted),
                done => usize::from(done.map_err(refused("end"))?),
            };
        }
    }
    Ok(aborted)
}

/// Whether a socket that asks for this address asks the node, on whichever of its addresses: `connect` takes none at all for the loopback
/// address.
pub fn is_loopback<F: Family>(address: F) -> bool {
    let address: IpAddr = F::Address::from(address).into();
    address.is_loopback() || address.is_unspecified()
}
