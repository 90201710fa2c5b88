//! The vxlan device that tunnels go through.

use netpath_agent::net::overlay::Overlay;
use serde_json::json;

use crate::space::{NODE, in_namespace, ip, ip_json};

pub fn overlay() -> Overlay {
    Overlay {
        port: 4789,
        mtu: 1450,
        node: NODE,
    }
}

#[test]
fn the_overlay_is_made_once_and_follows_port_and_mtu() {
    in_namespace(async |netlink| {
        let first = netlink.ensure_overlay(&overlay()).await.unwrap();
        assert_eq!(netlink.ensure_overlay(&overlay()).await.unwrap(), first);
        let link = &ip_json("link show netpath-vx")[0];
        assert_eq!(
            (&link["mtu"], &link["address"]),
            (&json!(1450), &json!("4e:78:0a:00:01:01"))
        );
        assert_eq!(
            link["flags"],
            json!(["BROADCAST", "MULTICAST", "NOARP", "UP", "LOWER_UP"])
        );
        assert_eq!(ip_json("address show netpath-vx")[0]["addr_info"], json!([]));
        let data = &link["linkinfo"]["info_data"];
        assert_eq!((&data["external"], &data["port"]), (&json!(true), &json!(4789)));
        assert_eq!(
            (&data["learning"], &data["udp_zero_csum6_rx"]),
            (&json!(false), &json!(true))
        );

        let second = netlink
            .ensure_overlay(&Overlay { mtu: 8950, ..overlay() })
            .await
            .unwrap();
        assert_eq!((second.index, second.mtu), (first.index, 8950));
        let third = netlink
            .ensure_overlay(&Overlay {
                port: 8472,
                ..overlay()
            })
            .await
            .unwrap();
        assert_eq!((third.mac, third.mtu), (first.mac, 1450));
        assert_eq!(
            ip_json("link show netpath-vx")[0]["linkinfo"]["info_data"]["port"],
            8472
        );
    });
}

#[test]
fn a_vxlan_port_in_use_is_named_and_nothing_is_left_behind() {
    in_namespace(async |netlink| {
        ip("link set lo up");
        let socket = std::net::UdpSocket::bind("0.0.0.0:4789").unwrap();
        let error = netlink.ensure_overlay(&overlay()).await.unwrap_err().to_string();
        assert!(
            error.starts_with("UDP port 4789 for VXLAN is in the way: a socket or vxlan device"),
            "{error}"
        );
        assert!(error.ends_with("with --vxlan-port"), "{error}");
        assert_eq!(netlink.link("netpath-vx").await.unwrap(), None);
        drop(socket);

        ip("link add flannel.1 type vxlan id 1 dstport 4789");
        let error = netlink.ensure_overlay(&overlay()).await.unwrap_err().to_string();
        assert!(
            error.starts_with("UDP port 4789 for VXLAN is in the way: vxlan device flannel.1 has it"),
            "{error}"
        );
        assert_eq!(netlink.link("netpath-vx").await.unwrap(), None);
    });
}

#[test]
fn another_device_of_the_overlays_name_is_left_alone() {
    in_namespace(async |netlink| {
        ip("link add netpath-vx type vxlan id 7 dstport 4789");
        let before = ip_json("link show netpath-vx");
        let error = netlink.ensure_overlay(&overlay()).await.unwrap_err().to_string();
        assert!(
            error.contains("it is a vxlan device that is not in metadata mode"),
            "{error}"
        );
        assert_eq!(ip_json("link show netpath-vx"), before);
    });
}
