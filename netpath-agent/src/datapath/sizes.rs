//! How many entries each map has room for: settings of the operator, not guesses from the node's memory.

use netpath_common::names;

/// The maps' sizes. Flatten it into a command line's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Sizes {
    /// Frontends of services that fit: one for each address of a service and one for each of its ports there, and one more for
    /// each address of the node if it has a NodePort.
    #[arg(long, env = "NETPATH_MAX_SERVICES", default_value_t = 131_072, value_parser = range())]
    pub max_services: u32,
    /// Backends of services that fit, counted once for each list of backends that differs.
    #[arg(long, env = "NETPATH_MAX_BACKENDS", default_value_t = 131_072, value_parser = range())]
    pub max_backends: u32,
    /// Blocks of 64 places of Maglev tables that fit. A list of N backends has the power of two from 100 N places on, at most 65,536;
    /// equal lists count once.
    #[arg(long, env = "NETPATH_MAX_MAGLEV", default_value_t = 32_768, value_parser = range())]
    pub max_maglev: u32,
    /// Ranges of loadBalancerSourceRanges that fit, counted once for each list that differs.
    #[arg(long, env = "NETPATH_MAX_SOURCES", default_value_t = 16_384, value_parser = range())]
    pub max_sources: u32,
    /// Pods and addresses of this node that fit.
    #[arg(long, env = "NETPATH_MAX_ENDPOINTS", default_value_t = 4_096, value_parser = range())]
    pub max_endpoints: u32,
    /// Pod subnets and addresses of other nodes that fit.
    #[arg(long, env = "NETPATH_MAX_ROUTES", default_value_t = 16_384, value_parser = range())]
    pub max_routes: u32,
    /// Entries for translated connections, two each; the one longest unused makes room. Another number takes effect when the
    /// node starts.
    #[arg(long, env = "NETPATH_MAX_CONNECTIONS", default_value_t = 262_144, value_parser = range())]
    pub max_connections: u32,
    /// Clients of services with session affinity that are remembered; the one longest away makes room. Another number takes
    /// effect when the node starts.
    #[arg(long, env = "NETPATH_MAX_AFFINITIES", default_value_t = 65_536, value_parser = range())]
    pub max_affinities: u32,
    /// Fragmented datagrams under way; the one longest unused makes room. Another number takes effect when the node starts.
    #[arg(long, env = "NETPATH_MAX_FRAGMENTS", default_value_t = 8_192, value_parser = range())]
    pub max_fragments: u32,
    /// Fragments that are kept back until their datagram's first one comes, 9 KiB of memory each and family; the one longest
    /// there makes room. Another number takes effect when the node starts.
    #[arg(long, env = "NETPATH_MAX_HELD_FRAGMENTS", default_value_t = 256, value_parser = range())]
    pub max_held_fragments: u32,
    /// Sockets of the node itself that were led to backends, an entry or two each; the one longest unused makes room. Another
    /// number takes effect when the node starts.
    #[arg(long, env = "NETPATH_MAX_SOCKETS", default_value_t = 65_536, value_parser = range())]
    pub max_sockets: u32,
}

/// From one entry to 16 million, beyond which a typing error is more likely than a need.
fn range() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 24)
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            max_services: 131_072,
            max_backends: 131_072,
            max_maglev: 32_768,
            max_sources: 16_384,
            max_endpoints: 4_096,
            max_routes: 16_384,
            max_connections: 262_144,
            max_affinities: 65_536,
            max_fragments: 8_192,
            max_held_fragments: 256,
            max_sockets: 65_536,
        }
    }
}

/// Which maps a setting sizes, its flag, and its value.
type Sized = (&'static [&'static str], &'static str, fn(&Sizes) -> u32);

const SIZED: &[Sized] = &[
    (&[names::SERVICE4, names::SERVICE6], "--max-services", |sizes| {
        sizes.max_services
    }),
    (&[names::BACKEND4, names::BACKEND6], "--max-backends", |sizes| {
        sizes.max_backends
    }),
    (&[names::MAGLEV4, names::MAGLEV6], "--max-maglev", |sizes| {
        sizes.max_maglev
    }),
    (&[names::SOURCE4, names::SOURCE6], "--max-sources", |sizes| {
        sizes.max_sources
    }),
    (
        &[names::BRIDGE, names::ENDPOINT4, names::ENDPOINT6],
        "--max-endpoints",
        |sizes| sizes.max_endpoints,
    ),
    (&[names::ROUTE4, names::ROUTE6], "--max-routes", |sizes| {
        sizes.max_routes
    }),
    (&[names::CONNTRACK4, names::CONNTRACK6], "--max-connections", |sizes| {
        sizes.max_connections
    }),
    (&[names::AFFINITY4, names::AFFINITY6], "--max-affinities", |sizes| {
        sizes.max_affinities
    }),
    (&[names::FRAGMENT4, names::FRAGMENT6], "--max-fragments", |sizes| {
        sizes.max_fragments
    }),
    (&[names::HELD4, names::HELD6], "--max-held-fragments", |sizes| {
        sizes.max_held_fragments
    }),
    (&[names::SOCKET4, names::SOCKET6], "--max-sockets", |sizes| {
        sizes.max_sockets
    }),
];

fn sized(map: &str) -> Option<&'static Sized> {
    SIZED.iter().find(|(maps, ..)| maps.contains(&map))
}

impl Sizes {
    /// The size of a map; `None` if its size is part of its layout.
    pub fn of(&self, map: &str) -> Option<u32> {
        sized(map).map(|(_, _, size)| size(self))
    }
}

/// The agent's setting that decides a map's size; for one whose size is part of its layout that there is none.
pub fn setting(map: &str) -> &'static str {
    sized(map).map_or("no setting", |(_, flag, _)| flag)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        sizes: Sizes,
    }

    #[test]
    fn the_command_line_s_defaults_are_the_type_s() {
        let arguments = Arguments::try_parse_from(["agent"]).expect("no arguments are needed");
        assert_eq!(arguments.sizes, Sizes::default());
    }

    #[test]
    fn a_size_of_zero_or_beyond_reason_is_refused() {
        for bad in ["0", "-1", "16777217", "many"] {
            let argument = format!("--max-services={bad}");
            assert!(Arguments::try_parse_from(["agent", &argument]).is_err(), "{bad}");
        }
        let largest = Arguments::try_parse_from(["agent", "--max-services=16777216"]).expect("the largest size");
        assert_eq!(largest.sizes.of(names::SERVICE4), Some(16_777_216));
    }

    #[test]
    fn every_map_of_variable_size_has_a_setting() {
        for map in names::MAPS {
            assert_eq!(
                Sizes::default().of(map).is_some(),
                setting(map).starts_with("--max-"),
                "{map}"
            );
        }
    }
}
