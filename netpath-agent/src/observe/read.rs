//! The parts of a node's state, each read from its maps or links. What is wrong with a part is added to the problems.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use netpath_common::{
    abi::{
        ABI_VERSION, Mac,
        config::Config,
        endpoint::{KIND_HOST, KIND_POD},
        route::{Route, RouteKey, VIA_DIRECT, VIA_LOCAL, VIA_SERVICE, VIA_TUNNEL},
        service::{
            Backend, BackendKey, FLAG_ADDRESS, FLAG_EXTERNAL_IP, FLAG_HOST_PORT, FLAG_LOAD_BALANCER, FLAG_NODE_PORT,
            FLAG_NODE_PORT_HERE, FLAG_NONE_HERE, FLAG_RELAYED, Frontend,
        },
    },
    hook::Hook,
    names::{self, CGROUP},
};
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::{
    counters,
    state::{LinkLine, MapLine, Node, Pod, RouteLine, ServiceLine, Status},
};
use crate::{
    datapath::{
        cgroup,
        error::{Error, Result},
        fill::{self, Fill},
        pins::Pins,
        sys, tables,
    },
    family::Family,
};

/// From this fill level on, in percent, a map is a problem.
const NEARLY_FULL: usize = 90;

/// What the programs know of their node.
pub fn configuration(config: &Config, status: &mut Status) {
    match config.abi_version {
        0 => status.problems.push(
            "the programs are loaded and not yet configured, and let everything pass: netpath-agent's log says what it \
             waits for"
                .to_owned(),
        ),
        ABI_VERSION => {}
        other => status.problems.push(format!(
            "the maps have the layouts of version {other}, this command knows version {ABI_VERSION}: use the command of \
             the running agent's release"
        )),
    }
    if config.abi_version != ABI_VERSION {
        return;
    }
    status.node = Some(Node {
        addresses: given(config.node4.into(), config.node6.into()),
        gateways: given(config.gateway4.into(), config.gateway6.into()),
        uplink: device(config.uplink_ifindex),
        overlay: device(config.overlay_ifindex),
        bridge: device(config.bridge_ifindex),
        uplink_mtu: config.uplink_mtu,
        pod_mtu: config.pod_mtu,
        vni: config.vni,
        vxlan_port: config.vxlan_port,
        nat_ports: (config.nat_port_min, config.nat_port_max),
    });
}

