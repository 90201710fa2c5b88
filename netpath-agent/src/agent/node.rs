//! One round of the agent: the node is brought to what the cluster's objects ask for. Every step is idempotent, so a round
//! also heals what others changed. Where no more than services and endpoints have changed, it is the maps that follow, alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::anyhow;
use ipnet::IpNet;
use netpath_common::abi::config::Config;
use netpath_common::hook::Hook;
use netpath_common::names::{BRIDGE_DEVICE, CGROUP, OVERLAY_DEVICE};
use tracing::{debug, info, warn};

use super::around;
use super::balancers::Balancers;
use super::conflist::Conflist;
use super::facts::{self, device};
use super::health::{Health, Part};
use super::log;
use super::settings::{Settings, Xdp};
use super::standing::Standing;
use super::state;
use crate::apply::Applier;
use crate::cni;
use crate::datapath::error as datapath;
use crate::datapath::{attach, cgroup, pins::Pins};
use crate::family::{V4, V6, gateway};
use crate::foreign::Finding;
use crate::model::{Cluster, Problem};
use crate::net::{Netlink, bridge::Bridge, overlay::Overlay, socket_diag, sysctl, uplink::Uplink};
use crate::plan::{Device, NodeFacts, Plan, Planner};
use crate::report::{Events, Reason};

/// The node, as far as the agent has brought it.
pub struct Node {
    settings: Settings,
    name: String,
    hash_seed: u32,
    netlink: Netlink,
    pins: Pins,
    planner: Planner,
    applier: Applier,
    /// As the last whole round left it; `None` unless that went well.
    standing: Option<Standing>,
    health: Health,
    balancers: Balancers,
    /// Whether the program for XDP is loaded.
    xdp: bool,
    /// Warnings that have been logged and still hold.
    said: BTreeSet<String>,
    /// What could not be cleared away of pods that are gone.
    left_over: Option<String>,
    /// The node's addresses to which hostPorts were brought last.
    host_ports_on: BTreeSet<IpAddr>,
    /// What others have on this node.
    foreign: BTreeSet<Finding>,
    /// Why the node's own sockets cannot be told that their backend is gone.
    unable: Option<String>,
    events: Events,
}

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// The cluster's objects have changed, and nothing else is known to have.
    Objects,
    /// Something in the kernel has changed, or the last round failed.
    Change,
    /// Also look for what others changed unnoticed: maps are read anew, and pods that are gone are cleared away.
    Resync,
}

