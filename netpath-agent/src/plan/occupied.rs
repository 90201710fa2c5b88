//! Whose an address is, once all nodes have their places.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::nodes::Placed;
use crate::family::Family;

/// The addresses that nodes and pods have: no service may answer on them.
#[derive(Debug)]
pub(super) struct Occupied<F: Family> {
    nodes: HashMap<F::Address, Arc<str>>,
    /// First address of each pod subnet to its last address and its node. They are disjoint.
    pods: BTreeMap<F::Address, (F::Address, Arc<str>)>,
}

impl<F: Family> Occupied<F> {
    /// Gathers them from nodes whose subnets are disjoint.
    pub fn of(own_addresses: &BTreeSet<F::Address>, own: &Placed<F>, others: &[Placed<F>]) -> Self {
        let mut nodes: HashMap<_, _> = own_addresses
            .iter()
            .map(|address| (*address, Arc::clone(&own.name)))
            .collect();
        let mut pods = BTreeMap::new();
        for node in others.iter().chain([own]) {
            nodes.extend(node.addresses.iter().map(|address| (*address, Arc::clone(&node.name))));
            pods.extend(
                node.subnets
                    .iter()
                    .map(|subnet| (F::first(*subnet), (F::last(*subnet), Arc::clone(&node.name)))),
            );
        }
        Self { nodes, pods }
    }

    /// Whose an address is, for the end of a sentence.
    pub fn by(&self, address: F::Address) -> Option<String> {
        if let Some(node) = self.nodes.get(&address) {
            return Some(format!("node {node}'s own"));
        }
        self.by_pods(address)
    }

    /// In whose pod subnet an address is, for the end of a sentence.
    pub fn by_pods(&self, address: F::Address) -> Option<String> {
        let (first, (last, node)) = self.pods.range(..=address).next_back()?;
        (address <= *last).then(|| format!("in the pod subnet of node {node}, {first} to {last}"))
    }
}
