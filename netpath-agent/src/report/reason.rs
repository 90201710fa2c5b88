//! Why the agent writes an Event: every reason there is. `docs/events.md` explains each, and a test holds the two together.

/// A reason, as `kubectl describe` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The node is ready for pods.
    NodeReady,
    /// The node is not ready, or is no longer kept up.
    NodeNotReady,
    /// The Node has no pod subnet, or one that cannot be used.
    PodSubnetMissing,
    /// Pods have addresses of a subnet that the Node had before.
    PodSubnetChanged,
    /// Rights are missing.
    RightsMissing,
    /// After a start the node served what was known before, since no API server answered.
    ServedRemembered,
    /// Another network's configuration is in the container runtime's folder.
    SecondNetwork,
    /// Another program is on a hook that netpath has a program on.
    ForeignProgram,
    /// Another proxy's or network's packet filter rules are in force.
    ForeignRules,
    /// Another network's device is there.
    ForeignDevice,
    /// A route that is not netpath's leads to pods.
    ForeignRoute,
    /// A device that is not netpath's has an address of a pod subnet.
    ForeignAddress,
    /// An object, or a part of it, is not served.
    Refused,
    /// An object is served otherwise than it asks.
    NotServed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 14] = [
        Reason::NodeReady,
        Reason::NodeNotReady,
        Reason::PodSubnetMissing,
        Reason::PodSubnetChanged,
        Reason::RightsMissing,
        Reason::ServedRemembered,
        Reason::SecondNetwork,
        Reason::ForeignProgram,
        Reason::ForeignRules,
        Reason::ForeignDevice,
        Reason::ForeignRoute,
        Reason::ForeignAddress,
        Reason::Refused,
        Reason::NotServed,
    ];

    /// The Event's `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::NodeReady => "NetpathReady",
            Reason::NodeNotReady => "NetpathNotReady",
            Reason::PodSubnetMissing => "PodSubnetMissing",
            Reason::PodSubnetChanged => "PodSubnetChanged",
            Reason::RightsMissing => "RightsMissing",
            Reason::ServedRemembered => "ServedRemembered",
            Reason::SecondNetwork => "SecondNetwork",
            Reason::ForeignProgram => "ForeignProgram",
            Reason::ForeignRules => "ForeignRules",
            Reason::ForeignDevice => "ForeignDevice",
            Reason::ForeignRoute => "ForeignRoute",
            Reason::ForeignAddress => "ForeignAddress",
            Reason::Refused => "Refused",
            Reason::NotServed => "NotServed",
        }
    }

    /// The Event's `type`.
    pub fn type_(self) -> &'static str {
        match self {
            Reason::NodeReady | Reason::ServedRemembered => "Normal",
            _ => "Warning",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_explains_every_reason_and_no_other() {
        let page = include_str!("../../../docs/events.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let told: BTreeSet<(&str, &str)> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                assert_eq!(cells.len(), 6, "reason, type, object, meaning, remedy: {row}");
                assert!(cells[..5].iter().all(|cell| !cell.is_empty()), "an empty cell: {row}");
                (cells[0].trim_matches('`'), cells[1])
            })
            .collect();
        let written: BTreeSet<_> = Reason::ALL
            .iter()
            .map(|reason| (reason.name(), reason.type_()))
            .collect();
        assert_eq!(told, written);
        assert_eq!(written.len(), Reason::ALL.len());
    }
}
