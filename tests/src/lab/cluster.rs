//! A cluster that runs: the topology, an agent in each node, the pods, their servers, and the slices that tell the agents of them.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{
    agent::Agent,
    endpoints::{self, Running},
    home::Home,
    kubelet::{self, Pod},
    objects::{self, Objects},
    process::Process,
    topology::Topology,
};

/// The port on which nodes and the client outside answer, TCP and UDP.
pub const HOST_PORT: u16 = 9100;

/// A running cluster. Its parts are dropped in this order.
#[derive(Debug)]
pub struct Cluster {
    pub(super) servers: Vec<Process>,
    /// The pods.
    pub pods: Vec<Pod>,
    /// The agents, in the order of the nodes.
    pub agents: Vec<Agent>,
    /// The ground.
    pub topology: Topology,
    /// The objects as they were read.
    pub objects: Objects,
    /// The folder that the agents watch.
    pub folder: PathBuf,
    /// The claim on the name, and the end of everything.
    pub home: Home,
}

impl Cluster {
    /// Detaches every pod, and ends everything in order. Dropping the cluster does less: it takes the ground away.
    ///
    /// # Errors
    /// The first failure; the rest is ended all the same.
    pub fn stop(mut self) -> Result<()> {
        let mut pods = std::mem::take(&mut self.pods);
        let mut result = Ok(());
        for pod in &mut pods {
            let deleted = pod.delete(self.node(pod.node));
            result = result.and(deleted);
        }
        drop(pods);
        for agent in &mut self.agents {
            result = result.and(agent.stop());
        }
        result
    }

    /// The pod of that name in the namespace `default`.
    ///
    /// # Errors
    /// There is none.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        let found = self
            .pods
            .iter()
            .find(|pod| pod.spec.name == name && pod.spec.namespace == "default");
        found.with_context(|| format!("no pod default/{name}"))
    }

    /// Reads the Services of [`Self::folder`] again, and writes the slices anew if they say otherwise now.
    ///
    /// # Errors
    /// The folder cannot be read: what was known stays.
    pub fn follow(&mut self) -> Result<bool> {
        let services = objects::read(&self.folder)?.services;
        if services == self.objects.services {
            return Ok(false);
        }
        self.objects.services = services;
        endpoints::publish(
            &self.folder,
            &endpoints::slices(&self.objects.services, &self.running()),
        )?;
        Ok(true)
    }

    /// What the plugin needs to know of a node.
    pub fn node(&self, place: usize) -> kubelet::Node<'_> {
        kubelet::Node {
            namespace: &self.topology.nodes[place].namespace,
            conf_dir: &self.agents[place].conf_dir,
        }
    }

    /// The pods as the endpoint controller sees them.
    pub fn running(&self) -> Vec<Running> {
        let running = self.pods.iter().map(|pod| Running {
            spec: pod.spec.clone(),
            node: self.topology.nodes[pod.node].name.clone(),
            address: pod.address,
        });
        running.collect()
    }
}
