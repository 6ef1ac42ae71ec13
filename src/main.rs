//! The millrace binary.

fn main() -> std::process::ExitCode {
    if let Err(e) = millrace::cpu::check() {
        eprintln!("millrace: {e}");
        return std::process::ExitCode::FAILURE;
    }
    millrace::cli::main()
}
