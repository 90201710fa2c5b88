//! kube-proxy's netfilter rules, put in by the tool that kube-proxy uses itself.

pub mod chains;
pub mod flat;

use std::{
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::netns::Namespace;

/// The service whose backend is a real pod stands in the middle of the others.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 255, 1);
/// The port of every service.
pub const SERVICE_PORT: u16 = 80;
/// The same service's port on every node.
pub const NODE_PORT: u16 = 30_080;

/// The rules of a node, each kind for so many services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// None, and bridged packets go past netfilter.
    None,
    /// kube-proxy's iptables mode, with flannel's chains: [`chains`].
    Chains(u16),
    /// kube-proxy's nftables mode: [`flat`].
    Flat(u16),
}

impl Rules {
    /// The tool that puts them in.
    pub fn tool(self) -> Option<Tool> {
        match self {
            Self::None => None,
            Self::Chains(_) => Some(Tool {
                program: "iptables-restore",
                arguments: &[],
                package: "iptables",
            }),
            Self::Flat(_) => Some(Tool {
                program: "nft",
                arguments: &["-f", "-"],
                package: "nftables",
            }),
        }
    }

    /// Puts them into a node's namespace. The service [`SERVICE`] is answered by `backend`.
    ///
    /// # Errors
    /// When the tool is missing or refuses the rules; the error carries what it said.
    pub fn install(self, node: &Namespace, backend: (Ipv4Addr, u16)) -> Result<()> {
        let text = match self {
            Self::None => return Ok(()),
            Self::Chains(services) => chains::text(services, backend),
            Self::Flat(services) => flat::text(services, backend),
        };
        match self.tool() {
            Some(tool) => tool.feed(node, &text).with_context(|| format!("{self:?}")),
            None => Ok(()),
        }
    }
}

/// A program that reads rules from its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub program: &'static str,
    arguments: &'static [&'static str],
    /// The package it comes in.
    pub package: &'static str,
}

impl Tool {
    /// Whether it is there.
    pub fn available(self) -> bool {
        let mut command = Command::new(self.program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn feed(self, node: &Namespace, rules: &str) -> Result<()> {
        let Self { program, package, .. } = self;
        node.run(|| {
            let mut child = Command::new(program)
                .args(self.arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot start {program}: install the package {package}"))?;
            // A tool that ends without reading says why on its standard error.
            let fed = child.stdin.take().map(|mut stdin| stdin.write_all(rules.as_bytes()));
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{program} refused the rules: {}", said.trim());
            fed.transpose()
                .with_context(|| format!("{program} did not read the rules"))?;
            Ok(())
        })
    }
}