impl Node {
    /// Takes up what the kernel holds. Nothing is changed.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn adopt(
        settings: Settings,
        name: String,
        hash_seed: u32,
        netlink: Netlink,
        health: Health,
        xdp: bool,
        events: Events,
    ) -> anyhow::Result<Self> {
        let pins = Pins::new(&settings.bpf_root);
        let applier = Applier::adopt(&pins)?;
        let balancers = Balancers::new(settings.proxy_health_address, health.clone());
        Ok(Self {
            settings,
            name,
            hash_seed,
            netlink,
            pins,
            planner: Planner::default(),
            applier,
            standing: None,
            health,
            balancers,
            xdp,
            said: BTreeSet::new(),
            left_over: None,
            host_ports_on: BTreeSet::new(),
            foreign: BTreeSet::new(),
            unable: socket_diag::shortcoming(),
            events,
        })
    }

    /// Brings the node to the objects. What fails for one object is logged and left; what fails for the node ends the
    /// round, and all that ran goes on.
    ///
    /// # Errors
    /// What the node lacks, with the remedy.
    pub async fn bring_to(&mut self, cluster: &Cluster, round: Round) -> anyhow::Result<()> {
        match self.standing.take() {
            Some(standing) if round == Round::Objects && standing.holds(cluster) => {
                let served = self.serve(cluster, &standing).await;
                self.standing = served.is_ok().then_some(standing);
                served
            }
            _ => self.bring_all_to(cluster, round).await,
        }
    }

    /// Clears away what the last round left in the maps that nothing needs any more. It waits for the programs that run.
    pub fn tidy(&mut self) {
        let report = self.applier.tidy(self.planner.last());
        for failure in &report.errors {
            warn!("{}: {}", failure.object, failure.reason);
        }
    }

    /// The maps alone, on a node that stands.
    async fn serve(&mut self, cluster: &Cluster, standing: &Standing) -> anyhow::Result<()> {
        let mut warnings = standing.warnings.clone();
        let planned = self.plan(cluster, &standing.facts, &mut warnings);
        self.health.set(Part::Applied, outcome(&planned));
        planned?;
        self.fill(&mut warnings).await;
        self.say(warnings);
        Ok(())
    }

    async fn bring_all_to(&mut self, cluster: &Cluster, round: Round) -> anyhow::Result<()> {
        if round == Round::Resync {
            let adopted = self.applier.adopt_again(&self.pins).map_err(anyhow::Error::from);
            self.health.set(Part::Datapath, outcome(&adopted));
            adopted?;
            self.foreign = around::look(&self.netlink, &self.settings, &self.name, cluster).await;
            for finding in &self.foreign {
                self.events.node(finding.reason(), finding.to_string());
            }
        }
        let (mut warnings, mut of_objects) = (BTreeSet::new(), BTreeSet::new());
        let applied = self.apply(cluster, &mut warnings, &mut of_objects).await;
        self.health.set(Part::Applied, outcome(&applied));
        let (uplink, facts) = match applied {
            Ok(done) => done,
            Err(error) => {
                // What was not looked at this time is not over.
                warnings.append(&mut of_objects);
                warnings.append(&mut self.said.clone());
                self.say(warnings);
                return Err(error);
            }
        };
        let attached = self.attach(&uplink, &mut warnings);
        self.health.set(Part::Attached, outcome(&attached));
        let conflist = self.conflist(self.planner.last());
        let own = self.planner.last().own_addresses();
        if round == Round::Resync || own != self.host_ports_on {
            self.left_over = clear_pods(&conflist).await.err();
            self.host_ports_on = own;
        }
        warnings.extend(self.left_over.clone());
        warnings.extend(self.unable.clone());
        match sysctl::port_warning(&self.settings.nat_ports) {
            Ok(warning) => warnings.extend(warning),
            Err(error) => {
                warnings.insert(error.to_string());
            }
        }
        if let Some(cut_off) = around::cut_off(&self.pins, &self.name, &self.planner.last().subnets()) {
            self.events.node(Reason::PodSubnetChanged, cut_off.as_str());
            warnings.insert(cut_off);
        }
        self.say(warnings.union(&of_objects).cloned().collect());
        attached?;
        let written = self.write(&conflist);
        self.health.set(Part::Conflist, outcome(&written));
        written?;
        self.standing = Some(Standing::of(cluster, facts, warnings));
        Ok(())
    }

    /// Devices, plan, maps and the kernel's routes. What is wrong with the node goes to `warnings`, what is with the objects to
    /// those of theirs.
    async fn apply(
        &mut self,
        cluster: &Cluster,
        warnings: &mut BTreeSet<String>,
        of_objects: &mut BTreeSet<String>,
    ) -> anyhow::Result<(Uplink, NodeFacts)> {
        let found = facts::find(&self.netlink, &self.settings, &self.name, self.hash_seed, cluster).await?;
        let mut facts = found.facts;
        self.plan(cluster, &facts, of_objects)?;
        let uplink = found.uplink.ok_or_else(|| {
            anyhow!(
                "Node {}: it has no InternalIP; the kubelet (--node-ip) or the cloud's controller writes it",
                self.name
            )
        })?;
        let (bridge, overlay) = self.devices(&uplink, self.planner.last()).await?;
        if (facts.bridge, facts.overlay) != (bridge, overlay) {
            // The devices are new, or others than before: the plan names them.
            facts = NodeFacts {
                bridge,
                overlay,
                ..facts
            };
            self.plan(cluster, &facts, of_objects)?;
        }
        self.fill(of_objects).await;
        let report = self.netlink.apply_routes(&self.planner.last().kernel_routes).await?;
        if report.set + report.deleted > 0 {
            info!(set = report.set, deleted = report.deleted, "routes changed");
        }
        warnings.extend(report.errors.iter().map(ToString::to_string));
        Ok((uplink, facts))
    }

    /// The maps, brought to the last plan, and the answers to load balancers.
    async fn fill(&mut self, warnings: &mut BTreeSet<String>) {
        let changes = self.planner.take_changes();
        let plan = self.planner.last();
        let report = self.applier.follow(plan, &changes);
        if report.tables.is_empty() && report.aborted == 0 {
            debug!("maps hold the plan");
        } else {
            info!(changes = %report, "maps changed");
        }
        warnings.extend(
            report
                .errors
                .iter()
                .map(|failure| format!("{}: {}", failure.object, failure.reason)),
        );

        warnings.extend(self.balancers.bring_to(plan).await);
    }

    /// Plans, with the plan's problems among the warnings.
    fn plan(&mut self, cluster: &Cluster, facts: &NodeFacts, warnings: &mut BTreeSet<String>) -> anyhow::Result<()> {
        match self.planner.plan(cluster, facts) {
            Ok(plan) => {
                self.events.problems(plan.problems.iter(), cluster);
                warnings.extend(plan.problems.iter().map(ToString::to_string));
                Ok(())
            }
            Err(problems) => {
                self.events.problems(problems.iter(), cluster);
                let mut problems = problems.iter().map(Problem::to_string);
                let reason = problems
                    .next()
                    .unwrap_or_else(|| format!("Node {}: it cannot be planned", self.name));
                warnings.extend(problems);
                Err(anyhow!(reason))
            }
        }
    }

    /// The node's own devices, sysctls and reserved ports. Returns its bridge and its overlay.
    async fn devices(&self, uplink: &Uplink, plan: &Plan) -> anyhow::Result<(Device, Device)> {
        let node = node_address(&plan.config);
        let subnets = plan.subnets().into_iter();
        let gateways = subnets.filter_map(|subnet| IpNet::new(gateway(subnet)?, subnet.prefix_len()).ok());
        let mtu = u32::from(plan.config.pod_mtu);
        let wanted = Bridge {
            gateways: gateways.collect(),
            mtu,
            node,
        };
        let bridge = self.netlink.ensure_bridge(&wanted).await?;
        self.netlink.ensure_service_next_hops(&bridge, &wanted.gateways).await?;
        let wanted = Overlay {
            port: self.settings.vxlan_port,
            mtu,
            node,
        };
        let overlay = self.netlink.ensure_overlay(&wanted).await?;
        let state = state::prepare(&self.settings.state_dir)?;
        let own = [uplink.name.as_str(), OVERLAY_DEVICE, BRIDGE_DEVICE];
        sysctl::prepare::<V4>(&own, &state)?;
        sysctl::accept_own(&uplink.name, &state)?;
        if !plan.v6.subnets.is_empty() {
            sysctl::speak_ipv6(OVERLAY_DEVICE)?;
            sysctl::prepare::<V6>(&own, &state)?;
        }
        sysctl::reserve_ports(&self.settings.nat_ports, &state)?;

        Ok((device(Some(&bridge)), device(Some(&overlay))))
    }

    /// The programs at uplink, overlay and bridge; those on devices that are no longer one of these are taken off.
    fn attach(&self, uplink: &Uplink, warnings: &mut BTreeSet<String>) -> anyhow::Result<()> {
        let mut wanted = vec![
            (OVERLAY_DEVICE, Hook::FromOverlay),
            (BRIDGE_DEVICE, Hook::FromHost),
            (uplink.name.as_str(), Hook::ToWire),
            (uplink.name.as_str(), Hook::FromWire),
        ];
        for (device, hook) in &wanted {
            attach::attach(&self.pins, *hook, device)?;
        }
        if self.wants_xdp(uplink) {
            match attach::attach(&self.pins, Hook::FromWireXdp, &uplink.name) {
                Ok(()) => wanted.push((&uplink.name, Hook::FromWireXdp)),
                Err(error) if self.settings.xdp == Xdp::On => return Err(error.into()),
                // The same packets take the tc program, only later.
                Err(error) => debug!(%error, "no XDP on {}", uplink.name),
            }
        }
        match self.attach_to_sockets() {
            Ok(()) => wanted.extend(cgroup::hooks().map(|hook| (CGROUP, hook))),
            // Services' addresses are reached through the bridge all the same.
            Err(error) => {
                warnings.insert(error.to_string());
            }
        }
        for (device, hook) in self.pins.links()? {
            if hook != Hook::FromPod && !wanted.contains(&(device.as_str(), hook)) {
                match attach::detach(&self.pins, hook, &device) {
                    Ok(_) => info!(device, hook = hook.name(), "program taken off"),
                    Err(error) => {
                        warnings.insert(error.to_string());
                    }
                }
            }
        }
        Ok(())
    }

    /// The programs on the calls of the node's own sockets.
    fn attach_to_sockets(&self) -> datapath::Result<()> {
        let root = cgroup::root(self.settings.cgroup_root.as_deref())?;
        cgroup::hooks().try_for_each(|hook| cgroup::attach(&self.pins, hook, &root))
    }

    /// On a veth, XDP copies each packet and loses offloads: never by itself there.
    fn wants_xdp(&self, uplink: &Uplink) -> bool {
        match self.settings.xdp {
            Xdp::On => true,
            Xdp::Off => false,
            Xdp::Auto => self.xdp && uplink.kind != "veth",
        }
    }

    fn conflist(&self, plan: &Plan) -> Conflist {
        Conflist {
            mtu: plan.config.pod_mtu,
            bpf_root: self.settings.bpf_root.clone(),
            state_dir: self.settings.state_dir.clone(),
            subnets: plan.subnets(),
        }
    }

    fn write(&self, conflist: &Conflist) -> anyhow::Result<()> {
        let (folder, file) = (&self.settings.cni_conf_dir, &self.settings.conflist_name);
        if conflist.write(folder, file)? {
            info!(folder = %folder.display(), file, "CNI configuration written");
        }
        Ok(())
    }

    /// Logs the warnings that are new, and those that are over; whoever asks for the node's state is told those that hold.
    fn say(&mut self, mut warnings: BTreeSet<String>) {
        warnings.extend(self.foreign.iter().map(ToString::to_string));
        for new in warnings.difference(&self.said) {
            warn!("{new}");
        }
        for over in self.said.difference(&warnings) {
            info!("over: {over}");
        }
        self.health.warn(warnings.iter());
        self.said = warnings;
    }
}

/// The node's address: that of IPv4, if it has one.
fn node_address(config: &Config) -> IpAddr {
    match Ipv4Addr::from(config.node4) {
        Ipv4Addr::UNSPECIFIED => Ipv6Addr::from(config.node6).into(),
        address => address.into(),
    }
}

/// Clears away what pods left that are gone without a DEL, as the runtime's crash or a reboot leaves them, and brings hostPorts to
/// the node's addresses. What could not be is the error.
async fn clear_pods(conflist: &Conflist) -> Result<(), String> {
    let cleared = match conflist.network() {
        Ok(network) => cni::collect::reconcile(&network).await,
        Err(error) => Err(error),
    };
    cleared.map_err(|error| error.to_string())
}

/// A step's outcome, for the answer to whether the node is ready.
fn outcome<T>(result: &anyhow::Result<T>) -> Result<(), String> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => Err(log::text(error)),
    }
}
