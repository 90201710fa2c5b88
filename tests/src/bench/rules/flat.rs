//! Netfilter rules as kube-proxy's nftables mode lays them out: one lookup leads from an address and port to a service's
//! chain, however many services there are. The strongest of the rivals for services.

use std::{fmt::Write as _, net::Ipv4Addr};

use super::{NODE_PORT, SERVICE, SERVICE_PORT};
use crate::bench::rivals::uplink;

const BASE: &str = "\
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain masquerading {
    meta mark and 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain cluster-ips-check {
    ip daddr @cluster-ips reject
    ip daddr 10.96.0.0/12 drop
  }
  chain filter-forward {
    type filter hook forward priority -110;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
";

/// The rules for `services` services, as `nft -f` reads them.
pub fn text(services: u16, backend: (Ipv4Addr, u16)) -> String {
    let (mut addresses, mut ports, mut node_ports) = (Vec::new(), Vec::new(), Vec::new());
    let mut chains = String::new();
    for number in 0..services {
        let real = number == services / 2;
        let [high, low] = number.to_be_bytes();
        let address = if real {
            SERVICE
        } else {
            Ipv4Addr::new(10, 96, high, low)
        };
        let others = [1, 2].map(|node| (Ipv4Addr::new(10, 244, 100 + node, low.max(2)), 8080));
        let backends: &[_] = if real { std::slice::from_ref(&backend) } else { &others };
        addresses.push(address.to_string());
        for protocol in ["tcp", "udp"].into_iter().take(if real { 2 } else { 1 }) {
            let name = format!("service-{number}-{protocol}");
            ports.push(format!("{address} . {protocol} . {SERVICE_PORT} : goto {name}"));
            chain(&mut chains, &name, protocol, address, backends);
            if real {
                // Whoever asks a node gets its address, since the backend may be elsewhere.
                let _ = writeln!(
                    chains,
                    "  chain external-{name} {{ jump mark-for-masquerade; goto {name}; }}"
                );
                node_ports.push(format!("{protocol} . {NODE_PORT} : goto external-{name}"));
            }
        }
    }
    format!(
        "table ip kube-proxy {{\n  set cluster-ips {{ type ipv4_addr; elements = {{ {} }} }}\n  \
         set nodeport-ips {{ type ipv4_addr; elements = {{ {}, {} }} }}\n  \
         map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n  \
{chains}  map service-nodeports {{ type inet_proto . inet_service : verdict; elements = {{ {} }} }}\n  \
         map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; elements = {{ {} }} }}\n{BASE}",
        addresses.join(", "),
        uplink(1),
        uplink(2),
        node_ports.join(", "),
        ports.join(", ")
    )
}

/// The chains of one service port.
fn chain(chains: &mut String, name: &str, protocol: &str, address: Ipv4Addr, backends: &[(Ipv4Addr, u16)]) {
    let mut choice = Vec::new();
    for (slot, (backend, port)) in backends.iter().enumerate() {
        let end = format!("endpoint-{name}-{slot}");
        // Writing to a string does not fail.
        let _ = writeln!(
            chains,
            "  chain {end} {{ ip saddr {backend} jump mark-for-masquerade; meta l4proto {protocol} dnat to {backend}:{port}; }}"
        );
        choice.push(format!("{slot} : goto {end}"));
    }
    let _ = writeln!(
        chains,
        "  chain {name} {{ ip daddr {address} {protocol} dport {SERVICE_PORT} ip saddr != 10.244.0.0/16 jump \
         mark-for-masquerade; numgen random mod {} vmap {{ {} }}; }}",
        backends.len(),
        choice.join(", ")
    );
}
