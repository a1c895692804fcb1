//! Real pods through `build/stage0`, as a user types it: looked at from inside by the probe, and from outside.

mod app_add;
mod app_killed;
mod app_life;
mod app_together;
mod archives;
mod arguments;
mod attach;
mod attach_load;
mod attach_terminal;
mod bad_annotations;
mod bad_input;
mod bad_isolators;
mod capabilities;
mod cgroups;
mod churn;
mod collecting;
mod commands;
mod common;
mod console;
mod credentials;
mod data_directory;
mod death;
mod devices;
mod dns;
mod ending;
mod enter;
mod enter_likeness;
mod enter_stopped;
mod enter_terminal;
mod environment;
mod exit;
mod filesystem;
mod health;
mod hooks;
mod hostile;
mod identity;
mod images;
mod isolators;
mod kernel;
mod logs;
mod logs_command;
mod logs_follow;
mod logs_kubernetes;
mod lsm;
mod missing;
mod mounts;
mod network_failures;
mod network_places;
mod network_plugins;
mod networks;
mod passed;
mod paths;
mod policies;
mod ports;
mod ports_added;
mod privileges;
mod readiness;
mod recorder;
mod refusals;
mod resources;
mod restarts;
mod seccomp;
mod sockets;
mod states;
mod store;
mod streams_reopened;
mod talk;
mod users;
mod users_apps;
mod users_roots;
mod volumes;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cases = [
        app_add::cases(),
        app_killed::cases(),
        app_life::cases(),
        app_together::cases(),
        archives::cases(),
        arguments::cases(),
        attach::cases(),
        attach_load::cases(),
        attach_terminal::cases(),
        bad_annotations::cases(),
        bad_input::cases(),
        bad_isolators::cases(),
        capabilities::cases(),
        cgroups::cases(),
        churn::cases(),
        collecting::cases(),
        commands::cases(),
        console::cases(),
        credentials::cases(),
        data_directory::cases(),
        death::cases(),
        devices::cases(),
        dns::cases(),
        ending::cases(),
        enter::cases(),
        enter_likeness::cases(),
        enter_stopped::cases(),
        enter_terminal::cases(),
        environment::cases(),
        exit::cases(),
        filesystem::cases(),
        health::cases(),
        hooks::cases(),
        hostile::cases(),
        identity::cases(),
        images::cases(),
        isolators::cases(),
        kernel::cases(),
        logs::cases(),
        logs_command::cases(),
        logs_follow::cases(),
        logs_kubernetes::cases(),
        lsm::cases(),
        missing::cases(),
        mounts::cases(),
        network_failures::cases(),
        network_places::cases(),
        network_plugins::cases(),
        networks::cases(),
        passed::cases(),
        paths::cases(),
        policies::cases(),
        ports::cases(),
        ports_added::cases(),
        privileges::cases(),
        readiness::cases(),
        refusals::cases(),
        resources::cases(),
        restarts::cases(),
        seccomp::cases(),
        sockets::cases(),
        states::cases(),
        store::cases(),
        streams_reopened::cases(),
        users::cases(),
        users_apps::cases(),
        users_roots::cases(),
        volumes::cases(),
    ];
    tests::harness::main(
        Path::new(env!("CARGO_BIN_EXE_probe")),
        &["stage0", "stage1.aci"],
        cases.into_iter().flatten().collect(),
    )
}
