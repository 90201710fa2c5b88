//! The operator's command. See `netpath --help`.

use std::process::ExitCode;

use clap::Parser;
use netpath_agent::command::Command;

fn main() -> ExitCode {
    Command::parse().run()
}
