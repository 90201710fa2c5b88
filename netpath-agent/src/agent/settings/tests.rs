//! The command line: its defaults, what it refuses, and the page that explains it.

use super::*;

fn parse(arguments: &[&str]) -> Result<Settings, String> {
    let all = ["netpath-agent"].iter().chain(arguments);
    let settings = Settings::try_parse_from(all).map_err(|error| error.to_string())?;
    settings.consistent()?;
    Ok(settings)
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let settings = parse(&[]).unwrap();
    assert_eq!(settings.bpf_root, PathBuf::from("/sys/fs/bpf/netpath"));
    assert_eq!((settings.vni, settings.vxlan_port), (78, 4789));
    assert_eq!(settings.nat_ports, 49152..=65535);
    assert_eq!(settings.service_cidrs, []);
    assert_eq!(settings.sysctl_dir, PathBuf::from("/proc/sys/net"));
    assert_eq!(settings.health_address, "127.0.0.1:9878".parse().unwrap());
    assert_eq!((settings.xdp, settings.log_format), (Xdp::Auto, LogFormat::Text));
    assert_eq!(settings.sizes, Sizes::default());
}

#[test]
fn a_bad_value_is_named_with_its_flag_and_what_is_accepted() {
    for (arguments, said) in [
        (["--vni", "16777216"], ["--vni", "16777216", "1..16777216"]),
        (["--vxlan-port", "0"], ["--vxlan-port", "'0'", "0 is not in 1.."]),
        (["--nat-ports", "80-90"], ["--nat-ports", "80-90", "from 1024 to 65535"]),
        (
            ["--nat-ports", "2000-2062"],
            ["--nat-ports", "2000-2062", "at least 64 ports"],
        ),
        (
            ["--nat-ports", "60000-50000"],
            ["--nat-ports", "60000-50000", "FIRST-LAST"],
        ),
        (
            ["--node-port-addresses", "10.0.0.1/8"],
            [
                "--node-port-addresses",
                "10.0.0.1/8",
                "expected all, primary, or subnets",
            ],
        ),
        (
            ["--service-cidr", "10.96.0.1/12"],
            ["--service-cidr", "10.96.0.1/12", "did you mean 10.96.0.0/12?"],
        ),
        (["--service-cidr", "all"], ["--service-cidr", "all", "10.96.0.0/12"]),
        (["--uplink", "eth0/../x"], ["--uplink", "eth0/../x", "1 to 15 bytes"]),
        (
            ["--node-name", "Node_1"],
            ["--node-name", "Node_1", "lower case letters"],
        ),
        (["--bpf-root", "bpf"], ["--bpf-root", "bpf", "absolute path"]),
        (
            ["--conflist-name", "../x.conflist"],
            ["--conflist-name", "../x.conflist", "without a folder"],
        ),
        (
            ["--conflist-name", "x.conf"],
            ["--conflist-name", "x.conf", ".conflist"],
        ),
        (
            ["--health-address", "9878"],
            ["--health-address", "9878", "invalid socket address"],
        ),
        (
            ["--startup-taint", "a/b=c:NoSchedule"],
            ["--startup-taint", "a/b=c:NoSchedule", "netpath.io/agent-not-ready"],
        ),
        (
            ["--kubelet-kubeconfig", "x"],
            ["--kubelet-kubeconfig", "'x'", "absolute path"],
        ),
        (
            ["--proxy-health-address", "10256"],
            ["--proxy-health-address", "10256", "or off"],
        ),
        (["--xdp", "maybe"], ["--xdp", "maybe", "auto, on, off"]),
        (
            ["--source-ranges", "all"],
            ["--source-ranges", "all", "addresses, node-ports"],
        ),
        (["--log-format", "xml"], ["--log-format", "xml", "text, json"]),
        (
            ["--log-level", "net=loud"],
            ["--log-level", "net=loud", "error, warn, info, debug, trace"],
        ),
    ] {
        let error = parse(&arguments).unwrap_err();
        for part in said {
            assert!(error.contains(part), "{arguments:?}: {part:?} is not in {error}");
        }
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let error = parse(&["--vxlan-port", "50000"]).unwrap_err();
    assert!(
        error.starts_with("--vxlan-port 50000 lies in --nat-ports 49152-65535"),
        "{error}"
    );
    let error = parse(&["--nat-ports", "32767-65535"]).unwrap_err();
    assert!(
        error.starts_with("--nat-ports 32767-65535 overlaps --node-ports 30000-32767"),
        "{error}"
    );
    let error = parse(&["--service-cidr", "10.96.0.0/12,10.97.0.0/16"]).unwrap_err();
    assert!(
        error.starts_with("--service-cidr 10.97.0.0/16 overlaps --service-cidr 10.96.0.0/12"),
        "{error}"
    );
    let error = parse(&["--direct-return", "on"]).unwrap_err();
    assert!(error.starts_with("--direct-return on needs --maglev"), "{error}");
    parse(&["--direct-return", "on", "--maglev", "x"]).unwrap();
    let error = parse(&["--folder", "/a", "--kubeconfig", "/b"]).unwrap_err();
    assert!(
        error.contains("--folder <DIR>") && error.contains("--kubeconfig <FILE>"),
        "{error}"
    );
}

#[test]
fn the_manual_has_every_setting() {
    let manual = include_str!("../../../../docs/settings.md");
    for argument in Settings::command().get_arguments() {
        let Some(flag) = argument.get_long().filter(|flag| !["help", "version"].contains(flag)) else {
            continue;
        };
        let start = format!("| `--{flag}` | ");
        let line = manual.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("docs/settings.md has no --{flag}"));
        let variable = argument.get_env().unwrap().to_str().unwrap();
        assert!(line.contains(&format!("| `{variable}` |")), "{variable}: {line}");
        let defaults = argument.get_default_values().iter();
        let defaults: Vec<_> = defaults
            .map(|default| format!("`{}`", default.to_str().unwrap()))
            .collect();
        if !defaults.is_empty() {
            let told = format!("| {} |", defaults.join(", "));
            assert!(line.contains(&told), "{told}: {line}");
        }
    }
}

#[test]
fn the_given_name_is_the_nodes() {
    assert_eq!(
        parse(&["--node-name", "n1.example"]).unwrap().node_name().unwrap(),
        "n1.example"
    );
}
