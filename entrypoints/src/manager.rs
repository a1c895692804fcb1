//! Asks the pod's systemd, by D-Bus on its private socket. It answers only processes of the pod.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustbus::connection::Timeout;
use rustbus::connection::ll_conn::DuplexConn;
use rustbus::message_builder::{MarshalledMessage, MessageType};
use rustbus::wire::ObjectPath;
use rustbus::wire::unmarshal::traits::Variant;
use rustbus::{MessageBuilder, RpcConn};
use rustbus_nix::sys::socket::UnixAddr;

/// The socket of systemd as PID 1 for its own programs (no bus: there is no Hello).
const SOCKET: &str = "/run/systemd/private";

/// How long an answer may take.
const ANSWER_TIME: Timeout = Timeout::Duration(Duration::from_secs(10));

/// Whether systemd was asked to stop the unit, by itself or with others: a unit that ends of its own accord has no job,
/// or the one that starts it still.
pub(crate) fn is_asked_to_stop(unit: &str) -> Result<bool> {
    stops(Path::new(SOCKET), unit)
        .with_context(|| format!("ask systemd at {SOCKET} for the job of {unit}"))
}

/// Whether the unit is starting because systemd starts it again by itself, rather than for somebody who asked.
pub(crate) fn is_restart(unit: &str) -> Result<bool> {
    restarts(Path::new(SOCKET), unit)
        .map(|count| count > 0)
        .with_context(|| format!("ask systemd at {SOCKET} for the restarts of {unit}"))
}

fn restarts(socket: &Path, unit: &str) -> Result<u32> {
    let mut connection = connect(socket)?;
    // org.freedesktop.systemd1(5): a start that is asked for sets the number to 0.
    let answer = property(&mut connection, &object_path(unit), "Service", "NRestarts")?;
    variant(&answer)?.get().map_err(unreadable)
}

fn connect(socket: &Path) -> Result<RpcConn> {
    let address = UnixAddr::new(socket)?;
    // With descriptors, although none are passed: systemd 252 reads no message of a client that begins without asking
    // for them.
    Ok(RpcConn::new(DuplexConn::connect_to_bus(address, true)?))
}

fn stops(socket: &Path, unit: &str) -> Result<bool> {
    let mut connection = connect(socket)?;
    // org.freedesktop.systemd1(5): the number of the job, 0 when there is none, and its path.
    let answer = property(&mut connection, &object_path(unit), "Unit", "Job")?;
    let (number, path) = variant(&answer)?
        .get::<(u32, ObjectPath<&str>)>()
        .map_err(unreadable)?;
    if number == 0 {
        return Ok(false);
    }
    // Gone meanwhile: a job that stops the unit is there until the caller, a program of the unit's end, is done.
    let Ok(answer) = property(&mut connection, path.as_ref(), "Job", "JobType") else {
        return Ok(false);
    };
    let kind = variant(&answer)?.get::<&str>().map_err(unreadable)?;
    Ok(matches!(kind, "stop" | "restart" | "try-restart"))
}

/// Reads a property of one of systemd's objects.
fn property(
    connection: &mut RpcConn,
    object: &str,
    interface: &str,
    name: &str,
) -> Result<MarshalledMessage> {
    let mut call = MessageBuilder::new()
        .call("Get")
        .with_interface("org.freedesktop.DBus.Properties")
        .on(object)
        .at("org.freedesktop.systemd1")
        .build();
    let interface = format!("org.freedesktop.systemd1.{interface}");
    call.body
        .push_param2(interface.as_str(), name)
        .map_err(|err| anyhow!("{err:?}"))?;
    let serial = connection
        .send_message(&mut call)?
        .write_all()
        .map_err(|(_, err)| err)?;
    let answer = connection.wait_response(serial, ANSWER_TIME)?;
    if answer.typ == MessageType::Error {
        bail!(
            "{object}: {}",
            answer.dynheader.error_name.unwrap_or_default()
        );
    }
    Ok(answer)
}

/// The value in the answer to a question for a property.
fn variant(answer: &MarshalledMessage) -> Result<Variant<'_, '_>> {
    answer.body.parser().get().map_err(unreadable)
}

fn unreadable(err: rustbus::wire::errors::UnmarshalError) -> anyhow::Error {
    anyhow!("read the answer: {err:?}")
}

/// The object of a unit (sd_bus_path_encode(3): every byte but letters and digits is written in hexadecimal).
fn object_path(unit: &str) -> String {
    let encoded = unit.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("_{byte:02x}"),
    });
    format!(
        "/org/freedesktop/systemd1/unit/{}",
        encoded.collect::<String>()
    )
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
        assert!(stops(Path::new("/nonexistent/socket"), "a.service").is_err());
    }
}
