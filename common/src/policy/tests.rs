use std::time::Duration;

use serde_json::json;

use super::*;

fn annotations(values: &[(&str, &str)]) -> Vec<Annotation> {
    let values = values
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }));
    serde_json::from_value(values.collect()).unwrap()
}

fn app(values: &[(&str, &str)]) -> AppPolicy {
    AppPolicy::read(&annotations(values), &[]).unwrap()
}

fn error(values: &[(&str, &str)]) -> String {
    let read = AppPolicy::read(&annotations(values), &[]);
    format!("{:#}", read.unwrap_err())
}

#[test]
fn defaults() {
    let policy = app(&[]);
    assert_eq!(policy.restart, Restart::No);
    assert_eq!(policy.restart_delay, Duration::from_millis(100));
    assert_eq!(policy.stop_signal.name(), "SIGTERM");
    assert_eq!(policy.stop_timeout, Duration::from_secs(10));
    assert_eq!(policy.start_timeout, Some(Duration::from_secs(90)));
    assert!(policy.credentials.is_empty());
    assert_eq!(policy.health, None);
    assert_eq!(ExitPolicy::of_pod(&[]).unwrap(), None);
}

#[test]
fn the_app_wins_over_its_image_key_by_key() {
    let image = annotations(&[
        ("stage1/restart", "always"),
        ("stage1/stop-timeout", "1min"),
        ("appc.io/docker/stopsignal", "SIGQUIT"),
    ]);
    let policy =
        AppPolicy::read(&annotations(&[("stage1/restart", "on-failure")]), &image).unwrap();
    assert_eq!(policy.restart, Restart::OnFailure);
    assert_eq!(policy.stop_timeout, Duration::from_secs(60));
    assert_eq!(policy.stop_signal.name(), "SIGQUIT");
    let own = annotations(&[("stage1/stop-signal", "USR1")]);
    let policy = AppPolicy::read(&own, &image).unwrap();
    assert_eq!(policy.stop_signal.name(), "SIGUSR1");
}

#[test]
fn every_key_is_read() {
    let policy = app(&[
        ("stage1/restart", "always"),
        ("stage1/restart-delay", "2"),
        ("stage1/start-timeout", "infinity"),
        ("stage1/credential/key", "/etc/key"),
        ("stage1/health-exec", "[\"/check\", \"a b\"]"),
        ("stage1/health-interval", "1s"),
        ("stage1/health-timeout", "2s"),
        ("stage1/health-retries", "4"),
        ("stage1/health-action", "restart"),
    ]);
    assert_eq!(policy.restart_delay, Duration::from_secs(2));
    assert_eq!(policy.start_timeout, None);
    assert_eq!(policy.credentials["key"].to_str(), Some("/etc/key"));
    let health = Health {
        exec: vec!["/check".into(), "a b".into()],
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(2),
        retries: 4,
        action: Action::Restart,
    };
    assert_eq!(policy.health, Some(health));
    let pod = annotations(&[("stage1/exit-policy", "until-all")]);
    assert_eq!(
        ExitPolicy::of_pod(&pod).unwrap(),
        Some(ExitPolicy::UntilAll)
    );
}

#[test]
fn errors_name_the_annotation() {
    let cases = [
        (
            "stage1/restart",
            "ever",
            "\"ever\" must be one of no, on-failure, always",
        ),
        ("stage1/restart-delay", "0", "\"0\" must be at least 10ms"),
        (
            "stage1/restart-delay",
            "soon",
            "\"soon\" must be a span of time, in seconds or with units (90, 1min 30s, 500ms)",
        ),
        (
            "stage1/stop-signal",
            "SIGFOO",
            "\"SIGFOO\" must be a signal (SIGTERM, SIGQUIT, SIGRTMIN+3, or a number)",
        ),
        (
            "appc.io/docker/stopsignal",
            "99",
            "\"99\" must be a signal (SIGTERM, SIGQUIT, SIGRTMIN+3, or a number)",
        ),
        ("stage1/stop-timeout", "0", "\"0\" must be at least 1ms"),
        (
            "stage1/stop-timeout",
            "infinity",
            "\"infinity\" must be a span of time, in seconds or with units (90, 1min 30s, 500ms)",
        ),
        (
            "stage1/start-timeout",
            "2y",
            "\"2y\" must be at most a year",
        ),
        (
            "stage1/credential/a/b",
            "/f",
            "\"a/b\" must be the name of a file, of at most 255 bytes",
        ),
        (
            "stage1/credential/a",
            "f",
            "\"f\" must be the absolute path of a file of the host",
        ),
        (
            "stage1/health-exec",
            "/check -q",
            "\"/check -q\" must be a JSON list of words, the program first ([\"/bin/check\",\"-q\"])",
        ),
        (
            "stage1/health-exec",
            "[]",
            "\"[]\" must be a JSON list of words, the program first ([\"/bin/check\",\"-q\"])",
        ),
        ("stage1/health-interval", "1s", "needs stage1/health-exec"),
        (
            "stage1/health-retries",
            "0",
            "\"0\" must be a number from 1",
        ),
        (
            "stage1/health-action",
            "kill",
            "\"kill\" must be one of none, restart",
        ),
    ];
    for (key, value, expected) in cases {
        assert_eq!(
            error(&[(key, value)]),
            format!("annotation {key}: {expected}")
        );
    }
    let pod = ExitPolicy::of_pod(&annotations(&[("stage1/exit-policy", "never")]));
    assert_eq!(
        format!("{:#}", pod.unwrap_err()),
        "annotation stage1/exit-policy: \"never\" must be one of on-any-failure, on-any, until-all"
    );
}

#[test]
fn credentials_are_files_of_bounded_size() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, size: usize| {
        let path = dir.path().join(name);
        std::fs::write(&path, vec![b'x'; size]).unwrap();
        (name.to_owned(), path)
    };
    let half = CREDENTIALS_MAX as usize / 2;
    let mut files = [file("a", half), file("b", half)].into();
    let credentials = Credentials::read(&files).unwrap();
    assert_eq!(credentials.0["b"].len(), half);
    assert!(
        !format!("{credentials:?}").contains("120"),
        "content is shown"
    );
    let error = |files: &_| format!("{:#}", Credentials::read(files).unwrap_err());
    files.extend([file("c", 1)]);
    assert!(
        error(&files)
            .ends_with("/c: the credentials of an app may have at most 1048576 bytes together")
    );
    let other = |name: &str| [("x".to_owned(), dir.path().join(name))].into();
    assert!(error(&other("none")).starts_with("annotation stage1/credential/x: "));
    assert!(error(&other("none")).contains("/none: No such file"));
    assert!(error(&other(".")).ends_with("must be a file"));
}
