//! Addresses under races, reboots, torn files and in want.

use std::{collections::BTreeSet, thread};

use super::*;

fn pool(subnet: &str, gateway: &str) -> Pool {
    Pool {
        subnet: subnet.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
    }
}

fn record(number: usize) -> Record {
    Record {
        container_id: format!("container{number}"),
        ifname: "eth0".into(),
        boot_id: String::new(),
        netns: Some(format!("/run/netns/{number}").into()),
        pod: None,
        port_mappings: Vec::new(),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The only address of a reservation.
fn only(reservation: Reservation) -> IpAddr {
    let [address] = reservation.addresses()[..] else {
        panic!("one address: {reservation:?}")
    };
    address
}

struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn addresses(&self, boot: &str) -> Addresses {
        Addresses::new(self.folder.path(), "net", boot)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("net").join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.addresses("").files().unwrap();
        names.sort();
        names
    }
}

#[test]
fn addresses_come_in_order_and_skip_network_gateway_and_broadcast() {
    let scratch = Scratch::new();
    let addresses = scratch.addresses("boot");
    let pools = [pool("10.0.0.0/29", "10.0.0.3")];
    let given: Vec<_> = (0..5)
        .map(|n| only(addresses.reserve(&pools, record(n)).unwrap()).to_string())
        .collect();
    assert_eq!(given, ["10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    let error = addresses.reserve(&pools, record(5)).unwrap_err();
    assert_eq!(error.code, Code::TryAgain);
    assert_eq!(
        error.to_string(),
        "no address is free: all 5 of 10.0.0.0/29 are in use: \
         delete pods on this node, or give the node a larger or a second pod subnet"
    );
    assert_eq!(
        scratch.names(),
        [
            ".last", ".lock", "10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"
        ],
        "a failure leaves nothing"
    );
}

#[test]
fn an_address_rests_before_it_is_used_again() {
    let scratch = Scratch::new();
    let addresses = scratch.addresses("boot");
    let pools = [pool("10.0.0.0/29", "10.0.0.1")];
    for (number, expected) in ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"]
        .iter()
        .enumerate()
    {
        let reservation = addresses.reserve(&pools, record(number)).unwrap();
        assert_eq!(only(reservation).to_string(), *expected);
        addresses.release(&record(number).attachment()).unwrap();
    }
    assert_eq!(scratch.names(), [".last", ".lock"]);
}

#[test]
fn without_the_hint_the_first_free_address_serves() {
    let scratch = Scratch::new();
    let addresses = scratch.addresses("boot");
    let pools = [pool("10.0.0.0/24", "10.0.0.1")];
    addresses.reserve(&pools, record(0)).unwrap();
    for hint in ["nowhere", "boot/", "boot/10.9.9.9", "boot/10.0.0.1"] {
        fs::remove_file(scratch.path(LAST)).unwrap();
        symlink(hint, scratch.path(LAST)).unwrap();
        let reservation = addresses.reserve(&pools, record(1)).unwrap();
        assert_eq!(only(reservation), address("10.0.0.3"), "{hint}");
        addresses.release(&record(1).attachment()).unwrap();
    }
}

#[test]
fn all_subnets_are_used_in_turn() {
    let scratch = Scratch::new();
    let addresses = scratch.addresses("boot");
    let pools = [
        pool("10.0.0.0/30", "10.0.0.1"),
        pool("10.1.0.0/30", "10.1.0.2"),
        pool("10.2.0.0/30", "10.2.0.1"),
    ];
    let given: Vec<_> = (0..3).map(|n| addresses.reserve(&pools, record(n)).unwrap()).collect();
    let given: Vec<_> = given
        .iter()
        .flat_map(|given| given.given.iter().map(|(pool, address)| (*pool, address.to_string())))
        .collect();
    assert_eq!(
        given,
        [
            (pools[0], "10.0.0.2".into()),
            (pools[1], "10.1.0.1".into()),
            (pools[2], "10.2.0.2".into())
        ]
    );
    assert_eq!(addresses.free(&pools).unwrap(), 0);
    let error = addresses.reserve(&pools, record(3)).unwrap_err();
    assert_eq!(
        error.msg,
        "no address is free: all 1 of 10.0.0.0/30 and all 1 of 10.1.0.0/30 and all 1 of 10.2.0.0/30 are in use"
    );
    addresses.release(&record(0).attachment()).unwrap();
    assert_eq!(only(addresses.reserve(&pools, record(3)).unwrap()), address("10.0.0.2"));
}

#[test]
fn a_reboot_frees_everything_at_the_next_add() {
    let scratch = Scratch::new();
    let pools = [pool("10.0.0.0/29", "10.0.0.1")];
    let before = scratch.addresses("before");
    for number in 0..5 {
        before.reserve(&pools, record(number)).unwrap();
    }
    let after = scratch.addresses("after");
    assert_eq!(after.records().unwrap(), []);
    assert_eq!(after.free(&pools).unwrap(), 5);
    let reservation = after.reserve(&pools, record(9)).unwrap();
    assert_eq!(only(reservation), address("10.0.0.2"));
    let expected = Record {
        boot_id: "after".into(),
        ..record(9)
    };
    assert_eq!(after.records().unwrap(), [(address("10.0.0.2"), expected)]);
    assert_eq!(scratch.names(), [".last", ".lock", "10.0.0.2"]);
}

#[test]
fn torn_files_are_free_once_the_others_are_used_up() {
    let scratch = Scratch::new();
    let addresses = scratch.addresses("boot");
    let pools = [pool("10.0.0.0/29", "10.0.0.1")];
    addresses.reserve(&pools, record(0)).unwrap();
    for (name, content) in [
        ("10.0.0.3", ""),
        ("10.0.0.4", "{\"containerID\":"),
        ("10.0.0.5", "\0\0\0\0"),
    ] {
        fs::write(scratch.path(name), content).unwrap();
    }
    let given: Vec<_> = (1..5)
        .map(|n| only(addresses.reserve(&pools, record(n)).unwrap()).to_string())
        .collect();
    assert_eq!(given, ["10.0.0.6", "10.0.0.3", "10.0.0.4", "10.0.0.5"]);
    assert_eq!(addresses.reserve(&pools, record(5)).unwrap_err().code, Code::TryAgain);
}

#[test]
fn what_is_no_address_file_is_left_alone() {
    let scratch = Scratch::new();
    let addresses = scratch.addresses("boot");
    let pools = [pool("10.0.0.0/29", "10.0.0.1")];
    fs::create_dir_all(scratch.path("10.0.0.2")).unwrap();
    fs::write(scratch.path("README"), "notes").unwrap();
    assert_eq!(only(addresses.reserve(&pools, record(0)).unwrap()), address("10.0.0.3"));
    addresses.release(&record(0).attachment()).unwrap();
    assert!(scratch.path("10.0.0.2").is_dir() && scratch.path("README").is_file());
}

#[test]
fn release_is_for_one_attachment_and_can_be_repeated() {
    let scratch = Scratch::new();
    let addresses = scratch.addresses("boot");
    let gone = record(0).attachment();
    addresses.release(&gone).unwrap();
    assert!(!scratch.path("").exists(), "release makes no folder");
    let pools = [pool("10.0.0.0/24", "10.0.0.1")];
    addresses.reserve(&pools, record(0)).unwrap();
    let kept = only(addresses.reserve(&pools, record(1)).unwrap());
    // What an ADD leaves that is killed between writing and linking.
    fs::write(scratch.path(&format!("{}77-address", staged_prefix(&gone))), "{").unwrap();
    for _ in 0..2 {
        addresses.release(&gone).unwrap();
        assert_eq!(scratch.names(), [".last", ".lock", &kept.to_string()]);
    }
}

#[test]
fn an_address_is_under_way_as_long_as_its_reservation_is_held() {
    let scratch = Scratch::new();
    let addresses = scratch.addresses("boot");
    let reservation = addresses
        .reserve(&[pool("10.0.0.0/24", "10.0.0.1")], record(0))
        .unwrap();
    let given = reservation.addresses()[0];
    assert!(addresses.is_under_way(given).unwrap());
    drop(reservation);
    assert!(!addresses.is_under_way(given).unwrap());
    assert!(!addresses.is_under_way(address("10.0.0.99")).unwrap());
}

#[test]
fn a_hundred_threads_get_a_hundred_addresses_while_others_come_and_go() {
    let scratch = Scratch::new();
    let pools = [pool("10.0.0.0/26", "10.0.0.1"), pool("10.0.1.0/26", "10.0.1.1")];
    let kept: Vec<IpAddr> = thread::scope(|scope| {
        let threads: Vec<_> = (0..100)
            .map(|number| {
                let (addresses, pools) = (scratch.addresses("boot"), &pools);
                scope.spawn(move || {
                    // Each makes room and takes it again, so that removing races with giving out.
                    addresses.reserve(pools, record(number)).unwrap();
                    addresses.release(&record(number).attachment()).unwrap();
                    only(addresses.reserve(pools, record(number)).unwrap())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(kept.iter().collect::<BTreeSet<_>>().len(), 100, "{kept:?}");
    let recorded: Vec<_> = scratch.addresses("boot").records().unwrap();
    for (number, address) in kept.iter().enumerate() {
        assert!(
            recorded
                .iter()
                .any(|(at, owner)| at == address && owner.attachment() == record(number).attachment())
        );
    }
    assert_eq!(recorded.len(), 100);
}

#[test]
fn threads_that_find_a_full_folder_of_another_boot_do_not_give_one_address_twice() {
    for _ in 0..20 {
        let scratch = Scratch::new();
        let pools = [pool("10.0.0.0/28", "10.0.0.1")];
        let before = scratch.addresses("before");
        for number in 0..13 {
            before.reserve(&pools, record(100 + number)).unwrap();
        }
        let given: Vec<IpAddr> = thread::scope(|scope| {
            let reserve = |number| {
                let (addresses, pools) = (scratch.addresses("after"), &pools);
                scope.spawn(move || only(addresses.reserve(pools, record(number)).unwrap()))
            };
            let threads: Vec<_> = (0..13).map(reserve).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 13, "{given:?}");
    }
}

#[test]
fn a_pod_has_an_address_of_each_family_or_none() {
    let scratch = Scratch::new();
    let addresses = scratch.addresses("boot");
    let pools = [
        pool("fd00:244:1::/64", "fd00:244:1::1"),
        pool("10.0.0.0/29", "10.0.0.1"),
    ];
    let first = addresses.reserve(&pools, record(0)).unwrap();
    assert_eq!(
        first.given,
        [(pools[1], address("10.0.0.2")), (pools[0], address("fd00:244:1::2"))]
    );
    assert!(addresses.is_under_way(address("fd00:244:1::2")).unwrap());
    drop(first);
    let expected = Record {
        boot_id: "boot".into(),
        ..record(0)
    };
    let of = addresses.of(&record(0).attachment()).unwrap();
    assert_eq!(
        of,
        [
            (address("10.0.0.2"), expected.clone()),
            (address("fd00:244:1::2"), expected)
        ]
    );
    addresses.release(&record(0).attachment()).unwrap();
    assert_eq!(scratch.names(), [".last", ".lock"]);
    // Both rest.
    let second = addresses.reserve(&pools, record(1)).unwrap().addresses();
    assert_eq!(second, [address("10.0.0.3"), address("fd00:244:1::3")]);
    for number in 2..6 {
        addresses.reserve(&pools, record(number)).unwrap();
    }
    assert_eq!(
        (
            addresses.free(&pools[1..]).unwrap(),
            addresses.free(&pools[..1]).unwrap()
        ),
        (0, (1 << 64) - 3 - 5)
    );
    let narrow = [pool("10.9.0.0/24", "10.9.0.1"), pool("fd00:9::/126", "fd00:9::1")];
    addresses.reserve(&narrow, record(6)).unwrap();
    let before = scratch.names();
    let error = addresses.reserve(&narrow, record(7)).unwrap_err();
    assert_eq!(
        (error.code, error.msg.as_str()),
        (Code::TryAgain, "no address is free: all 1 of fd00:9::/126 are in use")
    );
    assert_eq!(scratch.names(), before, "that of the other family is given back");
}
