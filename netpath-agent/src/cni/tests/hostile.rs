//! Requests that nobody would write by accident.

use proptest::prelude::*;

use super::*;

fn hostile_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("..".to_owned()),
        "[a-z0-9./_-]{0,20}",
        "(\\.\\./){1,4}[a-z]{1,5}",
        ".{0,300}",
        "[a-z]{250,260}",
    ]
}

fn hostile_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        hostile_text().prop_map(Value::from),
        "[0-9]{1,3}\\.[0-9]{1,3}\\.0\\.0/[0-9]{1,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((hostile_text(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_and_no_environment_make_the_parser_panic(
        command in prop_oneof![
            "ADD|DEL|CHECK|GC|STATUS|VERSION".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..8),
        ],
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 5),
        stdin in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];
        let mut env: Env = names.into_iter().map(str::to_owned).zip(values.into_iter().map(OsString::from_vec)).collect();
        env.insert("CNI_COMMAND".into(), OsString::from_vec(command));
        let _ = Request::parse(&|name| env.get(name).cloned(), || Ok(stdin));
    }

    #[test]
    fn whatever_parses_stays_below_its_folders(key in "name|bridge|mtu|bpfRoot|stateDir|subnets|prevResult|dns", value in hostile_json()) {
        let changed = with(json!({key: value}));
        if let Ok(network) = Network::parse(changed.to_string().as_bytes()) {
            let folder = network.state_dir.join(&network.name);
            prop_assert_eq!(folder.parent(), Some(network.state_dir.as_path()));
            prop_assert!(network.state_dir.is_absolute() && network.bpf_root.is_absolute());
            prop_assert!(!folder.components().any(|part| part == std::path::Component::ParentDir));
            let _ = network.pools();
        }
    }

    #[test]
    fn names_that_pass_are_safe_as_a_file_s_and_a_device_s(container_id in hostile_text(), ifname in hostile_text()) {
        let mut env = full("DEL");
        env.insert("CNI_CONTAINERID".into(), container_id.clone().into());
        env.insert("CNI_IFNAME".into(), ifname.clone().into());
        if parse(&env, &config()).is_ok() {
            prop_assert!(!container_id.contains('/') && !container_id.starts_with('.'));
            prop_assert!(!ifname.contains('/') && ifname.len() <= 15);
            let device = Attachment { container_id, ifname }.device();
            prop_assert!(names::is_pod_device(&device), "{}", device);
        }
    }

    #[test]
    fn hostile_subnets_never_overflow(address in any::<u32>(), prefix in 0u8..=32, gateway in any::<u32>()) {
        let subnet = format!("{}/{prefix}", std::net::Ipv4Addr::from_bits(address));
        let gateway = std::net::Ipv4Addr::from_bits(gateway).to_string();
        let given = network(json!({"subnets": [{"subnet": subnet, "gateway": gateway}]})).unwrap();
        let _ = given.pools();
        let subnet = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::from_bits(address), prefix).trunc();
        let network = network(json!({"subnets": [{"subnet": subnet.to_string()}]})).unwrap();
        prop_assert_eq!(network.pools().is_ok(), prefix <= 30);
    }
}

#[test]
fn a_configuration_that_is_no_object_is_said_to_be_none() {
    for text in [
        "[]",
        r#" ["1.1.0", "net", "npnone0", 1450, null, null, [], null, null, null, null]"#,
        "7",
        "\"net\"",
        "null",
    ] {
        let error = Network::parse(text.as_bytes()).unwrap_err();
        let expected =
            Error::new(Code::Decode, "the network configuration cannot be read").details("it is no JSON object");
        assert_eq!(error, expected, "{text}");
    }
}
