//! The operator's command `netpath`: its arguments and what its exit status says. 0: all is well; 1: there is a problem;
//! 2: wrong arguments.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use netpath_common::names;
use nix::sys::signal::{SigSet, Signal};

use crate::{
    datapath::pins::Pins,
    install,
    net::{self, PROC_SYS_NET},
    observe::status,
    places::{CNI_BIN_DIR, CNI_CONF_DIR, CONFLIST, HEALTH_ADDRESS, RUN_DIR, STATE_DIR, absolute, conflist},
    source::server::KUBELET_KUBECONFIGS,
    uninstall::{self, Places},
};

/// Looks at netpath on this node, or takes it off.
#[derive(Debug, Parser)]
#[command(name = "netpath", version, disable_help_subcommand = true)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
}

/// What there is of netpath on the node, and who answers for it.
#[derive(Debug, Args)]
struct Installation {
    /// Where maps, programs and links are pinned: the agent's --bpf-root.
    #[arg(long, env = "NETPATH_BPF_ROOT", value_name = "DIR", default_value = names::BPF_ROOT, value_parser = absolute)]
    bpf_root: PathBuf,
    /// Where the node's agent answers: its --health-address.
    #[arg(long, env = "NETPATH_HEALTH_ADDRESS", value_name = "ADDRESS:PORT", default_value = HEALTH_ADDRESS)]
    agent: SocketAddr,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tell the node's state, problems first. Works without an agent as well.
    Status {
        #[command(flatten)]
        of: Installation,
        /// For a person, or for a program.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Install the plugin and this command where the node's container runtime looks for plugins, from beside this command.
    Install {
        /// The folder, as this process sees it.
        #[arg(long, env = "NETPATH_CNI_BIN_DIR", value_name = "DIR", default_value = CNI_BIN_DIR, value_parser = absolute)]
        cni_bin_dir: PathBuf,
        /// Also note for the agent where the kubelet finds the API server; the node's root is mounted here.
        #[arg(long, env = "NETPATH_NODE_ROOT", value_name = "DIR", value_parser = absolute)]
        node_root: Option<PathBuf>,
        /// Where to note it: the agent's --run-dir.
        #[arg(long, env = "NETPATH_RUN_DIR", value_name = "DIR", default_value = RUN_DIR, value_parser = absolute)]
        run_dir: PathBuf,
    },
    /// Remove everything of netpath's from this node: programs, maps, devices, routes, files. Its pods lose their network.
    Uninstall {
        #[command(flatten)]
        of: Installation,
        /// Only list what would be removed.
        #[arg(long)]
        dry_run: bool,
        /// The agent's --state-dir.
        #[arg(long, env = "NETPATH_STATE_DIR", value_name = "DIR", default_value = STATE_DIR, value_parser = absolute)]
        state_dir: PathBuf,
        /// The agent's --run-dir.
        #[arg(long, env = "NETPATH_RUN_DIR", value_name = "DIR", default_value = RUN_DIR, value_parser = absolute)]
        run_dir: PathBuf,
        /// The agent's --cni-conf-dir.
        #[arg(long, env = "NETPATH_CNI_CONF_DIR", value_name = "DIR", default_value = CNI_CONF_DIR, value_parser = absolute)]
        cni_conf_dir: PathBuf,
        /// The agent's --conflist-name.
        #[arg(long, env = "NETPATH_CONFLIST_NAME", value_name = "FILE", default_value = CONFLIST, value_parser = conflist)]
        conflist_name: String,
        /// Where the plugin was installed.
        #[arg(long, env = "NETPATH_CNI_BIN_DIR", value_name = "DIR", default_value = CNI_BIN_DIR, value_parser = absolute)]
        cni_bin_dir: PathBuf,
        /// The agent's --sysctl-dir.
        #[arg(long, env = "NETPATH_SYSCTL_DIR", value_name = "DIR", default_value = PROC_SYS_NET, value_parser = absolute)]
        sysctl_dir: PathBuf,
        /// Once all is removed, wait to be ended: the pods of a DaemonSet must not end by themselves.
        #[arg(long, conflicts_with = "dry_run")]
        stay: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Command {
    /// Does what the arguments say.
    pub fn run(self) -> ExitCode {
        let (text, well) = match self.action {
            Action::Status { of, output } => {
                let status = status::look(&Pins::new(of.bpf_root), of.agent);
                let well = status.problems.is_empty();
                match output {
                    Format::Text => (status.to_string(), well),
                    Format::Json => match serde_json::to_string_pretty(&status) {
                        Ok(text) => (text + "\n", well),
                        Err(error) => {
                            eprintln!("netpath: cannot write JSON: {error}");
                            return ExitCode::FAILURE;
                        }
                    },
                }
            }
            Action::Install {
                cni_bin_dir,
                node_root,
                run_dir,
            } => match installed(&cni_bin_dir, node_root.as_deref(), &run_dir) {
                Ok(text) => (text, true),
                Err(error) => {
                    eprintln!("netpath: {error}");
                    return ExitCode::FAILURE;
                }
            },
            Action::Uninstall {
                of,
                dry_run,
                state_dir,
                run_dir,
                cni_conf_dir,
                conflist_name,
                cni_bin_dir,
                sysctl_dir,
                stay,
            } => {
                net::mounted_at(&sysctl_dir);
                let places = Places {
                    pins: Pins::new(of.bpf_root),
                    agent: of.agent,
                    state_dir,
                    run_dir,
                    conflist: cni_conf_dir.join(conflist_name),
                    cni_bin_dir,
                };
                let outcome = uninstall::uninstall(&places, dry_run);
                let well = outcome.problems.is_empty();
                if well && stay {
                    let said = told(&outcome.to_string(), well);
                    wait_to_be_ended();
                    return said;
                }
                (outcome.to_string(), well)
            }
        };
        told(&text, well)
    }
}

/// Installs what lies beside this program, and says what was done.
fn installed(cni_bin_dir: &Path, node_root: Option<&Path>, run_dir: &Path) -> io::Result<String> {
    let program = std::env::current_exe()?;
    let from = program.parent().unwrap_or(Path::new("/"));
    let installed = install::install(from, cni_bin_dir)?;
    let line = |one: &install::Installed| {
        let state = if one.written { "installed" } else { "there already:" };
        format!("{state} {}\n", one.path.display())
    };
    let mut text: String = installed.iter().map(line).collect();
    if let Some(root) = node_root {
        text += &match install::server::note(root, run_dir)? {
            Some(path) => format!("noted the API server of {}\n", path.display()),
            None => format!(
                "no kubelet's kubeconfig is below {} ({}): the agent goes by what it learned, and by the service's address\n",
                root.display(),
                KUBELET_KUBECONFIGS.join(", "),
            ),
        };
    }
    Ok(text)
}

/// Says it, and what that makes of this process.
fn told(text: &str, well: bool) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever closed the pipe has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("netpath: cannot write to the standard output: {error}");
            ExitCode::FAILURE
        }
        _ if well => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Sleeps until SIGTERM or SIGINT, also as the first process of a container, which no signal ends that it does not wait for.
fn wait_to_be_ended() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Without the mask a signal ends the process by itself, or does nothing: either is no worse than an error.
    if signals.thread_block().is_ok() {
        let _ = signals.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(arguments: &[&str]) -> i32 {
        let error = Command::try_parse_from([&["netpath"], arguments].concat()).expect_err("wrong arguments");
        error.exit_code()
    }

    #[test]
    fn wrong_arguments_exit_with_two() {
        for wrong in [
            &[][..],
            &["stat"],
            &["status", "-o", "yaml"],
            &["status", "--agent", "localhost"],
            &["status", "--bpf-root", "relative"],
            &["uninstall", "--state-dir", "/"],
            &["uninstall", "--state-dir", "/var/../etc"],
            &["uninstall", "--conflist-name", "../x.conflist"],
            &["uninstall", "--conflist-name", "x"],
            &["install", "--bpf-root", "/sys/fs/bpf/x"],
            &["uninstall", "--dry-run", "--stay"],
            &["install", "--cni-bin-dir", "/"],
        ] {
            assert_eq!(code(wrong), 2, "{wrong:?}");
        }
    }
}
