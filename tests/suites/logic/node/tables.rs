//! The node's tables: what its agent and its plugin would have written.

use netpath_common::abi::{
    bridge::Port,
    endpoint::{Endpoint, KIND_HOST, KIND_POD},
    maglev::{MaglevBlock, MaglevKey},
    route::{Route, RouteKey, VIA_DIRECT, VIA_LOCAL, VIA_SERVICE, VIA_TUNNEL, v4 as route},
    service::{
        BackendKey, FLAG_ADDRESS, FLAG_LOAD_BALANCER, FLAG_NODE_PORT, FLAG_NONE_HERE, FLAG_OUTSIDE, FLAG_RELAYED,
        Service, v4 as service,
    },
    source::{self, ADMITTED, SOURCES_BITS, v4::SourceKey},
};
use netpath_tests::{entries, tables::HostTables};

use super::*;

/// The list of clients at [`BALANCED`].
const CLIENTS: u32 = 9;

/// The node's tables, the same in both families.
pub fn tables() -> HostTables {
    let mut tables = tables_of_ipv4();
    for port in tables.bridge.values_mut() {
        port.address6 = six(port.address4);
    }
    let (four, to) = (&tables.v4, &mut tables.v6);
    to.endpoints = four
        .endpoints
        .iter()
        .map(|(address, end)| (six(*address), *end))
        .collect();
    for (key, found) in &four.routes {
        let hop = if found.via == VIA_TUNNEL { mapped } else { six };
        let key = RouteKey {
            address: six(key.address),
            prefix_len: 96 + key.prefix_len,
        };
        let route = Route {
            node: hop(found.node),
            next_hop: hop(found.next_hop),
            via: found.via,
            reserved: [0; 3],
        };
        to.routes.insert(key.into(), route.into());
    }
    for (address, prefix_len) in [([10, 244, 4, 0], 120), (LONE, 128)] {
        let key = RouteKey {
            address: six(address),
            prefix_len,
        };
        let route = Route {
            node: six(LONE),
            next_hop: six(ROUTER),
            via: VIA_TUNNEL,
            reserved: [0; 3],
        };
        to.routes.insert(key.into(), route.into());
    }
    for (key, service) in &four.services {
        let frontend = entries::frontend(six(key.address), key.port, key.protocol);
        to.services.insert(frontend, *service);
    }
    for (key, found) in &four.backends {
        let backend = entries::backend(six(found.address), found.port);
        to.backends.insert(*key, backend);
    }
    to.maglev.clone_from(&four.maglev);
    for (key, value) in &four.sources {
        let source = source::SourceKey {
            prefix_len: 96 + key.prefix_len,
            sources: key.sources,
            address: six(key.address),
        };
        to.sources.insert(source.into(), *value);
    }
    tables
}

