//! What others have on a node is found and named, and stays as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use netpath_agent::datapath::pins::Pins;
use netpath_agent::foreign::{self, Finding, Scene};
use netpath_agent::net::Netlink;
use netpath_agent::report::Reason;
use nix::sys::signal::Signal;

use crate::node::Node;
use crate::space::{in_namespace, ip, make_uplink};

/// Runs a command of the machine in the calling thread's namespace.
fn run(command: &str) -> String {
    run_words(&command.split_whitespace().collect::<Vec<_>>())
}

fn run_words(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

async fn look(netlink: &Netlink, folder: &Path) -> Vec<Finding> {
    let pins = Pins::new("/sys/fs/bpf/netpath-test-nobodys");
    let subnets = ["10.244.1.0/24", "10.244.2.0/24"].map(|subnet| subnet.parse().unwrap());
    let scene = Scene {
        cni_conf_dir: folder,
        conflist_name: "05-netpath.conflist",
        pins: &pins,
        uplink: Some("up0"),
        // The machine's own are not this test's.
        cgroup: None,
        vxlan_port: 4789,
        pod_subnets: BTreeSet::from(subnets),
    };
    foreign::look(netlink, &scene).await.into_iter().collect()
}

fn told(findings: &[Finding]) -> Vec<(&'static str, String)> {
    findings
        .iter()
        .map(|finding| (finding.reason().name(), finding.to_string()))
        .collect()
}

#[test]
fn a_node_of_its_own_has_nothing_of_others() {
    in_namespace(async |netlink| {
        ip("link set lo up");
        make_uplink();
        ip("route add default via 10.0.1.254");
        // A net that holds pods' and more is no way to pods alone.
        ip("route add 10.0.0.0/8 via 10.0.1.253");
        ip("route add 10.244.2.0/24 via 10.0.1.2 proto 78");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("05-netpath.conflist"), "{}").unwrap();
        let chained = r#"{"name": "mine", "plugins": [{"type": "netpath-cni"}, {"type": "bandwidth"}]}"#;
        fs::write(folder.path().join("04-mine.conflist"), chained).unwrap();
        fs::write(folder.path().join("README"), "").unwrap();
        assert_eq!(look(&netlink, folder.path()).await, []);
        assert_eq!(look(&netlink, Path::new("/nowhere")).await, []);
    });
}

#[test]
fn leftovers_of_flannel_and_kube_proxy_are_found_and_stay() {
    in_namespace(async |netlink| {
        ip("link set lo up");
        make_uplink();
        ip("link add cni0 type bridge");
        ip("address add 10.244.1.1/24 dev cni0");
        ip("link set cni0 up");
        ip("link add flannel.1 type vxlan id 1 dstport 4789 local 10.0.1.1");
        ip("link add other0 type veth peer name far1");
        ip("address add 10.244.2.9/32 dev other0");
        ip("route add 10.244.2.0/24 via 10.0.1.2 proto static");
        for chain in [
            "KUBE-SERVICES",
            "KUBE-NODEPORTS",
            "KUBE-SVC-A",
            "KUBE-SVC-B",
            "KUBE-SEP-C",
            "KUBE-KUBELET-CANARY",
        ] {
            if chain == "KUBE-SERVICES" {
                run("nft add table ip nat");
            }
            run(&format!("nft add chain ip nat {chain}"));
        }
        run("iptables-legacy -t nat -N cali-OUTPUT");
        run("nft add table inet flannel-ipv4");
        run("nft add chain inet flannel-ipv4 postrtg");
        let rules = run("nft list ruleset");
        let devices = ip("-o link show");
        let routes = ip("route show");

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("00-multus.conf"), "{\"name\":\"multus\"}").unwrap();
        fs::write(path("10-flannel.conflist"), "{").unwrap();
        let findings = look(&netlink, folder.path()).await;
        let (early, late) = (path("00-multus.conf"), path("10-flannel.conflist"));
        let clean = "`nft list ruleset` or `iptables-save` shows them, or start the node again";
        let uninstall =
            "uninstall it on this node, then delete what it left with `ip link delete`, or start the node again";
        let expected = [
            (
                "SecondNetwork",
                format!(
                    "{early} configures network \"multus\" and sorts before 05-netpath.conflist, so that new pods do not get \
                     netpath: remove it, or give netpath an earlier name with --conflist-name (a meta plugin that hands on \
                     to netpath may stay)"
                ),
            ),
            (
                "SecondNetwork",
                format!(
                    "{late} configures another network; the runtime takes 05-netpath.conflist before it, but would fall back \
                     to it: remove it once no pod of that network is left"
                ),
            ),
            (
                "ForeignRules",
                format!(
                    "rules of flannel are in the packet filter (flannel-ipv4 postrtg), beside netpath: stop it on this node \
                     and remove them ({clean})"
                ),
            ),
            (
                "ForeignRules",
                "rules of kube-proxy are in the packet filter (nat KUBE-NODEPORTS, nat KUBE-SEP-C, nat KUBE-SERVICES, nat \
                 KUBE-SVC-A and 1 more), beside netpath: stop it on this node and remove them (`kube-proxy --cleanup`, or \
                 start the node again)"
                    .to_owned(),
            ),
            (
                "ForeignRules",
                format!(
                    "rules of Calico are in the packet filter (nat of iptables-legacy, cali-OUTPUT), beside netpath: stop it \
                     on this node and remove them ({clean})"
                ),
            ),
            ("ForeignDevice", format!("there is device flannel.1 of flannel: {uninstall}")),
            (
                "ForeignDevice",
                format!("there is device cni0 of flannel, or another network of the CNI plugin bridge: {uninstall}"),
            ),
            (
                "ForeignDevice",
                "device flannel.1 has UDP port 4789, which netpath's tunnel needs: delete it if it is a leftover, or choose \
                 another port on all nodes with --vxlan-port"
                    .to_owned(),
            ),
            (
                "ForeignRoute",
                "route 10.244.2.0/24 via 10.0.1.2 dev up0 proto 4 leads to pods and is not netpath's: delete it with `ip \
                 route del`, or stop the program that sets it"
                    .to_owned(),
            ),
            (
                "ForeignAddress",
                "device other0 has 10.244.2.9/32, which is of a pod subnet: take it off (`ip address del 10.244.2.9/32 dev \
                 other0`), or give the cluster other pod subnets"
                    .to_owned(),
            ),
        ];
        let (mut found, mut expected) = (told(&findings), expected.to_vec());
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(run("nft list ruleset"), rules);
        assert_eq!(ip("-o link show"), devices);
        assert_eq!(ip("route show"), routes);
    });
}

