//! A frame on the host: the [`Packet`] of the packet logic over a vector, with the semantics of the kernel's buffer.

use netpath_common::{abi::held::FRAME, reason::Reason};
use netpath_ebpf::packet::{ETHERNET, Packet, Tunnel};

/// A frame in a vector, with what the kernel knows beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPacket {
    /// The frame.
    pub bytes: Vec<u8>,
    /// The device it came in through, or leaves through.
    pub ifindex: u32,
    /// Payload bytes of each segment, or 0.
    pub gso_size: usize,
    /// The VLAN whose tag the kernel took off, or 0.
    pub vlan: u16,
    /// The tunnel that the kernel ended.
    pub tunnel: Option<Tunnel>,
    /// Whether it is at XDP, where no frame comes in anew.
    pub xdp: bool,
    /// The frames that come in anew, in their order.
    pub anew: Vec<Vec<u8>>,
}

impl HostPacket {
    /// A frame that came in through a device.
    pub fn new(bytes: Vec<u8>, ifindex: u32) -> Self {
        Self {
            bytes,
            ifindex,
            ..Self::default()
        }
    }
}

impl Packet for HostPacket {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn gso_size(&self) -> usize {
        self.gso_size
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn vlan(&self) -> u16 {
        self.vlan
    }

    fn tunnel(&self) -> Option<Tunnel> {
        self.tunnel
    }

    fn view<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.bytes.get(offset..offset + N)?.try_into().ok()
    }

    fn store<const N: usize>(&mut self, offset: usize, bytes: &[u8; N]) -> Result<(), Reason> {
        self.bytes
            .get_mut(offset..offset + N)
            .ok_or(Reason::Malformed)?
            .copy_from_slice(bytes);
        Ok(())
    }

    fn encapsulate(&mut self, len: usize, _outer: u16, _inner: u16) -> Result<(), Reason> {
        self.bytes.splice(ETHERNET..ETHERNET, vec![0; len]);
        Ok(())
    }

    fn decapsulate(&mut self, len: usize, inner: u16) -> Result<(), Reason> {
        self.bytes.drain(ETHERNET..ETHERNET + len);
        self.bytes[12..14].copy_from_slice(&inner.to_be_bytes());
        Ok(())
    }

    fn resize(&mut self, len: usize) -> Result<(), Reason> {
        self.bytes.resize(len, 0);
        self.gso_size = 0;
        Ok(())
    }

    fn can_come_anew(&self) -> bool {
        !self.xdp
    }

    fn come_anew(&mut self) -> bool {
        self.anew.push(self.bytes.clone());
        true
    }

    fn copy_to(&self, frame: &mut [u8; FRAME]) -> Option<usize> {
        frame.get_mut(..self.bytes.len())?.copy_from_slice(&self.bytes);
        Some(self.bytes.len())
    }

    fn become_frame(&mut self, frame: &[u8; FRAME], len: usize) -> bool {
        self.bytes = frame[..len].to_vec();
        true
    }
}
