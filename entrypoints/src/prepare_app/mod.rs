//! The process of an app's unit until the app itself is executed in its place: makes the app's mount namespace with
//! its own root, takes on its identity, and executes it.
//!
//! systemd starts it as root (`ExecStart=!`) in the pod's own root, with the app's cgroup, streams and limits set up
//! already. The root is made here and not by `RootDirectory=`, because
//! - `MountAPIVFS=` puts an empty tmpfs over the image's `/run` and shows every app the same `/dev`, in which a root
//!   app could replace the nodes of the others; here each has a `/dev` of its own, with the nodes of the
//!   specification and no others,
//! - variables with `.` or `-` in their names are refused by systemd's `Environment=` and `EnvironmentFile=`,
//! - systemd looks a program up in a path of its own instead of the app's, and cannot explain what is missing.

mod credentials;
mod dev;
pub(crate) mod execute;
pub(crate) mod isolators;
mod listen;
mod log_streams;
pub(crate) mod mounts;
mod notify;
mod protect;
mod streams;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use common::apply::write_whole;
use common::env::Environment;
use common::flags::{self, Flag, switch};
use common::main_process::MainProcess;
use common::pod::StageRoot;
use common::spec::AppSpec;
use common::status::{AppStatus, IsolatorReport};

use crate::print_help;
use crate::start_report::Teller;

const FLAGS: [Flag; 1] = [switch(
    "hook",
    "PROGRAM is an event handler: this is not the app's start",
)];
const USAGE: &str = "prepare-app [--hook] APP -- PROGRAM [ARGS]";
const ABOUT: &str = "Executes PROGRAM as the app APP of this pod. Started by the app's unit.";

/// What systemd reports of a process that could not change its directory (`EXIT_CHDIR`, systemd.exec(5)).
const EXIT_CHDIR: u8 = 200;
/// What systemd reports of a process that could not execute its program (`EXIT_EXEC`).
const EXIT_EXEC: u8 = 203;

/// Runs the program. Returns only when the app could not be executed.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    let (app, program) = match flags.rest.as_slice() {
        _ if flags.help => return print_help(&flags::help(USAGE, ABOUT, &FLAGS)),
        [app, dashes, program @ ..] if dashes == "--" && !program.is_empty() => (app, program),
        _ => anyhow::bail!("needs an app, -- and a program, see --help"),
    };
    let hook = flags.is_set("hook");
    log_streams::separate(app)?;
    // Handlers of events are not the app.
    let mut teller = if hook {
        Teller::default()
    } else {
        Teller::open(app)
    };
    let failed = match become_app(app, program, hook, &mut teller) {
        Ok(None) => return Ok(ExitCode::SUCCESS),
        Ok(Some(failure)) => Ok(failure),
        Err(err) => Err(err),
    };
    teller.failed(&match &failed {
        Ok(failure) => failure.to_string(),
        Err(err) => format!("{err:#}"),
    });
    let failure = failed?;
    eprintln!("Error: {failure}");
    Ok(ExitCode::from(failure.status))
}

/// Makes this process the app, or a handler of an event. Returns only when it could not, with what the app's log says
/// then, or when there is nothing to handle.
fn become_app(
    app: &str,
    program: &[String],
    hook: bool,
    teller: &mut Teller,
) -> Result<Option<Failure>> {
    let root = StageRoot::new("/");
    let spec: AppSpec = {
        let path = root.spec(app);
        let content = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&content).with_context(|| format!("read {}", path.display()))?
    };
    let mut environment = {
        let path = root.env(app);
        let content =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Environment::from_file(&content).with_context(|| format!("read {}", path.display()))?
    };
    let filter = spec.confinement.seccomp.then(|| {
        let path = root.seccomp(app);
        std::fs::read(&path).with_context(|| format!("read {}", path.display()))
    });
    let filter = filter.transpose()?;
    // Nothing that this program opens is for the app, only what systemd passes.
    common::sys::close_on_exec_from_3().context("mark descriptors close-on-exec")?;
    if hook {
        // Handlers of the end know how the app ended; theirs is the limit of the stop.
        if std::env::var_os("SERVICE_RESULT").is_none() {
            crate::notify::lift_limit()?;
        }
        if only_waited(&root, app)? {
            return Ok(None);
        }
    } else {
        listen::take(app, &spec.sockets, &mut environment)?;
        if spec.notifies {
            notify::tell(&mut environment);
        }
        let isolators = isolators::settle(app, &spec)?;
        note_start(&root, app, &isolators)?;
        isolators::check(&spec, &isolators)?;
    }
    let mux = match hook {
        true => None,
        false => streams::connect_mux(&root, &spec)?,
    };
    mounts::enter_root(&root, app, &spec).context("make the app's root")?;
    if let Some(mux) = mux {
        mux.take(app, &spec).context("make the app's streams")?;
    }
    spec.confinement
        .take_identity()
        .context("take on the app's identity")?;
    if let Err(err) = std::env::set_current_dir(&spec.working_directory) {
        return Ok(Some(Failure {
            what: format!(
                "Unable to change to the working directory {:?}",
                spec.working_directory
            ),
            error: err,
            status: EXIT_CHDIR,
        }));
    }
    let failure = match execute::find(program, &environment) {
        Ok(path) => {
            let seal = || {
                spec.confinement.ask_for_label(Path::new("/proc"))?;
                teller.executing();
                spec.confinement.seal(filter.as_deref())
            };
            execute::execute(path, program, &environment, seal)?
        }
        Err(failure) => failure,
    };
    Ok(Some(Failure {
        what: format!("Unable to open {:?}", failure.path),
        error: failure.error,
        status: EXIT_EXEC,
    }))
}

/// Why the app's program could not be executed, as people know it from rkt.
struct Failure {
    what: String,
    error: std::io::Error,
    status: u8,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, cause(&self.error))
    }
}

/// Writes that the app has started, for its status, and which process it is, for `enter`. What the status says of an
/// earlier end is no longer so.
fn note_start(root: &StageRoot, app: &str, isolators: &[IsolatorReport]) -> Result<()> {
    let process = MainProcess::myself(Path::new("/proc"))?;
    let process = process.to_string();
    write_whole(&root.main_process(app), process.as_bytes(), 0o644)?;
    let decimal = root.status(app);
    match std::fs::remove_file(&decimal) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            return Err(err).with_context(|| format!("remove {}", decimal.display()));
        }
        _ => {}
    }
    AppStatus::update(&root.status_json(app), |status| {
        status.start(isolators.to_vec());
        Ok(())
    })?;
    Ok(())
}

/// Whether the app's handler is called for a wait before a restart that was cut short: nothing ran that it could follow.
fn only_waited(root: &StageRoot, app: &str) -> Result<bool> {
    let status = AppStatus::read(&root.status_json(app))?;
    Ok(status.is_some_and(|status| status.restart_at.is_some()))
}

/// What the system says of an error, without Rust's addition of its number.
fn cause(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
