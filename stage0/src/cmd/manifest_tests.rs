use std::path::Path;

use clap::Parser as _;

use super::super::options::PodOptions;
use super::*;

#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true)]
struct Pod {
    #[command(flatten)]
    options: PodOptions,
}

const WEB: &str = r#"{
    "acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/apps/web_server.v2",
    "labels": [{"name": "version", "value": "1.0"}],
    "app": {
        "exec": ["/bin/web", "--serve"], "user": "www", "group": "33", "workingDirectory": "/srv",
        "environment": [{"name": "A", "value": "image"}, {"name": "B", "value": "image"}],
        "mountPoints": [{"name": "data", "path": "/data"}],
        "isolators": [
            {"name": "os/linux/capabilities-remove-set", "value": {"set": ["CAP_KILL"]}},
            {"name": "resource/memory", "value": {"limit": "1G"}}
        ]
    }
}"#;
const BARE: &str = r#"{"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "bare"}"#;

fn pod(words: &[&str]) -> PodOptions {
    Pod::try_parse_from(words).unwrap().options
}

fn app(manifest: &str, options: &[&str], args: &[&str]) -> AppRequest {
    AppRequest {
        image: "sha512-0123".parse().unwrap(),
        manifest: ImageManifest::parse(manifest.as_bytes()).unwrap(),
        options: AppOptions::try_parse_from(options).unwrap(),
        args: args.iter().map(ToString::to_string).collect(),
    }
}

/// Compares with a file of testdata, which `UPDATE_GOLDEN=1` rewrites.
fn golden(pod: &PodOptions, apps: &[AppRequest], name: &str) {
    let manifest = pod_manifest(pod, apps).unwrap().to_json();
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/cmd/testdata")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &manifest).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert_eq!(String::from_utf8(manifest).unwrap(), expected);
}

#[test]
fn an_image_as_it_is() {
    golden(&pod(&[]), &[app(WEB, &[], &[])], "plain.json");
}

#[test]
fn every_option() {
    let pod = pod(&[
        "--volume=data,kind=host,source=/var/data,readOnly=true",
        "--volume=tmp,kind=empty,mode=1777",
        "--mount=volume=data,target=/pod-wide",
        "--mount=volume=data,target=/other",
        "--set-env=A=pod",
        "--set-env=C=pod",
    ]);
    let web = app(
        WEB,
        &[
            "--name=front",
            "--exec=/bin/other",
            "--user=0",
            "--group=/etc/passwd",
            "--supplementary-gids=7,8",
            "--working-dir=/tmp",
            "--environment=C=app",
            "--environment=D=a=b",
            "--mount=volume=tmp,target=/other",
            "--readonly-rootfs",
            "--caps-retain=CAP_CHOWN,CAP_KILL",
            "--stdin=stream",
            "--stdout=null",
            "--annotation=example.com/note=1",
            "--annotation=coreos.com/rkt/stage2/stdin=null",
            "--user-annotation=Any Name=x",
            "--label=tier=front",
        ],
        &["--flag", "$HOME", ""],
    );
    let bare = app(BARE, &["--exec=/init", "--readonly-rootfs=false"], &["x"]);
    golden(&pod, &[web, bare], "options.json");
}

#[test]
fn refuses() {
    let error = |pod_words: &[&str], apps: &[AppRequest]| {
        pod_manifest(&pod(pod_words), apps).unwrap_err().to_string()
    };
    assert_eq!(
        error(&[], &[app(BARE, &[], &["x"])]),
        "image bare: does not say what to run, and there is no --exec"
    );
    assert_eq!(
        error(&[], &[app(WEB, &[], &[]), app(WEB, &[], &[])]),
        "two apps are called web-server-v2: give one another --name"
    );
    assert_eq!(
        error(&[], &[app(WEB, &["--mount=volume=v,target=/p"], &[])]),
        "app web-server-v2: mount of volume v: there is no such volume"
    );
    assert_eq!(
        error(
            &["--mount=volume=v,target=/p"],
            &[app(WEB, &["--name=w"], &[])]
        ),
        "app w: mount of volume v: there is no such volume"
    );
}

#[test]
fn capabilities_are_retained_or_removed() {
    let both = ["--caps-retain=CAP_CHOWN", "--caps-remove=CAP_KILL"];
    let error = AppOptions::try_parse_from(both).unwrap_err();
    assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
}

#[test]
fn limits_take_the_place_of_the_images() {
    let options = [
        "--memory=64M",
        "--cpu=500m",
        "--cpu-shares=512",
        "--oom-score-adj=-5",
        "--seccomp=mode=remove,reboot",
    ];
    let manifest = pod_manifest(&pod(&[]), &[app(WEB, &options, &[])]).unwrap();
    let isolators = &manifest.apps[0].app.as_ref().unwrap().isolators;
    let written: Vec<_> = isolators
        .iter()
        .map(|i| format!("{} {}", i.name, i.value))
        .collect();
    assert_eq!(
        written,
        [
            r#"os/linux/capabilities-remove-set {"set":["CAP_KILL"]}"#,
            r#"os/linux/seccomp-remove-set {"set":["reboot"]}"#,
            r#"resource/memory {"limit":"64M"}"#,
            r#"resource/cpu {"limit":"500m"}"#,
            "os/linux/cpu-shares 512",
            "os/linux/oom-score-adj -5",
        ]
    );
}

#[test]
fn a_given_manifest_excludes_options_for_one_of_ours() {
    for option in [
        "--volume=t,kind=empty",
        "--mount=volume=t,target=/t",
        "--set-env=A=b",
    ] {
        let error = Pod::try_parse_from(["--pod-manifest=f", option]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }
}
