//! `netpath-lab`: a cluster on one machine, from a folder of Kubernetes YAML.

use std::{net::IpAddr, process::ExitCode};

use clap::{Parser, Subcommand};
use netpath_tests::lab::{ask, pod, run};

/// A cluster on one machine, from a folder of Kubernetes YAML
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    /// Keep asking servers in pods; tests/cluster/life does it
    #[command(hide = true)]
    Ask(ask::Arguments),
    /// Serve as a pod of the lab: HTTP and UDP
    #[command(hide = true)]
    Pod {
        /// The name to answer with
        #[arg(long)]
        name: String,
        /// The address to listen on
        #[arg(long)]
        address: IpAddr,
        /// TCP ports
        #[arg(long)]
        tcp: Vec<u16>,
        /// UDP ports
        #[arg(long)]
        udp: Vec<u16>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Ask(arguments) => ask::run(&arguments),
        Command::Pod {
            name,
            address,
            tcp,
            udp,
        } => pod::serve(&name, address, &tcp, &udp).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("netpath-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
