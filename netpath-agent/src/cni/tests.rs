//! Requests from hostile and careless runtimes: every one gets an answer in the specification's form.

use std::{collections::HashMap, ffi::OsString, os::unix::ffi::OsStringExt};

use serde_json::json;

use super::{
    config::{Network, ValidAttachment},
    names::Attachment,
    pool::Pool,
    *,
};

mod hostile;

type Env = HashMap<String, OsString>;

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect()
}

fn full(command: &str) -> Env {
    env(&[
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c0ffee"),
        ("CNI_NETNS", "/run/netns/none"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ])
}

fn parse(env: &Env, stdin: &Value) -> Result<Request, Error> {
    Request::parse(&|name| env.get(name).cloned(), || Ok(stdin.to_string().into_bytes()))
}

fn config() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "netpath-cni", "bridge": "npnone0", "mtu": 1450,
        "bpfRoot": "/sys/fs/bpf/none", "stateDir": "/nonexistent/state",
        "subnets": [{"subnet": "10.244.1.0/24", "gateway": "10.244.1.1"}],
    })
}

fn with(changes: Value) -> Value {
    let mut config = config();
    config
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    config
}

fn network(changes: Value) -> Result<Network, Error> {
    Network::parse(with(changes).to_string().as_bytes())
}

#[test]
fn a_whole_add_is_read() {
    let mut env = full("ADD");
    env.insert(
        "CNI_ARGS".into(),
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=wear-1;x".into(),
    );
    let Request::On(network, command) = parse(&env, &config()).unwrap() else {
        panic!("a command")
    };
    let attachment = Attachment {
        container_id: "c0ffee".into(),
        ifname: "eth0".into(),
    };
    let pod = Some("shop/wear-1".to_owned());
    assert_eq!(
        command,
        Command::Add {
            attachment,
            netns: "/run/netns/none".into(),
            pod
        }
    );
    assert_eq!(
        (network.name.as_str(), network.bridge.as_str(), network.mtu),
        ("net", "npnone0", Some(1450))
    );
    let pool = Pool {
        subnet: "10.244.1.0/24".parse().unwrap(),
        gateway: "10.244.1.1".parse().unwrap(),
    };
    assert_eq!(network.pools().unwrap(), [pool]);
    assert_eq!((network.prev_result, network.valid_attachments), (None, None));
}

#[test]
fn every_variable_that_a_command_needs_is_asked_for_by_name() {
    let cases: [(&str, &[&str]); 5] = [
        ("ADD", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH"]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"]),
        ("GC", &["CNI_PATH"]),
        ("STATUS", &["CNI_PATH"]),
    ];
    for (command, needed) in cases {
        assert!(parse(&full(command), &config()).is_ok(), "{command}");
        let error = parse(&env(&[("CNI_COMMAND", command)]), &config()).unwrap_err();
        assert_eq!(error.msg, format!("{} not set", needed.join(", ")));
        for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH"] {
            let mut env = full(command);
            env.insert(name.into(), OsString::new());
            let outcome = parse(&env, &config()).map_err(|error| (error.code, error.msg));
            match needed.contains(&name) {
                true => assert_eq!(
                    outcome,
                    Err((Code::BadEnvironment, format!("{name} not set"))),
                    "{command}"
                ),
                false => assert!(outcome.is_ok(), "{command} needs no {name}"),
            }
        }
    }
    assert_eq!(parse(&Env::new(), &config()).unwrap_err().msg, "CNI_COMMAND not set");
    assert_eq!(
        parse(&full("UPDATE"), &config()).unwrap_err().msg,
        "CNI_COMMAND \"UPDATE\" is unknown"
    );
}

#[test]
fn bad_values_of_the_environment_are_code_4() {
    for (name, value) in [
        ("CNI_CONTAINERID", &b"../../etc"[..]),
        ("CNI_CONTAINERID", b"-rf"),
        ("CNI_CONTAINERID", b"a\xff"),
        ("CNI_IFNAME", b"eth0/../x"),
        ("CNI_IFNAME", b"averyveryverylongname"),
        ("CNI_IFNAME", b".."),
        ("CNI_NETNS", b"relative/path"),
        ("CNI_NETNS", b"\xff"),
        ("CNI_COMMAND", b"add"),
    ] {
        let mut env = full("ADD");
        env.insert(name.into(), OsString::from_vec(value.to_vec()));
        let error = parse(&env, &config()).unwrap_err();
        assert_eq!(error.code, Code::BadEnvironment, "{name}");
        assert!(error.msg.contains(name), "{error}");
    }
}

