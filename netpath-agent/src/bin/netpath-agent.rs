//! The node's agent. See `netpath-agent --help`.

use std::process::ExitCode;

use netpath_agent::{
    agent::{self, Settings},
    heap,
};
use tracing::error;

fn main() -> ExitCode {
    heap::frugal();
    let settings = Settings::from_process();
    agent::log::start(&settings);
    // One thread, but for loading: the agent waits far more than it works, and each thread costs stack and heap.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(agent::run(settings));
            // The verifier may still be at work for us; nobody waits for its answer any more.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(anyhow::Error::new(error).context("cannot start the runtime")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = agent::log::text(&error);
            error!("{reason}");
            ExitCode::FAILURE
        }
    }
}
