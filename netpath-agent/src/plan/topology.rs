//! Topology: which of a port's ready endpoints are meant for this node. Whoever writes slices says it by hints, for a
//! service's `trafficDistribution`; the node's name and zone decide here, wherever the endpoints themselves are.

use std::sync::Arc;

use imbl::OrdMap;

use crate::model::{Hints, Node, Word};

/// Where this node is. By default nowhere: all endpoints are meant for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Here<'a> {
    node: Option<&'a str>,
    zone: Option<&'a str>,
}

impl<'a> Here<'a> {
    /// Where the node of a name is.
    pub fn of(nodes: &'a OrdMap<String, Arc<Node>>, node: &'a str) -> Self {
        Self {
            node: Some(node),
            zone: nodes.get(node).and_then(|own| own.zone.as_deref()),
        }
    }

    /// Those of the ready endpoints that are meant for this node: those with its name, else those with its zone, else all.
    /// Hints of a kind count only where every endpoint has some and one of them is met, as kube-proxy has it
    /// (`pkg/proxy/topology.go`): an endpoint without one would get nothing, and a node that none is meant for would reach
    /// nobody.
    pub fn meant<B: Copy>(&self, ready: Vec<(B, Option<&Hints>)>) -> Vec<B> {
        let by_node = |hints: &'_ Hints| verdict(&hints.nodes, self.node);
        let by_zone = |hints: &'_ Hints| verdict(&hints.zones, self.zone);
        let met = select(&ready, by_node).or_else(|| select(&ready, by_zone));
        met.unwrap_or_else(|| ready.into_iter().map(|(backend, _)| backend).collect())
    }
}

/// Whether names that are hinted at have one of ours; `None` if there are no names.
fn verdict(names: &[Word], own: Option<&str>) -> Option<bool> {
    (!names.is_empty()).then(|| names.iter().any(|name| Some(&**name) == own))
}

/// The endpoints whose hints are met, if each has some and any is.
fn select<B: Copy>(ready: &[(B, Option<&Hints>)], is_met: impl Fn(&Hints) -> Option<bool>) -> Option<Vec<B>> {
    let mut met = Vec::new();
    for (backend, hints) in ready {
        if hints.and_then(&is_met)? {
            met.push(*backend);
        }
    }
    (!met.is_empty()).then_some(met)
}
