//! Asks systemd, the pod's or the host's.

mod bus;
pub(crate) mod host;
mod scope;

use std::path::Path;

use anyhow::{Context, Result};
use bus::{Bus, ObjectPath, Refused, object_path, unreadable, variant};

pub(crate) use scope::Value;

/// The socket of systemd as PID 1 for its own programs.
const SOCKET: &str = "/run/systemd/private";

/// The mode of most jobs: it replaces what is queued against it.
const REPLACE: &str = "replace";

/// How often a unit that nothing needs is looked at until systemd has let go of it.
const UNLOAD_TRIES: u32 = 20;

/// The systemd of this process's namespaces: the pod's, or on the host its own's.
pub(crate) struct Manager(Bus);

/// How a service is stopped (org.freedesktop.systemd1(5)).
pub(crate) struct Stopping {
    /// Its main process; 0 when there is none.
    pub(crate) main_pid: u32,
    /// The signal that asks it to end.
    pub(crate) signal: i32,
}

/// What signals of [`Manager::kill`] go to (org.freedesktop.systemd1(5), `KillUnit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The main process.
    Main,
    /// The process of a command before or after it.
    Control,
}

impl Manager {
    /// Connects to it.
    pub(crate) fn connect() -> Result<Self> {
        let bus = Bus::connect(Path::new(SOCKET));
        bus.map(Manager)
            .with_context(|| format!("ask systemd at {SOCKET}"))
    }

    /// Whether systemd was asked to stop the unit, by itself or with others: a unit that ends of its own accord has no job,
    /// or the one that starts it still.
    pub(crate) fn is_asked_to_stop(&mut self, unit: &str) -> Result<bool> {
        Ok(self.stop(unit)?.is_some())
    }

    /// Whether systemd has begun to stop the unit, and sent it the signal. One that is only asked to stop still starts: its
    /// next command follows on the one that ends.
    pub(crate) fn is_being_stopped(&mut self, unit: &str) -> Result<bool> {
        Ok(self.stop(unit)?.is_some_and(|state| state == "running"))
    }

    /// The state of the job that stops the unit, if it has one.
    fn stop(&mut self, unit: &str) -> Result<Option<String>> {
        self.stop_job(unit)
            .with_context(|| format!("ask systemd for the job of {unit}"))
    }

