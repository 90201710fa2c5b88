//! The ports that services have on every node: each is one service's, in both families.

use super::{
    NodeFacts,
    claims::{Asking, Claim},
};
use crate::model::{ObjectName, Problem, Protocol};

/// Claims a port of every node; `field` says for what.
///
/// # Errors
/// It is no service's to have, or another's.
pub(super) fn claim(
    name: &ObjectName,
    (field, port, protocol): (&str, u16, Protocol),
    facts: &NodeFacts,
    asking: &mut Asking<'_>,
) -> Result<(), Problem> {
    let refused =
        |what: String, remedy: &str| Err(Problem::refused("Service", name, format!("{field} {what}"), remedy));
    let range = &facts.node_ports;
    if !range.contains(&port) {
        return refused(
            format!("is outside of the range {}-{}", range.start(), range.end()),
            "use a port of the range, or leave the field out and let the API server choose",
        );
    }
    if protocol == Protocol::Udp && port == facts.vxlan_port {
        return refused("is the tunnel's port".into(), "use another");
    }
    match asking.take(Claim::NodePort(port, protocol)) {
        Err(other) => refused(
            format!("is service {other}'s already"),
            "use another, or leave the field out and let the API server choose",
        ),
        Ok(()) => Ok(()),
    }
}