#[test]
fn bad_configurations_are_refused_with_their_code() {
    let cases = [
        (json!({"name": ""}), Code::BadConfig),
        (json!({"name": "../x"}), Code::BadConfig),
        (json!({"name": 7}), Code::Decode),
        (json!({"cniVersion": "0.2.0"}), Code::IncompatibleVersion),
        (json!({"cniVersion": null}), Code::IncompatibleVersion),
        (json!({"cniVersion": "new"}), Code::Decode),
        (json!({"cniVersion": 1.1}), Code::Decode),
        (json!({"bridge": "a/b"}), Code::BadConfig),
        (json!({"mtu": 67}), Code::BadConfig),
        (json!({"mtu": 65536}), Code::BadConfig),
        (json!({"mtu": -1}), Code::Decode),
        (json!({"mtu": 1e99}), Code::Decode),
        (json!({"stateDir": "relative"}), Code::BadConfig),
        (json!({"stateDir": "/"}), Code::BadConfig),
        (json!({"stateDir": "/var/../etc"}), Code::BadConfig),
        (json!({"stateDir": ""}), Code::BadConfig),
        (json!({"bpfRoot": "/sys/fs/bpf/../../etc"}), Code::BadConfig),
        (json!({"bpfRoot": "/sys/\0"}), Code::BadConfig),
        (json!({"subnets": {}}), Code::Decode),
        (json!({"subnets": [{"subnet": "10.0.0.0/33"}]}), Code::Decode),
        (
            json!({"subnets": [{"subnet": "10.0.0.0/24", "gateway": "x"}]}),
            Code::Decode,
        ),
        (json!({"ipam": {"type": "host-local"}}), Code::UnsupportedField),
        (json!({"prevResult": []}), Code::Decode),
        (json!({"cni.dev/valid-attachments": "none"}), Code::Decode),
    ];
    for (change, code) in cases {
        let error = network(change.clone()).unwrap_err();
        assert_eq!(error.code, code, "{change}: {error}");
    }
    for garbage in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{\"name\": \"x\"",
        &b"[".repeat(100_000),
    ] {
        assert_eq!(Network::parse(garbage).unwrap_err().code, Code::Decode);
    }
    assert!(
        network(json!({"ipam": {}, "unknown": {"key": 1}})).is_ok(),
        "keys of others are left alone"
    );
}

#[test]
fn bad_subnets_are_code_7_and_matter_only_where_they_are_used() {
    let cases = [
        (json!([]), "network net has no subnet"),
        (
            json!([{"subnet": "fd00::/127"}]),
            "subnet fd00::/127 is too small to give out addresses",
        ),
        (
            json!([{"subnet": "fd00::/64", "gateway": "10.0.0.1"}]),
            "gateway 10.0.0.1 is not a host's address in subnet fd00::/64",
        ),
        (
            json!([{"subnet": "fd00::/64"}, {"subnet": "10.0.0.0/8"}, {"subnet": "fd00::8:0/112"}]),
            "subnets fd00::/64 and fd00::8:0/112 overlap",
        ),
        (
            json!([{"subnet": "10.0.0.0/31"}]),
            "subnet 10.0.0.0/31 is too small to give out addresses",
        ),
        (
            json!([{"subnet": "10.0.0.5/24"}]),
            "subnet 10.0.0.5/24 has bits set beyond its prefix",
        ),
        (
            json!([{"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"}]),
            "gateway 10.0.1.1 is not a host's address in subnet 10.0.0.0/24",
        ),
        (
            json!([{"subnet": "10.0.0.0/24", "gateway": "10.0.0.255"}]),
            "gateway 10.0.0.255 is not a host's address in subnet 10.0.0.0/24",
        ),
        (
            json!([{"subnet": "10.0.0.0/24", "gateway": "fd00::1"}]),
            "gateway fd00::1 is not a host's address in subnet 10.0.0.0/24",
        ),
        (
            json!([{"subnet": "10.0.0.0/16"}, {"subnet": "10.0.9.0/24"}]),
            "subnets 10.0.0.0/16 and 10.0.9.0/24 overlap",
        ),
    ];
    for (subnets, msg) in cases {
        let network = network(json!({"subnets": subnets})).expect("DEL must not mind");
        let error = network.pools().unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (Code::BadConfig, msg));
    }
    let dual = network(json!({"subnets": [{"subnet": "fd00::/64"}, {"subnet": "10.0.0.0/30"}]})).unwrap();
    let pool = |subnet: &str, gateway: &str| Pool {
        subnet: subnet.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
    };
    assert_eq!(
        dual.pools().unwrap(),
        [pool("fd00::/64", "fd00::1"), pool("10.0.0.0/30", "10.0.0.1")],
        "the first host is the gateway unless another is named"
    );
}

