//! The agent: runs the steps of a VM test inside the guest and reports each over a serial port.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::termios::{OptionalActions, isatty, tcdrain, tcgetattr, tcsetattr};

use super::protocol::{BEGIN, END, STEPS, Status, Step, Task, output_line, result_line};

/// Runs the steps that lie in the folder `payload` and reports to the file `port`. What goes there is shown on the
/// console too, where people look when something fails.
pub fn run(payload: &Path, port: &Path, console: impl Write + Send) -> Result<()> {
    let steps = payload.join(STEPS);
    let steps = fs::read(&steps).with_context(|| format!("read {}", steps.display()))?;
    let steps: Vec<Step> = serde_json::from_slice(&steps).context("parse the steps")?;
    let report = Report::open(port, console)?;
    report.line(&format!("{BEGIN}\n"))?;
    thread::scope(|scope| {
        let mut started = BTreeMap::new();
        for step in &steps {
            match step {
                Step::Run(task) => report.result(task, run_task(task, payload, &report))?,
                Step::Start(task) => {
                    let whole = || report.result(task, run_task(task, payload, &report));
                    started.insert(&task.name, scope.spawn(whole));
                }
                Step::Join(name) => join(started.remove(name).context("joined, not started")?)?,
            }
        }
        started.into_values().try_for_each(join)
    })?;
    report.line(&format!("{END}\n"))?;
    report.drain()
}

fn join(task: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    let result = task.join();
    result.map_err(|_| anyhow::anyhow!("a step's thread panicked"))?
}

/// Where lines go, one at a time: steps run beside each other.
struct Report<C>(Mutex<(File, C)>);

impl<C: Write> Report<C> {
    fn open(port: &Path, console: C) -> Result<Self> {
        let file = File::options()
            .write(true)
            .open(port)
            .with_context(|| format!("open {}", port.display()))?;
        if isatty(&file) {
            let mut settings = tcgetattr(&file).context("read the port's settings")?;
            settings.make_raw();
            tcsetattr(&file, OptionalActions::Now, &settings).context("set the port raw")?;
        }
        Ok(Self(Mutex::new((file, console))))
    }

    fn result(&self, task: &Task, status: Result<Status>) -> Result<()> {
        let status = status.unwrap_or_else(|error| Status::Failed(format!("{error:#}")));
        self.line(&result_line(&task.name, &status))
    }

    fn line(&self, line: &str) -> Result<()> {
        let (port, console) = &mut *self.0.lock().expect("no step panics");
        // A console that can't be written to is no reason to fail.
        let _ = console.write_all(line.as_bytes());
        port.write_all(line.as_bytes()).context("report")
    }

    /// Waits until all has gone out: the machine is switched off next.
    fn drain(&self) -> Result<()> {
        let (port, _) = &*self.0.lock().expect("no step panics");
        if isatty(port) {
            tcdrain(port).context("drain the port")?;
        }
        Ok(())
    }
}

fn run_task(task: &Task, payload: &Path, report: &Report<impl Write>) -> Result<Status> {
    let (program, arguments) = task.argv.split_first().context("no command")?;
    let (output, input) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
    // In a process group of its own, which is killed as a whole.
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(payload)
        .stdin(Stdio::null())
        .stdout(input.try_clone().context("pipe")?)
        .stderr(input)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let ended = follow(&mut child, task, output.into(), report);
    if !matches!(ended, Ok(true)) {
        // It has not been waited for, so the number is still its own.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let status = child.wait().context("wait")?;
    Ok(if ended? {
        outcome(status)
    } else {
        Status::TimedOut
    })
}

fn outcome(status: ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Exited(code),
        (None, signal) => Status::Killed(signal.unwrap_or_default()),
    }
}

/// Passes on what a step writes until its process has ended; false if that takes too long. A process that it leaves
/// behind may hold the pipe: what is in there when the step ends is taken, and no end of it is waited for.
fn follow(
    child: &mut Child,
    task: &Task,
    mut output: File,
    report: &Report<impl Write>,
) -> Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).context("pidfd")?;
    let deadline = Instant::now() + task.limit;
    let mut lines = Lines::default();
    let mut open = true;
    let ended = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (readable, ended) = wait(open.then_some(&output), &pidfd, left)?;
        if readable {
            let mut buffer = [0; 4096];
            let count = output.read(&mut buffer).context("read the step's output")?;
            open = count > 0;
            lines.push(&buffer[..count], |line| {
                report.line(&output_line(&task.name, line))
            })?;
        } else if ended {
            break true;
        } else if left.is_zero() {
            break false;
        }
    };
    lines.finish(|line| report.line(&output_line(&task.name, line)))?;
    Ok(ended)
}

