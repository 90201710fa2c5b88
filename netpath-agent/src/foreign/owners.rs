//! Whose a name is: the devices, tables and chains that other networks and kube-proxy are known by.

/// kube-proxy.
const KUBE_PROXY: &str = "kube-proxy";
/// Its chains and devices, besides those that the kubelet makes for itself.
const PORTMAP: &str = "the CNI plugin portmap";

/// Names of devices, exact or (with a `*`) by their beginning.
const DEVICES: &[(&str, &str)] = &[
    ("cni0", "flannel, or another network of the CNI plugin bridge"),
    ("flannel.*", "flannel"),
    ("flannel-v6.*", "flannel"),
    ("flannel-wg*", "flannel"),
    ("kube-ipvs0", "kube-proxy in IPVS mode"),
    ("cilium_*", "Cilium"),
    ("lxc_health", "Cilium"),
    ("cali*", "Calico"),
    ("vxlan.calico", "Calico"),
    ("wireguard.cali", "Calico"),
    ("kube-bridge", "kube-router"),
    ("kube-dummy-if", "kube-router"),
    ("weave", "Weave Net"),
    ("vethwe-*", "Weave Net"),
    ("antrea-gw0", "Antrea"),
    ("antrea-tun0", "Antrea"),
    ("ovn-k8s-mp*", "OVN-Kubernetes"),
    ("ovn0", "Kube-OVN"),
    ("cbr0", "kubenet"),
];

/// Names of tables of nf_tables.
const TABLES: &[(&str, &str)] = &[
    ("kube-proxy", KUBE_PROXY),
    ("flannel-ipv*", "flannel"),
    ("calico", "Calico"),
    ("cni_hostport", PORTMAP),
];

/// Names of chains. `KUBE-FIREWALL`, `KUBE-KUBELET-CANARY` and `KUBE-IPTABLES-HINT` are the kubelet's, and may stay.
const CHAINS: &[(&str, &str)] = &[
    ("KUBE-SERVICES", KUBE_PROXY),
    ("KUBE-EXTERNAL-SERVICES", KUBE_PROXY),
    ("KUBE-NODEPORTS", KUBE_PROXY),
    ("KUBE-NODE-PORT", KUBE_PROXY),
    ("KUBE-FORWARD", KUBE_PROXY),
    ("KUBE-PROXY-*", KUBE_PROXY),
    ("KUBE-SVC-*", KUBE_PROXY),
    ("KUBE-SVL-*", KUBE_PROXY),
    ("KUBE-SEP-*", KUBE_PROXY),
    ("KUBE-EXT-*", KUBE_PROXY),
    ("KUBE-FW-*", KUBE_PROXY),
    ("KUBE-ROUTER-*", "kube-router"),
    ("KUBE-POD-FW-*", "kube-router"),
    ("KUBE-NWPLCY-*", "kube-router"),
    ("FLANNEL-*", "flannel"),
    ("cali-*", "Calico"),
    ("CILIUM_*", "Cilium"),
    ("OLD_CILIUM_*", "Cilium"),
    ("WEAVE*", "Weave Net"),
    ("ANTREA-*", "Antrea"),
    ("CNI-HOSTPORT-*", PORTMAP),
    ("CNI-DN-*", PORTMAP),
];

/// Whose a device is.
pub(super) fn of_device(name: &str) -> Option<&'static str> {
    owner(DEVICES, name)
}

/// Whose a chain is.
pub(super) fn of_chain(table: &str, name: &str) -> Option<&'static str> {
    owner(TABLES, table).or_else(|| owner(CHAINS, name))
}

/// What takes an owner's rules away.
pub(super) fn cleanup(owner: &str) -> &'static str {
    match owner {
        KUBE_PROXY => "`kube-proxy --cleanup`, or start the node again",
        _ => "`nft list ruleset` or `iptables-save` shows them, or start the node again",
    }
}

fn owner(known: &[(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    known.iter().find(|(pattern, _)| fits(pattern)).map(|(_, owner)| *owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whose_they_are() {
        assert_eq!(of_device("flannel.1"), Some("flannel"));
        assert_eq!(of_device("cali1234"), Some("Calico"));
        for own in [
            "eth0",
            "netpath0",
            "netpath-vx",
            "np0123456789a",
            "lo",
            "docker0",
            "cni01",
            "nodelocaldns",
        ] {
            assert_eq!(of_device(own), None, "{own}");
        }
        assert_eq!(of_chain("nat", "KUBE-SERVICES"), Some("kube-proxy"));
        assert_eq!(of_chain("kube-proxy", "services"), Some("kube-proxy"));
        assert_eq!(of_chain("filter", "cali-FORWARD"), Some("Calico"));
        for own in [
            "INPUT",
            "KUBE-FIREWALL",
            "KUBE-KUBELET-CANARY",
            "KUBE-IPTABLES-HINT",
            "DOCKER",
            "f2b-sshd",
        ] {
            assert_eq!(of_chain("filter", own), None, "{own}");
        }
    }
}
