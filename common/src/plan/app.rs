//! The units and files of one app.

use anyhow::{Result, bail};

use super::{AppPlan, Inputs, POD_UNIT, Step, wanted_by_default};
use crate::annotation;
use crate::env::Environment;
use crate::load::PodApp;
use crate::pod::StageRoot;
use crate::spec::{AppSpec, VolumeMount};
use crate::unit::{LINE_MAX, Unit, app_unit, escape};

/// Where a stream of an app leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Null,
    Log,
    Terminal,
}

/// The streams of an app.
struct Streams {
    stdin: Stream,
    stdout: Stream,
    stderr: Stream,
}

pub(super) fn plan(
    root: &StageRoot,
    inputs: &Inputs<'_>,
    app: &PodApp,
    mounts: Vec<VolumeMount>,
) -> Result<AppPlan> {
    let streams = streams(inputs, app)?;
    let mut environment = Environment::of_app(
        app.name(),
        &app.app.environment,
        inputs.options.metadata_url().as_deref(),
    );
    if let (Stream::Terminal, Some(term), None) =
        (streams.stdin, inputs.term, environment.get("TERM"))
    {
        environment.set("TERM", term);
    }
    let spec = AppSpec {
        uid: app.identity.uid,
        gid: app.identity.gid,
        groups: app.identity.groups.clone(),
        working_directory: app
            .app
            .working_directory
            .clone()
            .unwrap_or_else(|| "/".into()),
        read_only_root: app.runtime.read_only_root_fs,
        protect_paths: !inputs.options.disable_paths,
        mounts,
    };
    let terminal = streams.stdin == Stream::Terminal;
    let unit = unit(inputs, app, &streams);
    if let Some(key) = unit.too_long() {
        bail!(
            "{key}= of its unit would be longer than the {LINE_MAX} bytes that systemd reads: shorten app.exec"
        );
    }
    let mut spec_json = serde_json::to_string_pretty(&spec)?;
    spec_json.push('\n');
    let steps = vec![
        Step::private_file(root.env(app.name()), environment.to_file()),
        Step::file(root.spec(app.name()), spec_json),
        Step::file(root.units().join(unit.name()), unit.to_string()),
        wanted_by_default(root, unit.name()),
    ];
    Ok(AppPlan {
        steps,
        warnings: not_enforced(app),
        terminal,
    })
}

/// The unit of an app. What it leaves to `prepare-app`, and why, stands in that program.
fn unit(inputs: &Inputs<'_>, app: &PodApp, streams: &Streams) -> Unit {
    let name = app.name();
    let immutable = !inputs.options.mutable;
    let keeps_pod = immutable.then_some(POD_UNIT);
    let groups = app
        .identity
        .groups
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    let terminal = streams.stdin == Stream::Terminal;
    Unit::new(app_unit(name))
        .section("Unit")
        .set(
            "Description",
            escape::text(&format!("App {name} of image {}", app.image.name)),
        )
        .set("DefaultDependencies", "no")
        .set_some("Requires", keeps_pod)
        .set_some("After", keeps_pod)
        .set("Conflicts", "shutdown.target")
        .set("Before", "shutdown.target")
        .set_some("FailureAction", immutable.then_some("exit"))
        .section("Service")
        .set("Type", "exec")
        .set(
            "ExecStart",
            format!(":!/prepare-app {name} -- {}", escape::words(&app.app.exec)),
        )
        .set("ExecStopPost", format!("+/reaper {name}"))
        .set("User", app.identity.uid.to_string())
        .set("Group", app.identity.gid.to_string())
        .set_some(
            "SupplementaryGroups",
            Some(groups).filter(|g| !g.is_empty()),
        )
        .set("KillMode", "mixed")
        .set("StandardInput", if terminal { "tty" } else { "null" })
        .set("StandardOutput", output(streams.stdout))
        .set("StandardError", output(streams.stderr))
        .set_some("TTYPath", terminal.then_some("/dev/console"))
        .set("SyslogIdentifier", name)
        .set(
            "LogExtraFields",
            format!("STAGE1_POD_UUID={} STAGE1_APP={name}", inputs.uuid),
        )
}

fn output(stream: Stream) -> &'static str {
    match stream {
        Stream::Null => "null",
        Stream::Log => "journal+console",
        Stream::Terminal => "tty",
    }
}

/// The streams as the run options and the app's annotations ask.
fn streams(inputs: &Inputs<'_>, app: &PodApp) -> Result<Streams> {
    let stream = |name: &str, default| match app.annotation(name) {
        _ if inputs.options.interactive => Ok(Stream::Terminal),
        None | Some("") => Ok(default),
        Some("null") => Ok(Stream::Null),
        Some("log") if name != annotation::STDIN => Ok(Stream::Log),
        Some("interactive") => Ok(Stream::Terminal),
        Some(mode @ ("stream" | "tty")) => {
            bail!("annotation {name}: mode {mode} is not supported yet")
        }
        Some(mode) => bail!("annotation {name}: unknown mode {mode:?}"),
    };
    let streams = Streams {
        stdin: stream(annotation::STDIN, Stream::Null)?,
        stdout: stream(annotation::STDOUT, Stream::Log)?,
        stderr: stream(annotation::STDERR, Stream::Log)?,
    };
    let all = [streams.stdin, streams.stdout, streams.stderr];
    if !all.contains(&Stream::Terminal) {
        return Ok(streams);
    }
    let apps = inputs.pod.apps.len();
    if apps != 1 {
        bail!("interactive: works only in a pod of one app, this one has {apps}");
    }
    if inputs.term.is_none() {
        bail!("interactive: standard input and output must be a terminal");
    }
    if !all.iter().all(|stream| *stream == Stream::Terminal) {
        bail!(
            "annotation {}: mode interactive needs all three streams",
            annotation::STDIN
        );
    }
    Ok(streams)
}

/// What the app asks for and does not get.
fn not_enforced(app: &PodApp) -> Vec<String> {
    let name = app.name();
    let isolators = app
        .app
        .isolators
        .iter()
        .map(|i| format!("app {name}: isolator {} is not enforced yet", i.name));
    let handlers = app
        .app
        .event_handlers
        .iter()
        .map(|h| format!("app {name}: event handler {} is not run yet", h.name));
    let ports = app.app.ports.iter().filter(|p| p.socket_activated);
    let ports = ports.map(|p| format!("app {name}: port {} is not socket-activated yet", p.name));
    isolators.chain(handlers).chain(ports).collect()
}