/// Waits for output, the process's end or the time: which of the first two there is.
fn wait(
    output: Option<&File>,
    pidfd: &impl AsFd,
    left: std::time::Duration,
) -> Result<(bool, bool)> {
    let left = Timespec::try_from(left).context("time left")?;
    let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
    fds.extend(output.map(|output| PollFd::new(output, PollFlags::IN)));
    match poll(&mut fds, Some(&left)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error).context("poll"),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    Ok((ready.get(1).copied().unwrap_or_default(), ready[0]))
}

/// Makes lines of bytes as they come.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        self.0.extend_from_slice(bytes);
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            each(String::from_utf8_lossy(&line).trim_end())?;
        }
        Ok(())
    }

    fn finish(self, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        each(String::from_utf8_lossy(&self.0).trim_end())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::vm::protocol::Reported;

    fn reported(argv: &[&str], limit: Duration) -> (Reported, String) {
        let steps = [Step::Run(Task {
            name: "step".into(),
            argv: argv.iter().map(|&word| word.into()).collect(),
            limit,
        })];
        run_steps(&steps)
    }

    fn run_steps(steps: &[Step]) -> (Reported, String) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(STEPS), serde_json::to_vec(&steps).unwrap()).unwrap();
        let port = dir.path().join("port");
        fs::write(&port, "").unwrap();
        run(dir.path(), &port, std::io::sink()).unwrap();
        let text = fs::read_to_string(port).unwrap();
        (Reported::parse(&text), text)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn reports_output_and_exit_status() {
        let (reported, text) = reported(&["sh", "-c", "echo one; printf two >&2; exit 7"], LONG);
        assert_eq!(
            text,
            "BEGIN\nOUTPUT name=step one\nOUTPUT name=step two\nRESULT name=step status=7\nEND\n"
        );
        assert_eq!(reported.statuses["step"], Status::Exited(7));
    }

    #[test]
    fn reports_a_signal() {
        let (reported, _) = reported(&["sh", "-c", "kill -9 $$"], LONG);
        assert_eq!(reported.statuses["step"], Status::Killed(9));
    }

    #[test]
    fn kills_what_takes_too_long() {
        let (reported, _) = reported(&["sleep", "600"], Duration::from_millis(200));
        assert_eq!(reported.statuses["step"], Status::TimedOut);
    }

    #[test]
    fn waits_for_no_process_that_a_step_left_behind() {
        let (reported, _) = reported(&["sh", "-c", "sleep 2 & echo done"], LONG);
        assert_eq!(reported.statuses["step"], Status::Exited(0));
        assert_eq!(reported.outputs["step"], "done\n");
    }

    #[test]
    fn says_what_could_not_be_run() {
        let (reported, _) = reported(&["/nonexistent"], LONG);
        let Status::Failed(why) = &reported.statuses["step"] else {
            panic!("{reported:?}");
        };
        assert!(why.starts_with("start /nonexistent: "), "{why}");
        assert!(reported.ended);
    }

    #[test]
    fn runs_steps_beside_each_other() {
        let task = |name: &str, script: &str| Task {
            name: name.into(),
            argv: ["sh", "-c", script].map(String::from).into(),
            limit: LONG,
        };
        let steps = [
            Step::Run(task("fifo", "mkfifo fifo")),
            Step::Start(task("reader", "read line <fifo; echo read $line; exit 3")),
            Step::Run(task("writer", "echo this >fifo")),
            Step::Join("reader".into()),
            Step::Run(task("last", "true")),
        ];
        let (reported, text) = run_steps(&steps);
        assert_eq!(reported.statuses["reader"], Status::Exited(3));
        assert_eq!(reported.outputs["reader"], "read this\n");
        let at = |line: &str| text.find(line).unwrap();
        assert!(at("RESULT name=reader") < at("RESULT name=last"), "{text}");
    }
}