#[test]
fn commands_need_their_version() {
    for (command, version, allowed) in [
        ("ADD", "0.3.1", true),
        ("DEL", "0.3.1", true),
        ("CHECK", "0.3.1", false),
        ("CHECK", "0.4.0", true),
        ("GC", "1.0.0", false),
        ("GC", "1.1.0", true),
        ("STATUS", "1.0.0", false),
        ("STATUS", "1.1.0", true),
    ] {
        let outcome = parse(&full(command), &with(json!({"cniVersion": version})));
        match allowed {
            true => assert!(outcome.is_ok(), "{command} {version}"),
            false => assert_eq!(
                outcome.unwrap_err().code,
                Code::IncompatibleVersion,
                "{command} {version}"
            ),
        }
    }
}

#[test]
fn gc_tells_a_missing_list_from_an_empty_one() {
    assert_eq!(network(json!({})).unwrap().valid_attachments, None);
    assert_eq!(
        network(json!({"cni.dev/valid-attachments": []}))
            .unwrap()
            .valid_attachments,
        Some(vec![])
    );
    let valid = ValidAttachment {
        container_id: "a".into(),
        ifname: "eth0".into(),
    };
    let listed = json!({
        "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}],
        "cni.dev/attachments": [{"containerID": "b", "ifname": "eth0"}],
    });
    assert_eq!(network(listed).unwrap().valid_attachments, Some(vec![valid]));
}

#[test]
fn version_is_answered_whatever_else_is_there() {
    let supported = json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    for (stdin, version) in [
        ("{\"cniVersion\":\"0.4.0\"}", "0.4.0"),
        ("", "1.1.0"),
        ("{{{", "1.1.0"),
        ("[1]", "1.1.0"),
    ] {
        let command = env(&[("CNI_COMMAND", "VERSION")]);
        let result = answer(&|name| command.get(name).cloned(), || Ok(stdin.as_bytes().to_vec()));
        assert_eq!(
            result.unwrap(),
            Some(json!({"cniVersion": version, "supportedVersions": supported}))
        );
    }
}

#[test]
fn errors_are_said_in_the_version_that_was_spoken() {
    let env = full("ADD");
    let stdin = with(json!({"cniVersion": "0.4.0", "mtu": 1})).to_string();
    let (error, version) = answer(&|name| env.get(name).cloned(), || Ok(stdin.into_bytes())).unwrap_err();
    assert_eq!((error.code, version), (Code::BadConfig, Version::V0_4_0));
    let (error, version) = answer(&|_| None, || Ok(Vec::new())).unwrap_err();
    assert_eq!((error.code, version), (Code::BadEnvironment, Version::NEWEST));
}

#[test]
fn add_without_a_datapath_says_so_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let root = folder.path().join("bpf");
    let stdin = with(json!({"stateDir": state, "bpfRoot": root})).to_string();
    let env = full("ADD");
    let (error, _) = answer(&|name| env.get(name).cloned(), || Ok(stdin.into_bytes())).unwrap_err();
    assert_eq!(error.code, Code::NotAvailable);
    assert!(error.msg.contains("start netpath-agent"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
