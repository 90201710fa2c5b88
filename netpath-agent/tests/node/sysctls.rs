//! The sysctls and the reserved ports that netpath needs, beside what others set.

use netpath_agent::family::{V4, V6};
use netpath_agent::net::{before, sysctl};

use crate::space::{self, in_namespace, make_uplink, set_sysctl};

#[test]
fn forwarding_is_on_and_strict_filters_become_loose() {
    in_namespace(async |_| {
        make_uplink();
        set_sysctl("ipv4/conf/all/rp_filter", "0");
        set_sysctl("ipv4/conf/up0/rp_filter", "1");
        set_sysctl("ipv4/conf/far0/rp_filter", "0");
        let state = tempfile::tempdir().unwrap();
        sysctl::prepare::<V4>(&["up0", "far0"], state.path()).unwrap();
        assert_eq!(space::sysctl("ipv4/ip_forward"), "1");
        assert_eq!(
            (
                space::sysctl("ipv4/conf/up0/rp_filter"),
                space::sysctl("ipv4/conf/far0/rp_filter")
            ),
            ("2".into(), "0".into())
        );
        set_sysctl("ipv4/conf/all/rp_filter", "1");
        sysctl::prepare::<V4>(&["up0", "far0"], state.path()).unwrap();
        assert_eq!(space::sysctl("ipv4/conf/far0/rp_filter"), "2");
        let error = sysctl::prepare::<V4>(&["nowhere"], state.path())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "sysctl net.ipv4.conf.nowhere.forwarding: No such file or directory (os error 2)"
        );
    });
}

/// A node that learns its way out from a router goes on to, when it becomes one.
#[test]
fn forwarding_ipv6_does_not_cost_the_node_its_own_routes() {
    in_namespace(async |_| {
        make_uplink();
        set_sysctl("ipv6/conf/far0/accept_ra", "0");
        let state = tempfile::tempdir().unwrap();
        assert_eq!(
            (
                space::sysctl("ipv6/conf/up0/accept_ra"),
                space::sysctl("ipv6/conf/all/forwarding")
            ),
            ("1".into(), "0".into())
        );
        sysctl::prepare::<V6>(&["up0"], state.path()).unwrap();
        let values = [
            "ipv6/conf/all/forwarding",
            "ipv6/conf/up0/forwarding",
            "ipv6/conf/up0/accept_ra",
            "ipv6/conf/far0/accept_ra",
        ];
        assert_eq!(values.map(space::sysctl), ["1", "1", "2", "0"]);
        // A device that comes later than the switch.
        set_sysctl("ipv6/conf/up0/accept_ra", "1");
        sysctl::prepare::<V6>(&["up0"], state.path()).unwrap();
        assert_eq!(space::sysctl("ipv6/conf/up0/accept_ra"), "2");
        let changed = before::changed(state.path()).unwrap();
        let names: Vec<String> = changed.iter().map(before::Changed::name).collect();
        assert_eq!(names[0], "net.ipv6.conf.all.forwarding");
        assert!(names.contains(&"net.ipv6.conf.up0.accept_ra".to_owned()), "{names:?}");
        changed.iter().for_each(|change| before::restore(change).unwrap());
        assert_eq!(values.map(space::sysctl), ["0", "0", "1", "0"]);
    });
}

#[test]
fn reserved_ports_keep_what_was_there_and_are_given_back() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().to_owned();
    in_namespace(async move |_| {
        set_sysctl("ipv4/ip_local_reserved_ports", "8080,49152-49160");
        sysctl::reserve_ports(&(49152..=65535), &path).unwrap();
        assert_eq!(space::sysctl("ipv4/ip_local_reserved_ports"), "8080,49152-65535");
        // A later start with another range gives the first one back.
        sysctl::reserve_ports(&(50000..=50010), &path).unwrap();
        assert_eq!(
            space::sysctl("ipv4/ip_local_reserved_ports"),
            "8080,49152-49160,50000-50010"
        );
        sysctl::release_ports(&path).unwrap();
        assert_eq!(space::sysctl("ipv4/ip_local_reserved_ports"), "8080,49152-49160");
        sysctl::release_ports(&path).unwrap();
        set_sysctl("ipv4/ip_local_reserved_ports", "\n");
        sysctl::reserve_ports(&(50000..=50010), &path).unwrap();
        sysctl::release_ports(&path).unwrap();
        assert_eq!(space::sysctl("ipv4/ip_local_reserved_ports"), "");
    });
}

#[test]
fn unwise_ranges_are_warned_of() {
    in_namespace(async |_| {
        assert_eq!(sysctl::port_warning(&(49152..=65535)).unwrap(), None);
        let warning = sysctl::port_warning(&(32768..=65535)).unwrap().unwrap();
        let said = "net.ipv4.ip_local_port_range 32768-60999 leaves the node's own sockets 0 ports beside --nat-ports 32768-65535";
        assert!(warning.starts_with(said), "{warning}");
    });
}
