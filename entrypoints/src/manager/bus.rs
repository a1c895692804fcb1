//! D-Bus: on the private socket of the pod's systemd, which answers only processes of the pod, and on the host's bus.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustbus::connection::ll_conn::{DuplexConn, force_finish_on_error};
use rustbus::connection::{self, Timeout};
use rustbus::message_builder::{MarshalledMessage, MarshalledMessageBody, MessageType};
use rustbus::wire::errors::{MarshalError, UnmarshalError};
use rustbus::wire::unmarshal::traits::Variant;
use rustbus::{MessageBuilder, RpcConn};
use rustbus_nix::errno::Errno;
use rustbus_nix::sys::socket::UnixAddr;

/// How long an answer may take.
const ANSWER_TIME: Timeout = Timeout::Duration(Duration::from_secs(60));

/// What all of systemd's interfaces, and it itself on a bus, are called.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
/// The object of the manager.
pub(super) const MANAGER: &str = "/org/freedesktop/systemd1";

/// systemd 252 reads a first message only when it does not fit into the buffer that it reads the end of the
/// authentication into.
const FIRST_LENGTH: usize = 1024;

/// A connection.
pub(super) struct Bus(RpcConn);

/// Whose method is called.
pub(super) struct Callee<'a> {
    /// The name on the bus.
    pub(super) service: &'a str,
    /// The object.
    pub(super) object: &'a str,
    /// The interface that the method is of.
    pub(super) interface: &'a str,
}

/// An error that was answered.
#[derive(Debug)]
pub(super) struct Refused {
    /// Its D-Bus name, `org.freedesktop.systemd1.NoSuchUnit`.
    pub(super) name: String,
    text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text.is_empty() {
            &self.name
        } else {
            &self.text
        })
    }
}

impl std::error::Error for Refused {}

impl Bus {
    /// Connects to the socket of systemd as PID 1 for its own programs (no bus: there is no Hello).
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let address = UnixAddr::new(socket)?;
        // With descriptors, although none are passed: systemd 252 reads no message of a client that begins without asking
        // for them.
        let mut connection = RpcConn::new(DuplexConn::connect_to_bus(address, true)?);
        // systemd sends everything that changes to everybody here.
        connection.set_filter(Box::new(|message| {
            message.typ != MessageType::Signal
                || message.dynheader.member.as_deref() == Some(JOB_REMOVED)
        }));
        let mut bus = Bus(connection);
        let unit = "x".repeat(FIRST_LENGTH);
        // The answer is that it is no name of a unit.
        match bus.call("GetUnit", |body| body.push_param(unit.as_str())) {
            Err(err) if !err.is::<Refused>() => Err(err),
            _ => Ok(bus),
        }
    }

    /// Connects to a bus with several services.
    pub(super) fn connect_to_many(socket: &Path) -> Result<Self> {
        let mut connection = RpcConn::connect_to_path(UnixAddr::new(socket)?, ANSWER_TIME)?;
        connection.set_filter(Box::new(|message| message.typ != MessageType::Signal));
        Ok(Bus(connection))
    }

    /// Calls a method of the manager.
    pub(super) fn call(
        &mut self,
        method: &str,
        arguments: impl FnOnce(&mut MarshalledMessageBody) -> Result<(), MarshalError>,
    ) -> Result<MarshalledMessage> {
        let manager = Callee {
            service: SYSTEMD,
            object: MANAGER,
            interface: &format!("{SYSTEMD}.Manager"),
        };
        self.call_on(&manager, method, arguments)
    }

    /// Reads a property of one of systemd's objects.
    pub(super) fn property(
        &mut self,
        object: &str,
        interface: &str,
        name: &str,
    ) -> Result<MarshalledMessage> {
        let interface = format!("{SYSTEMD}.{interface}");
        let properties = Callee {
            service: SYSTEMD,
            object,
            interface: "org.freedesktop.DBus.Properties",
        };
        self.call_on(&properties, "Get", |body| {
            body.push_param2(interface.as_str(), name)
        })
    }

    /// Calls a method.
    pub(super) fn call_on(
        &mut self,
        callee: &Callee<'_>,
        method: &str,
        arguments: impl FnOnce(&mut MarshalledMessageBody) -> Result<(), MarshalError>,
    ) -> Result<MarshalledMessage> {
        let mut call = MessageBuilder::new()
            .call(method)
            .with_interface(callee.interface)
            .on(callee.object)
            .at(callee.service)
            .build();
        arguments(&mut call.body).map_err(|err| anyhow!("{err:?}"))?;
        let serial = self
            .0
            .send_message(&mut call)?
            .write_all()
            .map_err(force_finish_on_error)?;
        let answer = uninterrupted(|| self.0.wait_response(serial, ANSWER_TIME))?;
        if answer.typ == MessageType::Error {
            let text = answer.body.parser().get::<&str>().unwrap_or_default();
            return Err(Refused {
                text: text.to_owned(),
                name: answer.dynheader.error_name.unwrap_or_default(),
            }
            .into());
        }
        Ok(answer)
    }

    /// Waits until a job is done, and says how: `done`, `failed`, `canceled`, … (org.freedesktop.systemd1(5)).
    pub(super) fn wait_for_job(&mut self, job: &str) -> Result<String> {
        loop {
            let signal = uninterrupted(|| self.0.wait_signal(Timeout::Infinite));
            let signal = signal.context("wait for systemd")?;
            // Number and path of the job, the unit, the result.
            let removed = signal.body.parser().get4::<u32, ObjectPath, &str, &str>();
            let (_, path, _, result) = removed.map_err(unreadable)?;
            if path.as_ref() == job {
                return Ok(result.to_owned());
            }
        }
    }
}

/// Waits again when a wait was interrupted: after a stop of this process the kernel resumes none that has an end
/// (signal(7)).
fn uninterrupted<T>(
    mut wait: impl FnMut() -> Result<T, connection::Error>,
) -> Result<T, connection::Error> {
    loop {
        match wait() {
            Err(connection::Error::NixError(Errno::EINTR)) => {}
            ended => return ended,
        }
    }
}

/// The path of an object in a message.
pub(super) type ObjectPath<'a> = rustbus::wire::ObjectPath<&'a str>;

/// The signal that a job is done.
const JOB_REMOVED: &str = "JobRemoved";

/// The value in the answer to a question for a property.
pub(super) fn variant(answer: &MarshalledMessage) -> Result<Variant<'_, '_>> {
    answer.body.parser().get().map_err(unreadable)
}

pub(super) fn unreadable(err: UnmarshalError) -> anyhow::Error {
    anyhow!("read the answer: {err:?}")
}

/// The object of a unit (sd_bus_path_encode(3): every byte but letters and digits is written in hexadecimal).
pub(super) fn object_path(unit: &str) -> String {
    let encoded = unit.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("_{byte:02x}"),
    });
    format!("{MANAGER}/unit/{}", encoded.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_object_paths() {
        assert_eq!(
            object_path("app-a1.service"),
            "/org/freedesktop/systemd1/unit/app_2da1_2eservice"
        );
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error() {
        assert!(Bus::connect(Path::new("/nonexistent/socket")).is_err());
    }
}
