//! Any manifest that the types and rules allow is the same after writing and reading.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use common::appc::{
    AcName, Annotation, App, EnvironmentVariable, EventHandler, ExposedPort, ImageId,
    ImageManifest, Isolator, Label, Mount, MountPoint, PodManifest, Port, RuntimeApp, RuntimeImage,
    Volume, VolumeKind,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Fields that the types do not know.
fn extra() -> impl Strategy<Value = Map<String, Value>> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        vec(any::<bool>(), 0..3).prop_map(Value::from),
    ];
    btree_map("x-[a-zA-Z ]{0,4}", value, 0..3).prop_map(|fields| fields.into_iter().collect())
}

/// Text without a NUL.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', ""))
}

fn path() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("/{text}"))
}

/// `count` different names.
fn names(count: usize) -> impl Strategy<Value = Vec<AcName>> {
    vec("[a-z0-9]{1,5}(-[a-z0-9]{1,3}){0,2}", count).prop_map(|names| {
        let numbered = names.iter().enumerate();
        let names = numbered.map(|(index, name)| format!("{name}-{index}").parse());
        names.collect::<Result<_, _>>().unwrap()
    })
}

fn image_id() -> impl Strategy<Value = ImageId> {
    "sha512-[0-9a-f]{1,128}".prop_map(|id| id.parse().unwrap())
}

fn annotation() -> impl Strategy<Value = Annotation> {
    ("[a-z]{1,5}[.~_/-][a-z0-9]{1,5}", any::<String>(), extra()).prop_map(|(name, value, extra)| {
        Annotation {
            name: name.parse().unwrap(),
            value,
            extra,
        }
    })
}

fn label() -> impl Strategy<Value = Label> {
    annotation().prop_map(|annotation| Label {
        name: annotation.name,
        value: annotation.value,
        extra: annotation.extra,
    })
}

fn isolator() -> impl Strategy<Value = Isolator> {
    annotation().prop_map(|annotation| Isolator {
        name: annotation.name,
        value: Value::Object(annotation.extra.clone()),
        extra: annotation.extra,
    })
}

fn variable() -> impl Strategy<Value = EnvironmentVariable> {
    ("[A-Za-z_][A-Za-z0-9_.-]{0,9}", text(), extra())
        .prop_map(|(name, value, extra)| EnvironmentVariable { name, value, extra })
}

fn event_handler() -> impl Strategy<Value = EventHandler> {
    ("(pre-start|post-stop)", exec(), extra()).prop_map(|(name, exec, extra)| EventHandler {
        name,
        exec,
        extra,
    })
}

fn exec() -> impl Strategy<Value = Vec<String>> {
    (path(), vec(text(), 0..4)).prop_map(|(program, mut exec)| {
        exec.insert(0, program);
        exec
    })
}

fn port(name: AcName) -> impl Strategy<Value = Port> {
    let numbers = (1..=65_535_u16).prop_flat_map(|port| (Just(port), 1..=(65_535 - port).max(1)));
    ("(tcp|udp)", numbers, any::<bool>(), extra()).prop_map(
        move |(protocol, (port, count), socket_activated, extra)| Port {
            name: name.clone(),
            protocol,
            port,
            count,
            socket_activated,
            extra,
        },
    )
}

fn app() -> impl Strategy<Value = App> {
    let identity = (
        "[a-z0-9/]{1,9}",
        "[a-z0-9/]{1,9}",
        vec(0..u32::MAX, 0..3),
        option::of(path()),
    );
    let mount_point = (names(1), path(), any::<bool>(), extra());
    let mount_point = mount_point.prop_map(|(mut names, path, read_only, extra)| MountPoint {
        name: names.remove(0),
        path,
        read_only,
        extra,
    });
    let port = names(1).prop_flat_map(|mut names| port(names.remove(0)));
    let user = btree_map(any::<String>(), any::<String>(), 0..3);
    let lists = (
        option::of(event_handler()),
        option::of(variable()),
        option::of(mount_point),
        option::of(port),
        vec(isolator(), 0..3),
    );
    (exec(), identity, lists, user, extra()).prop_map(|(exec, identity, lists, user, extra)| App {
        exec,
        event_handlers: Vec::from_iter(lists.0),
        user: identity.0,
        group: identity.1,
        supplementary_gids: identity.2,
        working_directory: identity.3,
        environment: Vec::from_iter(lists.1),
        mount_points: Vec::from_iter(lists.2),
        ports: Vec::from_iter(lists.3),
        isolators: lists.4,
        user_annotations: user.clone(),
        user_labels: user,
        extra,
    })
}