fn tables_of_ipv4() -> HostTables {
    let mut tables = HostTables {
        clock: 1_000,
        ..HostTables::default()
    };
    for (port, mac, address4) in [(PORT_A, MAC_A, POD_A), (PORT_B, MAC_B, POD_B)] {
        tables.bridge.insert(
            port,
            Port {
                mac,
                address4,
                ..Port::default()
            },
        );
        tables.v4.endpoints.insert(
            address4,
            Endpoint {
                ifindex: port,
                mac,
                kind: KIND_POD,
            },
        );
    }
    for address in [NODE, GATEWAY] {
        tables.v4.endpoints.insert(
            address,
            Endpoint {
                ifindex: 0,
                mac: MAC_BRIDGE,
                kind: KIND_HOST,
            },
        );
    }
    let mut route = |address: [u8; 4], prefix_len, node, next_hop, via| {
        let key = route::RouteKey { address, prefix_len };
        tables.v4.routes.insert(
            key,
            route::Route {
                node,
                next_hop,
                via,
                reserved: [0; 3],
            },
        );
    };
    route([10, 244, 2, 0], 24, PEER, PEER, VIA_DIRECT);
    route(PEER, 32, PEER, PEER, VIA_DIRECT);
    route([10, 244, 3, 0], 24, FAR, ROUTER, VIA_TUNNEL);
    route(FAR, 32, FAR, ROUTER, VIA_TUNNEL);
    route([10, 244, 1, 0], 24, [0; 4], [0; 4], VIA_LOCAL);
    route([10, 96, 0, 0], 16, [0; 4], [0; 4], VIA_SERVICE);

    let mut serve = |set: u32, frontends: &[([u8; 4], u16, u16)], protocol: u8, backends: &[([u8; 4], u16)]| {
        for &(address, port, flags) in frontends {
            let frontend = entries::frontend(address, port, protocol);
            let count = backends.len() as u32;
            tables.v4.services.insert(
                frontend,
                Service {
                    flags,
                    ..entries::service(set, count)
                },
            );
        }
        for (slot, &(address, port)) in backends.iter().enumerate() {
            let key = BackendKey { set, slot: slot as u32 };
            tables.v4.backends.insert(key, entries::backend(address, port));
        }
    };
    serve(1, &[(WEB, 80, 0), (NODE, 30_080, FLAG_NODE_PORT)], 6, &[(POD_B, 8080)]);
    serve(
        2,
        &[(DATABASE, 5432, 0), (NODE, 30_054, FLAG_NODE_PORT)],
        6,
        &[(POD_FAR, 5432)],
    );
    serve(3, &[(DATABASE, 53, 0)], 17, &[(POD_FAR, 5353)]);
    serve(4, &[(EMPTY, 80, 0)], 6, &[]);
    serve(5, &[(SELF, 80, 0)], 6, &[(POD_A, 8080)]);
    serve(
        6,
        &[
            (STICKY, 80, 0),
            (NODE, 30_081, FLAG_NODE_PORT),
            (NODE, 30_082, FLAG_NODE_PORT),
            (NODE, 30_083, FLAG_NODE_PORT | FLAG_NONE_HERE),
        ],
        6,
        &[(POD_B, 8080), (POD_PEER, 8080), (POD_FAR, 8080)],
    );
    serve(1, &[(BALANCED, 80, FLAG_LOAD_BALANCER)], 6, &[(POD_B, 8080)]);
    serve(
        7,
        &[(WEB, SIGNAL, 0), (NODE, 30_084, FLAG_NODE_PORT)],
        132,
        &[(POD_B, SIGNAL)],
    );
    serve(
        8,
        &[(DATABASE, DIAMETER, 0), (NODE, 30_085, FLAG_NODE_PORT)],
        132,
        &[(POD_FAR, FAR_DIAMETER)],
    );
    serve(4, &[(EMPTY, SIGNAL, 0)], 132, &[]);
    serve(
        SPREAD_SET,
        &[
            (SPREAD.0, SPREAD.1, FLAG_LOAD_BALANCER),
            (NODE, SPREAD_PORT, FLAG_NODE_PORT),
            ([0; 4], SPREAD_PORT, FLAG_RELAYED),
        ],
        6,
        &[(POD_B, 8080), (POD_PEER, 8080), (POD_FAR, 8080)],
    );
    let key = MaglevKey {
        set: SPREAD_SET,
        block: 0,
    };
    let block = MaglevBlock {
        slots: std::array::from_fn(|place| place as u16 % 3),
    };
    tables.v4.maglev.insert(key, block);
    for (address, length) in [([203, 0, 113, 0], 24), (POD_A, 32)] {
        let key = SourceKey {
            prefix_len: SOURCES_BITS + length,
            sources: CLIENTS,
            address,
        };
        tables.v4.sources.insert(key, ADMITTED);
    }
    for address in [WEB, DATABASE, EMPTY, SELF, STICKY] {
        let frontend = service::Frontend {
            address,
            ..service::Frontend::default()
        };
        let known = Service {
            flags: FLAG_ADDRESS,
            ..Service::default()
        };
        tables.v4.services.insert(frontend, known);
    }
    let shared = service::Frontend {
        address: BALANCED,
        ..service::Frontend::default()
    };
    let known = Service {
        flags: FLAG_ADDRESS | FLAG_OUTSIDE,
        ..Service::default()
    };
    tables.v4.services.insert(shared, known);
    for (frontend, service) in &mut tables.v4.services {
        if frontend.address == BALANCED && frontend.port != 0 {
            service.sources = CLIENTS;
        }
        match frontend.port {
            _ if service.set == SPREAD_SET => service.maglev = 6,
            30_082 => (service.outside_set, service.outside_count) = (1, 1),
            30_083 => (service.outside_set, service.outside_count) = (0, 0),
            _ if service.set == 6 => (service.affinity, service.affinity_timeout) = (78, 10_800),
            _ => {}
        }
    }
    tables
}
