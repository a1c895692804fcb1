//! Asks the pod's systemd, by D-Bus on its private socket. It answers only processes of the pod.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustbus::connection::Timeout;
use rustbus::connection::ll_conn::DuplexConn;
use rustbus::message_builder::MessageType;
use rustbus::wire::ObjectPath;
use rustbus::wire::unmarshal::traits::Variant;
use rustbus::{MessageBuilder, RpcConn};
use rustbus_nix::sys::socket::UnixAddr;

/// The socket of systemd as PID 1 for its own programs (no bus: there is no Hello).
const SOCKET: &str = "/run/systemd/private";

/// How long an answer may take.
const ANSWER_TIME: Timeout = Timeout::Duration(Duration::from_secs(10));

/// Whether a job is under way that was asked for the unit: a unit that ends by itself has none.
pub(crate) fn has_job(unit: &str) -> Result<bool> {
    has_job_at(Path::new(SOCKET), unit)
        .with_context(|| format!("ask systemd at {SOCKET} for the job of {unit}"))
}

fn has_job_at(socket: &Path, unit: &str) -> Result<bool> {
    let address = UnixAddr::new(socket).map_err(|err| anyhow!("{err}"))?;
    // With descriptors, although none are passed: systemd 252 reads no message of a client that begins without asking
    // for them.
    let mut connection = RpcConn::new(DuplexConn::connect_to_bus(address, true)?);
    let mut call = MessageBuilder::new()
        .call("Get")
        .with_interface("org.freedesktop.DBus.Properties")
        .on(object_path(unit))
        .at("org.freedesktop.systemd1")
        .build();
    call.body
        .push_param2("org.freedesktop.systemd1.Unit", "Job")
        .map_err(|err| anyhow!("{err:?}"))?;
    let serial = connection
        .send_message(&mut call)?
        .write_all()
        .map_err(|(_, err)| err)?;
    let answer = connection.wait_response(serial, ANSWER_TIME)?;
    if answer.typ == MessageType::Error {
        let name = answer.dynheader.error_name.unwrap_or_default();
        return Err(anyhow!("{name}"));
    }
    // org.freedesktop.systemd1(5): the number of the job, 0 when there is none, and its path.
    let variant = answer.body.parser().get::<Variant<'_, '_>>();
    let variant = variant.map_err(|err| anyhow!("read the answer: {err:?}"))?;
    let (number, _) = variant
        .get::<(u32, ObjectPath<&str>)>()
        .map_err(|err| anyhow!("read the answer: {err:?}"))?;
    Ok(number != 0)
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
        assert!(has_job_at(Path::new("/nonexistent/socket"), "a.service").is_err());
    }
}
