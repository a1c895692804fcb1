//! Plans the pods of `golden/plan`, writes the plans, and compares all that comes out; see its README.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod case;
mod golden;
#[path = "../systemd/mod.rs"]
mod systemd;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use case::Case;
use common::apply::apply;
use common::plan::{PodPlan, Step};
use golden::Files;

/// What comes out of a case: the plan as `--debug` prints it, the warnings, the tree; or the error.
fn outcome(case: &Case) -> Files {
    match case.plan() {
        Ok(plan) => written(case, &plan),
        Err(error) => Files::from([("error".to_owned(), format!("{error:#}\n").into_bytes())]),
    }
}

fn written(case: &Case, plan: &PodPlan) -> Files {
    let mut files = Files::from([("debug".to_owned(), plan.to_string().into_bytes())]);
    if !plan.warnings.is_empty() {
        let warnings = plan.warnings.join("\n") + "\n";
        files.insert("warnings".to_owned(), warnings.into_bytes());
    }
    let before = tree::read(&case.pod_dir());
    let applied = apply(&plan.steps).unwrap();
    let after = tree::read(&case.pod_dir());
    files.insert(
        "modes".to_owned(),
        tree::changes(&before, &after).into_bytes(),
    );
    files.extend(tree::new_content(&before, &after, "tree"));
    drop(applied);
    assert_eq!(
        tree::read(&case.pod_dir()),
        before,
        "{}: not put back",
        case.name
    );
    files
}

#[test]
fn plans_are_as_expected() {
    // As init sets it: modes are the plan's alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut wrong = Vec::new();
    for path in golden::cases() {
        let Some(case) = Case::lay_out(&path) else {
            continue;
        };
        let mut found = outcome(&case);
        for content in found.values_mut() {
            *content = case.without_dir(content);
        }
        if golden::updating() {
            golden::write(&path.join("expected"), &found);
        }
        wrong.extend(golden::differences(&path.join("expected"), &found));
    }
    assert!(
        wrong.is_empty(),
        "\n{}\nUPDATE_GOLDEN=1 takes what was found as expected",
        wrong.join("\n")
    );
}

/// Every unit that is planned loads without a word from systemd, among the units of the image, and runs what the
/// manifest says.
#[test]
fn units_are_read_by_systemd() {
    if systemd::missing_systemd() {
        return;
    }
    let of_image = units_of_image();
    let mut seen = BTreeSet::new();
    for case in golden::cases()
        .iter()
        .filter_map(|path| Case::lay_out(path))
    {
        let Ok(plan) = case.plan() else {
            continue;
        };
        let generated = units_of_plan(&plan);
        if !seen.insert(generated.clone()) {
            continue;
        }
        let names: Vec<_> = generated.keys().cloned().collect();
        let mut units = of_image.clone();
        units.extend(generated);
        let loaded = systemd::load(&units, &names);
        for app in case.load(None).unwrap().apps {
            let unit = common::unit::app_unit(app.name());
            let mut expected = vec![
                "/prepare-app".to_owned(),
                app.name().to_owned(),
                "--".to_owned(),
            ];
            expected.extend(app.app.exec.clone());
            assert_eq!(
                loaded.state(&unit),
                "loaded",
                "{}: {}",
                case.name,
                loaded.messages
            );
            // In the order of the start: what comes before the program is first.
            let handlers = app.app.event_handlers.iter();
            let before = handlers
                .filter(|handler| handler.name == "pre-start")
                .count()
                + usize::from(app.policy.restart != common::policy::Restart::No);
            assert_eq!(loaded.commands(&unit)[before], expected, "{}", case.name);
        }
        let about_units = |line: &&str| line.contains(".service") || line.contains("/units/");
        let complaints: Vec<_> = loaded.messages.lines().filter(about_units).collect();
        assert!(
            complaints.is_empty(),
            "{}: {}",
            case.name,
            complaints.join("\n")
        );
    }
}

fn units_of_plan(plan: &PodPlan) -> BTreeMap<String, String> {
    let files = plan.steps.iter().filter_map(|step| match step {
        Step::File { path, content, .. } => Some((path, content)),
        _ => None,
    });
    let units = files.filter(|(path, _)| path.extension().is_some_and(|e| e == "service"));
    units
        .map(|(path, content)| (file_name(path), String::from_utf8(content.clone()).unwrap()))
        .collect()
}

fn units_of_image() -> BTreeMap<String, String> {
    let dir = case::image_root().join("usr/lib/systemd/system");
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let units = files.filter(|path| path.is_file());
    units
        .map(|path| (file_name(&path), fs::read_to_string(path).unwrap()))
        .collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
