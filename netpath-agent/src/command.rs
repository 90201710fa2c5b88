//! The operator's command `netpath`: its arguments and what its exit status says. 0: all is well; 1: there is a problem;
//! 2: wrong arguments.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use netpath_common::names;

use crate::{
    datapath::pins::Pins,
    observe::status,
    uninstall::{self, Places},
};

/// Looks at netpath on this node, or takes it off.
#[derive(Debug, Parser)]
#[command(name = "netpath", version, about, disable_help_subcommand = true)]
pub struct Command {
    /// Where maps, programs and links are pinned.
    #[arg(long, global = true, env = "NETPATH_BPF_ROOT", value_name = "DIR", default_value = names::BPF_ROOT, value_parser = absolute)]
    bpf_root: PathBuf,
    /// Where the node's agent answers: its --health-address.
    #[arg(
        long,
        global = true,
        env = "NETPATH_HEALTH_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9878"
    )]
    agent: SocketAddr,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tell the node's state, problems first. Works without an agent as well.
    Status {
        /// For a person, or for a program.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Remove everything of netpath's from this node: programs, maps, devices, routes, files. Its pods lose their network.
    Uninstall {
        /// Only list what would be removed.
        #[arg(long)]
        dry_run: bool,
        /// The agent's --state-dir.
        #[arg(long, env = "NETPATH_STATE_DIR", value_name = "DIR", default_value = "/var/lib/netpath", value_parser = absolute)]
        state_dir: PathBuf,
        /// The agent's --run-dir.
        #[arg(long, env = "NETPATH_RUN_DIR", value_name = "DIR", default_value = "/run/netpath", value_parser = absolute)]
        run_dir: PathBuf,
        /// The agent's --cni-conf-dir.
        #[arg(long, env = "NETPATH_CNI_CONF_DIR", value_name = "DIR", default_value = "/etc/cni/net.d", value_parser = absolute)]
        cni_conf_dir: PathBuf,
        /// The agent's --conflist-name.
        #[arg(long, env = "NETPATH_CONFLIST_NAME", value_name = "FILE", default_value = "05-netpath.conflist", value_parser = file_name)]
        conflist_name: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let plain = path.is_absolute() && path.components().all(|part| part != std::path::Component::ParentDir);
    if plain && path.parent().is_some() {
        Ok(path)
    } else {
        Err("expected an absolute path without `..`, and not the root".to_owned())
    }
}

fn file_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text == "." || text == ".." || text.contains('/') {
        return Err("expected a file name, without a folder".to_owned());
    }
    Ok(text.to_owned())
}

impl Command {
    /// Does what the arguments say.
    pub fn run(self) -> ExitCode {
        let pins = Pins::new(self.bpf_root);
        let (text, well) = match self.action {
            Action::Status { output } => {
                let status = status::look(&pins, self.agent);
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
            Action::Uninstall {
                dry_run,
                state_dir,
                run_dir,
                cni_conf_dir,
                conflist_name,
            } => {
                let places = Places {
                    pins,
                    agent: self.agent,
                    state_dir,
                    run_dir,
                    conflist: cni_conf_dir.join(conflist_name),
                };
                let outcome = uninstall::uninstall(&places, dry_run);
                (outcome.to_string(), outcome.problems.is_empty())
            }
        };
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
            &["uninstall", "--conflist-name", "../x"],
        ] {
            assert_eq!(code(wrong), 2, "{wrong:?}");
        }
    }

    #[test]
    fn options_may_stand_after_the_action() {
        let command = Command::try_parse_from(["netpath", "status", "-o", "json", "--bpf-root", "/sys/fs/bpf/x"]);
        let command = command.expect("right arguments");
        assert_eq!(command.bpf_root, PathBuf::from("/sys/fs/bpf/x"));
        assert!(matches!(command.action, Action::Status { output: Format::Json }));
    }
}