    fn stop_job(&mut self, unit: &str) -> Result<Option<String>> {
        // org.freedesktop.systemd1(5): the number of the job, 0 when there is none, and its path.
        let answer = self.0.property(&object_path(unit), "Unit", "Job")?;
        let (number, path) = variant(&answer)?
            .get::<(u32, ObjectPath<'_>)>()
            .map_err(unreadable)?;
        if number == 0 {
            return Ok(None);
        }
        let [kind, state] = ["JobType", "State"].map(|name| {
            // Gone meanwhile: a job that stops the unit is there until the caller, a program of the unit's end, is done.
            let answer = self.0.property(path.as_ref(), "Job", name).ok();
            answer.map(|answer| {
                let text = variant(&answer)?.get::<&str>().map_err(unreadable)?;
                Ok::<_, anyhow::Error>(text.to_owned())
            })
        });
        let (Some(kind), Some(state)) = (kind.transpose()?, state.transpose()?) else {
            return Ok(None);
        };
        let stops = matches!(&*kind, "stop" | "restart" | "try-restart");
        Ok(stops.then_some(state))
    }

    /// Whether the unit is starting because systemd starts it again by itself, rather than for somebody who asked.
    pub(crate) fn is_restart(&mut self, unit: &str) -> Result<bool> {
        // org.freedesktop.systemd1(5): a start that is asked for sets the number to 0.
        Ok(self.number(unit, "NRestarts")? > 0)
    }

    /// Whether systemd has the unit in memory.
    pub(crate) fn is_loaded(&mut self, unit: &str) -> Result<bool> {
        match self.0.call("GetUnit", |body| body.push_param(unit)) {
            Ok(_) => Ok(true),
            Err(err) if is_unknown(&err) => Ok(false),
            Err(err) => Err(err).with_context(|| format!("ask systemd for {unit}")),
        }
    }

    /// Has systemd know the unit as its file is now.
    pub(crate) fn load(&mut self, unit: &str) -> Result<()> {
        let context = || format!("have systemd load {unit}");
        self.0
            .call("LoadUnit", |body| body.push_param(unit))
            .with_context(context)?;
        let path = object_path(unit);
        let answer = self.0.property(&path, "Unit", "NeedDaemonReload");
        let answer = answer.with_context(context)?;
        let old = variant(&answer)?.get::<bool>().map_err(unreadable)?;
        // A unit that was asked for before it had a file.
        if old || self.text(unit, "Unit", "LoadState")? == "not-found" {
            self.reload()?;
        }
        Ok(())
    }

    /// Has systemd read all units again.
    pub(crate) fn reload(&mut self) -> Result<()> {
        self.0
            .call("Reload", |_| Ok(()))
            .map(drop)
            .context("have systemd read its units again")
    }

    /// A property of a unit that is a text.
    pub(crate) fn text(&mut self, unit: &str, interface: &str, name: &str) -> Result<String> {
        let answer = self.0.property(&object_path(unit), interface, name);
        let answer = answer.with_context(|| format!("ask systemd for {name} of {unit}"))?;
        let text = variant(&answer)?.get::<&str>().map_err(unreadable)?;
        Ok(text.to_owned())
    }

    /// Whether a service has or had a main process since its start was asked for.
    pub(crate) fn had_main(&mut self, unit: &str) -> Result<bool> {
        Ok(self.number(unit, "ExecMainPID")? != 0)
    }

    /// How a service is stopped.
    pub(crate) fn stopping(&mut self, unit: &str) -> Result<Stopping> {
        let signal = self.0.property(&object_path(unit), "Service", "KillSignal");
        let signal = signal.with_context(|| format!("ask systemd how {unit} is stopped"))?;
        Ok(Stopping {
            main_pid: self.number(unit, "MainPID")?,
            signal: variant(&signal)?.get().map_err(unreadable)?,
        })
    }

    /// A property of a service that is a number.
    fn number(&mut self, unit: &str, name: &str) -> Result<u32> {
        let answer = self.0.property(&object_path(unit), "Service", name);
        let answer = answer.with_context(|| format!("ask systemd for {name} of {unit}"))?;
        variant(&answer)?.get::<u32>().map_err(unreadable)
    }

    /// Whether the unit runs, or is on the way there or from there.
    pub(crate) fn is_alive(&mut self, unit: &str) -> Result<bool> {
        if !self.is_loaded(unit)? {
            return Ok(false);
        }
        let state = self.text(unit, "Unit", "ActiveState")?;
        Ok(!matches!(state.as_str(), "inactive" | "failed"))
    }

    /// Starts the unit, and says how that went when it is over.
    pub(crate) fn start(&mut self, unit: &str) -> Result<String> {
        self.job("StartUnit", unit)
            .with_context(|| format!("have systemd start {unit}"))
    }

    /// Asks for the unit's stop, and gives what to wait for; `None` when it is not loaded.
    pub(crate) fn ask_to_stop(&mut self, unit: &str) -> Result<Option<Stop>> {
        match self.queue("StopUnit", unit, REPLACE) {
            Ok(job) => Ok(Some(Stop(job))),
            Err(err) if is_unknown(&err) => Ok(None),
            Err(err) => Err(err).with_context(|| format!("have systemd stop {unit}")),
        }
    }

    /// Stops a unit without a regard for others that it is ordered after: a socket is not stopped before its service
    /// otherwise. One that is not loaded is stopped.
    pub(crate) fn stop_at_once(&mut self, unit: &str) -> Result<()> {
        let stopped = match self.queue("StopUnit", unit, "ignore-dependencies") {
            Ok(job) => self.0.wait_for_job(&job).map(drop),
            Err(err) if is_unknown(&err) => Ok(()),
            Err(err) => Err(err),
        };
        stopped.with_context(|| format!("have systemd stop {unit}"))
    }

    /// Waits for the end of a stop.
    pub(crate) fn wait(&mut self, stop: &Stop) -> Result<String> {
        self.0.wait_for_job(&stop.0)
    }

    /// Kills a process of the unit. One that is gone already is no error.
    pub(crate) fn kill(&mut self, unit: &str, whom: Whom) -> Result<()> {
        let whom = match whom {
            Whom::Main => "main",
            Whom::Control => "control",
        };
        let signal = rustix::process::Signal::KILL.as_raw();
        let killed = self
            .0
            .call("KillUnit", |body| body.push_param3(unit, whom, signal));
        match killed {
            Err(err) if !err.is::<Refused>() => Err(err).with_context(|| format!("kill {unit}")),
            _ => Ok(()),
        }
    }

    /// Has systemd let go of units whose files are gone.
    pub(crate) fn unload(&mut self, units: &[String]) -> Result<()> {
        for unit in units {
            let reset = self
                .0
                .call("ResetFailedUnit", |body| body.push_param(unit.as_str()));
            match reset {
                Err(err) if !is_unknown(&err) => {
                    return Err(err).with_context(|| format!("have systemd forget {unit}"));
                }
                _ => {}
            }
        }
        // It lets go between two questions. What another unit still names it forgets with that.
        for attempt in 0..UNLOAD_TRIES {
            let mut loaded = false;
            for unit in units {
                loaded |= self.is_loaded(unit)?;
            }
            if !loaded {
                return Ok(());
            }
            if attempt == 1 {
                self.reload()?;
            }
        }
        anyhow::bail!("systemd does not let go of {}", units.join(", "))
    }

    fn job(&mut self, method: &str, unit: &str) -> Result<String> {
        let job = self.queue(method, unit, REPLACE)?;
        self.0.wait_for_job(&job)
    }

    fn queue(&mut self, method: &str, unit: &str, mode: &str) -> Result<String> {
        let answer = self.0.call(method, |body| body.push_param2(unit, mode))?;
        let job = answer.body.parser().get::<ObjectPath<'_>>();
        Ok(job.map_err(unreadable)?.as_ref().to_owned())
    }
}

/// A stop that systemd was asked for.
#[derive(Debug)]
pub(crate) struct Stop(String);

fn is_unknown(err: &anyhow::Error) -> bool {
    err.downcast_ref::<Refused>()
        .is_some_and(|refused| refused.name == "org.freedesktop.systemd1.NoSuchUnit")
}