fn volume(name: AcName) -> impl Strategy<Value = Volume> {
    let flags = option::of(any::<bool>());
    let owner = option::of(0..u32::MAX);
    let mode = option::of("0?[0-7]{3}");
    let values = (
        option::of(path()),
        flags.clone(),
        flags,
        mode,
        owner.clone(),
        owner,
        extra(),
    );
    values.prop_map(
        move |(source, read_only, recursive, mode, uid, gid, extra)| {
            let is_host = source.is_some();
            Volume {
                name: name.clone(),
                kind: if is_host {
                    VolumeKind::Host
                } else {
                    VolumeKind::Empty
                },
                source,
                read_only,
                recursive,
                idmap: read_only.filter(|_| is_host && recursive != Some(true)),
                mode: mode.filter(|_| !is_host),
                uid: uid.filter(|_| !is_host),
                gid: gid.filter(|_| !is_host),
                extra,
            }
        },
    )
}

fn runtime_app(name: AcName) -> impl Strategy<Value = RuntimeApp> {
    let image = (option::of(label()), image_id(), extra());
    let mount = (names(1), path(), extra()).prop_flat_map(|(mut names, path, extra)| {
        let name = names.remove(0);
        volume(name.clone()).prop_map(move |volume| Mount {
            volume: name.clone(),
            path: path.clone(),
            app_volume: Some(volume),
            extra: extra.clone(),
        })
    });
    let lists = (option::of(mount), option::of(annotation()));
    (image, option::of(app()), any::<bool>(), lists, extra()).prop_map(
        move |((label, id, image_extra), app, read_only_root_fs, (mount, annotation), extra)| {
            RuntimeApp {
                name: name.clone(),
                image: RuntimeImage {
                    name: label.as_ref().map(|label| label.name.clone()),
                    id,
                    labels: Vec::from_iter(label),
                    extra: image_extra,
                },
                app,
                read_only_root_fs,
                mounts: Vec::from_iter(mount),
                annotations: Vec::from_iter(annotation),
                extra,
            }
        },
    )
}

fn exposed_port() -> impl Strategy<Value = ExposedPort> {
    let port = names(1).prop_flat_map(|mut names| port(names.remove(0)));
    (port, option::of(any::<std::net::IpAddr>()), extra()).prop_map(|(port, host_ip, extra)| {
        ExposedPort {
            name: port.name.clone(),
            host_port: port.port,
            host_ip,
            app: None,
            pod_port: Some(port),
            extra,
        }
    })
}

fn pod() -> impl Strategy<Value = PodManifest> {
    let apps = (0..3_usize)
        .prop_flat_map(names)
        .prop_flat_map(|names| names.into_iter().map(runtime_app).collect::<Vec<_>>());
    let volumes = (0..3_usize)
        .prop_flat_map(names)
        .prop_flat_map(|names| names.into_iter().map(volume).collect::<Vec<_>>());
    let lists = (
        vec(isolator(), 0..2),
        vec(exposed_port(), 0..2),
        option::of(annotation()),
    );
    (apps, volumes, lists, extra()).prop_map(|(apps, volumes, lists, extra)| PodManifest {
        apps,
        volumes,
        isolators: lists.0,
        ports: lists.1,
        annotations: Vec::from_iter(lists.2),
        extra,
        ..PodManifest::default()
    })
}

fn image() -> impl Strategy<Value = ImageManifest> {
    let lists = (
        option::of(label()),
        vec(path(), 0..3),
        option::of(annotation()),
    );
    (label(), option::of(app()), lists, extra()).prop_map(|(named, app, lists, extra)| {
        ImageManifest {
            labels: Vec::from_iter(lists.0),
            app,
            path_whitelist: lists.1,
            annotations: Vec::from_iter(lists.2),
            extra,
            ..ImageManifest::new(named.name)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pods_survive_writing(pod in pod()) {
        prop_assert_eq!(PodManifest::parse(&pod.to_json()).unwrap(), pod);
    }

    #[test]
    fn images_survive_writing(image in image()) {
        prop_assert_eq!(ImageManifest::parse(&image.to_json()).unwrap(), image);
    }

    #[test]
    fn names_are_read_as_the_specification_says(text in "[a-zA-Z0-9./_~\n-]{0,6}") {
        let words: Vec<_> = text.split('-').collect();
        let is_word = |word: &&str| !word.is_empty()
            && word.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9'));
        prop_assert_eq!(text.parse::<AcName>().is_ok(), words.iter().all(is_word));
    }

    #[test]
    fn bytes_are_never_beyond_the_reader(bytes in vec(any::<u8>(), 0..64)) {
        let _ = PodManifest::parse(&bytes);
        let _ = ImageManifest::parse(&bytes);
    }
}