/// Those of two addresses that are given: none is all zero.
fn given(v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<IpAddr> {
    let both = [IpAddr::V4(v4), IpAddr::V6(v6)];
    both.into_iter().filter(|address| !address.is_unspecified()).collect()
}

/// The node's own addresses and its pods.
pub fn endpoints<F: Family>(pins: &Pins, status: &mut Status) -> Result<()> {
    let ports: BTreeMap<u32, _> = tables::bridge(pins)?.entries()?.into_iter().collect();
    for (address, endpoint) in tables::endpoints::<F>(pins)?.entries()? {
        let ip: IpAddr = F::Address::from(address).into();
        if endpoint.kind == KIND_HOST {
            status.host_addresses.push(ip);
        }
        if endpoint.kind != KIND_POD {
            continue;
        }
        let name = device(endpoint.ifindex);
        let port = ports.get(&endpoint.ifindex);
        if existing(endpoint.ifindex).is_none() {
            status.problems.push(format!(
                "pod {ip}: its device (index {}) is gone; the runtime's next CNI DEL or GC clears the entry",
                endpoint.ifindex
            ));
        } else if port.is_none_or(|port| F::of_port(port) != address) {
            status.problems.push(format!(
                "pod {ip}: np_bridge has no entry of it for {name}, so that all it sends is dropped: delete the pod"
            ));
        }
        status.pods.push(Pod {
            address: ip,
            mac: mac(endpoint.mac),
            device: name,
        });
    }
    Ok(())
}

/// The ways to other nodes.
pub fn routes<F: Family>(pins: &Pins, status: &mut Status) -> Result<()> {
    for (key, route) in tables::routes::<F>(pins)?.entries()? {
        let (key, route): (RouteKey<F>, Route<F>) = (key.into(), route.into());
        // The end of a tunnel of IPv4 is such an address in either family.
        let given = |address: F| {
            let address: IpAddr = F::Address::from(address).into();
            (!address.is_unspecified()).then(|| address.to_canonical())
        };
        status.routes.push(RouteLine {
            subnet: format!("{}/{}", F::Address::from(key.address), key.prefix_len),
            via: match route.via {
                VIA_DIRECT => "direct".to_owned(),
                VIA_TUNNEL => "tunnel".to_owned(),
                VIA_LOCAL => "local".to_owned(),
                VIA_SERVICE => "services".to_owned(),
                other => other.to_string(),
            },
            node: given(route.node),
            next_hop: given(route.next_hop),
        });
    }
    Ok(())
}

/// The services, each with who answers.
pub fn services<F: Family>(pins: &Pins, status: &mut Status) -> Result<()> {
    let at = |address: F, port: u16| SocketAddr::new(F::Address::from(address).into(), port).to_string();
    let sets: BTreeMap<(u32, u32), String> = tables::backends::<F>(pins)?
        .entries()?
        .into_iter()
        .map(|(BackendKey { set, slot }, backend)| {
            let backend: Backend<F> = backend.into();
            ((set, slot), at(backend.address, backend.port))
        })
        .collect();
    let frontends = tables::services::<F>(pins)?.entries()?.into_iter();
    for (frontend, service) in frontends.filter(|(_, service)| service.flags & FLAG_ADDRESS == 0) {
        let frontend: Frontend<F> = frontend.into();
        let name = at(frontend.address, frontend.port);
        let mut list = |set, count| {
            // A broken count must not make this walk four billion places.
            let places = sets.range((set, 0)..=(set, u32::MAX));
            let backends: Vec<String> = places
                .filter(|((_, slot), _)| *slot < count)
                .map(|(_, backend)| backend.clone())
                .collect();
            if backends.len() != count as usize {
                status.problems.push(format!(
                    "service {name}: set {set} has {} backends where {count} belong; restart netpath-agent, which mends it",
                    backends.len(),
                ));
            }
            backends
        };
        let backends = list(service.set, service.count);
        let apart = (service.outside_set, service.outside_count) != (service.set, service.count);
        let outside = apart.then(|| list(service.outside_set, service.outside_count));
        status.services.push(ServiceLine {
            frontend: name,
            protocol: match frontend.protocol {
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                132 => "sctp".to_owned(),
                other => other.to_string(),
            },
            node_port: service.flags & FLAG_HOST_PORT == 0
                && service.flags & (FLAG_NODE_PORT | FLAG_NODE_PORT_HERE) != 0,
            host_port: service.flags & FLAG_HOST_PORT != 0,
            load_balancer: service.flags & FLAG_LOAD_BALANCER != 0,
            external_ip: service.flags & FLAG_EXTERNAL_IP != 0,
            relayed: service.flags & FLAG_RELAYED != 0,
            maglev: service.maglev != 0,
            affinity_timeout: (service.affinity != 0).then_some(service.affinity_timeout),
            backends,
            outside,
            none_here: service.flags & FLAG_NONE_HERE != 0,
            restricted: service.sources != 0,
        });
    }
    Ok(())
}

/// How full the maps are.
pub fn maps(pins: &Pins, status: &mut Status) -> Result<()> {
    for Fill {
        map,
        entries,
        capacity,
        evicts,
        setting,
    } in fill::levels(pins)?
    {
        // Of sockets that are closed, and of datagrams whose first fragment never came, the entries stay until others need
        // their room: that it is full is the rule.
        let stays = [names::SOCKET4, names::SOCKET6, names::HELD4, names::HELD6];
        if !stays.contains(&map) && entries * 100 >= capacity as usize * NEARLY_FULL {
            // Programs write to a map that evicts: it serves on for as long as it is there.
            let (then, how) = if evicts {
                ("the oldest entries make room", "start the node again")
            } else {
                ("new entries are refused", "restart netpath-agent")
            };
            status.problems.push(format!(
                "map {map} holds {entries} of {capacity} entries; beyond, {then}: raise {setting} and {how}"
            ));
        }
        status.maps.push(MapLine {
            map,
            entries,
            capacity,
            evicts,
        });
    }
    Ok(())
}

/// The programs on devices, and those that ought to be.
pub fn links(pins: &Pins, status: &mut Status) -> Result<()> {
    let mut alive = BTreeSet::new();
    for (device, hook) in pins.links()? {
        let path = pins.link(&device, hook);
        let link = sys::pinned_link(&path).map_err(|reason| Error::File {
            action: "look at link",
            path,
            reason,
        })?;
        let index = if_nametoindex(device.as_str()).ok();
        let attached = match cgroup::call(hook) {
            Some(_) => link.is_some_and(|link| link.place.is_some()),
            None => link.is_some_and(|link| link.ifindex().is_some() && link.ifindex() == index),
        };
        if attached {
            alive.insert((device.clone(), hook));
        }
        status.links.push(LinkLine {
            device,
            hook: hook.name(),
            attached,
        });
    }
    let mut wanted: Vec<(String, &[Hook])> = Vec::new();
    if let Some(node) = &status.node {
        wanted.push((node.uplink.clone(), &[Hook::FromWire, Hook::FromWireXdp]));
        wanted.push((node.uplink.clone(), &[Hook::ToWire]));
        wanted.push((node.overlay.clone(), &[Hook::FromOverlay]));
        wanted.push((node.bridge.clone(), &[Hook::FromHost]));
    }
    // Of a device that is gone the pod's own line tells.
    let devices = status.pods.iter().map(|pod| &pod.device);
    let devices: BTreeSet<&String> = devices.filter(|device| !device.starts_with('#')).collect();
    for device in devices {
        wanted.push((device.clone(), &[Hook::FromPod]));
    }
    let sockets = cgroup::hooks().map(|hook| (CGROUP.to_owned(), hook));
    let missing: Vec<&str> = sockets
        .filter(|link| !alive.contains(link))
        .map(|(_, hook)| hook.name())
        .collect();
    if status.node.is_some() && !missing.is_empty() {
        status.problems.push(format!(
            "programs {} are on no cgroup: the node's own processes reach services' addresses through the bridge alone, and no \
             NodePort or hostPort on the node's own addresses; netpath-agent's log says why, see --cgroup-root",
            missing.join(", ")
        ));
    }
    for (device, hooks) in wanted {
        let found = hooks.iter().any(|hook| alive.contains(&(device.clone(), *hook)));
        if let (false, Some(hook)) = (found, hooks.first()) {
            let name = hook.name();
            status.problems.push(format!(
                "program {name} is not on {device}: restart netpath-agent; if {device} is a pod's, delete the pod"
            ));
        }
    }
    Ok(())
}

/// What was counted.
pub fn verdicts(pins: &Pins, status: &mut Status) -> Result<()> {
    status.verdicts = counters::verdicts(pins)?;
    Ok(())
}

/// A device's name, or its number where it has none in this network namespace.
fn device(index: u32) -> String {
    existing(index).unwrap_or_else(|| format!("#{index}"))
}

/// The name of a device that is there.
fn existing(index: u32) -> Option<String> {
    // nix tells an empty name where the kernel has none.
    let name = if_indextoname(index).ok()?.into_string().ok()?;
    (!name.is_empty()).then_some(name)
}

fn mac(address: Mac) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}
