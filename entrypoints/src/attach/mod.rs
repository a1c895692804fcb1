//! Attaches the caller's streams to those of an app of a running pod, or lists what can be attached to.
//!
//! All of it is on the host: the endpoints are sockets in the pod's root, and nothing of the pod gets a descriptor of the
//! caller's.

mod endpoints;
mod keys;
mod relay;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use common::appc::AcName;
use common::flags::{self, Flag, Parsed, switch, value};
use common::stream::Target;

use crate::crossing::{APP, DEBUG, running_pod};
use crate::print_help;
use endpoints::App;
use keys::Keys;
use relay::{End, Relay, To};

const FLAGS: [Flag; 9] = [
    value("action", "ACTION", "auto-attach, custom-attach or list"),
    APP,
    DEBUG,
    switch("tty-in", "custom-attach: type into the app's terminal"),
    switch("tty-out", "custom-attach: see the app's terminal"),
    switch("stdin", "custom-attach: to the app's standard input"),
    switch("stdout", "custom-attach: to the app's standard output"),
    switch("stderr", "custom-attach: to the app's standard error"),
    value(
        "detach-keys",
        "KEYS",
        "what ends it when typed at a terminal (default ctrl-p,ctrl-q)",
    ),
];
const USAGE: &str = "attach --action=ACTION --app=APP [OPTIONS]";
const ABOUT: &str =
    "Attaches to the streams of an app of the running pod in the working directory.";

/// Runs the program.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let flags = flags::parse(&FLAGS, args)?;
    if flags.help {
        return print_help(&flags::help(USAGE, ABOUT, &FLAGS));
    }
    ensure!(
        flags.rest.is_empty(),
        "takes no words beside its options, got {:?}, see --help",
        flags.rest
    );
    let name = flags.value("app").context("--app: must be given")?;
    let name: AcName = name.parse().with_context(|| format!("--app={name}"))?;
    let action = flags.value("action").unwrap_or("auto-attach");
    let keys = Keys::parse(flags.value("detach-keys").unwrap_or(keys::DEFAULT))?;
    common::sys::close_on_exec_from_3().context("mark descriptors close-on-exec")?;
    let pod = running_pod()?;
    let app = App::open(&pod.dir, &name)?;
    let wanted = match action {
        "list" => return list(&app),
        "auto-attach" => Wanted::all(&app, &name)?,
        "custom-attach" => Wanted::asked(&app, &name, &flags)?,
        other => bail!("--action={other}: must be auto-attach, custom-attach or list"),
    };
    attach(&app, &wanted, keys)
}

fn list(app: &App<'_>) -> Result<ExitCode> {
    let names = app.targets.iter().map(|target| target.name());
    let text: String = names.map(|name| format!("{name}\n")).collect();
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("print the endpoints")?;
    Ok(ExitCode::SUCCESS)
}

/// What is attached to.
#[derive(Debug, Default)]
struct Wanted {
    tty_in: bool,
    tty_out: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl Wanted {
    /// All that there is.
    fn all(app: &App<'_>, name: &AcName) -> Result<Self> {
        let has = |target| app.targets.contains(&target);
        ensure!(
            !app.targets.is_empty(),
            "app {name} cannot be attached to: none of its streams has the mode stream or tty"
        );
        Ok(Wanted {
            tty_in: has(Target::Tty),
            tty_out: has(Target::Tty),
            stdin: has(Target::Stdin),
            stdout: has(Target::Stdout),
            stderr: has(Target::Stderr),
        })
    }

    /// What the options ask for, all of which must be there.
    fn asked(app: &App<'_>, name: &AcName, flags: &Parsed) -> Result<Self> {
        let mut none = true;
        let mut asked = |flag: &str, target: Target| -> Result<bool> {
            let asked = flags.is_set(flag);
            none &= !asked;
            ensure!(
                !asked || app.targets.contains(&target),
                "--{flag}: app {name} cannot be attached to there: {}",
                modes(app)
            );
            Ok(asked)
        };
        let wanted = Wanted {
            tty_in: asked("tty-in", Target::Tty)?,
            tty_out: asked("tty-out", Target::Tty)?,
            stdin: asked("stdin", Target::Stdin)?,
            stdout: asked("stdout", Target::Stdout)?,
            stderr: asked("stderr", Target::Stderr)?,
        };
        ensure!(
            !none,
            "--action=custom-attach: needs one of --tty-in, --tty-out, --stdin, --stdout and --stderr"
        );
        Ok(wanted)
    }
}

fn modes(app: &App<'_>) -> String {
    let names: Vec<_> = app.targets.iter().map(|target| target.name()).collect();
    match names.is_empty() {
        true => "none of its streams has the mode stream or tty".into(),
        false => format!("it has {}", names.join(", ")),
    }
}

/// Attaches until the app's streams are over, or the caller wants no more.
fn attach(app: &App<'_>, wanted: &Wanted, keys: Keys) -> Result<ExitCode> {
    let endpoints = app.endpoints()?;
    let mut relay = Relay::default();
    let connect = |wanted: bool, target| {
        let connection = wanted.then(|| endpoints.connect(target));
        anyhow::Ok(connection.transpose()?.map(Rc::new))
    };
    let tty = connect(wanted.tty_in || wanted.tty_out, Target::Tty)?;
    let stdin = connect(wanted.stdin, Target::Stdin)?;
    let stdout = connect(wanted.stdout, Target::Stdout)?;
    let stderr = connect(wanted.stderr, Target::Stderr)?;
    let any = [&tty, &stdout, &stderr, &stdin]
        .into_iter()
        .flatten()
        .next()
        .cloned();
    if let Some(tty) = tty {
        let terminal = std::io::stdin().is_terminal() || std::io::stdout().is_terminal();
        if terminal {
            relay.size = Some(endpoints.connect_size()?);
        }
        let to = if wanted.tty_out {
            To::Stdout
        } else {
            To::Nowhere
        };
        relay.outputs.push((tty.clone(), to));
        if wanted.tty_in {
            relay.keys = std::io::stdin().is_terminal().then_some(keys);
            relay.input = Some(tty);
        }
    }
    relay.input = stdin.or(relay.input);
    relay.outputs.extend(stdout.map(|from| (from, To::Stdout)));
    relay.outputs.extend(stderr.map(|from| (from, To::Stderr)));
    match (relay.run()?, any) {
        (End::Caller(status), _) => return Ok(status),
        (End::Streams, Some(connection)) => endpoints.check_end(&connection)?,
        (End::Streams, None) => {}
    }
    Ok(ExitCode::SUCCESS)
}
