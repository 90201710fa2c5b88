//! The CNI plugin. Container runtimes run it; see `netpath_agent::cni`.

fn main() -> std::process::ExitCode {
    netpath_agent::cni::main()
}
