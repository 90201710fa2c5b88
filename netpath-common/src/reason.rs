//! Why a packet went where it went: one list serves the programs' verdicts, the counters and the person who reads them.

macro_rules! reasons {
    ($($variant:ident = $number:literal, $kind:ident, $name:literal, $text:literal;)*) => {
        /// The reason of a verdict. Numbers are part of the map's layout: they are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason { $(#[doc = $text] $variant = $number,)* }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// A name for scripts.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// What happened, for a person.
            pub const fn text(self) -> &'static str {
                match self { $(Reason::$variant => $text,)* }
            }

            /// Whether the packet was thrown away.
            pub const fn is_drop(self) -> bool {
                match self { $(Reason::$variant => reasons!(@dropped $kind),)* }
            }

            /// Whether nothing is amiss: the packet went on, or is of a kind that healthy nodes throw away as well.
            pub const fn is_expected(self) -> bool {
                match self { $(Reason::$variant => reasons!(@expected $kind),)* }
            }
        }
    };
    (@dropped forward) => { false };
    (@dropped drop) => { true };
    (@dropped noise) => { true };
    (@expected drop) => { false };
    (@expected $other:ident) => { true };
}

reasons! {
    NotConfigured = 0, forward, "not_configured", "passed to the kernel: no agent has configured this node yet";
    ToEndpoint = 1, forward, "to_endpoint", "delivered to a pod on this node";
    ToPeer = 2, forward, "to_peer", "sent straight to a node on the same segment";
    ToTunnel = 3, forward, "to_tunnel", "sent to another node inside VXLAN";
    ToHost = 4, forward, "to_host", "passed to the node's own stack";
    ToOutside = 5, forward, "to_outside", "sent out of the cluster";
    ToOverlay = 6, forward, "to_overlay", "left to the vxlan device, which alone keeps segmentation whole";
    ArpReply = 7, forward, "arp_reply", "answered an ARP request from the table";
    Refused = 8, forward, "refused", "answered with a reset, an ICMP error or a call's error: the service has no endpoints, or not this port";
    TooBig = 9, forward, "too_big", "answered with ICMP: the packet is larger than the way's MTU";
    Expired = 10, forward, "expired", "answered with ICMP: the packet's time to live ran out";
    ToStack = 11, forward, "to_stack", "left to the kernel's own forwarding";
    NeighbourReply = 13, forward, "neighbour_reply", "answered an IPv6 neighbour solicitation from the table";

    FragmentHeld = 14, forward, "fragment_held", "a fragment that came before its datagram's first: kept back until that comes";
    FragmentsReleased = 15, forward, "fragments_released", "the first fragment of a datagram whose others were kept back: all came in anew, in order";
    ToTc = 16, forward, "to_tc", "left to the program of tc, which can keep back what XDP cannot, and have it cut";

    ForeignSocket = 20, forward, "foreign_socket", "left alone: a socket of another network namespace than the node's own";
    SocketLeft = 21, forward, "socket_left", "left alone: a socket whose peer is no service";
    ToBackend = 22, forward, "to_backend", "a socket of the node was led to a backend of its service";
    AsFrontend = 23, forward, "as_frontend", "a socket of the node was shown its service again instead of the backend";

    Malformed = 32, drop, "malformed", "shorter than its headers say, or a header that contradicts itself";
    SpoofedMac = 33, drop, "spoofed_mac", "a pod sent from a MAC address that is not its own";
    SpoofedAddress = 34, drop, "spoofed_address", "a pod sent from an IP address that is not its own";
    OwnAddress = 63, drop, "own_address", "came in by the uplink under the node's own address";
    UnknownPort = 35, drop, "unknown_port", "came from a bridge port that no pod is registered on";
    NotIp = 60, drop, "not_ip", "a pod sent a frame that is neither ARP nor IP";
    VlanFromPod = 61, drop, "vlan_from_pod", "a pod sent a frame of a VLAN";
    ArpUnknown = 36, drop, "arp_unknown", "a pod asked by ARP for an address that is not on its node";
    ArpSpoofed = 37, drop, "arp_spoofed", "a pod claimed by ARP an address that is not its own";
    NeighbourUnknown = 46, drop, "neighbour_unknown", "a pod solicited an IPv6 neighbour that is not on its node";
    NeighbourSpoofed = 56, drop, "neighbour_spoofed", "a pod claimed by neighbour discovery an address that is not its own";
    RouterFromPod = 58, drop, "router_from_pod", "a pod sent an IPv6 router advertisement or a redirect";
    NoRoute = 38, drop, "no_route", "no way to the destination";
    NoEndpoint = 39, drop, "no_endpoint", "an address of this node's pod subnet that no pod has";
    NoBackend = 40, drop, "no_backend", "the service names a backend that its table lacks";
    ConntrackFull = 41, drop, "conntrack_full", "the connection table took no further entry";
    NatExhausted = 42, drop, "nat_exhausted", "no free port for source NAT to this destination";
    FragmentWithoutHead = 43, drop, "fragment_without_head", "a fragment whose first part was not seen, to an address that is translated";
    SctpFragment = 59, drop, "sctp_fragment", "the first fragment of an SCTP packet whose ports must change: its checksum covers what is still to come";
    TunnelFromStranger = 44, drop, "tunnel_from_stranger", "VXLAN from an address that is no node of this cluster, or to one at which no tunnel ends here";
    TunnelFromPod = 45, drop, "tunnel_from_pod", "a pod sent VXLAN of its own to a node";
    FamilyNotServed = 47, drop, "family_not_served", "IPv6, which this node does not serve";
    RewriteFailed = 48, drop, "rewrite_failed", "the kernel could not make room for or change the packet's headers";
    UnknownProtocol = 49, drop, "unknown_protocol", "a protocol without ports, to an address that would need translation";
    TooBigSilent = 50, drop, "too_big_silent", "larger than the way's MTU, and an answer is not allowed";
    ExpiredSilent = 51, drop, "expired_silent", "time to live ran out, and an answer is not allowed";
    RefusedSilent = 53, drop, "refused_silent", "the service has no endpoints or not this port, and an answer is not allowed";
    NoFrontend = 52, drop, "no_frontend", "an address of the service range that no service has";
    NoLocalEndpoint = 55, drop, "no_local_endpoint", "the service's traffic policy is Local, and none of its endpoints is on this node";
    SourceDenied = 57, drop, "source_denied", "the service's loadBalancerSourceRanges do not have the sender";
    RelayLoop = 62, drop, "relay_loop", "a packet that this node had relayed to its backend's node came back: the nodes do not agree on the backend";
    Ipv6Noise = 54, noise, "ipv6_noise", "IPv6 to a group, as every stack sends it by itself: nobody here needs it";
}
