//! Netfilter rules as kube-proxy's iptables mode writes them, with flannel's two chains beside them: what every packet
//! of a usual cluster walks through.

use std::{fmt::Write as _, net::Ipv4Addr};

use super::{NODE_PORT, SERVICE, SERVICE_PORT};

const FILTER: &str = r#"*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
:FLANNEL-FWD - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "node ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "external services" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "external services" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "load balancer firewall" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "service portals" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -m comment --comment "block packets that claim to be local" -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FLANNEL-FWD -m comment --comment "flanneld" -s 10.244.0.0/16 -j ACCEPT
-A FLANNEL-FWD -m comment --comment "flanneld" -d 10.244.0.0/16 -j ACCEPT
COMMIT
"#;

const NAT: &str = r#"-A PREROUTING -m comment --comment "service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "service traffic that needs it" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG -m comment --comment "flanneld" -m mark --mark 0x4000/0x4000 -j RETURN
-A FLANNEL-POSTRTG -m comment --comment "flanneld" -s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN
-A FLANNEL-POSTRTG -m comment --comment "flanneld" -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
"#;

/// The rules for `services` services, as `iptables-restore` reads them.
pub fn text(services: u16, backend: (Ipv4Addr, u16)) -> String {
    let mut chains = String::from("*nat\n");
    for chain in [
        "KUBE-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-MARK-MASQ",
        "KUBE-POSTROUTING",
        "FLANNEL-POSTRTG",
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(chains, ":{chain} - [0:0]");
    }
    let mut body = String::from(NAT);
    for number in 0..services {
        let real = number == services / 2;
        let [high, low] = number.to_be_bytes();
        let address = if real {
            SERVICE
        } else {
            Ipv4Addr::new(10, 96, high, low)
        };
        let ends = if real {
            vec![backend]
        } else {
            [1, 2]
                .map(|node| (Ipv4Addr::new(10, 244, 100 + node, low.max(2)), PORT_OF_OTHERS))
                .to_vec()
        };
        service(&mut chains, &mut body, number, "tcp", address, &ends);
        if real {
            service(&mut chains, &mut body, services, "udp", address, &ends);
            for (number, protocol) in [(number, "tcp"), (services, "udp")] {
                node_port(&mut chains, &mut body, number, protocol);
            }
        }
    }
    body.push_str(
        "-A KUBE-SERVICES -m comment --comment nodeports -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n",
    );
    format!("{FILTER}{chains}{body}")
}

/// Backends of the services nobody asks for.
const PORT_OF_OTHERS: u16 = 8080;

/// The chain of one service port on the nodes: whoever asks there gets the node's address, since the backend may be elsewhere.
fn node_port(chains: &mut String, body: &mut String, number: u16, protocol: &str) {
    let name = format!("KUBE-EXT-{number:016X}");
    let comment = format!("shop/service-{number}:http");
    let _ = writeln!(chains, ":{name} - [0:0]");
    let _ = writeln!(
        body,
        "-A KUBE-NODEPORTS -p {protocol} -m comment --comment {comment} -m {protocol} --dport {NODE_PORT} -j {name}\n\
         -A {name} -m comment --comment {comment} -j KUBE-MARK-MASQ\n\
         -A {name} -j KUBE-SVC-{number:016X}"
    );
}

/// The chains of one service port: its address, its backends by chance, a mark for masquerade where one talks to itself.
fn service(
    chains: &mut String,
    body: &mut String,
    number: u16,
    protocol: &str,
    address: Ipv4Addr,
    backends: &[(Ipv4Addr, u16)],
) {
    let name = format!("KUBE-SVC-{number:016X}");
    // A comment is a match like any other to the kernel: leaving it out would flatter these rules.
    let comment = format!("shop/service-{number}:http");
    let _ = writeln!(chains, ":{name} - [0:0]");
    let _ = writeln!(
        body,
        "-A KUBE-SERVICES -m comment --comment {comment} -d {address}/32 -p {protocol} -m {protocol} --dport {SERVICE_PORT} -j {name}"
    );
    let _ = writeln!(
        body,
        "-A {name} -m comment --comment {comment} ! -s 10.244.0.0/16 -d {address}/32 -p {protocol} -m {protocol} --dport {SERVICE_PORT} -j KUBE-MARK-MASQ"
    );
    for (slot, (backend, port)) in backends.iter().enumerate() {
        let end = format!("KUBE-SEP-{number:08X}{slot:08X}");
        let _ = writeln!(chains, ":{end} - [0:0]");
        let left = backends.len() - slot;
        if left == 1 {
            let _ = writeln!(body, "-A {name} -m comment --comment {comment} -j {end}");
        } else {
            let probability = 1.0 / f64::from(u32::try_from(left).unwrap_or(u32::MAX));
            let _ = writeln!(
                body,
                "-A {name} -m comment --comment {comment} -m statistic --mode random --probability {probability:.10} -j {end}"
            );
        }
        let _ = writeln!(
            body,
            "-A {end} -m comment --comment {comment} -s {backend}/32 -j KUBE-MARK-MASQ"
        );
        let _ = writeln!(
            body,
            "-A {end} -m comment --comment {comment} -p {protocol} -m {protocol} -j DNAT --to-destination {backend}:{port}"
        );
    }
}