#[test]
fn programs_on_the_same_hooks_are_found() {
    in_namespace(async |netlink| {
        ip("link set lo up");
        ip("link add up0 type veth peer name far0");
        ip("link set up0 up");
        run("tc qdisc add dev up0 clsact");
        // One instruction: let it pass.
        let program = "1,6 0 0 4294967295,";
        run_words(&[
            "tc", "filter", "add", "dev", "up0", "egress", "bpf", "da", "bytecode", program,
        ]);
        let found = look(&netlink, Path::new("/nowhere")).await;
        let expected = Finding::Program {
            hook: "clsact egress of up0".into(),
            program: "a filter of kind bpf".into(),
        };
        assert_eq!(found, std::slice::from_ref(&expected));
        assert_eq!(expected.reason(), Reason::ForeignProgram);
        assert!(
            expected
                .to_string()
                .starts_with("program a filter of kind bpf is on clsact egress of up0 ")
        );
    });
}

/// Programs that an agent with other pins left are another's.
#[test]
fn another_agents_programs_are_not_ours() {
    in_namespace(async |netlink| {
        let mut node = Node::ready();
        node.end(Signal::SIGTERM);
        let found = look(&netlink, Path::new("/nowhere")).await;
        let hooks: BTreeSet<_> = found
            .iter()
            .map(|finding| match finding {
                Finding::Program { hook, program } => {
                    let name = program.split(' ').next().unwrap();
                    (hook.as_str(), name)
                }
                other => panic!("{other}"),
            })
            .collect();
        let expected = [
            ("tcx egress of netpath0", "from_host"),
            ("tcx egress of up0", "to_wire"),
            ("tcx ingress of netpath-vx", "from_overlay"),
            ("tcx ingress of up0", "from_wire"),
        ];
        assert_eq!(hooks, BTreeSet::from(expected));
    });
}

#[test]
fn an_agent_says_what_it_finds_and_serves_all_the_same() {
    in_namespace(async |_| {
        let mut node = Node::new();
        fs::create_dir(node.path("net.d")).unwrap();
        fs::write(node.path("net.d").join("10-flannel.conflist"), "{\"name\":\"cbr0\"}").unwrap();
        node.write_node("n1", "10.0.1.1", "10.244.1.0/24");
        node.start();
        let remarks = node.until_ready_with_remarks();
        let said = "10-flannel.conflist configures network \"cbr0\"; the runtime takes 05-netpath.conflist before it";
        assert!(remarks.contains(said), "{remarks}");
        assert!(node.log().contains(said), "{}", node.log());
        assert!(node.path("net.d").join("10-flannel.conflist").exists());
    });
}
