//! Properties of units, and scopes: units of processes that systemd has not started.

use anyhow::{Context, Result, anyhow, ensure};

use super::Manager;
use super::bus::{ObjectPath, object_path, unreadable};

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq, rustbus::Marshal, rustbus::Signature, rustbus::Unmarshal)]
pub(crate) enum Value {
    /// `b`
    Flag(bool),
    /// `i`
    Signed(i32),
    /// `u`
    Unsigned(u32),
    /// `t`
    Number(u64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `au`
    Numbers(Vec<u32>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Manager {
    /// A property of a unit, which systemd reads for that when it has not yet.
    pub(crate) fn get(&mut self, unit: &str, interface: &str, name: &str) -> Result<Value> {
        let context = || format!("ask systemd for {name} of {unit}");
        let answer = self
            .0
            .property(&object_path(unit), interface, name)
            .with_context(context)?;
        let value = answer.body.parser().get().map_err(unreadable);
        value.with_context(context)
    }

    /// Makes a scope with these properties, the processes in it among them (`PIDs`), and returns when they are there.
    pub(crate) fn start_scope(
        &mut self,
        scope: &str,
        properties: &[(&'static str, Value)],
    ) -> Result<()> {
        let context = || format!("have systemd make {scope}");
        let others: Vec<(String, Vec<(String, Value)>)> = Vec::new();
        let answer = self.0.call("StartTransientUnit", |body| {
            body.push_param4(scope, "fail", properties, others)
        });
        let answer = answer.with_context(context)?;
        let job = answer.body.parser().get::<ObjectPath<'_>>();
        let job = job.map_err(unreadable).with_context(context)?;
        let result = self.0.wait_for_job(job.as_ref()).with_context(context)?;
        ensure!(result == "done", anyhow!(result).context(context()));
        Ok(())
    }
}
